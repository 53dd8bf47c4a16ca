//! `florin ledger`: makes a ledger, looks whether a node can follow it, and tells how far a node has come.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use florin_record::{Finding, LedgerError, Weight};
use serde_json::json;

use super::output::say;
use super::settings::{Settings, SettingsError};
#[cfg(any(feature = "postgres", feature = "kafka"))]
use crate::numbers::grouped;
use crate::sources::{Ledger, LedgerAddress, bulk_writer, with_password};

/// What `florin ledger --help` ends with.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
   0  done; everything that a node needs is there
   1  something is wrong: it is named, with what to do
   2  flags or configuration
  15 to 21  the ledger cannot be opened, as of florin serve";

/// What can be done with a ledger.
#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Make what is missing of a ledger: a file, a PostgreSQL table with its triggers, publication and roles, or a Kafka topic; again
    /// changes nothing
    Init(InitArgs),
    /// Say what a node would miss, and what to do about it; changes nothing
    Check(LookArgs),
    /// Say how far a node has come in a PostgreSQL, how far it is behind, and what its slot costs the server; of others how much there is
    Status(LookArgs),
}

/// Flags of `florin ledger init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    which: Which,
    /// A PostgreSQL role for nodes, made where there is none: it may read and replicate, and no more
    #[arg(long, value_name = "ROLE")]
    reader: Option<String>,
    /// A PostgreSQL role for those who add rows, made where there is none
    #[arg(long, value_name = "ROLE")]
    writer: Option<String>,
    /// A Kafka topic's partitions, where it is made: for ever, since keys belong elsewhere once there are more [default: 24]
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,
    /// On how many brokers each of its records is, where it is made [default: as the brokers have it]
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
}

/// Flags of `florin ledger check` and `florin ledger status`.
#[derive(Args, Debug)]
pub struct LookArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Which {
    /// The ledger; with --config that of the file, if this is left out
    #[arg(value_name = "sqlite:PATH|postgres://…|kafka://…")]
    ledger: Option<LedgerAddress>,
    /// A configuration of florin serve, for its [ledger.columns] and [ledger.kinds]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a ledger is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum LedgerCommandError {
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What was found is named.
    #[error("{0} of what a node needs is wrong or missing: see above")]
    Wrong(usize),
    /// Only PostgreSQL's servers have roles.
    #[error(
        "--reader and --writer are for a PostgreSQL: who may read a file says its mode, and a topic the brokers' ACLs"
    )]
    Roles,
    /// Only Kafka's topics have partitions.
    #[error("--partitions and --replicas are for a Kafka topic")]
    Partitions,
}

impl LedgerCommandError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            LedgerCommandError::Settings(_) | LedgerCommandError::Roles | LedgerCommandError::Partitions => 2,
            LedgerCommandError::Ledger(error) => error.exit_code,
            LedgerCommandError::Wrong(_) => 1,
        }
    }
}

impl Which {
    fn address(&self) -> Result<LedgerAddress, SettingsError> {
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Settings { ledger: self.ledger.clone().or(file.ledger.clone()), ..file }.ledger_address()
    }
}

impl InitArgs {
    /// Whether its flags are for such a ledger.
    fn check(&self, address: &LedgerAddress) -> Result<(), LedgerCommandError> {
        let (is_postgres, is_kafka) = match address {
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(_) => (true, false),
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(_) => (false, true),
            LedgerAddress::Sqlite(_) | LedgerAddress::WithPassword => (false, false),
        };
        if !is_postgres && (self.reader.is_some() || self.writer.is_some()) {
            return Err(LedgerCommandError::Roles);
        }
        if !is_kafka && (self.partitions.is_some() || self.replicas.is_some()) {
            return Err(LedgerCommandError::Partitions);
        }
        Ok(())
    }
}

/// Runs `florin ledger`.
pub(super) fn run(command: LedgerCommand) -> Result<(), LedgerCommandError> {
    match command {
        LedgerCommand::Init(args) => init(&args),
        LedgerCommand::Check(args) => check(&args),
        LedgerCommand::Status(args) => status(&args),
    }
}

fn init(args: &InitArgs) -> Result<(), LedgerCommandError> {
    let address = args.which.address()?;
    args.check(&address)?;
    match &address {
        #[cfg(feature = "postgres")]
        LedgerAddress::Postgres(config) => {
            let roles =
                florin_postgres::schema::Roles { reader: args.reader.clone(), writer: args.writer.clone() };
            for done in florin_postgres::admin::init(&florin_postgres::Target::of(config), &roles)? {
                say(&done);
            }
            Ok(())
        }
        #[cfg(feature = "kafka")]
        LedgerAddress::Kafka(topic) => {
            let making = florin_kafka::admin::Making { partitions: args.partitions, replicas: args.replicas };
            let is_made = florin_kafka::admin::init(topic, making)?;
            say(&format!("{} {address}", if is_made { "made" } else { "there already:" }));
            Ok(())
        }
        LedgerAddress::WithPassword => Err(with_password().into()),
        LedgerAddress::Sqlite(path) => {
            let was_there = path.exists();
            let mut writer = bulk_writer(&address)?;
            if !was_there {
                // One that was made and got nothing is removed again, unless something was committed.
                writer.begin()?.commit()?;
            }
            writer.close();
            say(&format!("{} {address}", if was_there { "there already:" } else { "made" }));
            Ok(())
        }
    }
}

fn check(args: &LookArgs) -> Result<(), LedgerCommandError> {
    let address = args.which.address()?;
    let findings = match &address {
        #[cfg(feature = "postgres")]
        LedgerAddress::Postgres(config) => {
            florin_postgres::admin::check(&florin_postgres::Target::of(config))?
        }
        #[cfg(feature = "kafka")]
        LedgerAddress::Kafka(topic) => florin_kafka::check::check(topic)?,
        LedgerAddress::WithPassword => return Err(with_password().into()),
        LedgerAddress::Sqlite(_) => {
            Ledger::open(&address)?;
            let sentence = format!("{address} is a ledger that can be followed");
            vec![Finding { weight: Weight::Right, sentence }]
        }
    };
    let word = |weight| match weight {
        Weight::Right => "right",
        Weight::Notable => "note",
        Weight::Wrong => "WRONG",
    };
    if args.json {
        let found: Vec<_> = findings
            .iter()
            .map(|Finding { weight, sentence }| json!({ "weight": word(*weight), "sentence": sentence }))
            .collect();
        say(&json!({ "ledger": address.to_string(), "findings": found }).to_string());
    } else {
        let line = |Finding { weight, sentence }: &Finding| say(&format!("{:<5}  {sentence}", word(*weight)));
        findings.iter().for_each(line);
    }
    match findings.iter().filter(|finding| finding.weight == Weight::Wrong).count() {
        0 => Ok(()),
        wrong => Err(LedgerCommandError::Wrong(wrong)),
    }
}

fn status(args: &LookArgs) -> Result<(), LedgerCommandError> {
    let address = args.which.address()?;
    match &address {
        #[cfg(feature = "postgres")]
        LedgerAddress::Postgres(config) => {
            let standing = florin_postgres::admin::standing(&florin_postgres::Target::of(config))?;
            show(&standing, args.json);
        }
        #[cfg(feature = "kafka")]
        LedgerAddress::Kafka(topic) => {
            show_topic(&address, &florin_kafka::admin::standing(topic)?, args.json)
        }
        LedgerAddress::WithPassword => return Err(with_password().into()),
        LedgerAddress::Sqlite(path) => {
            Ledger::open(&address)?;
            let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
            if args.json {
                say(&json!({ "ledger": address.to_string(), "bytes": bytes.to_string() }).to_string());
            } else {
                say(&format!("{address}: {bytes} bytes"));
            }
        }
    }
    Ok(())
}

/// How far a node has come says the node: it keeps its place with its own state, and tells `florin_kafka_lag_records`.
#[cfg(feature = "kafka")]
fn show_topic(address: &LedgerAddress, standing: &florin_kafka::admin::Standing, as_json: bool) {
    let offsets = |(first, last): &(u64, u64)| last.saturating_sub(*first);
    if as_json {
        let partition =
            |(first, last): &(u64, u64)| json!({ "first": first.to_string(), "end": last.to_string() });
        let partitions: Vec<_> = standing.partitions.iter().map(partition).collect();
        let told = json!({ "ledger": address.to_string(), "cluster": standing.identity.cluster, "partitions": partitions });
        return say(&told.to_string());
    }
    let all: u64 = standing.partitions.iter().map(offsets).sum();
    say(&format!("{address}: {}, {} offsets", standing.identity, grouped(all)));
    for (partition, edges) in standing.partitions.iter().enumerate() {
        say(&format!("partition {partition}: from {} to {}", grouped(edges.0), grouped(edges.1)));
    }
}

/// 64-bit integers are strings, as everywhere in florin's JSON.
#[cfg(feature = "postgres")]
fn show(standing: &florin_postgres::standing::Standing, as_json: bool) {
    let at = standing.at.as_ref();
    if as_json {
        let slot = at.map(|at| {
            json!({
                "active": at.is_active,
                "confirmed": at.confirmed,
                "lag_bytes": at.lag_bytes.to_string(),
                "lag_ms": at.lag_ms.map(|ms| ms.to_string()),
                "retained_bytes": at.retained_bytes.to_string(),
                "wal_status": at.wal_status,
                "safe_bytes": at.safe_bytes.map(|bytes| bytes.to_string()),
            })
        });
        let told = json!({
            "ledger": standing.ledger, "rows_about": standing.rows_about.to_string(), "end": standing.end, "slot": standing.slot,
            "status": slot,
        });
        return say(&told.to_string());
    }
    say(&format!("{}, about {} rows", standing.ledger, grouped(standing.rows_about.unsigned_abs())));
    let Some(at) = at else {
        return say(&format!("no node has a slot {} yet; the log ends at {}", standing.slot, standing.end));
    };
    say(&format!(
        "slot {}: {}, {} of the log up to {}",
        standing.slot,
        if at.is_active { "in use" } else { "nobody uses it" },
        if at.confirmed.is_empty() {
            "has lost its place".to_owned()
        } else {
            format!("has {}", at.confirmed)
        },
        standing.end
    ));
    let ms = at.lag_ms.map_or_else(String::new, |ms| format!(", {} ms", grouped(ms)));
    say(&format!("behind: {} bytes{ms}", grouped(at.lag_bytes)));
    let safe = at.safe_bytes.map_or_else(
        || "without a limit: set max_slot_wal_keep_size, or a node that is gone fills the disk".to_owned(),
        |bytes| format!("lost after {} bytes more", grouped(bytes)),
    );
    say(&format!("kept for it: {} bytes ({}), {safe}", grouped(at.retained_bytes), at.wal_status));
}
