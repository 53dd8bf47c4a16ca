use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};
use florin_schema::generated as fb;
use florin_schema::layout::WindowTotals;
use florin_schema::{Asset, LedgerId, NodeId, NodeIdentity, Opcode, UserId, WindowMask, records};
use proptest::prelude::*;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use zerocopy::FromBytes;

use super::*;
use crate::wire::AssetTotals;

const ORIGIN: Origin = Origin { as_of_us: 1_795_320_306_000_007, shard: 3, flags: 0 };

fn to(opcode: Opcode, format: Format) -> ReplyTo {
    ReplyTo { opcode, request_id: 0x0123_4567_89AB_CDEF, format }
}

/// What the encoder appends behind bytes of an odd number, which it must leave alone.
fn written(write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = b"earlier".to_vec();
    write(&mut Encoder::new(), &mut out);
    assert_eq!(&out[..7], b"earlier");
    out.split_off(7)
}

/// Splits a frame, and checks what all frames have in common.
fn opened(frame: &[u8]) -> (&ReplyHeader, &[u8]) {
    let (header, body) = ReplyHeader::ref_from_prefix(frame).unwrap();
    assert_eq!(header.length.get() as usize, frame.len());
    assert_eq!((header.version, header.request_id.get()), (1, 0x0123_4567_89AB_CDEF));
    assert_eq!(header.as_of_us.get(), ORIGIN.as_of_us);
    assert_eq!((header.shard.get(), header.schema.get()), (3, SCHEMA_FINGERPRINT as u32));
    (header, body)
}

fn archived<T>(record: &T) -> AlignedVec
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, rancor::Error>,
        >,
{
    rkyv::to_bytes::<rancor::Error>(record).unwrap()
}

/// A frame whose buffer begins on a 16-byte boundary, as a caller's does.
fn aligned(frame: &[u8]) -> AlignedVec<16> {
    let mut buffer = AlignedVec::new();
    buffer.extend_from_slice(frame);
    buffer
}

fn asset(code: &str) -> Asset {
    Asset::parse(code.as_bytes()).unwrap()
}

/// Up to 16 codes, ascending as answers have them.
fn assets() -> impl Strategy<Value = Vec<Asset>> {
    prop::collection::btree_set("[A-Z0-9_]{1,8}", 0..=16)
        .prop_map(|codes| codes.iter().map(|code| asset(code)).collect())
}

/// RFC 3339's years.
fn times() -> impl Strategy<Value = i64> {
    -62_135_596_800_000_000i64..253_402_300_800_000_000
}

fn balances() -> impl Strategy<Value = records::Balance> {
    let head = (0..=i64::MAX as u64, any::<u64>(), times());
    (head, assets(), any::<[[i64; 2]; 16]>()).prop_map(|((user_id, version, updated_at_us), assets, sums)| {
        let row = |(asset, [available, held]): (Asset, [i64; 2])| records::AssetBalance {
            asset: asset.to_wire(),
            available,
            held,
        };
        let balances = assets.into_iter().zip(sums).map(row).collect();
        records::Balance { user_id, version, updated_at_us, balances }
    })
}

prop_compose! {
    fn totals()(credit_count: u64, credit_sum: i64, debit_count: u64, debit_sum: i64, largest_debit: i64)
        -> WindowTotals
    {
        WindowTotals {
            credit_count: credit_count.into(),
            credit_sum: credit_sum.into(),
            debit_count: debit_count.into(),
            debit_sum: debit_sum.into(),
            largest_debit: largest_debit.into(),
        }
    }
}

/// An answer's parts, and the record that says the same.
#[derive(Clone, Debug)]
struct Told {
    assets: Vec<AssetTotals>,
    record: records::Statistics,
}

impl Told {
    fn answer(&self) -> StatisticsAnswer<'_> {
        StatisticsAnswer {
            user_id: UserId::new(self.record.user_id).unwrap(),
            version: Version(self.record.version),
            windows: WindowMask::new(self.record.windows).unwrap(),
            first_transaction_at_us: self.record.first_transaction_at_us,
            last_transaction_at_us: self.record.last_transaction_at_us,
            assets: &self.assets,
        }
    }
}

fn record(totals: &WindowTotals) -> records::WindowStatistics {
    records::WindowStatistics {
        credit_count: totals.credit_count.get(),
        credit_sum: totals.credit_sum.get(),
        debit_count: totals.debit_count.get(),
        debit_sum: totals.debit_sum.get(),
        largest_debit: totals.largest_debit.get(),
    }
}

fn statistics() -> impl Strategy<Value = Told> {
    let head = (0..=i64::MAX as u64, any::<u64>(), 1u8..16, times(), times());
    let windows = prop::collection::vec([totals(), totals(), totals(), totals()], 16);
    (head, assets(), windows).prop_map(|((user_id, version, mask, first, last), assets, windows)| {
        let assets: Vec<AssetTotals> =
            assets.into_iter().zip(windows).map(|(asset, windows)| AssetTotals { asset, windows }).collect();
        let asked = WindowMask::new(mask).unwrap();
        let row = |totals: &AssetTotals| records::AssetStatistics {
            asset: totals.asset.to_wire(),
            windows: asked.iter().map(|window| record(&totals.windows[window as usize])).collect(),
        };
        let record = records::Statistics {
            user_id,
            version,
            first_transaction_at_us: first,
            last_transaction_at_us: last,
            statistics: assets.iter().map(row).collect(),
            windows: mask,
        };
        Told { assets, record }
    })
}

/// Batches, OK entries among others.
fn batches() -> impl Strategy<Value = records::Balances> {
    let missing = (0..=i64::MAX as u64, 1u8..=8, any::<bool>());
    let entry = prop_oneof![
        (balances(), any::<bool>()).prop_map(|(balance, quarantined)| records::BalanceEntry {
            user_id: balance.user_id,
            status: 0,
            quarantined,
            balance: Some(balance)
        }),
        missing.prop_map(|(user_id, status, quarantined)| records::BalanceEntry {
            user_id,
            status,
            quarantined,
            balance: None
        }),
    ];
    prop::collection::vec(entry, 1..40).prop_map(|entries| records::Balances { entries })
}

/// Each entry's archived balance, as a shard's table holds it.
fn tables(batch: &records::Balances) -> Vec<Option<AlignedVec>> {
    batch.entries.iter().map(|entry| entry.balance.as_ref().map(archived)).collect()
}

fn entries<'a>(batch: &records::Balances, tables: &'a [Option<AlignedVec>]) -> Vec<BatchEntry<'a>> {
    let views = tables.iter().map(|bytes| bytes.as_ref().map(|bytes| BalanceView::new(bytes).unwrap()));
    let entry = |(entry, balance): (&records::BalanceEntry, _)| BatchEntry {
        user_id: UserId::new(entry.user_id).unwrap(),
        status: entry.status.try_into().unwrap(),
        quarantined: entry.quarantined,
        balance,
    };
    batch.entries.iter().zip(views).map(entry).collect()
}

fn read_balance(balance: fb::Balance<'_>) -> records::Balance {
    let row = |row: &fb::AssetBalance| records::AssetBalance {
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

fn read_statistics(statistics: fb::Statistics<'_>) -> records::Statistics {
    let window = |window: &fb::WindowStatistics| records::WindowStatistics {
        credit_count: window.credit_count(),
        credit_sum: window.credit_sum(),
        debit_count: window.debit_count(),
        debit_sum: window.debit_sum(),
        largest_debit: window.largest_debit(),
    };
    let asset = |asset: fb::AssetStatistics<'_>| records::AssetStatistics {
        asset: asset.asset(),
        windows: asset.windows().unwrap().iter().map(window).collect(),
    };
    records::Statistics {
        user_id: statistics.user_id(),
        version: statistics.version(),
        windows: statistics.windows(),
        statistics: statistics.statistics().unwrap().iter().map(asset).collect(),
        first_transaction_at_us: statistics.first_transaction_at_us(),
        last_transaction_at_us: statistics.last_transaction_at_us(),
    }
}

/// The 64-bit words of a FlatBuffers body lie on their boundaries, for readers that do not copy.
fn assert_rows_aligned(body: &[u8], rows: &[u8]) {
    let at = rows.as_ptr() as usize - body.as_ptr() as usize;
    assert_eq!((body.len() % 8, at % 8), (0, 0));
}

proptest! {
    #[test]
    fn a_balance_reads_back(balance in balances()) {
        let bytes = archived(&balance);
        let view = BalanceView::new(&bytes).unwrap();
        let write = |format| written(|encoder, out| encoder.balance(out, to(Opcode::GetBalance, format), ORIGIN, view));

        let frame = aligned(&write(Format::Rkyv));
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status, header.flags.get()), (1, 1, 0, 0));
        prop_assert_eq!(body, &bytes[..]);
        rkyv::access::<records::ArchivedBalance, rancor::Error>(body).unwrap();

        let frame = write(Format::FlatBuffers);
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status), (1, 2, 0));
        let read = flatbuffers::root::<fb::Balance<'_>>(body).unwrap();
        assert_rows_aligned(body, read.balances().unwrap().bytes());
        prop_assert_eq!(read_balance(read), balance);
    }

    #[test]
    fn statistics_read_back(told in statistics()) {
        let write = |format| {
            written(|encoder, out| encoder.statistics(out, to(Opcode::GetStatistics, format), ORIGIN, &told.answer()))
        };
        let frame = aligned(&write(Format::Rkyv));
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status), (2, 1, 0));
        prop_assert_eq!(body, &archived(&told.record)[..], "byte for byte what rkyv writes");
        rkyv::access::<records::ArchivedStatistics, rancor::Error>(body).unwrap();

        let frame = write(Format::FlatBuffers);
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status), (2, 2, 0));
        let read = flatbuffers::root::<fb::Statistics<'_>>(body).unwrap();
        for asset in read.statistics().unwrap() {
            assert_rows_aligned(body, asset.windows().unwrap().bytes());
        }
        prop_assert_eq!(read_statistics(read), told.record);
    }

    #[test]
    fn a_batch_reads_back(batch in batches()) {
        let tables = tables(&batch);
        let entries = entries(&batch, &tables);
        let write = |format| {
            written(|encoder, out| encoder.balances(out, to(Opcode::GetBalances, format), ORIGIN, &entries))
        };
        let frame = aligned(&write(Format::Rkyv));
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status), (3, 1, 0));
        prop_assert_eq!(body, &archived(&batch)[..], "byte for byte what rkyv writes");
        rkyv::access::<records::ArchivedBalances, rancor::Error>(body).unwrap();

        let frame = write(Format::FlatBuffers);
        let (header, body) = opened(&frame);
        prop_assert_eq!((header.opcode, header.encoding, header.status), (3, 2, 0));
        let entry = |entry: fb::BalanceEntry<'_>| records::BalanceEntry {
            user_id: entry.user_id(),
            status: entry.status(),
            quarantined: entry.quarantined(),
            balance: entry.balance().map(read_balance),
        };
        let read = flatbuffers::root::<fb::Balances<'_>>(body).unwrap().entries().unwrap();
        prop_assert_eq!(read.iter().map(entry).collect::<Vec<_>>(), batch.entries);
    }

    #[test]
    fn json_says_the_same(balance in balances(), told in statistics(), batch in batches()) {
        let bytes = archived(&balance);
        let tables = tables(&batch);
        let entries = entries(&batch, &tables);
        let reply = |opcode| to(opcode, Format::Http(HttpReply::KeepAlive));
        let body = |response: Vec<u8>| -> serde_json::Value {
            let (head, body) = split(&response);
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
            serde_json::from_slice(body).unwrap()
        };
        let got = body(written(|encoder, out| {
            encoder.balance(out, reply(Opcode::GetBalance), ORIGIN, BalanceView::new(&bytes).unwrap());
        }));
        prop_assert_eq!(got, balance_value(&balance));
        let got = body(written(|encoder, out| {
            encoder.statistics(out, reply(Opcode::GetStatistics), ORIGIN, &told.answer());
        }));
        prop_assert_eq!(got, statistics_value(&told.record));
        let got = body(written(|encoder, out| encoder.balances(out, reply(Opcode::GetBalances), ORIGIN, &entries)));
        for (got, entry) in got["balances"].as_array().unwrap().iter().zip(&batch.entries) {
            prop_assert_eq!(&got["user_id"], &entry.user_id.to_string());
            let status = Status::try_from(entry.status).unwrap();
            prop_assert_eq!(&got["status"], status.name());
            let quarantined = got.get("quarantined").map(|told| told.as_bool().unwrap());
            prop_assert_eq!(quarantined, entry.quarantined.then_some(true), "it is told only where it is so");
            prop_assert_eq!(got.get("balance").cloned(), entry.balance.as_ref().map(balance_value));
        }
        prop_assert_eq!(got["balances"].as_array().unwrap().len(), batch.entries.len());
    }

    #[test]
    fn a_problem_is_json_whatever_its_detail(detail in any::<String>()) {
        let reply = to(Opcode::Ping, Format::Http(HttpReply::Close));
        let response = written(|encoder, out| encoder.error(out, reply, ORIGIN, Status::Internal, &detail));
        let body: serde_json::Value = serde_json::from_slice(split(&response).1).unwrap();
        prop_assert_eq!(&body["detail"], &detail);
    }
}

/// An HTTP response's head, with the blank line, and its body.
fn split(response: &[u8]) -> (&str, &[u8]) {
    let end = memchr::memmem::find(response, b"\r\n\r\n").unwrap() + 4;
    (core::str::from_utf8(&response[..end]).unwrap(), &response[end..])
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).unwrap().to_string()
}

fn moment(us: i64) -> String {
    String::from_utf8(time::rfc3339(us).to_vec()).unwrap()
}

fn balance_value(balance: &records::Balance) -> serde_json::Value {
    let row = |row: &records::AssetBalance| {
        serde_json::json!({
            "asset": code(row.asset), "available": row.available.to_string(), "held": row.held.to_string()
        })
    };
    serde_json::json!({
        "user_id": balance.user_id.to_string(),
        "version": balance.version.to_string(),
        "updated_at": moment(balance.updated_at_us),
        "balances": balance.balances.iter().map(row).collect::<Vec<_>>(),
    })
}

fn statistics_value(statistics: &records::Statistics) -> serde_json::Value {
    let window = |window: &records::WindowStatistics| {
        serde_json::json!({
            "credit_count": window.credit_count.to_string(),
            "credit_sum": window.credit_sum.to_string(),
            "debit_count": window.debit_count.to_string(),
            "debit_sum": window.debit_sum.to_string(),
            "largest_debit": window.largest_debit.to_string(),
        })
    };
    let mask = WindowMask::new(statistics.windows).unwrap();
    let asset = |asset: &records::AssetStatistics| {
        let windows =
            mask.iter().map(|window| window.name().to_owned()).zip(asset.windows.iter().map(window));
        serde_json::json!({
            "asset": code(asset.asset),
            "windows": serde_json::Map::from_iter(windows),
            "first_transaction_at": moment(statistics.first_transaction_at_us),
            "last_transaction_at": moment(statistics.last_transaction_at_us),
        })
    };
    serde_json::json!({
        "user_id": statistics.user_id.to_string(),
        "version": statistics.version.to_string(),
        "statistics": statistics.statistics.iter().map(asset).collect::<Vec<_>>(),
    })
}

/// The balance of wire.md's example.
fn example() -> AlignedVec {
    archived(&records::Balance {
        user_id: 42,
        version: 7,
        updated_at_us: 1_795_320_306_000_007,
        balances: vec![records::AssetBalance { asset: asset("COIN").to_wire(), available: 1_200, held: 0 }],
    })
}

#[test]
fn a_response_is_wire_mds_to_the_letter() {
    let bytes = example();
    let body = r#"{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 133\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
        Florin-As-Of: 2026-11-22T04:05:06.000007Z\r\nFlorin-Version: 7\r\nFlorin-Shard: 3\r\n";
    let marks = "Florin-Forwarded: true\r\nFlorin-Quarantined: true\r\nFlorin-Lasting: true\r\n";
    let marked = Origin { flags: REPLY_FORWARDED | REPLY_QUARANTINED | REPLY_LASTING, ..ORIGIN };
    for (reply, origin, expected) in [
        (HttpReply::KeepAlive, ORIGIN, format!("{head}Connection: keep-alive\r\n\r\n{body}")),
        (HttpReply::Close, ORIGIN, format!("{head}Connection: close\r\n\r\n{body}")),
        (HttpReply::HeadKeepAlive, ORIGIN, format!("{head}Connection: keep-alive\r\n\r\n")),
        (HttpReply::HeadClose, marked, format!("{head}{marks}Connection: close\r\n\r\n")),
    ] {
        let reply = to(Opcode::GetBalance, Format::Http(reply));
        let view = BalanceView::new(&bytes).unwrap();
        let response = written(|encoder, out| encoder.balance(out, reply, origin, view));
        assert_eq!(String::from_utf8(response).unwrap(), expected);
    }
}

/// A caller over HTTP cannot say Hello, and so never learned which port would save it a hop.
#[test]
fn a_forwarded_response_names_the_port_that_needs_no_hop() {
    let bytes = example();
    let forwarded = Origin { flags: REPLY_FORWARDED, ..ORIGIN };
    let told = |port, origin, opcode| {
        let to = to(opcode, Format::Http(HttpReply::KeepAlive));
        let response = written(|encoder, out| {
            encoder.set_port(port);
            match opcode {
                Opcode::GetBalance => encoder.balance(out, to, origin, BalanceView::new(&bytes).unwrap()),
                Opcode::GetBalances => encoder.balances(out, to, origin, &[]),
                _ => encoder.error(out, to, origin, Status::NotFound, "no"),
            }
        });
        String::from_utf8(response)
            .unwrap()
            .contains("\r\nFlorin-Forwarded: true\r\nFlorin-Shard-Port: 7403\r\n")
    };
    assert!(told(Some(7_403), forwarded, Opcode::GetBalance));
    assert!(told(Some(7_403), forwarded, Opcode::GetStatistics), "also with a status that is not OK");
    assert!(!told(Some(7_403), ORIGIN, Opcode::GetBalance), "there was no hop");
    assert!(!told(None, forwarded, Opcode::GetBalance), "there is no such port");
    assert!(!told(Some(7_403), forwarded, Opcode::GetBalances), "a batch has many owners");
}

#[test]
fn json_keys_come_in_wire_mds_order() {
    let totals = WindowTotals {
        credit_count: 1.into(),
        credit_sum: 500.into(),
        debit_count: 2.into(),
        debit_sum: 300.into(),
        largest_debit: 200.into(),
    };
    let answer = StatisticsAnswer {
        user_id: UserId::new(42).unwrap(),
        version: Version(7),
        windows: WindowMask::new(0b1001).unwrap(),
        first_transaction_at_us: 0,
        last_transaction_at_us: 1,
        assets: &[AssetTotals { asset: asset("COIN"), windows: [totals; 4] }],
    };
    let reply = |opcode| to(opcode, Format::Http(HttpReply::KeepAlive));
    let response =
        written(|encoder, out| encoder.statistics(out, reply(Opcode::GetStatistics), ORIGIN, &answer));
    let window = r#"{"credit_count":"1","credit_sum":"500","debit_count":"2","debit_sum":"300","largest_debit":"200"}"#;
    let expected = format!(
        r#"{{"user_id":"42","version":"7","statistics":[{{"asset":"COIN","windows":{{"24h":{window},"lifetime":{window}}},"first_transaction_at":"1970-01-01T00:00:00.000000Z","last_transaction_at":"1970-01-01T00:00:00.000001Z"}}]}}"#
    );
    assert_eq!(core::str::from_utf8(split(&response).1).unwrap(), expected);

    let bytes = example();
    let entry = |id, status, quarantined, balance| BatchEntry {
        user_id: UserId::new(id).unwrap(),
        status,
        quarantined,
        balance,
    };
    let whole =
        [entry(42, Status::Ok, false, BalanceView::new(&bytes)), entry(9, Status::NotFound, false, None)];
    let response = written(|encoder, out| encoder.balances(out, reply(Opcode::GetBalances), ORIGIN, &whole));
    let expected = r#"{"balances":[{"user_id":"42","status":"OK","balance":{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}},{"user_id":"9","status":"NOT_FOUND"}]}"#;
    let (head, body) = split(&response);
    assert_eq!(core::str::from_utf8(body).unwrap(), expected);
    assert!(!head.contains("Florin-Version"), "a batch has no version of its own");

    let incomplete =
        [entry(42, Status::Ok, true, BalanceView::new(&bytes)), entry(9, Status::Unavailable, true, None)];
    let response =
        written(|encoder, out| encoder.balances(out, reply(Opcode::GetBalances), ORIGIN, &incomplete));
    let expected = r#"{"balances":[{"user_id":"42","status":"OK","quarantined":true,"balance":{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}},{"user_id":"9","status":"UNAVAILABLE","quarantined":true}]}"#;
    assert_eq!(core::str::from_utf8(split(&response).1).unwrap(), expected);
}

#[test]
fn each_status_has_its_error_in_both_protocols() {
    for (&status, code) in Status::ALL.iter().zip([200, 404, 400, 412, 503, 429, 401, 403, 500]).skip(1) {
        let frame = written(|encoder, out| {
            encoder.error(out, to(Opcode::GetStatistics, Format::Rkyv), ORIGIN, status, "why");
        });
        let (header, body) = opened(&frame);
        assert_eq!((header.opcode, header.encoding, header.status), (2, 0, status as u8));
        assert_eq!(body, b"why");

        let reply = to(Opcode::GetStatistics, Format::Http(HttpReply::KeepAlive));
        let response = written(|encoder, out| encoder.error(out, reply, ORIGIN, status, "why"));
        let (head, body) = split(&response);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{head}");
        assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"), "{head}");
        assert_eq!(head.contains("\r\nRetry-After: 1\r\n"), [429, 503].contains(&code), "{head}");
        let title = response::reason(code);
        let expected =
            format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"why"}}"#);
        assert_eq!(core::str::from_utf8(body).unwrap(), expected);
    }
}

#[test]
fn a_rejection_echoes_what_came() {
    let rejection = Rejection {
        reply_to: to(Opcode::Ping, Format::FlatBuffers),
        opcode: 77,
        status: Status::InvalidRequest,
        http_status: None,
        message: "opcode: expected 0 to 4, got 77".into(),
        allow: None,
        consumed: None,
    };
    let frame = written(|encoder, out| encoder.rejection(out, ORIGIN, &rejection));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (77, 0, 2));
    assert_eq!(body, rejection.message.as_bytes());

    let rejection = Rejection {
        reply_to: to(Opcode::GetBalances, Format::Http(HttpReply::Close)),
        http_status: Some(405),
        allow: Some("POST"),
        ..rejection
    };
    let response = written(|encoder, out| encoder.rejection(out, ORIGIN, &rejection));
    let (head, _) = split(&response);
    assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{head}");
    assert!(head.contains("\r\nAllow: POST\r\n") && head.contains("\r\nConnection: close\r\n"), "{head}");
}

#[test]
fn every_refusal_of_http_has_a_phrase() {
    for code in [400, 404, 405, 411, 413, 414, 415, 417, 431, 501, 505] {
        assert!(!response::reason(code).is_empty());
    }
}

#[test]
fn hello_tells_the_map_and_ping_echoes() {
    let identity = NodeIdentity { node: NodeId(7), ledger: LedgerId(8) };
    let answer =
        HelloAnswer { server: "florin/0.1.0", shards: 2, ports: &[7401, 7402], identity, connection: 0 };
    let frame = written(|encoder, out| encoder.hello(out, to(Opcode::Hello, Format::Rkyv), ORIGIN, &answer));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (0, 2, 0));
    let read = flatbuffers::root::<fb::HelloReply<'_>>(body).unwrap();
    assert_eq!((read.server(), read.shards()), (Some("florin/0.1.0"), 2));
    assert_eq!(read.ports().unwrap().iter().collect::<Vec<_>>(), [7401, 7402]);
    assert_eq!((read.mix(), read.rkyv_schema()), (Some("splitmix64"), SCHEMA_FINGERPRINT));
    assert_eq!((read.node_id(), read.ledger_id()), (7, 8));

    let frame = written(|encoder, out| encoder.ping(out, to(Opcode::Ping, Format::Rkyv), ORIGIN, b"echo"));
    let (header, body) = opened(&frame);
    assert_eq!((header.opcode, header.encoding, header.status), (4, 0, 0));
    assert_eq!(body, b"echo");
}

#[test]
fn one_encoder_answers_again_and_again_the_same() {
    let bytes = example();
    let view = BalanceView::new(&bytes).unwrap();
    let entry = BatchEntry {
        user_id: UserId::new(42).unwrap(),
        status: Status::Ok,
        quarantined: false,
        balance: Some(view),
    };
    let totals = AssetTotals { asset: asset("USD"), windows: [WindowTotals::default(); 4] };
    let answer = StatisticsAnswer {
        user_id: UserId::new(1).unwrap(),
        version: Version(1),
        windows: WindowMask::ALL,
        first_transaction_at_us: 1,
        last_transaction_at_us: 2,
        assets: &[totals],
    };
    let mut encoder = Encoder::new();
    let mut round = || {
        let mut out = Vec::new();
        for format in [Format::Rkyv, Format::FlatBuffers, Format::Http(HttpReply::KeepAlive)] {
            encoder.balance(&mut out, to(Opcode::GetBalance, format), ORIGIN, view);
            encoder.statistics(&mut out, to(Opcode::GetStatistics, format), ORIGIN, &answer);
            encoder.balances(&mut out, to(Opcode::GetBalances, format), ORIGIN, &[entry; 3]);
            encoder.error(&mut out, to(Opcode::GetBalance, format), ORIGIN, Status::Stale, "stale");
        }
        out
    };
    let first = round();
    assert_eq!(round(), first);
}
