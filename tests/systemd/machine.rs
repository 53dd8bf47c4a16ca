//! A Debian of its own, booted by systemd-nspawn: its own systemd, processes and network, and nothing kept when it ends.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at whether something has come true.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One machine at a time: each has as many shards as this host has CPUs.
static TURN: Mutex<()> = Mutex::new(());

/// A machine that runs; it is switched off when this is dropped.
pub struct Machine {
    nspawn: Child,
    /// The machine's systemd.
    init: u32,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots the tree at `base`, over which everything that is written lies in memory.
    pub fn boot(base: &Path) -> Machine {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Should this test be killed, the machine ends as well.
        let nspawn = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"])
            .args(["--private-network", "--register=no", "--keep-unit", "--console=pipe"])
            .arg(format!("--machine=florin-test-{}", std::process::id()))
            .arg("--directory")
            .arg(base)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut machine = Machine { nspawn, init: 0, _turn: turn };
        machine.init = wait_for("the machine's systemd", || machine.find_init());
        wait_for("the machine to have booted", || {
            machine.run("systemctl is-system-running --wait").contains("running").then_some(())
        });
        machine
    }

    /// nspawn's child, once it is no longer nspawn itself.
    fn find_init(&mut self) -> Option<u32> {
        assert!(self.nspawn.try_wait().unwrap().is_none(), "systemd-nspawn has ended");
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "systemd").then_some(child)
    }

    /// What a line of shell prints in the machine, both streams, whatever it ends with.
    pub fn run(&self, line: &str) -> String {
        self.output(line).1
    }

    /// The same of a line that must end well.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let (is_fine, said) = self.output(line);
        assert!(is_fine, "{line}: {said}\n{}", self.run("journalctl --no-pager --lines=15"));
        said
    }

    /// The same of one that must not.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let (is_fine, said) = self.output(line);
        assert!(!is_fine, "{line}: {said}");
        said
    }

    fn output(&self, line: &str) -> (bool, String) {
        let output = Command::new("nsenter")
            .args(["--all", "--target", &self.init.to_string(), "--", "/bin/sh", "-c"])
            .arg(format!("export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive; cd /; {{ {line}; }} 2>&1"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// A property of a unit, as systemd has it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value --property={name} {unit}"))
    }

    /// Waits until a property has a value.
    #[track_caller]
    pub fn wait_for_property(&self, unit: &str, name: &str, value: &str) {
        wait_for(&format!("{name} of {unit} to be {value}"), || {
            (self.property(unit, name) == value).then_some(())
        });
    }

    /// A path of the machine, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Copies a file into the machine.
    pub fn put(&self, from: &Path, to: &str) {
        fs::copy(from, self.path(to)).unwrap();
    }

    /// Stops one thread of a process of the machine, as a debugger does, until it dies: whatever else happens to it. That is done by a process
    /// which ends then.
    #[track_caller]
    pub fn stop_thread(&self, pid: &str, name: &str) -> Child {
        let is_it =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let tasks = fs::read_dir(self.path(&format!("/proc/{pid}/task"))).unwrap();
        let task = tasks.map(|task| task.unwrap().path()).find(is_it).expect("a thread of that name");
        let hold = "import ctypes, os, sys\n\
            thread, ptrace = int(sys.argv[1]), ctypes.CDLL(None, use_errno=True).ptrace\n\
            SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000\n\
            for request in SEIZE, INTERRUPT:\n\
            \tif ptrace(request, thread, None, None): sys.exit(os.strerror(ctypes.get_errno()))\n\
            while os.WIFSTOPPED(os.waitpid(thread, WALL)[1]): pass\n";
        let init = self.init.to_string();
        let mut command = Command::new("nsenter");
        command
            .args(["--pid", "--target", &init, "--", "python3", "-c", hold])
            .arg(task.file_name().unwrap());
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// Gives the machine an address, from outside: the small Debian has no `ip`.
    #[track_caller]
    pub fn add_address(&self, address: &str) {
        let network = format!("--net=/proc/{}/ns/net", self.init);
        let output =
            Command::new("nsenter").args([&network, "ip", "address", "add", address, "dev", "lo"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Puts the calling thread on the machine's network.
    pub fn enter_network(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.nspawn), Signal::TERM);
        let _ = self.nspawn.wait();
    }
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
        thread::sleep(LOOK_EVERY);
    }
}
