//! The records as FlatBuffers.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use florin_schema::generated as fbs;
use florin_schema::{NodeIdentity, NodeMap, records};

/// A finished `Balance`.
pub fn balance(record: &records::Balance) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let root = write_balance(&mut builder, record);
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

fn write_balance<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    record: &records::Balance,
) -> WIPOffset<fbs::Balance<'b>> {
    let row = |row: &records::AssetBalance| fbs::AssetBalance::new(row.asset, row.available, row.held);
    let rows: Vec<fbs::AssetBalance> = record.balances.iter().map(row).collect();
    let balances = Some(builder.create_vector(&rows));
    fbs::Balance::create(
        builder,
        &fbs::BalanceArgs {
            user_id: record.user_id,
            version: record.version,
            updated_at_us: record.updated_at_us,
            balances,
        },
    )
}

/// A finished `Statistics`.
pub fn statistics(record: &records::Statistics) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let assets: Vec<_> = record
        .statistics
        .iter()
        .map(|asset| {
            let windows: Vec<fbs::WindowStatistics> = asset.windows.iter().map(window).collect();
            let windows = Some(builder.create_vector(&windows));
            let args = fbs::AssetStatisticsArgs { asset: asset.asset, windows };
            fbs::AssetStatistics::create(&mut builder, &args)
        })
        .collect();
    let statistics = Some(builder.create_vector(&assets));
    let root = fbs::Statistics::create(
        &mut builder,
        &fbs::StatisticsArgs {
            user_id: record.user_id,
            version: record.version,
            windows: record.windows,
            statistics,
            first_transaction_at_us: record.first_transaction_at_us,
            last_transaction_at_us: record.last_transaction_at_us,
        },
    );
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

fn window(window: &records::WindowStatistics) -> fbs::WindowStatistics {
    fbs::WindowStatistics::new(
        window.credit_count,
        window.credit_sum,
        window.debit_count,
        window.debit_sum,
        window.largest_debit,
    )
}

/// A finished `Balances`.
pub fn balances(record: &records::Balances) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let entries: Vec<_> = record
        .entries
        .iter()
        .map(|entry| {
            let balance = entry.balance.as_ref().map(|balance| write_balance(&mut builder, balance));
            let args = fbs::BalanceEntryArgs {
                user_id: entry.user_id,
                status: entry.status,
                balance,
                quarantined: entry.quarantined,
            };
            fbs::BalanceEntry::create(&mut builder, &args)
        })
        .collect();
    let entries = Some(builder.create_vector(&entries));
    let root = fbs::Balances::create(&mut builder, &fbs::BalancesArgs { entries });
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

/// A finished `Hello`.
pub fn hello(client: &str, token: &str) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let client = Some(builder.create_string(client));
    let token = Some(builder.create_string(token));
    let root = fbs::Hello::create(&mut builder, &fbs::HelloArgs { client, token });
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

/// What a HelloReply says.
pub struct HelloReply<'a> {
    pub server: &'a str,
    pub shards: u16,
    pub ports: &'a [u16],
    pub mix: &'a str,
    pub rkyv_schema: u64,
    pub identity: NodeIdentity,
    pub map: Option<&'a NodeMap>,
}

/// A finished `HelloReply`.
pub fn hello_reply(reply: &HelloReply<'_>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let nodes = reply.map.map(|map| map.write(&mut builder));
    let args = fbs::HelloReplyArgs {
        server: Some(builder.create_string(reply.server)),
        shards: reply.shards,
        ports: Some(builder.create_vector(reply.ports)),
        mix: Some(builder.create_string(reply.mix)),
        rkyv_schema: reply.rkyv_schema,
        node_id: reply.identity.node.0,
        ledger_id: reply.identity.ledger.0,
        nodes,
    };
    let root = fbs::HelloReply::create(&mut builder, &args);
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}
