//! Every setting of `florin serve`: a flag on the command line and a key of the configuration file, under one name and
//! read by one function. A flag wins over the file, the file over the default. Each is declared once, below.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use florin_input::read_text;
use florin_record::LedgerError;
use toml::de::{DeTable, DeValue};

use crate::admin::Hosts;
use crate::callers::SecretSource;
use crate::checkpoints::CheckpointConfig;
use crate::drivers::listen::UnixAccess;
use crate::drivers::{DriverChoice, Spin, tcp};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_READ};
use crate::node::{NodeConfig, TlsConfig};
use crate::nodes::GroupConfig;
use crate::sources::{LedgerAddress, LedgerColumns, LedgerKinds, with_password};
use crate::tls::TlsFiles;

#[macro_use]
mod declaration;
#[cfg(test)]
mod tests;
mod values;

pub use values::{
    Advertise, Audit, Cpus, Driver, Every, Expected, GroupName, HostNames, Instant, Listen, LogFilter,
    LogFormat, Nodes, Shards, ShardsPerCpu, Staleness, Standbys, Switch, UnixGroup, UnixMode,
};

/// Where the any-shard port listens unless told otherwise (wire.md).
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7400);
/// The first of the shard ports unless told otherwise (wire.md).
const SHARD_PORT: u16 = 7401;

settings! {
    /// The ledger to serve; `florin import` and `florin generate` make one
    "ledger" ledger: LedgerAddress, "sqlite:PATH|postgres://…|kafka://…", default "sqlite:florin.db";
    /// Columns of a PostgreSQL table that bear other names than florin's own, as FIELD=COLUMN,…; version=derived where there is
    /// none. In a file: ledger = { address = "postgres://…" } with [ledger.columns] and [ledger.kinds]
    "ledger-columns" ledger_columns: LedgerColumns, "FIELD=COLUMN,…";
    /// What its own words for kinds mean, as WORD=KIND,…; - before a kind: its amounts are below 0; KIND|-KIND: the sign says which
    "ledger-kinds" ledger_kinds: LedgerKinds, "WORD=KIND,…";
    /// The any-shard port: every shard accepts on it
    "listen" listen: Listen, "IP:PORT|off", default "127.0.0.1:7400";
    /// The first of the shard ports: shard i accepts on this port + i [default: port 7401 of --listen's address]
    "shard-listen" shard_listen: Listen, "IP:PORT|off";
    /// A unix socket besides: the cheapest way for callers on this host
    "unix" unix: PathBuf, "PATH";
    /// The mode of its file: who may connect
    "unix-mode" unix_mode: UnixMode, "OCTAL", default "0660";
    /// The group that it is given to, by name or number [default: this process's]
    "unix-group" unix_group: UnixGroup, "GROUP";
    /// The any-shard port for callers by TLS 1.3, which needs --tls-cert and --tls-key
    "tls-listen" tls_listen: Listen, "IP:PORT|off", default "off";
    /// The first of the shard ports for TLS: shard i accepts on this port + i [default: the port after --tls-listen's]
    "tls-shard-listen" tls_shard_listen: Listen, "IP:PORT|off";
    /// The admin port by TLS, besides
    "tls-admin" tls_admin: Listen, "IP:PORT|off", default "off";
    /// The node's certificate, and those between it and its authority, in PEM; SIGHUP reads it again
    "tls-cert" tls_cert: PathBuf, "FILE";
    /// The certificate's private key, in PEM; SIGHUP reads it again
    "tls-key" tls_key: PathBuf, "FILE";
    /// Authorities in PEM: callers by TLS must show a certificate that one of them has signed; SIGHUP reads it again
    "tls-client-ca" tls_client_ca: PathBuf, "FILE";
    /// The admin port: console, health, metrics, shards, and POST /v1/transactions
    "admin" admin: Listen, "IP:PORT|off", default "127.0.0.1:7300";
    /// Further names under which the admin port shows the console and takes POST /v1/transactions, besides addresses, localhost and this host's own name:
    /// a DNS name that leads here. By a name that anybody else may point here a web page could write
    "admin-host" admin_host: HostNames, "NAME,…" [reloadable];
    /// How many shards, each a thread on a CPU of its own; auto = one for each allowed CPU, no more than a quota (cpu.max) grants,
    /// or --shards-per-cpu
    "shards" shards: Shards, "N|auto", default "auto";
    /// The CPUs that shards may be pinned to [default: those this process may use]
    "cpus" cpus: Cpus, "LIST";
    /// How many shards may take turns on a CPU: more than 1 only to try a larger host's layout out, for none of them is fast
    /// then
    "shards-per-cpu" shards_per_cpu: ShardsPerCpu, "N", default "1";
    /// The CPUs that all other threads are kept on [default: those this process may use]
    "housekeeping-cpus" housekeeping_cpus: Cpus, "LIST";
    /// The NUMA nodes that shards may run on; each shard's memory is its node's [default: all]
    "numa" numa: Nodes, "LIST";
    /// How shards talk to the kernel: ring = io_uring; auto = the best that this kernel allows
    "driver" driver: Driver, "auto|ring|monoio|monoio-epoll|glommio", default "auto";
    /// Poll for so long after the last input before a shard sleeps: answers a lone caller in half the time, and keeps
    /// its CPU busy; auto = while the next input is likely soon, by those before (driver ring only)
    "spin-us" spin_us: Spin, "US|auto", default "0";
    /// Fixes the clock, to replay history: windows end at this RFC 3339 time
    "now" now: Instant, "TIME";
    /// Divide the users with other nodes by a Kafka topic's partitions: those that join this consumer group
    "group" group: GroupName, "NAME";
    /// Where callers and the other nodes of --group reach this one [default: the address of --listen, or this host's name where that is
    /// all of them; the ports of --listen and --tls-listen]
    "advertise" advertise: Advertise, "HOST[:PORT][,tls=PORT]";
    /// How many nodes of --group follow each partition beside its owner, to answer at once where that is gone
    "standbys" standbys: Standbys, "N", default "1";
    /// A file with the token that proves this node to the others of --group, where they want one; read again with each connection to one
    "group-token-file" group_token_file: PathBuf, "FILE";
    /// The authorities of which the other nodes of --group must have their certificates, in PEM [default: those of --tls-client-ca, or
    /// else those that this host trusts]
    "group-tls-ca" group_tls_ca: PathBuf, "FILE";
    /// Answer UNAVAILABLE once the ledger has not been followed for so long
    "max-staleness-ms" max_staleness_ms: Staleness, "MS", default "30000";
    /// Keep checkpoints here, and start from the newest: a restart then reads of the ledger only what has come since
    "checkpoint" checkpoint: PathBuf, "DIR";
    /// Make a checkpoint when the last is so many seconds old and something has come since
    "checkpoint-every-s" checkpoint_every_s: Every, "S|off", default "600";
    /// Make a checkpoint when so many transactions have come since the last
    "checkpoint-every-rows" checkpoint_every_rows: Every, "N|off", default "off";
    /// Make a checkpoint before the node ends on SIGTERM or SIGINT, and drain only then
    "checkpoint-at-exit" checkpoint_at_exit: Switch, "on|off", default "off";
    /// Who may ask what: callers have to prove who they are, and SIGHUP reads the file again; florin principal add makes entries
    "principals" principals: PathBuf, "FILE";
    /// Write who was refused, and who did what only few may do, to the end of this file, as JSON lines; SIGHUP opens it anew
    "audit-log" audit_log: PathBuf, "FILE";
    /// Listen on addresses that other hosts reach though nobody has to prove who it is: everybody there reads every balance. Also: show
    /// the token of --group-token-file to whoever says that it is a node, in plain
    "insecure-listen" insecure_listen: Switch, "on|off", default "off";
    /// Compare what is answered with the ledger, again and again, and take so much of a CPU's time for it: accounts that differ are
    /// named in the log, quarantined and read again
    "audit" audit: Audit, "PERCENT%|off", default "off";
    /// What to log to standard error: error, warn, info, debug, trace, or module=level,…
    "log" log: LogFilter, "FILTER", default "info" [reloadable];
    /// How the log is written: text = lines for people; json = an object a line, for whatever collects logs
    "log-format" log_format: LogFormat, "text|json", default "text";
    /// Log answers that took so many microseconds from where their requests were read, and what they waited for; ten lines a second
    /// at most, what is more is counted
    "slow-us" slow_us: Every, "US|off", default "off";
}

impl Settings {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Settings, SettingsError> {
        let text = read_text(path, CONFIG_BYTES_MAX, CONFIG_READ)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Settings::parse(&text)
            .map_err(|defects| SettingsError::Defects { path: path.to_owned(), defects: BadLines(defects) })
    }

    /// Reads a configuration file's text, and names everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Settings, Vec<BadLine>> {
        let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut defects: Vec<BadLine> = errors
            .iter()
            .map(|error| BadLine {
                line: line_of(error.span().map_or(0, |span| span.start)),
                message: format!("this is not TOML: {}", error.message()),
            })
            .collect();
        let mut settings = Settings::default();
        let broken: Vec<usize> = defects.iter().map(|defect| defect.line).collect();
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let line = line_of(key.span().start);
            if broken.contains(&line) {
                // What was read of a line that is no TOML is no value.
                continue;
            }
            let message = if let ("ledger", DeValue::Table(table)) = (name, value.get_ref()) {
                settings.set_ledger(table).err()
            } else if KEYS.contains(&name) {
                let outcome = text_of(value.get_ref()).and_then(|value| settings.set(name, &value));
                outcome.err().map(|expected| format!("{name}: {expected}"))
            } else {
                Some(format!("unknown key {name:?}; the keys are {}", KEYS.join(", ")))
            };
            if let Some(message) = message {
                defects.push(BadLine { line, message });
            }
        }
        defects.sort_by_key(|defect| defect.line);
        defects.dedup();
        if defects.is_empty() { Ok(settings) } else { Err(defects) }
    }
}

impl Settings {
    /// `[ledger]`: what a ledger that is mapped takes, in tables instead of lists.
    fn set_ledger(&mut self, table: &DeTable<'_>) -> Result<(), String> {
        for (key, value) in table {
            let key = match key.get_ref().as_ref() {
                "address" => "ledger",
                "columns" => "ledger-columns",
                "kinds" => "ledger-kinds",
                other => return Err(format!("ledger.{other}: expected address, columns or kinds")),
            };
            let text = match value.get_ref() {
                DeValue::Table(pairs) if key != "ledger" => list_of(pairs)?,
                value => text_of(value)?,
            };
            self.set(key, &text).map_err(|expected| format!("{key}: {expected}"))?;
        }
        Ok(())
    }

    /// The ledger, with what its columns and words are.
    pub fn ledger_address(&self) -> Result<LedgerAddress, SettingsError> {
        let address = self.ledger.clone().unwrap_or_default();
        if address == LedgerAddress::WithPassword {
            return Err(SettingsError::Password(with_password()));
        }
        let columns = self.ledger_columns.clone().unwrap_or_default();
        let kinds = self.ledger_kinds.clone().unwrap_or_default();
        address.mapped(&columns, &kinds).map_err(SettingsError::Mapping)
    }
}

impl Settings {
    /// Whom the users are divided with.
    fn group(
        &self,
        ledger: &LedgerAddress,
        tls: Option<&TlsConfig>,
    ) -> Result<Option<GroupConfig>, SettingsError> {
        let Some(GroupName(name)) = &self.group else {
            let without = [
                ("--advertise", self.advertise.is_some()),
                ("--group-token-file", self.group_token_file.is_some()),
                ("--group-tls-ca", self.group_tls_ca.is_some()),
            ];
            let given = without.into_iter().find(|(_, is_given)| *is_given);
            return given.map_or(Ok(None), |(flag, _)| Err(SettingsError::GroupMissing { flag }));
        };
        if !ledger.has_partitions() {
            return Err(SettingsError::GroupWithoutPartitions);
        }
        let (plain, by_tls) = (Listen::address(self.listen), Listen::address(self.tls_listen));
        if plain.or(by_tls).is_none() {
            return Err(SettingsError::GroupWithoutPort);
        }
        let config = GroupConfig {
            name: name.clone(),
            advertise: self.advertise.clone(),
            standbys: self.standbys.map_or(1, |Standbys(count)| count),
            token: self.group_token_file.clone().map(SecretSource::File),
            is_open: self.insecure_listen == Some(Switch::On),
            tls: tls.filter(|_| by_tls.is_some()).map(|tls| tls.files.clone()),
            authorities: self.group_tls_ca.clone(),
        };
        // The others are asked as this one is: by TLS where it has that, and on other hosts where it is reached by them.
        let (flag, reached) = by_tls.map_or(("--listen", plain), |_| ("--tls-listen", by_tls));
        if let Some(address) = reached.filter(|reached| !config.may_ask(reached.ip(), by_tls.is_some())) {
            return Err(SettingsError::GroupTokenOpen { flag, address });
        }
        Ok(Some(config))
    }

    /// Who comes by TLS, and what they are shown.
    fn tls(&self) -> Result<Option<TlsConfig>, SettingsError> {
        let listen = Listen::address(self.tls_listen);
        let shard_listen = Listen::address(self.tls_shard_listen);
        let admin = Listen::address(self.tls_admin);
        let is_wanted = listen.is_some() || shard_listen.is_some() || admin.is_some();
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) if is_wanted => {
                let files = TlsFiles { certificate, key, client_ca: self.tls_client_ca.clone() };
                Ok(Some(TlsConfig { listen, shard_listen, files }))
            }
            (None, None) if !is_wanted && self.tls_client_ca.is_none() => Ok(None),
            _ if is_wanted => Err(SettingsError::NoCertificate),
            _ => Err(SettingsError::CertificateForNothing),
        }
    }
}

/// `a = "b"` of a table as `a=b`.
fn list_of(table: &DeTable<'_>) -> Result<String, String> {
    let escaped = |text: &str| text.replace('%', "%25").replace(',', "%2C").replace('=', "%3D");
    let pair = |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
        Ok(format!("{}={}", escaped(key.get_ref()), escaped(&text_of(value.get_ref())?)))
    };
    Ok(table.iter().map(pair).collect::<Result<Vec<_>, String>>()?.join(","))
}

/// What `florin serve` runs: a node, and what stands beside it.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The node.
    pub node: NodeConfig,
    /// The admin port.
    pub admin: Option<SocketAddr>,
    /// The admin port by TLS.
    pub tls_admin: Option<SocketAddr>,
    /// Further names under which it may be asked to write.
    pub admin_hosts: Hosts,
    /// How it divides the users with other nodes; none = it has all of them.
    pub group: Option<GroupConfig>,
    /// The file that says who may ask what.
    pub principals: Option<PathBuf>,
    /// Where it is written who was refused.
    pub audit_log: Option<PathBuf>,
}

impl Settings {
    /// With the defaults of what was not set.
    pub fn filled(self) -> Settings {
        let mut filled = self.or(Settings::defaults());
        // Callers are told of ports, and go to them at the address that they know: that of --listen.
        let ip = Listen::address(filled.listen).unwrap_or(LISTEN).ip();
        filled.shard_listen.get_or_insert(Listen::At(SocketAddr::new(ip, SHARD_PORT)));
        if let Some(Listen::At(address)) = filled.tls_listen {
            // Any free port is followed by any others.
            let next = if address.port() == 0 { Some(0) } else { address.port().checked_add(1) };
            let shards = next.map_or(Listen::Off, |port| Listen::At(SocketAddr::new(address.ip(), port)));
            filled.tls_shard_listen.get_or_insert(shards);
        }
        filled
    }

    /// Puts the defaults in, and checks what concerns several settings at once.
    pub fn effective(self) -> Result<Effective, SettingsError> {
        let set = self.filled();
        let ledger = set.ledger_address()?;
        let (listen, shard_listen) = (Listen::address(set.listen), Listen::address(set.shard_listen));
        let tls = set.tls()?;
        let has_tls = tls.as_ref().is_some_and(TlsConfig::serves_callers);
        if listen.is_none() && shard_listen.is_none() && set.unix.is_none() && !has_tls {
            return Err(SettingsError::NoListener);
        }
        if let (Some(listen), Some(shard_listen)) = (listen, shard_listen)
            && shard_listen.ip().is_loopback()
            && !listen.ip().is_loopback()
        {
            return Err(SettingsError::UnreachableShards { listen, shard_listen });
        }
        let (admin, tls_admin) = (Listen::address(set.admin), Listen::address(set.tls_admin));
        refuse_one_port_twice(&set.listeners())?;
        let group = set.group(&ledger, tls.as_ref())?;
        let principals = set.principals;
        if principals.is_none() && set.insecure_listen != Some(Switch::On) {
            let listeners = [("--listen", listen), ("--shard-listen", shard_listen), ("--admin", admin)];
            refuse_open(listeners)?;
            if set.tls_client_ca.is_none() {
                let listeners = [
                    ("--tls-listen", Listen::address(set.tls_listen)),
                    ("--tls-shard-listen", Listen::address(set.tls_shard_listen)),
                    ("--tls-admin", tls_admin),
                ];
                refuse_open(listeners)?;
            }
        }
        let unix_group = set.unix_group.as_ref().map(UnixGroup::number).transpose();
        let unix_group = unix_group.map_err(SettingsError::Group)?;
        let node = NodeConfig {
            ledger,
            listen,
            shard_listen,
            unix: set.unix,
            unix_access: UnixAccess {
                mode: set.unix_mode.map_or(0o660, |UnixMode(mode)| mode),
                group: unix_group,
            },
            tls,
            shards: match set.shards {
                Some(Shards::Count(count)) => Some(count),
                Some(Shards::Auto) | None => None,
            },
            cpus: set.cpus.map(|Cpus(cpus)| cpus),
            shards_per_cpu: set.shards_per_cpu.map_or(1, |ShardsPerCpu(count)| count),
            housekeeping_cpus: set.housekeeping_cpus.map(|Cpus(cpus)| cpus),
            numa: set.numa.map(|Nodes(nodes)| nodes),
            inherited: Default::default(),
            driver: set.driver.map_or(DriverChoice::Auto, |Driver(choice)| choice),
            spin: set.spin_us.unwrap_or_default(),
            fixed_wall_us: set.now.map(|Instant(us)| us),
            wall_leap_us: 0,
            max_staleness_ms: set.max_staleness_ms.map_or(u32::MAX, |Staleness(ms)| ms),
            checkpoints: set.checkpoint.map(|folder| CheckpointConfig {
                folder,
                every: Every::number(set.checkpoint_every_s).map(Duration::from_secs),
                every_rows: Every::number(set.checkpoint_every_rows),
                at_end: set.checkpoint_at_exit == Some(Switch::On),
            }),
            callers: None,
            audit: match set.audit {
                Some(Audit::Share(share)) => Some(share),
                Some(Audit::Off) | None => None,
            },
            slow_us: Every::number(set.slow_us),
            divides_users: group.is_some(),
        };
        let admin_hosts = HostNames::hosts(set.admin_host).into();
        Ok(Effective { node, admin, tls_admin, admin_hosts, group, principals, audit_log: set.audit_log })
    }
}

impl Settings {
    /// What listens, with how many ports from its address on: as many as are known before the node counts its CPUs.
    fn listeners(&self) -> [(&'static str, Option<Listen>, u16); 6] {
        let shards = match self.shards {
            Some(Shards::Count(count)) => count,
            Some(Shards::Auto) | None => 1,
        };
        [
            ("--listen", self.listen, 1),
            ("--shard-listen", self.shard_listen, shards),
            ("--admin", self.admin, 1),
            ("--tls-listen", self.tls_listen, 1),
            ("--tls-shard-listen", self.tls_shard_listen, shards),
            ("--tls-admin", self.tls_admin, 1),
        ]
    }
}

/// Refuses two listeners on one port. Whichever is bound last would find it taken, and look for another process.
fn refuse_one_port_twice(listeners: &[(&'static str, Option<Listen>, u16)]) -> Result<(), SettingsError> {
    let mut before: Vec<(&'static str, SocketAddr)> = Vec::new();
    for &(flag, listen, count) in listeners {
        let Some(first) = Listen::address(listen).filter(|first| first.port() > 0) else { continue };
        let ports = (0..count).map_while(|shard| first.port().checked_add(shard));
        let own: Vec<_> = ports.map(|port| (flag, SocketAddr::new(first.ip(), port))).collect();
        for &(flag, address) in &own {
            let clashes = |&&(_, other): &&(_, SocketAddr)| {
                other.port() == address.port() && tcp::overlap(other, address)
            };
            if let Some(&(other, _)) = before.iter().find(clashes) {
                return Err(SettingsError::SamePort { one: other, other: flag, port: address.port() });
            }
        }
        before.extend(own);
    }
    Ok(())
}

/// Refuses addresses that other hosts reach.
fn refuse_open(
    listeners: impl IntoIterator<Item = (&'static str, Option<SocketAddr>)>,
) -> Result<(), SettingsError> {
    for (flag, address) in listeners {
        if let Some(address) = address.filter(|address| !address.ip().to_canonical().is_loopback()) {
            return Err(SettingsError::Open { flag, address });
        }
    }
    Ok(())
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
    #[error("cannot read the configuration {}: {source}; name one that is there (--config)", .path.display())]
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
        defects: BadLines,
    },
    /// A password where all can see it.
    #[error(transparent)]
    Password(LedgerError),
    /// Columns or words that map nothing.
    #[error("--ledger-columns, --ledger-kinds: {0}")]
    Mapping(String),
    /// TLS without a certificate.
    #[error(
        "TLS takes both --tls-cert and --tls-key: name the certificate and its key (florin tls init DIR makes some for trying out)"
    )]
    NoCertificate,
    /// A certificate that is shown to nobody.
    #[error(
        "--tls-cert, --tls-key and --tls-client-ca are of no use where nothing listens by TLS: give --tls-listen or --tls-admin, or leave them out"
    )]
    CertificateForNothing,
    /// Nobody to be told where this node is.
    #[error(
        "{flag} is of no use without --group NAME: leave it out, or name the group of nodes that divide the users"
    )]
    GroupMissing {
        /// Which.
        flag: &'static str,
    },
    /// A ledger that cannot be divided.
    #[error(
        "--group: expected a ledger in a Kafka topic (--ledger kafka://HOST:PORT/TOPIC): nodes divide its partitions among them"
    )]
    GroupWithoutPartitions,
    /// Nobody would reach it.
    #[error("--group: expected --listen or --tls-listen, where callers and the other nodes reach this one")]
    GroupWithoutPort,
    /// A token would be shown to whoever says that it is a node.
    #[error(
        "--group: {flag} {address} is reached by other hosts, as the other nodes are: whoever says that it is one, or is on the way, would have \
         the token of --group-token-file, and be believed; --tls-listen and --group-tls-ca FILE on each node keep strangers out, or, where \
         whoever is there may have it, set --insecure-listen on"
    )]
    GroupTokenOpen {
        /// By which it was given.
        flag: &'static str,
        /// Which.
        address: SocketAddr,
    },
    /// A group that is not there.
    #[error("--unix-group: {0}")]
    Group(Expected),
    /// Nobody could ask anything.
    #[error(
        "nothing listens: --listen, --shard-listen and --tls-listen are off, and there is no --unix PATH; leave one of them on"
    )]
    NoListener,
    /// Two listeners cannot have one port.
    #[error(
        "{one} and {other} would both listen on port {port}: give each its own (shard ports are as many as there are shards, one behind \
         the other)"
    )]
    SamePort {
        /// One flag.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// Which.
        port: u16,
    },
    /// Whoever reaches an address of another than this host's own would read everything.
    #[error(
        "{flag} {address} is reached by other hosts, and nobody has to prove who it is: whoever reaches it could read every balance; \
         say who may ask what (--principals FILE; florin principal add makes entries), or, where whoever reaches it may, set \
         --insecure-listen on; by TLS, --tls-client-ca FILE keeps others out too"
    )]
    Open {
        /// By which it was given.
        flag: &'static str,
        /// Which.
        address: SocketAddr,
    },
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

impl SettingsError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            SettingsError::Open { .. } => 23,
            _ => 2,
        }
    }
}

/// What is wrong in one line of a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// What, and what was expected.
    pub message: String,
}

/// All that is wrong with a configuration file, by line.
#[derive(Debug)]
pub struct BadLines(pub Vec<BadLine>);

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, BadLine { line, message }) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "  line {line}: {message}{end}")?;
        }
        Ok(())
    }
}
