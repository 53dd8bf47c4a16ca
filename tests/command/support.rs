//! Running the command, and a node that ends with its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take before its test fails; two loaded cores need some of it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where nobody listens: a port that was free a moment ago may be another test's by now.
pub const NOBODY: &str = "127.0.0.1:1";

/// The command, with its working directory in `folder`.
pub fn florin(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_florin"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// The command behind `mounts`, a line of shell whose mounts nobody else sees; `None`, and why is told, where nobody may mount.
pub fn florin_behind(mounts: &str, folder: &Path, arguments: &[&str]) -> Option<Command> {
    let behind = |last: &str| {
        let mut command = Command::new("unshare");
        let line = format!("{mounts} && {last}");
        command.args(["--mount", "sh", "-c", &line, "sh", env!("CARGO_BIN_EXE_florin")]).args(arguments);
        command.current_dir(folder).stdin(Stdio::null());
        command
    };
    let may = behind("true").output().is_ok_and(|ended| ended.status.success());
    if !may {
        println!("skipped: to mount what only a test sees takes unshare, and root");
    }
    may.then(|| behind("exec \"$@\""))
}

/// Runs the command to its end.
#[track_caller]
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    run_with_input(folder, arguments, "")
}

/// Runs it with `input` on its standard input.
#[track_caller]
pub fn run_with_input(folder: &Path, arguments: &[&str], input: &str) -> Ended {
    end(florin(folder, arguments), input)
}

/// Runs a command with `input` on its standard input; one that does not end is killed, and fails its test.
#[track_caller]
pub fn end(mut command: Command, input: &str) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command was built");
    // One that refuses its flags ends without having read its input.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let (mut out, mut err) =
        (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let killer = Killer::after(PATIENCE, &child);
    let mut text = String::new();
    out.read_to_string(&mut text).expect("florin writes UTF-8");
    let code = child.wait().expect("our own child").code();
    assert!(!killer.has_killed(), "{command:?} did not end: {text}");
    let err = reader.join().expect("a reader does not panic").expect("florin writes UTF-8");
    Ended { code, out: text, err }
}

/// Kills a child that is still there when the time is over.
struct Killer {
    done: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Killer {
    fn after(patience: Duration, child: &Child) -> Killer {
        let pid = Pid::from_child(child);
        let (done, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let is_late = wait.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            if is_late {
                let _ = kill_process(pid, Signal::KILL);
            }
            is_late
        });
        Killer { done, thread }
    }

    fn has_killed(self) -> bool {
        drop(self.done);
        self.thread.join().expect("a killer does not panic")
    }
}

/// What a command says once a node has what it insists on: a node holds a request for a second at most, and a busy machine takes longer.
#[track_caller]
pub fn run_until_fresh(folder: &Path, arguments: &[&str]) -> Ended {
    wait_for("a fresh answer", || Some(run(folder, arguments)).filter(|ended| ended.code == Some(0)))
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Its output, having ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Its one complaint, having ended with `code`.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains("florin: ") || self.err.starts_with("error: "), "{self:?}");
        self.err
    }
}

/// A folder with a ledger of three transactions of users 1 and 2.
pub fn folder_with_ledger() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    write(
        folder.path(),
        "rows.csv",
        "transaction_id,user_id,asset,kind,amount,occurred_at\n\
         00000000-0000-4000-8000-000000000001,1,COIN,recharge,1500,2026-11-20T10:00:00Z\n\
         00000000-0000-4000-8000-000000000002,1,COIN,gift_sent,300,2026-11-21T10:00:00Z\n\
         00000000-0000-4000-8000-000000000003,2,COIN,gift_received,300,2026-11-21T10:00:00Z\n",
    );
    run(folder.path(), &["import", "rows.csv"]).ok();
    folder
}

/// Changes a ledger as florin never would.
pub fn tamper(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let triggers: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let drop: String = triggers.iter().map(|(name, _)| format!("DROP TRIGGER {name};")).collect();
    let make: String = triggers.iter().map(|(_, sql)| format!("{sql};")).collect();
    connection.execute_batch(&format!("BEGIN; {drop} {sql}; {make} COMMIT;")).unwrap();
}

/// Writes a file.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a writable folder");
    path
}

/// A JSON line for `florin apply`.
pub fn transaction(number: u32, user: u64, amount: &str) -> String {
    format!(
        r#"{{"transaction_id":"00000000-0000-4000-9000-{number:012}","user_id":"{user}","asset":"COIN","kind":"recharge","amount":{amount},"occurred_at":"2026-11-22T04:05:06Z"}}"#
    )
}

/// A GET by hand: the commands have clients of their own.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("florin writes UTF-8");
    answer
}

/// Waits until `found` finds something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        // Who is waited for has the CPU meanwhile.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// `florin serve` in a process of its own; killed when dropped.
pub struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    pub any: SocketAddr,
    pub admin: SocketAddr,
    /// For callers by TLS, and the admin port's.
    pub tls: Option<SocketAddr>,
    /// The shards' own for them.
    pub tls_shards: Vec<SocketAddr>,
    pub tls_admin: Option<SocketAddr>,
}

/// On free ports.
pub const SERVE: [&str; 7] =
    ["serve", "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

impl Server {
    /// Serves `folder`'s ledger on free ports, and is ready when this returns.
    pub fn start(folder: &Path, more: &[&str]) -> Server {
        Server::spawn(florin(folder, &[&SERVE, more].concat()))
    }

    /// The same with a command of one's own.
    ///
    /// A port on which nobody listens for a moment, for its node was killed, may be somebody else's when it is started again: a caller that
    /// tries to come back meets itself there. Whoever has it lets go.
    pub fn spawn(mut command: Command) -> Server {
        const PORT_TAKEN: i32 = 13;
        wait_for("a node whose ports are free", || match Server::try_spawn(&mut command) {
            Ok(server) => Some(server),
            Err(status) if status.code() == Some(PORT_TAKEN) => None,
            Err(status) => panic!("it ended before it was ready: {status:?}"),
        })
    }

    /// The same; or how it ended, where it was never ready.
    pub fn try_spawn(command: &mut Command) -> Result<Server, ExitStatus> {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("the command was built");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut any, mut admin, mut tls, mut tls_admin) = (None, None, None, None);
        let (mut tls_shards, mut line) = (Vec::new(), String::new());
        // The first lines say where it listens, the last of them that it is ready.
        while !line.starts_with("ready: ") {
            line.clear();
            let bytes = out.read_line(&mut line).expect("florin writes UTF-8");
            if bytes == 0 {
                return Err(child.wait().expect("our own child"));
            }
            let last = line.split_whitespace().last().unwrap_or_default();
            if line.starts_with("  any shard") {
                any = last.parse().ok();
            } else if line.starts_with("  admin") {
                admin = last.trim_start_matches("http://").parse().ok();
            } else if line.starts_with("  tls admin") {
                tls_admin = last.trim_start_matches("https://").parse().ok();
            } else if line.starts_with("  tls  ") {
                tls = last.parse().ok();
            } else if line.starts_with("  tls ") {
                tls_shards.extend(last.parse::<SocketAddr>());
            }
        }
        // A node by TLS alone has no plain one.
        let (any, admin) = (any.or(tls).expect("an any-shard port"), admin.expect("an admin port"));
        Ok(Server { child, out, any, admin, tls, tls_shards, tls_admin })
    }

    /// Where callers connect, for `--addr`.
    pub fn addr(&self) -> String {
        self.any.to_string()
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there until it has been waited for");
    }

    /// Waits for its end, and says with what.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = wait_for("the server's end", || self.child.try_wait().expect("our own child")).code();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("florin writes UTF-8");
        (code, rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds a Go command of the module in `folder`. With nothing built before, on two busy cores, that takes as long as it takes.
#[track_caller]
pub fn built_go(folder: &Path, package: &str, into: &Path) {
    let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    let below = |folder: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/go").join(folder);
    let mut build = Command::new("env");
    build.args(["go", "build", "-o"]).arg(into).arg(package).current_dir(folder).env("PATH", path);
    build.env("GOCACHE", below("cache")).env("GOMODCACHE", below("modules")).env("GOFLAGS", "-modcacherw");
    // As scripts/test-go vets: what both need is compiled once.
    build.env("CGO_ENABLED", "0");
    let built = build.output().expect("go is there");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// A browser of this host, if there is one.
pub fn browser() -> Option<&'static str> {
    let starts = |name: &&str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(starts)
}

/// How it is told to run where there is no screen, as root, in little shared memory.
pub const WITHOUT_A_SCREEN: [&str; 5] =
    ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"];
