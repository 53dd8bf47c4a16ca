//! Handshakes by TLS, on threads of the control plane: each takes a shard's core some 200 µs, in which it would answer thousands
//! of requests. What comes out of one is handed to a shard (`handover`), which reads and writes its connection from then on.
//!
//! The threads are niced: under a flood of handshakes those who are served already come first.

mod admission;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use self::admission::{Admission, Place};
use super::handover::{Door, Secured};
use super::scarcity::Scarcity;
use crate::clock::Clock;
use crate::limits::{ACCEPT_RETRY_US, ACCEPTED_AT_ONCE, HANDSHAKE, HANDSHAKE_THREADS};
use crate::threads::{Vital, give_way, spawn_vital, spawn_vital_task};
use crate::tls::session::{Caller, Shaken};
use crate::tls::tally::Outcome;
use crate::tls::{Identities, TlsTally};

/// Which shard gets a listener's connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// Each in its turn.
    All,
    /// This one.
    Shard(usize),
}

/// What handshakes need.
pub struct Desk {
    /// What is shown, and who is trusted.
    pub identities: Arc<Identities>,
    /// The ways to the shards, by shard.
    pub doors: Vec<Door>,
    /// What is counted.
    pub tally: Arc<TlsTally>,
    /// The node's.
    pub clock: Clock,
}

/// Starts the threads. Once `ended` says so they let nobody in any more, give up the handshakes under way, and end.
///
/// # Errors
/// Where the system gives no threads, or no copies of the listeners.
pub fn start(
    listeners: Vec<(OwnedFd, To)>,
    desk: Desk,
    ended: &watch::Receiver<bool>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let shared = Arc::new(Shared {
        admission: Admission::new(Arc::clone(&desk.tally)),
        desk,
        next_shard: AtomicUsize::new(0),
    });
    let start_one = |thread| {
        let copies = listeners.iter().map(|(socket, to)| {
            let listener = std::net::TcpListener::from(socket.try_clone()?);
            listener.set_nonblocking(true)?;
            Ok((listener, *to))
        });
        let copies = copies.collect::<io::Result<Vec<_>>>()?;
        let (shared, ended) = (Arc::clone(&shared), ended.clone());
        spawn_vital(Vital::Handshakes(thread), move || run(thread, copies, &shared, ended))
    };
    (0..HANDSHAKE_THREADS).map(start_one).collect()
}

struct Shared {
    desk: Desk,
    admission: Arc<Admission>,
    next_shard: AtomicUsize,
}

impl Shared {
    fn door(&self, to: To) -> &Door {
        let doors = &self.desk.doors;
        match to {
            To::Shard(shard) => &doors[shard],
            To::All => &doors[self.next_shard.fetch_add(1, Relaxed) % doors.len()],
        }
    }
}

/// A thread's life.
fn run(
    thread: usize,
    listeners: Vec<(std::net::TcpListener, To)>,
    shared: &Arc<Shared>,
    mut ended: watch::Receiver<bool>,
) {
    let vital = Vital::Handshakes(thread);
    vital.at_work();
    give_way();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread that has just been started can have a runtime");
    runtime.block_on(async {
        for (listener, to) in listeners {
            let listener = TcpListener::from_std(listener).expect("a listener that is not blocking");
            spawn_vital_task(vital, accept(vital, listener, to, Arc::clone(shared)));
        }
        // An error says that nobody is left who could say so.
        let _ = ended.wait_for(|ended| *ended).await;
    });
    // Dropped with the runtime: the listeners, and whoever has come only half of the way.
}

async fn accept(vital: Vital, listener: TcpListener, to: To, shared: Arc<Shared>) {
    let mut scarcity = Scarcity::default();
    let mut at_once = 0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Some(place) = shared.admission.admit(address.ip()) {
                    let shared = Arc::clone(&shared);
                    spawn_vital_task(vital, welcome(stream, address, place, to, shared));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                scarcity.refused(shared.desk.clock.monotonic_us(), &error);
                tokio::time::sleep(Duration::from_micros(ACCEPT_RETRY_US)).await;
            }
        }
        at_once += 1;
        if at_once % ACCEPTED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// One caller, from its first byte until a shard has it.
async fn welcome(stream: TcpStream, address: SocketAddr, mut place: Place, to: To, shared: Arc<Shared>) {
    let outcome = tokio::select! {
        outcome = timeout(HANDSHAKE, shake(stream, address.ip(), &shared)) => outcome.unwrap_or(Err(Failure::Overdue)),
        // It has been counted where it was displaced.
        _ = &mut place.displaced => return,
    };
    drop(place);
    match outcome {
        Ok((secured, how)) => {
            shared.desk.tally.add(how);
            shared.door(to).hand_over(secured);
        }
        Err(failure) => {
            shared.desk.tally.add(failure.outcome());
            tracing::debug!(%address, %failure, "no handshake");
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the caller has gone: {0}")]
    Left(#[from] io::Error),
    #[error("it took more than {HANDSHAKE:?}")]
    Overdue,
    #[error(transparent)]
    Refused(#[from] crate::tls::SessionError),
    #[error(transparent)]
    Names(#[from] crate::tls::names::NamesError),
}

impl Failure {
    fn outcome(&self) -> Outcome {
        match self {
            Failure::Left(_) => Outcome::Left,
            Failure::Overdue | Failure::Refused(crate::tls::SessionError::TooLong) => Outcome::Overdue,
            Failure::Refused(_) => Outcome::Failed,
            Failure::Names(_) => Outcome::Unnamed,
        }
    }
}

async fn shake(mut stream: TcpStream, from: IpAddr, shared: &Shared) -> Result<(Secured, Outcome), Failure> {
    let identity = shared.desk.identities.current();
    let mut caller = Caller::new(Arc::clone(&identity.callers))?;
    let mut came = [0; 4_096];
    let mut answer = Vec::new();
    let how = loop {
        let bytes = stream.read(&mut came).await?;
        if bytes == 0 {
            return Err(Failure::Left(io::ErrorKind::UnexpectedEof.into()));
        }
        answer.clear();
        let shaken = caller.shake(&came[..bytes], &mut answer);
        // What was wrong is told too.
        stream.write_all(&answer).await?;
        match shaken? {
            Shaken::No => {}
            Shaken::Full => break Outcome::Full,
            Shaken::Resumed => break Outcome::Resumed,
        }
    };
    let names = caller.names().transpose()?;
    let socket = stream.into_std()?;
    // io_uring waits by itself for such alone.
    socket.set_nonblocking(false)?;
    Ok((Secured { socket: socket.into(), session: Box::new(caller), from, names }, how))
}
