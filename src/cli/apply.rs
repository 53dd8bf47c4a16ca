//! `florin apply`: JSON lines into the embedded ledger, through the admin port of a running node.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::thread;

use clap::Args;
use florin_schema::printable_lines;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::caller::{AdminArgs, Asked};
use super::http::{Answer, NoAnswer, request};
use super::lines;
use super::output::say;
use crate::callers::SecretError;
use crate::limits::{
    APPLY_ATTEMPTS_MAX, APPLY_BATCH_TRANSACTIONS, APPLY_BODY_BYTES_MAX, APPLY_PAUSE, APPLY_TRANSACTIONS_MAX,
};
use crate::numbers::{counted, grouped, were};

/// Flags of `florin apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// JSON lines, or - for standard input. A line is a transaction, such as {"transaction_id":
    /// "99001032-b24c-5525-b910-74da77541092","user_id":"42","asset":"COIN","kind":"recharge","amount":"500",
    /// "occurred_at":"2026-11-22T04:05:06Z"}, or an array of those that enter the ledger together, such as a gift's two
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    node: AdminArgs,
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
        source: Box<NoAnswer>,
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
        source: Box<NoAnswer>,
    },
    /// The node cannot take anything now.
    #[error(
        "the node answered {status} to lines {first} to {last}: {detail}; {}the lines before them are applied or named above, and \
         to run this again is safe: what is in the ledger is skipped",
        if *is_uncertain { "these may or may not be applied; " } else { "" }
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
        /// It did not know, this time or before, whether they had entered.
        is_uncertain: bool,
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
    /// Duplicates, but of what this run had sent before and the node did not know the end of.
    uncertain: u64,
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

/// Where in a request a refusal lies, and whether the node knows what became of it.
#[derive(Deserialize)]
struct Refusal {
    index: Option<usize>,
    outcome: Option<String>,
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
    let admin = args.node.asking()?;
    let outcome = apply(&admin, &input, reader, &mut tally);
    // Whatever ended it: what has entered is said.
    say(&tally.to_string());
    outcome?;
    if tally.failed > 0 { Err(ApplyError::SomeFailed { failed: tally.failed }) } else { Ok(()) }
}

/// Applies line after line; one that is bad is named and costs no other.
fn apply(admin: &Asked, input: &str, reader: impl BufRead, tally: &mut Tally) -> Result<(), ApplyError> {
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

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { applied, duplicates, uncertain, .. } = *self;
        let applied = counted(applied, "transaction");
        write!(f, "applied {applied}; {} {} in the ledger already", grouped(duplicates), were(duplicates))?;
        if uncertain > 0 {
            let (uncertain, them) = (grouped(uncertain), if uncertain == 1 { "it" } else { "them" });
            write!(
                f,
                "; {uncertain} more in the ledger now: applied by this run, whose first attempt at {them} the node could not \
                tell the end of, or there already"
            )?;
        }
        Ok(())
    }
}

impl Tally {
    fn fail(&mut self, line: u64, why: &str) {
        self.failed += 1;
        eprintln!("{}", printable_lines(&format!("line {line}: {why}")));
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
fn send(admin: &Asked, lines: Vec<Line>, tally: &mut Tally) -> Result<(), ApplyError> {
    let mut open = vec![lines];
    while let Some(mut lines) = open.pop() {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { continue };
        let (first, last) = (first.number, last.number);
        let mut is_uncertain = false;
        let answer = post(admin, &lines, &mut is_uncertain).map_err(|source| match source {
            // A node that does not come to terms by TLS has read nothing of what was to be sent.
            NoAnswer::NoConnection { .. } | NoAnswer::Tls(_) | NoAnswer::Untrusted { .. }
                if !is_uncertain =>
            {
                ApplyError::NothingSent { first, source: Box::new(source) }
            }
            _ => ApplyError::Unreachable { first, last, source: Box::new(source) },
        })?;
        let refused = || {
            let (status, detail) = (answer.status, answer.detail());
            ApplyError::Refused { status, first, last, detail, is_uncertain }
        };
        if answer.is_success() {
            let entries =
                florin_input::json::<Receipt>(answer.body.as_bytes()).map(|receipt| receipt.transactions);
            let entries = entries.map_err(|_| refused())?;
            let duplicates = entries.iter().filter(|entry| entry.duplicate).count();
            *if is_uncertain { &mut tally.uncertain } else { &mut tally.duplicates } += duplicates as u64;
            tally.applied += (entries.len() - duplicates) as u64;
            continue;
        }
        let refusal: Option<Refusal> = florin_input::json(answer.body.as_bytes()).ok();
        let culprit = refusal.as_ref().and_then(|refusal| line_of(&lines, refusal.index?));
        let (Some(refusal), Some((culprit, place))) = (refusal, culprit) else {
            return Err(refused());
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

/// Asks again while the node says that others are first, or that it does not know: what has entered meanwhile it then finds.
fn post(admin: &Asked, lines: &[Line], is_uncertain: &mut bool) -> Result<Answer, NoAnswer> {
    let transactions: Vec<&str> =
        lines.iter().flat_map(|line| &line.transactions).map(String::as_str).collect();
    let body = format!("[{}]", transactions.join(","));
    let mut attempts = 0;
    loop {
        let answer = request(admin, "POST", "/v1/transactions", &body)?;
        let refusal: Option<Refusal> = florin_input::json(answer.body.as_bytes()).ok();
        *is_uncertain |= refusal.is_some_and(|refusal| refusal.outcome.as_deref() == Some("unknown"));
        attempts += 1;
        if attempts == APPLY_ATTEMPTS_MAX || !matches!(answer.status, 429 | 503) {
            return Ok(answer);
        }
        thread::sleep(APPLY_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const LINE: &str = r#"{"transaction_id":"99001032-b24c-5525-b910-74da77541092"}"#;
    const UNKNOWN: &str = r#"{"outcome":"unknown","detail":"the server ended in the middle"}"#;
    const DUPLICATE: &str = r#"{"transactions":[{"duplicate":true},{"duplicate":false}]}"#;

    /// Applies two lines at a node that gives these answers, one a connection, and then is gone: what is said, and how it ends.
    fn apply_at(answers: &'static [(u16, &'static str)]) -> (String, Result<(), ApplyError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = Asked { address: listener.local_addr().unwrap().into(), token: None, tls: None };
        let node = thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"}]") {
                    let mut bytes = [0; 4_096];
                    let count = stream.read(&mut bytes).unwrap();
                    asked.extend_from_slice(&bytes[..count]);
                }
                let length = body.len();
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
            }
        });
        let mut tally = Tally::default();
        let outcome = apply(&admin, "-", format!("{LINE}\n{LINE}\n").as_bytes(), &mut tally);
        node.join().unwrap();
        (tally.to_string(), outcome)
    }

    /// A 503 of a node that does not know whether the rows have entered is asked again; what had entered was then told as "in the
    /// ledger already", as if somebody else had paid.
    #[test]
    fn what_a_node_did_not_know_the_end_of_is_not_told_as_anothers() {
        let (said, outcome) = apply_at(&[(503, UNKNOWN), (200, DUPLICATE)]);
        outcome.unwrap();
        assert!(
            said.starts_with("applied 1 transaction; 0 were in the ledger already; 1 more in the ledger now"),
            "{said}"
        );
        // Busy is no doubt: nothing had entered.
        let (said, outcome) =
            apply_at(&[(429, r#"{"detail":"busy"}"#), (503, r#"{"detail":"locked"}"#), (200, DUPLICATE)]);
        outcome.unwrap();
        assert_eq!(said, "applied 1 transaction; 1 was in the ledger already");
    }

    #[test]
    fn whatever_comes_after_a_doubt_the_doubt_is_told() {
        let (_, outcome) = apply_at(&[(503, UNKNOWN), (500, r#"{"detail":"broken"}"#)]);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("500") && error.contains("these may or may not be applied"), "{error}");
        // A node that is gone when it is asked again: "nothing was sent" would be untrue.
        let (_, outcome) = apply_at(&[(503, UNKNOWN)]);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("lines 1 to 2 may or may not be applied"), "{error}");
    }
}
