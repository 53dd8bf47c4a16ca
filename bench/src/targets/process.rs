//! A server's process: started pinned, watched until it answers, paused, and always ended.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{TargetError, Tool, operation};
use crate::limits::{PORT_BELOW, PORT_FROM, START_POLL};
use crate::{affinity, generator::Endpoint, limits};

/// A child process and its scratch directory.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    pid: Pid,
    command: String,
    program: String,
    output: Mutex<File>,
    directory: TempDir,
}

/// What is to be started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program and its arguments.
    pub command: Command,
    /// How the program is installed, where that is known.
    pub install: Option<&'static str>,
    /// On which CPUs.
    pub cpus: &'a [usize],
    /// Under what.
    pub tool: &'a Tool,
    /// For the socket and whatever else the server writes.
    pub directory: TempDir,
}

/// A directory for one server.
pub fn scratch() -> Result<TempDir, TargetError> {
    tempfile::Builder::new()
        .prefix("florin-bench-")
        .tempdir()
        .map_err(operation("making a scratch directory"))
}

/// A TCP address on this host at which nobody listens now.
pub fn free_address() -> Result<SocketAddr, TargetError> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.map_err(operation("finding a free port"))
}

/// So many TCP addresses with ports in a row at which nobody listens now. They lie below those that the kernel gives to
/// outgoing connections: one that is tried until somebody listens could otherwise meet itself.
pub fn free_neighbours(count: u16) -> Result<Vec<SocketAddr>, TargetError> {
    let row = |first: u16| (first..first + count).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let is_free = |first: &u16| row(*first).all(|address| TcpListener::bind(address).is_ok());
    // Another bench that looks at the same time begins elsewhere.
    let begin = PORT_FROM + (std::process::id() % 1_000) as u16 * 16;
    let first = (begin..PORT_BELOW).step_by(usize::from(count)).find(is_free);
    let none = || io::Error::from(io::ErrorKind::AddrInUse);
    first.map(|first| row(first).collect()).ok_or_else(none).map_err(operation("finding free ports in a row"))
}

impl Process {
    /// Starts it, with its output in a file of its directory.
    pub fn start(start: Start<'_>) -> Result<Process, TargetError> {
        let program = start.command.get_program().to_string_lossy().into_owned();
        let command = under(start.tool, start.command);
        let path = start.directory.path().join("output");
        let open = || File::options().create(true).append(true).read(true).open(&path);
        let output = open().map_err(operation("making the server's output file"))?;
        let (out, err) = (output.try_clone(), output.try_clone());
        let shown = format!("{command:?}");
        let install =
            if *start.tool == Tool::None { start.install } else { Some("apt-get install valgrind") };
        let missing = |source| TargetError::Missing { program: program.clone(), install, source };
        find(command.get_program()).map_err(missing)?;
        let mut command = tied(command);
        command
            .stdin(Stdio::null())
            .stdout(out.map_err(operation("sharing the server's output file"))?)
            .stderr(err.map_err(operation("sharing the server's output file"))?);
        let spawned = affinity::pinned(start.cpus, || command.spawn())
            .map_err(operation(format!("pinning a server to CPUs {:?}", start.cpus)))?;
        let child = spawned.map_err(|source| TargetError::Missing {
            program: TIE.to_owned(),
            install: Some("apt-get install util-linux"),
            source,
        })?;
        let pid = Pid::from_child(&child);
        Ok(Process {
            child: Mutex::new(child),
            pid,
            command: shown,
            program,
            output: Mutex::new(output),
            directory: start.directory,
        })
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// As started.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Stops its threads where they are.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself; whoever asks it next will say so.
        let _ = kill_process(self.pid, signal);
    }

    fn ended(&self) -> Option<String> {
        let status = self.child.lock().expect("no holder panics").try_wait();
        status.ok().flatten().map(|status| status.to_string())
    }

    /// The last lines of its output.
    fn said(&self) -> String {
        let mut text = Vec::new();
        let mut output = self.output.lock().expect("no holder panics");
        let read = output.seek(SeekFrom::Start(0)).and_then(|_| output.read_to_end(&mut text));
        let text = read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Both fail only where it has ended already.
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_file(self.directory.path().join("output"));
    }
}

/// What has the kernel end a process with its parent (util-linux).
const TIE: &str = "setpriv";

/// The command, ended by the kernel when the thread that starts it ends: a bench that is killed ends nothing itself, and
/// its server would take CPU from whatever is measured next.
pub(crate) fn tied(command: Command) -> Command {
    let mut outer = Command::new(TIE);
    outer.args(["--pdeathsig", "KILL", "--"]);
    wrapped(outer, command)
}

/// The command, of SCHED_IDLE: everybody else takes the CPU from it at once. A low nice value alone keeps it for some ms.
pub(crate) fn behind_all(command: Command) -> Command {
    let mut outer = Command::new("chrt");
    outer.args(["--idle", "0"]);
    wrapped(outer, command)
}

/// Says whether there is such a program before it is started by another, which would say it less clearly.
fn find(program: &OsStr) -> io::Result<()> {
    if Path::new(program).components().count() > 1 {
        return fs::metadata(program).map(drop);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// The command, under a tool.
fn under(tool: &Tool, command: Command) -> Command {
    let Tool::Callgrind(file) = tool else { return command };
    let mut outer = Command::new("valgrind");
    // Threads take turns: `probe::Stirring` says why. The profile's lines name files and functions in full.
    outer.args(["--tool=callgrind", "--fair-sched=yes", "--compress-pos=no", "--compress-strings=no"]);
    outer.arg(format!("--callgrind-out-file={}", file.display()));
    wrapped(outer, command)
}

/// `command` as the last arguments of `outer`, with its environment.
fn wrapped(mut outer: Command, command: Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Waits for what `answers` gives, as long as the process lives and the time is not up.
pub fn wait<T>(
    process: Option<&Process>,
    endpoint: &Endpoint,
    answers: impl Fn() -> Result<T, String>,
) -> Result<T, TargetError> {
    // Somebody else's server is up or it is not.
    let seconds = if process.is_some() { limits::START_SECONDS_MAX } else { 5 };
    let program = process.map_or_else(|| "the server".to_owned(), |process| process.program.clone());
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let last = match answers() {
            Ok(answer) => return Ok(answer),
            Err(last) => last,
        };
        if let Some((process, status)) = process.and_then(|process| Some((process, process.ended()?))) {
            return Err(TargetError::Ended { program, status, said: process.said() });
        }
        if Instant::now() > until {
            return Err(TargetError::Silent { program, endpoint: endpoint.clone(), seconds, last });
        }
        thread::sleep(START_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: Command) -> Result<Process, TargetError> {
        let directory = scratch().unwrap();
        Process::start(Start {
            command,
            install: Some("apt-get install pkg"),
            cpus: &[],
            tool: &Tool::None,
            directory,
        })
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = start(Command::new("no-such-server")).unwrap_err().to_string();
        assert!(error.contains("no-such-server") && error.contains("apt-get install pkg"), "{error}");
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo port taken >&2; exit 13"]);
        let process = start(command).unwrap();
        let endpoint = Endpoint::Tcp(free_address().unwrap());
        let error =
            wait(Some(&process), &endpoint, || Err::<(), _>("refused".to_owned())).unwrap_err().to_string();
        assert!(error.contains("port taken") && error.contains("13"), "{error}");
    }

    #[test]
    fn a_process_ends_with_its_owner() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = start(command).unwrap();
        let pid = process.pid();
        drop(process);
        assert!(kill_process(pid, Signal::CONT).is_err());
    }
}
