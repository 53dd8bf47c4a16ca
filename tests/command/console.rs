//! The console as an operator sees it, in a real browser: with every right, with some, with none, by day and by night, and when the node
//! is gone.

use std::io::{Read, Write};
use std::path::Path;

use rustix::process::Signal;

use super::browser::Browser;
use super::support::{SERVE, Server, florin_behind, folder_with_ledger, run, tamper, write};

/// A caller's token.
fn token(folder: &Path, name: &str, may: &str) -> String {
    run(folder, &["principal", "add", name, "--may", may]).ok().trim().to_owned()
}

#[test]
fn the_console_shows_each_what_it_may_see() {
    let Some(mut browser) = Browser::start() else {
        println!(
            "skipped: the_console_shows_each_what_it_may_see needs a browser (apt-get install chromium)"
        );
        return;
    };
    let folder = folder_with_ledger();
    let folder = folder.path();
    let watcher = token(folder, "watcher", "metrics");
    let operator = token(folder, "operator", "metrics,balance,statistics,admin");
    let more = ["--shards", "1", "--principals", "principals.toml", "--audit-log", "audit.jsonl"];
    let more = [&more[..], &["--checkpoint", "checkpoints", "--audit", "50%"]].concat();
    let server = Server::start(folder, &more);
    let url = format!("http://{}/", server.admin);

    // Nobody in particular: whether the node is ready, and how to see more.
    browser.open(&url);
    browser.wait_for_text("#trouble", "token");
    browser.wait_for_text("#state", "ready");
    assert_eq!(browser.value("document.body.dataset.shown"), "0");

    // Numbers, and nobody's data.
    browser.send("#token", &watcher);
    browser.wait_for_text("#shards tbody tr", "127.0.0.1:");
    browser.wait_for_text("#said", "node: ready");
    browser.wait_for_text("#said", "checkpoint:");
    browser.wait_for_text("#said", "audit:");
    browser.wait_for_text("#accounts", "2");
    browser.wait_for_text("#callers", "watcher");
    browser.wait_for_text("#rate .u-legend", "shard 0");
    browser.wait_for_text("#refusals-none", "admin: this caller may not");
    browser.send("#user", "1");
    browser.wait_for_text("#found", "balance: this caller may not");
    browser.wait_for_text("#found", "statistics: this caller may not");

    // Everything. The page has forgotten the token by then.
    browser.open(&url);
    browser.wait_for_text("#trouble", "token");
    browser.send("#token", &operator);
    browser.wait_for_text("#refusals", "watcher, 127.0.0.1");
    browser.wait_for_text("#refusals", "GET /v1/users/{user}/balance: 403");
    // Who was refused for what its request says is one of them, and the list grows while somebody looks.
    let mut stranger = std::net::TcpStream::connect(server.admin).unwrap();
    write!(stranger, "GET /v1/activity HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\nAuthorization: Bearer {operator}\r\n\r\n")
        .unwrap();
    stranger.read_to_end(&mut Vec::new()).unwrap();
    browser.wait_for_text("#refusals", "GET /v1/activity: 421");
    browser.wait_for_text("#refusals", "--admin-host names further ones");
    browser.send("#user", "1");
    browser.wait_for_text("#found", &format!("balance at version 2 on shard 0 of {}", server.admin));
    browser.wait_for_text("#found", "1,200");
    browser.wait_for_text("#found", "30d");
    browser.send("#user", "77");
    browser.wait_for_text("#found", "the ledger has never named this user");
    browser.send("#user", "<b>x");
    let refused = browser.wait_for_text("#found", "user_id: expected 0 to");
    assert!(refused.contains("<b>x"), "what was typed is text: {refused}");

    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        let paper = browser.value("getComputedStyle(document.body).backgroundColor");
        assert_eq!(paper, if scheme == "light" { "rgb(246, 247, 249)" } else { "rgb(15, 18, 21)" });
        let picture = browser.picture();
        assert!(picture.starts_with(b"\x89PNG\r\n") && picture.len() > 20_000, "{} bytes", picture.len());
    }

    // A node that ends says so itself: a page that looks on does not keep it.
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
    browser.wait_for_text("#state", "no answer");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    let log = std::fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    assert!(log.contains("/v1/users/{user}/balance") && !log.contains("/v1/users/1/"), "{log}");
    // Nor is what was typed for an id, whatever the refusal of it says.
    assert!(!log.contains("<b>x"), "{log}");
    // Whoever may not know who was refused is refused once, and not for as long as it looks.
    assert_eq!(log.matches("GET /v1/refusals\",\"outcome\":\"403\"").count(), 1, "{log}");
    // A look at the refusals is written down, and so there is none while there are no more of them.
    let looks = log.matches("GET /v1/refusals\",\"outcome\":\"200\"").count();
    assert!((1..=4).contains(&looks), "{looks}: {log}");
    for secret in [&watcher, &operator] {
        assert!(!log.contains(secret.as_str()));
    }
}

/// What an operator is to see at first look: an account whose history has a hole, and a setting that is not as `florin tune` left it. The
/// journal that says so is in a `/run` of the node's own, and the host is only read.
#[test]
fn the_console_shows_what_is_not_as_it_should_be() {
    let folder = folder_with_ledger();
    let folder = folder.path();
    let third = "transaction_id,user_id,asset,kind,amount,occurred_at\n\
                 00000000-0000-4000-8000-000000000004,1,COIN,recharge,5,2026-11-22T10:00:00Z\n";
    write(folder, "third.csv", third);
    run(folder, &["import", "third.csv"]).ok();
    tamper(&folder.join("florin.db"), "DELETE FROM transactions WHERE user_id = 1 AND version = 2");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let setting = r#"{"set":{"path":"/proc/sys/net/core/somaxconn","was":"9","value":"7","knob":"backlog"}}"#;
    write(folder, "journal", &format!("{{\"boot\":\"{}\"}}\n{setting}\n", boot.trim()));
    let own = "mount -t tmpfs tmpfs /run && mkdir /run/florin-tune && cp journal /run/florin-tune/";
    let (Some(mut browser), Some(command)) = (Browser::start(), florin_behind(own, folder, &SERVE)) else {
        println!("skipped: the_console_shows_what_is_not_as_it_should_be");
        return;
    };
    let server = Server::spawn(command);
    browser.open(&format!("http://{}/", server.admin));
    browser.wait_for_text("#said", "ledger: 1 account in quarantine");
    let found = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let drift =
        format!("drift: /proc/sys/net/core/somaxconn: wanted 7, found {} (tuning/backlog.md)", found.trim());
    browser.wait_for_text("#said", &format!("tuning: {drift}"));
    browser.wait_for_text("#shards .fault", "1");
    browser.send("#user", "1");
    browser.wait_for_text("#found .fault", "quarantined: its history is known to be incomplete");
    browser.wait_for_text("#found .fault", "and stays so until the ledger is mended");
    browser.send("#user", "2");
    browser.wait_for_text("#found", "balance at version 1");
    assert_eq!(browser.text("#found .fault"), "");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
