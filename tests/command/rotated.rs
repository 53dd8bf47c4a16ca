//! Certificates, authorities and tokens are replaced while callers ask without a pause: none of them loses a request.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use rustls::ClientConfig;

use super::secure::{Talk, ask, connect, trusting};
use super::support::{Server, folder_with_ledger, run, wait_for, write};

const BALANCE: [&str; 2] = ["GET", "/v1/users/1/balance"];

/// What callers show at the moment.
struct Shown {
    certificate: Mutex<Arc<ClientConfig>>,
    token: Mutex<String>,
    is_over: AtomicBool,
    /// Answers, by caller.
    answers: [AtomicU64; 4],
}

impl Shown {
    fn certificate(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.certificate.lock().unwrap())
    }

    fn token(&self) -> String {
        self.token.lock().unwrap().clone()
    }

    /// Asks without a pause, over a connection each or over one. Whatever is not answered as it should be fails the test.
    fn keep_asking(&self, caller: usize, mut once: impl FnMut() -> std::io::Result<u16>) {
        while !self.is_over.load(Ordering::Relaxed) {
            let status = once().unwrap_or_else(|error| panic!("caller {caller} lost a request: {error}"));
            assert_eq!(status, 200, "caller {caller} was refused");
            self.answers[caller].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Until each has been answered what it has asked since now, and once more.
    fn settle(&self) {
        let before: Vec<u64> = self.answers.iter().map(|answers| answers.load(Ordering::Relaxed)).collect();
        wait_for("every caller's next answers", || {
            let now = self.answers.iter().map(|answers| answers.load(Ordering::Relaxed));
            now.zip(&before).all(|(now, before)| now >= before + 2).then_some(())
        });
    }
}

/// Ends the callers, also where the test fails: they would keep it from ending.
struct IsOver<'a>(&'a Shown);

impl Drop for IsOver<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Whether one is answered by TLS.
fn is_answered(address: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    matches!(ask(&mut *connect(address, Some(config)), BALANCE, None, ""), Ok(200))
}

/// Puts a file in another's place, as `mv` does.
fn replace(folder: &Path, name: &str, text: &str) {
    write(folder, "next", text);
    // A key among them is nobody else's to read.
    std::fs::set_permissions(folder.join("next"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    std::fs::rename(folder.join("next"), folder.join(name)).unwrap();
}

#[test]
fn certificates_authorities_and_tokens_are_replaced_without_a_lost_request() {
    let folder = folder_with_ledger();
    let at = folder.path();
    for authority in ["old", "new"] {
        run(at, &["tls", "init", authority]).ok();
    }
    let file = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    for (name, from) in [("node.crt", "old/node.crt"), ("node.key", "old/node.key"), ("ca.crt", "old/ca.crt")]
    {
        replace(at, name, &file(from));
    }
    let first = run(at, &["principal", "add", "reader", "--may", "balance"]).ok().trim().to_owned();
    let by_certificate = "\n[[principal]]\nname = \"caller\"\nmay = [\"balance\"]\ncertificates = [\"spiffe://florin.local/caller\"]\n";
    write(at, "principals.toml", &(file("principals.toml") + by_certificate));
    let server = Server::start(
        at,
        &[
            "--principals",
            "principals.toml",
            "--tls-listen",
            "127.0.0.1:0",
            "--tls-cert",
            "node.crt",
            "--tls-key",
            "node.key",
            "--tls-client-ca",
            "ca.crt",
            "--shards",
            "2",
            "--shards-per-cpu",
            "2",
        ],
    );
    let (plain, secure) = (server.any, server.tls.unwrap());
    let [old, new] = ["old", "new"].map(|name| at.join(name));
    let both = [&*old, &*new];
    let shown = Shown {
        certificate: Mutex::new(trusting(&both, Some(&old.join("caller")))),
        token: Mutex::new(first.clone()),
        is_over: AtomicBool::new(false),
        answers: Default::default(),
    };
    thread::scope(|scope| {
        let _is_over = IsOver(&shown);
        let shown = &shown;
        // Of the certificates of the beginning, over one connection; over one each; and the same with tokens.
        let mut kept: Box<dyn Talk> = connect(secure, Some(&shown.certificate()));
        scope.spawn(move || shown.keep_asking(0, || ask(&mut *kept, BALANCE, None, "")));
        scope.spawn(move || {
            shown.keep_asking(1, || ask(&mut *connect(secure, Some(&shown.certificate())), BALANCE, None, ""))
        });
        let mut kept: Box<dyn Talk> = connect(plain, None);
        scope.spawn(move || shown.keep_asking(2, || ask(&mut *kept, BALANCE, Some(&shown.token()), "")));
        scope.spawn(move || {
            shown.keep_asking(3, || ask(&mut *connect(plain, None), BALANCE, Some(&shown.token()), ""))
        });
        shown.settle();

        // Callers of both authorities are let in, and then show certificates of the new one.
        replace(at, "ca.crt", &(file("old/ca.crt") + &file("new/ca.crt")));
        server.signal(Signal::HUP);
        let of_new = trusting(&both, Some(&new.join("caller")));
        wait_for("callers of the new authority are let in", || is_answered(secure, &of_new).then_some(()));
        *shown.certificate.lock().unwrap() = of_new;
        shown.settle();
        // The node shows its new certificate.
        replace(at, "node.crt", &file("new/node.crt"));
        replace(at, "node.key", &file("new/node.key"));
        server.signal(Signal::HUP);
        let new_alone = trusting(&[&*new], Some(&new.join("caller")));
        wait_for("the new certificate is shown", || is_answered(secure, &new_alone).then_some(()));
        shown.settle();
        // Whoever still shows a certificate of the old authority is let in no more.
        replace(at, "ca.crt", &file("new/ca.crt"));
        server.signal(Signal::HUP);
        let of_old = trusting(&both, Some(&old.join("caller")));
        wait_for("the old authority is gone", || (!is_answered(secure, &of_old)).then_some(()));
        shown.settle();

        // The same with tokens.
        let second = run(at, &["principal", "add", "reader"]).ok().trim().to_owned();
        server.signal(Signal::HUP);
        let is_good =
            |token: &str| matches!(ask(&mut *connect(plain, None), BALANCE, Some(token), ""), Ok(200));
        wait_for("the new token is good", || is_good(&second).then_some(()));
        *shown.token.lock().unwrap() = second;
        shown.settle();
        let principals = file("principals.toml");
        let (newest, older) = principals.split_once("\", \"sha256:").expect("two tokens, the newest first");
        replace(at, "principals.toml", &format!("{newest}{}", &older[64..]));
        server.signal(Signal::HUP);
        wait_for("the old token is good no more", || (!is_good(&first)).then_some(()));
        shown.settle();
    });
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
}
