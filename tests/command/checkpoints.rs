//! Checkpoints as an operator has them: a flag, a command, a restart.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{
    SERVE, Server, florin_behind, folder_with_ledger, get, run, run_with_input, transaction, wait_for,
};

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

/// One request to the admin port, sent; whoever wants its answer reads it.
fn post(admin: SocketAddr, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(admin).expect("somebody listens");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .expect("a connection");
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("florin writes UTF-8");
    answer
}

fn folder_with_platform(users: &str, transactions: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    run(folder.path(), &["generate", "--users", users, "--transactions", transactions]).ok();
    folder
}

/// The node is killed at any moment of a checkpoint: before it begins, while accounts are copied, while it is published, after.
/// Whatever was acknowledged is there after the restart, and whatever is there of checkpoints is whole. `FLORIN_KILLS` of them
/// instead of ten; with a hundred, 1,500 transactions.
#[test]
fn what_was_acknowledged_is_there_after_a_kill_at_any_moment_of_a_checkpoint() {
    let kills =
        std::env::var("FLORIN_KILLS").map_or(10, |kills| kills.parse().expect("FLORIN_KILLS is a number"));
    let folder = folder_with_platform("3000", "12000");
    // Named by nobody else.
    let (user, mut acknowledged, mut from_checkpoints) = (999_999_999, 0, 0);
    for kill in 0..kills {
        let shards = (1 + kill % 3).to_string();
        let server = Server::start(
            folder.path(),
            &[&KEEPS[..], &["--shards", &shards, "--shards-per-cpu", "3"]].concat(),
        );
        from_checkpoints +=
            u32::from(!get(server.admin, "/metrics").contains("\nflorin_restored_accounts 0\n"));
        if acknowledged > 0 {
            let balance = get(server.any, &format!("/v1/users/{user}/balance"));
            assert!(balance.contains(&format!(r#""version":"{acknowledged}""#)), "{acknowledged}: {balance}");
        }
        // The more of them come before the end, the further the checkpoint is by then.
        let asked = post(server.admin, "/v1/checkpoint", "");
        for _ in 0..kill * 7 % 31 {
            acknowledged += 1;
            let body = format!(r#"{{"transactions":[{}]}}"#, transaction(acknowledged, user, "1"));
            let answer = answer(post(server.admin, "/v1/transactions", &body));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // One has its time, so that from then on there is always one to start from.
        if kill == 1 {
            let made = answer(asked);
            assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        }
        server.signal(Signal::KILL);
        server.ended();
        let found = run(folder.path(), &["checkpoint", "verify", "checkpoints"]);
        assert!(found.code == Some(0) || found.err.contains("holds no checkpoint"), "{found:?}");
    }
    assert!(from_checkpoints >= kills - 2, "{from_checkpoints} of {kills} started from a checkpoint");
}

/// A disk that is full costs a checkpoint and nothing else: the one before stays, and is what the next start begins with.
#[test]
fn a_full_disk_costs_a_checkpoint_and_nothing_else() {
    let folder = folder_with_platform("500", "4000");
    std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
    // Room for one of some 130 KiB, and not for two.
    let small = "mount -t tmpfs -o size=200k tmpfs checkpoints";
    let Some(command) = florin_behind(small, folder.path(), &[&SERVE[..], &KEEPS].concat()) else { return };
    let server = Server::spawn(command);
    let admin = server.admin.to_string();
    let made = |server: &Server| {
        let page = get(server.admin, "/metrics");
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.expect("a metric").parse::<u64>().expect("a number")
        };
        (value("florin_checkpoints_total"), value("florin_checkpoint_failures_total"))
    };
    wait_for("the first", || (made(&server).0 == 1).then_some(()));
    run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(1, 8, "10")).ok();
    let refused = run(folder.path(), &["checkpoint", "--admin", &admin]).refused(1);
    assert!(refused.contains("No space left on device") && refused.contains("cannot write to"), "{refused}");
    assert_eq!(made(&server), (1, 1));
    let balance = run(folder.path(), &["get", "balance", "8", "--addr", &server.addr()]).ok();
    assert!(balance.contains("10"), "{balance}");
    // What was not finished takes no room, and what was is whole.
    let pid = server.id();
    let seen = |more: &str| format!("nsenter --mount --target {pid} -- {more}");
    let listed = Command::new("sh")
        .args(["-c", &seen(&format!("ls -A {}/checkpoints", folder.path().display()))])
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), ["checkpoint-000000000001", "lock"]);
}

/// A node under strace, which has the calls that `inject` names fail on these paths, each with EIO as a broken disk has it.
fn start_with_a_broken_disk(folder: &TempDir, inject: &str, paths: &[&str]) -> Server {
    let checkpoints = folder.path().canonicalize().unwrap().join("checkpoints");
    let mut command = Command::new("strace");
    // The node stays this test's child, and is what a signal ends.
    command.args(["-D", "-f", "-qq", "-o/dev/null", "--seccomp-bpf"]);
    // No other call is stopped at.
    command.args(["-e", &format!("trace={inject}"), "-e", &format!("inject={inject}:error=EIO")]);
    for path in paths {
        command.arg("-P").arg(checkpoints.join(path));
    }
    command.arg(env!("CARGO_BIN_EXE_florin")).args(SERVE).args(&KEEPS[2..]).args(["--shards", "1"]);
    // Calls name files by it, and are told by their names.
    command.arg("--checkpoint").arg(&checkpoints);
    command.current_dir(folder.path()).stdin(Stdio::null());
    Server::spawn(command)
}

/// The disk fails at each step of a checkpoint: it costs that checkpoint, aloud; the one before stays, and is what the next start begins
/// with. And where it fails at reading the newest, the one before is loaded, with the reason.
#[test]
fn a_disk_that_fails_costs_a_checkpoint_and_nothing_else() {
    if Command::new("strace").arg("--version").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &[&KEEPS[..], &["--shards", "1"]].concat());
    wait_for("the first", || {
        get(server.admin, "/metrics").contains("\nflorin_checkpoints_total 1").then_some(())
    });
    drop(server);
    let making = ".making-000000000002";
    let section = format!("{making}/section-0");
    let manifest = format!("{making}/manifest");
    let mut number = 0;
    for (call, path) in [
        ("write", section.as_str()),
        ("fsync", &section),
        ("fsync", &manifest),
        ("fsync", making),
        ("rename", making),
    ] {
        number += 1;
        // From the first each time.
        let server = start_with_a_broken_disk(&folder, call, &[path]);
        let admin = server.admin.to_string();
        run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(number, 8, "10")).ok();
        let refused = answer(post(server.admin, "/v1/checkpoint", ""));
        // Where the machine is slow it is answered before it is known.
        let is_told = refused.contains("Input/output error") && refused.contains("cannot write to");
        assert!(is_told || refused.starts_with("HTTP/1.1 202"), "{call} {path}: {refused}");
        let metrics = wait_for("the failure", || {
            let metrics = get(server.admin, "/metrics");
            metrics.contains("\nflorin_checkpoint_failures_total 1\n").then_some(metrics)
        });
        wait_for("the new balance", || {
            let balance = get(server.any, &format!("/v1/users/8/balance?min_version={number}&wait_ms=1000"));
            balance.contains(&format!(r#""version":"{number}""#)).then_some(())
        });
        assert!(metrics.contains("\nflorin_restored_accounts 2\n"), "{call} {path}");
        let listed: Vec<_> = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().collect();
        assert_eq!(listed.len(), 2, "{call} {path}: {listed:?}");
    }

    let server = Server::start(folder.path(), &[&KEEPS[..], &["--shards", "1"]].concat());
    run(folder.path(), &["checkpoint", "--admin", &server.admin.to_string()]).ok();
    drop(server);
    let newest = "checkpoint-000000000002";
    for (call, path) in [("pread64", "section-0"), ("read", "manifest")] {
        let server = start_with_a_broken_disk(&folder, call, &[&format!("{newest}/{path}")]);
        let ready = get(server.admin, "/readyz");
        assert!(
            ready.starts_with("HTTP/1.1 200") && ready.contains("Input/output error"),
            "{call} {path}: {ready}"
        );
        assert!(
            get(server.admin, "/metrics").contains("\nflorin_restored_accounts 2\n"),
            "{call} {path}: the one before"
        );
        let balance = get(server.any, "/v1/users/8/balance");
        assert!(balance.contains(&format!(r#""version":"{number}""#)), "{call} {path}: {balance}");
    }
}
