//! From nothing to tokens, as `florin principal --help` has it: who may ask, who may not, what is written down of it, and that no
//! secret is in anything that anybody sees.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

use super::support::{Server, end, florin, folder_with_ledger, get, run, transaction, wait_for, write};

/// Its token.
fn add(folder: &Path, name: &str, may: &str) -> String {
    let arguments = ["principal", "add", name, "--may", may];
    let arguments = if may.is_empty() { &arguments[..3] } else { &arguments[..] };
    run(folder, arguments).ok().trim().to_owned()
}

fn with_token(folder: &Path, arguments: &[&str], token: &str) -> super::support::Ended {
    let mut command = florin(folder, arguments);
    command.env("FLORIN_TOKEN", token);
    end(command, "")
}

/// As Prometheus would ask, with a token.
fn metrics(admin: SocketAddr, token: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn who_may_ask_does_and_who_may_not_is_told_what_is_missing() {
    let folder = folder_with_ledger();
    let folder = folder.path();
    let reader = add(folder, "reader", "balance");
    let writer = add(folder, "writer", "write");
    let list = run(folder, &["principal", "list"]).ok();
    assert!(list.contains("reader") && !list.contains(&reader), "{list}");
    run(folder, &["principal", "check"]).ok();
    let server = Server::start(folder, &["--principals", "principals.toml", "--shards", "1"]);
    let addr = server.addr();
    let balance = ["get", "balance", "1", "--addr", &addr];

    let err = run(folder, &balance).refused(1);
    assert!(err.contains("unauthenticated") && err.contains("token"), "{err}");
    assert!(with_token(folder, &balance, &reader).ok().contains("1,200"));
    let file = write(folder, "token", &format!("{reader}\n"));
    let by_file = [&balance[..], &["--token-file", "token"]].concat();
    let err = run(folder, &by_file).refused(1);
    assert!(err.contains("chmod 600"), "{err}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(run(folder, &by_file).ok().contains("1,200"));
    assert!(run(folder, &[&by_file[..], &["--json"]].concat()).ok().contains("\"1200\""));
    let err = with_token(folder, &["get", "statistics", "1", "--addr", &addr], &reader).refused(1);
    assert!(err.contains("permission denied") && err.contains("statistics"), "{err}");

    let admin = server.admin.to_string();
    write(folder, "lines.jsonl", &transaction(1, 1, "\"5\""));
    let apply = ["apply", "lines.jsonl", "--admin", &admin];
    let err = run(folder, &apply).refused(1);
    assert!(err.contains("401"), "{err}");
    let err = with_token(folder, &apply, &reader).refused(1);
    assert!(err.contains("403") && err.contains("write"), "{err}");
    with_token(folder, &apply, &writer).ok();
    assert!(get(server.admin, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(server.admin, "/metrics").starts_with("HTTP/1.1 401"));
}

/// A token is replaced while its owner asks without a pause: both are good for a while, and then the old one is not.
#[test]
fn a_token_is_replaced_without_a_lost_request() {
    let folder = folder_with_ledger();
    let folder = folder.path();
    let old = add(folder, "reader", "balance");
    let server = Server::start(folder, &["--principals", "principals.toml", "--shards", "1"]);
    let addr = server.addr();
    let balance = ["get", "balance", "1", "--addr", &addr];
    let new = add(folder, "reader", "");
    assert!(with_token(folder, &balance, &new).code == Some(1), "not before it is read");
    server.signal(Signal::HUP);
    wait_for("the new token is good", || {
        with_token(folder, &balance, &old).ok();
        (with_token(folder, &balance, &new).code == Some(0)).then_some(())
    });
    let path = folder.join("principals.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // The newest stands first.
    let (kept, _) = text.split_once("\", \"").unwrap();
    std::fs::write(&path, format!("{kept}\"]\n")).unwrap();
    server.signal(Signal::HUP);
    wait_for("the old token is no good", || {
        with_token(folder, &balance, &new).ok();
        (with_token(folder, &balance, &old).code == Some(1)).then_some(())
    });
}

/// Every output of a node and of the commands that ask it is searched for what nobody may see: tokens, and the key that signs some.
#[test]
fn no_secret_is_in_anything_that_is_shown() {
    let folder = folder_with_ledger();
    let folder = folder.path();
    let token = add(folder, "everything", "balance,statistics,batch,metrics,write,admin");
    let key = "planted-key-of-enough-bytes-to-be-one-0123456789";
    let path = write(folder, "key", key);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let principals = std::fs::read_to_string(folder.join("principals.toml")).unwrap();
    let text = format!("[[key]]\nkid = \"k1\"\nsecret = \"file:{}\"\n{principals}", path.display());
    write(folder, "principals.toml", &text);
    run(folder, &["tls", "init", "certs"]).ok();
    let signed = run(folder, &["principal", "sign", "everything", "--kid", "k1"]).ok().trim().to_owned();
    write(
        folder,
        "florin.toml",
        "principals = \"principals.toml\"\naudit-log = \"audit.jsonl\"\nlog = \"trace\"\nshards = 1\n\
         tls-listen = \"127.0.0.1:0\"\ntls-admin = \"127.0.0.1:0\"\ntls-client-ca = \"certs/ca.crt\"\n\
         tls-cert = \"certs/node.crt\"\ntls-key = \"certs/node.key\"\n",
    );

    let mut command = florin(folder, &["serve", "--config", "florin.toml", "--listen", "127.0.0.1:0"]);
    command.args(["--shard-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.stderr(std::fs::File::create(folder.join("log")).unwrap());
    let server = Server::spawn(command);
    let (addr, admin) = (server.addr(), server.admin.to_string());
    let secure = format!("florins://localhost:{}", server.tls.unwrap().port());
    let secure_admin = format!("florins://localhost:{}", server.tls_admin.unwrap().port());
    let known =
        ["--tls-ca", "certs/ca.crt", "--tls-cert", "certs/caller.crt", "--tls-key", "certs/caller.key"];
    // One who confuses the files is told which, and not what is in it.
    let confused =
        ["--tls-ca", "certs/caller.key", "--tls-cert", "certs/caller.key", "--tls-key", "certs/ca.crt"];
    let mut shown = vec![
        run(folder, &["config", "check", "--config", "florin.toml"]).ok(),
        run(folder, &["principal", "list"]).ok(),
        run(folder, &["principal", "check"]).ok(),
    ];
    write(folder, "lines.jsonl", &transaction(1, 1, "\"5\""));
    for (token, wrong) in [(&token, "x"), (&signed, "y")] {
        for arguments in [
            &["get", "balance", "1", "--addr", &addr][..],
            &["get", "balance", "1", "--addr", &addr, "--json"],
            &["apply", "lines.jsonl", "--admin", &admin],
            &["checkpoint", "--admin", &admin],
            &[&["get", "balance", "1", "--addr", &secure], &known[..]].concat(),
            &[&["get", "balance", "1", "--addr", &secure, "--json"], &known[..]].concat(),
            &[&["get", "balance", "1", "--addr", &secure], &confused[..]].concat(),
            &[&["get", "balance", "1", "--addr", &addr], &known[..]].concat(),
            &[&["apply", "lines.jsonl", "--admin", &secure_admin], &known[..]].concat(),
        ] {
            // Right, and almost right: what is refused is not repeated.
            for token in [token.clone(), format!("{token}{wrong}")] {
                let ended = with_token(folder, arguments, &token);
                shown.extend([ended.out, ended.err]);
            }
        }
        shown.push(metrics(server.admin, token));
        shown.push(metrics(server.admin, &format!("{token}{wrong}")));
    }
    // Files that are read again and cannot be used: a key in the certificate's place, and a token in its hash's.
    let principals = std::fs::read_to_string(folder.join("principals.toml")).unwrap();
    let certificate = std::fs::read_to_string(folder.join("certs/node.crt")).unwrap();
    let private = std::fs::read_to_string(folder.join("certs/node.key")).unwrap();
    write(folder, "certs/node.crt", &private);
    write(folder, "principals.toml", &principals.replacen("sha256:", &token, 1));
    for command in [&["principal", "check"][..], &["principal", "list"], &["config", "check"]] {
        let ended = run(folder, command);
        shown.extend([ended.out, ended.err]);
    }
    server.signal(Signal::HUP);
    wait_for("the log of both refusals", || {
        let log = std::fs::read_to_string(folder.join("log")).ok()?;
        (log.contains("--tls-cert") && log.contains("principals.toml")).then_some(())
    });
    write(folder, "certs/node.crt", &certificate);
    write(folder, "principals.toml", &principals);
    server.signal(Signal::HUP);
    wait_for("the audit log", || {
        let audit = std::fs::read_to_string(folder.join("audit.jsonl")).ok()?;
        let is_whole = audit.contains("POST /v1/transactions")
            && audit.contains("\"outcome\":\"401\"")
            && audit.contains("Hello");
        is_whole.then_some(())
    });
    let process = format!("/proc/{}", server.id());
    for file in ["cmdline", "comm", "environ"] {
        shown
            .push(String::from_utf8_lossy(&std::fs::read(format!("{process}/{file}")).unwrap()).into_owned());
    }
    server.signal(Signal::TERM);
    let (_, out) = server.ended();
    shown.push(out);
    for name in ["log", "audit.jsonl", "principals.toml", "florin.toml"] {
        shown.push(std::fs::read_to_string(folder.join(name)).unwrap());
    }
    let (mac, random) = (signed.rsplit('.').next().unwrap(), token.trim_start_matches("florin_"));
    // The middle line of each private key.
    let private_keys = ["node.key", "caller.key", "ca.key"].map(|name| {
        let key = std::fs::read_to_string(folder.join("certs").join(name)).unwrap();
        key.lines().nth(1).unwrap().to_owned()
    });
    for text in &shown {
        for secret in [random, mac, key].into_iter().chain(private_keys.iter().map(String::as_str)) {
            assert!(!text.contains(secret), "{secret} is shown: {text}");
        }
    }
}

/// The first message named the file as it had been given, the second by a path from the root on.
#[test]
fn the_file_is_named_as_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let added = run(folder.path(), &["principal", "add", name, "--may", "balance"]);
        assert!(added.err.contains(&format!("{name} stands in principals.toml; ")), "{added:?}");
    }
    let refused = run(folder.path(), &["principal", "add", "c d", "--may", "balance"]).refused(1);
    assert!(refused.contains("florin: principals.toml: "), "{refused}");
}
