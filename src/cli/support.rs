//! `florin support`: all that somebody who helps needs to know, in one folder, and nothing that is secret.
//!
//! What is not known to be harmless stays out: of a configuration only keys that there are, and of the audit no evidence, which holds
//! balances. Passwords and tokens are taken out of every text.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use toml::de::{DeTable, DeValue};

use super::caller::{AdminArgs, Asked};
use super::http::request;
use super::output::say;
use super::settings::KEYS;
use crate::callers::SecretError;
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_READ, SUPPORT_LOG_BYTES, SUPPORT_LOG_LINES};

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
    let folder = Folder::new(&args.folder)?;
    folder.write("version.txt", &format!("florin {}\n", env!("CARGO_PKG_VERSION")))?;
    for (path, name) in ASKED {
        folder.write(name, &asked(&admin, path))?;
    }
    if let Some(config) = &args.config {
        folder.write("florin.toml", &configuration(config))?;
    }
    let log = match &args.log {
        Some(path) => end_of(path),
        None => journal(),
    };
    folder.write("log.txt", &log.unwrap_or_else(|error| format!("no log: {error}\n")))?;
    host(&args.folder.join("host"));
    say(&format!(
        "{} is written: configuration without secrets, metrics, state, log and facts of this host. Look at it before you pass it on.",
        args.folder.display()
    ));
    Ok(())
}

/// Where it is written, and nothing without having been looked through.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    fn new(path: &Path) -> Result<Folder<'_>, SupportError> {
        fs::create_dir(path).map_err(|source| SupportError::Folder { path: path.to_owned(), source })?;
        Ok(Folder(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), SupportError> {
        let path = self.0.join(name);
        let text: String = text.lines().map(|line| without_secrets(line) + "\n").collect();
        fs::write(&path, text).map_err(|source| SupportError::Folder { path, source })
    }
}

/// A node that is down has no answers, and that is worth knowing too.
fn asked(admin: &Asked, path: &str) -> String {
    match request(admin, "GET", path, "") {
        Ok(answer) if path == "/v1/audit" => without_evidence(&answer.body),
        Ok(answer) => answer.body,
        Err(error) => format!("no answer: {error}\n"),
    }
}

/// Evidence holds balances: how much of it there is says enough.
fn without_evidence(body: &str) -> String {
    let Ok(mut audit) = florin_input::json::<serde_json::Value>(body.as_bytes()) else {
        return "not what was expected\n".to_owned();
    };
    if let Some(evidence) = audit.get_mut("evidence") {
        let count = evidence.as_array().map_or(0, Vec::len);
        *evidence = format!("{count} left out").into();
    }
    audit.to_string()
}

/// The keys that there are, each on a line of its own. Comments and whatever is no key may be anything.
fn configuration(path: &Path) -> String {
    let text = match florin_input::read_text(path, CONFIG_BYTES_MAX, CONFIG_READ) {
        Ok(text) => text,
        Err(error) => return format!("# not read: {error}\n"),
    };
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
    shown
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

fn journal() -> io::Result<String> {
    let lines = SUPPORT_LOG_LINES.to_string();
    let output = Command::new("journalctl")
        .args(["-u", "florin", "--no-pager", "-o", "short-iso", "-n", &lines])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As far as everybody may read it: what `florin tune record` writes. A host that cannot be recorded is no reason to stop.
fn host(folder: &Path) {
    let recorded = std::env::current_exe()
        .and_then(|florin| Command::new(florin).args(["tune", "record"]).arg(folder).output());
    if !recorded.is_ok_and(|output| output.status.success()) {
        say("this host could not be written down: florin tune record says why");
    }
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
        let is_set = gap.starts_with(['=', ':']) || (word == "bearer" && gap.len() < rest.len());
        is_set.then_some(end)
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
            ("florin_wrong_tokens_total{shard=\"0\"} 0", "florin_wrong_tokens_total{shard=\"0\"} 0"),
            ("http://127.0.0.1:7300/v1", "http://127.0.0.1:7300/v1"),
        ] {
            assert_eq!(without_secrets(line), shown, "{line}");
        }
    }
}
