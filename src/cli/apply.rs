//! `florin apply`: JSON lines into the embedded ledger, through the admin port of a running node.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::thread;

use clap::Args;
use florin_client::Address;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::{Answer, NoAnswer, request};
use super::lines;
use super::output::{counted, grouped, say, were};
use super::token::TokenArgs;
use crate::callers::{Secret, SecretError};
use crate::limits::{
    APPLY_ATTEMPTS_MAX, APPLY_BATCH_TRANSACTIONS, APPLY_BODY_BYTES_MAX, APPLY_PAUSE, APPLY_TRANSACTIONS_MAX,
};

/// Flags of `florin apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// JSON lines, or - for standard input. A line is a transaction, such as {"transaction_id":
    /// "99001032-b24c-5525-b910-74da77541092","user_id":"42","asset":"COIN","kind":"recharge","amount":"500",
    /// "occurred_at":"2026-11-22T04:05:06Z"}, or an array of those that enter the ledger together, such as a gift's two
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The node's admin port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7300")]
    admin: Address,
    #[command(flatten)]
    token: TokenArgs,
}

/// Why not everything was applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The input cannot be opened.
    #[error("cannot read {input}: {source}")]
    Open {
        /// The file.
        input: String,
        /// Why.
        source: io::Error,
    },
    /// The input breaks off.
    #[error(
        "cannot read {input} after line {line}: {source}; the lines before are applied or named above, and to run this again is \
         safe: what is in the ledger is skipped"
    )]
    Input {
        /// The file.
        input: String,
        /// The last line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// There is no node.
    #[error(
        "{source} (nothing of line {first} and of those after it was sent or is applied; the lines before are, or are named above)"
    )]
    NothingSent {
        /// The first line of the request.
        first: u64,
        /// Why.
        source: NoAnswer,
    },
    /// The node broke off.
    #[error(
        "{source} (lines {first} to {last} may or may not be applied, and none after them is; to run this again is safe: what is \
         in the ledger is skipped)"
    )]
    Unreachable {
        /// The first line of the request.
        first: u64,
        /// The last.
        last: u64,
        /// Why.
        source: NoAnswer,
    },
    /// The node cannot take anything now.
    #[error(
        "the node answered {status} to lines {first} to {last}: {detail}; the lines before them are applied or named above, and \
         to run this again is safe: what is in the ledger is skipped"
    )]
    Refused {
        /// Of HTTP.
        status: u16,
        /// The first line of the request.
        first: u64,
        /// The last.
        last: u64,
        /// The node's words.
        detail: String,
    },
    /// Some lines hold what the ledger may not.
    #[error("{} {} not applied: named above; all others were", counted(*failed, "line"), were(*failed))]
    SomeFailed {
        /// How many.
        failed: u64,
    },
}

/// One line: what enters the ledger wholly or not at all.
struct Line {
    number: u64,
    transactions: Vec<String>,
}

/// What became of the lines so far.
#[derive(Default)]
struct Tally {
    applied: u64,
    duplicates: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct Receipt {
    transactions: Vec<ReceiptEntry>,
}

#[derive(Deserialize)]
struct ReceiptEntry {
    duplicate: bool,
}

/// Where in a request a refusal lies.
#[derive(Deserialize)]
struct Refusal {
    index: Option<usize>,
    detail: String,
}

/// Runs `florin apply`.
pub(super) fn run(args: &ApplyArgs) -> Result<(), ApplyError> {
    let input = args.file.display().to_string();
    let unreadable = |source| ApplyError::Open { input: input.clone(), source };
    let reader: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).map_err(unreadable)?))
    };
    let mut tally = Tally::default();
    let admin = Port { address: args.admin.clone(), token: args.token.read()? };
    let outcome = apply(&admin, &input, reader, &mut tally);
    // Whatever ended it: what has entered is said.
    say(&format!(
        "applied {}; {} {} in the ledger already",
        counted(tally.applied, "transaction"),
        grouped(tally.duplicates),
        were(tally.duplicates)
    ));
    outcome?;
    if tally.failed > 0 { Err(ApplyError::SomeFailed { failed: tally.failed }) } else { Ok(()) }
}

/// Applies line after line; one that is bad is named and costs no other.
/// Where a node is written to, and what proves who does.
struct Port {
    address: Address,
    token: Option<Secret>,
}

fn apply(admin: &Port, input: &str, reader: impl BufRead, tally: &mut Tally) -> Result<(), ApplyError> {
    let mut batch = Batch::default();
    let mut lines = lines::Lines::new(reader, APPLY_BODY_BYTES_MAX);
    let mut buffer = Vec::new();
    let end = loop {
        let parsed = match lines.next(&mut buffer) {
            Ok(None) => break Ok(()),
            Ok(Some(lines::Line::Whole(bytes))) => match str::from_utf8(bytes) {
                Ok(text) => parse(text),
                Err(error) => Err(format!(
                    "expected UTF-8 text, found another byte at place {}",
                    error.valid_up_to() + 1
                )),
            },
            Ok(Some(lines::Line::TooLong(_))) => {
                Err(format!("expected at most {APPLY_BODY_BYTES_MAX} bytes, found more"))
            }
            Err(source) => {
                break Err(ApplyError::Input { input: input.to_owned(), line: lines.number(), source });
            }
        };
        match parsed {
            Ok(transactions) if transactions.is_empty() => {}
            Ok(transactions) => {
                let line = Line { number: lines.number(), transactions };
                if !batch.has_room_for(&line) {
                    send(admin, batch.take(), tally)?;
                }
                batch.push(line);
            }
            Err(why) => tally.fail(lines.number(), &why),
        }
    };
    send(admin, batch.take(), tally)?;
    end
}

impl Tally {
    fn fail(&mut self, line: u64, why: &str) {
        self.failed += 1;
        eprintln!("line {line}: {why}");
    }
}

/// Lines that go into one request.
#[derive(Default)]
struct Batch {
    lines: Vec<Line>,
    transactions: usize,
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, line: &Line) -> bool {
        self.lines.is_empty()
            || (self.transactions + line.transactions.len() <= APPLY_BATCH_TRANSACTIONS
                && self.bytes + line.bytes() < APPLY_BODY_BYTES_MAX)
    }

    fn push(&mut self, line: Line) {
        self.transactions += line.transactions.len();
        self.bytes += line.bytes();
        self.lines.push(line);
    }

    fn take(&mut self) -> Vec<Line> {
        std::mem::take(self).lines
    }
}

impl Line {
    /// With a separator after each.
    fn bytes(&self) -> usize {
        self.transactions.iter().map(|transaction| transaction.len() + 1).sum()
    }
}

/// The transactions of a line: none where it is blank.
fn parse(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let no_json = |error: serde_json::Error| format!("this is not JSON: {error}");
    let transactions = match text.as_bytes().first() {
        None => Vec::new(),
        Some(b'{') => {
            vec![florin_input::json::<&RawValue>(text.as_bytes()).map_err(no_json)?.get().to_owned()]
        }
        Some(b'[') => {
            let entries: Vec<&RawValue> = florin_input::json(text.as_bytes()).map_err(no_json)?;
            entries.iter().map(|entry| entry.get().to_owned()).collect()
        }
        Some(_) => return Err("expected a transaction ({…}) or an array of them ([…])".to_owned()),
    };
    if transactions.len() > APPLY_TRANSACTIONS_MAX {
        return Err(format!(
            "expected at most {APPLY_TRANSACTIONS_MAX} transactions, found {}",
            transactions.len()
        ));
    }
    Ok(transactions)
}

/// Sends the lines. The node refuses a request because of one transaction; then the lines before it go by themselves,
/// its line is reported, and the rest follows.
fn send(admin: &Port, lines: Vec<Line>, tally: &mut Tally) -> Result<(), ApplyError> {
    let mut open = vec![lines];
    while let Some(mut lines) = open.pop() {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { continue };
        let (first, last) = (first.number, last.number);
        let answer = post(admin, &lines).map_err(|source| match source {
            NoAnswer::NoConnection { .. } => ApplyError::NothingSent { first, source },
            _ => ApplyError::Unreachable { first, last, source },
        })?;
        if answer.is_success() {
            let entries =
                florin_input::json::<Receipt>(answer.body.as_bytes()).map(|receipt| receipt.transactions);
            let entries = entries.map_err(|_| refused(&answer, first, last))?;
            let duplicates = entries.iter().filter(|entry| entry.duplicate).count();
            tally.duplicates += duplicates as u64;
            tally.applied += (entries.len() - duplicates) as u64;
            continue;
        }
        let refusal: Option<Refusal> = florin_input::json(answer.body.as_bytes()).ok();
        let culprit = refusal.as_ref().and_then(|refusal| line_of(&lines, refusal.index?));
        let (Some(refusal), Some((culprit, place))) = (refusal, culprit) else {
            return Err(refused(&answer, first, last));
        };
        let after = lines.split_off(culprit + 1);
        let line = lines.pop().expect("the culprit is the last that is left");
        let why = refusal.detail.split_once(": ").map_or(refusal.detail.as_str(), |(_, why)| why);
        let place =
            if line.transactions.len() > 1 { format!("transaction {place}: ") } else { String::new() };
        tally.fail(line.number, &format!("{place}{why}"));
        open.push(after);
        open.push(lines);
    }
    Ok(())
}

/// Which line holds the request's transaction `index`, and at which place.
fn line_of(lines: &[Line], mut index: usize) -> Option<(usize, usize)> {
    for (at, line) in lines.iter().enumerate() {
        match index.checked_sub(line.transactions.len()) {
            None => return Some((at, index)),
            Some(rest) => index = rest,
        }
    }
    None
}

fn refused(answer: &Answer, first: u64, last: u64) -> ApplyError {
    ApplyError::Refused { status: answer.status, first, last, detail: answer.detail() }
}

/// Asks again while the node says that others are first.
fn post(admin: &Port, lines: &[Line]) -> Result<Answer, NoAnswer> {
    let transactions: Vec<&str> =
        lines.iter().flat_map(|line| &line.transactions).map(String::as_str).collect();
    let body = format!("[{}]", transactions.join(","));
    for _ in 1..APPLY_ATTEMPTS_MAX {
        let answer = request(&admin.address, admin.token.as_ref(), "POST", "/v1/transactions", &body)?;
        if !matches!(answer.status, 429 | 503) {
            return Ok(answer);
        }
        thread::sleep(APPLY_PAUSE);
    }
    request(&admin.address, admin.token.as_ref(), "POST", "/v1/transactions", &body)
}
