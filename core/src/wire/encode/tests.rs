mod examples;

use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};
use florin_schema::generated as fb;
use florin_schema::layout::WindowTotals;
use florin_schema::{Asset, LedgerId, NodeId, NodeIdentity, Opcode, UserId, WindowMask, records};
use proptest::prelude::*;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use zerocopy::FromBytes;

use super::*;
use crate::wire::{AssetTotals, Way};

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
    // Of every length: short ones are written in another way than long ones.
    let number = || (any::<i64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift);
    let unsigned = || number().prop_map(|number| number as u64);
    let head = (unsigned().prop_map(|id| id >> 1), unsigned(), times());
    let sums = prop::array::uniform16(prop::array::uniform2(number()));
    (head, assets(), sums).prop_map(|((user_id, version, updated_at_us), assets, sums)| {
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
        let reply = |opcode| to(opcode, Format::Http(HttpReply::KEEP_ALIVE));
        let body = |response: Vec<u8>| -> serde_json::Value {
            let (head, body) = split(&response);
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
            serde_json::from_slice(body).unwrap()
        };
        let view = BalanceView::new(&bytes).unwrap();
        let response = written(|encoder, out| encoder.balance(out, reply(Opcode::GetBalance), ORIGIN, view));
        let json = split(&response).1;
        let value = [format!("${}\r\n", json.len()).as_bytes(), json, b"\r\n"].concat();
        prop_assert_eq!(written(|encoder, out| encoder.whole_value(out, view)), value);
        prop_assert_eq!(body(response), balance_value(&balance));
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
        let reply = to(Opcode::Ping, Format::Http(HttpReply::CLOSE));
        let response = written(|encoder, out| encoder.error(out, reply, ORIGIN, Status::Internal, &detail));
        let body: serde_json::Value = serde_json::from_slice(split(&response).1).unwrap();
        prop_assert_eq!(&body["detail"], &detail);
    }
}

/// JSON is written into room of a fixed length (`json.rs`), which has to do for the longest numbers, times and codes that there are.
#[test]
fn the_longest_of_all_has_room() {
    let (user_id, version, moment) = (i64::MAX as u64, u64::MAX, 253_402_300_799_999_999);
    let row =
        |code| records::AssetBalance { asset: asset(code).to_wire(), available: i64::MIN, held: i64::MIN };
    let rows = [row("ABCDEFGH"), row("ABCDEFGI")];
    let totals = WindowTotals {
        credit_count: u64::MAX.into(),
        credit_sum: i64::MIN.into(),
        debit_count: u64::MAX.into(),
        debit_sum: i64::MIN.into(),
        largest_debit: i64::MIN.into(),
    };
    let answer = StatisticsAnswer {
        user_id: UserId::new(user_id).unwrap(),
        version: Version(version),
        windows: WindowMask::new(15).unwrap(),
        first_transaction_at_us: moment,
        last_transaction_at_us: moment,
        assets: &[AssetTotals { asset: asset("ABCDEFGH"), windows: [totals; 4] }],
    };
    let reply = |opcode| to(opcode, Format::Http(HttpReply::KEEP_ALIVE));
    // The shortest has a length of two digits in its bulk string.
    let shortest = ((1, 1, 0), 0);
    let longest = (0..=rows.len()).map(|assets| ((user_id, version, moment), assets));
    for ((user_id, version, moment), assets) in longest.chain([shortest]) {
        let balances = rows[..assets].to_vec();
        let balance = records::Balance { user_id, version, updated_at_us: moment, balances };
        let bytes = archived(&balance);
        let view = BalanceView::new(&bytes).unwrap();
        let response = written(|encoder, out| encoder.balance(out, reply(Opcode::GetBalance), ORIGIN, view));
        let (_, body) = split(&response);
        let got: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(got, balance_value(&balance));
        let bulk = RespReply { version: RespVersion::Two, shape: RespShape::Value };
        let get = to(Opcode::GetBalance, Format::Resp(bulk));
        let value = [format!("${}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
        assert_eq!(written(|encoder, out| encoder.balance(out, get, ORIGIN, view)), value);
        assert_eq!(written(|encoder, out| encoder.whole_value(out, view)), value);
    }
    let response = written(|encoder, out| {
        encoder.statistics(out, reply(Opcode::GetStatistics), ORIGIN, &answer);
    });
    let got: serde_json::Value = serde_json::from_slice(split(&response).1).unwrap();
    assert_eq!(got["statistics"][0]["windows"].as_object().unwrap().len(), 4);
    assert_eq!(got["statistics"][0]["windows"]["24h"]["largest_debit"], i64::MIN.to_string());
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
