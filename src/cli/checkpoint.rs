//! `florin checkpoint`: has a node make one; `list`, `verify` and `inspect` look at those in a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, Subcommand};
use florin_schema::UserId;
use serde::Deserialize;

use super::caller::{AdminArgs, Asked, user_id};
use super::http::{Answer, NoAnswer, Refused, request};
use super::output::{Align, Table, rfc3339, say};
use crate::callers::SecretError;
use crate::checkpoint::Manifest;
use crate::checkpoints::load::{self, Refusal};
use crate::checkpoints::store;
use crate::limits::CHECKPOINT_PAUSE;
use crate::numbers::{counted, grouped, grouped_signed};

/// Flags of `florin checkpoint`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CheckpointArgs {
    #[command(flatten)]
    node: AdminArgs,
    #[command(subcommand)]
    command: Option<CheckpointCommand>,
}

#[derive(Subcommand, Debug)]
enum CheckpointCommand {
    /// List the checkpoints of a folder, the newest first
    List {
        /// As --checkpoint names it
        folder: PathBuf,
    },
    /// Read checkpoints as a node would, and say what is wrong with which
    Verify {
        /// A folder of checkpoints, or one of them
        folder: PathBuf,
    },
    /// Show what a checkpoint is of
    Inspect {
        /// One checkpoint's folder
        checkpoint: PathBuf,
        /// Show this account
        #[arg(long, value_name = "ID", value_parser = user_id)]
        user: Option<UserId>,
    },
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no node.
    #[error(transparent)]
    Http(#[from] NoAnswer),
    /// The node made none.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The node's answer is none.
    #[error("the node's answer cannot be read: {0}")]
    Answer(String),
    /// The folder.
    #[error("cannot look into {}: {source}", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing there.
    #[error("{} holds no checkpoint", .0.display())]
    None(PathBuf),
    /// It cannot be loaded.
    #[error("{}: {source}", .checkpoint.display())]
    Bad {
        /// Which.
        checkpoint: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// Some cannot be loaded.
    #[error("{bad} of {all} checkpoints cannot be loaded")]
    SomeBad {
        /// So many.
        bad: usize,
        /// Of so many.
        all: usize,
    },
    /// No such account.
    #[error("the checkpoint has no account of user {0}")]
    NoUser(UserId),
}

/// What `GET /v1/checkpoint` says.
#[derive(Deserialize)]
struct Standing {
    last: Option<Shown>,
    made: String,
    failures: String,
}

#[derive(Deserialize)]
struct Shown {
    path: String,
    accounts: String,
    bytes: String,
    seconds: f64,
}

/// Runs `florin checkpoint`.
pub(super) fn run(args: &CheckpointArgs) -> Result<(), CheckpointError> {
    match &args.command {
        None => make(&args.node.asking()?),
        Some(CheckpointCommand::List { folder }) => list(folder),
        Some(CheckpointCommand::Verify { folder }) => verify(folder),
        Some(CheckpointCommand::Inspect { checkpoint, user }) => inspect(checkpoint, *user),
    }
}

fn make(admin: &Asked) -> Result<(), CheckpointError> {
    let path = "/v1/checkpoint";
    let before: Standing = read(&request(admin, "GET", path, "")?.succeeded()?)?;
    let answer = request(admin, "POST", path, "")?.succeeded()?;
    let made: Shown = if answer.status == 202 { await_it(admin, path, &before)? } else { read(&answer)? };
    let number = |text: &str, noun: &str| {
        text.parse().map_or_else(|_| text.to_owned(), |number| counted(number, noun))
    };
    say(&format!(
        "{}: {}, {}, {:.1} s",
        made.path,
        number(&made.accounts, "account"),
        number(&made.bytes, "byte"),
        made.seconds
    ));
    Ok(())
}

fn await_it(admin: &Asked, path: &str, before: &Standing) -> Result<Shown, CheckpointError> {
    loop {
        let now: Standing = read(&request(admin, "GET", path, "")?.succeeded()?)?;
        if now.failures != before.failures {
            let detail = "no checkpoint was made; the node's log says why".to_owned();
            return Err(Refused { status: 503, detail }.into());
        }
        match now.last {
            Some(last) if now.made != before.made => return Ok(last),
            _ => thread::sleep(CHECKPOINT_PAUSE),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, CheckpointError> {
    florin_input::json(answer.body.as_bytes()).map_err(|error| CheckpointError::Answer(error.to_string()))
}

/// The checkpoints of a folder, or the folder itself where it is one.
fn found(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if folder.join("manifest").exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let found = store::checkpoints(folder);
    let found = found.map_err(|source| CheckpointError::Folder { folder: folder.to_owned(), source })?;
    if found.is_empty() { Err(CheckpointError::None(folder.to_owned())) } else { Ok(found) }
}

fn list(folder: &Path) -> Result<(), CheckpointError> {
    let mut table = Table::new(&[
        ("checkpoint", Align::Left),
        ("made", Align::Left),
        ("accounts", Align::Right),
        ("bytes", Align::Right),
        ("sections", Align::Right),
        ("ledger", Align::Left),
    ]);
    for path in found(folder)? {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match store::manifest(&path) {
            Ok(manifest) => table.row([
                name,
                rfc3339(manifest.made_at_us),
                grouped(manifest.accounts()),
                grouped(manifest.bytes()),
                manifest.sections.len().to_string(),
                manifest.ledger,
            ]),
            Err(error) => {
                let none = String::new;
                table.row([name, format!("cannot be read: {error}"), none(), none(), none(), none()]);
            }
        }
    }
    say(&table.render());
    Ok(())
}

fn verify(folder: &Path) -> Result<(), CheckpointError> {
    let all = found(folder)?;
    let mut bad = 0;
    for path in &all {
        match load::read(path, |_| {}) {
            Ok(manifest) => {
                say(&format!("{}: whole, {}", path.display(), counted(manifest.accounts(), "account")))
            }
            Err(refusal) => {
                bad += 1;
                say(&format!("{}: {refusal}", path.display()));
            }
        }
    }
    if bad > 0 { Err(CheckpointError::SomeBad { bad, all: all.len() }) } else { Ok(()) }
}

fn inspect(checkpoint: &Path, user: Option<UserId>) -> Result<(), CheckpointError> {
    let mut account = None;
    let read = load::read(checkpoint, |record| {
        if Some(record.user()) == user {
            account = Some(shown(record));
        }
    });
    let manifest =
        read.map_err(|source| CheckpointError::Bad { checkpoint: checkpoint.to_owned(), source })?;
    match (user, account) {
        (None, _) => say(&described(checkpoint, &manifest)),
        (Some(_), Some(account)) => say(&account),
        (Some(user), None) => return Err(CheckpointError::NoUser(user)),
    }
    Ok(())
}

fn described(checkpoint: &Path, manifest: &Manifest) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let on_disk: u64 = (0..manifest.sections.len())
        .filter_map(|section| fs::metadata(store::section_path(checkpoint, section)).ok())
        .map(|file| file.len())
        .sum();
    let mut lines = vec![
        format!("ledger      {}", manifest.ledger),
        format!("made        {}", rfc3339(manifest.made_at_us)),
        format!("begin       {}", hex(&manifest.begin)),
        format!("end         {}", hex(&manifest.end)),
        format!(
            "accounts    {}, {} of them incomplete",
            grouped(manifest.accounts()),
            grouped(manifest.incomplete)
        ),
        format!("bytes       {}, {} each", grouped(on_disk), grouped(on_disk / manifest.accounts().max(1))),
    ];
    for (index, section) in manifest.sections.iter().enumerate() {
        let accounts: u64 = section.blocks.iter().map(|block| u64::from(block.accounts)).sum();
        lines.push(format!(
            "section {index:<3} {} accounts in {} blocks, {} bytes",
            grouped(accounts),
            grouped(section.blocks.len() as u64),
            grouped(section.bytes())
        ));
    }
    lines.join("\n")
}

fn shown(record: &crate::checkpoint::Record<'_>) -> String {
    if record.is_incomplete() {
        return format!("user {}: incomplete; its history is read again when this is loaded", record.user());
    }
    let columns = [("asset", Align::Left), ("available", Align::Right), ("held", Align::Right)];
    let mut table = Table::new(&columns);
    for row in record.rows {
        let asset = row.asset().text(&mut [0; 8]).to_owned();
        table.row([asset, grouped_signed(row.available.get()), grouped_signed(row.held.get())]);
    }
    let heading = format!(
        "user {}, version {}, updated {}, {} hours or days of statistics",
        record.user(),
        grouped(record.version().0),
        rfc3339(record.header.last_us.get()),
        record.buckets.len()
    );
    format!("{heading}\n\n{}", table.render())
}
