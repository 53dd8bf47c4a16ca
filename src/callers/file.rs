//! `principals.toml`: read strictly, for a word that is misspelt here is a right that somebody has or lacks. All that is wrong is
//! told at once, by line, and no value of it: one may be a secret.
//!
//! ```toml
//! [anonymous]                       # who proves nothing; left out: may do nothing
//! may = []
//!
//! [[key]]                           # signs tokens; at most two
//! kid = "2026-11"
//! secret = "credential:florin-key"  # or file:PATH, env:NAME
//!
//! [[principal]]
//! name = "team-a"
//! may = ["balance", "statistics", "batch"]
//! tokens = ["sha256:…"]             # florin principal add makes them
//! certificates = ["spiffe://example.com/team-a", "team-a.example.com"]
//! uids = [1000]                     # processes on the unix socket
//! gids = []
//! requests_per_s = 10000            # of the whole node; left out: without a bound
//! burst = 2000                      # left out: a second's
//! connections = 64
//! in_flight = 1024                  # requests that wait for their answers at once
//! ```

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::secret::SecretSource;
use super::token::{TokenHash, is_name, named_rights};
use crate::limits::{
    PRINCIPAL_NAME_BYTES_MAX, PRINCIPALS_BYTES_MAX, PRINCIPALS_MAX, QUOTA_MAX, SIGNING_KEYS_MAX,
    TOKENS_PER_PRINCIPAL_MAX,
};
use crate::shard::Rights;
use crate::shard::quota::Bounds;

/// One principal, as the file has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In metrics, logs and signed tokens.
    pub name: String,
    /// What it may do.
    pub may: Rights,
    /// By which its random tokens are known.
    pub tokens: Vec<TokenHash>,
    /// URI and DNS names of its certificates.
    pub certificates: Vec<String>,
    /// Users whose processes it is.
    pub uids: Vec<u32>,
    /// Groups whose processes it is.
    pub gids: Vec<u32>,
    /// How much of a node it may use.
    pub bounds: Bounds,
}

/// A file of principals.
#[derive(Clone, Debug)]
pub struct Principals {
    /// What may who proves nothing.
    pub anonymous: Rights,
    /// Names of keys, and where they lie.
    pub keys: Vec<(String, SecretSource)>,
    /// In order.
    pub entries: Vec<Entry>,
}

/// Why a file of principals cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file, or no permission.
    #[error(
        "cannot read the principals {}: {source}; `florin principal add NAME` makes such a file where there is none",
        .path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could grant itself rights.
    #[error(
        "the principals {} have the mode {mode:03o} and belong to user {owner}: expected a regular file of root's or of this process's \
         user, which nobody else may write (chmod go-w)", .path.display()
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// Its content.
    #[error("the principals {} cannot be used:\n{defects}", .path.display())]
    Defects {
        /// Which.
        path: PathBuf,
        /// All of them.
        defects: Defects,
    },
}

/// All that is wrong with a file of principals: lines, from 1, and what was expected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Defects(Vec<(usize, String)>);

impl fmt::Display for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, message)) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "  line {line}: {message}{end}")?;
        }
        Ok(())
    }
}

impl Principals {
    /// Reads the file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(path: &Path) -> Result<Principals, FileError> {
        Principals::read_with_text(path).map(|(principals, _)| principals)
    }

    /// The same, and the file's text, for who is to write it anew.
    ///
    /// # Errors
    /// See [`Principals::read`].
    pub fn read_with_text(path: &Path) -> Result<(Principals, String), FileError> {
        let text = read_text(path)?;
        match Principals::parse(&text) {
            Ok(principals) => Ok((principals, text)),
            Err(defects) => Err(FileError::Defects { path: path.to_owned(), defects }),
        }
    }

    /// Reads its text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Principals, Defects> {
        let mut reading = Reading { text, defects: Vec::new() };
        let mut principals = Principals { anonymous: Rights::NONE, keys: Vec::new(), entries: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // Its message may quote the line: what was expected there is enough.
            reading.wrong(error.span().map_or(0, |span| span.start), "this is not TOML");
        }
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("anonymous", DeValue::Table(table)) => principals.anonymous = reading.anonymous(table),
                ("key", DeValue::Array(tables)) => principals.keys = reading.each(at, tables, Reading::key),
                ("principal", DeValue::Array(tables)) => {
                    principals.entries = reading.each(at, tables, Reading::entry);
                }
                _ => reading.wrong(at, "expected [anonymous], [[key]] and [[principal]]"),
            }
        }
        reading.check(&principals);
        let mut defects = reading.defects;
        defects.sort();
        defects.dedup();
        if defects.is_empty() { Ok(principals) } else { Err(Defects(defects)) }
    }
}

fn read_text(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Unreadable { path: path.to_owned(), source };
    let file = florin_input::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || !florin_input::is_own_alone(&found) {
        let (mode, owner) = (found.mode() & 0o7777, found.uid());
        return Err(FileError::Exposed { path: path.to_owned(), mode, owner });
    }
    let mut text = String::new();
    file.take(PRINCIPALS_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > PRINCIPALS_BYTES_MAX {
        let why = format!("expected at most {PRINCIPALS_BYTES_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(text)
}

/// What is being read, and what was wrong with it so far.
struct Reading<'a> {
    text: &'a str,
    defects: Vec<(usize, String)>,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl Reading<'_> {
    fn wrong(&mut self, offset: usize, message: impl Into<String>) {
        let before = &self.text[..offset.min(self.text.len())];
        self.defects.push((1 + before.matches('\n').count(), message.into()));
    }

    /// Each of the tables, read by `read`.
    fn each<T>(
        &mut self,
        at: usize,
        tables: &DeArray<'_>,
        read: fn(&mut Self, usize, &DeTable<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for table in tables {
            match table.get_ref() {
                DeValue::Table(fields) => all.extend(read(self, table.span().start, fields)),
                _ => self.wrong(at, "expected [[key]] and [[principal]], each a table of its own"),
            }
        }
        all
    }

    fn anonymous(&mut self, table: &DeTable<'_>) -> Rights {
        let mut may = Rights::NONE;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "may" => may = self.rights(key, value),
                _ => self.wrong(key.span().start, "[anonymous]: expected may"),
            }
        }
        if may.within(Rights::WRITE.and(Rights::ADMIN)) != Rights::NONE {
            self.wrong(0, "[anonymous]: may cannot have write or admin; give those to a principal");
        }
        may
    }

    fn key(&mut self, at: usize, table: &DeTable<'_>) -> Option<(String, SecretSource)> {
        let (mut kid, mut secret) = (None, None);
        for (key, value) in table {
            let offset = key.span().start;
            match key.get_ref().as_ref() {
                "kid" => kid = self.name(key, value),
                "secret" => match value.get_ref().as_str().unwrap_or_default().parse() {
                    Ok(source) => secret = Some(source),
                    Err(expected) => self.wrong(offset, format!("secret: {expected}")),
                },
                _ => self.wrong(offset, "[[key]]: expected kid and secret"),
            }
        }
        if kid.is_none() || secret.is_none() {
            self.wrong(at, "[[key]]: expected kid and secret");
        }
        Some((kid?, secret?))
    }

    fn entry(&mut self, at: usize, table: &DeTable<'_>) -> Option<Entry> {
        let (mut name, mut may) = (None, None);
        let mut entry = Entry {
            name: String::new(),
            may: Rights::NONE,
            tokens: Vec::new(),
            certificates: Vec::new(),
            uids: Vec::new(),
            gids: Vec::new(),
            bounds: Bounds::default(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = self.name(key, value),
                "may" => may = Some(self.rights(key, value)),
                "tokens" => entry.tokens = self.tokens(key, value),
                "certificates" => entry.certificates = self.texts(key, value),
                "uids" => entry.uids = self.numbers(key, value),
                "gids" => entry.gids = self.numbers(key, value),
                "requests_per_s" => entry.bounds.requests_per_s = self.bound(key, value),
                "burst" => entry.bounds.burst = self.bound(key, value),
                "connections" => entry.bounds.connections = self.bound(key, value),
                "in_flight" => entry.bounds.in_flight = self.bound(key, value),
                _ => self.wrong(
                    key.span().start,
                    "[[principal]]: expected name, may, tokens, certificates, uids, gids, requests_per_s, burst, connections and in_flight",
                ),
            }
        }
        if name.is_none() || may.is_none() {
            self.wrong(at, "[[principal]]: expected name and may at least");
        }
        if entry.bounds.burst > 0 && entry.bounds.requests_per_s == 0 {
            self.wrong(at, "burst: expected requests_per_s beside it");
        }
        if entry.bounds.burst == 0 {
            entry.bounds.burst = entry.bounds.requests_per_s;
        }
        Some(Entry { name: name?, may: may?, ..entry })
    }

    fn name(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref().as_str() {
            Some(name) if is_name(name) => Some(name.to_owned()),
            _ => {
                let expected = format!(
                    "{}: expected 1 to {PRINCIPAL_NAME_BYTES_MAX} letters, digits, - and _",
                    key.get_ref()
                );
                self.wrong(key.span().start, expected);
                None
            }
        }
    }

    fn texts(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let list = value.get_ref().as_array().map(|list| {
            list.iter().map(|text| text.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        match list.flatten() {
            Some(texts) if texts.iter().all(|text| !text.is_empty()) => texts,
            _ => {
                self.wrong(key.span().start, format!("{}: expected a list of strings", key.get_ref()));
                Vec::new()
            }
        }
    }

    fn rights(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Rights {
        let names = self.texts(key, value);
        named_rights(names.iter().map(String::as_str)).unwrap_or_else(|| {
            let known: Vec<&str> = Rights::NAMED.iter().map(|(name, _)| *name).collect();
            self.wrong(key.span().start, format!("may: expected a list of {}", known.join(", ")));
            Rights::NONE
        })
    }

    fn tokens(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Vec<TokenHash> {
        let mut tokens = Vec::new();
        for text in self.texts(key, value) {
            match text.parse() {
                Ok(hash) => tokens.push(hash),
                Err(expected) => self.wrong(key.span().start, format!("tokens: {expected}")),
            }
        }
        if tokens.len() > TOKENS_PER_PRINCIPAL_MAX {
            self.wrong(key.span().start, format!("tokens: expected at most {TOKENS_PER_PRINCIPAL_MAX}"));
        }
        tokens
    }

    fn numbers(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Vec<u32> {
        let list = value.get_ref().as_array();
        let numbers = list.map(|list| list.iter().map(number).collect::<Option<Vec<u32>>>());
        numbers.flatten().unwrap_or_else(|| {
            self.wrong(key.span().start, format!("{}: expected a list of whole numbers", key.get_ref()));
            Vec::new()
        })
    }

    fn bound(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> u32 {
        match number(value) {
            Some(bound @ 1..=QUOTA_MAX) => bound,
            _ => {
                let expected = format!("{}: expected a number from 1 to {QUOTA_MAX}", key.get_ref());
                self.wrong(key.span().start, expected);
                0
            }
        }
    }

    /// What concerns several entries at once.
    fn check(&mut self, principals: &Principals) {
        if principals.entries.len() > PRINCIPALS_MAX {
            self.wrong(0, format!("[[principal]]: expected at most {PRINCIPALS_MAX}"));
        }
        if principals.keys.len() > SIGNING_KEYS_MAX {
            self.wrong(0, format!("[[key]]: expected at most {SIGNING_KEYS_MAX}: the one in use, and the one before or after it"));
        }
        let mut seen: HashMap<String, &str> = HashMap::new();
        let mut twice = Vec::new();
        for entry in &principals.entries {
            let proofs = entry.tokens.iter().map(|token| format!("the token {token}"));
            let proofs =
                proofs.chain(entry.certificates.iter().map(|name| format!("the certificate {name}")));
            let proofs = proofs.chain(entry.uids.iter().map(|uid| format!("the uid {uid}")));
            let proofs = proofs.chain(entry.gids.iter().map(|gid| format!("the gid {gid}")));
            for proof in proofs.chain([format!("the name {}", entry.name)]) {
                if let Some(before) = seen.insert(proof.clone(), &entry.name) {
                    twice.push(format!("{proof} is both {before}'s and {}'s: expected once", entry.name));
                }
            }
        }
        let kids: Vec<_> = principals.keys.iter().map(|(kid, _)| kid).collect();
        if kids.len() == 2 && kids[0] == kids[1] {
            twice.push(format!("the key {} stands here twice: expected once", kids[0]));
        }
        twice.into_iter().for_each(|message| self.wrong(0, message));
    }
}

fn number(value: &Spanned<DeValue<'_>>) -> Option<u32> {
    match value.get_ref() {
        DeValue::Integer(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_is_read_whole() {
        let text = format!(
            "[anonymous]\nmay = [\"balance\"]\n[[key]]\nkid = \"k1\"\nsecret = \"env:KEY\"\n[[principal]]\nname = \"team-a\"\n\
             may = [\"balance\", \"write\"]\ntokens = [\"{HASH}\"]\ncertificates = [\"spiffe://x/a\"]\nuids = [1000]\ngids = [7]\n\
             requests_per_s = 100\nconnections = 3\nin_flight = 9\n[[principal]]\nname = \"b\"\nmay = []\n"
        );
        let Principals { anonymous, keys, entries } = Principals::parse(&text).unwrap();
        assert_eq!((anonymous, keys.len(), entries.len()), (Rights::BALANCE, 1, 2));
        let a = &entries[0];
        assert_eq!((a.name.as_str(), a.may), ("team-a", Rights::BALANCE.and(Rights::WRITE)));
        assert_eq!(
            (a.tokens[0].to_string().as_str(), &a.uids[..], &a.gids[..]),
            (HASH, &[1000][..], &[7][..])
        );
        assert_eq!(a.bounds, Bounds { requests_per_s: 100, burst: 100, connections: 3, in_flight: 9 });
        assert_eq!(entries[1].may, Rights::NONE);
    }

    /// Each is a mistake that somebody makes; each is told by what was expected, and never by what came, which may be a secret.
    #[test]
    fn what_is_wrong_is_told_and_not_repeated() {
        let principal = |line: &str| format!("[[principal]]\nname = \"planted\"\nmay = []\n{line}\n");
        for (text, expected) in [
            ("planted = 1".to_owned(), "[[principal]]"),
            ("[principal]\nname = \"a\"".to_owned(), "[[principal]]"),
            ("[[principal]]\nmay = []".to_owned(), "name and may"),
            ("[[principal]]\nname = \"a\"".to_owned(), "name and may"),
            ("[[principal]]\nname = \"planted!\"\nmay = []".to_owned(), "letters"),
            (principal("token = \"planted\""), "tokens"),
            (principal("tokens = \"planted\""), "list of strings"),
            (principal("tokens = [\"planted\"]"), "sha256:"),
            (principal("uids = [\"planted\"]"), "whole numbers"),
            (principal("requests_per_s = 0"), "from 1 to"),
            (principal("burst = 7"), "requests_per_s"),
            (principal("certificates = [\"\"]"), "list of strings"),
            ("[[principal]]\nname = \"a\"\nmay = [\"planted\"]".to_owned(), "balance, statistics"),
            ("[anonymous]\nmay = [\"write\"]".to_owned(), "write or admin"),
            ("[anonymous]\nplanted = []".to_owned(), "expected may"),
            ("[[key]]\nkid = \"k\"\nsecret = \"planted\"".to_owned(), "file:PATH"),
            ("[[key]]\nkid = \"k\"".to_owned(), "kid and secret"),
            ("[[key]]\nplanted = \"k\"".to_owned(), "kid and secret"),
            ("planted planted".to_owned(), "TOML"),
            ("key = [1]".to_owned(), "a table of its own"),
        ] {
            let said = Principals::parse(&text).unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains("planted"), "{text}: {said}");
        }
    }

    #[test]
    fn one_proof_is_one_principals() {
        let two = |line: &str| {
            let one = |name: &str| format!("[[principal]]\nname = \"{name}\"\nmay = []\n{line}\n");
            Principals::parse(&(one("a") + &one("b"))).unwrap_err().to_string()
        };
        for line in [
            format!("tokens = [\"{HASH}\"]"),
            "uids = [1]".into(),
            "gids = [1]".into(),
            "certificates = [\"x\"]".into(),
        ] {
            assert!(two(&line).contains("both a's and b's"), "{line}");
        }
        let key = "[[key]]\nkid = \"k\"\nsecret = \"env:K\"\n";
        assert!(Principals::parse(&key.repeat(2)).is_err() && Principals::parse(&key.repeat(3)).is_err());
        assert!(Principals::parse(key).is_ok());
    }

    #[test]
    fn all_mistakes_are_told_with_their_lines() {
        let said =
            Principals::parse("[[principal]]\nname = 1\nmay = 2\ncolour = 3\n").unwrap_err().to_string();
        for line in ["line 2: name", "line 3: may", "line 4: [[principal]]"] {
            assert!(said.contains(line), "{said}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_grants_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("principals.toml");
        std::fs::write(&path, "").unwrap();
        for (mode, is_good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let outcome = Principals::read(&path);
            assert_eq!(outcome.is_ok(), is_good, "{mode:o}: {outcome:?}");
        }
        assert!(Principals::read(folder.path()).unwrap_err().to_string().contains("regular file"));
        assert!(Principals::read(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
