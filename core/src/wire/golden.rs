//! The golden frames of `schemas/golden`, read and written by this server.

use std::path::PathBuf;

use florin_schema::frame::{ReplyHeader, RequestHeader};
use florin_schema::layout::{BalanceView, WindowTotals};
use florin_schema::{
    Asset, LedgerId, MapNode, NodeId, NodeIdentity, NodeMap, Opcode, Status, UserId, Version, WindowMask,
};
use serde_json::Value;
use zerocopy::FromBytes;

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden")
}

/// The frames that the manifest lists under `kind`, with what it says of them.
fn frames(kind: &str) -> Vec<(Value, Vec<u8>)> {
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(folder().join("golden.json")).unwrap()).unwrap();
    let listed = manifest[kind].as_array().unwrap().clone();
    assert!(listed.len() > 20, "{kind}");
    let read = |told: Value| {
        let bytes = std::fs::read(folder().join(told["file"].as_str().unwrap())).unwrap();
        (told, bytes)
    };
    listed.into_iter().map(read).collect()
}

/// An integer, told as a number or, where it has 64 bits, as a string.
fn number<T: core::str::FromStr<Err: core::fmt::Debug>>(told: &Value) -> T {
    told.as_str().map_or_else(|| told.to_string(), str::to_owned).parse().unwrap()
}

fn hexadecimal(told: &Value) -> Vec<u8> {
    let text = told.as_str().unwrap_or_default();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn assert_query(told: &Value, query: Query<'_>, users: &[UserId]) {
    let body = &told["body"];
    match query {
        Query::Hello { client, token } => {
            assert_eq!((&body["hello"]["client"], &body["hello"]["token"]), (&client.into(), &token.into()));
        }
        Query::Balance(user) => {
            assert_eq!((user.get(), body), (number(&told["header"]["user_id"]), &Value::Null))
        }
        Query::Statistics(user, mask) => {
            assert_eq!(user.get(), number::<u64>(&told["header"]["user_id"]));
            let asked = body["windows"].as_u64().unwrap_or(15);
            assert_eq!(u64::from(mask.bits()), asked, "{told}");
        }
        Query::Balances => {
            let asked: Vec<u64> = body["user_ids"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(users.iter().map(|user| user.get()).collect::<Vec<_>>(), asked);
        }
        Query::Ping(payload) => assert_eq!(payload, hexadecimal(&body["payload_hex"])),
        Query::Chat(_) | Query::Nodes { .. } => panic!("no frame asks that"),
    }
}

#[test]
fn each_request_reads_as_told_and_is_awaited_while_cut() {
    for (told, bytes) in frames("requests") {
        let mut users = Vec::new();
        let header = RequestHeader::ref_from_prefix(&bytes).unwrap().0;
        let Parsed::Request(request, length) = frame::parse(&bytes, &mut users) else { panic!("{told}") };
        assert_eq!(length, bytes.len(), "{told}");
        assert_eq!(request.reply_to.request_id, number::<u64>(&told["header"]["request_id"]));
        assert_eq!(request.reply_to.opcode as u8, header.opcode);
        let format = if header.encoding == 1 { Format::Rkyv } else { Format::FlatBuffers };
        assert_eq!(request.reply_to.format, format);
        let freshness = match &told["freshness"] {
            Value::Null => Freshness::default(),
            told => Freshness {
                min_version: Version(number(&told["min_version"])),
                max_age_ms: number(&told["max_age_ms"]),
                wait_ms: number::<u32>(&told["wait_ms"]).min(1_000),
            },
        };
        assert_eq!(request.freshness, freshness, "{told}");
        assert_query(&told, request.query, &users);
        for cut in 0..bytes.len() {
            assert_eq!(frame::parse(&bytes[..cut], &mut users), Parsed::Incomplete, "{told} cut at {cut}");
        }
    }
}

#[test]
fn each_refusal_names_its_field() {
    for (told, bytes) in frames("refused_requests") {
        let Parsed::Rejected(rejection) = frame::parse(&bytes, &mut Vec::new()) else { panic!("{told}") };
        let field = format!("{}: expected ", told["field"].as_str().unwrap());
        assert!(rejection.message.starts_with(&field), "{told}: {}", rejection.message);
        assert_eq!(rejection.consumed.is_none(), told["closes"].as_bool().unwrap(), "{told}");
        assert_eq!(rejection.reply_to.request_id, number::<u64>(&told["request_id"]), "{told}");
        assert_eq!(rejection.status, Status::InvalidRequest, "{told}");
    }
}

/// A balance as a shard's table holds it.
fn table(told: &Value) -> Vec<u8> {
    let row = |row: &Value| florin_schema::records::AssetBalance {
        asset: Asset::parse(row["asset"].as_str().unwrap().as_bytes()).unwrap().to_wire(),
        available: number(&row["available"]),
        held: number(&row["held"]),
    };
    let balance = florin_schema::records::Balance {
        user_id: number(&told["user_id"]),
        version: number(&told["version"]),
        updated_at_us: number(&told["updated_at_us"]),
        balances: told["balances"].as_array().unwrap().iter().map(row).collect(),
    };
    rkyv::to_bytes::<rkyv::rancor::Error>(&balance).unwrap().to_vec()
}

fn write_statistics(encoder: &mut Encoder, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, told: &Value) {
    let windows = WindowMask::new(number(&told["windows"])).unwrap();
    let asset = |asset: &Value| {
        let mut totals = AssetTotals {
            asset: Asset::parse(asset["asset"].as_str().unwrap().as_bytes()).unwrap(),
            windows: [WindowTotals::default(); 4],
        };
        for (window, told) in windows.iter().zip(asset["windows"].as_array().unwrap()) {
            totals.windows[window as usize] = WindowTotals {
                credit_count: number::<u64>(&told["credit_count"]).into(),
                credit_sum: number::<i64>(&told["credit_sum"]).into(),
                debit_count: number::<u64>(&told["debit_count"]).into(),
                debit_sum: number::<i64>(&told["debit_sum"]).into(),
                largest_debit: number::<i64>(&told["largest_debit"]).into(),
            };
        }
        totals
    };
    let assets: Vec<AssetTotals> = told["statistics"].as_array().unwrap().iter().map(asset).collect();
    let answer = StatisticsAnswer {
        user_id: UserId::new(number(&told["user_id"])).unwrap(),
        version: Version(number(&told["version"])),
        windows,
        first_transaction_at_us: number(&told["first_transaction_at_us"]),
        last_transaction_at_us: number(&told["last_transaction_at_us"]),
        assets: &assets,
    };
    encoder.statistics(out, to, origin, &answer);
}

fn write_balances(encoder: &mut Encoder, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, told: &Value) {
    let told = told.as_array().unwrap();
    let tables: Vec<Vec<u8>> =
        told.iter().map(|entry| &entry["balance"]).filter(|told| !told.is_null()).map(table).collect();
    let mut present = tables.iter();
    let entry = |told: &Value| BatchEntry {
        user_id: UserId::new(number(&told["user_id"])).unwrap(),
        status: number::<u8>(&told["status"]).try_into().unwrap(),
        quarantined: told["quarantined"].as_bool().unwrap(),
        balance: (!told["balance"].is_null()).then(|| BalanceView::new(present.next().unwrap()).unwrap()),
    };
    encoder.balances(out, to, origin, &told.iter().map(entry).collect::<Vec<_>>());
}

/// What this server writes where the manifest says what a reply holds.
fn rewritten(encoder: &mut Encoder, header: &ReplyHeader, told: &Value) -> Vec<u8> {
    let to = ReplyTo {
        opcode: header.opcode.try_into().unwrap(),
        request_id: header.request_id.get(),
        format: if header.encoding == 1 { Format::Rkyv } else { Format::FlatBuffers },
    };
    let origin =
        Origin { as_of_us: header.as_of_us.get(), shard: header.shard.get(), flags: header.flags.get() };
    let mut out = Vec::new();
    let body = &told["body"];
    match (header.status.try_into().unwrap(), to.opcode) {
        (Status::Ok, Opcode::Hello) => {
            let told = &body["hello"];
            let ports: Vec<u16> = told["ports"].as_array().unwrap().iter().map(number).collect();
            let server = told["server"].as_str().unwrap();
            let identity = NodeIdentity {
                node: NodeId(number(&told["node_id"])),
                ledger: LedgerId(number(&told["ledger_id"])),
            };
            let nodes = told.get("nodes").map(map);
            let answer = HelloAnswer {
                nodes: nodes.as_ref(),
                server,
                shards: number(&told["shards"]),
                ports: &ports,
                identity,
                connection: 0,
            };
            encoder.hello(&mut out, to, origin, &answer);
        }
        (Status::Ok, Opcode::GetBalance) => {
            let bytes = table(&body["balance"]);
            encoder.balance(&mut out, to, origin, BalanceView::new(&bytes).unwrap());
        }
        (Status::Ok, Opcode::GetStatistics) => {
            write_statistics(encoder, &mut out, to, origin, &body["statistics"]);
        }
        (Status::Ok, Opcode::GetBalances) => write_balances(encoder, &mut out, to, origin, &body["balances"]),
        (Status::Ok, Opcode::Ping) => encoder.ping(&mut out, to, origin, &hexadecimal(&body["payload_hex"])),
        (status, _) => {
            encoder.error(&mut out, to, origin, status, body["message"].as_str().unwrap_or_default())
        }
    }
    out
}

/// A map as the manifest has it.
fn map(told: &Value) -> NodeMap {
    let node = |node: &Value| MapNode {
        id: NodeId(number(&node["node_id"])),
        host: node["host"].as_str().unwrap().to_owned(),
        port: number(&node["port"]),
        tls_port: number(&node["tls_port"]),
    };
    let nodes = told["nodes"].as_array().unwrap().iter().map(node).collect();
    let partitioner = told["partitioner"].as_str().unwrap().parse().unwrap();
    let mut map = NodeMap::new(number(&told["epoch"]), partitioner, nodes, 2);
    for partition in told["partitions"].as_array().unwrap() {
        let owner = partition["owner"].as_u64().map(|place| place as u16);
        map.push(owner, partition["standbys"].as_array().unwrap().iter().map(number));
    }
    map
}

/// A FlatBuffers body's content, as its generated code shows it: two builders may lay the same content out differently.
fn shown(opcode: Opcode, body: &[u8]) -> String {
    use florin_schema::generated as fb;
    match opcode {
        Opcode::Hello => format!("{:?}", flatbuffers::root::<fb::HelloReply<'_>>(body).unwrap()),
        Opcode::GetBalance => format!("{:?}", flatbuffers::root::<fb::Balance<'_>>(body).unwrap()),
        Opcode::GetStatistics => format!("{:?}", flatbuffers::root::<fb::Statistics<'_>>(body).unwrap()),
        Opcode::GetBalances => format!("{:?}", flatbuffers::root::<fb::Balances<'_>>(body).unwrap()),
        Opcode::Ping => unreachable!("an echo is not encoded"),
    }
}

#[test]
fn each_reply_is_written_as_told() {
    let mut encoder = Encoder::new();
    for (told, bytes) in frames("replies") {
        let (header, body) = ReplyHeader::read_from_prefix(&bytes).unwrap();
        let written = rewritten(&mut encoder, &header, &told);
        if header.encoding != 2 {
            assert_eq!(written, bytes, "{told}");
            continue;
        }
        let (mut ours, our_body) = ReplyHeader::read_from_prefix(&written).unwrap();
        assert_eq!(ours.length.get() as usize, written.len());
        ours.length = header.length;
        assert_eq!(ours, header, "{told}");
        let opcode = header.opcode.try_into().unwrap();
        assert_eq!(shown(opcode, our_body), shown(opcode, body), "{told}");
    }
}
