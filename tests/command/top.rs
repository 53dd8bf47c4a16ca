//! `florin top` and the demonstration on a terminal, as somebody at one sees them. The terminal is `script`'s, of util-linux.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{Server, florin, folder_with_ledger, run, wait_for, write};

/// A shell on a terminal; ends when dropped.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    /// Everything that was written on it.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs the command with these arguments there, and then says what it ended with and how the terminal is.
    fn run(folder: &Path, arguments: &str) -> Terminal {
        let florin = env!("CARGO_BIN_EXE_florin");
        let line = format!(
            "tty; stty rows 40 cols 130; {florin} {arguments}; echo \"ended with $?\"; stty -a; echo the end"
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]).current_dir(folder);
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env("TMPDIR", folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script is part of every Debian");
        let keys = child.stdin.take().expect("it is piped");
        let mut out = child.stdout.take().expect("it is piped");
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { child, keys, written }
    }

    fn len(&self) -> usize {
        self.written.lock().unwrap().len()
    }

    /// What was written from `from` on, without what moves and colours, and without spaces: only what changes is drawn.
    fn letters(&self, from: usize) -> String {
        let bytes = self.written.lock().unwrap()[from..].to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut parts = text.split("\u{1b}[");
        let mut letters = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|letter: char| letter.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
            letters.push_str(&part[end..]);
        }
        letters.retain(|letter| !letter.is_whitespace());
        letters
    }

    /// Waits until this is there.
    #[track_caller]
    fn wait_for(&self, from: usize, words: &str) {
        let wanted: String = words.split_whitespace().collect();
        wait_for(words, || self.letters(from).contains(&wanted).then_some(()));
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).expect("somebody hears");
        self.keys.flush().expect("somebody hears");
    }

    /// Gives the terminal another size, as its user does.
    fn resize(&self, rows: u16, columns: u16) {
        let text = String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned();
        let place = text.lines().next().expect("its name").trim().to_owned();
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let mut stty = Command::new("stty");
        let status = stty.args(["-F", &place, "rows", &rows, "cols", &columns]).status();
        assert!(status.expect("stty is part of every Debian").success(), "{place}");
    }

    /// Whether the terminal is again as every shell expects it.
    #[track_caller]
    fn is_restored(&self, code: i32) {
        self.wait_for(0, "the end");
        let text = String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned();
        assert!(text.contains(&format!("ended with {code}")), "{text}");
        // Out of the alternate screen, with its cursor, lines and echo.
        let (_, after) = text.rsplit_once("\u{1b}[?1049l").expect("the screen that was there before is back");
        assert!(text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l"), "the cursor is hidden");
        for mode in [" icanon", " echo "] {
            assert!(after.contains(mode), "{mode} is off: {after}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_shows_a_node_follows_its_terminal_and_says_when_the_node_is_gone() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let mut terminal = Terminal::run(folder.path(), &format!("top --admin {}", server.admin));
    terminal.wait_for(0, "node: ready: every shard has loaded the ledger and follows it");
    terminal.wait_for(0, "2 accounts on the");
    terminal.press("77\u{7f}\u{7f}1\r");
    terminal.wait_for(0, "balance of user 1 at version 2 on shard 0");
    terminal.wait_for(0, "1,200");
    terminal.press("9\r");
    terminal.wait_for(0, "balance: the ledger has never named this user");
    terminal.wait_for(0, "q ends");
    let before = terminal.len();
    terminal.resize(24, 90);
    // All of it is drawn anew.
    terminal.wait_for(before, "node: ready: every shard");
    terminal.wait_for(before, "q ends");
    let before = terminal.len();
    server.signal(Signal::KILL);
    terminal.wait_for(before, "no news; this asks again each second");
    terminal.press("q");
    terminal.is_restored(0);
}

/// One that a signal ended (`timeout 10 florin top`) left the terminal without lines, echo and cursor.
#[test]
fn top_that_is_told_to_end_leaves_the_terminal_as_it_was() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let top = format!("top --admin {} & echo $! > pid; wait $!", server.admin);
    let terminal = Terminal::run(folder.path(), &top);
    terminal.wait_for(0, "q ends");
    let pid = wait_for("its id", || {
        let pid = std::fs::read_to_string(folder.path().join("pid")).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?)
    });
    kill_process(pid, Signal::TERM).unwrap();
    terminal.is_restored(0);
}

/// A node elsewhere is reached by TLS, and tells only whom it knows: by a certificate, or by a token.
#[test]
fn top_shows_a_node_by_tls_to_whom_it_knows() {
    let folder = folder_with_ledger();
    let at = folder.path();
    run(at, &["tls", "init", "certs"]).ok();
    let token = run(at, &["principal", "add", "operator", "--may", "metrics,admin"]).ok();
    write(at, "token", token.trim());
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(at.join("token"), mode).unwrap();
    let principals = std::fs::read_to_string(at.join("principals.toml")).unwrap();
    let watcher = "[[principal]]\nname = \"watcher\"\nmay = [\"metrics\"]\ncertificates = [\"spiffe://florin.local/caller\"]\n";
    write(at, "principals.toml", &format!("{principals}{watcher}"));
    let tls =
        ["--tls-cert", "certs/node.crt", "--tls-key", "certs/node.key", "--tls-client-ca", "certs/ca.crt"];
    let more = ["--shards", "1", "--tls-admin", "127.0.0.1:0", "--principals", "principals.toml"];
    let more = [&tls[..], &more, &["--audit-log", "audit.jsonl"]].concat();
    let server = Server::start(at, &more);
    let node = format!("florins://localhost:{}", server.tls_admin.unwrap().port());
    let caller = "--tls-ca certs/ca.crt --tls-cert certs/caller.crt --tls-key certs/caller.key";

    let err = run(at, &["top", "--admin", &node, "--tls-ca", "certs/ca.crt"]).refused(1);
    assert!(err.contains("certificate"), "whoever shows none is told so: {err}");
    let err = run(at, &["top", "--admin", &server.admin.to_string()]).refused(1);
    assert!(err.contains("may metrics"), "{err}");
    let mut terminal = Terminal::run(at, &format!("top --admin {node} {caller}"));
    terminal.wait_for(0, "node: ready: every shard has loaded the ledger and follows it");
    terminal.press("q");
    terminal.is_restored(0);
    // Who may, sees who was refused too.
    let mut terminal = Terminal::run(at, &format!("top --admin {node} {caller} --token-file token"));
    terminal.wait_for(0, "nobody known, 127.0.0.1: GET /v1/activity: 401");
    terminal.press("q");
    terminal.is_restored(0);

    let mut curl = Command::new("curl");
    curl.args(["-s", "-N", "-H", &format!("Authorization: Bearer {}", token.trim())]);
    let mut curl =
        curl.arg(format!("http://{}/v1/activity", server.admin)).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&data).unwrap()["ready"], true);
    curl.kill().unwrap();
    curl.wait().unwrap();
}

/// Whoever reads lines and has seen enough (`florin top | head -1`) waited for ever.
#[test]
fn top_ends_when_nobody_reads_it() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    // As the node prints it.
    let mut top = florin(folder.path(), &["top", "--admin", &format!("http://{}", server.admin)]);
    let mut child = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains(" reads/s  p50 ") && line.ends_with(" 2 accounts"), "{line}");
    drop(lines);
    let status = wait_for("its end", || child.try_wait().unwrap());
    assert!(status.success(), "{status:?}");
}

/// A node that is not there, or that does not tell, is said before any screen is drawn.
#[test]
fn top_refuses_in_words() {
    let folder = folder_with_ledger();
    run(folder.path(), &["principal", "add", "nobody", "--may", "balance"]).ok();
    let server = Server::start(folder.path(), &["--shards", "1", "--principals", "principals.toml"]);
    let admin = server.admin.to_string();
    let err = run(folder.path(), &["top", "--admin", &admin]).refused(1);
    assert!(err.contains("401") && err.contains("may metrics"), "{err}");
    // "as Authorization: Bearer" is not what the command takes.
    assert!(err.contains("a token by --token-file FILE or FLORIN_TOKEN"), "{err}");
    server.signal(Signal::TERM);
    server.ended();
    let err = run(folder.path(), &["top", "--admin", &admin]).refused(1);
    assert!(err.contains("cannot reach florin at"), "{err}");
}

#[test]
fn the_demonstration_shows_what_the_machine_can_bear_and_leaves_the_terminal_as_it_was() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut terminal = Terminal::run(folder.path(), "demo --users 50 --transactions 1000 --shards 1");
    terminal.wait_for(0, "node: ready");
    terminal.wait_for(0, "in a browser");
    terminal.wait_for(0, "l shows what this machine can bear");
    terminal.press("l");
    terminal.wait_for(0, "Callers now ask as much as this machine can bear");
    // To gentle again, and to the end in the midst of it.
    terminal.press("lllq");
    terminal.wait_for(0, "is removed");
    terminal.is_restored(0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary ledger is removed");
}

/// `below is what was last heard` was said where nothing was below.
#[test]
fn lines_of_a_node_that_is_gone_say_so_once() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let mut top = florin(folder.path(), &["top", "--admin", &server.admin.to_string()]);
    let mut child = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.next().unwrap();
    server.signal(Signal::KILL);
    let said = lines.find(|line| line.starts_with("no news")).unwrap();
    assert!(said.contains("says no more until there is some") && !said.contains("below"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Its ledger stayed behind, and a screen of `florin top` read a terminal that was gone for ever.
#[test]
fn a_terminal_that_is_closed_ends_what_is_shown_on_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    let demo = "demo --users 50 --shards 1 --transactions ";
    for (transactions, shown) in [("1000", "node: ready"), ("100000000", "rows/s")] {
        let terminal = Terminal::run(folder.path(), &format!("{demo}{transactions}"));
        terminal.wait_for(0, shown);
        assert!(left() > 0, "there is a ledger");
        drop(terminal);
        wait_for(&format!("the end of the ledger of {transactions}"), || (left() == 0).then_some(()));
    }
    let mut terminal = Terminal::run(folder.path(), &format!("{demo}100000000"));
    terminal.wait_for(0, "rows/s");
    terminal.press("q");
    terminal.wait_for(0, "ended while the ledger was made up");
    terminal.wait_for(0, "ended with 0");
    assert_eq!(left(), 0);

    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let terminal = Terminal::run(folder.path(), &format!("top --admin {}", server.admin));
    terminal.wait_for(0, "node: ready");
    let top = || {
        let at = server.admin.to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        processes
            .filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok())
            .any(|words| words.contains("florin\0top\0") && words.contains(&at))
    };
    assert!(top());
    drop(terminal);
    wait_for("its end", || (!top()).then_some(()));
}

/// It was told which flags of `florin serve` help, once the ledger had been made up.
#[test]
fn more_shards_than_cpus_are_refused_before_the_ledger_is_made_up() {
    let folder = tempfile::TempDir::new().unwrap();
    let ended = run(folder.path(), &["demo", "--shards", "256", "--seconds", "1"]);
    assert!(!ended.out.contains("making up"), "{ended:?}");
    let said = ended.refused(14);
    assert!(said.contains("--shards 256: expected ") && !said.contains("--cpus"), "{said}");
}
