//! What somebody needs to know to measure the same again.

use std::{collections::BTreeSet, env, fs, process::Command, thread};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::memory::MemoryFacts;

/// Host, build and command line of a measurement.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// When it began, RFC 3339.
    pub began_at: String,
    /// As typed.
    pub command: String,
    /// Of the working copy in which the bench ran, with `-dirty` where it had changes; empty outside of one.
    pub commit: String,
    /// Release and version.
    pub kernel: String,
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// CPUs of this process.
    pub cpus: usize,
    /// Of the host.
    pub memory_bytes: u64,
    /// How fast its memory is.
    #[serde(default)]
    pub memory: Option<MemoryFacts>,
    /// Which CPUs share a core, like `0,40 1,41`; empty where none do, or the host does not say.
    #[serde(default)]
    pub siblings: String,
    /// Release or debug: a debug build of the generator measures nothing but itself.
    pub generator_build: String,
    /// Of CPU 0, where the host says.
    pub cpu_governor: Option<String>,
}

impl Environment {
    /// Looks around.
    pub fn look() -> Environment {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
        let line = |path: &str, name: &str| {
            let text = read(path)?;
            let value =
                text.lines().find(|line| line.starts_with(name))?.split_once(':')?.1.trim().to_owned();
            Some(value)
        };
        let kib =
            line("/proc/meminfo", "MemTotal").and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
        let system = rustix::system::uname();
        Environment {
            began_at: Timestamp::now().to_string(),
            command: env::args().map(|argument| quoted(&argument)).collect::<Vec<_>>().join(" "),
            commit: commit(),
            kernel: format!("{} {}", system.release().to_string_lossy(), system.version().to_string_lossy()),
            cpu: line("/proc/cpuinfo", "model name").unwrap_or_default(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib.unwrap_or_default() * 1_024,
            memory: Some(MemoryFacts::look()),
            siblings: siblings(),
            generator_build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            cpu_governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        }
    }
}

fn siblings() -> String {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let of = |cpu: fs::DirEntry| fs::read_to_string(cpu.path().join("topology/thread_siblings_list")).ok();
    let all: BTreeSet<String> = cpus.filter_map(of).map(|list| list.trim().to_owned()).collect();
    let shared: Vec<String> = all.into_iter().filter(|list| list.contains([',', '-'])).collect();
    shared.join(" ")
}

fn commit() -> String {
    let describe =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]).output();
    match describe {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => String::new(),
    }
}

/// As a shell would have to be given it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,.:/+@".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_again() {
        assert_eq!(quoted("--target=florin,via=unix"), "--target=florin,via=unix");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn the_host_is_described() {
        let environment = Environment::look();
        assert!(
            environment.kernel.starts_with(char::is_numeric) && environment.memory_bytes > 0,
            "{environment:?}"
        );
    }
}
