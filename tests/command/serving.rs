//! With a running node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use florin::limits::ADMIN_PART_SILENCE;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use crate::support::{
    NOBODY, SERVE, Server, end, florin, folder_with_ledger, get, run, run_until_fresh, run_with_input,
    transaction, wait_for, write,
};

#[test]
fn get_prints_tables_and_the_nodes_own_json() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--now", "2026-11-22T00:00:00Z", "--unix", "florin.sock"]);
    let addr = server.addr();
    let get = |arguments: &[&str]| run(folder.path(), &[&["get"], arguments, &["--addr", &addr]].concat());
    let balance = get(&["balance", "1"]).ok();
    assert!(balance.starts_with("user 1, version 2, updated 2026-11-21T10:00:00.000000Z\n"), "{balance}");
    assert!(balance.contains("asset  available  held\nCOIN       1,200     0\n"), "{balance}");
    assert!(balance.contains("\nas of 2026-11-22T00:00:00.000000Z, from shard "), "{balance}");
    assert_eq!(
        get(&["balance", "1", "--json"]).ok(),
        "{\"user_id\":\"1\",\"version\":\"2\",\"updated_at\":\"2026-11-21T10:00:00.000000Z\",\"balances\":[{\"asset\":\"COIN\",\
         \"available\":\"1200\",\"held\":\"0\"}]}\n"
    );
    let statistics = get(&["statistics", "1", "--window", "24h,lifetime"]).ok();
    let lines: Vec<Vec<&str>> = statistics.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["COIN", "24h", "0", "0", "1", "300", "300"]), "{statistics}");
    assert!(lines.contains(&vec!["COIN", "lifetime", "1", "1,500", "1", "300", "300"]), "{statistics}");
    assert!(!statistics.contains("7d"), "{statistics}");
    let json = get(&["statistics", "1", "--window", "24h", "--json"]).ok();
    assert!(json.contains(r#""24h":{"credit_count":"0","credit_sum":"0","debit_count":"1""#), "{json}");
    let balances = get(&["balances", "2", "999", "1"]).ok();
    let rows: Vec<&str> = balances.lines().skip(1).map(str::trim).take(3).collect();
    assert!(
        rows[0].starts_with("2  OK") && rows[1].starts_with("999  NOT_FOUND") && rows[2].starts_with("1  OK"),
        "{balances}"
    );
    let json = get(&["balances", "2", "999", "--json"]).ok();
    assert!(json.contains(r#"{"user_id":"999","status":"NOT_FOUND"}"#), "{json}");
    let unix = run(folder.path(), &["get", "balance", "1", "--addr", "unix:florin.sock"]).ok();
    assert_eq!(unix.lines().next(), balance.lines().next());
    let unix = run(folder.path(), &["get", "balance", "1", "--json", "--addr", "unix:florin.sock"]).ok();
    assert!(unix.starts_with(r#"{"user_id":"1""#), "{unix}");
    let mode = folder.path().join("florin.sock").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn what_a_node_refuses_is_told_in_its_words() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let addr = server.addr();
    let get = |arguments: &[&str]| run(folder.path(), &[&["get"], arguments, &["--addr", &addr]].concat());
    for json in [&[][..], &["--json"]] {
        let unknown = get(&[&["balance", "999"], json].concat()).refused(1);
        assert!(unknown.contains("the ledger has never named this user"), "{unknown}");
        let stale =
            get(&[&["balance", "1", "--min-version", "3", "--wait-ms", "5"], json].concat()).refused(1);
        assert!(
            stale.contains('3') && stale.contains("after 5 ms") && stale.contains("or wait longer"),
            "{stale}"
        );
        get(&[&["balance", "1", "--min-version", "2", "--max-age-ms", "60000"], json].concat()).ok();
    }
}

#[test]
fn apply_reads_its_own_writes_and_reports_each_bad_line() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &[]);
    let (admin, addr) = (server.admin.to_string(), server.addr());
    let apply = |input: &str| run_with_input(folder.path(), &["apply", "-", "--admin", &admin], input);
    let line = |number, amount| transaction(number, 1, amount);
    let gift = format!("[{},{}]", transaction(3, 1, "3"), transaction(4, 2, "3"));
    let input = format!("{}\n\n{}\n{gift}\n", line(1, "10"), line(2, "\"5\""));
    assert_eq!(apply(&input).ok(), "applied 4 transactions; 0 were in the ledger already\n");
    assert_eq!(apply(&input).ok(), "applied 0 transactions; 4 were in the ledger already\n");
    let fresh = ["get", "balance", "1", "--min-version", "5", "--wait-ms", "1000", "--addr", &addr];
    let balance = run_until_fresh(folder.path(), &fresh).ok();
    assert!(balance.contains("version 5") && balance.contains("1,218"), "{balance}");

    // Lines 2, 4 and 5 are wrong in three ways, and line 6 holds a pair of which one half contradicts line 1.
    let pair = format!("[{},{}]", transaction(7, 2, "1"), line(1, "11"));
    let bad = format!("{}\nnonsense\n{}\n{}\n{{\n{pair}\n", line(5, "1"), line(6, "1"), line(8, "0"));
    let ended = apply(&bad);
    let complaint = ended.err.clone();
    assert_eq!(ended.out, "applied 2 transactions; 0 were in the ledger already\n");
    ended.refused(1);
    for expected in [
        "line 2: ",
        "line 4: amount: expected",
        "line 5: ",
        "line 6: transaction 1: ",
        "4 lines were not applied: named above",
    ] {
        assert!(complaint.contains(expected), "{expected} is missing in {complaint}");
    }
    // A byte that is no text, a byte order mark and a line without end cost themselves and no other line. Once the first
    // ended everything without a word of what had entered, and the second refused line 1.
    let mut bytes = format!("\u{feff}{}\n", line(10, "1")).into_bytes();
    bytes.extend_from_slice(b"{\"\xff\n");
    bytes.extend_from_slice(line(11, "1").as_bytes());
    write(folder.path(), "broken.jsonl", "");
    std::fs::write(folder.path().join("broken.jsonl"), &bytes).unwrap();
    let ended = run(folder.path(), &["apply", "broken.jsonl", "--admin", &admin]);
    assert_eq!(ended.out, "applied 2 transactions; 0 were in the ledger already\n", "{}", ended.err);
    assert!(
        ended.err.contains("line 2: expected UTF-8 text, found another byte at place 3"),
        "{}",
        ended.err
    );
    ended.refused(1);
    write(folder.path(), "more.jsonl", &format!("{}\n", transaction(9, 77, "1")));
    run(folder.path(), &["apply", "more.jsonl", "--admin", &admin]).ok();
    let new = ["get", "balance", "77", "--min-version", "1", "--wait-ms", "1000", "--addr", &addr];
    run_until_fresh(folder.path(), &new);
}

#[test]
fn the_admin_port_shows_a_running_node() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    assert!(get(server.admin, "/healthz").ends_with("\r\n\r\nok\n"));
    let ready = get(server.admin, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("\"driver\":\"ring\""), "{ready}");
    get(server.any, "/v1/users/1/balance");
    let served = "florin_requests_total{shard=\"0\",opcode=\"get_balance\",status=\"ok\"} 1";
    let page = wait_for("the request to be counted", || {
        Some(get(server.admin, "/metrics")).filter(|p| p.contains(served))
    });
    for expected in
        ["florin_accounts{shard=\"0\"} 2", "florin_applied_total{shard=\"0\"} 3", "florin_ready 1"]
    {
        assert!(page.contains(expected), "{expected} is missing in\n{page}");
    }
    let shards = get(server.admin, "/v1/shards");
    assert!(
        shards.contains("\"accounts\":2") && shards.contains(&format!("\"listen\":\"{}\"", server.any)),
        "{shards}"
    );
}

#[test]
fn sigterm_drains_and_ends_well_and_so_does_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder_with_ledger();
        let server = Server::start(folder.path(), &["--unix", "florin.sock"]);
        let idle = TcpStream::connect(server.any).unwrap();
        server.signal(signal);
        let (code, _) = server.ended();
        assert_eq!(code, Some(0), "{signal:?}");
        assert!(!folder.path().join("florin.sock").exists(), "the socket is removed");
        drop(idle);
    }
}

/// A caller that asks without end and reads nothing keeps a node from draining; the operator need not wait for it.
/// A panic is an abort, and an abort left a core in the working folder, or with whatever program the host gives its cores to: every
/// account in it, and every token.
#[test]
fn a_node_that_dies_leaves_no_core() {
    let folder = folder_with_ledger();
    let dies = |child: &mut Child| {
        let pid = Pid::from_child(child);
        let most = getrlimit(Resource::Core).maximum;
        prlimit(Some(pid), Resource::Core, Rlimit { current: most, maximum: most }).unwrap();
        kill_process(pid, Signal::ABORT).unwrap();
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(6));
        status.core_dumped()
    };
    let mut other = Command::new("sleep").arg("60").current_dir(folder.path()).spawn().unwrap();
    if !dies(&mut other) {
        eprintln!("skipped: a_node_that_dies_leaves_no_core: this host writes no core of anybody");
        return;
    }
    let mut server = Server::start(folder.path(), &["--shards", "1"]);
    assert!(!dies(server.child()), "a core was written");
}

#[test]
fn a_second_signal_ends_a_node_that_still_drains() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let mut greedy = TcpStream::connect(server.any).unwrap();
    greedy.set_nonblocking(true).unwrap();
    let asked = b"GET /v1/users/1/statistics HTTP/1.1\r\nHost: t\r\n\r\n".repeat(100);
    let paused = "florin_paused_total{shard=\"0\"} 0";
    wait_for("the node to stop reading", || {
        let _ = greedy.write(&asked);
        (!get(server.admin, "/metrics").contains(paused)).then_some(())
    });
    server.signal(Signal::TERM);
    wait_for("the drain to begin", || get(server.admin, "/readyz").contains("draining").then_some(()));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(128 + 15));
}

#[test]
fn a_locked_ledger_has_a_code_of_its_own() {
    let folder = folder_with_ledger();
    let other = rusqlite::Connection::open(folder.path().join("florin.db")).unwrap();
    other.pragma_update(None, "locking_mode", "exclusive").unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--shard-listen", "off", "--admin", "127.0.0.1:0"];
    assert!(run(folder.path(), &arguments).refused(16).contains("locked"));
}

#[test]
fn two_nodes_cannot_share_a_port() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let any = server.addr();
    let arguments =
        ["serve", "--listen", &any, "--shard-listen", "off", "--admin", "127.0.0.1:0", "--shards", "1"];
    assert!(run(folder.path(), &arguments).refused(13).contains(&any));
}

#[test]
fn a_file_configures_a_node_and_a_flag_wins() {
    let folder = folder_with_ledger();
    std::fs::rename(folder.path().join("florin.db"), folder.path().join("named.db")).unwrap();
    let settings =
        "ledger = \"sqlite:named.db\"\nshards = 1\nlisten = \"192.0.2.1:1\"\nnow = 2026-11-22T00:00:00Z\n";
    write(folder.path(), "florin.toml", settings);
    let server = Server::start(folder.path(), &["--config", "florin.toml"]);
    let balance = run(folder.path(), &["get", "balance", "1", "--addr", &server.addr()]).ok();
    assert!(balance.contains("as of 2026-11-22T00:00:00.000000Z"), "{balance}");
}

/// A demonstration of a short life, whose temporary folders lie in `folder`.
fn demonstration(folder: &TempDir, ledger: &str, seconds: &str) -> Command {
    // A PostgreSQL runs as another user, to whom it is as open as any place for temporary files.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let size = ["--users", "50", "--transactions", "1000", "--shards", "1"];
    let arguments = [&["demo", "--ledger", ledger, "--seconds", seconds], &size[..]].concat();
    let mut command = florin(folder.path(), &arguments);
    command.env("TMPDIR", folder.path());
    command
}

const LEDGERS: &[&str] = if cfg!(feature = "postgres") { &["sqlite", "postgres"] } else { &["sqlite"] };

#[test]
fn the_demonstration_runs_by_itself_and_leaves_nothing_behind() {
    for &ledger in LEDGERS {
        let folder = TempDir::new().unwrap();
        let out = end(demonstration(&folder, ledger, "3"), "").ok();
        assert!(out.contains("curl http://127.0.0.1:") && out.contains(" get statistics "), "{out}");
        assert!(out.contains(" reads/s  p50 ") && out.contains(" lag "), "{out}");
        assert_eq!(out.contains("psql 'postgres://postgres@/postgres?host="), ledger == "postgres", "{out}");
        let last = out.lines().last().unwrap();
        let numbers: Vec<u64> =
            last.split(' ').filter_map(|word| word.replace(',', "").parse().ok()).collect();
        assert!(last.starts_with("answered ") && numbers[0] > 0 && numbers[1] > 0, "{last}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary ledger is removed");
    }
}

/// A server that outlives its demonstration goes on for ever, in a folder that nobody knows.
#[cfg(feature = "postgres")]
#[test]
fn the_demonstrations_server_ends_with_it_however_it_ends() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let ready = "try:";
    // While it is made (a shell that has put the tests into the background has interrupts ignored until then); while it runs, by an
    // interrupt, and without a word.
    for (until, signal) in [("", Signal::TERM), (ready, Signal::INT), (ready, Signal::KILL)] {
        let folder = TempDir::new().unwrap();
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut command = demonstration(&folder, "postgres", "600");
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        if until.is_empty() {
            // Whoever sees to its end is there before its data are.
            let has_data = || {
                let mut made = std::fs::read_dir(folder.path()).unwrap();
                made.any(|made| made.unwrap().path().join("data").exists()).then_some(())
            };
            wait_for("its data", has_data);
        } else {
            let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with(until)));
            said.expect("it comes to run").unwrap();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.success(), signal != Signal::KILL, "{status:?}");
        // The folder goes when the server has ended.
        wait_for("the server's end", || (left() == 0).then_some(()));
    }
}

#[test]
fn shards_are_where_they_were_put_and_everything_else_keeps_house() {
    let folder = folder_with_ledger();
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let (kept, shard) = (allowed[0], *allowed.last().unwrap());
    let (kept, shard) = (kept.to_string(), shard.to_string());
    let server = Server::start(folder.path(), &["--cpus", &shard, "--housekeeping-cpus", &kept]);
    let page = get(server.admin, "/v1/shards");
    let map: serde_json::Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(map["shards"][0]["cpu"].to_string(), shard);
    assert_eq!(map["shards"][0]["runs_on"].to_string(), shard);
    let threads = map["threads"].as_array().unwrap();
    assert!(threads.len() > 2, "{map}");
    for thread in threads {
        let name = thread["name"].as_str().unwrap();
        let wanted = if name.starts_with("florin-shard") { &shard } else { &kept };
        assert_eq!(thread["may_run_on"].as_str(), Some(wanted.as_str()), "{name}");
    }
    let metrics = get(server.admin, "/metrics");
    for name in ["florin_cpu", "florin_involuntary_switches_total", "florin_core_taken_ratio"] {
        assert!(metrics.contains(&format!("{name}{{shard=\"0\"}} ")), "{name}: {metrics}");
    }
}

#[test]
fn nodes_that_are_not_there_are_refused_by_number() {
    let folder = folder_with_ledger();
    let refusal = run(folder.path(), &["serve", "--admin", "off", "--numa", "4000"]).refused(14);
    assert!(refusal.contains("there is no NUMA node 4000"), "{refusal}");
}

#[test]
fn systemd_hears_that_the_node_is_ready_that_idle_shards_turn_and_that_it_stops() {
    let drivers = ["ring", "monoio-epoll"];
    for driver in drivers {
        let folder = folder_with_ledger();
        let socket = folder.path().join("notify");
        let heard = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        heard.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
        let mut command = florin(folder.path(), &[&SERVE[..], &["--driver", driver]].concat());
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
        let server = Server::spawn(command);
        let next = || {
            let mut bytes = [0; 4_096];
            let length = heard.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let until = |what: &str| {
            let mut all = String::new();
            while !all.contains(what) {
                all.push_str(&next());
            }
            all
        };
        let start = until("READY=1");
        assert!(start.contains("STATUS=serving "), "{start}");
        // Nobody asks anything: only being woken makes a shard turn. The first is fed without a look.
        for _ in 0..5 {
            until("WATCHDOG=1");
        }
        server.signal(Signal::TERM);
        until("STOPPING=1");
        assert_eq!(server.ended().0, Some(0));
    }
}

/// A ledger that takes longer than the unit's TimeoutStartSec= was begun with again and again, and never served.
#[test]
fn systemd_gives_time_to_a_node_that_gets_on_with_loading() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ["generate", "--users", "1000", "--transactions", "300000"];
    run(folder.path(), &ledger).ok();
    let socket = folder.path().join("notify");
    let heard = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    heard.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut command = florin(folder.path(), &SERVE);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "60000000");
    let _server = Server::spawn(command);
    let mut said = String::new();
    while !said.contains("READY=1") {
        let mut bytes = [0; 4_096];
        let length = heard.recv(&mut bytes).unwrap();
        said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    // In this order: what asks for time puts off the watchdog as well.
    assert!(said.contains("EXTEND_TIMEOUT_USEC=900000000\nWATCHDOG=1\n"), "{said}");
}

#[test]
fn a_hangup_takes_over_what_is_logged_and_names_what_takes_a_restart() {
    let folder = folder_with_ledger();
    write(folder.path(), "florin.toml", "log = \"warn\"\n");
    let flags = ["serve", "--config", "florin.toml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command = florin(folder.path(), &[&flags[..], &["--shard-listen", "off"]].concat());
    let path = folder.path().join("log");
    let server = Server::spawn({
        command.stderr(std::fs::File::create(&path).expect("a writable folder"));
        command
    });
    let log = || std::fs::read_to_string(&path).expect("florin writes UTF-8");
    let hang_up = |text: &str, answer: &str| {
        write(folder.path(), "florin.toml", text);
        server.signal(Signal::HUP);
        wait_for(answer, || log().contains(answer).then_some(()));
    };
    hang_up("log = \"info\"\nspin-us = 5\n", "take a restart: spin-us");
    assert!(log().contains("SIGHUP: reloaded"), "{}", log());
    hang_up("log = \"info\"\nspin-us = \"much\"\n", "everything stays as it is");
    get(server.any, "/v1/users/1/balance");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
}

/// A node's messages must say what to do: these ended in the system's words, and lines of which nothing was sent "may or may not
/// be applied".
#[test]
fn what_cannot_be_reached_or_listened_on_says_what_to_do() {
    let folder = folder_with_ledger();
    let serve = ["serve", "--insecure-listen", "on", "--admin", "off", "--shard-listen", "off", "--listen"];
    for (flags, remedy) in [
        (&["192.0.2.1:0"][..], "no interface of this host has that address"),
        (&["127.0.0.1:0", "--unix", "missing/florin.sock"], "its folder has to be there"),
        (&["127.0.0.1:0", "--unix", &"x".repeat(200)], "107 bytes"),
    ] {
        let refused = run(folder.path(), &[&serve, flags].concat()).refused(18);
        assert!(refused.contains(remedy), "{flags:?}: {refused}");
    }
    let ended = run_with_input(folder.path(), &["apply", "-", "--admin", NOBODY], &transaction(1, 1, "5"));
    assert_eq!(ended.out, "applied 0 transactions; 0 were in the ledger already\n");
    let said = ended.refused(1);
    assert!(said.contains("nothing of line 1") && !said.contains("may or may not"), "{said}");
    // One CPU for two shards, and CPUs that there are not: neither is a quota's doing.
    let refused =
        run(folder.path(), &[&serve[..], &["127.0.0.1:0", "--cpus", "0-8191"]].concat()).refused(14);
    assert!(!refused.contains("quota"), "{refused}");
}

/// A node that stood still for longer than half a request may take (a debugger, a frozen control group, a live migration) told whoever had
/// sent the rest meanwhile that it had not: on the admin port, for what had come is read only after the timers were.
#[test]
fn what_came_while_a_node_stood_still_is_read_before_its_time_is_judged() {
    let folder = folder_with_ledger();
    let drivers = [
        "ring",
        #[cfg(feature = "monoio")]
        "monoio",
        #[cfg(feature = "monoio")]
        "monoio-epoll",
        #[cfg(feature = "glommio")]
        "glommio",
    ];
    let servers = drivers.map(|driver| Server::start(folder.path(), &["--shards", "1", "--driver", driver]));
    let (first, rest) = ("HTTP/1.1\r\nHost: local", "host\r\nConnection: close\r\n\r\n");
    let half = |(port, path): (SocketAddr, &str)| {
        let mut stream = TcpStream::connect(port).unwrap();
        write!(stream, "GET {path} {first}").unwrap();
        stream
    };
    let mut halves: Vec<TcpStream> = servers
        .iter()
        .flat_map(|server| [(server.any, "/v1/users/1/balance"), (server.admin, "/healthz")].map(half))
        .collect();
    for server in &servers {
        // Two round trips: by then the halves have been read.
        (0..2).for_each(|_| {
            assert!(
                get(server.admin, "/healthz").contains("ok")
                    && get(server.any, "/v1/users/1/balance").contains("COIN")
            )
        });
        server.signal(Signal::STOP);
    }
    for stream in &mut halves {
        stream.write_all(rest.as_bytes()).unwrap();
    }
    // Nothing shows that the time is over, for nobody runs who could say so.
    std::thread::sleep(ADMIN_PART_SILENCE + Duration::from_secs(1));
    servers.iter().for_each(|server| server.signal(Signal::CONT));
    for (at, stream) in halves.iter_mut().enumerate() {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{}: {answer}", drivers[at / 2]);
    }
}

/// Whoever has read that a node is started may end it: for a moment a signal killed it.
#[test]
fn a_node_that_says_that_it_is_started_ends_in_order() {
    let folder = folder_with_ledger();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "off"];
    for _ in 0..20 {
        let mut child =
            florin(folder.path(), &serve).stdout(Stdio::piped()).spawn().expect("the command was built");
        let mut out = child.stdout.take().expect("it is piped");
        out.read_exact(&mut [0]).expect("it says what it is");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it has not been waited for");
        let ended = wait_for("the node's end", || child.try_wait().expect("our own child"));
        assert_eq!(ended.code(), Some(0), "{ended}");
    }
}
