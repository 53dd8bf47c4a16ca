//! `florin publish`: a ledger's transactions into a Kafka topic, which other nodes then follow.

use std::time::Instant;

use clap::Args;
use florin_kafka::Publisher;
use florin_record::{Export, LedgerError};

use super::output::say;
use super::progress::{Bar, Progress, Silent, Unit};
use crate::limits::{PROGRESS_ROWS, PUBLISH_LOOK};
use crate::numbers::{counted, grouped};
use crate::sources::{LedgerAddress, exporter, with_password};

/// Flags of `florin publish`.
#[derive(Args, Debug)]
pub struct PublishArgs {
    /// The topic, which florin ledger init makes
    #[arg(value_name = "kafka://…")]
    topic: LedgerAddress,
    /// The ledger whose transactions it is to have: those that are missing are appended, each account's in the order of their versions
    #[arg(long, value_name = "sqlite:PATH|postgres://…")]
    from: LedgerAddress,
    /// Go on with what is committed later, until a signal ends it; of an SQLite file only
    #[arg(long)]
    follow: bool,
}

/// Why a ledger is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another kind.
    #[error("expected a Kafka topic to publish into, kafka://HOST:PORT/TOPIC, found {0}")]
    NoTopic(String),
    /// A ledger that has no order of commits to go on in.
    #[error(
        "--follow goes on with an SQLite file; what is committed to a PostgreSQL Debezium publishes, or this command again"
    )]
    CannotFollow,
    /// One of the two.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl PublishError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            PublishError::NoTopic(_) | PublishError::CannotFollow => 2,
            PublishError::Ledger(error) => error.exit_code,
        }
    }
}

/// Runs `florin publish`. What broke off goes on with the next call: the topic itself says what it has.
pub(super) fn run(args: &PublishArgs) -> Result<(), PublishError> {
    let topic = match &args.topic {
        LedgerAddress::Kafka(topic) => topic,
        LedgerAddress::WithPassword => return Err(with_password().into()),
        other => return Err(PublishError::NoTopic(other.to_string())),
    };
    let mut ledger = exporter(&args.from)?;
    if args.follow && !ledger.goes_on() {
        return Err(PublishError::CannotFollow);
    }
    let started = Instant::now();
    let mut bar = Bar::new();
    bar.begin(Unit::Rows, None);
    let mut publisher = Publisher::begin(topic, &mut |read| bar.reach(read))?;
    let (published, seen) = pass(&mut *ledger, &mut publisher, &mut bar)?;
    bar.end();
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "published {} into {} in {seconds:.1} s ({} rows/s); {} there already",
        counted(published, "transaction"),
        args.topic,
        grouped((seen as f64 / seconds.max(1e-6)) as u64),
        grouped(seen - published),
    ));
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(PUBLISH_LOOK);
        pass(&mut *ledger, &mut publisher, &mut Silent)?;
    }
}

/// Publishes what there is: how many rows, of how many.
fn pass(
    ledger: &mut dyn Export,
    publisher: &mut Publisher,
    progress: &mut dyn Progress,
) -> Result<(u64, u64), LedgerError> {
    let (mut rows, mut published, mut seen) = (Vec::new(), 0, 0);
    loop {
        rows.clear();
        ledger.next(&mut rows)?;
        for row in &rows {
            published += u64::from(publisher.offer(row)?);
            seen += 1;
            if seen % PROGRESS_ROWS == 0 {
                progress.reach(seen);
            }
        }
        if rows.is_empty() {
            publisher.finish()?;
            return Ok((published, seen));
        }
    }
}
