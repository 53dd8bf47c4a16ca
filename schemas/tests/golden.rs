//! The golden frames as files: a reader that knows nothing of how they were made finds in each what `golden.json` says.

#[path = "../examples/generate/golden/manifest.rs"]
#[allow(dead_code, reason = "the half that makes manifests")]
mod manifest;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions, ReplyHeader, RequestHeader};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Encoding, NodeMap, Opcode, Status, generated as fbs, records};
use manifest::{
    EntryFields, FreshnessFields, Manifest, MapFields, ReplyBody, ReplyFrame, ReplyHeaderFields, RequestBody,
    RequestFrame, RequestHeaderFields,
};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use zerocopy::FromBytes;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn manifest() -> Manifest {
    serde_json::from_slice(&fs::read(folder().join("golden.json")).unwrap()).unwrap()
}

fn bytes(file: &str) -> Vec<u8> {
    fs::read(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_file_is_listed_once_and_every_listed_file_is_there() {
    let manifest = manifest();
    let mut listed: Vec<&String> = manifest.requests.iter().map(|frame| &frame.file).collect();
    listed.extend(manifest.replies.iter().map(|frame| &frame.file));
    listed.extend(manifest.refused_requests.iter().map(|frame| &frame.file));
    listed.extend(manifest.refused_replies.iter().map(|frame| &frame.file));
    let unique: BTreeSet<String> = listed.iter().map(|file| (*file).clone()).collect();
    assert_eq!(unique.len(), listed.len());
    let there =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(unique, there.filter(|name| name != "golden.json").collect());
    assert_eq!(manifest.rkyv_schema, SCHEMA_FINGERPRINT.to_string());
}

#[test]
fn every_opcode_encoding_status_and_window_mask_has_a_frame() {
    let manifest = manifest();
    for &opcode in Opcode::ALL {
        for fresh in [false, true] {
            let found = |frame: &&RequestFrame| {
                frame.header.opcode == opcode as u8 && frame.freshness.is_some() == fresh
            };
            assert!(manifest.requests.iter().any(|frame| found(&frame)), "{opcode:?}, fresh: {fresh}");
        }
        let encodings: BTreeSet<u8> = manifest
            .replies
            .iter()
            .filter(|frame| frame.header.opcode == opcode as u8 && frame.header.status == 0)
            .map(|frame| frame.header.encoding)
            .collect();
        let expected = match opcode {
            Opcode::Hello => vec![2],
            Opcode::Ping => vec![0],
            Opcode::GetBalance | Opcode::GetStatistics | Opcode::GetBalances => vec![1, 2],
        };
        assert_eq!(encodings, expected.into_iter().collect(), "{opcode:?}");
    }
    let statuses: BTreeSet<u8> = manifest.replies.iter().map(|frame| frame.header.status).collect();
    assert_eq!(statuses, Status::ALL.iter().map(|&status| status as u8).collect());
    for encoding in [1, 2] {
        let masks: BTreeSet<u8> = manifest
            .replies
            .iter()
            .filter_map(|frame| match &frame.body {
                ReplyBody::Statistics(statistics) if frame.header.encoding == encoding => {
                    Some(statistics.windows)
                }
                _ => None,
            })
            .collect();
        assert_eq!(masks, (1..=15).collect(), "encoding {encoding}");
    }
}

#[test]
fn requests_say_what_the_manifest_says() {
    for expected in manifest().requests {
        let bytes = bytes(&expected.file);
        let (header, rest) = RequestHeader::read_from_prefix(&bytes).unwrap();
        assert_eq!(header.length.get() as usize, bytes.len(), "{}", expected.file);
        let (freshness, body) = match header.flags & FLAG_FRESHNESS {
            0 => (None, rest),
            _ => {
                let (options, body) = FreshnessOptions::read_from_prefix(rest).unwrap();
                let fields = FreshnessFields {
                    min_version: options.min_version.to_string(),
                    max_age_ms: options.max_age_ms.get(),
                    wait_ms: options.wait_ms.get(),
                };
                (Some(fields), body)
            }
        };
        let found = RequestFrame {
            file: expected.file.clone(),
            header: RequestHeaderFields {
                length: header.length.get(),
                version: header.version,
                opcode: header.opcode,
                encoding: header.encoding,
                flags: header.flags,
                request_id: header.request_id.to_string(),
                user_id: header.user_id.to_string(),
            },
            freshness,
            body: request_body(Opcode::try_from(header.opcode).unwrap(), body),
        };
        assert_eq!(found, expected);
    }
}

fn request_body(opcode: Opcode, body: &[u8]) -> Option<RequestBody> {
    if body.is_empty() {
        return None;
    }
    Some(match opcode {
        Opcode::Hello => {
            let hello = flatbuffers::root::<fbs::Hello>(body).unwrap();
            RequestBody::Hello {
                client: hello.client().unwrap().to_owned(),
                token: hello.token().unwrap().to_owned(),
            }
        }
        Opcode::GetStatistics => RequestBody::Windows(body[0]),
        Opcode::GetBalances => {
            let id = |id: &[u8]| u64::from_le_bytes(id.try_into().unwrap()).to_string();
            RequestBody::UserIds(body.chunks(8).map(id).collect())
        }
        Opcode::Ping => RequestBody::PayloadHex(hex(body)),
        Opcode::GetBalance => panic!("GetBalance has no body"),
    })
}

#[test]
fn replies_say_what_the_manifest_says() {
    for expected in manifest().replies {
        let bytes = bytes(&expected.file);
        let (header, body) = ReplyHeader::read_from_prefix(&bytes).unwrap();
        assert_eq!(header.length.get() as usize, bytes.len(), "{}", expected.file);
        let found = ReplyFrame {
            file: expected.file.clone(),
            header: ReplyHeaderFields {
                length: header.length.get(),
                version: header.version,
                opcode: header.opcode,
                encoding: header.encoding,
                status: header.status,
                request_id: header.request_id.to_string(),
                as_of_us: header.as_of_us.to_string(),
                shard: header.shard.get(),
                flags: header.flags.get(),
                schema: header.schema.get(),
            },
            body: reply_body(&header, body),
        };
        assert_eq!(found, expected);
    }
}

fn reply_body(header: &ReplyHeader, body: &[u8]) -> ReplyBody {
    if header.status != Status::Ok as u8 {
        return ReplyBody::Message(std::str::from_utf8(body).unwrap().to_owned());
    }
    let opcode = Opcode::try_from(header.opcode).unwrap();
    match (opcode, Encoding::try_from(header.encoding)) {
        (Opcode::Ping, Err(_)) => ReplyBody::PayloadHex(hex(body)),
        (_, Ok(Encoding::Rkyv)) => {
            assert_eq!(header.schema.get(), SCHEMA_FINGERPRINT as u32);
            // A body behind a 32-byte header is aligned where its frame is; a Vec's bytes need not be.
            let mut aligned = AlignedVec::<16>::new();
            aligned.extend_from_slice(body);
            rkyv_body(opcode, &aligned)
        }
        (_, Ok(Encoding::FlatBuffers)) => flat_body(opcode, body),
        (_, Err(_)) => panic!("{opcode:?} has a body"),
    }
}

fn rkyv_body(opcode: Opcode, body: &[u8]) -> ReplyBody {
    match opcode {
        Opcode::GetBalance => {
            ReplyBody::Balance((&rkyv::from_bytes::<records::Balance, Error>(body).unwrap()).into())
        }
        Opcode::GetStatistics => {
            ReplyBody::Statistics((&rkyv::from_bytes::<records::Statistics, Error>(body).unwrap()).into())
        }
        Opcode::GetBalances => {
            let balances = rkyv::from_bytes::<records::Balances, Error>(body).unwrap();
            ReplyBody::Balances(balances.entries.iter().map(EntryFields::from).collect())
        }
        Opcode::Hello | Opcode::Ping => panic!("{opcode:?} is never rkyv"),
    }
}

fn flat_body(opcode: Opcode, body: &[u8]) -> ReplyBody {
    match opcode {
        Opcode::GetBalance => {
            ReplyBody::Balance((&flat_balance(flatbuffers::root::<fbs::Balance>(body).unwrap())).into())
        }
        Opcode::GetStatistics => ReplyBody::Statistics(
            (&flat_statistics(flatbuffers::root::<fbs::Statistics>(body).unwrap())).into(),
        ),
        Opcode::GetBalances => {
            let balances = flatbuffers::root::<fbs::Balances>(body).unwrap();
            let entry = |entry: fbs::BalanceEntry| records::BalanceEntry {
                user_id: entry.user_id(),
                status: entry.status(),
                quarantined: entry.quarantined(),
                balance: entry.balance().map(flat_balance),
            };
            ReplyBody::Balances(
                balances.entries().unwrap().iter().map(|e| EntryFields::from(&entry(e))).collect(),
            )
        }
        Opcode::Hello => {
            let hello = flatbuffers::root::<fbs::HelloReply>(body).unwrap();
            ReplyBody::Hello {
                server: hello.server().unwrap().to_owned(),
                shards: hello.shards(),
                ports: hello.ports().unwrap().iter().collect(),
                mix: hello.mix().unwrap().to_owned(),
                rkyv_schema: hello.rkyv_schema().to_string(),
                node_id: hello.node_id().to_string(),
                ledger_id: hello.ledger_id().to_string(),
                nodes: hello.nodes().map(|map| MapFields::from(&NodeMap::read(map).unwrap())),
            }
        }
        Opcode::Ping => panic!("a Ping's body is an echo"),
    }
}

fn flat_balance(balance: fbs::Balance<'_>) -> records::Balance {
    let row = |row: &fbs::AssetBalance| records::AssetBalance {
        asset: row.asset(),
        available: row.available(),
        held: row.held(),
    };
    records::Balance {
        user_id: balance.user_id(),
        version: balance.version(),
        updated_at_us: balance.updated_at_us(),
        balances: balance.balances().unwrap().iter().map(row).collect(),
    }
}

fn flat_statistics(statistics: fbs::Statistics<'_>) -> records::Statistics {
    let window = |window: &fbs::WindowStatistics| records::WindowStatistics {
        credit_count: window.credit_count(),
        credit_sum: window.credit_sum(),
        debit_count: window.debit_count(),
        debit_sum: window.debit_sum(),
        largest_debit: window.largest_debit(),
    };
    let asset = |asset: fbs::AssetStatistics| records::AssetStatistics {
        asset: asset.asset(),
        windows: asset.windows().unwrap().iter().map(window).collect(),
    };
    records::Statistics {
        user_id: statistics.user_id(),
        version: statistics.version(),
        first_transaction_at_us: statistics.first_transaction_at_us(),
        last_transaction_at_us: statistics.last_transaction_at_us(),
        statistics: statistics.statistics().unwrap().iter().map(asset).collect(),
        windows: statistics.windows(),
    }
}

#[test]
fn refused_bodies_do_not_verify() {
    for refused in manifest().refused_replies.iter().filter(|refused| refused.field == "body") {
        let bytes = bytes(&refused.file);
        let (header, body) = ReplyHeader::read_from_prefix(&bytes).unwrap();
        let mut aligned = AlignedVec::<16>::new();
        aligned.extend_from_slice(body);
        let verifies = match Encoding::try_from(header.encoding) {
            Ok(Encoding::Rkyv) => rkyv::access::<rkyv::Archived<records::Balance>, Error>(&aligned).is_ok(),
            Ok(Encoding::FlatBuffers) => flatbuffers::root::<fbs::Balance>(&aligned).is_ok(),
            Err(_) => std::str::from_utf8(body).is_ok(),
        };
        assert!(!verifies, "{}", refused.file);
    }
}
