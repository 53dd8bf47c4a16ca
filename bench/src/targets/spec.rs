//! A target on the command line: `florin,encoding=flatbuffers,via=unix`, `valkey,ask=mget`, `http,addr=127.0.0.1:8080,pid=77`.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use florin_schema::Encoding;
use rustix::process::Pid;

use super::encoding_name;
use crate::{
    generator::Speech,
    protocol::resp::{Ask, Values},
};

/// Which kind of server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Florin, by its own protocol or by HTTP.
    Florin,
    /// Any server with wire.md's three endpoints.
    Http,
    /// Valkey.
    Valkey,
    /// memcached.
    Memcached,
    /// The ring driver with a fixed reply: this host's ceiling.
    Limit,
}

/// What callers show or trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Given {
    /// What the bench makes, for a server that it starts.
    Made,
    /// What is in this file, for one that runs.
    File(PathBuf),
}

/// By which of a server's doors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Each shard's own port.
    Shard,
    /// The port of the shard after the one that owns the user: every request is passed on. What that costs, against `shard`.
    Neighbour,
    /// The any-shard port.
    Any,
    /// The unix socket.
    Unix,
    /// HTTP on the any-shard port.
    Http,
}

/// A target as asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetSpec {
    /// What it is.
    pub kind: Kind,
    /// Given, or made of what differs from the defaults.
    pub label: Option<String>,
    /// Of bodies, over florin's protocol.
    pub encoding: Encoding,
    /// By which door.
    pub via: Via,
    /// How several things are asked at once over RESP; none: florin by its own protocol.
    pub ask: Option<Ask>,
    /// Passed to `--driver`.
    pub driver: Option<String>,
    /// Passed to `--shards`.
    pub shards: Option<u16>,
    /// A running server's.
    pub address: Option<SocketAddr>,
    /// A running server's process, to count its CPU.
    pub pid: Option<Pid>,
    /// Connections that are open beside those of the load, and say nothing.
    pub idle: u32,
    /// By TLS: whom to trust.
    pub tls: Option<Given>,
    /// Callers prove who they are by a token.
    pub token: Option<Given>,
    /// Beside the load's callers, one may ask so often a second; for [`crate::isolation`].
    pub bounded_per_s: Option<u32>,
    /// Another binary than the bench's.
    pub binary: Option<PathBuf>,
    /// More flags for the server, as they are.
    pub flags: Vec<String>,
}

/// A text that is no target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// An unknown kind.
    #[error(
        "{0:?} is no target: say florin, http, valkey, memcached or limit, and options like florin,via=unix"
    )]
    Kind(String),
    /// An unknown option.
    #[error(
        "{0:?} is no option of a target: there are label, encoding, via, ask, driver, shards, tls, token, addr, pid, idle, binary, flag"
    )]
    Option(String),
    /// A value that does not fit.
    #[error("{option}={value}: expected {expected}")]
    Value {
        /// Which option.
        option: String,
        /// What was given.
        value: String,
        /// What would fit.
        expected: &'static str,
    },
    /// Options of which one would go unheard.
    #[error("{0} and {1} do not go together: {2}")]
    Apart(&'static str, &'static str, &'static str),
    /// Nothing to start or to find.
    #[error("a target of kind http needs addr=IP:PORT of a running server, or binary=PATH of one to start")]
    Nowhere,
}

impl TargetSpec {
    /// A target of this kind with nothing said.
    pub fn new(kind: Kind) -> TargetSpec {
        TargetSpec {
            kind,
            label: None,
            encoding: Encoding::Rkyv,
            via: match kind {
                Kind::Florin | Kind::Limit => Via::Shard,
                Kind::Http => Via::Http,
                Kind::Valkey | Kind::Memcached => Via::Any,
            },
            ask: (kind == Kind::Valkey).then_some(Ask::Get),
            driver: None,
            shards: None,
            address: None,
            pid: None,
            idle: 0,
            tls: None,
            token: None,
            bounded_per_s: None,
            binary: None,
            flags: Vec::new(),
        }
    }

    /// What it is called in tables.
    pub fn label(&self) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        let mut label = match self.kind {
            Kind::Florin => format!("florin {}", self.driver.as_deref().unwrap_or("")).trim_end().to_owned(),
            Kind::Http => "http".to_owned(),
            Kind::Valkey => "valkey".to_owned(),
            Kind::Memcached => "memcached".to_owned(),
            Kind::Limit => "limit".to_owned(),
        };
        let mut add = |text: &str| {
            label.push(' ');
            label.push_str(text);
        };
        match (self.kind, self.via) {
            (Kind::Florin | Kind::Limit, Via::Http) => add("http"),
            (Kind::Florin | Kind::Limit, _) if self.ask == Some(Ask::Get) => add("resp"),
            (Kind::Florin, _) if self.ask == Some(Ask::Mget) => add("resp mget"),
            (Kind::Florin | Kind::Limit, _) => add(encoding_name(self.encoding)),
            (Kind::Valkey, _) if self.ask == Some(Ask::Mget) => add("mget"),
            _ => {}
        }
        match self.via {
            Via::Unix => add("unix"),
            Via::Any if self.kind == Kind::Florin => add("any-port"),
            Via::Neighbour => add("neighbour"),
            _ => {}
        }
        if let Some(shards) = self.shards {
            add(&format!("{shards} shards"));
        }
        if self.tls.is_some() {
            add("tls");
        }
        if self.token.is_some() {
            add("token");
        }
        if self.idle > 0 {
            add(&format!("{} idle", self.idle));
        }
        self.flags.iter().for_each(|flag| add(flag));
        label
    }

    /// How to speak to it.
    pub fn speech(&self) -> Speech {
        match (self.kind, self.via) {
            (Kind::Http, _) | (_, Via::Http) => Speech::Http,
            (Kind::Memcached, _) => Speech::Memcached,
            (kind, _) => match self.ask {
                Some(ask) if kind != Kind::Valkey => Speech::Resp(ask, Values::Balances),
                Some(ask) => Speech::Resp(ask, Values::Loaded),
                None => Speech::Native(self.encoding),
            },
        }
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), SpecError> {
        let expected =
            |expected| SpecError::Value { option: option.to_owned(), value: value.to_owned(), expected };
        match option {
            "label" => self.label = Some(value.to_owned()),
            "driver" => self.driver = Some(value.to_owned()),
            "binary" => self.binary = Some(PathBuf::from(value)),
            "flag" => self.flags.push(value.to_owned()),
            "encoding" => {
                self.encoding = match value {
                    "rkyv" => Encoding::Rkyv,
                    "flatbuffers" => Encoding::FlatBuffers,
                    _ => return Err(expected("rkyv or flatbuffers")),
                }
            }
            "via" => {
                self.via = match value {
                    "shard" => Via::Shard,
                    "any" => Via::Any,
                    "unix" => Via::Unix,
                    "http" if matches!(self.kind, Kind::Florin | Kind::Limit) => Via::Http,
                    "neighbour" if self.kind == Kind::Florin => Via::Neighbour,
                    _ => {
                        return Err(expected(
                            "shard, any, unix, for florin and limit http, or for florin neighbour",
                        ));
                    }
                }
            }
            "ask" => {
                self.ask = match (self.kind, value) {
                    (Kind::Florin | Kind::Valkey | Kind::Limit, "get") => Some(Ask::Get),
                    (Kind::Florin | Kind::Valkey, "mget") => Some(Ask::Mget),
                    _ => return Err(expected("of florin or valkey, get or mget; of limit, get")),
                }
            }
            "shards" => {
                let shards = value.parse().ok().filter(|&shards: &u16| shards > 0);
                self.shards = Some(shards.ok_or_else(|| expected("a number from 1"))?);
            }
            "addr" => self.address = Some(value.parse().map_err(|_| expected("IP:PORT"))?),
            "pid" => {
                let pid = value.parse().ok().and_then(Pid::from_raw);
                self.pid = Some(pid.ok_or_else(|| expected("a process id"))?);
            }
            "tls" | "token" if self.kind == Kind::Florin => {
                let given = if value == "on" { Given::Made } else { Given::File(PathBuf::from(value)) };
                *(if option == "tls" { &mut self.tls } else { &mut self.token }) = Some(given);
            }
            "idle" => self.idle = value.parse().map_err(|_| expected("a number of connections"))?,
            _ => return Err(SpecError::Option(option.to_owned())),
        }
        Ok(())
    }
}

impl TargetSpec {
    /// What callers are let in by has to be there, and to be of use.
    fn check_access(&self) -> Result<(), SpecError> {
        let given = [("tls", &self.tls), ("token", &self.token)];
        for (option, given) in given.into_iter().filter_map(|(option, given)| Some((option, given.as_ref()?)))
        {
            let value = match given {
                Given::Made => "on".to_owned(),
                Given::File(path) => path.display().to_string(),
            };
            let expected = |expected| SpecError::Value { option: option.to_owned(), value, expected };
            match (given, self.address) {
                (Given::Made, Some(_)) => {
                    return Err(expected(
                        "of a running server a file: its authorities in PEM (tls), or the token",
                    ));
                }
                (Given::File(_), None) => {
                    return Err(expected("of a server that the bench starts on, for it makes both"));
                }
                _ => {}
            }
        }
        if self.tls.is_some() && self.via == Via::Unix {
            return Err(SpecError::Apart("tls", "via=unix", "nobody is between two processes of one host"));
        }
        if self.tls.is_some() && self.idle > 0 {
            return Err(SpecError::Apart(
                "tls",
                "idle",
                "a connection that says nothing has not shaken hands",
            ));
        }
        Ok(())
    }
}

impl FromStr for TargetSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<TargetSpec, SpecError> {
        let mut parts = text.split(',');
        let kind = match parts.next().unwrap_or_default() {
            "florin" => Kind::Florin,
            "http" => Kind::Http,
            "valkey" => Kind::Valkey,
            "memcached" => Kind::Memcached,
            "limit" => Kind::Limit,
            other => return Err(SpecError::Kind(other.to_owned())),
        };
        let mut spec = TargetSpec::new(kind);
        for part in parts {
            let (option, value) = part.split_once('=').ok_or_else(|| SpecError::Option(part.to_owned()))?;
            spec.set(option, value)?;
        }
        let has = |option: &str| text.split(',').any(|part| part.split('=').next() == Some(option));
        if kind != Kind::Valkey && spec.ask.is_some() {
            if spec.via == Via::Http {
                return Err(SpecError::Apart("ask", "via=http", "RESP is no HTTP"));
            }
            if has("encoding") {
                return Err(SpecError::Apart("ask", "encoding", "over RESP bodies are JSON"));
            }
        }
        spec.check_access()?;
        if kind == Kind::Http && spec.address.is_none() && spec.binary.is_none() {
            return Err(SpecError::Nowhere);
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> String {
        text.parse::<TargetSpec>().unwrap().label()
    }

    #[test]
    fn a_label_says_what_was_said() {
        for (text, expected) in [
            ("florin", "florin rkyv"),
            (
                "florin,driver=ring,encoding=flatbuffers,via=any,shards=2",
                "florin ring flatbuffers any-port 2 shards",
            ),
            ("florin,via=http", "florin http"),
            ("florin,via=neighbour,shards=2", "florin rkyv neighbour 2 shards"),
            ("florin,via=unix,label=local", "local"),
            ("florin,flag=--spin-us=50", "florin rkyv --spin-us=50"),
            ("florin,idle=10000", "florin rkyv 10000 idle"),
            ("florin,tls=on,token=on,via=http", "florin http tls token"),
            ("limit,via=unix", "limit rkyv unix"),
            ("limit,via=http", "limit http"),
            ("florin,ask=get", "florin resp"),
            ("florin,ask=mget,via=unix", "florin resp mget unix"),
            ("valkey", "valkey"),
            ("valkey,ask=mget,via=unix", "valkey mget unix"),
        ] {
            assert_eq!(label(text), expected);
        }
    }

    #[test]
    fn speech_follows_the_door() {
        let speech = |text: &str| text.parse::<TargetSpec>().unwrap().speech();
        assert_eq!(speech("florin,via=http"), Speech::Http);
        assert_eq!(speech("florin,encoding=flatbuffers"), Speech::Native(Encoding::FlatBuffers));
        assert_eq!(speech("http,addr=127.0.0.1:1"), Speech::Http);
        assert_eq!(speech("memcached"), Speech::Memcached);
        assert_eq!(speech("valkey"), Speech::Resp(Ask::Get, Values::Loaded));
        assert_eq!(speech("florin,ask=mget"), Speech::Resp(Ask::Mget, Values::Balances));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, part) in [
            ("nginx", "\"nginx\""),
            ("http", "addr="),
            ("florin,color=red", "\"color\""),
            ("florin,via", "\"via\""),
            ("florin,encoding=json", "rkyv or flatbuffers"),
            ("valkey,via=http", "shard, any, unix"),
            ("valkey,ask=set", "get or mget"),
            ("memcached,ask=mget", "get or mget"),
            ("florin,ask=get,via=http", "RESP is no HTTP"),
            ("florin,encoding=flatbuffers,ask=mget", "bodies are JSON"),
            ("florin,shards=0", "a number from 1"),
            ("florin,pid=x", "a process id"),
            ("florin,idle=-1", "a number of connections"),
            ("valkey,tls=on", "\"tls\""),
            ("florin,tls=on,via=unix", "nobody is between"),
            ("florin,tls=on,idle=1", "shaken hands"),
            ("florin,tls=on,addr=127.0.0.1:1", "authorities in PEM"),
            ("florin,token=/etc/token", "makes both"),
        ] {
            let error = text.parse::<TargetSpec>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
