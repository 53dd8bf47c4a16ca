//! What needs no running node.

use tempfile::TempDir;

use crate::support::{NOBODY, florin, folder_with_ledger, run, run_with_input, write};

#[test]
fn help_names_every_command_and_every_exit_code() {
    let folder = TempDir::new().unwrap();
    let help = run(folder.path(), &["--help"]).ok();
    for command in ["serve", "demo", "get", "apply", "import", "generate", "config"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing in\n{help}");
        assert!(run(folder.path(), &[command, "--help"]).ok().contains("Usage: "));
    }
    let serve = run(folder.path(), &["serve", "--help"]).ok();
    let flags = [
        "--config",
        "--ledger",
        "--listen",
        "--shard-listen",
        "--unix",
        "--admin",
        "--shards",
        "--cpus",
        "--driver",
        "--spin-us",
        "--now",
        "--max-staleness-ms",
        "--log",
    ];
    for flag in flags {
        assert!(serve.contains(flag), "{flag} is missing in\n{serve}");
    }
    for code in [0, 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18] {
        assert!(serve.contains(&format!("\n  {code:>2}  ")), "{code} is missing in\n{serve}");
    }
}

#[test]
fn a_flag_that_cannot_be_says_what_was_expected() {
    let folder = folder_with_ledger();
    for (arguments, expected) in [
        (&["serve", "--shards", "0"][..], "expected a number from 1 to 256, or auto"),
        (&["serve", "--ledger", "mysql:ledger"], "expected sqlite:PATH"),
        (&["serve", "--listen", "localhost"], "expected an IP address and a port"),
        (&["serve", "--cpus", "a"], "expected a list of CPU numbers"),
        (&["serve", "--driver", "epoll"], "expected auto, ring, monoio, monoio-epoll or glommio"),
        (&["serve", "--now", "soon"], "expected a time like"),
        (&["get", "balance", "-1"], "error: "),
        (&["get", "balance", "9223372036854775808"], "expected a whole number from 0 to 9223372036854775807"),
        (&["get", "statistics", "1", "--window", "1h"], "expected 24h, 7d, 30d or lifetime"),
        (&["get", "balances"], "required"),
        (&["get", "balance", "1", "--addr", "nowhere"], "expected one node's address: host:port"),
        (&["generate", "--users", "1"], "error: "),
        (&["nonsense"], "error: "),
    ] {
        let err = run(folder.path(), arguments).refused(2);
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn config_check_names_each_defect_with_its_line() {
    let folder = TempDir::new().unwrap();
    let err = run(folder.path(), &["config", "check"]).refused(2);
    assert!(err.contains("cannot read the configuration florin.toml"), "{err}");
    write(folder.path(), "florin.toml", "shards = 2\nlisen = \"127.0.0.1:1\"\ncpus = \"x\"\n");
    let err = run(folder.path(), &["config", "check"]).refused(2);
    assert!(err.contains("line 2: unknown key \"lisen\"") && err.contains("line 3: cpus: expected"), "{err}");
    let same = run(folder.path(), &["serve", "--config", "florin.toml"]).refused(2);
    assert_eq!(same, err, "serve reads the file as check does");
    write(folder.path(), "good.toml", "ledger = \"sqlite:x.db\"\nshards = \"auto\"\n");
    let out = run(folder.path(), &["config", "check", "--config", "good.toml"]).ok();
    assert_eq!(out, "good.toml can be used\n");
}

#[test]
fn an_import_is_whole_or_nothing_and_twice_is_once() {
    let folder = folder_with_ledger();
    let again = run(folder.path(), &["import", "rows.csv"]).ok();
    assert!(
        again.contains("imported 0 transactions") && again.contains("3 were in the ledger already"),
        "{again}"
    );
    let rows = "transaction_id,user_id,asset,kind,amount,occurred_at\n\
                00000000-0000-4000-8000-000000000004,3,COIN,recharge,5,2026-11-20T10:00:00Z\n\
                00000000-0000-4000-8000-000000000005,3,COIN,recharge,-5,2026-11-20T10:00:00Z\n";
    write(folder.path(), "bad.csv", rows);
    let err = run(folder.path(), &["import", "bad.csv"]).refused(1);
    assert!(err.contains("bad.csv, line 3, column 5: amount: expected"), "{err}");
    let out = run(folder.path(), &["import", "bad.csv", "--skip-bad", "aside.csv"]).ok();
    assert!(
        out.contains("imported 1 transaction into") && out.contains("1 bad row is in aside.csv"),
        "{out}"
    );
    let piped = run_with_input(
        folder.path(),
        &["import", "-", "--ledger", "sqlite:piped.db"],
        &rows[..rows.len() - 80],
    );
    assert_eq!(piped.code, Some(1), "the second row is cut: {piped:?}");
    assert!(run(folder.path(), &["import", "nothing.csv"]).refused(1).contains("nothing.csv"));
}

#[test]
fn generate_fills_a_new_ledger_only() {
    let folder = TempDir::new().unwrap();
    let arguments = ["generate", "--users", "10", "--transactions", "200", "--ledger", "sqlite:new.db"];
    assert!(
        run(folder.path(), &arguments)
            .ok()
            .contains("generated 200 transactions of 10 users into sqlite:new.db")
    );
    assert!(run(folder.path(), &arguments).refused(1).contains("holds transactions already"));
}

#[test]
fn serve_refuses_a_ledger_that_is_none_with_a_code_for_each_reason() {
    let folder = TempDir::new().unwrap();
    let ports = [
        "--listen",
        "127.0.0.1:0",
        "--shard-listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--shards",
        "1",
    ];
    let serve = |ledger: &str| run(folder.path(), &[&["serve", "--ledger", ledger], &ports[..]].concat());
    assert!(serve("sqlite:missing.db").refused(15).contains("florin import"));
    write(folder.path(), "text.db", &"this is no database\n".repeat(100));
    assert!(serve("sqlite:text.db").refused(17).contains("no ledger"));
    let other = rusqlite::Connection::open(folder.path().join("other.db")).unwrap();
    other.execute_batch("CREATE TABLE transactions (id INTEGER)").unwrap();
    drop(other);
    assert!(serve("sqlite:other.db").refused(17).contains("schema"));
}

#[test]
fn serve_refuses_what_the_host_does_not_have() {
    let folder = folder_with_ledger();
    let serve = |more: &[&str]| run(folder.path(), &[&["serve"], more].concat());
    let free = ["--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let err = serve(&[&free[..], &["--shards", "256"]].concat()).refused(14);
    assert!(err.contains("--shards"), "{err}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--shard-listen", "--admin"] {
        let mut arguments = free;
        let place = arguments.iter().position(|argument| *argument == flag).unwrap();
        arguments[place + 1] = &taken;
        let err = serve(&[&arguments[..], &["--shards", "1"]].concat()).refused(13);
        assert!(err.contains(&taken), "{flag}: {err}");
    }
    // TEST-NET-1: an address that no host has.
    let elsewhere = ["--listen", "192.0.2.1:7400", "--shard-listen", "off", "--admin", "127.0.0.1:0"];
    let open = ["--insecure-listen", "on"];
    let err = serve(&[&elsewhere[..], &open].concat()).refused(18);
    assert!(err.contains("192.0.2.1:7400"), "{err}");
    let admin = ["--listen", "127.0.0.1:0", "--admin", "192.0.2.1:7300"];
    let err = serve(&[&admin[..], &open].concat()).refused(18);
    assert!(err.contains("--admin"), "{err}");
    for arguments in [&elsewhere[..], &admin] {
        let err = serve(arguments).refused(23);
        assert!(err.contains("--principals FILE") && err.contains("--insecure-listen on"), "{err}");
    }
    let err = serve(&["--listen", "off", "--shard-listen", "off"]).refused(2);
    assert!(err.contains("nothing listens"), "{err}");
}

/// A start that waits for somebody else waits for ever: for a live listener that accepts nobody, for whoever should write to a
/// FIFO, for a service manager that does not read.
#[test]
fn a_start_waits_for_nobody() {
    let folder = folder_with_ledger();
    let at = |name: &str| folder.path().join(name);
    let free = ["--listen", "127.0.0.1:0", "--shard-listen", "off", "--admin", "off", "--shards", "1"];
    let serve = |more: &[&str]| run(folder.path(), &[&["serve"], &free[..], more].concat());

    let stuck = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    stuck.bind(&socket2::SockAddr::unix(at("stuck.sock")).unwrap()).unwrap();
    stuck.listen(0).unwrap();
    let queued = std::os::unix::net::UnixStream::connect(at("stuck.sock")).unwrap();
    let err = serve(&["--unix", "stuck.sock"]).refused(13);
    assert!(err.contains("stuck.sock is taken"), "{err}");
    drop(queued);

    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    assert!(serve(&["--config", "fifo"]).refused(2).contains("it is no file"));
    assert!(serve(&["--ledger", "sqlite:fifo"]).refused(17).contains("a FIFO"));
    assert!(run(folder.path(), &["config", "check", "--config", "/dev/zero"]).refused(2).contains("at most"));
}

/// The lock beside the socket is made, and the socket itself bound, where SQLite would take either for its own.
#[test]
fn a_unix_socket_is_none_of_the_ledgers_files() {
    let folder = folder_with_ledger();
    std::fs::copy(folder.path().join("florin.db"), folder.path().join("a.lock")).unwrap();
    for (unix, ledger) in [
        ("florin.db-journal", "sqlite:florin.db"),
        ("./florin.db-wal", "sqlite:florin.db"),
        ("florin.db", "sqlite:florin.db"),
        ("a", "sqlite:a.lock"),
    ] {
        let arguments = [
            "serve",
            "--unix",
            unix,
            "--ledger",
            ledger,
            "--listen",
            "off",
            "--shard-listen",
            "off",
            "--admin",
            "off",
        ];
        let err = run(folder.path(), &arguments).refused(18);
        assert!(err.contains("one of the ledger's own files"), "{unix}: {err}");
        assert!(unix == "florin.db" || !folder.path().join(unix).exists(), "{unix} was made");
    }
}

#[test]
fn commands_that_need_a_node_say_so_when_there_is_none() {
    let folder = TempDir::new().unwrap();
    let nobody = NOBODY.to_owned();
    let json = run(folder.path(), &["get", "balance", "1", "--json", "--addr", &nobody]).refused(1);
    assert!(json.contains(&nobody) && json.contains("florin serve"), "{json}");
    let table = run(folder.path(), &["get", "balance", "1", "--addr", &nobody]).refused(1);
    assert!(table.contains(&nobody), "{table}");
    let apply = run_with_input(folder.path(), &["apply", "-", "--admin", &nobody], "{}\n").refused(1);
    assert!(apply.contains("nothing of line 1"), "{apply}");
    assert!(run(folder.path(), &["apply", "nothing.jsonl"]).refused(1).contains("nothing.jsonl"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "florin.toml", "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = florin(folder.path(), &["config", "check"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// "Connection refused" was all that was said.
#[cfg(all(feature = "kafka", feature = "postgres"))]
#[test]
fn a_ledgers_server_that_is_not_there_is_told_with_what_to_look_at() {
    let folder = TempDir::new().unwrap();
    for (ledger, next) in [
        (
            format!("postgres://florin@{NOBODY}/none"),
            "does it run, and listen there (listen_addresses, port)?",
        ),
        (format!("kafka://{NOBODY}/none"), "does a broker run, and listen there (listeners)?"),
    ] {
        let said = run(folder.path(), &["ledger", "check", &ledger]).refused(21);
        assert!(said.contains(NOBODY) && said.contains(next), "{said}");
    }
}
