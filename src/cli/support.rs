//! `florin support`: all that somebody who helps needs to know, in one folder, and nothing that is secret.
//!
//! What is not known to be harmless stays out: of a configuration only keys that there are, and of the audit no evidence, which holds
//! balances. Passwords and tokens are taken out of every text. What the folder should hold and does not is told, with the reason: whoever
//! passes it on learns so before whoever opens it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use florin_schema::printable_lines;
use toml::de::{DeTable, DeValue};

use super::caller::{AdminArgs, Asked};
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
    /// It cannot be made or written to.
    #[error("cannot write {}: {source}; name a folder that is not there yet", .path.display())]
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
            SupportError::Folder { .. } | SupportError::Token(_) => 1,
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
        fs::create_dir(path).map_err(|source| SupportError::Folder { path: path.to_owned(), source })?;
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
        let text: String = text
            .lines()
            .map(|line| printable_lines(&without_secrets(&self.without_token(line))) + "\n")
            .collect();
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
    let answer = request_within(patience, admin, "GET", path, "").map_err(|error| error.to_string())?;
    let is_about_itself =
        matches!((path, answer.status), ("/readyz", 503) | ("/v1/checkpoint" | "/v1/audit", 409));
    let body = if is_about_itself {
        answer.body
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

/// The keys that there are, each on a line of its own. Comments and whatever is no key may be anything.
fn configuration(path: &Path) -> Result<String, String> {
    let text = florin_input::read_text(path, CONFIG_BYTES_MAX, CONFIG_READ)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut shown = format!("# {} mistakes\n", errors.len());
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

fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.as_ref()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Table(pairs) => {
            let pair =
                |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    format!("{} = {}", key.get_ref(), text_of(value.get_ref()))
                };
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        other => format!("# a value of type {}", other.type_str()),
    }
}

/// The last of a file.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SUPPORT_LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(SUPPORT_LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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

/// Words behind which a secret stands: in addresses, in headers, in configurations.
const BEFORE_SECRETS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "bearer", "authorization", "api_key"];

/// A line without what looks like a secret: what stands before the `@` of an address, and what follows a word such as `password`.
fn without_secrets(line: &str) -> String {
    let mut line = without_userinfo(line);
    let lower = line.to_ascii_lowercase();
    let words = BEFORE_SECRETS.iter().flat_map(|word| lower.match_indices(word));
    let found = words.filter_map(|(at, word)| {
        let end = at + word.len();
        let rest = lower[end..].trim_start_matches(['"', '\'']);
        let gap = rest.trim_start();
        // `florin_wrong_tokens_total 0` is no secret: one is set off by a sign, or follows `Bearer`.
        // What florin says of a proof that is wrong is the reason for something, and repeats none:
        // `token: expected one of a caller who may metrics, as Authorization: Bearer, or by TLS …`.
        let is_said = gap
            .strip_prefix(':')
            .map(str::trim_start)
            .is_some_and(|said| said.starts_with("expected ") || said.starts_with("bearer,"));
        let is_set = gap.starts_with(['=', ':']) || (word == "bearer" && gap.len() < rest.len());
        (is_set && !is_said).then_some(end)
    });
    if let Some(end) = found.min() {
        line.truncate(end);
        line.push_str(" (left out)");
    }
    line
}

/// `postgres://role:word@host` as `postgres://role:(left out)@host`.
fn without_userinfo(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(['/', ' ', '"', '?']).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let role = user.split(':').next().unwrap_or_default();
                let left_out = if user.contains(':') { ":(left out)" } else { "" };
                shown.push_str(&format!("{role}{left_out}@{host}"));
            }
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out_and_nothing_else() {
        for (line, shown) in [
            ("postgres://app:hunter2@db:5432/x?table=t", "postgres://app:(left out)@db:5432/x?table=t"),
            ("a postgres://app@db/x and b://u:p@h", "a postgres://app@db/x and b://u:(left out)@h"),
            ("tls-key = \"/etc/k\" password = \"hunter2\"", "tls-key = \"/etc/k\" password (left out)"),
            ("Authorization: Bearer hunter2", "Authorization (left out)"),
            ("got Bearer hunter2", "got Bearer (left out)"),
            ("the token was refused: token=hunter2", "the token was refused: token (left out)"),
            ("{\"token\":\"hunter2\"}", "{\"token (left out)"),
            (
                "token: expected one of a caller who may metrics, as Authorization: Bearer, or by TLS the caller's",
                "token: expected one of a caller who may metrics, as Authorization: Bearer, or by TLS the caller's",
            ),
            ("token: hunter2; token: expected one", "token (left out)"),
            ("florin_wrong_tokens_total{shard=\"0\"} 0", "florin_wrong_tokens_total{shard=\"0\"} 0"),
            ("http://127.0.0.1:7300/v1", "http://127.0.0.1:7300/v1"),
        ] {
            assert_eq!(without_secrets(line), shown, "{line}");
        }
    }
}
