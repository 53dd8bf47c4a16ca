//! A caller by HTTP, in plain and by TLS, that reads files as `florin tls init` writes them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::support::PATIENCE;

/// What one trusts, folders that `florin tls init` has made; and shows, a certificate and its key of this name.
pub fn trusting(folders: &[&Path], shows: Option<&Path>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for folder in folders {
        roots.add(CertificateDer::from_pem_file(folder.join("ca.crt")).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_file(name.with_extension("crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(name.with_extension("key")).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    Arc::new(config)
}

/// What requests go over.
pub trait Talk: Read + Write + Send {}
impl<T: Read + Write + Send> Talk for T {}

/// A connection, by TLS where that is said how. The handshake happens with the first request.
pub fn connect(address: SocketAddr, by: Option<&Arc<ClientConfig>>) -> Box<dyn Talk> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // Who connects for each request would use up this host's ports: each waits a minute for a connection that is over.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    match by {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from("localhost").unwrap();
            let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
            Box::new(StreamOwned::new(connection, stream))
        }
    }
}

/// The status of a request's answer, which is read to its end: the next may follow.
pub fn ask(stream: &mut dyn Talk, what: [&str; 2], token: Option<&str>, body: &str) -> io::Result<u16> {
    asked(stream, what, token, body).map(|(status, _)| status)
}

/// The same, and the body.
pub fn asked(
    stream: &mut dyn Talk,
    [method, path]: [&str; 2],
    token: Option<&str>,
    body: &str,
) -> io::Result<(u16, Vec<u8>)> {
    let shown = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let typed = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{shown}{typed}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    stream.flush()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length =
        if method == "HEAD" { 0 } else { length.and_then(|length| length.parse().ok()).unwrap_or(0) };
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body)?;
    Ok((head[9..12].parse().map_err(io::Error::other)?, body))
}
