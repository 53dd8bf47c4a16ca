//! The `florin` command: what it is told, what it starts, and what it says.

mod apply;
mod audit;
pub mod caller;
mod checkpoint;
mod config;
mod demo;
mod events;
pub mod generate;
mod get;
pub mod http;
pub mod import;
mod keys;
mod ledger;
mod lines;
mod log;
mod notify;
mod output;
mod principal;
pub mod progress;
#[cfg(feature = "kafka")]
mod publish;
mod reload;
mod screen;
mod serve;
mod service;
pub mod settings;
mod shadow;
mod size;
mod state;
mod support;
mod systemd;
mod tls;
mod top;
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use florin_record::LedgerError;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::callers::CallersError;
use crate::tls::TlsError;
pub use apply::ApplyError;
pub use audit::AuditError;
pub use checkpoint::CheckpointError;
pub use demo::DemoError;
use generate::GenerateError;
pub use get::GetError;
use import::ImportError;
pub use service::ServiceError;
use settings::SettingsError;
pub use shadow::ShadowCommandError;
pub use top::TopError;

/// Balance and transaction-statistics reads from memory, one pinned io_uring shard per CPU.
#[derive(Parser, Debug)]
#[command(name = "florin", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve a ledger until a signal ends it
    #[command(after_help = serve::EXIT_CODES)]
    Serve(Box<serve::ServeArgs>),
    /// Show what florin does: a made-up ledger, live transactions, readers, and a screen
    Demo(demo::DemoArgs),
    /// Show what a running node is doing
    Top(top::TopArgs),
    /// Import a CSV file into a ledger, wholly or not at all
    Import(import::ImportArgs),
    /// Make up a plausible platform in a new ledger
    Generate(generate::GenerateArgs),
    /// Ask a node
    #[command(subcommand)]
    Get(get::GetCommand),
    /// Append transactions to the ledger of a running node
    Apply(apply::ApplyArgs),
    /// Have a running node make a checkpoint; list, verify and inspect those in a folder
    Checkpoint(checkpoint::CheckpointArgs),
    /// Compare what a running node answers about every account of a ledger with the ledger's rows
    #[command(after_help = audit::EXIT_CODES)]
    Audit(audit::AuditArgs),
    /// Make a ledger, look whether a node can follow it, tell how far a node has come
    #[command(subcommand, after_help = ledger::EXIT_CODES)]
    Ledger(ledger::LedgerCommand),
    /// Put a ledger's transactions into a Kafka topic: those that it lacks, from where a publication before broke off
    #[cfg(feature = "kafka")]
    Publish(publish::PublishArgs),
    /// Make certificates for trying TLS out
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Look at this host, set it up for florin, and take that back
    #[command(subcommand)]
    Tune(florin_tune::TuneCommand),
    /// Compare a candidate with the service that it is to replace, on live traffic, and move callers over
    #[command(after_help = shadow::AFTER_HELP)]
    Shadow(Box<shadow::ShadowArgs>),
    /// Say who may ask what: make tokens, and look at a file of principals
    #[command(subcommand, after_help = principal::AFTER_HELP)]
    Principal(principal::PrincipalCommand),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what a node takes: memory, cores, disk, and how long a start takes
    Size(size::SizeArgs),
    /// Write down, in one folder and without secrets, what somebody who helps needs to know
    #[command(after_help = support::EXIT_CODES)]
    Support(support::SupportArgs),
}

/// The whole command: reads the command line, does what it says, and explains where that failed.
pub fn main() -> ExitCode {
    keep_memory_out_of_cores();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::complain(&error, error.exit_code());
            ExitCode::from(error.exit_code())
        }
    }
}

/// A node that panics aborts, and the core would hold every account, callers' tokens and keys, wherever this host keeps its cores. A
/// limit of 0 would not do: the kernel gives the core to a program all the same where one is named (core(5)). The threads' stacks and
/// the heap hold answers and secrets as the table does, so that leaving out the table's memory alone would not do either.
fn keep_memory_out_of_cores() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!(
            "florin: a core of this process would hold account data, and the system does not let it forbid one: {error}"
        );
    }
}

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => Ok(demo::run(&args)?),
        Command::Top(args) => Ok(top::run(&args)?),
        Command::Import(args) => Ok(import::run(args)?),
        Command::Generate(args) => Ok(generate::run(args)?),
        Command::Get(command) => Ok(get::run(&command)?),
        Command::Apply(args) => Ok(apply::run(&args)?),
        Command::Checkpoint(args) => Ok(checkpoint::run(&args)?),
        Command::Audit(args) => Ok(audit::run(&args)?),
        Command::Ledger(command) => Ok(ledger::run(command)?),
        #[cfg(feature = "kafka")]
        Command::Publish(args) => Ok(publish::run(&args)?),
        Command::Tls(command) => Ok(tls::run(&command)?),
        Command::Tune(command) => Ok(tune::run(&command)?),
        Command::Shadow(args) => Ok(shadow::run(*args)?),
        Command::Principal(command) => Ok(principal::run(&command)?),
        Command::Config(command) => config::run(&command),
        Command::Size(args) => {
            size::run(&args);
            Ok(())
        }
        Command::Support(args) => Ok(support::run(&args)?),
    }
}

/// Why a command did not do what it was told; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The flags or the configuration file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file of principals.
    #[error(transparent)]
    Callers(#[from] CallersError),
    /// The certificates.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// Files that the ledger's address names.
    #[error(transparent)]
    LedgerFiles(LedgerError),
    /// What the other nodes are asked by.
    #[error("--group, --group-tls-ca: the other nodes cannot be asked by TLS: {0}")]
    Peers(florin_client::TlsError),
    /// `florin import`.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// `florin generate`.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// `florin serve`.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// `florin demo`.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// `florin top`.
    #[error(transparent)]
    Top(#[from] TopError),
    /// `florin get`.
    #[error(transparent)]
    Get(#[from] GetError),
    /// `florin apply`.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// `florin checkpoint`.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// `florin audit`.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// `florin ledger`.
    #[error(transparent)]
    LedgerCommand(#[from] ledger::LedgerCommandError),
    /// `florin publish`.
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Publish(#[from] publish::PublishError),
    /// `florin tls`.
    #[error(transparent)]
    Tls(#[from] tls::TlsCommandError),
    /// `florin tune`.
    #[error(transparent)]
    Tune(#[from] florin_tune::TuneError),
    /// `florin principal`.
    #[error(transparent)]
    Principal(#[from] principal::PrincipalError),
    /// `florin shadow`.
    #[error(transparent)]
    Shadow(#[from] ShadowCommandError),
    /// `florin support`.
    #[error(transparent)]
    Support(#[from] support::SupportError),
}

impl CliError {
    /// What the process ends with; `florin serve --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Settings(error) => error.exit_code(),
            CliError::Callers(_)
            | CliError::Certificates(_)
            | CliError::LedgerFiles(_)
            | CliError::Peers(_) => 2,
            CliError::Service(error) => error.exit_code(),
            CliError::Demo(error) => error.exit_code(),
            CliError::Audit(error) => error.exit_code(),
            CliError::LedgerCommand(error) => error.exit_code(),
            #[cfg(feature = "kafka")]
            CliError::Publish(error) => error.exit_code(),
            CliError::Shadow(error) => error.exit_code(),
            CliError::Support(error) => error.exit_code(),
            CliError::Import(ImportError::Ledger(error))
            | CliError::Generate(GenerateError::Ledger(error)) => error.exit_code,
            CliError::Import(_)
            | CliError::Generate(_)
            | CliError::Get(_)
            | CliError::Top(_)
            | CliError::Apply(_)
            | CliError::Checkpoint(_)
            | CliError::Principal(_)
            | CliError::Tls(_)
            | CliError::Tune(_) => 1,
        }
    }
}
