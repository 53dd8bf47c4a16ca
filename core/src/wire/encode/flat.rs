//! FlatBuffers bodies.
//!
//! A balance is a constant prefix, in which four fields are patched, and one copy of its rows:
//!
//! | offset | bytes | holds |
//! | --- | --- | --- |
//! | 0 | 52 | offset to the table, vtable, and the table, with every field present |
//! | 52 | 4 | how many rows |
//! | 56 | 24 n | the rows: FlatBuffers structs lie as rkyv's do |

use alloc::vec::Vec;

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use florin_schema::frame::ReplyHeader;
use florin_schema::generated as fb;
use florin_schema::layout::{AssetRow, BalanceView, SCHEMA_FINGERPRINT, WindowTotals};
use zerocopy::IntoBytes;

use super::{HEADER_BYTES, HelloAnswer, append_ends};
use crate::wire::{AssetTotals, BatchEntry, StatisticsAnswer};

/// Bytes of a balance's body in front of its rows; a multiple of 8, so that the rows are aligned.
const PREFIX_BYTES: usize = 56;
/// Bytes of a balance's frame in front of its rows, and where the fields lie in it that differ.
const FRAME_BYTES: usize = HEADER_BYTES + PREFIX_BYTES;
const USER_ID_AT: usize = HEADER_BYTES + 24;
const VERSION_AT: usize = USER_ID_AT + 8;
const UPDATED_AT_US_AT: usize = VERSION_AT + 8;
const COUNT_AT: usize = FRAME_BYTES - 4;

const _: () = assert!(PREFIX_BYTES.is_multiple_of(8) && HEADER_BYTES.is_multiple_of(16));

/// Bytes of `balance`'s body.
#[inline]
pub(super) fn balance_bytes(balance: BalanceView<'_>) -> usize {
    PREFIX_BYTES + size_of_val(balance.rows)
}

/// Writes FlatBuffers bodies; keeps a balance's template and the builder.
pub(super) struct FlatWriter {
    template: [u8; FRAME_BYTES],
    builder: FlatBufferBuilder<'static>,
    /// The tables of a vector that is being built, as the builder counts them.
    tables: Vec<u32>,
}

impl FlatWriter {
    pub(super) fn new() -> FlatWriter {
        FlatWriter { template: balance_template(), builder: FlatBufferBuilder::new(), tables: Vec::new() }
    }

    /// Appends a whole frame: `header` and its body. The template itself is patched nowhere: a copy that reads what was written just before
    /// would have to wait for it.
    #[inline(always)]
    pub(super) fn balance(&self, out: &mut Vec<u8>, header: &ReplyHeader, balance: BalanceView<'_>) {
        const BEGIN: usize = BalanceView::bytes_of(1);
        const END: usize = size_of::<AssetRow>();
        let rows = balance.rows.as_bytes();
        let from = out.len();
        // Where there are few rows, the copy of their begin may take some of the root along.
        match (balance.bytes.first_chunk::<BEGIN>(), rows.last_chunk::<END>()) {
            (Some(begin), Some(end)) if rows.len() <= BEGIN + END => {
                append_ends(out, &self.template, begin, end, rows.len());
            }
            _ => {
                out.extend_from_slice(&self.template);
                out.extend_from_slice(rows);
            }
        }
        let frame: &mut [u8; FRAME_BYTES] = out[from..].first_chunk_mut().expect("the template's bytes");
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, header.as_bytes());
        put(USER_ID_AT, balance.root.user_id.as_bytes());
        put(VERSION_AT, balance.root.version.as_bytes());
        put(UPDATED_AT_US_AT, balance.root.updated_at_us.as_bytes());
        put(COUNT_AT, &(balance.rows.len() as u32).to_le_bytes());
    }

    pub(super) fn statistics(&mut self, answer: &StatisticsAnswer<'_>) -> &[u8] {
        let builder = &mut self.builder;
        builder.reset();
        self.tables.clear();
        for asset in answer.assets {
            let windows = windows(builder, answer, asset);
            let arguments = fb::AssetStatisticsArgs { asset: asset.asset.to_wire(), windows: Some(windows) };
            self.tables.push(fb::AssetStatistics::create(builder, &arguments).value());
        }
        let statistics = builder.create_vector_from_iter(self.tables.iter().map(|&at| WIPOffset::new(at)));
        let arguments = fb::StatisticsArgs {
            user_id: answer.user_id.get(),
            version: answer.version.0,
            windows: answer.windows.bits(),
            statistics: Some(statistics),
            first_transaction_at_us: answer.first_transaction_at_us,
            last_transaction_at_us: answer.last_transaction_at_us,
        };
        let root = fb::Statistics::create(builder, &arguments);
        builder.finish_minimal(root);
        builder.finished_data()
    }

    pub(super) fn balances(&mut self, entries: &[BatchEntry<'_>]) -> &[u8] {
        let builder = &mut self.builder;
        builder.reset();
        self.tables.clear();
        for entry in entries {
            let balance = entry.balance.map(|balance| {
                let arguments = arguments(builder, balance);
                fb::Balance::create(builder, &arguments)
            });
            let arguments = fb::BalanceEntryArgs {
                user_id: entry.user_id.get(),
                status: entry.status as u8,
                balance,
                quarantined: entry.quarantined,
            };
            self.tables.push(fb::BalanceEntry::create(builder, &arguments).value());
        }
        let entries = builder.create_vector_from_iter(self.tables.iter().map(|&at| WIPOffset::new(at)));
        let root = fb::Balances::create(builder, &fb::BalancesArgs { entries: Some(entries) });
        builder.finish_minimal(root);
        builder.finished_data()
    }

    pub(super) fn hello(&mut self, answer: &HelloAnswer<'_>) -> &[u8] {
        let builder = &mut self.builder;
        builder.reset();
        let server = builder.create_string(answer.server);
        let ports = builder.create_vector(answer.ports);
        let mix = builder.create_string("splitmix64");
        let nodes = answer.nodes.map(|nodes| nodes.write(builder));
        let arguments = fb::HelloReplyArgs {
            nodes,
            server: Some(server),
            shards: answer.shards,
            ports: Some(ports),
            mix: Some(mix),
            rkyv_schema: SCHEMA_FINGERPRINT,
            node_id: answer.identity.node.0,
            ledger_id: answer.identity.ledger.0,
        };
        let root = fb::HelloReply::create(builder, &arguments);
        builder.finish_minimal(root);
        builder.finished_data()
    }
}

fn arguments(builder: &mut FlatBufferBuilder<'static>, balance: BalanceView<'_>) -> fb::BalanceArgs<'static> {
    let row = |row: &AssetRow| fb::AssetBalance::new(row.asset.get(), row.available.get(), row.held.get());
    fb::BalanceArgs {
        user_id: balance.root.user_id.get(),
        version: balance.root.version.get(),
        updated_at_us: balance.root.updated_at_us.get(),
        balances: Some(builder.create_vector_from_iter(balance.rows.iter().map(row))),
    }
}

fn windows(
    builder: &mut FlatBufferBuilder<'static>,
    answer: &StatisticsAnswer<'_>,
    asset: &AssetTotals,
) -> WIPOffset<flatbuffers::Vector<'static, fb::WindowStatistics>> {
    let mut asked = [fb::WindowStatistics::default(); 4];
    for (slot, window) in asked.iter_mut().zip(answer.windows.iter()) {
        let WindowTotals { credit_count, credit_sum, debit_count, debit_sum, largest_debit } =
            asset.windows[window as usize];
        *slot = fb::WindowStatistics::new(
            credit_count.get(),
            credit_sum.get(),
            debit_count.get(),
            debit_sum.get(),
            largest_debit.get(),
        );
    }
    builder.create_vector(&asked[..answer.windows.count()])
}

/// A frame of a balance without its rows, as the builder lays it out where every field is present.
///
/// # Panics
/// Where another release of the builder lays it out in another way.
fn balance_template() -> [u8; FRAME_BYTES] {
    let mut builder = FlatBufferBuilder::new();
    builder.force_defaults(true);
    let rows = builder.create_vector::<fb::AssetBalance>(&[]);
    let root =
        fb::Balance::create(&mut builder, &fb::BalanceArgs { balances: Some(rows), ..Default::default() });
    builder.finish_minimal(root);
    let body = builder.finished_data();

    let table = flatbuffers::root::<fb::Balance<'_>>(body).expect("the builder writes what verifies")._tab;
    let at = |field| HEADER_BYTES + table.loc() + usize::from(table.vtable().get(field));
    let fields = [fb::Balance::VT_USER_ID, fb::Balance::VT_VERSION, fb::Balance::VT_UPDATED_AT_US].map(at);
    assert_eq!(fields, [USER_ID_AT, VERSION_AT, UPDATED_AT_US_AT], "where a balance's fields lie");
    let mut frame = [0; FRAME_BYTES];
    frame[HEADER_BYTES..].copy_from_slice(body);
    frame
}
