//! `florin principal`: who may ask what. Makes tokens, and enters what they are known by into a file of principals; the tokens
//! themselves are printed once and kept nowhere.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use toml::de::{DeTable, DeValue};

use super::output::{Align, Table, say};
use crate::callers::{Callers, CallersError, Directory, FileError, Principals, Token, sign};
use crate::limits::{PRINCIPALS_LOCK, PRINCIPALS_LOCK_LOOK, SIGNED_TOKEN_MAX};
use crate::shard::Rights;

/// What `florin principal --help` ends with.
pub(super) const AFTER_HELP: &str = "\
From nothing to tokens:
  florin principal add team-a --may balance,statistics --file principals.toml > team-a.token
  florin serve --principals principals.toml --listen 0.0.0.0:7400
  FLORIN_TOKEN=$(cat team-a.token) florin get balance 42

To replace a token without a lost request: add the same name again, SIGHUP the node, give the new token to whoever asks, take the \
old hash out of the file, SIGHUP again. docs/security.md has the whole of it.";

/// What can be done with principals.
#[derive(Subcommand, Debug)]
pub enum PrincipalCommand {
    /// Make a token for somebody, print it, and enter its hash into the file; or enter the name in somebody's certificate. Whoever stands
    /// there already gets one more
    Add {
        /// Who: letters, digits, - and _
        #[arg(value_name = "NAME")]
        name: String,
        /// What a new one may do: balance, statistics, batch, metrics, write, admin; none for whoever is only to be known, as a node that
        /// divides the users with others
        #[arg(long, value_name = "RIGHT,…", value_delimiter = ',', value_parser = right_or_none)]
        may: Vec<&'static str>,
        /// Enter this URI or DNS name of a certificate instead of a token
        #[arg(long, value_name = "NAME")]
        certificate: Option<String>,
        #[command(flatten)]
        file: FileArgs,
    },
    /// Show who may do what
    List {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Read a file of principals as a node would, with the keys that it names, and say all that is wrong with it
    Check {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Print a token that a key of the file signs, and that ends by itself
    Sign {
        /// Whose; it must stand in the file
        #[arg(value_name = "NAME")]
        name: String,
        /// Which of the file's keys signs it
        #[arg(long, value_name = "KID")]
        kid: String,
        /// What it grants, of what the file grants to its owner [default: all of that]
        #[arg(long, value_name = "RIGHT,…", value_delimiter = ',', value_parser = right)]
        may: Vec<&'static str>,
        /// For how long, in seconds
        #[arg(long = "for", value_name = "S", default_value_t = 3_600)]
        seconds: u64,
        #[command(flatten)]
        file: FileArgs,
    },
}

/// Which file.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// The file of principals, as --principals names it
    #[arg(long = "file", value_name = "FILE", default_value = "principals.toml")]
    path: PathBuf,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// The file as it is, or with its keys.
    #[error(transparent)]
    Callers(#[from] CallersError),
    /// The file as it is, or as it would be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A new one without rights.
    #[error("{0} is new: say what it may do (--may balance,statistics,batch), or --may none")]
    NoRights(String),
    /// Nothing and something.
    #[error("--may: expected rights, or none alone, for whoever is only to be known")]
    NoneAndRights,
    /// Rights of one that has some.
    #[error(
        "{0} stands in the file, which says what it may do: leave --may out, and change the file where that is to change"
    )]
    HasRights(String),
    /// With what was entered the file could not be used.
    #[error("{}: {defects}; nothing was entered", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What would be wrong with it.
        defects: String,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else writes it.
    #[error(
        "{}: another process has had the folder locked for {PRINCIPALS_LOCK:?}; nothing was entered: end it, or try again once it has ended",
        .path.display()
    )]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// Nobody of that name.
    #[error("{0} does not stand in the file: florin principal add enters it")]
    Nobody(String),
    /// No key of that name.
    #[error("the file has no key {0}: enter one as [[key]] with kid and secret")]
    NoKey(String),
    /// A token that would hardly end.
    #[error("--for: expected 1 to {} seconds", SIGNED_TOKEN_MAX.as_secs())]
    TooLong,
}

fn right(text: &str) -> Result<&'static str, String> {
    let names = Rights::NAMED.map(|(name, _)| name);
    let expected = || format!("expected {}", names.join(", "));
    names.into_iter().find(|name| *name == text).ok_or_else(expected)
}

/// In the place of rights, where there are to be none.
const NONE: &str = "none";

fn right_or_none(text: &str) -> Result<&'static str, String> {
    if text == NONE { Ok(NONE) } else { right(text).map_err(|expected| format!("{expected}, or none")) }
}

/// Runs `florin principal`.
pub(super) fn run(command: &PrincipalCommand) -> Result<(), PrincipalError> {
    match command {
        PrincipalCommand::Add { name, may, certificate, file } => {
            add(name, may, certificate.as_deref(), &file.path)
        }
        PrincipalCommand::List { file } => list(&file.path),
        PrincipalCommand::Check { file } => check(&file.path),
        PrincipalCommand::Sign { name, kid, may, seconds, file } => {
            sign_token(name, kid, may, Duration::from_secs(*seconds), &file.path)
        }
    }
}

/// By which a principal is known: a certificate's name, or a token that is made here.
enum Proof<'a> {
    Certificate(&'a str),
    Token(Token),
}

impl Proof<'_> {
    /// The list of the file in which it stands, and how it stands there.
    fn entry(&self) -> (&'static str, String) {
        match self {
            Proof::Certificate(name) => ("certificates", toml::Value::from(*name).to_string()),
            Proof::Token(token) => ("tokens", format!("\"{}\"", token.hash())),
        }
    }
}

fn add(name: &str, may: &[&str], certificate: Option<&str>, path: &Path) -> Result<(), PrincipalError> {
    let failed = |source| PrincipalError::Write { path: path.to_owned(), source };
    let file = &followed(path).map_err(failed)?;
    // Whatever is said names the file as whoever gave it did.
    let _alone = alone(file, path)?;
    let text = match Principals::read_with_text(path) {
        Ok((_, text)) => text,
        Err(FileError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            String::new()
        }
        Err(error) => return Err(error.into()),
    };
    let proof = certificate.map_or_else(|| Proof::Token(Token::random()), Proof::Certificate);
    let (list, proved) = proof.entry();
    let entered = match place_of(&text, name, list) {
        Some(_) if !may.is_empty() => return Err(PrincipalError::HasRights(name.to_owned())),
        Some(Place::InList(at)) => format!("{}{proved}, {}", &text[..at], &text[at..]),
        Some(Place::BesideName(at)) => format!("{}{list} = [{proved}]\n{}", &text[..at], &text[at..]),
        None if may.is_empty() => return Err(PrincipalError::NoRights(name.to_owned())),
        None if may.len() > 1 && may.contains(&NONE) => return Err(PrincipalError::NoneAndRights),
        None => {
            let rights = may.iter().filter(|right| **right != NONE);
            let may: Vec<String> = rights.map(|right| format!("\"{right}\"")).collect();
            let gap = if text.is_empty() || text.ends_with("\n\n") { "" } else { "\n" };
            let entry = format!(
                "[[principal]]\nname = \"{name}\"\nmay = [{}]\n{list} = [{proved}]\n",
                may.join(", ")
            );
            format!("{text}{gap}{entry}")
        }
    };
    Principals::parse(&entered).map_err(|defects| PrincipalError::Unusable {
        path: path.to_owned(),
        defects: defects.to_string(),
    })?;
    replace(file, &entered).map_err(failed)?;
    let named = path.display();
    match proof {
        Proof::Certificate(_) => say(&format!("{name} stands in {named}, known by a certificate")),
        Proof::Token(token) => {
            say(token.reveal());
            eprintln!(
                "florin: {name} stands in {named}; this token is shown once: keep it where only its owner reads it"
            );
        }
    }
    Ok(())
}

/// Where a further proof of somebody's is entered.
enum Place {
    /// Behind the bracket of its list.
    InList(usize),
    /// Before the line of its name.
    BesideName(usize),
}

fn place_of(text: &str, name: &str, list: &str) -> Option<Place> {
    let table = DeTable::parse(text).ok()?;
    let principals = table.get_ref().get("principal")?.get_ref().as_array()?;
    let is_it =
        |table: &&DeTable<'_>| table.get("name").and_then(|value| value.get_ref().as_str()) == Some(name);
    let tables = principals.iter().filter_map(|entry| match entry.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    });
    let found = tables.into_iter().find(is_it)?;
    if let Some(list) = found.get(list) {
        return Some(Place::InList(list.span().start + 1));
    }
    let line = text[..found.get("name")?.span().start].rfind('\n').map_or(0, |end| end + 1);
    Some(Place::BesideName(line))
}

/// The file that a link leads to: what is put in the place of a link would leave that one as it was.
fn followed(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            Ok(path.to_owned())
        }
        found => found,
    }
}

/// Nobody else's `florin principal add` changes the file as long as this is held: of two that had read it, the second put its text in
/// the place of the first's, whose token had been printed by then. The file itself is replaced, so its folder is what is locked.
fn alone(file: &Path, path: &Path) -> Result<File, PrincipalError> {
    let failed = |source| PrincipalError::Write { path: path.to_owned(), source };
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).map_err(failed)?;
    let end = Instant::now() + PRINCIPALS_LOCK;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => thread::sleep(PRINCIPALS_LOCK_LOOK),
            Err(Errno::WOULDBLOCK) => return Err(PrincipalError::Busy { path: path.to_owned() }),
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Puts another text in the file's place, with the same owner and mode; a node reads the one or the other.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let before = fs::metadata(path).ok();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mode = before.as_ref().map_or(0o640, |before| before.mode() & 0o777);
    let mut file = File::options().write(true).create_new(true).mode(mode).open(&beside)?;
    let written =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| match &before {
            Some(before) => fchown(&file, Some(before.uid()), Some(before.gid())),
            None => Ok(()),
        });
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        // What is left of it is no file of principals.
        let _ = fs::remove_file(&beside);
    })
}

fn names(rights: Rights) -> String {
    let held = Rights::NAMED.iter().filter(|(_, right)| rights.hold(*right)).map(|(name, _)| *name);
    let held: Vec<_> = held.collect();
    if held.is_empty() { "nothing".to_owned() } else { held.join(",") }
}

fn list(path: &Path) -> Result<(), PrincipalError> {
    let Principals { anonymous, keys, entries } = Principals::read(path)?;
    let columns = [
        ("name", Align::Left),
        ("may", Align::Left),
        ("tokens", Align::Right),
        ("certificates", Align::Left),
        ("uids", Align::Left),
        ("gids", Align::Left),
        ("requests/s", Align::Right),
        ("connections", Align::Right),
        ("in flight", Align::Right),
    ];
    let mut table = Table::new(&columns);
    let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let bound = |bound: u32| if bound == 0 { "-".to_owned() } else { bound.to_string() };
    for entry in &entries {
        table.row([
            entry.name.clone(),
            names(entry.may),
            entry.tokens.len().to_string(),
            entry.certificates.join(","),
            numbers(&entry.uids),
            numbers(&entry.gids),
            bound(entry.bounds.requests_per_s),
            bound(entry.bounds.connections),
            bound(entry.bounds.in_flight),
        ]);
    }
    let kids: Vec<_> = keys.iter().map(|(kid, source)| format!("{kid} ({source})")).collect();
    let keys = if kids.is_empty() { "none".to_owned() } else { kids.join(", ") };
    say(&format!(
        "{}\n\nwho proves nothing may do {}; keys that sign tokens: {keys}",
        table.render(),
        names(anonymous)
    ));
    Ok(())
}

fn check(path: &Path) -> Result<(), PrincipalError> {
    let callers = Callers::open(path)?;
    say(&format!("{}: {} principals, and they can be used", path.display(), callers.current().all().count()));
    Ok(())
}

fn sign_token(
    name: &str,
    kid: &str,
    may: &[&str],
    time: Duration,
    path: &Path,
) -> Result<(), PrincipalError> {
    if time.is_zero() || time > SIGNED_TOKEN_MAX {
        return Err(PrincipalError::TooLong);
    }
    let directory = Callers::open(path)?.current();
    let granted = granted(&directory, name, may)?;
    let key = directory.keys().iter().find(|key| key.kid() == kid);
    let key = key.ok_or_else(|| PrincipalError::NoKey(kid.to_owned()))?;
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + time;
    say(sign(key, name, granted, end.as_secs() as i64).reveal_text().unwrap_or_default());
    Ok(())
}

fn granted(directory: &Directory, name: &str, may: &[&str]) -> Result<Rights, PrincipalError> {
    let found = directory.all().find(|(entry, _)| entry.name == name);
    let (entry, _) = found.ok_or_else(|| PrincipalError::Nobody(name.to_owned()))?;
    let named = Rights::NAMED.iter().filter(|(name, _)| may.contains(name));
    let asked = named.fold(Rights::NONE, |all, (_, right)| all.and(*right));
    Ok(if may.is_empty() { entry.may } else { entry.may.within(asked) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_entered_once_and_gets_further_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("principals.toml");
        assert!(matches!(add("a", &[], None, &path), Err(PrincipalError::NoRights(_))));
        add("a", &["balance"], None, &path).unwrap();
        add("b", &["balance", "write"], None, &path).unwrap();
        add("a", &[], None, &path).unwrap();
        assert!(matches!(add("a", &["write"], None, &path), Err(PrincipalError::HasRights(_))));
        assert!(matches!(add("c d", &["write"], None, &path), Err(PrincipalError::Unusable { .. })));
        add("a", &[], Some("spiffe://x/a"), &path).unwrap();
        add("a", &[], Some("a.example.com"), &path).unwrap();
        add("c", &["metrics"], Some("spiffe://x/c"), &path).unwrap();
        assert!(matches!(add("d", &[NONE, "write"], None, &path), Err(PrincipalError::NoneAndRights)));
        add("d", &[NONE], None, &path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("name = \"d\"\nmay = []\n"));
        // One proof is one principal's, and no name breaks out of its quotes.
        assert!(matches!(add("b", &[], Some("spiffe://x/a"), &path), Err(PrincipalError::Unusable { .. })));
        add("b", &[], Some("x\", \"spiffe://x/y"), &path).unwrap();
        let entries = Principals::read(&path).unwrap().entries;
        let found = entries.iter().map(|entry| (&*entry.name, entry.tokens.len(), entry.certificates.len()));
        assert_eq!(found.collect::<Vec<_>>(), [("a", 2, 2), ("b", 1, 1), ("c", 0, 1), ("d", 1, 0)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// Of twenty who were entered at once one stood in the file, and the others' tokens had been handed out.
    #[test]
    fn who_is_entered_at_once_with_others_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("principals.toml");
        thread::scope(|scope| {
            for number in 0..20 {
                let path = &path;
                scope.spawn(move || add(&format!("p{number}"), &["balance"], None, path).unwrap());
            }
        });
        assert_eq!(Principals::read(&path).unwrap().entries.len(), 20);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// A link was replaced by a file, so that what it led to, which others read too, stayed as it was; a FIFO held the command for ever.
    #[test]
    fn a_link_leads_to_the_file_and_what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("principals.toml"), folder.path().join("link"));
        add("a", &["balance"], None, &path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        add("b", &["balance"], None, &link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(Principals::read(&path).unwrap().entries.len(), 2);
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert!(matches!(add("a", &["balance"], None, &fifo), Err(PrincipalError::File(_))));
        let nowhere = folder.path().join("nowhere");
        std::os::unix::fs::symlink(folder.path().join("gone"), &nowhere).unwrap();
        assert!(matches!(add("a", &["balance"], None, &nowhere), Err(PrincipalError::Write { .. })));
    }

    /// A comment, an order and a spelling that somebody has chosen stay.
    #[test]
    fn the_rest_of_the_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("principals.toml");
        let text = "# ours\n[[principal]] # the first\nmay = []\nname = 'a'\nuids = [\n  7,\n]\n";
        fs::write(&path, text).unwrap();
        add("a", &[], None, &path).unwrap();
        let now = fs::read_to_string(&path).unwrap();
        let without: String =
            now.lines().filter(|line| !line.starts_with("tokens")).map(|line| format!("{line}\n")).collect();
        assert_eq!(without, text);
        assert_eq!(Principals::read(&path).unwrap().entries[0].tokens.len(), 1);
    }
}
