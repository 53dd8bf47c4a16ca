//! Servers, users and the generator: the flags of everything that measures, and what is made of them.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use florin_schema::layout::BalanceView;

use super::error::CliError;
use crate::limits::ASSETS_USUAL;
use crate::{
    affinity::Cpus,
    generator::{Settings, Span, Waiting},
    targets::{Bench, Kind, PgCopy, TargetError, TargetSpec, Tool, ledger},
    truth::Truth,
    work::{Arrivals, KeyShape, Mix, Population, Work},
};

/// Servers, users and the generator: what everything that measures takes.
#[derive(Args, Debug)]
pub(super) struct Setup {
    /// The florin binary to start [default: `florin` beside this one]
    #[arg(long, value_name = "PATH")]
    pub(super) server: Option<PathBuf>,
    /// CPUs of servers that the bench starts [default: any]
    #[arg(long, value_name = "LIST", default_value = "", value_parser = cpus, hide_default_value = true)]
    pub(super) server_cpus: Cpus,
    /// CPUs of the generator: one thread on each [default: one thread anywhere]
    #[arg(long, value_name = "LIST", default_value = "", value_parser = cpus, hide_default_value = true)]
    pub(super) cpus: Cpus,
    /// About whom: uniform, zipf:S, hot:USERS:SHARE, or in-order
    #[arg(long, value_name = "SHAPE", default_value = "uniform")]
    pub(super) keys: KeyShape,
    /// Ask only about the users in this file, one id a line
    #[arg(long, value_name = "FILE")]
    pub(super) ids: Option<PathBuf>,
    /// The same seed asks the same questions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Open loop: how arrivals are spaced, poisson or uniform
    #[arg(long, value_name = "KIND", default_value = "poisson")]
    pub(super) arrivals: Arrivals,
    /// Serve this ledger instead of a generated one
    #[arg(long, value_name = "sqlite:PATH", value_parser = ledger)]
    pub(super) ledger: Option<PathBuf>,
    /// Let servers follow a PostgreSQL that the bench starts and copies the ledger's rows into, instead of the file
    #[arg(long)]
    pub(super) postgres: bool,
    /// Users of the generated ledger
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..))]
    pub(super) users: u32,
    /// Transactions of the generated ledger [default: 10 for each user]
    #[arg(long, value_name = "N")]
    pub(super) transactions: Option<u64>,
    /// Where generated ledgers are kept [default: florin-bench in the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The generator spins instead of sleeping: sends on time to the microsecond, and takes its CPUs whole
    #[arg(long)]
    pub(super) spin: bool,
}

/// What commands differ in.
pub(super) struct Asked {
    pub(super) mix: Mix,
    pub(super) value_bytes: Option<usize>,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) keys_drawn: usize,
}

pub(super) fn set_up(
    setup: &Setup,
    specs: &[TargetSpec],
    asked: Asked,
) -> Result<(Bench, Settings), CliError> {
    let florin = florin(setup);
    let needs_ledger = specs.iter().any(|spec| spec.address.is_none() && spec.kind != Kind::Limit);
    let ledger = match &setup.ledger {
        Some(path) => Some(path.clone()),
        None if needs_ledger => Some(generated(setup, &florin)?),
        None => None,
    };
    let population = match (&setup.ids, &ledger) {
        (Some(ids), _) => Population::read(ids.clone()),
        (None, Some(ledger)) => Population::new(ledger::population(ledger).map_err(TargetError::Ledger)?),
        (None, None) => Population::first(setup.users),
    };
    let population = population.map_err(TargetError::Population)?;
    let value_bytes = match (asked.value_bytes, &ledger) {
        (Some(bytes), _) => bytes,
        (None, Some(ledger)) => ledger::balance_bytes(ledger, &population).map_err(TargetError::Ledger)?,
        (None, None) => BalanceView::bytes_of(ASSETS_USUAL),
    };
    let are_checked =
        specs.iter().any(|spec| spec.address.is_none() && matches!(spec.kind, Kind::Florin | Kind::Http));
    let truth = ledger.as_deref().filter(|_| are_checked).map(Truth::read);
    let settings = Settings {
        work: Work { mix: asked.mix, keys: setup.keys, seed: setup.seed },
        population: population.clone(),
        span: Span::Time { warmup: asked.warmup, measure: asked.duration },
        cpus: setup.cpus.0.clone(),
        waiting: if setup.spin { Waiting::Spinning } else { Waiting::Parked },
        keys_drawn: asked.keys_drawn,
        truth: truth.transpose().map_err(TargetError::Ledger)?.map(Arc::new),
    };
    let server_cpus = setup.server_cpus.0.clone();
    let postgres = match &ledger {
        Some(ledger) if setup.postgres => Some(Arc::new(PgCopy::of(ledger).map_err(TargetError::Postgres)?)),
        _ => None,
    };
    Ok((Bench { florin, server_cpus, ledger, postgres, population, value_bytes, tool: Tool::None }, settings))
}

fn generated(setup: &Setup, florin: &Path) -> Result<PathBuf, TargetError> {
    let generated = ledger::Generated {
        users: setup.users,
        transactions: setup.transactions.unwrap_or(10 * u64::from(setup.users)),
        seed: 7,
    };
    let directory = setup.data.clone().unwrap_or_else(|| env::temp_dir().join("florin-bench"));
    Ok(ledger::kept(florin, &directory, generated)?)
}

/// The server's binary: as told, or beside the bench's own.
pub(super) fn florin(setup: &Setup) -> PathBuf {
    let beside =
        || env::current_exe().ok().map(|own| own.with_file_name("florin")).filter(|path| path.exists());
    setup.server.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("florin"))
}

pub(super) fn cpus(text: &str) -> Result<Cpus, String> {
    if text.is_empty() { Ok(Cpus::default()) } else { text.parse().map_err(|error| format!("{error}")) }
}

fn ledger(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => Err("expected sqlite:PATH".to_owned()),
    }
}
