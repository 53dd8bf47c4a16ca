//! One HTTP request and its answer, blocking: what the commands need of the admin port and of the JSON endpoints.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use florin_client::Address;

/// How long a command waits for a server that has stopped answering; above what a commit behind a long import takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Headers of an answer.
const HEADERS_MAX: usize = 32;

/// What a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub body: String,
}

impl Answer {
    /// Whether the status says so.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A refusal's own words, or its whole body where it has none.
    pub fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = florin_input::json(self.body.as_bytes()).ok();
        let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
        detail.unwrap_or(self.body.trim()).to_owned()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there, or the connection broke.
    #[error("cannot reach florin at {address}: {source}; is `florin serve` running, and with this address?")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Something else listens there.
    #[error("what answers at {address} does not speak HTTP ({found}): give the address of a florin")]
    NotHttp {
        /// Where.
        address: Address,
        /// What is wrong with the answer.
        found: String,
    },
}

/// Sends one request over a connection of its own.
pub fn request(address: &Address, method: &str, path: &str, body: &str) -> Result<Answer, HttpError> {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let bytes = exchange(address, text.as_bytes())
        .map_err(|source| HttpError::Io { address: address.clone(), source })?;
    parse(&bytes).map_err(|found| HttpError::NotHttp { address: address.clone(), found })
}

fn exchange(address: &Address, request: &[u8]) -> io::Result<Vec<u8>> {
    match address {
        Address::Tcp { host, port } => {
            let stream = connect((host, *port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream, request)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            converse(stream, request)
        }
    }
}

/// Tries every address that the name has.
fn connect(address: (&str, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn converse(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    // A server that refuses a body may answer and close before it has read all of it: the answer still counts.
    let sent = stream.write_all(request);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(_) if !answer.is_empty() => {}
        Err(error) => return Err(sent.err().unwrap_or(error)),
    }
    Ok(answer)
}

fn parse(bytes: &[u8]) -> Result<Answer, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Err(format!("{} bytes, then its end", bytes.len())),
        Err(error) => return Err(error.to_string()),
    };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let body = &bytes[head..];
    if length.is_some_and(|length| length != body.len()) {
        return Err(format!("an answer that was cut after {} bytes", body.len()));
    }
    let body = String::from_utf8(body.to_vec()).map_err(|error| error.to_string())?;
    Ok(Answer { status: response.code.unwrap_or_default(), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_refused() {
        let whole = b"HTTP/1.1 409 Conflict\r\ncontent-length: 16\r\n\r\n{\"detail\":\"no\"} ";
        let answer = parse(whole).unwrap();
        assert_eq!((answer.status, answer.detail().as_str(), answer.is_success()), (409, "no", false));
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(parse(b"-ERR unknown command\r\n").is_err());
    }
}
