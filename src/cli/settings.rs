//! Every setting of `florin serve`: a flag on the command line and a key of the configuration file, under one name and
//! read by one function. A flag wins over the file, the file over the default.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use toml::de::{DeTable, DeValue};

use crate::drivers::DriverChoice;
use crate::node::NodeConfig;

#[cfg(test)]
mod tests;
mod values;

pub use values::{
    Cpus, Driver, Expected, Instant, Ledger, Listen, LogFilter, Nodes, Shards, ShardsPerCpu, Spin, Staleness,
};

/// The ledger of a command that names none: a file in the working directory.
pub const LEDGER_PATH: &str = "florin.db";
/// Where the any-shard port listens unless told otherwise (wire.md).
pub const LISTEN: SocketAddr = local(7400);
/// The first of the shard ports unless told otherwise (wire.md).
pub const SHARD_LISTEN: SocketAddr = local(7401);
/// The admin port unless told otherwise.
pub const ADMIN: SocketAddr = local(7300);
/// How old the view may grow before answers turn into UNAVAILABLE.
pub const MAX_STALENESS_MS: u32 = 30_000;
/// What is logged unless told otherwise.
pub const LOG: &str = "info";

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// What was set, in one place: the flags, or the file.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// The ledger to serve; `florin import` and `florin generate` make one [default: sqlite:florin.db]
    #[arg(long, value_name = "sqlite:PATH")]
    pub ledger: Option<Ledger>,
    /// The any-shard port: every shard accepts on it [default: 127.0.0.1:7400]
    #[arg(long, value_name = "IP:PORT|off")]
    pub listen: Option<Listen>,
    /// The first of the shard ports: shard i accepts on this port + i [default: port 7401 of --listen's address]
    #[arg(long, value_name = "IP:PORT|off")]
    pub shard_listen: Option<Listen>,
    /// A unix socket besides, made with mode 0660: the cheapest way for callers on this host
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// The admin port: health, metrics, shards, and POST /v1/transactions [default: 127.0.0.1:7300]
    #[arg(long, value_name = "IP:PORT|off")]
    pub admin: Option<Listen>,
    /// How many shards, each a thread on a CPU of its own; auto = one for each allowed CPU, or --shards-per-cpu [default: auto]
    #[arg(long, value_name = "N|auto")]
    pub shards: Option<Shards>,
    /// The CPUs that shards may be pinned to [default: those this process may use]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<Cpus>,
    /// How many shards may take turns on a CPU: more than 1 only to try a larger host's layout out, for none of them is fast
    /// then [default: 1]
    #[arg(long, value_name = "N")]
    pub shards_per_cpu: Option<ShardsPerCpu>,
    /// The CPUs that all other threads are kept on [default: those this process may use]
    #[arg(long, value_name = "LIST")]
    pub housekeeping_cpus: Option<Cpus>,
    /// The NUMA nodes that shards may run on; each shard's memory is its node's [default: all]
    #[arg(long, value_name = "LIST")]
    pub numa: Option<Nodes>,
    /// How shards talk to the kernel: ring = io_uring; auto = the best that this kernel allows [default: auto]
    #[arg(long, value_name = "auto|ring|monoio|monoio-epoll|glommio")]
    pub driver: Option<Driver>,
    /// Poll for so long after the last input before a shard sleeps: answers a lone caller in half the time, and keeps
    /// its CPU busy (driver ring only) [default: 0]
    #[arg(long, value_name = "US")]
    pub spin_us: Option<Spin>,
    /// Fixes the clock, to replay history: windows end at this RFC 3339 time
    #[arg(long, value_name = "TIME")]
    pub now: Option<Instant>,
    /// Answer UNAVAILABLE once the ledger has not been followed for so long [default: 30000]
    #[arg(long, value_name = "MS")]
    pub max_staleness_ms: Option<Staleness>,
    /// What to log to standard error: error, warn, info, debug, trace, or module=level,… [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<LogFilter>,
}

/// The keys of a configuration file, in the order of the flags.
pub const KEYS: [&str; 15] = [
    "ledger",
    "listen",
    "shard-listen",
    "unix",
    "admin",
    "shards",
    "cpus",
    "shards-per-cpu",
    "housekeeping-cpus",
    "numa",
    "driver",
    "spin-us",
    "now",
    "max-staleness-ms",
    "log",
];

impl Settings {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Settings, SettingsError> {
        let text = fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Settings::parse(&text)
            .map_err(|defects| SettingsError::Defects { path: path.to_owned(), defects: Defects(defects) })
    }

    /// Reads a configuration file's text, and names everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Settings, Vec<Defect>> {
        let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut defects: Vec<Defect> = errors
            .iter()
            .map(|error| Defect {
                line: line_of(error.span().map_or(0, |span| span.start)),
                message: format!("this is not TOML: {}", error.message()),
            })
            .collect();
        let mut settings = Settings::default();
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let outcome = text_of(value.get_ref()).and_then(|value| settings.set(name, &value));
            let unknown = !KEYS.contains(&name);
            if unknown || outcome.is_err() {
                let message = match outcome {
                    Err(expected) if !unknown => format!("{name}: {expected}"),
                    _ => format!("unknown key {name:?}; the keys are {}", KEYS.join(", ")),
                };
                defects.push(Defect { line: line_of(key.span().start), message });
            }
        }
        defects.sort_by_key(|defect| defect.line);
        if defects.is_empty() { Ok(settings) } else { Err(defects) }
    }

    /// Takes one key's value; the error says what was expected.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        fn read<T: FromStr<Err = Expected>>(slot: &mut Option<T>, value: &str) -> Result<(), String> {
            *slot = Some(value.parse().map_err(|expected: Expected| format!("{expected}, found {value:?}"))?);
            Ok(())
        }
        match key {
            "ledger" => read(&mut self.ledger, value),
            "listen" => read(&mut self.listen, value),
            "shard-listen" => read(&mut self.shard_listen, value),
            "unix" => {
                self.unix = Some(PathBuf::from(value));
                Ok(())
            }
            "admin" => read(&mut self.admin, value),
            "shards" => read(&mut self.shards, value),
            "cpus" => read(&mut self.cpus, value),
            "shards-per-cpu" => read(&mut self.shards_per_cpu, value),
            "housekeeping-cpus" => read(&mut self.housekeeping_cpus, value),
            "numa" => read(&mut self.numa, value),
            "driver" => read(&mut self.driver, value),
            "spin-us" => read(&mut self.spin_us, value),
            "now" => read(&mut self.now, value),
            "max-staleness-ms" => read(&mut self.max_staleness_ms, value),
            "log" => read(&mut self.log, value),
            _ => Err("unknown".to_owned()),
        }
    }

    /// These settings, and the other's where these have none.
    pub fn or(self, other: Settings) -> Settings {
        Settings {
            ledger: self.ledger.or(other.ledger),
            listen: self.listen.or(other.listen),
            shard_listen: self.shard_listen.or(other.shard_listen),
            unix: self.unix.or(other.unix),
            admin: self.admin.or(other.admin),
            shards: self.shards.or(other.shards),
            cpus: self.cpus.or(other.cpus),
            shards_per_cpu: self.shards_per_cpu.or(other.shards_per_cpu),
            housekeeping_cpus: self.housekeeping_cpus.or(other.housekeeping_cpus),
            numa: self.numa.or(other.numa),
            driver: self.driver.or(other.driver),
            spin_us: self.spin_us.or(other.spin_us),
            now: self.now.or(other.now),
            max_staleness_ms: self.max_staleness_ms.or(other.max_staleness_ms),
            log: self.log.or(other.log),
        }
    }
}

/// What a node runs with: the settings, and the defaults of those that were not set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// The ledger's file.
    pub ledger: PathBuf,
    /// The any-shard port.
    pub listen: Option<SocketAddr>,
    /// The first shard port.
    pub shard_listen: Option<SocketAddr>,
    /// The unix socket.
    pub unix: Option<PathBuf>,
    /// The admin port.
    pub admin: Option<SocketAddr>,
    /// How many shards; as many as the allowed CPUs may have where nothing is said.
    pub shards: Option<u16>,
    /// Which CPUs are allowed; those of the process where nothing is said.
    pub cpus: Option<Vec<usize>>,
    /// How many shards a CPU may have.
    pub shards_per_cpu: u16,
    /// Where all other threads are kept; anywhere where nothing is said.
    pub housekeeping_cpus: Option<Vec<usize>>,
    /// On which NUMA nodes shards may run; on all where nothing is said.
    pub numa: Option<Vec<usize>>,
    /// How shards talk to the kernel.
    pub driver: DriverChoice,
    /// How long a shard polls before it sleeps.
    pub spin_us: u32,
    /// Where the wall clock stands still, µs since 1970 UTC.
    pub fixed_wall_us: Option<i64>,
    /// See [`MAX_STALENESS_MS`].
    pub max_staleness_ms: u32,
    /// What is logged.
    pub log: String,
}

impl Settings {
    /// Puts the defaults in, and checks what concerns several settings at once.
    pub fn effective(self) -> Result<Effective, SettingsError> {
        let listen = Listen::or_default(self.listen, LISTEN);
        let shard_listen = SocketAddr::new(listen.unwrap_or(SHARD_LISTEN).ip(), SHARD_LISTEN.port());
        let effective = Effective {
            ledger: self.ledger.unwrap_or_default().0,
            listen,
            // Callers are told ports, and use them at the address that they know: that of --listen.
            shard_listen: Listen::or_default(self.shard_listen, shard_listen),
            unix: self.unix,
            admin: Listen::or_default(self.admin, ADMIN),
            shards: match self.shards {
                Some(Shards::Count(count)) => Some(count),
                Some(Shards::Auto) | None => None,
            },
            cpus: self.cpus.map(|Cpus(cpus)| cpus),
            shards_per_cpu: self.shards_per_cpu.map_or(1, |ShardsPerCpu(count)| count),
            housekeeping_cpus: self.housekeeping_cpus.map(|Cpus(cpus)| cpus),
            numa: self.numa.map(|Nodes(nodes)| nodes),
            driver: self.driver.map_or(DriverChoice::Auto, |Driver(choice)| choice),
            spin_us: self.spin_us.map_or(0, |Spin(us)| us),
            fixed_wall_us: self.now.map(|Instant(us)| us),
            max_staleness_ms: self.max_staleness_ms.map_or(MAX_STALENESS_MS, |Staleness(ms)| ms),
            log: self.log.map_or_else(|| LOG.to_owned(), |LogFilter(filter)| filter),
        };
        if effective.listen.is_none() && effective.shard_listen.is_none() && effective.unix.is_none() {
            return Err(SettingsError::NoListener);
        }
        if let (Some(listen), Some(shard_listen)) = (effective.listen, effective.shard_listen)
            && shard_listen.ip().is_loopback()
            && !listen.ip().is_loopback()
        {
            return Err(SettingsError::UnreachableShards { listen, shard_listen });
        }
        Ok(effective)
    }
}

impl Effective {
    /// The keys whose values differ.
    pub fn changed_keys(&self, other: &Effective) -> Vec<&'static str> {
        let is_changed: [bool; KEYS.len()] = [
            self.ledger != other.ledger,
            self.listen != other.listen,
            self.shard_listen != other.shard_listen,
            self.unix != other.unix,
            self.admin != other.admin,
            self.shards != other.shards,
            self.cpus != other.cpus,
            self.shards_per_cpu != other.shards_per_cpu,
            self.housekeeping_cpus != other.housekeeping_cpus,
            self.numa != other.numa,
            self.driver != other.driver,
            self.spin_us != other.spin_us,
            self.fixed_wall_us != other.fixed_wall_us,
            self.max_staleness_ms != other.max_staleness_ms,
            self.log != other.log,
        ];
        KEYS.into_iter().zip(is_changed).filter_map(|(key, changed)| changed.then_some(key)).collect()
    }

    /// What of it concerns the node.
    pub(super) fn into_node(self) -> NodeConfig {
        NodeConfig {
            ledger: self.ledger,
            listen: self.listen,
            shard_listen: self.shard_listen,
            unix: self.unix,
            shards: self.shards,
            cpus: self.cpus,
            shards_per_cpu: self.shards_per_cpu,
            housekeeping_cpus: self.housekeeping_cpus,
            numa: self.numa,
            inherited: Default::default(),
            driver: self.driver,
            spin_us: self.spin_us,
            fixed_wall_us: self.fixed_wall_us,
            max_staleness_ms: self.max_staleness_ms,
        }
    }
}

/// A value's text: one reader then serves flags and file, and `shards = 2` means the same as `shards = "2"`.
fn text_of(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.as_ref().to_owned()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Datetime(time) => Ok(time.to_string()),
        other => {
            Err(format!("expected a string or a whole number, found a value of type {}", other.type_str()))
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No such file, or no permission.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content.
    #[error("the configuration {} cannot be used:\n{defects}", .path.display())]
    Defects {
        /// The file.
        path: PathBuf,
        /// All of them.
        defects: Defects,
    },
    /// Nobody could ask anything.
    #[error(
        "nothing listens: --listen and --shard-listen are off, and there is no --unix PATH; leave one of them on"
    )]
    NoListener,
    /// Callers would be told of ports that they cannot reach.
    #[error(
        "--listen {listen} takes callers of other hosts, and tells them of shard ports on {shard_listen}, which only this host \
         reaches: leave --shard-listen to follow --listen, give it an address that they reach, or turn it off"
    )]
    UnreachableShards {
        /// The any-shard port.
        listen: SocketAddr,
        /// The first shard port.
        shard_listen: SocketAddr,
    },
}

/// What is wrong in one line of a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Defect {
    /// From 1.
    pub line: usize,
    /// What, and what was expected.
    pub message: String,
}

/// All that is wrong with a configuration file, by line.
#[derive(Debug)]
pub struct Defects(pub Vec<Defect>);

impl fmt::Display for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Defect { line, message }) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "  line {line}: {message}{end}")?;
        }
        Ok(())
    }
}
