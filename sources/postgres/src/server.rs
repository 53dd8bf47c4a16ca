//! A PostgreSQL server of one's own, for the demonstration, the bench and tests: in a folder that goes with it, on a port
//! that was free, as another user than root (whom PostgreSQL refuses).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::limits::{LOOK_AGAIN, PORTS, PORTS_TRIED, START_TIMEOUT, STOP_TIMEOUT};

/// Where Debian puts the servers.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The superuser of a server of one's own; it needs no password.
pub const SUPERUSER: &str = "postgres";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// None is installed.
    #[error(
        "no PostgreSQL server is installed here: apt-get install postgresql, or put the folder that has its postgres and initdb into PATH"
    )]
    NotInstalled,
    /// There is no user that it could run as.
    #[error("PostgreSQL refuses to run as root, and there is no user postgres or nobody here")]
    NoUser,
    /// A command of it failed.
    #[error("{command} failed: {reason}")]
    Command {
        /// Which.
        command: String,
        /// What it said.
        reason: String,
    },
    /// It did not come up.
    #[error("PostgreSQL in {} did not take connections within {} s; its log ends: {log}", folder.display(), START_TIMEOUT.as_secs())]
    Start {
        /// Its folder.
        folder: PathBuf,
        /// The last of its log.
        log: String,
    },
    /// The system refuses.
    #[error("cannot prepare a PostgreSQL server: {0}")]
    Io(#[from] io::Error),
}

/// Where a version's programs are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Those in `folder`, if it has a server.
    pub fn at(folder: impl Into<PathBuf>) -> Option<Programs> {
        let folder = folder.into();
        ["postgres", "initdb"]
            .iter()
            .all(|program| folder.join(program).is_file())
            .then_some(Programs(folder))
    }

    /// The newest version that is installed.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`].
    pub fn find() -> Result<Programs, ServerError> {
        Programs::find_in(Path::new(DEBIAN), std::env::var_os("PATH").unwrap_or_default())
    }

    fn find_in(by_version: &Path, path: OsString) -> Result<Programs, ServerError> {
        let mut versions: Vec<(u32, Programs)> = fs::read_dir(by_version)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, Programs::at(entry.path().join("bin"))?))
            })
            .collect();
        versions.sort_by_key(|(version, _)| *version);
        let in_path = || std::env::split_paths(&path).find_map(Programs::at);
        versions.pop().map(|(_, programs)| programs).or_else(in_path).ok_or(ServerError::NotInstalled)
    }

    /// A program of it, to be run as the user that the servers run as.
    ///
    /// # Errors
    /// There is no such user.
    pub fn command(&self, program: &str) -> Result<Command, ServerError> {
        as_other_user(Command::new(self.0.join(program)))
    }
}

fn as_other_user(mut command: Command) -> Result<Command, ServerError> {
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env_remove("PGPASSWORD").current_dir("/");
    if let Some((user, group)) = other_user()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

/// The user and group that servers run as, where we are root.
fn other_user() -> Result<Option<(u32, u32)>, ServerError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
        })
    };
    find(SUPERUSER).or_else(|| find("nobody")).map(Some).ok_or(ServerError::NoUser)
}

/// Who may reach a server of one's own: it asks nobody for a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Everybody on this host, over TCP.
    Host,
    /// This user, by a unix socket in a folder that is closed to others.
    User,
}

/// A server of one's own; it ends when this is dropped, and when this process ends in whatever way.
#[derive(Debug)]
pub struct OwnServer {
    programs: Programs,
    reach: Reach,
    folder: TempDir,
    guard: Child,
    port: u16,
    settings: Vec<(String, String)>,
    running: Option<Child>,
}

impl OwnServer {
    /// Makes a server that can be followed, and starts it. `settings` win over what it has by default.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start(programs: &Programs, settings: &[(&str, &str)]) -> Result<OwnServer, ServerError> {
        OwnServer::made(programs, Reach::Host, settings, OwnServer::initialize)
    }

    /// The same for this user alone, who reaches it by a unix socket.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start_private(programs: &Programs, settings: &[(&str, &str)]) -> Result<OwnServer, ServerError> {
        OwnServer::made(programs, Reach::User, settings, OwnServer::initialize)
    }

    fn initialize(&self) -> Result<(), ServerError> {
        let mut initdb = self.programs.command("initdb")?;
        initdb.arg("--pgdata").arg(self.data()).args(["--username", SUPERUSER]);
        run(initdb.args(["--auth", "trust", "--encoding", "UTF8", "--no-sync"]))
    }

    /// Starts a server whose data `make` has put into [`OwnServer::data`]: a base backup, say.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn prepare(
        programs: &Programs,
        settings: &[(&str, &str)],
        make: impl FnOnce(&OwnServer) -> Result<(), ServerError>,
    ) -> Result<OwnServer, ServerError> {
        OwnServer::made(programs, Reach::Host, settings, make)
    }

    fn made(
        programs: &Programs,
        reach: Reach,
        settings: &[(&str, &str)],
        make: impl FnOnce(&OwnServer) -> Result<(), ServerError>,
    ) -> Result<OwnServer, ServerError> {
        let folder = tempfile::Builder::new().prefix("florin-postgres-").tempdir()?;
        let mode = if reach == Reach::Host { 0o755 } else { 0o700 };
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode))?;
        if let Some((user, group)) = other_user()? {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let guard = guard(folder.path())?;
        let programs = programs.clone();
        let mut server = OwnServer { programs, reach, folder, guard, port: 0, settings, running: None };
        make(&server)?;
        for _ in 0..PORTS_TRIED {
            server.port = free_port()?;
            match server.resume() {
                Err(ServerError::Start { log, .. }) if log.contains("Address already in use") => {}
                started => return started.map(|()| server),
            }
        }
        server.resume().map(|()| server)
    }

    /// Starts it again after it was ended, on the same port.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn resume(&mut self) -> Result<(), ServerError> {
        let log = fs::File::options().create(true).append(true).open(self.log_file())?;
        let mut postgres = self.programs.command("postgres")?;
        postgres.arg("-D").arg(self.data()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: an interrupt at the terminal is for whoever holds this server.
        postgres.process_group(0);
        let by_default = [
            (
                "listen_addresses",
                if self.reach == Reach::Host { "127.0.0.1".to_owned() } else { String::new() },
            ),
            ("unix_socket_directories", self.folder.path().display().to_string()),
            ("port", self.port.to_string()),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "20".to_owned()),
            ("max_replication_slots", "20".to_owned()),
            ("max_prepared_transactions", "10".to_owned()),
        ];
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in by_default.into_iter().chain(settings) {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        self.running = Some(postgres.spawn()?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let running = self.running.as_mut().expect("it was started");
            if running.try_wait()?.is_some() {
                break;
            }
            // The last line of its file says how it is; it is rewritten as the server comes up.
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if matches!(state.lines().nth(7).map(str::trim), Some("ready" | "standby")) {
                return Ok(());
            }
            thread::sleep(LOOK_AGAIN);
        }
        self.stop(Signal::QUIT);
        Err(ServerError::Start { folder: self.folder.path().to_owned(), log: self.log_end() })
    }

    /// Ends it as an operator would: clients are sent away, what is committed is kept.
    pub fn end(&mut self) {
        self.stop(Signal::INT);
    }

    /// Ends it at once, as a crash does: it recovers when it is started again.
    pub fn crash(&mut self) {
        self.stop(Signal::QUIT);
    }

    fn stop(&mut self, signal: Signal) {
        let Some(mut running) = self.running.take() else { return };
        let pid = Pid::from_child(&running);
        // One that has ended already needs no signal.
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(running.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
        let _ = kill_process(pid, Signal::QUIT);
        let _ = running.wait();
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of its unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The address of a database in it, for `user`.
    pub fn url(&self, user: &str, database: &str) -> String {
        let port = self.port;
        match self.reach {
            Reach::Host => format!("postgres://{user}@127.0.0.1:{port}/{database}"),
            Reach::User => {
                format!("postgres://{user}@/{database}?host={}&port={port}", self.folder.path().display())
            }
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The last of its log.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop(Signal::INT);
        // Both fail only where it has ended already.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// A process that ends the server and removes its folder where this process ends without having done so: what it reads from is
/// closed then, whatever ended this one.
fn guard(folder: &Path) -> Result<Child, ServerError> {
    // While the server is made, a number below 0 stands there, and whoever makes it goes on for a moment.
    const GUARD: &str = r#"read -r _
        if read -r pid < "$0/data/postmaster.pid" && [ "$pid" -gt 1 ]; then
            kill -INT "$pid"
            while kill -0 "$pid"; do sleep 0.1; done
        fi
        for try in 1 2 3 4 5 6 7 8 9; do
            rm -rf -- "$0" && break
            sleep 0.$try
        done"#;
    let mut guard = as_other_user(Command::new("/bin/sh"))?;
    // A group of its own, like the server's.
    guard.args(["-c", GUARD]).arg(folder).process_group(0);
    Ok(guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// One that is nobody's now, and that the kernel gives to no outgoing connection while the server is down: whoever tries until it is there again
/// could meet himself, and the server would not get it back.
fn free_port() -> io::Result<u16> {
    static LOOKED_AT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    for _ in 0..count {
        // Another process that looks at the same time begins elsewhere.
        let place = std::process::id() * 61 + u32::from(LOOKED_AT.fetch_add(1, Relaxed));
        let port = PORTS.start + (place % u32::from(count)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Runs a command to its end.
///
/// # Errors
/// What it said.
pub fn run(command: &mut Command) -> Result<(), ServerError> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(ServerError::Command {
        command: command.get_program().to_string_lossy().into_owned(),
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_server_is_installed_it_is_said_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = OsString::from(folder.path());
        let error = Programs::find_in(folder.path(), path.clone()).unwrap_err().to_string();
        assert!(error.contains("no PostgreSQL server is installed here: apt-get install"), "{error}");
        for program in ["postgres", "initdb"] {
            fs::write(folder.path().join(program), "").unwrap();
        }
        assert_eq!(
            Programs::find_in(Path::new("/nowhere"), path).unwrap(),
            Programs(folder.path().to_owned())
        );
    }
}
