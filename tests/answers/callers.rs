//! Callers that read wire.md to the letter: one for frames, one for HTTP; and the Rust client. Blocking, one request at a time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions, ReplyHeader, RequestHeader, VERSION};
use florin_schema::generated as fb;
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Asset, Encoding, Opcode, Status, records};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use serde_json::Value;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::recomputed::{Account, Balance, Totals};

pub struct Answer {
    pub account: Account,
    pub header: ReplyHeader,
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    stream.set_nodelay(true).expect("no delay");
    stream
}

pub struct NativeCaller {
    stream: TcpStream,
    next_id: u64,
}

impl NativeCaller {
    pub fn connect(address: SocketAddr) -> NativeCaller {
        NativeCaller { stream: connect(address), next_id: 1 }
    }

    fn call(
        &mut self,
        opcode: Opcode,
        user_id: u64,
        encoding: Encoding,
        options: Option<FreshnessOptions>,
        body: &[u8],
    ) -> (ReplyHeader, AlignedVec) {
        let (reply, body) = self.ask(opcode, user_id, encoding, options, body);
        assert_eq!(reply.status, Status::Ok as u8, "{}", String::from_utf8_lossy(&body));
        assert_eq!(reply.encoding, encoding as u8);
        (reply, body)
    }

    fn ask(
        &mut self,
        opcode: Opcode,
        user_id: u64,
        encoding: Encoding,
        options: Option<FreshnessOptions>,
        body: &[u8],
    ) -> (ReplyHeader, AlignedVec) {
        let options = options.map(|options| options.as_bytes().to_vec());
        let header = RequestHeader {
            length: U32::new((24 + options.as_ref().map_or(0, Vec::len) + body.len()) as u32),
            version: VERSION,
            opcode: opcode as u8,
            encoding: encoding as u8,
            flags: if options.is_some() { FLAG_FRESHNESS } else { 0 },
            request_id: U64::new(self.next_id),
            user_id: U64::new(user_id),
        };
        let frame = [header.as_bytes(), &options.unwrap_or_default(), body].concat();
        self.stream.write_all(&frame).expect("a request is sent");
        let mut reply = [0; 32];
        self.stream.read_exact(&mut reply).expect("a reply's header");
        let reply = ReplyHeader::read_from_bytes(&reply).expect("a reply's header");
        let mut body = AlignedVec::new();
        body.resize(reply.length.get() as usize - 32, 0);
        self.stream.read_exact(&mut body).expect("a reply's body");
        assert_eq!((reply.version, reply.opcode), (VERSION, opcode as u8));
        assert_eq!(reply.request_id.get(), self.next_id);
        assert_eq!(reply.schema.get(), SCHEMA_FINGERPRINT as u32);
        self.next_id += 1;
        (reply, body)
    }

    pub fn balance(&mut self, user: u64, encoding: Encoding) -> Balance {
        let (_, body) = self.call(Opcode::GetBalance, user, encoding, None, &[]);
        decode_balance(&body, encoding)
    }

    /// The server holds a request for a second; what it follows may take longer to come back.
    pub fn balance_at_least(&mut self, user: u64, version: u64) -> Balance {
        let options = FreshnessOptions {
            min_version: U64::new(version),
            max_age_ms: U32::new(0),
            wait_ms: U32::new(1_000),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (reply, body) = self.ask(Opcode::GetBalance, user, Encoding::Rkyv, Some(options), &[]);
            if reply.status != Status::Stale as u8 || Instant::now() > deadline {
                assert_eq!(reply.status, Status::Ok as u8, "{}", String::from_utf8_lossy(&body));
                return decode_balance(&body, Encoding::Rkyv);
            }
        }
    }

    pub fn account(&mut self, user: u64, encoding: Encoding) -> Answer {
        let balance = self.balance(user, encoding);
        let (header, body) = self.call(Opcode::GetStatistics, user, encoding, None, &[]);
        let statistics = match encoding {
            Encoding::Rkyv => rkyv::from_bytes::<records::Statistics, Error>(&body).expect("rkyv statistics"),
            Encoding::FlatBuffers => {
                statistics_of_flatbuffer(&flatbuffers::root::<fb::Statistics<'_>>(&body).expect("statistics"))
            }
        };
        Answer { account: account_of_records(balance, &statistics), header }
    }

    pub fn batch(&mut self, users: &[u64], encoding: Encoding) -> Vec<Option<Balance>> {
        let ids: Vec<u8> = users.iter().flat_map(|id| id.to_le_bytes()).collect();
        let (_, body) = self.call(Opcode::GetBalances, 0, encoding, None, &ids);
        match encoding {
            Encoding::Rkyv => {
                let balances = rkyv::from_bytes::<records::Balances, Error>(&body).expect("rkyv balances");
                let ids: Vec<u64> = balances.entries.iter().map(|entry| entry.user_id).collect();
                assert_eq!(ids, users);
                balances
                    .entries
                    .into_iter()
                    .map(|entry| entry.balance.map(|b| balance_of_record(&b)))
                    .collect()
            }
            Encoding::FlatBuffers => {
                let balances = flatbuffers::root::<fb::Balances<'_>>(&body).expect("balances");
                let entries = balances.entries().expect("entries");
                let ids: Vec<u64> = entries.iter().map(|entry| entry.user_id()).collect();
                assert_eq!(ids, users);
                entries.iter().map(|entry| entry.balance().map(|b| balance_of_flatbuffer(&b))).collect()
            }
        }
    }
}

fn code(wire: u64) -> String {
    Asset::from_wire(wire).expect("a legal code").to_string()
}

fn decode_balance(body: &[u8], encoding: Encoding) -> Balance {
    match encoding {
        Encoding::Rkyv => {
            balance_of_record(&rkyv::from_bytes::<records::Balance, Error>(body).expect("an rkyv balance"))
        }
        Encoding::FlatBuffers => {
            balance_of_flatbuffer(&flatbuffers::root::<fb::Balance<'_>>(body).expect("a balance"))
        }
    }
}

fn balance_of_record(balance: &records::Balance) -> Balance {
    Balance {
        user_id: balance.user_id,
        version: balance.version,
        updated_at_us: balance.updated_at_us,
        assets: balance.balances.iter().map(|row| (code(row.asset), row.available, row.held)).collect(),
    }
}

fn balance_of_flatbuffer(balance: &fb::Balance<'_>) -> Balance {
    Balance {
        user_id: balance.user_id(),
        version: balance.version(),
        updated_at_us: balance.updated_at_us(),
        assets: balance
            .balances()
            .expect("rows")
            .iter()
            .map(|row| (code(row.asset()), row.available(), row.held()))
            .collect(),
    }
}

fn account_of_records(balance: Balance, statistics: &records::Statistics) -> Account {
    let of = (statistics.user_id, statistics.version, statistics.windows);
    assert_eq!(of, (balance.user_id, balance.version, 15));
    let totals = |asset: &records::AssetStatistics| {
        let windows: Vec<Totals> = asset
            .windows
            .iter()
            .map(|w| {
                [w.credit_count as i64, w.credit_sum, w.debit_count as i64, w.debit_sum, w.largest_debit]
            })
            .collect();
        (code(asset.asset), windows.try_into().expect("four windows"))
    };
    Account {
        balance,
        statistics: statistics.statistics.iter().map(totals).collect(),
        first_us: statistics.first_transaction_at_us,
        last_us: statistics.last_transaction_at_us,
    }
}

fn statistics_of_flatbuffer(statistics: &fb::Statistics<'_>) -> records::Statistics {
    let windows = |asset: fb::AssetStatistics<'_>| {
        asset
            .windows()
            .expect("windows")
            .iter()
            .map(|w| records::WindowStatistics {
                credit_count: w.credit_count(),
                credit_sum: w.credit_sum(),
                debit_count: w.debit_count(),
                debit_sum: w.debit_sum(),
                largest_debit: w.largest_debit(),
            })
            .collect()
    };
    records::Statistics {
        user_id: statistics.user_id(),
        version: statistics.version(),
        first_transaction_at_us: statistics.first_transaction_at_us(),
        last_transaction_at_us: statistics.last_transaction_at_us(),
        statistics: statistics
            .statistics()
            .expect("assets")
            .iter()
            .map(|asset| records::AssetStatistics { asset: asset.asset(), windows: windows(asset) })
            .collect(),
        windows: statistics.windows(),
    }
}

/// The Rust client.
#[cfg(feature = "kafka")]
pub struct ClientCaller {
    runtime: tokio::runtime::Runtime,
    client: florin_client::Client,
}

#[cfg(feature = "kafka")]
impl ClientCaller {
    pub fn connect(address: SocketAddr) -> ClientCaller {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
        let client = florin_client::Client::builder().deadline(Duration::from_secs(60));
        let client = runtime.block_on(client.connect(address)).expect("a node");
        ClientCaller { runtime, client }
    }

    pub fn account(&self, user: u64) -> Account {
        let id = florin_schema::UserId::new(user).expect("a legal id");
        self.runtime.block_on(async {
            let balance = self.client.get_balance(id).await.expect("a balance");
            let all = florin_schema::WindowMask::ALL;
            let statistics = self.client.get_statistics(id, all).await.expect("statistics");
            account_of_records(balance_of_record(&balance.to_record()), &statistics.to_record())
        })
    }

    pub fn batch(&self, users: &[u64]) -> Vec<Option<Balance>> {
        let ids: Vec<_> =
            users.iter().map(|&user| florin_schema::UserId::new(user).expect("a legal id")).collect();
        let balances = self.runtime.block_on(self.client.get_balances(&ids)).expect("balances");
        let balance = |entry: florin_client::Entry<'_>| {
            let record = rkyv::deserialize::<records::Balance, Error>(entry.balance?).expect("a record");
            Some(balance_of_record(&record))
        };
        balances.iter().map(balance).collect()
    }
}

/// It goes where a node sends it.
pub struct HttpCaller {
    first: SocketAddr,
    streams: HashMap<SocketAddr, BufReader<TcpStream>>,
    /// How often it was sent on.
    pub sent_on: usize,
}

impl HttpCaller {
    pub fn connect(address: SocketAddr) -> HttpCaller {
        HttpCaller { first: address, streams: HashMap::new(), sent_on: 0 }
    }

    fn call(&mut self, request: &str) -> Value {
        let mut node = self.first;
        // A map that changes between the two may send on once more.
        for _ in 0..3 {
            match self.ask(node, request) {
                Ok(answer) => return answer,
                Err(other) => node = other,
            }
            self.sent_on += 1;
        }
        panic!("sent around in a circle: {request}");
    }

    /// A node's answer, or whom it names.
    fn ask(&mut self, node: SocketAddr, request: &str) -> Result<Value, SocketAddr> {
        let stream = self.streams.entry(node).or_insert_with(|| BufReader::new(connect(node)));
        stream.get_mut().write_all(request.as_bytes()).expect("a request is sent");
        let mut status = String::new();
        stream.read_line(&mut status).expect("a status line");
        let (mut length, mut location, mut line) = (0, None, String::new());
        loop {
            line.clear();
            stream.read_line(&mut line).expect("a header");
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            } else if name.eq_ignore_ascii_case("location") {
                let place = value.strip_prefix("http://").and_then(|rest| rest.split('/').next());
                location = place.map(|place| place.parse().expect("an address"));
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        match location {
            Some(other) if status.starts_with("HTTP/1.1 307 ") => Err(other),
            _ => {
                assert_eq!(status, "HTTP/1.1 200 OK\r\n", "{}", String::from_utf8_lossy(&body));
                Ok(serde_json::from_slice(&body).expect("JSON"))
            }
        }
    }

    fn get(&mut self, path: &str) -> Value {
        self.call(&format!("GET {path} HTTP/1.1\r\nHost: florin\r\n\r\n"))
    }

    pub fn account(&mut self, user: u64) -> Account {
        let balance = balance_of_json(&self.get(&format!("/v1/users/{user}/balance")));
        let json = self.get(&format!("/v1/users/{user}/statistics"));
        assert_eq!(
            (integer(&json["user_id"]), integer(&json["version"])),
            (user as i64, balance.version as i64)
        );
        let totals = |windows: &Value| {
            ["24h", "7d", "30d", "lifetime"].map(|window| {
                ["credit_count", "credit_sum", "debit_count", "debit_sum", "largest_debit"]
                    .map(|field| integer(&windows[window][field]))
            })
        };
        let statistics = json["statistics"].as_array().expect("assets");
        Account {
            balance,
            statistics: statistics
                .iter()
                .map(|asset| (text(&asset["asset"]).to_owned(), totals(&asset["windows"])))
                .collect(),
            first_us: time_us(&statistics[0]["first_transaction_at"]),
            last_us: time_us(&statistics[0]["last_transaction_at"]),
        }
    }

    pub fn batch(&mut self, users: &[u64]) -> Vec<Option<Balance>> {
        let ids: Vec<String> = users.iter().map(|id| format!("\"{id}\"")).collect();
        let body = format!("{{\"user_ids\":[{}]}}", ids.join(","));
        let json = self.call(&format!(
            "POST /v1/balances:batchGet HTTP/1.1\r\nHost: florin\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let entries = json["balances"].as_array().expect("entries");
        entries
            .iter()
            .zip(users)
            .map(|(entry, &user)| {
                assert_eq!(integer(&entry["user_id"]), user as i64);
                (text(&entry["status"]) == "OK").then(|| balance_of_json(&entry["balance"]))
            })
            .collect()
    }
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_else(|| panic!("a string, not {json}"))
}

fn integer(json: &Value) -> i64 {
    text(json).parse().expect("an integer's digits")
}

fn time_us(json: &Value) -> i64 {
    text(json).parse::<jiff::Timestamp>().expect("RFC 3339").as_microsecond()
}

fn balance_of_json(json: &Value) -> Balance {
    Balance {
        user_id: integer(&json["user_id"]) as u64,
        version: integer(&json["version"]) as u64,
        updated_at_us: time_us(&json["updated_at"]),
        assets: json["balances"]
            .as_array()
            .expect("assets")
            .iter()
            .map(|row| (text(&row["asset"]).to_owned(), integer(&row["available"]), integer(&row["held"])))
            .collect(),
    }
}
