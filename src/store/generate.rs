//! `florin generate`: a platform's last 90 days into an empty ledger.

use std::path::PathBuf;

use super::{Platform, Progress, StoreError, Unit, Writer};

/// How far back the first transaction lies: three times the longest window.
const SPAN_US: i128 = 90 * 24 * 3_600 * 1_000_000;
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 1_024;

/// What to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenerateOptions {
    /// Into which ledger; made where there is none.
    pub ledger: PathBuf,
    /// How many users, from 1 on.
    pub users: u32,
    /// How many rows, a gift being two.
    pub transactions: u64,
    /// What everything follows from.
    pub seed: u64,
    /// When the last one happened, µs since 1970 UTC.
    pub until_us: i64,
}

/// Fills the ledger and answers the platform, so that its life can go on. The rows are evenly spread over the 90 days
/// before `until_us`, in order, and enter the ledger together.
///
/// # Errors
/// [`StoreError::NotEmpty`] where the ledger has rows; after any error it holds what it held before.
pub fn generate(options: &GenerateOptions, progress: &mut dyn Progress) -> Result<Platform, StoreError> {
    let mut writer = Writer::open_or_create(&options.ledger)?;
    writer.expect_many()?;
    if !writer.is_empty()? {
        return Err(StoreError::NotEmpty { path: writer.path().to_owned() });
    }
    let mut platform = Platform::new(options.users, options.seed);
    let mut batch = writer.begin()?;
    progress.begin(Unit::Rows, Some(options.transactions));
    let mut rows = 0;
    while rows < options.transactions {
        let at_us = occurred_at_us(options, rows + 1);
        let one_is_left = options.transactions - rows == 1;
        let event = if one_is_left { platform.next_recharge(at_us) } else { platform.next_event(at_us) };
        for row in event.rows() {
            let index = usize::try_from(rows).unwrap_or(usize::MAX);
            batch.append(&row)?.map_err(|rejection| StoreError::Rejected { index, rejection })?;
            rows += 1;
            if rows.is_multiple_of(PROGRESS_ROWS) {
                progress.reach(rows);
            }
        }
    }
    progress.end();
    batch.commit()?;
    writer.checkpoint();
    Ok(platform)
}

/// When the row with this number, from 1, happened: the last one at `until_us`.
fn occurred_at_us(options: &GenerateOptions, number: u64) -> i64 {
    let before_us = SPAN_US * i128::from(options.transactions - number) / i128::from(options.transactions);
    options.until_us - i64::try_from(before_us).expect("90 days of µs fit in 64 bits")
}
