//! Callers that never stop asking, and what became of their requests.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::machine::Machine;

/// A caller waits so long for an answer; a node that starts again takes less.
const PATIENCE: Duration = Duration::from_secs(60);
/// A draining node keeps a connection that is quiet for 50 ms, for what is on its way to it: who asks on it later, or that
/// close to it, is not promised an answer.
const DRAIN_QUIET_US: u64 = 50_000 / 2;

/// What happened, but for the answers. Times are those of CLOCK_MONOTONIC, which systemd gives too, in µs.
pub enum Mishap {
    /// Nobody took the connection: why.
    Refused(String),
    /// The connection ended after the request had been sent completely, and before it was answered.
    Unanswered { connected_us: u64, sent_us: u64 },
    /// Not the balance was answered, but this.
    Otherwise(String),
}

/// When a node was told to end, and when it had ended.
pub struct Restart {
    pub began_us: u64,
    pub ended_us: u64,
}

impl Restart {
    /// The last one of florin.service.
    pub fn last(machine: &Machine) -> Restart {
        let at = |name| machine.property("florin.service", name).parse().unwrap();
        Restart {
            began_us: at("ActiveExitTimestampMonotonic"),
            ended_us: at("InactiveEnterTimestampMonotonic"),
        }
    }
}

impl Mishap {
    fn is_inexcusable(&self) -> bool {
        !matches!(self, Mishap::Unanswered { .. })
    }

    /// Whether a caller may say that florin has lost something, `restarts` being all that there were.
    pub fn is_loss(&self, restarts: &[Restart]) -> bool {
        let Mishap::Unanswered { connected_us, sent_us } = self else { return true };
        !restarts
            .iter()
            .any(|restart| *sent_us >= restart.began_us + DRAIN_QUIET_US && *connected_us <= restart.ended_us)
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mishap::Refused(why) => write!(f, "not connected: {why}"),
            Mishap::Unanswered { connected_us, sent_us } => {
                write!(f, "not answered: connected at {connected_us} us, sent at {sent_us} us")
            }
            Mishap::Otherwise(answer) => write!(f, "answered: {answer}"),
        }
    }
}

/// Where callers connect.
#[derive(Clone)]
pub enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Door {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Door::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }
}

/// Asks at all `doors` while `meanwhile` runs: from each by one caller that connects anew for each request, and by one that
/// keeps its connection. Gives what `meanwhile` gives, how many were answered, and every mishap.
pub fn while_calling<T>(
    machine: &Machine,
    doors: &[Door],
    meanwhile: impl FnOnce(&AtomicU64) -> T,
) -> (T, u64, Vec<Mishap>) {
    let (over, answered) = (Over::default(), AtomicU64::new(0));
    let (result, mishaps) = thread::scope(|scope| {
        let call = |door: &Door, requests: u32| {
            let (door, over, answered) = (door.clone(), &over, &answered);
            scope.spawn(move || {
                machine.enter_network();
                let mut mishaps = Vec::new();
                // What nobody can be excused for need not happen twice.
                while !over.is_set() && !mishaps.iter().any(Mishap::is_inexcusable) {
                    ask(&door, requests, answered, over).unwrap_or_else(|mishap| mishaps.extend(mishap));
                }
                // Said now: who waits for answers meanwhile would wait in vain, and not know why.
                mishaps
                    .iter()
                    .filter(|mishap| mishap.is_inexcusable())
                    .for_each(|mishap| eprintln!("{mishap}"));
                mishaps
            })
        };
        let callers: Vec<_> = doors.iter().flat_map(|door| [call(door, 1), call(door, u32::MAX)]).collect();
        let end = EndsCalling(&over);
        let result = meanwhile(&answered);
        drop(end);
        let mishaps = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        (result, mishaps)
    });
    (result, answered.into_inner(), mishaps)
}

/// Whether the callers are to stop.
#[derive(Default)]
struct Over(AtomicBool);

impl Over {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Stops the callers when it is dropped, by a panic too: the test would wait for them for ever.
struct EndsCalling<'a>(&'a Over);

impl Drop for EndsCalling<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Asks `requests` times on one connection; an end of it between two requests is no mishap.
fn ask(door: &Door, requests: u32, answered: &AtomicU64, over: &Over) -> Result<(), Option<Mishap>> {
    let mut stream = door.connect().map_err(|error| Some(Mishap::Refused(error.to_string())))?;
    let connected_us = now_us();
    for _ in 0..requests {
        if over.is_set() {
            break;
        }
        stream.write_all(b"GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\n\r\n").map_err(|_| None)?;
        let sent_us = now_us();
        let answer =
            read_answer(&mut stream).map_err(|_| Some(Mishap::Unanswered { connected_us, sent_us }))?;
        if !answer.starts_with("HTTP/1.1 200 ") || !answer.contains("\"user_id\"") {
            return Err(Some(Mishap::Otherwise(answer)));
        }
        answered.fetch_add(1, Ordering::Relaxed);
        // It was the last answer on this connection: a caller that heeds this loses nothing (RFC 9112, 9.6).
        if answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
            break;
        }
    }
    Ok(())
}

/// Reads up to the end that the answer's length says.
fn read_answer(stream: &mut dyn Stream) -> io::Result<String> {
    let mut answer = String::new();
    loop {
        let mut part = [0; 4_096];
        let length = stream.read(&mut part)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if length.is_none_or(|length| body.len() >= length) {
            return Ok(answer);
        }
    }
}

fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1_000
}
