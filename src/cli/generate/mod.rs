//! `florin generate`: the last 90 days of a platform that is made up, into an empty ledger. [`Platform`] makes it up.

mod platform;
#[cfg(test)]
mod tests;

use std::time::Instant;

use clap::Args;
use florin_record::{Added, BulkWriter, LedgerError, Rejection};
use jiff::Timestamp;

use super::output::say;
use super::progress::{Bar, Progress, Unit};
use super::settings::Instant as Moment;
use crate::limits::PROGRESS_ROWS;
use crate::numbers::counted;
use crate::sources::{LedgerAddress, bulk_writer};

pub use platform::{Event, Platform};

/// How far back the first transaction lies: three times the longest window.
const SPAN_US: i128 = 90 * 24 * 3_600 * 1_000_000;

/// Flags of `florin generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// The ledger; made where there is none, refused where it has rows
    #[arg(long, value_name = "sqlite:PATH", default_value_t)]
    ledger: LedgerAddress,
    /// How many users
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// How many transactions, a gift being two
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    transactions: u64,
    /// The same seed makes the same platform
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// When the last transaction happened, as an RFC 3339 time; the first was 90 days before [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

/// Why nothing was generated: the ledger is as it was.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// It has rows where an empty one was asked for.
    #[error(
        "the ledger {ledger} holds transactions already, and generated ones would contradict them: name one that does not \
         exist yet"
    )]
    NotEmpty {
        /// Which.
        ledger: LedgerAddress,
    },
    /// The ledger takes no row like this.
    #[error("the ledger does not take transaction {number}: {rejection}")]
    Rejected {
        /// Which, from 1.
        number: u64,
        /// Why.
        rejection: Rejection,
    },
    /// Somebody wants no more of it.
    #[error("it was ended, and nothing was made up")]
    Ended,
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Runs `florin generate`.
pub(super) fn run(args: GenerateArgs) -> Result<(), GenerateError> {
    let until_us = args.until.map_or_else(|| Timestamp::now().as_microsecond(), |Moment(us)| us);
    let GenerateArgs { ledger, users, transactions, seed, .. } = args;
    let options = GenerateOptions { ledger, users, transactions, seed, until_us };
    let started = Instant::now();
    generate(&options, &mut Bar::new())?;
    say(&format!(
        "generated {} of {} into {} in {:.1} s",
        counted(options.transactions, "transaction"),
        counted(u64::from(options.users), "user"),
        options.ledger,
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// What to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenerateOptions {
    /// Into which ledger; made where there is none.
    pub ledger: LedgerAddress,
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
/// [`GenerateError::NotEmpty`] where the ledger has rows; after any error it holds what it held before.
pub fn generate(options: &GenerateOptions, progress: &mut dyn Progress) -> Result<Platform, GenerateError> {
    let mut writer = bulk_writer(&options.ledger)?;
    let generated = generate_into(&mut *writer, options, progress);
    writer.close();
    generated
}

fn generate_into(
    writer: &mut dyn BulkWriter,
    options: &GenerateOptions,
    progress: &mut dyn Progress,
) -> Result<Platform, GenerateError> {
    if !writer.is_empty()? {
        return Err(GenerateError::NotEmpty { ledger: options.ledger.clone() });
    }
    let mut platform = Platform::new(options.users, options.seed);
    let mut bulk = writer.begin()?;
    progress.begin(Unit::Rows, Some(options.transactions));
    let mut rows = 0;
    while rows < options.transactions {
        let at_us = occurred_at_us(options, rows + 1);
        let one_is_left = options.transactions - rows == 1;
        let event = if one_is_left { platform.next_recharge(at_us) } else { platform.next_event(at_us) };
        for row in event.rows() {
            rows += 1;
            if let Added::Rejected(rejection) = bulk.add(rows, &row)? {
                return Err(GenerateError::Rejected { number: rows, rejection });
            }
            if rows.is_multiple_of(PROGRESS_ROWS) {
                progress.reach(rows);
                if progress.is_enough() {
                    progress.end();
                    return Err(GenerateError::Ended);
                }
            }
        }
    }
    progress.end();
    let mut rejected = None;
    bulk.judge(&mut |number, _, rejection| {
        rejected.get_or_insert(GenerateError::Rejected { number, rejection });
    })?;
    if let Some(error) = rejected {
        return Err(error);
    }
    bulk.commit()?;
    Ok(platform)
}

/// When the row with this number, from 1, happened: the last one at `until_us`.
fn occurred_at_us(options: &GenerateOptions, number: u64) -> i64 {
    let before_us = SPAN_US * i128::from(options.transactions - number) / i128::from(options.transactions);
    options.until_us - i64::try_from(before_us).expect("90 days of µs fit in 64 bits")
}
