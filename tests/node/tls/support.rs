//! Nodes with certificates, and callers of them that are none of florin's.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::Arc,
};

use florin::{
    node::{Node, NodeConfig, TlsConfig},
    tls::{
        TlsFiles,
        authority::{Authority, Pair},
        tally::Outcome,
    },
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tempfile::TempDir;

use super::super::support::{Caller, PATIENCE, Stream, config, until};

/// Whose names are in certificates.
pub const TEAM: &str = "spiffe://example.org/team/wallet";

/// An authority, and the files that a node reads.
pub struct Files {
    pub folder: TempDir,
    pub authority: Authority,
}

impl Files {
    pub fn new() -> Files {
        let files =
            Files { folder: tempfile::tempdir().unwrap(), authority: Authority::new("first").unwrap() };
        files.write_node(&files.authority);
        files.write_client_ca(&files.authority);
        files
    }

    /// Gives the node a certificate of `authority`'s.
    pub fn write_node(&self, authority: &Authority) {
        let pair = authority.node(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        self.write_pair(&pair);
    }

    pub fn write_pair(&self, pair: &Pair) {
        fs::write(self.folder.path().join("node.crt"), &pair.certificate).unwrap();
        self.write_key(&pair.key);
    }

    /// Nobody else's to read, or the node refuses it.
    pub fn write_key(&self, key: &str) {
        let path = self.folder.path().join("node.key");
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn write_client_ca(&self, authority: &Authority) {
        fs::write(self.folder.path().join("ca.crt"), authority.pair().certificate).unwrap();
    }

    pub fn of(&self, are_callers_known: Callers) -> TlsFiles {
        let path = |name| self.folder.path().join(name);
        TlsFiles {
            certificate: path("node.crt"),
            key: path("node.key"),
            client_ca: (are_callers_known == Callers::ShowCertificates).then(|| path("ca.crt")),
        }
    }

    pub fn config(&self, shards: u16, callers: Callers) -> NodeConfig {
        let any_port = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let tls = TlsConfig { listen: any_port, shard_listen: any_port, files: self.of(callers) };
        NodeConfig { tls: Some(tls), ..config(shards) }
    }

    pub fn start(&self, shards: u16, callers: Callers) -> Node {
        Node::start(self.config(shards, callers)).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    Anybody,
    ShowCertificates,
}

/// What a caller trusts and shows.
pub fn client(authority: &Authority, shows: Option<&Pair>) -> ClientConfig {
    client_of(authority, shows, &TLS13)
}

pub fn client_of(
    authority: &Authority,
    shows: Option<&Pair>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pair().certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    }
}

pub type Secure = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Secure {
    fn set_deadline(&self) {
        self.sock.set_deadline();
    }
}

/// Connects; the handshake happens with the first byte.
pub fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Caller<Secure> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    Caller::new(StreamOwned::new(connection, TcpStream::connect(address).unwrap()))
}

/// Bytes of a connection's handshake to its end.
pub fn shake(caller: &mut Caller<Secure>) {
    let Secure { conn, sock } = &mut caller.0;
    while conn.is_handshaking() {
        conn.complete_io(sock).unwrap();
    }
}

/// Records that hold `plain`, not yet sent.
pub fn records(caller: &mut Caller<Secure>, plain: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    caller.0.conn.writer().write_all(plain).unwrap();
    while caller.0.conn.wants_write() {
        caller.0.conn.write_tls(&mut records).unwrap();
    }
    records
}

pub fn tls_address(node: &Node) -> SocketAddr {
    node.addresses().tls_listen.unwrap()
}

pub fn count(node: &Node, outcome: Outcome) -> u64 {
    node.tls().unwrap().tally.get(outcome)
}

pub fn until_counted(node: &Node, outcome: Outcome, at_least: u64) {
    until(outcome.name(), || count(node, outcome) >= at_least);
}

/// Reads until the peer closes or resets, within the patience.
pub fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return bytes,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return bytes,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }
}
