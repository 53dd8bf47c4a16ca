//! What stands in files: checkpoints, recordings, CSV, and what operators write.

use florin::checkpoint;
use florin::ledger::{Horizon, Kind, Transaction};
use florin::shard::table::{Table, Walk};
use florin_schema::Asset;

/// A checkpoint's manifest is refused or is what it says; a block's accounts are refused or can be served and go on.
pub fn checkpoint(input: &[u8]) {
    if let Ok(manifest) = checkpoint::Manifest::decode(input) {
        assert_eq!(manifest.encode(), input, "what is read is what was written");
    }
    let Some((&bucket, block)) = input.split_first() else { return };
    let (mut table, mut totals) = (Table::new(), Vec::new());
    let horizon = Horizon::at(1_795_320_306_000_000);
    for record in checkpoint::Records::of(block, bucket) {
        let Ok(record) = record else { return };
        if table.restore(&record).is_err() {
            return;
        }
        let found = table.find(record.user().hashed()).expect("it was taken in");
        table.statistics(found, &horizon, &mut totals);
        let row = Transaction {
            user_id: record.user(),
            version: record.version().next(),
            asset: Asset::parse(b"USD").expect("a code"),
            kind: Kind::ALL[0],
            amount: i64::MAX,
            occurred_at_us: 1_795_320_306_000_000,
        };
        table.apply(&row, &horizon);
        let mut copied = Vec::new();
        table.walk(&mut Walk::new(), 1, &mut copied);
    }
}

/// A recording: its requests are read, up to what is wrong with it.
pub fn recording(input: &[u8]) {
    let path = std::path::Path::new("a recording");
    let Ok(entries) = florin_shadow::read_recording(path, std::io::Cursor::new(input.to_vec())) else {
        return;
    };
    let lines = 1 + input.split(|&byte| byte == b'\n').count();
    let read = entries.take(lines).count();
    assert!(read < lines, "more entries than lines");
}

/// A line of CSV: its fields are those that were meant, or it is kept as it came; and what a transaction's six fields say.
pub fn csv(input: &[u8]) {
    for line in input.split(|&byte| byte == b'\n') {
        let mut record = csv::ByteRecord::new();
        if florin::cli::import::csv_line::split(line, &mut record).is_err() {
            assert_eq!(record.iter().collect::<Vec<_>>().join(&b","[..]), line, "what is refused is kept");
            continue;
        }
        let field = |at: usize| record.get(at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let [Some(transaction_id), Some(user_id), Some(asset), Some(kind), Some(amount), Some(occurred_at)] =
            std::array::from_fn(field)
        else {
            continue;
        };
        let text =
            florin_record::TransactionText { transaction_id, user_id, asset, kind, amount, occurred_at };
        let _ = text.parse();
    }
}

/// What operators write: a configuration file, a file of principals, and addresses. Everything that is refused is refused with a
/// reason that says where; what is shown of an address is read as the same.
pub fn config(input: &[u8]) {
    use florin::sources::LedgerAddress;
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = 1 + text.matches('\n').count();
    match florin::cli::settings::Settings::parse(text) {
        Ok(settings) => {
            let _ = settings.ledger_address();
        }
        Err(defects) => {
            assert!(!defects.is_empty());
            let is_told = |line: usize, message: &str| (1..=lines).contains(&line) && !message.is_empty();
            assert!(defects.iter().all(|defect| is_told(defect.line, &defect.message)), "{defects:?}");
        }
    }
    match florin::callers::Principals::parse(text) {
        Ok(principals) => {
            for hash in principals.entries.iter().flat_map(|entry| &entry.tokens) {
                let again = hash.to_string().parse::<florin::callers::TokenHash>();
                assert_eq!(again.map(|again| again.to_string()), Ok(hash.to_string()));
            }
        }
        Err(defects) => assert!(!defects.to_string().is_empty()),
    }
    for line in text.lines() {
        if !matches!(line.parse(), Ok(LedgerAddress::WithPassword)) {
            shown_again::<LedgerAddress>(line);
        }
        let _ = line.parse::<florin_shadow::TargetAddress>();
        if let Ok(addresses) = line.parse::<florin_client::Addresses>() {
            assert!((1..=64).contains(&addresses.as_slice().len()));
        }
        shown_again::<florin_client::Address>(line);
    }
}

/// What is read of `text` and shown is read as the same.
fn shown_again<A>(text: &str)
where
    A: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display + PartialEq + std::fmt::Debug,
{
    match text.parse::<A>() {
        Ok(address) => {
            let shown = address.to_string();
            assert!(shown.parse::<A>().is_ok_and(|again| again == address), "{address:?}, shown as {shown}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
