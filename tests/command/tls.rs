//! TLS with what `florin tls init` makes: the commands, whom they trust, what they show, and what they say where either is missing; and
//! callers that nobody of this project has written.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

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
                "2",
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
        assert!(err.contains("asks for a certificate: give one (--tls-cert, --tls-key)"), "{err}");
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
    // Who has not come to terms by TLS has sent nothing, and is not told that lines may have entered.
    write(node.at(), "lines.jsonl", &transaction(1, 1, "\"5\""));
    for refused in [&["--tls-ca", "other/ca.crt"][..], &["--tls-ca", "certs/ca.crt"]] {
        let err = run(node.at(), &[&["apply", "lines.jsonl", "--admin", &node.admin()], refused].concat())
            .refused(1);
        assert!(err.contains("nothing of line 1") && !err.contains("may or may not"), "{err}");
    }
    // A caller's key is its own too.
    let key = node.at().join("other/caller.key");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let err = node.get(&["balance", "1"], &other).refused(1);
    assert!(err.contains("other/caller.key") && err.contains("chmod 600"), "{err}");
    let err = run(node.at(), &["get", "balance", "1", "--tls-cert", "certs/caller.crt"]).refused(2);
    assert!(err.contains("--tls-key"), "{err}");
}

/// Programs that nobody of this project has written.
fn openssl(node: &Secure, port: SocketAddr, more: &[&str], input: &str) -> Ended {
    let at = format!("localhost:{}", port.port());
    let known = [
        "s_client",
        "-connect",
        &at,
        "-CAfile",
        "certs/ca.crt",
        "-verify_return_error",
        "-cert",
        "certs/caller.crt",
        "-key",
        "certs/caller.key",
        "-ign_eof",
    ];
    let mut command = Command::new("openssl");
    command.args([&known[..], more].concat()).current_dir(node.at());
    end(command, input)
}

const ASK: &str = "GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";

#[test]
fn openssls_client_is_answered_by_what_is_safe_alone() {
    let node = Secure::start();
    let port = node.server.tls.unwrap();
    let answered = |more: &[&str]| {
        let ended = openssl(&node, port, more, ASK);
        assert!(ended.out.contains("\"1200\"") == (ended.code == Some(0)), "{more:?}: {ended:?}");
        ended
    };
    for safe in [
        &[][..],
        &["-groups", "X25519"],
        &["-groups", "P-256"],
        &["-groups", "P-384"],
        &["-alpn", "florin"],
        &["-alpn", "h2,http/1.1"],
        &["-max_send_frag", "512", "-split_send_frag", "512"],
    ] {
        let ended = answered(safe);
        let out = &ended.out;
        assert!(out.contains("TLSv1.3") && out.contains("\"1200\""), "{safe:?}: {ended:?}");
        assert!(out.contains("Compression: NONE") && out.contains("Early data was not sent"), "{out}");
    }
    for unsafe_or_unknown in [
        &["-tls1"][..],
        &["-tls1_1"],
        &["-tls1_2"],
        &["-no_tls1_3"],
        &["-groups", "P-521"],
        &["-groups", "ffdhe2048"],
        &["-ciphersuites", "TLS_AES_128_CCM_8_SHA256"],
        &["-sigalgs", "RSA-PSS+SHA256"],
        &["-alpn", "h2"],
    ] {
        assert_ne!(answered(unsafe_or_unknown).code, Some(0), "{unsafe_or_unknown:?}");
    }
    let ended = openssl(&node, port, &["-tls1_2"], ASK);
    assert!(ended.err.contains("protocol version"), "{ended:?}");
    // Nobody is disturbed by any of it.
    assert!(node.get(&["balance", "1"], &KNOWN).ok().contains("1,200"));
}

/// A ticket of one shard is good for another; what is sent before the handshake's end is never taken.
#[test]
fn openssls_tickets_are_good_on_every_shard_and_for_no_early_data() {
    let node = Secure::start();
    let [first, second] = [node.server.tls_shards[0], node.server.tls_shards[1]];
    let full = openssl(&node, first, &["-sess_out", "ticket"], ASK);
    assert!(full.out.contains("New, TLSv1.3") && full.out.contains("\"1200\""), "{full:?}");
    let again = openssl(&node, second, &["-sess_in", "ticket"], ASK);
    assert!(again.out.contains("Reused, TLSv1.3") && again.out.contains("\"1200\""), "{again:?}");
    write(node.at(), "early", ASK);
    let early = openssl(&node, second, &["-sess_in", "ticket", "-early_data", "early"], ASK);
    assert!(!early.out.contains("Early data was accepted"), "{early:?}");
    // A ticket is no certificate's place on a node whose authorities are others.
    let other = Secure::start();
    let foreign = openssl(
        &other,
        other.server.tls.unwrap(),
        &["-sess_in", &node.at().join("ticket").display().to_string()],
        ASK,
    );
    assert!(!foreign.out.contains("Reused"), "{foreign:?}");
}

#[test]
fn curl_and_redis_cli_come_by_tls_with_certificates() {
    let node = Secure::start();
    let port = node.server.tls.unwrap().port().to_string();
    let url = format!("https://localhost:{port}/v1/users/1/balance");
    let curl = |more: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--cacert", "certs/ca.crt"]).args(more).current_dir(node.at());
        end(command, "")
    };
    let shows = ["--cert", "certs/caller.crt", "--key", "certs/caller.key"];
    let known = |more: &[&str]| curl(&[&shows[..], more].concat());
    assert!(known(&["--fail", &url]).ok().contains("\"1200\""));
    // HTTP/2 is offered, and not taken.
    assert!(known(&["--fail", "--http2", "-o", "/dev/null", "-w", "%{http_version}", &url]).ok() == "1.1");
    assert_eq!(
        known(&["-o", "/dev/null", "-w", "%{http_code}", &url.replace("balance", "statistics")]).ok(),
        "403"
    );
    let admin = format!("https://localhost:{}/metrics", node.server.tls_admin.unwrap().port());
    assert_eq!(known(&["-o", "/dev/null", "-w", "%{http_code}", &admin]).ok(), "403");
    let token = format!("Authorization: Bearer {}", node.token);
    assert_eq!(known(&["-H", &token, "-o", "/dev/null", "-w", "%{http_code}", &url]).ok(), "403");
    for refused in [&["--tls-max", "1.2", &url][..], &["--cacert", "other/ca.crt", &url]] {
        assert_ne!(known(refused).code, Some(0), "{refused:?}");
    }
    assert_ne!(curl(&[&url]).code, Some(0), "without a certificate");
    let other = curl(&["--cert", "other/caller.crt", "--key", "other/caller.key", &url]);
    assert_ne!(other.code, Some(0), "a foreign certificate");

    let mut cli = Command::new("redis-cli");
    cli.args(["--tls", "--sni", "localhost", "--cacert", "certs/ca.crt", "-p", &port]).args(shows);
    cli.args(["GET", "balance:1"]).current_dir(node.at());
    assert!(end(cli, "").ok().contains("\"1200\""));
}

/// `florin config check` said that a file can be used whose certificates no node could start with.
#[test]
fn a_configuration_is_checked_with_the_files_that_it_names() {
    let folder = folder_with_ledger();
    let at = folder.path();
    run(at, &["tls", "init", "certs"]).ok();
    run(at, &["tls", "init", "other"]).ok();
    run(at, &["principal", "add", "a", "--may", "balance"]).ok();
    let settings = [
        ("tls-listen", "127.0.0.1:0"),
        ("tls-cert", "certs/node.crt"),
        ("tls-key", "certs/node.key"),
        ("tls-client-ca", "certs/ca.crt"),
        ("principals", "principals.toml"),
    ];
    let check = |changed: &str, value: &str| {
        let value_of = |name: &str, value: &str| format!("{name} = \"{value}\"\n");
        let lines =
            settings.iter().map(|&(name, usual)| value_of(name, if name == changed { value } else { usual }));
        write(at, "florin.toml", &lines.collect::<String>());
        run(at, &["config", "check"])
    };
    let said = check("", "");
    assert!(said.err.is_empty() && said.ok().contains("the certificate of --tls-cert ends in 36"));
    write(at, "empty.crt", "");
    write(at, "wrong.toml", "[[principal]]\nname = 1\n");
    for (changed, value, expected) in [
        ("tls-cert", "nowhere.crt", "--tls-cert nowhere.crt"),
        ("tls-cert", "empty.crt", "no certificate"),
        ("tls-cert", "certs/node.key", "--tls-cert certs/node.key"),
        ("tls-key", "certs/node.crt", "--tls-key certs/node.crt"),
        ("tls-key", "other/node.key", "--tls-cert certs/node.crt and --tls-key other/node.key"),
        ("tls-client-ca", "certs/ca.key", "--tls-client-ca certs/ca.key"),
        ("principals", "nowhere.toml", "nowhere.toml"),
        ("principals", "wrong.toml", "line 2: name"),
    ] {
        let err = check(changed, value).refused(2);
        assert!(err.contains(expected), "{changed} = {value}: {err}");
    }
    // Who may write the authorities may make a certificate in anybody's name.
    let mode = |name: &str, mode| {
        std::fs::set_permissions(at.join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode("certs/ca.crt", 0o666);
    let err = check("", "").refused(2);
    assert!(err.contains("--tls-client-ca certs/ca.crt") && err.contains("chmod go-w"), "{err}");
    mode("certs/ca.crt", 0o644);
    check("", "").ok();
    // A key that everybody may read is nobody's proof.
    std::fs::set_permissions(at.join("certs/node.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let err = check("", "").refused(2);
    assert!(err.contains("--tls-key certs/node.key") && err.contains("chmod 600"), "{err}");
}

/// Whoever asked for TLS and got another driver would have been listened to by nobody.
#[test]
fn a_driver_that_does_not_know_tls_is_refused() {
    let folder = folder_with_ledger();
    run(folder.path(), &["tls", "init", "certs"]).ok();
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--shard-listen", "off", "--admin", "off", "--shards", "1"];
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", "certs/node.crt", "--tls-key", "certs/node.key"];
    let drivers = [
        ("monoio", cfg!(feature = "monoio")),
        ("monoio-epoll", cfg!(feature = "monoio")),
        ("glommio", cfg!(feature = "glommio")),
    ];
    for (driver, _) in drivers.iter().filter(|(_, is_built)| *is_built) {
        let err = run(folder.path(), &[&serve[..], &tls, &["--driver", driver]].concat()).refused(2);
        assert!(err.contains("--tls-listen") && err.contains("ring driver"), "{driver}: {err}");
    }
}
