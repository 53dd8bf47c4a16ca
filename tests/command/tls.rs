//! The commands by TLS, with what `florin tls init` makes: whom they trust, what they show, and what they say where either is missing.

use std::path::Path;

use super::support::{Ended, Server, end, florin, folder_with_ledger, run, transaction, write};

/// A node that knows callers by their certificates alone, and one of them by its token.
struct Secure {
    folder: tempfile::TempDir,
    server: Server,
    token: String,
}

const KNOWN: [&str; 6] =
    ["--tls-ca", "certs/ca.crt", "--tls-cert", "certs/caller.crt", "--tls-key", "certs/caller.key"];

impl Secure {
    fn start() -> Secure {
        let folder = folder_with_ledger();
        let at = folder.path();
        run(at, &["tls", "init", "certs"]).ok();
        run(at, &["tls", "init", "other"]).ok();
        let token =
            run(at, &["principal", "add", "writer", "--may", "write,statistics"]).ok().trim().to_owned();
        let principals = std::fs::read_to_string(at.join("principals.toml")).unwrap();
        let caller = "[[principal]]\nname = \"caller\"\nmay = [\"balance\", \"batch\"]\n\
                      certificates = [\"spiffe://florin.local/caller\"]\n";
        write(at, "principals.toml", &format!("{principals}{caller}"));
        let server = Server::start(
            at,
            &[
                "--principals",
                "principals.toml",
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-admin",
                "127.0.0.1:0",
                "--tls-cert",
                "certs/node.crt",
                "--tls-key",
                "certs/node.key",
                "--tls-client-ca",
                "certs/ca.crt",
                "--shards",
                "1",
            ],
        );
        Secure { folder, server, token }
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn any(&self) -> String {
        format!("florins://localhost:{}", self.server.tls.unwrap().port())
    }

    fn admin(&self) -> String {
        format!("florins://localhost:{}", self.server.tls_admin.unwrap().port())
    }

    fn get(&self, arguments: &[&str], more: &[&str]) -> Ended {
        run(self.at(), &[&["get"], arguments, &["--addr", &self.any()], more].concat())
    }

    fn with_token(&self, arguments: &[&str]) -> Ended {
        let mut command = florin(self.at(), &[arguments, &KNOWN].concat());
        command.env("FLORIN_TOKEN", &self.token);
        end(command, "")
    }
}

#[test]
fn every_command_asks_by_tls_who_shows_what_the_node_wants() {
    let node = Secure::start();
    let json = [&KNOWN[..], &["--json"]].concat();
    // The certificate says who asks.
    assert!(node.get(&["balance", "1"], &KNOWN).ok().contains("1,200"));
    assert!(node.get(&["balance", "1"], &json).ok().contains("\"1200\""));
    assert!(node.get(&["balances", "1", "2"], &KNOWN).ok().contains("1,200"));
    assert!(node.get(&["balances", "1", "2"], &json).ok().contains("\"1200\""));
    for more in [&KNOWN[..], &json] {
        let err = node.get(&["statistics", "1"], more).refused(1);
        assert!(err.contains("statistics"), "{err}");
    }
    // A token, if one is shown, says more.
    let any = node.any();
    assert!(node.with_token(&["get", "statistics", "1", "--addr", &any]).ok().contains("1,500"));
    write(node.at(), "lines.jsonl", &transaction(1, 1, "\"5\""));
    let err = run(node.at(), &[&["apply", "lines.jsonl", "--admin", &node.admin()], &KNOWN[..]].concat())
        .refused(1);
    assert!(err.contains("403") && err.contains("write"), "{err}");
    node.with_token(&["apply", "lines.jsonl", "--admin", &node.admin()]).ok();
}

#[test]
fn what_is_missing_between_a_command_and_a_node_is_said() {
    let node = Secure::start();
    let plain = node.server.addr();
    let (wrongly_plain, wrongly_secure) =
        (node.any().replace("florins://", ""), format!("florins://{plain}"));
    let (ours, theirs) = ("--tls-ca", "--tls-client-ca");
    let other =
        ["--tls-ca", "certs/ca.crt", "--tls-cert", "other/caller.crt", "--tls-key", "other/caller.key"];
    for json in [&[][..], &["--json"]] {
        let get = |more: &[&str]| node.get(&["balance", "1"], &[more, json].concat()).refused(1);
        let err = get(&["--tls-ca", "other/ca.crt"]);
        assert!(err.contains(ours) && err.contains("TLS"), "{err}");
        let err = get(&["--tls-ca", "certs/ca.crt"]);
        assert!(err.contains("asks for a certificate") && err.contains("--tls-cert"), "{err}");
        let err = get(&other);
        assert!(err.contains(theirs), "{err}");
        let err = get(&["--tls-ca", "nowhere.crt"]);
        assert!(err.contains("nowhere.crt"), "{err}");
        // Nothing is said in plain that was to be kept from others.
        let arguments = [&["get", "balance", "1", "--addr", &plain], json, &KNOWN[..]].concat();
        let err = run(node.at(), &arguments).refused(1);
        assert!(err.contains("florins://"), "{err}");
        // And TLS's port says nothing in plain.
        let arguments = [&["get", "balance", "1", "--addr", &wrongly_plain], json].concat();
        assert_eq!(run(node.at(), &arguments).code, Some(1));
        let arguments = [&["get", "balance", "1", "--addr", &wrongly_secure], json, &KNOWN].concat();
        let err = run(node.at(), &arguments).refused(1);
        assert!(err.contains("--tls-listen"), "{err}");
    }
    let err = run(node.at(), &["get", "balance", "1", "--tls-cert", "certs/caller.crt"]).refused(2);
    assert!(err.contains("--tls-key"), "{err}");
}
