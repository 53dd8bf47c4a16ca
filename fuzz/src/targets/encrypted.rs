//! What comes to a port for TLS.

use florin::tls::authority::Authority;
use florin::tls::session::{Caller, Shaken};
use florin::tls::{Heard, Identity, Session as _, TlsFiles};
use std::io::Write;
use std::sync::{Arc, LazyLock};

/// What somebody may say who is to shake hands, in two pieces; and what a certificate may hold.
pub fn handshake(input: &[u8]) {
    use florin::tls::CertificateNames;
    static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
        identity(&Authority::new("fuzzed").expect("an authority"), Callers::WithCertificates)
    });
    let mut caller = Caller::new(Arc::clone(&IDENTITY.callers)).expect("a connection");
    let mut answer = Vec::new();
    let (first, second) = input.split_at(input.len() / 2);
    if caller.shake(first, &mut answer).is_ok() {
        let _ = caller.shake(second, &mut answer);
    }
    assert!(caller.names().is_none(), "nobody has proved a name");
    let _ = CertificateNames::of(&input.to_vec().into());
}

/// Whom a node lets in.
#[derive(PartialEq)]
enum Callers {
    Any,
    WithCertificates,
}

/// A node's, of this authority's.
fn identity(authority: &Authority, callers: Callers) -> Identity {
    let node = authority.node(&["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        // One of them is a key.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, own).expect("a file of ours");
        path
    };
    let files = TlsFiles {
        certificate: write("node.pem", &node.certificate),
        key: write("node.key", &node.key),
        client_ca: (callers == Callers::WithCertificates)
            .then(|| write("ca.pem", &authority.pair().certificate)),
    };
    Identity::read(&files).expect("what was just made")
}

/// What comes behind a handshake: a caller's records, records of which a bit was changed on their way, and bytes that nobody has sealed.
/// What is handed on is what the caller has sent, in its order; a record that was changed is refused, and so is all that follows.
pub fn sealed(mut input: &[u8]) {
    let (mut node, mut caller) = shaken();
    let [mut sent, mut taken, mut records] = [const { Vec::<u8>::new() }; 3];
    let (mut is_true, mut has_ended, mut state) = (true, false, Ok(Heard::Bytes));
    while let [what, bytes, rest @ ..] = input {
        let (said, rest) = rest.split_at(usize::from(*bytes).min(rest.len()));
        input = rest;
        records.clear();
        match what % 4 {
            // Nobody has sealed it.
            0 => {
                records.extend(said);
                is_true &= said.is_empty();
            }
            1 => {
                caller.send_close_notify();
                has_ended = true;
            }
            _ if has_ended => {}
            _ => {
                caller.writer().write_all(said).expect("its buffer is emptied each time");
                sent.extend(said);
            }
        }
        let sealed_from = records.len();
        while caller.wants_write() {
            caller.write_tls(&mut records).expect("a vector takes what it is given");
        }
        let was_true = is_true;
        let changed =
            (what % 4 == 3 && records.len() > sealed_from).then(|| usize::from(*what) * 251 % records.len());
        if let Some(at) = changed {
            records[at] ^= 1 << (what / 4 % 8);
            is_true = false;
        }
        let (had_failed, taken_before) = (state.is_err(), taken.len());
        for piece in records.chunks(1 + usize::from(*what)) {
            state = node.open(piece, &mut |plain: &[u8]| taken.extend_from_slice(plain));
            if state.is_err() {
                break;
            }
        }
        assert!(sent.starts_with(&taken), "what was not sent is not handed on");
        if had_failed {
            assert!(records.is_empty() || state.is_err(), "it is done for");
            assert_eq!(taken.len(), taken_before, "it is done for");
        }
        // Behind its head, which is not all under the seal.
        if was_true && changed.is_some_and(|at| at >= 5) {
            assert!(state.is_err() && taken.len() == taken_before, "a changed record is refused");
        }
        if is_true {
            assert!(state.is_ok(), "{state:?}");
            assert!(taken == sent && node.half().is_none(), "what has come whole is handed on");
        }
    }
    node.seal_end(&mut Vec::new());
}

/// Both ends of a connection that are done with their handshake.
fn shaken() -> (Caller, rustls::ClientConnection) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    static ENDS: LazyLock<(Identity, Arc<rustls::ClientConfig>)> = LazyLock::new(|| {
        let authority = Authority::new("fuzzed").expect("an authority");
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(authority.pair().certificate.as_bytes());
        roots.add(certificate.expect("PEM")).expect("an authority's");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version that there is");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        (identity(&authority, Callers::Any), Arc::new(config))
    });
    let (identity, config) = &*ENDS;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut caller = rustls::ClientConnection::new(Arc::clone(config), name).expect("a connection");
    let mut node = Caller::new(Arc::clone(&identity.callers)).expect("a connection");
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    loop {
        while caller.wants_write() {
            caller.write_tls(&mut asked).expect("a vector takes what it is given");
        }
        let shaken = node.shake(&asked, &mut answered).expect("a handshake");
        asked.clear();
        let mut rest = &answered[..];
        while !rest.is_empty() {
            caller.read_tls(&mut rest).expect("its buffer is emptied each time");
            caller.process_new_packets().expect("a handshake");
        }
        answered.clear();
        if shaken != Shaken::No {
            return (node, caller);
        }
    }
}
