//! The admin port by TLS. A caller's handshake happens when its connection is first read from, so that nobody waits for another's, and
//! one that does not shake hands is silent like any other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use florin_input::connections::{Over, PeerNames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use crate::tls::{CertificateNames, Identities};

/// Lays TLS over each socket, with the certificate of then.
pub(super) fn over(identities: Arc<Identities>) -> Over {
    Arc::new(move |socket, names| {
        let config = Arc::clone(&identities.current().admin);
        Box::new(Secure::Shaking(TlsAcceptor::from(config).accept(socket), names))
    })
}

/// A connection, before its handshake and after it.
enum Secure {
    Shaking(Accept<TcpStream>, PeerNames),
    Open(TlsStream<TcpStream>),
}

impl Secure {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let Secure::Shaking(accept, names) = self {
            let stream = ready!(Pin::new(accept).poll(cx))?;
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            if let Some(read) = shown.map(CertificateNames::of) {
                let read = read.map_err(io::Error::other)?;
                names.prove(read.all().into_iter().map(str::to_owned).collect(), read.until_us);
            }
            *self = Secure::Open(stream);
        }
        match self {
            Secure::Open(stream) => Poll::Ready(Ok(Pin::new(stream))),
            Secure::Shaking(..) => unreachable!("it has just been opened"),
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        match ready!(stream.poll_read(cx, into)) {
            // Some end without a last word. A request says how long it is, so nothing is taken for whole that is not.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.get_mut().poll_open(cx))?.poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Secure::Open(stream) => Pin::new(stream).poll_flush(cx),
            // Nothing has been written.
            Secure::Shaking(..) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Secure::Open(stream) => Pin::new(stream).poll_shutdown(cx),
            Secure::Shaking(..) => Poll::Ready(Ok(())),
        }
    }
}
