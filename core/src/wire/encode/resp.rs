//! RESP replies: JSON in bulk strings, maps and arrays of them, refusals.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};
use florin_schema::layout::BalanceView;
use florin_schema::{Status, Version};

use super::json::{self, Around};
use super::line::Line;
use super::time::Days;
use super::{HelloAnswer, time};
use crate::wire::resp::{COMMANDS, Chat, Described};
use crate::wire::{Origin, RespReply, RespShape, RespVersion};

/// Said in place of a value that is known to be incomplete: alone it could not say so.
const QUARANTINED: &str = "QUARANTINED this account's history is known to be incomplete: FLORIN.BALANCE and FLORIN.STATISTICS show what is \
     held, and say so";

/// The word by which RESP's clients tell a refusal of this status.
pub(super) const fn word(status: Status) -> &'static str {
    match status {
        Status::Unauthenticated => "NOAUTH",
        Status::PermissionDenied => "NOPERM",
        Status::InvalidRequest => "ERR",
        other => other.name(),
    }
}

/// A reply about one user: JSON in a bulk string, which `write` appends.
pub(super) fn value(
    out: &mut Vec<u8>,
    reply: RespReply,
    origin: Origin,
    of: Version,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let version = reply.version;
    if reply.shape == RespShape::Told {
        map(out, version, 7);
        bulk(out, name.as_bytes());
        write(out);
        tell(out, version, &origin, of);
    } else if origin.flags & REPLY_QUARANTINED != 0 {
        error(out, "", QUARANTINED);
    } else {
        write(out);
    }
}

/// What HTTP says in headers.
fn tell(out: &mut Vec<u8>, version: RespVersion, origin: &Origin, of: Version) {
    bulk(out, b"version");
    bulk(out, itoa::Buffer::new().format(of.0).as_bytes());
    bulk(out, b"as_of");
    bulk(out, &time::rfc3339(origin.as_of_us));
    bulk(out, b"shard");
    bulk(out, itoa::Buffer::new().format(origin.shard).as_bytes());
    for (name, flag) in
        [("forwarded", REPLY_FORWARDED), ("quarantined", REPLY_QUARANTINED), ("lasting", REPLY_LASTING)]
    {
        bulk(out, name.as_bytes());
        boolean(out, version, origin.flags & flag != 0);
    }
}

/// An entry of several users: JSON in a bulk string that `write` appends, or nil of an unknown one.
pub(super) fn entry(
    out: &mut Vec<u8>,
    version: RespVersion,
    status: Status,
    quarantined: bool,
    write: Option<impl FnOnce(&mut Vec<u8>)>,
) {
    match (status, write) {
        (Status::Ok | Status::Unavailable, _) if quarantined => error(out, "", QUARANTINED),
        (Status::Ok, Some(write)) => write(out),
        (Status::NotFound, _) => nil(out, version),
        (status, _) => error(out, word(status), "this user cannot be answered at the moment: ask again"),
    }
}

/// What a bulk string begins with, before its length is known.
const COUNTED: &str = "$000\r\n";

/// A bulk string that `write` appends.
pub(super) fn counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend_from_slice(COUNTED.as_bytes());
    write(out);
    end(out);
    count(out, from);
}

/// A balance in one piece with what makes it a bulk string. In the one loop that writes many of them: what is inlined in several places is
/// in none of them.
#[inline(always)]
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>, days: &mut Days) {
    const BULK: Around = Around::new(COUNTED, "\r\n");
    let BalanceView { rows, root, .. } = balance;
    let from = out.len();
    Line::append(out, json::balance_room(rows), |line| json::write_balance(line, &BULK, rows, root, days));
    count(out, from);
}

/// 100 to 999 as text, and what follows it: looked up, for all that stands behind waits for it otherwise.
const COUNTS: [[u8; 4]; 900] = {
    let mut counts = [[0; 4]; 900];
    let mut number = 100;
    while number < 1_000 {
        let [hundreds, tens, ones] = [number / 100, number / 10 % 10, number % 10];
        counts[number - 100] = [b'0' + hundreds as u8, b'0' + tens as u8, b'0' + ones as u8, b'\r'];
        number += 1;
    }
    counts
};

/// Says how long the bulk string at the end of `out` is. Most have three digits' bytes, and are moved where they have not.
#[inline(always)]
fn count(out: &mut Vec<u8>, from: usize) {
    let bytes = out.len() - from - COUNTED.len() - "\r\n".len();
    match bytes {
        100..=999 => out[from + 1..from + 5].copy_from_slice(&COUNTS[bytes - 100]),
        _ => {
            let mut number = itoa::Buffer::new();
            let digits = number.format(bytes).bytes();
            out.splice(from + 1..from + 4, digits);
        }
    }
}

/// What a client wants to know, of a node that may say `unavailable` instead of data.
pub(super) fn chat(
    out: &mut Vec<u8>,
    version: RespVersion,
    chat: Chat<'_>,
    answer: &HelloAnswer<'_>,
    origin: Origin,
    unavailable: Option<&str>,
) {
    match chat {
        Chat::Heard | Chat::Quit => simple(out, "OK"),
        Chat::Id => integer(out, answer.connection),
        Chat::Commands => commands(out),
        Chat::CommandCount => integer(out, COMMANDS.len() as i64),
        Chat::CommandDocs => map(out, version, 0),
        Chat::Info(section) => bulk(out, info(section, answer, origin, unavailable).as_bytes()),
    }
}

/// A HELLO's map.
pub(super) fn greeting(out: &mut Vec<u8>, version: RespVersion, answer: &HelloAnswer<'_>) {
    let (server, number) = answer.server.split_once(' ').unwrap_or((answer.server, ""));
    map(out, version, 7);
    for (name, value) in [("server", server), ("version", number)] {
        bulk(out, name.as_bytes());
        bulk(out, value.as_bytes());
    }
    bulk(out, b"proto");
    integer(out, if version == RespVersion::Three { 3 } else { 2 });
    bulk(out, b"id");
    integer(out, answer.connection);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        bulk(out, name.as_bytes());
        bulk(out, value.as_bytes());
    }
    bulk(out, b"modules");
    array(out, 0);
}

/// INFO's text. Clients look for `loading` to know whether they may ask.
fn info(section: &str, answer: &HelloAnswer<'_>, origin: Origin, unavailable: Option<&str>) -> String {
    let is_wanted = |name: &str| {
        ["", "all", "everything", "default", name].iter().any(|all| section.eq_ignore_ascii_case(all))
    };
    let mut text = String::new();
    if is_wanted("server") {
        let (server, shards) = (answer.server, answer.shards);
        text += &format!(
            "# Server\r\nserver:{server}\r\nredis_mode:standalone\r\nshards:{shards}\r\nnode_id:{}\r\nledger_id:{}\r\n",
            answer.identity.node, answer.identity.ledger
        );
    }
    if is_wanted("persistence") {
        text += &format!("# Persistence\r\nloading:{}\r\n", u8::from(unavailable.is_some()));
        if let Some(reason) = unavailable {
            text += &format!("unavailable:{reason}\r\n");
        }
    }
    if is_wanted("replication") {
        let as_of = time::rfc3339(origin.as_of_us);
        let as_of = core::str::from_utf8(&as_of).expect("digits and signs");
        text += &format!("# Replication\r\nrole:master\r\nas_of:{as_of}\r\n");
    }
    text
}

pub(super) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    end(out);
}

/// `+text`.
pub(super) fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    end(out);
}

/// `-word message`, in one line whatever the message repeats.
pub(super) fn error(out: &mut Vec<u8>, word: &str, message: &str) {
    out.push(b'-');
    out.extend_from_slice(word.as_bytes());
    if !word.is_empty() {
        out.push(b' ');
    }
    out.extend(message.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    end(out);
}

pub(super) fn nil(out: &mut Vec<u8>, version: RespVersion) {
    out.extend_from_slice(match version {
        RespVersion::Two => b"$-1\r\n",
        RespVersion::Three => b"_\r\n",
    });
}

/// The head of an array of so many.
pub(super) fn array(out: &mut Vec<u8>, length: usize) {
    head(out, b'*', length);
}

/// The head of a map of so many pairs; in RESP2 an array of both.
fn map(out: &mut Vec<u8>, version: RespVersion, pairs: usize) {
    match version {
        RespVersion::Two => head(out, b'*', 2 * pairs),
        RespVersion::Three => head(out, b'%', pairs),
    }
}

fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    end(out);
}

fn boolean(out: &mut Vec<u8>, version: RespVersion, value: bool) {
    match version {
        RespVersion::Two => integer(out, i64::from(value)),
        RespVersion::Three => out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
    }
}

/// What COMMAND says of all.
fn commands(out: &mut Vec<u8>) {
    array(out, COMMANDS.len());
    for Described { name, arity, keys } in &COMMANDS {
        array(out, 6);
        bulk(out, name.as_bytes());
        integer(out, i64::from(*arity));
        array(out, 1);
        simple(out, "readonly");
        keys.iter().for_each(|&place| integer(out, i64::from(place)));
    }
}

fn head(out: &mut Vec<u8>, mark: u8, number: usize) {
    out.push(mark);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    end(out);
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}
