//! A server that answers what it is told to: bytes as they are, or another server's answer with a defect in it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::shadow::{Answer, Caller};

/// What came.
pub struct Asked {
    pub method: String,
    pub target: String,
    /// The whole of it.
    pub head: String,
    pub body: String,
}

/// What to do about it.
pub enum Reaction {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These, and then the connection ends.
    Last(Vec<u8>),
    /// Nothing, until the caller gives up.
    Hang,
}

/// Serves until the test's process ends; each connection has a thread of its own.
pub fn serve(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let react = Arc::new(react);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let react = Arc::clone(&react);
            thread::spawn(move || connection(stream, &*react));
        }
    });
    address
}

fn connection(stream: TcpStream, react: &(dyn Fn(&Asked) -> Reaction + Send + Sync)) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read_request(&mut stream) {
        match react(&asked) {
            Reaction::Bytes(bytes) => {
                if stream.get_mut().write_all(&bytes).is_err() {
                    return;
                }
            }
            Reaction::Last(bytes) => {
                let _ = stream.get_mut().write_all(&bytes);
                return;
            }
            Reaction::Hang => {
                let _ = stream.read(&mut [0]);
                return;
            }
        }
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { method, target, head, body: String::from_utf8(body).ok()? })
}

/// A server that asks `upstream` and changes its answers.
pub fn between(
    upstream: SocketAddr,
    change: impl Fn(&Asked, &mut Answer) -> Option<Reaction> + Send + Sync + 'static,
) -> SocketAddr {
    serve(move |asked| {
        let mut caller = Caller::connect(upstream);
        let Ok(mut answer) = caller.ask(&asked.method, &asked.target, &asked.body) else {
            return Reaction::Last(Vec::new());
        };
        change(asked, &mut answer).unwrap_or_else(|| Reaction::Bytes(bytes(&answer)))
    })
}

/// An answer's bytes, with a length that fits.
pub fn bytes(answer: &Answer) -> Vec<u8> {
    let kept = answer
        .head
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("content-length:"));
    let headers: String = kept.map(|line| format!("{line}\r\n")).collect();
    let (status, length) = (answer.status, answer.body.len());
    format!("HTTP/1.1 {status} Planted\r\n{headers}Content-Length: {length}\r\n\r\n{}", answer.body)
        .into_bytes()
}
