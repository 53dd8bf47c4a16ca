//! The kinds of values that settings have, each with one reader for flags and file.

use std::net::SocketAddr;
use std::str::FromStr;

use florin_record::time;
use tracing_subscriber::EnvFilter;

use crate::auditor::Share;
use crate::drivers::{DriverChoice, Spin};
use crate::limits::{GROUP_NAME_BYTES_MAX, HOLDERS_MAX, SHARDS_MAX};
pub use crate::nodes::Advertise;

/// What a legal value looks like.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub(super) String);

fn expected<T>(what: impl Into<String>) -> Result<T, Expected> {
    Err(Expected(what.into()))
}

/// In the one spelling that numbers have.
fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    florin_schema::decimal(text)?.try_into().ok()
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
    /// The address, if any.
    pub fn address(this: Option<Listen>) -> Option<SocketAddr> {
        match this {
            Some(Listen::At(address)) => Some(address),
            Some(Listen::Off) | None => None,
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

/// Names of hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostNames(pub Vec<String>);

impl HostNames {
    /// The names, if any.
    pub fn hosts(this: Option<HostNames>) -> Vec<String> {
        this.map(|HostNames(names)| names).unwrap_or_default()
    }
}

impl FromStr for HostNames {
    type Err = Expected;

    /// RFC 1123, section 2.1; an underscore is no host's, but is in use.
    fn from_str(text: &str) -> Result<HostNames, Expected> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = |name: &str| name.len() <= 253 && name.split('.').all(is_label);
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names.iter().all(|name| is_name(name)) {
            true => Ok(HostNames(names)),
            false => expected("names of hosts without ports, separated by commas, like ledger.example.com"),
        }
    }
}

/// A consumer group's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupName(pub String);

impl FromStr for GroupName {
    type Err = Expected;

    fn from_str(text: &str) -> Result<GroupName, Expected> {
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        match (1..=GROUP_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_legal) {
            true => Ok(GroupName(text.to_owned())),
            false => expected(format!("a name of 1 to {GROUP_NAME_BYTES_MAX} letters, digits, -, . and _")),
        }
    }
}

/// How many nodes follow a partition beside its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standbys(pub usize);

impl FromStr for Standbys {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Standbys, Expected> {
        match number::<usize>(text) {
            Some(count) if count < HOLDERS_MAX => Ok(Standbys(count)),
            _ => expected(format!("a number from 0 to {}", HOLDERS_MAX - 1)),
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
        match number(text) {
            Some(count) if (1..=SHARDS_MAX).contains(&count) => Ok(Shards::Count(count)),
            _ if text == "auto" => Ok(Shards::Auto),
            _ => expected(format!("a number from 1 to {SHARDS_MAX}, or auto")),
        }
    }
}

/// How many shards a CPU may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardsPerCpu(pub u16);

impl FromStr for ShardsPerCpu {
    type Err = Expected;

    fn from_str(text: &str) -> Result<ShardsPerCpu, Expected> {
        match number(text) {
            Some(count) if (1..=SHARDS_MAX).contains(&count) => Ok(ShardsPerCpu(count)),
            _ => expected(format!("a number from 1 to {SHARDS_MAX}")),
        }
    }
}

/// How often, if at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    /// Never.
    Off,
    /// After so much.
    Every(u64),
}

impl Every {
    /// After how much, if at all.
    pub fn number(this: Option<Every>) -> Option<u64> {
        match this {
            Some(Every::Every(number)) => Some(number),
            Some(Every::Off) | None => None,
        }
    }
}

impl FromStr for Every {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Every, Expected> {
        match number(text) {
            Some(number) if number > 0 => Ok(Every::Every(number)),
            _ if text == "off" => Ok(Every::Off),
            _ => expected("a whole number above 0, or off"),
        }
    }
}

/// Whether something is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

impl FromStr for Switch {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Switch, Expected> {
        match text {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            _ => expected("on or off"),
        }
    }
}

/// The mode of a socket's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnixMode(pub u32);

impl FromStr for UnixMode {
    type Err = Expected;

    fn from_str(text: &str) -> Result<UnixMode, Expected> {
        match u32::from_str_radix(text, 8) {
            // 0o660 of a TOML file comes as 432, which would be another mode.
            Ok(mode) if mode <= 0o777 && text.starts_with('0') => Ok(UnixMode(mode)),
            _ => expected("a mode in octal, like 0660 (in a file as a string: \"0660\")"),
        }
    }
}

/// A group of this host's, by name or number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixGroup(pub String);

impl UnixGroup {
    /// Its number, which `/etc/group` knows.
    ///
    /// # Errors
    /// Where there is no such group: a file may be written on another host.
    pub fn number(&self) -> Result<u32, Expected> {
        let UnixGroup(text) = self;
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let named = groups.lines().find_map(|line| {
            let (name, rest) = line.split_once(':')?;
            rest.split(':').nth(1)?.parse().ok().filter(|_| name == text)
        });
        match number(text).or(named) {
            Some(group) => Ok(group),
            None => expected(format!("a group of /etc/group, or its number, found {text:?}")),
        }
    }
}

impl FromStr for UnixGroup {
    type Err = Expected;

    fn from_str(text: &str) -> Result<UnixGroup, Expected> {
        let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_name && !text.is_empty() {
            Ok(UnixGroup(text.to_owned()))
        } else {
            expected("a group's name or number")
        }
    }
}

/// How much time is spent on the audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audit {
    /// None.
    Off,
    /// So much of a CPU's.
    Share(Share),
}

impl FromStr for Audit {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Audit, Expected> {
        match text.parse() {
            Ok(share) => Ok(Audit::Share(share)),
            Err(_) if text == "off" => Ok(Audit::Off),
            Err(_) => expected("a share of a CPU's time from 0.01% to 100%, like 1%, or off"),
        }
    }
}

/// A list of CPUs, ascending, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpus(pub Vec<usize>);

impl FromStr for Cpus {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Cpus, Expected> {
        match florin_tune::numbers(text) {
            Some(cpus) => Ok(Cpus(cpus)),
            None => expected("a list of CPU numbers and ranges, like 0-3,8"),
        }
    }
}

/// A list of NUMA nodes, ascending, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nodes(pub Vec<usize>);

impl FromStr for Nodes {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Nodes, Expected> {
        match florin_tune::numbers(text) {
            Some(nodes) => Ok(Nodes(nodes)),
            None => expected("a list of NUMA nodes and ranges, like 0 or 0-1"),
        }
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
        match time::parse_us(text) {
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
        match number(text) {
            Some(ms) if ms > 0 => Ok(Staleness(ms)),
            _ => expected("a number of milliseconds from 1 to 4294967295"),
        }
    }
}

impl FromStr for Spin {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Spin, Expected> {
        match number(text) {
            Some(us) if us <= 1_000_000 => Ok(Spin::For(us)),
            _ if text == "auto" => Ok(Spin::Auto),
            _ => expected("a number of microseconds from 0 to 1000000, or auto"),
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Expected;

    fn from_str(text: &str) -> Result<LogFormat, Expected> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => expected("text or json"),
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
