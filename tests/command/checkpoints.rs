//! Checkpoints as an operator has them: a flag, a command, a restart.

use rustix::process::Signal;

use crate::support::{Server, folder_with_ledger, get, run, run_with_input, transaction, wait_for};

const KEEPS: [&str; 6] =
    ["--checkpoint", "checkpoints", "--checkpoint-every-s", "off", "--checkpoint-at-exit", "off"];

#[test]
fn a_node_makes_checkpoints_and_starts_from_the_newest() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &[&KEEPS[..], &["--shards", "1"]].concat());
    let admin = server.admin.to_string();
    let metric = |server: &Server, name: &str| {
        let page = get(server.admin, "/metrics");
        let value =
            page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or(-1.0)
    };
    // One is made as soon as there is something to keep.
    wait_for("the first", || (metric(&server, "florin_checkpoints_total") >= 1.0).then_some(()));
    run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(1, 7, "10")).ok();
    let made = run(folder.path(), &["checkpoint", "--admin", &admin]).ok();
    assert!(made.contains("checkpoint-000000000002: 3 accounts"), "{made}");
    assert!(get(server.admin, "/v1/checkpoint").contains(r#""accounts":"3""#));
    assert!(metric(&server, "florin_checkpoint_age_seconds") >= 0.0);
    // Acknowledged, and in no checkpoint.
    run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(2, 7, "5")).ok();
    server.signal(Signal::KILL);
    server.ended();

    let server =
        Server::start(folder.path(), &[&KEEPS[..], &["--shards", "3", "--shards-per-cpu", "3"]].concat());
    assert_eq!(metric(&server, "florin_restored_accounts"), 3.0);
    let balance = run(folder.path(), &["get", "balance", "7", "--addr", &server.addr()]).ok();
    assert!(balance.starts_with("user 7, version 2"), "{balance}");
    assert!(get(server.admin, "/readyz").starts_with("HTTP/1.1 200"));
    drop(server);

    let list = run(folder.path(), &["checkpoint", "list", "checkpoints"]).ok();
    assert!(list.lines().count() == 3 && list.contains("checkpoint-000000000002"), "{list}");
    let verified = run(folder.path(), &["checkpoint", "verify", "checkpoints"]).ok();
    assert!(verified.contains("checkpoint-000000000002: whole, 3 accounts"), "{verified}");
    let newest = "checkpoints/checkpoint-000000000002";
    let inspected = run(folder.path(), &["checkpoint", "inspect", newest]).ok();
    assert!(inspected.contains("3, 0 of them incomplete") && inspected.contains("sqlite "), "{inspected}");
    let account = run(folder.path(), &["checkpoint", "inspect", newest, "--user", "1"]).ok();
    assert!(account.starts_with("user 1, version 2") && account.contains("1,200"), "{account}");

    // A flipped bit: said offline, and by the node, which starts from the one before.
    let section = folder.path().join(newest).join("section-0");
    let mut bytes = std::fs::read(&section).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&section, bytes).unwrap();
    let found = run(folder.path(), &["checkpoint", "verify", "checkpoints"]);
    assert!(found.out.contains("is damaged"), "{found:?}");
    assert!(found.refused(1).contains("1 of 2 checkpoints cannot be loaded"));
    let server = Server::start(folder.path(), &KEEPS);
    assert_eq!(metric(&server, "florin_restored_accounts"), 2.0);
    assert_eq!(metric(&server, "florin_checkpoint_refused"), 1.0);
    assert!(get(server.admin, "/readyz").contains("is damaged"));
}

#[test]
fn a_node_that_is_asked_to_makes_a_last_checkpoint() {
    let folder = folder_with_ledger();
    let keeps = ["--checkpoint", "checkpoints", "--checkpoint-at-exit", "on"];
    let server = Server::start(folder.path(), &keeps);
    let admin = server.admin.to_string();
    run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(1, 8, "10")).ok();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
    let verified = run(folder.path(), &["checkpoint", "verify", "checkpoints"]).ok();
    assert!(
        verified.lines().next().is_some_and(|newest| newest.ends_with("whole, 3 accounts")),
        "{verified}"
    );
}

#[test]
fn a_node_without_checkpoints_says_so() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &[]);
    let refused = run(folder.path(), &["checkpoint", "--admin", &server.admin.to_string()]).refused(1);
    assert!(refused.contains("--checkpoint DIR"), "{refused}");
    let nothing = run(folder.path(), &["checkpoint", "list", "."]).refused(1);
    assert!(nothing.contains("holds no checkpoint"), "{nothing}");
}

/// A node that follows a PostgreSQL was killed, and its next process found the slot still in use by the connection of the last: the
/// checkpoint was refused for what passes by itself.
#[cfg(feature = "postgres")]
#[test]
fn a_node_that_is_killed_goes_on_in_a_postgresql_from_its_checkpoint() {
    let postgres = crate::postgres::Server::start();
    postgres.sql(
        "CREATE TABLE transactions (transaction_id TEXT NOT NULL, user_id BIGINT NOT NULL, version BIGINT NOT NULL, asset TEXT NOT NULL, \
         kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL, UNIQUE (user_id, version)); \
         ALTER TABLE transactions REPLICA IDENTITY FULL",
    );
    let add = |first: u32, last: u32| {
        postgres.sql(&format!(
            "INSERT INTO transactions SELECT gen_random_uuid()::text, i % 7, i / 7 + 1, 'COIN', 1, 10, i FROM generate_series({first}, {last}) i"
        ));
    };
    add(0, 699);
    let folder = folder_with_ledger();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=killed", postgres.port);
    let started = |shards: &str| {
        Server::start(
            folder.path(),
            &[&KEEPS[..], &["--ledger", &url, "--shards", shards, "--shards-per-cpu", "3"]].concat(),
        )
    };
    let metrics = |server: &Server| get(server.admin, "/metrics");
    let mut server = started("2");
    wait_for("a checkpoint", || metrics(&server).contains("\nflorin_checkpoints_total 1").then_some(()));
    for round in 0..3 {
        add(700 + round * 70, 734 + round * 70);
        server.signal(Signal::KILL);
        server.ended();
        add(735 + round * 70, 769 + round * 70);
        let restarted = started(if round == 1 { "3" } else { "1" });
        let told = metrics(&restarted);
        assert!(told.contains("\nflorin_restored_accounts 7"), "{told}");
        let balance = run(folder.path(), &["get", "balance", "3", "--addr", &restarted.addr()]).ok();
        let version = 110 + round * 10;
        assert!(balance.starts_with(&format!("user 3, version {version}")), "{balance}");
        server = restarted;
    }
}
