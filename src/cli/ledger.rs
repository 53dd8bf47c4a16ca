//! `florin import` and `florin generate`: what fills a ledger.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use jiff::Timestamp;

use super::CliError;
use super::output::{grouped, say};
use super::settings::{Instant as Moment, Ledger};
use crate::store::{self, Bar, GenerateOptions, ImportOptions, Source};

/// Flags of `florin import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// CSV, packed with gzip or not, or - for standard input. The header is
    /// transaction_id,user_id,asset,kind,amount,occurred_at
    #[arg(value_name = "FILE.csv[.gz]|-")]
    file: PathBuf,
    /// The ledger; made where there is none
    #[arg(long, value_name = "sqlite:PATH", default_value_t)]
    ledger: Ledger,
    /// Write bad rows to this new file and go on; without it, the first bad row ends the import and nothing is imported
    #[arg(long, value_name = "FILE")]
    skip_bad: Option<PathBuf>,
}

/// Flags of `florin generate`.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    /// The ledger; made where there is none, refused where it has rows
    #[arg(long, value_name = "sqlite:PATH", default_value_t)]
    ledger: Ledger,
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

/// Runs `florin import`.
pub(super) fn import(args: ImportArgs) -> Result<(), CliError> {
    let source = if args.file.as_os_str() == "-" { Source::Stdin } else { Source::File(args.file) };
    let options = ImportOptions { source, ledger: args.ledger.0, skip_bad: args.skip_bad };
    let started = Instant::now();
    let report = store::import(&options, &mut Bar::new())?;
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "imported {} transactions into {} in {seconds:.1} s ({} rows/s)",
        grouped(report.imported),
        options.ledger.display(),
        grouped((report.rows as f64 / seconds.max(1e-6)) as u64),
    ));
    if report.duplicates > 0 {
        say(&format!("{} were in the ledger already", grouped(report.duplicates)));
    }
    if let Some(path) = options.skip_bad.filter(|_| report.bad > 0) {
        say(&format!("{} bad rows are in {}", grouped(report.bad), path.display()));
    }
    Ok(())
}

/// Runs `florin generate`.
pub(super) fn generate(args: GenerateArgs) -> Result<(), CliError> {
    let until_us = args.until.map_or_else(|| Timestamp::now().as_microsecond(), |Moment(us)| us);
    let options = GenerateOptions {
        ledger: args.ledger.0,
        users: args.users,
        transactions: args.transactions,
        seed: args.seed,
        until_us,
    };
    let started = Instant::now();
    store::generate(&options, &mut Bar::new())?;
    say(&format!(
        "generated {} transactions of {} users into {} in {:.1} s",
        grouped(options.transactions),
        grouped(u64::from(options.users)),
        options.ledger.display(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}
