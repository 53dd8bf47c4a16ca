//! `florin support`: all that somebody who helps needs to know, in one folder, and nothing that is secret.
//!
//! What is not known to be harmless stays out: of a configuration only keys that there are, and of the audit no evidence, which holds
//! balances. Passwords and tokens are taken out of every text. What the folder should hold and does not is told, with the reason: whoever
//! passes it on learns so before whoever opens it.

mod redaction;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use florin_schema::printable_lines;
use redaction::without_secrets;
use rustix::fs::Mode;
use rustix::process::umask;
use toml::de::{DeTable, DeValue};

use super::caller::{AdminArgs, Asked, in_flags};
use super::http::request_within;
use super::output::say;
use super::settings::KEYS;
use crate::callers::{Secret, SecretError};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_READ, SUPPORT_CALLS, SUPPORT_LOG_BYTES, SUPPORT_LOG_LINES};

/// What `florin support --help` ends with.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
   0  the folder holds all that it should
   1  it could not be written
   2  flags
   3  it is written and lacks something: what, and why, is said, and stands in its missing.txt";

/// Flags of `florin support`.
#[derive(Args, Debug)]
pub struct SupportArgs {
    /// A new folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    node: AdminArgs,
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's log, where that is a file; its end is taken [default: journalctl -u florin]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    /// It is there already, and may hold anything.
    #[error("{} is there already: name a folder that is not there yet", .0.display())]
    Exists(PathBuf),
    /// Where it is to be made is nothing.
    #[error("{} is not there: make it (mkdir -p), or name a folder elsewhere", .0.display())]
    NoParent(PathBuf),
    /// It cannot be made or written to.
    #[error("cannot write {}: {source}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// It is there, and lacks something.
    #[error("{} lacks what follows; mend that and write another, or pass it on as it is:\n{missing}", .path.display())]
    Incomplete {
        /// Which.
        path: PathBuf,
        /// A line for each reason.
        missing: String,
    },
}

impl SupportError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            SupportError::Exists(_)
            | SupportError::NoParent(_)
            | SupportError::Folder { .. }
            | SupportError::Token(_) => 1,
            SupportError::Incomplete { .. } => 3,
        }
    }
}

/// What the admin port is asked, and the file for it.
const ASKED: [(&str, &str); 5] = [
    ("/readyz", "readyz.json"),
    ("/metrics", "metrics.txt"),
    ("/v1/shards", "shards.json"),
    ("/v1/checkpoint", "checkpoint.json"),
    ("/v1/audit", "audit.json"),
];

/// Runs `florin support`.
pub(super) fn run(args: &SupportArgs) -> Result<(), SupportError> {
    let admin = args.node.asking()?;
    // Whoever may log in here is not whom it is passed on to. The host's files are another process's, which takes this over.
    umask(Mode::RWXG | Mode::RWXO);
    let mut folder = Folder::new(&args.folder, admin.token.as_ref())?;
    folder.take("version.txt", Ok(format!("florin {}\n", env!("CARGO_PKG_VERSION"))))?;
    let end = Instant::now() + SUPPORT_CALLS;
    for (path, name) in ASKED {
        let left = end.saturating_duration_since(Instant::now());
        folder.take(name, asked(&admin, path, left))?;
    }
    if let Some(config) = &args.config {
        folder.take("florin.toml", configuration(config))?;
    }
    let log = match &args.log {
        Some(path) => end_of(path).map_err(|error| format!("cannot read {}: {error}", path.display())),
        None => journal(),
    };
    folder.take("log.txt", log)?;
    folder.note("host", host(&args.folder.join("host")));
    if args.config.is_none() {
        say("Without the node's configuration: where it has a file, --config FILE takes that along.");
    }
    folder.conclude()
}

/// Where it is written, and nothing without having been looked through.
struct Folder<'a> {
    path: &'a Path,
    token: Option<&'a Secret>,
    holds: Vec<&'static str>,
    /// What it should hold, and why it does not.
    lacks: Vec<(&'static str, String)>,
}

impl<'a> Folder<'a> {
    fn new(path: &'a Path, token: Option<&'a Secret>) -> Result<Folder<'a>, SupportError> {
        fs::create_dir(path).map_err(|source| match (source.kind(), path.parent()) {
            (io::ErrorKind::AlreadyExists, _) => SupportError::Exists(path.to_owned()),
            (io::ErrorKind::NotFound, Some(parent)) => SupportError::NoParent(parent.to_owned()),
            _ => SupportError::Folder { path: path.to_owned(), source },
        })?;
        Ok(Folder { path, token, holds: Vec::new(), lacks: Vec::new() })
    }

    /// Writes a text, or notes why there is none.
    fn take(&mut self, name: &'static str, text: Result<String, String>) -> Result<(), SupportError> {
        let written = match text {
            Ok(text) => Ok(self.write(name, &text)?),
            Err(why) => Err(why),
        };
        self.note(name, written);
        Ok(())
    }

    fn note(&mut self, name: &'static str, done: Result<(), String>) {
        match done {
            Ok(()) => self.holds.push(name),
            Err(why) => self.lacks.push((name, why)),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), SupportError> {
        let path = self.path.join(name);
        let text = without_secrets(&self.without_token(text));
        let text: String = text.lines().map(|line| printable_lines(line) + "\n").collect();
        fs::write(&path, text).map_err(|source| SupportError::Folder { path, source })
    }

    /// Whoever answers may repeat what was shown to it.
    fn without_token(&self, text: &str) -> String {
        match self.token.and_then(Secret::reveal_text) {
            Some(token) if !token.is_empty() => text.replace(token, "(left out)"),
            _ => text.to_owned(),
        }
    }

    /// Says what there is; an error where something is missing.
    fn conclude(self) -> Result<(), SupportError> {
        let (path, holds) = (self.path.display(), self.holds.join(", "));
        say(&format!("{path} holds {holds}, without secrets. Look at it before you pass it on."));
        // One reason is told once: a node that is down lacks every page.
        let mut missing: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, why) in &self.lacks {
            match missing.iter_mut().find(|(known, _)| known == why) {
                Some((_, names)) => names.push(name),
                None => missing.push((why.clone(), vec![name])),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let line =
            |(why, names): &(String, Vec<&str>)| format!("{}: {}", names.join(", "), self.without_token(why));
        let missing = missing.iter().map(line).collect::<Vec<_>>().join("\n");
        self.write("missing.txt", &missing)?;
        Err(SupportError::Incomplete { path: self.path.to_owned(), missing })
    }
}

/// What the node says. That it is not ready, and why, or keeps no checkpoints, or is not audited, is an answer as any other.
fn asked(admin: &Asked, path: &str, patience: Duration) -> Result<String, String> {
    let answer =
        request_within(patience, admin, "GET", path, "").map_err(|error| in_flags(&error.to_string()))?;
    let is_about_itself =
        matches!((path, answer.status), ("/readyz", 503) | ("/v1/checkpoint" | "/v1/audit", 409));
    let body = if is_about_itself {
        answer.body
    } else if answer.is_of_read_port() {
        // Its own words name the path that was asked, and would come once for each.
        return Err(format!("{} answers reads alone: give the node's admin port", admin.address));
    } else {
        answer.succeeded().map_err(|refused| refused.to_string())?.body
    };
    if path == "/v1/audit" { without_evidence(&body) } else { Ok(body) }
}

/// Evidence holds balances: how much of it there is says enough.
fn without_evidence(body: &str) -> Result<String, String> {
    let mut audit = florin_input::json::<serde_json::Value>(body.as_bytes())
        .map_err(|error| format!("expected JSON of what the audit has found: {error}"))?;
    if let Some(evidence) = audit.get_mut("evidence") {
        let count = evidence.as_array().map_or(0, Vec::len);
        *evidence = format!("{count} left out").into();
    }
    Ok(audit.to_string())
}

/// The keys that there are, each on a line of its own, and as TOML again. Comments and whatever is no key may be anything.
fn configuration(path: &Path) -> Result<String, String> {
    let text = florin_input::read_text(path, CONFIG_BYTES_MAX, CONFIG_READ)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // What stands on a line that is broken, and which key it belongs to, nobody knows.
    let table = DeTable::parse(&text).map_err(|error| {
        let line = 1 + text[..error.span().map_or(0, |span| span.start)].matches('\n').count();
        format!(
            "{}: line {line} is not TOML (florin config check --config FILE), so none of it was taken along",
            path.display()
        )
    })?;
    let mut shown = String::new();
    for (key, value) in table.get_ref() {
        let (key, value) = (key.get_ref().as_ref(), value.get_ref());
        match value {
            DeValue::Table(of_ledger) if key == "ledger" => {
                for (key, value) in of_ledger {
                    let key = key.get_ref().as_ref();
                    if ["address", "columns", "kinds"].contains(&key) {
                        shown.push_str(&format!("ledger.{key} = {}\n", text_of(value.get_ref())));
                    }
                }
            }
            _ if KEYS.contains(&key) => shown.push_str(&format!("{key} = {}\n", text_of(value))),
            _ => shown.push_str("# a key that florin does not know was left out\n"),
        }
    }
    Ok(shown)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A value as TOML, without secrets: taken out of the whole line, one would take the closing quote with it.
fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(&without_secrets(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(is_so) => is_so.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| text_of(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(pairs) => {
            let pair =
                |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    format!("{} = {}", quoted(key.get_ref()), text_of(value.get_ref()))
                };
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The last lines of a file.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(SUPPORT_LOG_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(SUPPORT_LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // Of a line that is cut nobody knows whether a secret follows.
    Ok(match text.split_once('\n') {
        Some((_, whole)) if begin > 0 => whole.to_owned(),
        _ => text,
    })
}

/// What the journal has of the unit: where a node was started otherwise it has nothing, and says so in a line of its own (`-q` leaves that out).
fn journal() -> Result<String, String> {
    let lines = SUPPORT_LOG_LINES.to_string();
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["-q", "-u", "florin", "--no-pager", "-o", "short-iso", "-n", &lines]);
    let output =
        journalctl.output().map_err(|error| format!("cannot run journalctl: {error}; {ANOTHER_LOG}"))?;
    if output.stdout.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        return Err(format!("journalctl -u florin shows this user no line{said}; {ANOTHER_LOG}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const ANOTHER_LOG: &str =
    "name the file that the node's log is in (--log FILE), or run this as somebody who may read the journal";

/// As far as everybody may read it: what `florin tune record` writes. A host that cannot be recorded is no reason to stop.
fn host(folder: &Path) -> Result<(), String> {
    let recorded = std::env::current_exe()
        .and_then(|florin| Command::new(florin).args(["tune", "record"]).arg(folder).output())
        .map_err(|error| format!("cannot run florin tune record: {error}"))?;
    if !recorded.status.success() {
        return Err(format!("florin tune record: {}", String::from_utf8_lossy(&recorded.stderr).trim()));
    }
    Ok(())
}
