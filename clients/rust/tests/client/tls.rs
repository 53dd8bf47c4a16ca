//! TLS: the same answers by it, and what is missing where there is none is said.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::fake::{self, Answer, Fake, Map, eventually, path, user};
use florin_client::{Backoff, Client, Disconnect, Error, Retry, Routing, Tls, TlsError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Signs certificates, and keeps the files of those that callers show.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder: TempDir::new().unwrap() };
        std::fs::write(authority.file("ca"), authority.issuer.pem()).unwrap();
        let (certificate, key) = authority.sign("caller", ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(authority.file("caller.crt"), certificate).unwrap();
        std::fs::write(authority.file("caller.key"), key).unwrap();
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        self.sign_for(name, usage, Time::Now)
    }

    fn sign_for(&self, name: &str, usage: ExtendedKeyUsagePurpose, time: Time) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        match time {
            Time::Now => {}
            Time::Over => params.not_after = date_time_ymd(2020, 1, 1),
            Time::ToCome => params.not_before = date_time_ymd(4000, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A node's side, for this name.
    fn server(&self, name: &str, asks: Asks) -> Arc<ServerConfig> {
        self.server_of(self.sign(name, ExtendedKeyUsagePurpose::ServerAuth), asks)
    }

    /// The same with this certificate and its key.
    fn server_of(&self, (certificate, key): (String, String), asks: Asks) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap();
        let builder = match asks {
            Asks::Nothing => builder.with_no_client_auth(),
            Asks::ForCertificates => {
                let mut roots = RootCertStore::empty();
                roots.add(self.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"florin".to_vec()];
        Arc::new(config)
    }

    /// A caller with these.
    fn showing(&self, (certificate, key): (String, String), name: &str) -> Tls {
        let files = [".crt", ".key"].map(|kind| self.file(&format!("{name}{kind}")));
        std::fs::write(&files[0], certificate).unwrap();
        std::fs::write(&files[1], key).unwrap();
        self.trusting().identity(&files[0], &files[1])
    }

    fn trusting(&self) -> Tls {
        Tls::new().authorities(self.file("ca"))
    }

    fn known(&self) -> Tls {
        self.trusting().identity(self.file("caller.crt"), self.file("caller.key"))
    }
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
enum Time {
    Now,
    Over,
    ToCome,
}

#[derive(Clone, Copy)]
enum Asks {
    Nothing,
    ForCertificates,
}

async fn faultless(map: Map, config: Arc<ServerConfig>) -> Fake {
    Fake::tls(map, config, |asked| Answer::Bytes(asked.right_answer())).await
}

/// Shards are reached by their addresses, and are the node that was named: their certificates are for its name.
#[tokio::test]
async fn every_shard_is_reached_by_tls_under_the_nodes_name() {
    let authority = Authority::new();
    let config = authority.server("localhost", Asks::ForCertificates);
    let mut shards = Vec::new();
    for _ in 0..3 {
        shards.push(faultless(Map::one_shard(), Arc::clone(&config)).await);
    }
    let ports: Vec<u16> = shards.iter().map(|fake| fake.port).collect();
    let any = faultless(Map::of_ports(&ports), config).await;
    let client = Client::builder()
        .tls(authority.known())
        .token("secret")
        .routing(Routing::ShardPortsOnly)
        .connect(&*format!("florins://localhost:{}", any.port))
        .await
        .unwrap();
    for id in 0..60 {
        assert_eq!(client.get_balance(user(id)).await.unwrap().user_id, id);
    }
    // More than a socket's buffer, both ways.
    let users: Vec<_> = (0..20_000).map(user).collect();
    assert_eq!(client.get_balances(&users).await.unwrap().len(), users.len());
    assert!(any.asked().is_empty());
    for shard in &shards {
        assert!(!shard.asked().is_empty());
        assert_eq!(shard.story.hellos.lock().unwrap()[0].1, "secret");
    }
}

/// A bit that a path changes, of a request or of an answer, makes no other answer: the connection ends, and who asked is answered by
/// another. (In plain there is nothing but TCP's sums.)
#[tokio::test]
async fn what_a_path_changes_is_no_answer_by_tls() {
    let authority = Authority::new();
    let config = authority.server("localhost", Asks::Nothing);
    let shard = faultless(Map::one_shard(), Arc::clone(&config)).await;
    let path = path::Path::to(&format!("127.0.0.1:{}", shard.port)).await;
    let port = path.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let any = faultless(Map::of_ports(&[port]), config).await;
    let client = Client::builder()
        .tls(authority.trusting())
        .routing(Routing::ShardPortsOnly)
        .connect(&*format!("florins://localhost:{}", any.port))
        .await
        .unwrap();
    for id in 0..8 {
        let (before, mut asks) = (path.accepted(), 0);
        path.flip();
        while path.accepted() == before {
            assert!(asks < 100, "what was changed went unnoticed");
            asks += 1;
            if let Ok(answer) = client.get_balance(user(id)).await {
                assert_eq!(answer.to_record(), fake::balance(id));
            }
        }
        assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
    }
}

/// A connection that ends is made again; the ticket of the one before spares both sides the certificates.
#[tokio::test]
async fn a_connection_that_is_made_again_shows_a_ticket() {
    let authority = Authority::new();
    let node =
        Fake::tls(
            Map::one_shard(),
            authority.server("localhost", Asks::ForCertificates),
            |asked| match asked.user_id() {
                13 if asked.connection == 0 => Answer::Close,
                _ => Answer::Bytes(asked.right_answer()),
            },
        )
        .await;
    let client = Client::builder()
        .tls(authority.known())
        .backoff(Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) })
        .deadline(fake::PATIENCE)
        .connect(&*format!("florins://localhost:{}", node.port))
        .await
        .unwrap();
    client.get_balance(user(1)).await.unwrap();
    client.get_balance(user(13)).await.unwrap();
    assert_eq!(client.counters().connects, 2);
    eventually("the second handshake is seen", || node.resumed() == 1).await;
}

/// A port where TLS is answered as anything else would.
async fn speaks_in_plain() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut came = [0; 1_024];
            let _ = stream.read(&mut came).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    port
}

/// Each failure says what is missing, and where to give it.
#[tokio::test]
async fn what_is_missing_for_tls_is_said() {
    let (own, other) = (Authority::new(), Authority::new());
    let open = faultless(Map::one_shard(), own.server("localhost", Asks::Nothing)).await;
    let asking = faultless(Map::one_shard(), own.server("localhost", Asks::ForCertificates)).await;
    let elsewhere = faultless(Map::one_shard(), own.server("elsewhere", Asks::Nothing)).await;
    let plain = speaks_in_plain().await;
    let stranger = own.trusting().identity(other.file("caller.crt"), other.file("caller.key"));
    for (what, port, tls, expected) in [
        ("another authority", open.port, other.trusting(), "Tls::authorities"),
        ("another name", elsewhere.port, own.trusting(), "Tls::server_name"),
        ("no certificate", asking.port, own.trusting(), "Tls::identity"),
        ("a foreign certificate", asking.port, stranger, "--tls-client-ca"),
        ("a port without TLS", plain, own.trusting(), "--tls-listen"),
    ] {
        let address = format!("florins://localhost:{port}");
        let connecting = Client::builder().tls(tls).retry(Retry::Never).connect(&*address).await;
        let error = connecting.map(drop).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Disconnected { cause: Disconnect::Tls(_), .. }), "{what}: {error:?}");
        assert!(said.contains(expected) && said.contains("TLS"), "{what}: {said}");
    }
    // The same node, by the name that it has.
    let tls = own.trusting().server_name("elsewhere");
    let address = format!("florins://127.0.0.1:{}", elsewhere.port);
    Client::builder().tls(tls).connect(&*address).await.unwrap().ping(b"").await.unwrap();
}

/// A caller whose time was to come was told that its certificate was valid no longer, and of nodes nothing was said but that theirs were
/// not valid.
#[tokio::test]
async fn a_certificate_that_nobody_takes_is_told_with_what_to_do() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let own = Authority::new();
    let asking = faultless(Map::one_shard(), own.server("localhost", Asks::ForCertificates)).await;
    let neither = "has ended, or is not valid yet: give another";
    for (time, usage, of_node, of_caller) in [
        (Time::Over, [ServerAuth, ClientAuth], "has ended: whoever runs the node", neither),
        (Time::ToCome, [ServerAuth, ClientAuth], "is not valid yet: this host's clock", neither),
        (
            Time::Now,
            [ClientAuth, ServerAuth],
            "extended key usage serverAuth",
            "extended key usage clientAuth",
        ),
    ] {
        let [node_usage, caller_usage] = usage;
        let config = own.server_of(own.sign_for("localhost", node_usage, time), Asks::Nothing);
        let node = faultless(Map::one_shard(), config).await;
        let caller = own.showing(own.sign_for("caller", caller_usage, time), "odd");
        for (port, tls, expected) in [(node.port, own.trusting(), of_node), (asking.port, caller, of_caller)]
        {
            let address = format!("florins://localhost:{port}");
            let connecting = Client::builder().tls(tls).retry(Retry::Never).connect(&*address).await;
            let error = connecting.map(drop).unwrap_err();
            assert!(matches!(error, Error::Disconnected { cause: Disconnect::Tls(_), .. }), "{error:?}");
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }
}

/// Nothing is said in plain that was to be kept from others: neither a Hello nor a token.
#[tokio::test]
async fn certificates_for_a_plain_address_are_refused() {
    let authority = Authority::new();
    let plain = Fake::faultless(Map::one_shard()).await;
    for address in [plain.address.as_str(), "unix:/nowhere"] {
        let connecting = Client::builder().tls(authority.known()).token("secret").connect(address).await;
        let error = connecting.map(drop).unwrap_err();
        assert!(matches!(error, Error::Tls(TlsError::Plain(_))), "{error:?}");
        assert!(error.to_string().contains("florins://"), "{error}");
    }
    assert_eq!(plain.accepted(), 0);
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new();
    let key = authority.file("caller.key");
    let missing = Path::new("nowhere.pem");
    for (tls, file) in [
        (Tls::new().authorities(missing), missing),
        // It has no end.
        (Tls::new().authorities("/dev/zero"), Path::new("/dev/zero")),
        (Tls::new().authorities(&key), &*key),
        (authority.trusting().identity(missing, &key), missing),
        (authority.trusting().identity(authority.file("caller.crt"), missing), missing),
    ] {
        let error = Client::builder().tls(tls).connect("florins://localhost:1").await.map(drop).unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    let (_, other) = authority.sign("other", ExtendedKeyUsagePurpose::ClientAuth);
    std::fs::write(&key, other).unwrap();
    let error = Client::builder()
        .tls(authority.known())
        .connect("florins://localhost:1")
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Unusable(_))), "{error}");
}
