//! A command's words → what they ask.

use alloc::string::String;
use alloc::vec::Vec;

use florin_schema::frame::WAIT_MS_MAX;
use florin_schema::{Opcode, UserId, Version, WindowMask, decimal};

use super::words::Words;
use super::{RespError, RespShape, RespVersion, reply_to};
use crate::limits::{BATCH_USERS_MAX, HELLO_CLIENT_BYTES_MAX, HELLO_TOKEN_BYTES_MAX, PING_BYTES_MAX};
use crate::wire::{self, Freshness, Query, Request, WINDOW_LIST, window_list};

/// What a client wants to know of its connection or of this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chat<'a> {
    /// Whether it is heard: what was said changes nothing here.
    Heard,
    /// What names its connection.
    Id,
    /// The sections of INFO; those that are asked for, or an empty one for all.
    Info(&'a str),
    /// [`COMMANDS`].
    Commands,
    /// How many they are.
    CommandCount,
    /// What they do, in words: nothing is kept of that.
    CommandDocs,
    /// The end.
    Quit,
}

/// What COMMAND says of one.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// In lower case.
    pub name: &'static str,
    /// Words with the name; of one that may have more, at least so many, and negative.
    pub arity: i8,
    /// The first key's place, the last one's (counted from the end where negative), and the step; zeros without keys.
    pub keys: [i8; 3],
}

/// All there are. None of them writes.
pub const COMMANDS: [Described; 13] = [
    Described { name: "get", arity: 2, keys: [1, 1, 1] },
    Described { name: "mget", arity: -2, keys: [1, -1, 1] },
    Described { name: "florin.balance", arity: -2, keys: [0; 3] },
    Described { name: "florin.statistics", arity: -2, keys: [0; 3] },
    Described { name: "ping", arity: -1, keys: [0; 3] },
    Described { name: "echo", arity: 2, keys: [0; 3] },
    Described { name: "hello", arity: -1, keys: [0; 3] },
    Described { name: "auth", arity: -2, keys: [0; 3] },
    Described { name: "select", arity: 2, keys: [0; 3] },
    Described { name: "client", arity: -2, keys: [0; 3] },
    Described { name: "command", arity: -1, keys: [0; 3] },
    Described { name: "info", arity: -1, keys: [0; 3] },
    Described { name: "quit", arity: 1, keys: [0; 3] },
];

const VALUE_KEYS: &str = "balance:ID or statistics:ID";

/// What `words` ask, on a connection of this version.
pub(super) fn request<'a>(
    mut words: Words<'a>,
    version: RespVersion,
    users: &mut Vec<UserId>,
) -> Result<Request<'a>, RespError> {
    let name = words.next().expect("a command has a word");
    let is = |command: &[u8]| name.eq_ignore_ascii_case(command);
    let plain = |opcode, shape, query| Request {
        reply_to: reply_to(opcode, version, shape),
        freshness: Freshness::default(),
        query,
        authorization: None,
    };
    Ok(if is(b"GET") {
        let query = value(only(words, "GET balance:ID or GET statistics:ID")?)?;
        let opcode = match query {
            Query::Balance(_) => Opcode::GetBalance,
            _ => Opcode::GetStatistics,
        };
        plain(opcode, RespShape::Value, query)
    } else if is(b"MGET") {
        keys(words, users)?;
        plain(Opcode::GetBalances, RespShape::Values, Query::Balances)
    } else if is(b"FLORIN.BALANCE") {
        let usage = "FLORIN.BALANCE ID [MINVERSION version] [MAXAGE ms] [WAIT ms]";
        let (user, Options { freshness, .. }) = told(words, Opcode::GetBalance, usage)?;
        Request { freshness, ..plain(Opcode::GetBalance, RespShape::Told, Query::Balance(user)) }
    } else if is(b"FLORIN.STATISTICS") {
        let usage =
            "FLORIN.STATISTICS ID [WINDOW 24h,7d,30d,lifetime] [MINVERSION version] [MAXAGE ms] [WAIT ms]";
        let (user, Options { freshness, windows }) = told(words, Opcode::GetStatistics, usage)?;
        let query = Query::Statistics(user, windows);
        Request { freshness, ..plain(Opcode::GetStatistics, RespShape::Told, query) }
    } else if is(b"PING") && words.len() == 0 {
        plain(Opcode::Ping, RespShape::Pong, Query::Ping(b""))
    } else if is(b"PING") || is(b"ECHO") {
        let usage = if is(b"ECHO") { "ECHO bytes, at most 1,024" } else { "PING [bytes, at most 1,024]" };
        let payload = only(words, usage)?;
        if payload.len() > PING_BYTES_MAX {
            return Err(RespError::Usage("at most 1,024 bytes to be sent back"));
        }
        plain(Opcode::Ping, RespShape::Value, Query::Ping(payload))
    } else if is(b"HELLO") {
        hello(words, version)?
    } else if is(b"AUTH") {
        plain(Opcode::Hello, RespShape::Ok, auth(words)?)
    } else {
        let chat = chat(name, words)?;
        // A neighbour's: what the server is may be known to those who have proved who they are.
        let opcode = if let Chat::Info(_) = chat { Opcode::Ping } else { Opcode::Hello };
        plain(opcode, RespShape::Ok, Query::Chat(chat))
    })
}

fn chat<'a>(name: &[u8], mut words: Words<'a>) -> Result<Chat<'a>, RespError> {
    let count = words.len();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is = |command: &[u8]| name.eq_ignore_ascii_case(command);
    let with =
        |subcommand: &[u8], others: usize| first.eq_ignore_ascii_case(subcommand) && count == 1 + others;
    Ok(if is(b"SELECT") {
        match (first, count) {
            (b"0", 1) => Chat::Heard,
            _ => return Err(RespError::Database(shown(first))),
        }
    } else if is(b"CLIENT") {
        let is_name = second.len() <= HELLO_CLIENT_BYTES_MAX && second.iter().all(u8::is_ascii_graphic);
        if with(b"ID", 0) {
            Chat::Id
        } else if (with(b"SETNAME", 1) && is_name) || with(b"SETINFO", 2) {
            Chat::Heard
        } else {
            return Err(RespError::Usage(
                "CLIENT ID, CLIENT SETNAME name (at most 64 printable characters) or CLIENT SETINFO attribute value",
            ));
        }
    } else if is(b"COMMAND") {
        if count == 0 {
            Chat::Commands
        } else if with(b"COUNT", 0) {
            Chat::CommandCount
        } else if first.eq_ignore_ascii_case(b"DOCS") {
            Chat::CommandDocs
        } else {
            return Err(RespError::Usage("COMMAND, COMMAND COUNT or COMMAND DOCS"));
        }
    } else if is(b"INFO") {
        match (core::str::from_utf8(first), count) {
            (Ok(section), 0 | 1) => Chat::Info(section),
            _ => return Err(RespError::Usage("INFO [section]")),
        }
    } else if is(b"QUIT") {
        match count {
            0 => Chat::Quit,
            _ => return Err(RespError::Usage("QUIT alone")),
        }
    } else {
        return Err(RespError::UnknownCommand(shown(name)));
    })
}

/// `HELLO [version [AUTH user token] [SETNAME name]]`.
fn hello<'a>(mut words: Words<'a>, version: RespVersion) -> Result<Request<'a>, RespError> {
    const USAGE: RespError = RespError::Usage("HELLO [2 or 3 [AUTH user token] [SETNAME name]]");
    let version = match words.next() {
        None => version,
        Some(b"2") => RespVersion::Two,
        Some(b"3") => RespVersion::Three,
        Some(other) => return Err(RespError::Version(shown(other))),
    };
    let (mut token, mut client) = ("", "");
    while let Some(option) = words.next() {
        if option.eq_ignore_ascii_case(b"AUTH") && words.len() >= 2 {
            words.next();
            token = secret(words.next().unwrap_or_default())?;
        } else if option.eq_ignore_ascii_case(b"SETNAME") {
            let name = words.next().ok_or(USAGE)?;
            client = core::str::from_utf8(name)
                .ok()
                .filter(|name| name.len() <= HELLO_CLIENT_BYTES_MAX)
                .ok_or(RespError::Usage("a name of at most 64 bytes of UTF-8"))?;
        } else {
            return Err(USAGE);
        }
    }
    let reply_to = reply_to(Opcode::Hello, version, RespShape::Greeting);
    let query = Query::Hello { client, token };
    Ok(Request { reply_to, freshness: Freshness::default(), query, authorization: None })
}

/// `AUTH [user] token`: a token says by itself whose it is.
fn auth<'a>(mut words: Words<'a>) -> Result<Query<'a>, RespError> {
    let (first, second, more) = (words.next(), words.next(), words.next());
    match (second.or(first), more) {
        (Some(token), None) => Ok(Query::Hello { client: "", token: secret(token)? }),
        _ => Err(RespError::Usage("AUTH [user] token")),
    }
}

/// A token, which no refusal repeats.
fn secret(word: &[u8]) -> Result<&str, RespError> {
    core::str::from_utf8(word)
        .ok()
        .filter(|token| token.len() <= HELLO_TOKEN_BYTES_MAX)
        .ok_or(RespError::Usage("a token of at most 1,024 bytes of UTF-8"))
}

fn only<'a>(mut words: Words<'a>, usage: &'static str) -> Result<&'a [u8], RespError> {
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        _ => Err(RespError::Usage(usage)),
    }
}

/// What a key names.
fn value<'a>(key: &[u8]) -> Result<Query<'a>, RespError> {
    let named = |prefix: &[u8]| key.strip_prefix(prefix).and_then(decimal_id);
    match (named(b"balance:"), named(b"statistics:")) {
        (Some(user), _) => Ok(Query::Balance(user)),
        (_, Some(user)) => Ok(Query::Statistics(user, WindowMask::ALL)),
        _ => Err(RespError::Key { expected: VALUE_KEYS, got: shown(key) }),
    }
}

fn keys(words: Words<'_>, users: &mut Vec<UserId>) -> Result<(), RespError> {
    match words.len() {
        0 => return Err(RespError::Usage("MGET balance:ID …")),
        1..=BATCH_USERS_MAX => {}
        more => return Err(RespError::Keys(more)),
    }
    users.clear();
    for key in words {
        let user = key.strip_prefix(b"balance:").and_then(decimal_id);
        users.push(user.ok_or_else(|| RespError::Key { expected: "balance:ID", got: shown(key) })?);
    }
    Ok(())
}

struct Options {
    freshness: Freshness,
    windows: WindowMask,
}

/// A user, and what is asked of the answer.
fn told(mut words: Words<'_>, opcode: Opcode, usage: &'static str) -> Result<(UserId, Options), RespError> {
    let id = words.next().ok_or(RespError::Usage(usage))?;
    let user = decimal_id(id).ok_or_else(|| RespError::Value {
        field: "user_id",
        expected: "0 to 9223372036854775807 without leading zeros",
        got: shown(id),
    })?;
    let (mut min_version, mut max_age_ms, mut wait_ms, mut windows) = (None, None, None, None);
    while let Some(option) = words.next() {
        let word = words.next().ok_or(RespError::Usage(usage))?;
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let is_new = if is(b"MINVERSION") {
            min_version.replace(number(word, "MINVERSION", u64::MAX)?).is_none()
        } else if is(b"MAXAGE") {
            max_age_ms.replace(number(word, "MAXAGE", u64::from(u32::MAX))? as u32).is_none()
        } else if is(b"WAIT") {
            wait_ms.replace(number(word, "WAIT", u64::from(u32::MAX))? as u32).is_none()
        } else if is(b"WINDOW") && opcode == Opcode::GetStatistics {
            let list = core::str::from_utf8(word).ok().and_then(window_list);
            let list = list.ok_or_else(|| RespError::Value {
                field: "WINDOW",
                expected: WINDOW_LIST,
                got: shown(word),
            })?;
            windows.replace(list).is_none()
        } else {
            false
        };
        if !is_new {
            return Err(RespError::Usage(usage));
        }
    }
    let freshness = Freshness {
        min_version: Version(min_version.unwrap_or(0)),
        max_age_ms: max_age_ms.unwrap_or(0),
        wait_ms: wait_ms.unwrap_or(0).min(WAIT_MS_MAX),
    };
    Ok((user, Options { freshness, windows: windows.unwrap_or(WindowMask::ALL) }))
}

fn number(word: &[u8], field: &'static str, max: u64) -> Result<u64, RespError> {
    wire::number(word, max).map_err(|expected| RespError::Value { field, expected, got: shown(word) })
}

/// An id in its one spelling.
#[inline]
pub(super) fn decimal_id(digits: &[u8]) -> Option<UserId> {
    decimal(digits).and_then(UserId::new)
}

/// What came, as far as a message has room for it.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(64)]).into_owned()
}
