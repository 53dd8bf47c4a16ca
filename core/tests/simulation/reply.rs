//! Answers, read as a client in another language would: by wire.md, `florin.fbs` and the records, with none of the
//! server's code. Whatever the encoding, the content ends in the same records.

use florin_schema::frame::{REPLY_DRAINING, REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED, ReplyHeader};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::records::{
    AssetBalance, AssetStatistics, Balance, BalanceEntry, Balances, Statistics, WindowStatistics,
};
use florin_schema::{Asset, Status, generated as fbs};
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Error as RkyvError;
use serde_json::Value;
use zerocopy::FromBytes;

use super::request::{Ask, Format, Request};

/// An answer, whatever its protocol.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Frames alone.
    pub id: Option<u64>,
    pub opcode: Option<u8>,
    pub encoding: Option<u8>,
    pub status: Outcome,
    pub as_of_us: i64,
    pub shard: u16,
    pub is_forwarded: bool,
    pub is_quarantined: bool,
    /// Its node is ending.
    pub announces_end: bool,
    /// HTTP alone.
    pub version: Option<u64>,
    pub closes: bool,
    pub body: Body,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Frame(Status),
    Http(u16),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Not read: a HEAD's, or a refusal's message.
    Text(Vec<u8>),
    Balance(Balance),
    Statistics(Statistics),
    Balances(Balances),
    Hello {
        server: String,
        shards: u16,
        ports: Vec<u16>,
    },
}

/// What stands at the beginning of a client's input.
pub enum Read {
    Incomplete,
    /// An answer, and its bytes.
    Reply(Box<Reply>, usize),
    /// An interim `100 Continue`, and its bytes.
    Continue(usize),
}

type Result<T> = std::result::Result<T, String>;

/// Whether a whole frame is here: its length.
pub fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    (bytes.len() >= length).then_some(length)
}

/// Reads a frame of the whole length.
pub fn frame(bytes: &[u8]) -> Result<Reply> {
    let (header, body) =
        ReplyHeader::read_from_prefix(bytes).map_err(|_| "a frame shorter than its header")?;
    if header.version != 1 || header.schema.get() != SCHEMA_FINGERPRINT as u32 {
        return Err(format!("version or schema: {header:?}"));
    }
    let status = Status::try_from(header.status).map_err(|unknown| format!("{unknown:?} status"))?;
    let flags = header.flags.get();
    if flags & !(REPLY_FORWARDED | REPLY_QUARANTINED | REPLY_DRAINING | REPLY_LASTING) != 0 {
        return Err(format!("unknown flags: {header:?}"));
    }
    if flags & (REPLY_QUARANTINED | REPLY_LASTING) == REPLY_LASTING {
        return Err(format!("what is whole cannot be lasting: {header:?}"));
    }
    let body = match (status, header.opcode, header.encoding) {
        (Status::Ok, 0, 2) => flat_hello(body)?,
        (Status::Ok, 1, 1) => Body::Balance(archived::<Balance>(body)?),
        (Status::Ok, 1, 2) => Body::Balance(flat_balance(root::<fbs::Balance<'_>>(body)?)),
        (Status::Ok, 2, 1) => Body::Statistics(archived::<Statistics>(body)?),
        (Status::Ok, 2, 2) => Body::Statistics(flat_statistics(root(body)?)),
        (Status::Ok, 3, 1) => Body::Balances(archived::<Balances>(body)?),
        (Status::Ok, 3, 2) => Body::Balances(flat_balances(root(body)?)),
        (_, _, 0) => Body::Text(body.to_vec()),
        (status, opcode, encoding) => {
            return Err(format!("{status:?} of opcode {opcode} with a body in encoding {encoding}"));
        }
    };
    Ok(Reply {
        id: Some(header.request_id.get()),
        opcode: Some(header.opcode),
        encoding: Some(header.encoding),
        status: Outcome::Frame(status),
        as_of_us: header.as_of_us.get(),
        shard: header.shard.get(),
        is_forwarded: flags & REPLY_FORWARDED != 0,
        is_quarantined: flags & REPLY_QUARANTINED != 0,
        announces_end: flags & REPLY_DRAINING != 0,
        version: None,
        closes: false,
        body,
    })
}

fn archived<T>(body: &[u8]) -> Result<T>
where
    T: rkyv::Archive,
    T::Archived: rkyv::Deserialize<T, HighDeserializer<RkyvError>>
        + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>,
{
    let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(body.len());
    aligned.extend_from_slice(body);
    rkyv::from_bytes::<T, RkyvError>(&aligned).map_err(|error| format!("rkyv body: {error}"))
}

fn root<'a, T: flatbuffers::Follow<'a, Inner = T> + flatbuffers::Verifiable + 'a>(
    body: &'a [u8],
) -> Result<T> {
    flatbuffers::root::<T>(body).map_err(|error| format!("FlatBuffers body: {error}"))
}

fn flat_hello(body: &[u8]) -> Result<Body> {
    let hello: fbs::HelloReply<'_> = root(body)?;
    if hello.mix() != Some("splitmix64") || hello.rkyv_schema() != SCHEMA_FINGERPRINT {
        return Err(format!("{hello:?}"));
    }
    Ok(Body::Hello {
        server: hello.server().unwrap_or_default().to_owned(),
        shards: hello.shards(),
        ports: hello.ports().map(|ports| ports.iter().collect()).unwrap_or_default(),
    })
}

fn flat_balance(balance: fbs::Balance<'_>) -> Balance {
    let rows = balance.balances().into_iter().flatten();
    let row = |row: &fbs::AssetBalance| AssetBalance {
        asset: row.asset(),
        available: row.available(),
        held: row.held(),
    };
    Balance {
        user_id: balance.user_id(),
        version: balance.version(),
        updated_at_us: balance.updated_at_us(),
        balances: rows.map(row).collect(),
    }
}

fn flat_statistics(statistics: fbs::Statistics<'_>) -> Statistics {
    let window = |window: &fbs::WindowStatistics| WindowStatistics {
        credit_count: window.credit_count(),
        credit_sum: window.credit_sum(),
        debit_count: window.debit_count(),
        debit_sum: window.debit_sum(),
        largest_debit: window.largest_debit(),
    };
    let asset = |asset: fbs::AssetStatistics<'_>| AssetStatistics {
        asset: asset.asset(),
        windows: asset.windows().into_iter().flatten().map(window).collect(),
    };
    Statistics {
        user_id: statistics.user_id(),
        version: statistics.version(),
        first_transaction_at_us: statistics.first_transaction_at_us(),
        last_transaction_at_us: statistics.last_transaction_at_us(),
        statistics: statistics.statistics().into_iter().flatten().map(asset).collect(),
        windows: statistics.windows(),
    }
}

fn flat_balances(balances: fbs::Balances<'_>) -> Balances {
    let entry = |entry: fbs::BalanceEntry<'_>| BalanceEntry {
        user_id: entry.user_id(),
        status: entry.status(),
        quarantined: entry.quarantined(),
        balance: entry.balance().map(flat_balance),
    };
    Balances { entries: balances.entries().into_iter().flatten().map(entry).collect() }
}

/// Reads an HTTP response to `request`.
pub fn http(bytes: &[u8], request: &Request) -> Result<Read> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(Read::Incomplete);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no UTF-8")?;
    let (line, fields) = head.split_once("\r\n").unwrap_or((head, ""));
    let code: u16 = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| format!("status line {line:?}"))?;
    if code == 100 {
        return Ok(Read::Continue(end + 4));
    }
    let field = |name: &str| {
        let of_name = |line: &&str| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name);
        fields.split("\r\n").find(of_name).map(|line| line[name.len() + 1..].trim())
    };
    let length: usize = number(field("Content-Length").ok_or("no Content-Length")?)?;
    let length = if request.format == Format::Head { 0 } else { length };
    let Some(body) = bytes.get(end + 4..end + 4 + length) else { return Ok(Read::Incomplete) };
    let body = match (&request.ask, code, request.format) {
        (Ask::Balance(_), 200, Format::Json) => Body::Balance(json_balance(&json(body)?)?),
        (Ask::Statistics(_, mask), 200, Format::Json) => {
            Body::Statistics(json_statistics(&json(body)?, mask.bits())?)
        }
        (Ask::Balances(_), 200, Format::Json) => Body::Balances(json_balances(&json(body)?)?),
        _ => Body::Text(body.to_vec()),
    };
    let reply = Reply {
        id: None,
        opcode: None,
        encoding: None,
        status: Outcome::Http(code),
        as_of_us: moment(field("Florin-As-Of").ok_or("no Florin-As-Of")?)?,
        shard: number(field("Florin-Shard").ok_or("no Florin-Shard")?)?,
        is_forwarded: field("Florin-Forwarded") == Some("true"),
        is_quarantined: field("Florin-Quarantined") == Some("true"),
        announces_end: false,
        version: field("Florin-Version").map(number).transpose()?,
        closes: field("Connection") == Some("close"),
        body,
    };
    Ok(Read::Reply(Box::new(reply), end + 4 + length))
}

fn json(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).map_err(|error| format!("JSON body: {error}"))
}

fn json_balance(value: &Value) -> Result<Balance> {
    let row = |row: &Value| {
        Ok(AssetBalance {
            asset: asset(&row["asset"])?,
            available: integer(&row["available"])?,
            held: integer(&row["held"])?,
        })
    };
    Ok(Balance {
        user_id: integer(&value["user_id"])?,
        version: integer(&value["version"])?,
        updated_at_us: moment(text(&value["updated_at"])?)?,
        balances: list(&value["balances"])?.iter().map(row).collect::<Result<_>>()?,
    })
}

fn json_statistics(value: &Value, mask: u8) -> Result<Statistics> {
    let names: Vec<_> = ["24h", "7d", "30d", "lifetime"]
        .into_iter()
        .enumerate()
        .filter_map(|(bit, name)| (mask & 1 << bit != 0).then_some(name))
        .collect();
    let window = |window: &Value| {
        Ok(WindowStatistics {
            credit_count: integer(&window["credit_count"])?,
            credit_sum: integer(&window["credit_sum"])?,
            debit_count: integer(&window["debit_count"])?,
            debit_sum: integer(&window["debit_sum"])?,
            largest_debit: integer(&window["largest_debit"])?,
        })
    };
    let of_asset = |row: &Value| {
        let windows = row["windows"].as_object().ok_or("windows are no object")?;
        if windows.len() != names.len() {
            return Err(format!("windows {:?}, asked for {names:?}", windows.keys()));
        }
        let windows = names.iter().map(|name| window(&row["windows"][name])).collect::<Result<_>>()?;
        let first = moment(text(&row["first_transaction_at"])?)?;
        let last = moment(text(&row["last_transaction_at"])?)?;
        Ok((AssetStatistics { asset: asset(&row["asset"])?, windows }, (first, last)))
    };
    let rows = list(&value["statistics"])?.iter().map(of_asset).collect::<Result<Vec<_>>>()?;
    // The times are the user's, repeated with each asset.
    let times = rows.first().map_or((0, 0), |row| row.1);
    if rows.iter().any(|row| row.1 != times) {
        return Err(format!("an asset with other times: {value}"));
    }
    Ok(Statistics {
        user_id: integer(&value["user_id"])?,
        version: integer(&value["version"])?,
        first_transaction_at_us: times.0,
        last_transaction_at_us: times.1,
        statistics: rows.into_iter().map(|row| row.0).collect(),
        windows: mask,
    })
}

fn json_balances(value: &Value) -> Result<Balances> {
    let entry = |entry: &Value| {
        let name = text(&entry["status"])?;
        let status = Status::ALL.iter().find(|status| status.name() == name);
        Ok(BalanceEntry {
            user_id: integer(&entry["user_id"])?,
            status: *status.ok_or_else(|| format!("status {name:?}"))? as u8,
            quarantined: entry.get("quarantined") == Some(&Value::Bool(true)),
            balance: entry.get("balance").map(json_balance).transpose()?,
        })
    };
    Ok(Balances { entries: list(&value["balances"])?.iter().map(entry).collect::<Result<_>>()? })
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| format!("{value} where a string was expected"))
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().ok_or_else(|| format!("{value} where a list was expected"))
}

fn integer<T: std::str::FromStr>(value: &Value) -> Result<T> {
    number(text(value)?)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| format!("{text:?} where a number was expected"))
}

fn asset(value: &Value) -> Result<u64> {
    let asset = Asset::parse(text(value)?.as_bytes()).map_err(|error| format!("{value}: {error}"))?;
    Ok(asset.to_wire())
}

fn moment(text: &str) -> Result<i64> {
    let moment: jiff::Timestamp = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
    Ok(moment.as_microsecond())
}
