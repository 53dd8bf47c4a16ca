//! One HTTP request and its answer, blocking: what the commands need of the admin port and of the JSON endpoints. hyper speaks;
//! here are the bounds of what is waited for and kept.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::iter;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use florin_client::{Address, Tls, TlsError, TlsFailure};
use florin_input::connections::Stream;
use florin_schema::Stranger;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::caller::{Asked, HOW_TO_PROVE};
use crate::limits::{CALL, CALL_ANSWER_BYTES_MAX};

/// How a port for reads begins to say that it has no such path.
const OF_READ_PORT: &str = "path: expected /v1/users/";

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

    /// This, unless it is a refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn succeeded(self) -> Result<Answer, Refused> {
        if self.is_success() { Ok(self) } else { Err(Refused { status: self.status, detail: self.detail() }) }
    }

    /// A refusal's own words, or its whole body where it has none; and what to do where a port for reads was asked for what the admin
    /// port has, or nobody knows who asks.
    pub fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = florin_input::json(self.body.as_bytes()).ok();
        let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
        let detail = detail.unwrap_or(self.body.trim());
        let next = match self.status {
            404 if detail.starts_with(OF_READ_PORT) => {
                "; this port is for reads alone: give the node's admin port"
            }
            401 => HOW_TO_PROVE,
            _ => "",
        };
        format!("{detail}{next}")
    }

    /// Whether a port for reads was asked for what the admin port has.
    pub(super) fn is_of_read_port(&self) -> bool {
        self.status == 404 && self.detail().starts_with(OF_READ_PORT)
    }
}

/// An answer that refuses.
#[derive(Debug, thiserror::Error)]
#[error("the node answered {status}: {detail}")]
pub struct Refused {
    /// Of HTTP.
    pub status: u16,
    /// The node's words.
    pub detail: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens there: nothing was sent.
    #[error("cannot reach florin at {address}: {source}; is `florin serve` running, and with this address?")]
    NoConnection {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to florin at {address} broke: {source}; did it end meanwhile?")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// What was said of TLS is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is not whom this caller trusts, or does not trust this caller.
    #[error("florin at {address}: {failure}")]
    Untrusted {
        /// Where.
        address: Address,
        /// Why.
        failure: TlsFailure,
    },
    /// It is for TLS.
    #[error(
        "florin at {address} answers by TLS, and was asked in plain: write florins:// before its address"
    )]
    Secured {
        /// Where.
        address: Address,
    },
    /// It did not answer, or not to the end.
    #[error("florin at {address} has not answered within {limit:?}: it is stopped, overloaded, or no florin")]
    TooSlow {
        /// Where.
        address: Address,
        /// How long was waited.
        limit: Duration,
    },
    /// Something else listens there.
    #[error(
        "what answers at {address} does not speak HTTP as florin does ({found}): give the address of a florin"
    )]
    NotHttp {
        /// Where.
        address: Address,
        /// What is wrong with the answer.
        found: String,
    },
}

/// Sends one request over a connection of its own; it is answered within [`CALL`], or not at all.
///
/// # Errors
/// Where there is no whole answer of at most [`CALL_ANSWER_BYTES_MAX`] bytes.
pub fn request(node: &Asked, method: &str, path: &str, body: &str) -> Result<Answer, NoAnswer> {
    request_within(CALL, node, method, path, body)
}

/// The same within `limit`.
pub(super) fn request_within(
    limit: Duration,
    node: &Asked,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer, NoAnswer> {
    whole_within(limit, node, method, path, body).map(|(_, answer)| answer)
}

/// The same with the answer's headers.
pub(super) fn whole_within(
    limit: Duration,
    node: &Asked,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(HeaderMap, Answer), NoAnswer> {
    let address = &node.address;
    let failed = |source| NoAnswer::Io { address: address.clone(), source };
    let request = prepared(node, method, path, body)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let outcome = runtime.block_on(async { timeout(limit, exchange(node, request)).await });
    // A name's look-up may hang on another thread: it is left to itself.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|_| Err(NoAnswer::TooSlow { address: address.clone(), limit }))
}

async fn exchange(node: &Asked, request: Request) -> Result<(HeaderMap, Answer), NoAnswer> {
    let stream = connected(node).await?;
    let response = begun(&node.address, stream, request).await?;
    let headers = response.headers().clone();
    Ok((headers, answered(&node.address, response).await?))
}

type Request = hyper::Request<Full<Bytes>>;

/// A connection in plain. One to a port for TLS is told by the first bytes that come, for what hyper makes of them is of no help.
struct Plain {
    stream: TcpStream,
    has_heard: bool,
}

/// What stands in such a connection's error.
#[derive(Debug, thiserror::Error)]
#[error("an answer by TLS")]
struct ByTls;

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let heard = &into.filled()[before..];
        if !self.has_heard && !heard.is_empty() {
            self.has_heard = true;
            if Stranger::of(heard) == Some(Stranger::Tls) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, ByTls)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A request, with what proves who asks. Its connection serves no other.
pub(super) fn prepared(node: &Asked, method: &str, path: &str, body: &str) -> Result<Request, NoAnswer> {
    let failed = |source| NoAnswer::Io { address: node.address.clone(), source };
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &node.token {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.reveal()].concat())
            .map_err(|_| failed(io::Error::other("the token has bytes that no header may have")))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request.body(body).map_err(|error| failed(io::Error::other(error)))
}

/// A way to a node of one's own, secured where its address says so.
pub(super) async fn connected(node: &Asked) -> Result<Box<dyn Stream>, NoAnswer> {
    let address = &node.address;
    let failed = |source: io::Error| match TlsFailure::of(&source) {
        Some(failure) => NoAnswer::Untrusted { address: address.clone(), failure },
        None => NoAnswer::NoConnection { address: address.clone(), source },
    };
    Ok(match address {
        Address::Tls { host, port } => {
            let connector = node.tls.as_ref().unwrap_or(&Tls::new()).connector()?;
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            Box::new(connector.secure(stream, host).await.map_err(failed)?)
        }
        Address::Tcp { .. } | Address::Unix(_) if node.tls.is_some() => {
            return Err(TlsError::Plain(address.clone()).into());
        }
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            Box::new(Plain { stream, has_heard: false })
        }
        Address::Unix(path) => Box::new(UnixStream::connect::<&Path>(path).await.map_err(failed)?),
    })
}

/// The head of what is answered to a request. Its connection goes on as long as the runtime does.
pub(super) async fn begun(
    address: &Address,
    stream: Box<dyn Stream>,
    request: Request,
) -> Result<Response<Incoming>, NoAnswer> {
    let broken = |error| NoAnswer::broken(address, error);
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let error = match sender.send_request(request).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    // A node looks at a caller's certificate last, and tells what it thinks of it where the answer should be. A request that was not
    // sent yet may hear no more than that it was canceled.
    drop(sender);
    match connection.await {
        Ok(Err(why)) if refusal(&error).is_none() && (refusal(&why).is_some() || is_by_tls(&why)) => {
            Err(broken(why))
        }
        _ => Err(broken(error)),
    }
}

/// What a node thinks of a caller's certificate, where that is what an error tells.
fn refusal(error: &hyper::Error) -> Option<TlsFailure> {
    causes(error).find_map(TlsFailure::of)
}

/// Whether a port for TLS was asked in plain.
fn is_by_tls(error: &hyper::Error) -> bool {
    causes(error).any(|cause| cause.get_ref().is_some_and(|cause| cause.is::<ByTls>()))
}

/// The errors of a connection behind hyper's.
fn causes(error: &hyper::Error) -> impl Iterator<Item = &io::Error> {
    let sources = iter::successors(error.source(), |&error| error.source());
    sources.filter_map(<dyn Error>::downcast_ref)
}

/// A response's whole answer.
pub(super) async fn answered(address: &Address, response: Response<Incoming>) -> Result<Answer, NoAnswer> {
    let not_http = |found: &dyn Display| NoAnswer::not_http(address, found);
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), CALL_ANSWER_BYTES_MAX).collect().await.map_err(
        |error| match error.downcast::<hyper::Error>() {
            Ok(error) => not_http(&format!("an answer that was cut: {error}")),
            Err(error) if error.is::<LengthLimitError>() => {
                not_http(&format!("an answer of more than {CALL_ANSWER_BYTES_MAX} bytes"))
            }
            Err(error) => not_http(&error),
        },
    )?;
    let body = String::from_utf8(body.to_bytes().into()).map_err(|error| not_http(&error))?;
    Ok(Answer { status, body })
}

impl NoAnswer {
    /// What hyper says of a connection.
    pub(super) fn broken(address: &Address, error: hyper::Error) -> NoAnswer {
        let address = address.clone();
        match refusal(&error) {
            Some(failure) => NoAnswer::Untrusted { address, failure },
            None if is_by_tls(&error) => NoAnswer::Secured { address },
            None if error.is_parse() => NoAnswer::NotHttp { address, found: error.to_string() },
            None => NoAnswer::Io { address, source: io::Error::other(error) },
        }
    }

    fn not_http(address: &Address, found: &dyn Display) -> NoAnswer {
        NoAnswer::NotHttp { address: address.clone(), found: found.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Whom a node has refused, before or after the request has gone.
    struct Refused;

    impl AsyncRead for Refused {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Refused {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Where the refusal came before the request had been sent it was told as "operation was canceled".
    #[test]
    fn a_refused_caller_is_told_so_whenever_that_comes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let address = "florins://localhost:1".parse().unwrap();
        // Which of both is looked at first is chance's.
        for _ in 0..100 {
            let request = hyper::Request::new(Full::default());
            let error = runtime.block_on(begun(&address, Box::new(Refused), request)).unwrap_err();
            assert!(matches!(error, NoAnswer::Untrusted { .. }), "{error}");
        }
    }

    /// Answers one request with `answer`, piece by piece, as long as the caller takes it.
    fn server(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Asked {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4_096]).unwrap();
            for piece in pieces {
                if stream.write_all(&piece).is_err() {
                    break;
                }
            }
        });
        Asked { address, token: None, tls: None }
    }

    fn ask(bytes: &[u8]) -> Result<Answer, NoAnswer> {
        request(&server(iter::once(bytes.to_vec())), "GET", "/", "")
    }

    #[test]
    fn an_answer_is_read_whole_or_refused() {
        let whole = b"HTTP/1.1 409 Conflict\r\ncontent-length: 16\r\n\r\n{\"detail\":\"no\"} ";
        let answer = ask(whole).unwrap();
        assert_eq!((answer.status, answer.detail().as_str(), answer.is_success()), (409, "no", false));
        for cut in 0..whole.len() {
            assert!(ask(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(matches!(ask(b"\x15\x03\x03\x00\x02\x02\x32"), Err(NoAnswer::Secured { .. })));
        assert!(matches!(ask(b"-ERR unknown command\r\n"), Err(NoAnswer::NotHttp { .. })));
        // A node that was killed is none that speaks something else.
        assert!(matches!(ask(b""), Err(NoAnswer::Io { .. })));
    }

    /// An answer without end filled the memory of whoever had asked.
    #[test]
    fn an_answer_has_a_bound() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let endless = iter::once(head).chain(iter::repeat_with(|| vec![b'x'; 1 << 16]));
        let error = request(&server(endless), "GET", "/", "").unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    /// Patience was for each read, so that a server which sent a byte now and then held a command for ever.
    #[test]
    fn an_answer_has_a_deadline() {
        let (enough, told) = mpsc::channel::<()>();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        let drips = iter::from_fn(move || {
            let is_on = told.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout);
            is_on.then(|| b"x".to_vec())
        });
        let node = server(iter::once(head).chain(drips));
        let error = request_within(Duration::from_millis(200), &node, "GET", "/", "").unwrap_err();
        assert!(matches!(error, NoAnswer::TooSlow { .. }), "{error}");
        drop(enough);
    }
}
