//! Every setting of `florin serve`: a flag on the command line and a key of the configuration file, under one name and
//! read by one function. A flag wins over the file, the file over the default.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

use crate::drivers::DriverChoice;
use crate::limits::SHARDS_MAX;
use crate::node::NodeConfig;
use crate::store;

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
    /// The first of the shard ports: shard i accepts on this port + i [default: 127.0.0.1:7401]
    #[arg(long, value_name = "IP:PORT|off")]
    pub shard_listen: Option<Listen>,
    /// A unix socket besides, made with mode 0660: the cheapest way for callers on this host
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// The admin port: health, metrics, shards, and POST /v1/transactions [default: 127.0.0.1:7300]
    #[arg(long, value_name = "IP:PORT|off")]
    pub admin: Option<Listen>,
    /// How many shards, each a thread on a CPU of its own; auto = one for each allowed CPU [default: auto]
    #[arg(long, value_name = "N|auto")]
    pub shards: Option<Shards>,
    /// The CPUs that shards may be pinned to [default: those this process may use]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<Cpus>,
    /// How shards talk to the kernel: ring = io_uring; auto = the best that this kernel allows [default: auto]
    #[arg(long, value_name = "auto|ring|monoio|monoio-epoll|glommio")]
    pub driver: Option<Driver>,
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
pub const KEYS: [&str; 11] = [
    "ledger",
    "listen",
    "shard-listen",
    "unix",
    "admin",
    "shards",
    "cpus",
    "driver",
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
            "driver" => read(&mut self.driver, value),
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
            driver: self.driver.or(other.driver),
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
    /// How many shards; one for each allowed CPU where nothing is said.
    pub shards: Option<u16>,
    /// Which CPUs are allowed; those of the process where nothing is said.
    pub cpus: Option<Vec<usize>>,
    /// How shards talk to the kernel.
    pub driver: DriverChoice,
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
        let effective = Effective {
            ledger: self.ledger.unwrap_or_default().0,
            listen: Listen::or_default(self.listen, LISTEN),
            shard_listen: Listen::or_default(self.shard_listen, SHARD_LISTEN),
            unix: self.unix,
            admin: Listen::or_default(self.admin, ADMIN),
            shards: match self.shards {
                Some(Shards::Count(count)) => Some(count),
                Some(Shards::Auto) | None => None,
            },
            cpus: self.cpus.map(|Cpus(cpus)| cpus),
            driver: self.driver.map_or(DriverChoice::Auto, |Driver(choice)| choice),
            fixed_wall_us: self.now.map(|Instant(us)| us),
            max_staleness_ms: self.max_staleness_ms.map_or(MAX_STALENESS_MS, |Staleness(ms)| ms),
            log: self.log.map_or_else(|| LOG.to_owned(), |LogFilter(filter)| filter),
        };
        if effective.listen.is_none() && effective.shard_listen.is_none() && effective.unix.is_none() {
            return Err(SettingsError::NoListener);
        }
        Ok(effective)
    }
}

impl Effective {
    /// What of it concerns the node.
    pub(super) fn into_node(self) -> NodeConfig {
        NodeConfig {
            ledger: self.ledger,
            listen: self.listen,
            shard_listen: self.shard_listen,
            unix: self.unix,
            shards: self.shards,
            cpus: self.cpus,
            driver: self.driver,
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

/// What a legal value looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(String);

fn expected<T>(what: impl Into<String>) -> Result<T, Expected> {
    Err(Expected(what.into()))
}

/// The file behind `sqlite:PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger(pub PathBuf);

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.0.display())
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger(PathBuf::from(LEDGER_PATH))
    }
}

impl FromStr for Ledger {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Ledger, Expected> {
        match text.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Ledger(PathBuf::from(path))),
            _ => expected("sqlite:PATH, for example sqlite:/var/lib/florin/ledger.db"),
        }
    }
}

/// Where to listen, if at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl Listen {
    /// The address, `default` where nothing was said.
    pub fn or_default(this: Option<Listen>, default: SocketAddr) -> Option<SocketAddr> {
        match this {
            Some(Listen::Off) => None,
            Some(Listen::At(address)) => Some(address),
            None => Some(default),
        }
    }
}

impl FromStr for Listen {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Listen, Expected> {
        match text.parse() {
            Ok(address) => Ok(Listen::At(address)),
            Err(_) if text == "off" => Ok(Listen::Off),
            Err(_) => expected("an IP address and a port, like 127.0.0.1:7400 or [::]:7400, or off"),
        }
    }
}

/// How many shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shards {
    /// One for each allowed CPU.
    Auto,
    /// So many.
    Count(u16),
}

impl FromStr for Shards {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Shards, Expected> {
        match text.parse() {
            Ok(count) if (1..=SHARDS_MAX).contains(&count) => Ok(Shards::Count(count)),
            _ if text == "auto" => Ok(Shards::Auto),
            _ => expected(format!("a number from 1 to {SHARDS_MAX}, or auto")),
        }
    }
}

/// A list of CPUs, ascending, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpus(pub Vec<usize>);

impl Cpus {
    /// What Linux can number: CONFIG_NR_CPUS ends at 8,192 on every architecture.
    const COUNT_MAX: usize = 8_192;

    fn range(part: &str) -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < Cpus::COUNT_MAX).then_some(first..=last)
    }
}

impl FromStr for Cpus {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Cpus, Expected> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let Some(range) = Cpus::range(part) else {
                return expected("a list of CPU numbers and ranges, like 0-3,8");
            };
            cpus.extend(range);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Cpus(cpus))
    }
}

/// How shards talk to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Driver(pub DriverChoice);

impl FromStr for Driver {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Driver, Expected> {
        text.parse().map(Driver).or_else(|_| expected("auto, ring, monoio, monoio-epoll or glommio"))
    }
}

/// A moment, µs since 1970 UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instant(pub i64);

impl FromStr for Instant {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Instant, Expected> {
        match store::time::parse_us(text) {
            Ok(us) => Ok(Instant(us)),
            Err(_) => expected("a time like 1994-03-31T23:59:59Z (RFC 3339, years 0001 to 9999)"),
        }
    }
}

/// Milliseconds that a view may fall behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Staleness(pub u32);

impl FromStr for Staleness {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Staleness, Expected> {
        match text.parse() {
            Ok(ms) if ms > 0 => Ok(Staleness(ms)),
            _ => expected("a number of milliseconds from 1 to 4294967295"),
        }
    }
}

/// What is logged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilter(pub String);

impl FromStr for LogFilter {
    type Err = Expected;

    fn from_str(text: &str) -> Result<LogFilter, Expected> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(LogFilter(text.to_owned())),
            _ => expected(
                "error, warn, info, debug, trace, or module=level pairs, like info,florin::feed=debug",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const FULL: &str = r#"
        # A comment.
        ledger = "sqlite:/tmp/l.db"
        listen = "0.0.0.0:1"
        shard-listen = "[::]:2"
        unix = "/run/florin.sock"
        admin = "off"
        shards = 4
        cpus = "0-3,8,2"
        driver = "ring"
        now = 1994-03-31T23:59:59Z
        max-staleness-ms = 1000
        log = "warn"
    "#;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn every_flag_is_a_key_and_every_key_a_flag() {
        let command = Flags::command();
        let flags: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
        assert_eq!(flags, KEYS);
        let read = Settings::parse(FULL).unwrap();
        let set = Settings {
            ledger: Some(Ledger("/tmp/l.db".into())),
            listen: Some(Listen::At("0.0.0.0:1".parse().unwrap())),
            shard_listen: Some(Listen::At("[::]:2".parse().unwrap())),
            unix: Some("/run/florin.sock".into()),
            admin: Some(Listen::Off),
            shards: Some(Shards::Count(4)),
            cpus: Some(Cpus(vec![0, 1, 2, 3, 8])),
            driver: Some(Driver(DriverChoice::Ring)),
            now: Some(Instant(765_158_399_000_000)),
            max_staleness_ms: Some(Staleness(1_000)),
            log: Some(LogFilter("warn".to_owned())),
        };
        assert_eq!(read, set);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = Settings::parse(FULL).unwrap();
        let flags = Settings::parse("shards = \"auto\"\nadmin = \"127.0.0.1:9\"").unwrap();
        let merged = flags.clone().or(file.clone());
        assert_eq!(merged, Settings { shards: flags.shards, admin: flags.admin, ..file });
    }

    #[test]
    fn each_defect_is_named_with_its_line() {
        let text = "shards = 0\nlisen = \"x\"\ncpus = \"3-1\"\n\nledger = \"postgres://x\"\nunix = [1]\nlisten = \"localhost\"";
        let defects = Settings::parse(text).unwrap_err();
        let expected = [
            (1, "shards: expected a number from 1 to 256, or auto, found \"0\""),
            (2, "unknown key \"lisen\"; the keys are ledger, listen,"),
            (3, "cpus: expected a list of CPU numbers and ranges, like 0-3,8, found \"3-1\""),
            (5, "ledger: expected sqlite:PATH"),
            (6, "unix: expected a string or a whole number, found a value of type array"),
            (7, "listen: expected an IP address and a port"),
        ];
        assert_eq!(defects.len(), expected.len(), "{defects:?}");
        for (defect, (line, message)) in defects.iter().zip(expected) {
            assert_eq!(defect.line, line, "{defect:?}");
            assert!(defect.message.starts_with(message), "{defect:?}");
        }
    }

    #[test]
    fn what_is_not_set_has_a_default_and_somebody_must_listen() {
        let effective = Settings::default().effective().unwrap();
        assert_eq!(effective.ledger, Path::new("florin.db"));
        assert_eq!(effective.listen.unwrap().to_string(), "127.0.0.1:7400");
        assert_eq!(effective.shard_listen.unwrap().to_string(), "127.0.0.1:7401");
        assert_eq!(effective.admin.unwrap().to_string(), "127.0.0.1:7300");
        assert_eq!((effective.shards, effective.max_staleness_ms), (None, 30_000));
        let silent = Settings::parse("listen = \"off\"\nshard-listen = \"off\"").unwrap();
        assert!(matches!(silent.clone().effective(), Err(SettingsError::NoListener)));
        assert!(Settings { unix: Some("s".into()), ..silent }.effective().is_ok());
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        let defects = Settings::parse("shards = 1\n\nlisten = = 3\n").unwrap_err();
        assert!(defects.iter().all(|defect| defect.line == 3), "{defects:?}");
        let twice = Settings::parse("shards = 1\nshards = 2\n").unwrap_err();
        assert_eq!(twice[0].line, 2, "{twice:?}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for shards in ["-1", "257", "", "two"] {
            assert!(shards.parse::<Shards>().is_err(), "{shards}");
        }
        for cpus in ["", "a", "1-", "-1", "0,,1", "0-8192", "18446744073709551616"] {
            assert!(cpus.parse::<Cpus>().is_err(), "{cpus}");
        }
        for now in ["yesterday", "1994-03-31", "10000-01-01T00:00:00Z"] {
            assert!(now.parse::<Instant>().is_err(), "{now}");
        }
        for ms in ["0", "-1", "4294967296"] {
            assert!(ms.parse::<Staleness>().is_err(), "{ms}");
        }
        for ledger in ["ledger.db", "sqlite:", "mysql:x"] {
            assert!(ledger.parse::<Ledger>().is_err(), "{ledger}");
        }
    }
}
