//! Starts florin itself, and other servers that take the same flags.

use std::{path::Path, process::Command};

use super::{
    Bench, Process, Target, TargetError, TargetSpec, Tool, Via, hello,
    probe::Stirring,
    process::{self, Start},
    secured::Secured,
};
use crate::{
    affinity::Cpus,
    generator::{Endpoint, Endpoints},
};

/// Starts `florin serve`.
pub(super) fn start(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
    let directory = process::scratch()?;
    let (address, unix) = (process::free_address()?, directory.path().join("socket"));
    let Secured { flags, listen, access, bounded } = Secured::make(spec, directory.path())?;
    let mut command = Command::new(spec.binary.as_ref().unwrap_or(&bench.florin));
    command.arg("serve").args(ledger(spec, bench)?);
    command.args(["--listen", &address.to_string(), "--admin", "off"]);
    let shards = spec.shards.or((bench.tool != Tool::None).then_some(1));
    let stirred = match bench.tool {
        Tool::None => None,
        Tool::Callgrind(_) => Some(process::free_neighbours(shards.unwrap_or(1))?),
    };
    match &stirred {
        None => command.args(["--shard-listen", "127.0.0.1:0"]),
        // There it is slow, not ill.
        Some(ports) => {
            let staleness_ms = u32::MAX.to_string();
            command.args(["--shard-listen", &ports[0].to_string(), "--max-staleness-ms", &staleness_ms])
        }
    };
    command.arg("--unix").arg(&unix);
    if !bench.server_cpus.is_empty() {
        command.arg("--cpus").arg(Cpus(bench.server_cpus.clone()).to_string());
    }
    if let Some(driver) = &spec.driver {
        command.args(["--driver", driver]);
    }
    if let Some(shards) = shards {
        command.args(["--shards", &shards.to_string()]);
    }
    command.args(flags).args(&spec.flags);
    let process = spawn(command, directory, bench)?;
    let address = listen.unwrap_or(address);
    let any = Endpoint::Tcp(address);
    let stirring = stirred.map(|ports| Stirring::start(ports, &access));
    let endpoints = match spec.via {
        Via::Any | Via::Http => Endpoints::Any(any),
        Via::Unix => Endpoints::Any(Endpoint::Unix(unix)),
        Via::Shard | Via::Neighbour => {
            let shards = || hello::shard_ports(address, &access).map_err(|error| error.to_string());
            let ports = process::wait(Some(&process), &any, shards)?;
            match spec.via {
                Via::Neighbour => hello::neighbours(address, ports)?,
                _ => Endpoints::ByShard(ports),
            }
        }
    };
    let bounded = bounded.map(|options| format!("florin,addr={address},{options}"));
    Ok(Target { stirring, access, bounded, ..Target::started(spec, bench, process, endpoints) })
}

/// Starts another server with wire.md's three endpoints; it takes `--ledger sqlite:PATH --listen IP:PORT`, or a PostgreSQL's address.
pub(super) fn start_http(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
    let binary = spec.binary.as_ref().ok_or(TargetError::Needs("http needs addr=IP:PORT or binary=PATH"))?;
    let address = process::free_address()?;
    let mut command = Command::new(binary);
    command.args(ledger(spec, bench)?).args(["--listen", &address.to_string()]).args(&spec.flags);
    let process = spawn(command, process::scratch()?, bench)?;
    Ok(Target::started(spec, bench, process, Endpoints::Any(Endpoint::Tcp(address))))
}

fn ledger(spec: &TargetSpec, bench: &Bench) -> Result<[String; 2], TargetError> {
    let path: &Path = bench.ledger.as_deref().ok_or(TargetError::Needs(
        "a server that the bench starts needs a ledger: give --ledger sqlite:PATH, or let --users generate one",
    ))?;
    let address = match &bench.postgres {
        None => format!("sqlite:{}", path.display()),
        Some(copy) => copy.address_for(&spec.label()),
    };
    Ok(["--ledger".to_owned(), address])
}

fn spawn(command: Command, directory: tempfile::TempDir, bench: &Bench) -> Result<Process, TargetError> {
    Process::start(Start { command, install: None, cpus: &bench.server_cpus, tool: &bench.tool, directory })
}

/// The drivers that a florin binary has, but for `auto`: the value of `--driver` in its help.
pub fn drivers(binary: &Path) -> Result<Vec<String>, TargetError> {
    let output = Command::new(binary).args(["serve", "--help"]).output().map_err(|source| {
        TargetError::Missing { program: binary.display().to_string(), install: None, source }
    })?;
    let help = String::from_utf8_lossy(&output.stdout);
    drivers_in(&help).ok_or(TargetError::Needs("this florin's help does not say which drivers it has"))
}

fn drivers_in(help: &str) -> Option<Vec<String>> {
    let (_, rest) = help.split_once("--driver <")?;
    let (values, _) = rest.split_once('>')?;
    Some(values.split('|').filter(|&driver| driver != "auto").map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_what_the_help_says() {
        let help = "      --driver <auto|ring|monoio>\n          How shards talk to the kernel\n";
        assert_eq!(drivers_in(help).unwrap(), ["ring", "monoio"]);
        assert_eq!(drivers_in("--shards <N|auto>"), None);
    }
}
