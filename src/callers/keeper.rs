//! Keeps the directory that holds: makes it from the file, hands it to all shards, and makes another when it is told to.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::directory::Directory;
use super::file::{FileError, Principals};
use super::secret::{SecretError, SecretSource};
use super::token::SigningKey;
use crate::limits::{KEY_BYTES_MIN, PRINCIPAL_NUMBERS_MAX};
use crate::mesh::{Receiver, Sender};
use crate::shard::quota::Usage;
use crate::shard::{self, CallersLink, CallersPort, Refused, callers_link};

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The secret of a key.
    #[error("the key {kid}: {source}")]
    Key {
        /// Which.
        kid: String,
        /// Why.
        source: SecretError,
    },
    /// A key that can be guessed.
    #[error(
        "the key {kid}: expected at least {KEY_BYTES_MIN} bytes of chance (head -c 32 /dev/urandom | base64)"
    )]
    ShortKey {
        /// Which.
        kid: String,
    },
    /// More principals have come and gone than there are numbers for.
    #[error(
        "more than {PRINCIPAL_NUMBERS_MAX} principals have had a name since this node started: restart it"
    )]
    TooManyNames,
    /// A shard has not taken the directories before this one.
    #[error("a shard has not taken over the principals that were read before: try again in a moment")]
    Busy,
}

/// The callers of a node, as its file of principals has them. Clones are of the same.
#[derive(Clone)]
pub struct Callers(Arc<Kept>);

struct Kept {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    current: Arc<Directory>,
    /// By name, of everybody who ever stood in the file.
    known: Numbers,
    shards: Vec<Sender<Arc<dyn shard::Directory>>>,
    /// What they refuse, by shard, until somebody writes it down.
    refusals: Vec<Receiver<Refused>>,
}

/// A name's number and what it has used, for as long as the node runs.
#[derive(Default)]
struct Numbers(HashMap<String, (u16, Arc<Usage>)>);

impl Numbers {
    fn of(&mut self, name: &str) -> Result<(u16, Arc<Usage>), CallersError> {
        let next = self.0.len();
        if !self.0.contains_key(name) && next >= PRINCIPAL_NUMBERS_MAX {
            return Err(CallersError::TooManyNames);
        }
        let (number, usage) = self.0.entry(name.to_owned()).or_insert_with(|| (next as u16, Arc::default()));
        Ok((*number, Arc::clone(usage)))
    }
}

impl Callers {
    /// Reads the file.
    ///
    /// # Errors
    /// All that is wrong with it, or with a key that it names.
    pub fn open(path: &Path) -> Result<Callers, CallersError> {
        let mut known = Numbers::default();
        let current = Arc::new(read(path, &mut known)?);
        let state = Mutex::new(State { current, known, shards: Vec::new(), refusals: Vec::new() });
        Ok(Callers(Arc::new(Kept { path: path.to_owned(), state })))
    }

    /// Where they stand.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The directory that holds now.
    pub fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.state().current)
    }

    /// One more shard, which has the directory of now and gets those that follow.
    pub fn link(&self) -> CallersLink {
        let mut state = self.state();
        let (CallersPort { news, refusals }, link) = callers_link(Arc::clone(&state.current) as _);
        state.shards.push(news);
        state.refusals.push(refusals);
        link
    }

    /// What the shards refuse, by shard; for one who writes it down.
    pub fn take_refusals(&self) -> Vec<Receiver<Refused>> {
        std::mem::take(&mut self.state().refusals)
    }

    /// Reads the file again: from the shards' next turns on that holds, for connections that are there too. The shards are to be
    /// woken.
    ///
    /// # Errors
    /// As [`Callers::open`]; nothing has changed then.
    pub fn reload(&self) -> Result<(), CallersError> {
        let mut state = self.state();
        let state = &mut *state;
        let directory = Arc::new(read(&self.0.path, &mut state.known)?);
        if state.shards.iter_mut().any(|news| news.free() == 0) {
            return Err(CallersError::Busy);
        }
        for news in &mut state.shards {
            let is_sent = news.push(Arc::clone(&directory) as _).is_ok();
            assert!(is_sent, "nobody else sends, and there was room");
        }
        state.current = directory;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({})", self.0.path.display())
    }
}

fn read(path: &Path, known: &mut Numbers) -> Result<Directory, CallersError> {
    let Principals { anonymous, keys, entries } = Principals::read(path)?;
    let keys = keys.iter().map(|(kid, source)| key(kid, source)).collect::<Result<_, _>>()?;
    let numbered = entries.into_iter().map(|entry| {
        let (number, usage) = known.of(&entry.name)?;
        Ok((entry, number, usage))
    });
    Ok(Directory::new(anonymous, keys, numbered.collect::<Result<Vec<_>, CallersError>>()?))
}

fn key(kid: &str, source: &SecretSource) -> Result<SigningKey, CallersError> {
    let kid = kid.to_owned();
    let secret = source.read().map_err(|source| CallersError::Key { kid: kid.clone(), source })?;
    SigningKey::new(&kid, &secret).ok_or(CallersError::ShortKey { kid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::TokenHash;
    use crate::shard::Proof;

    fn with(names: &[&str]) -> String {
        let entry = |name: &&str| {
            format!(
                "[[principal]]\nname = \"{name}\"\nmay = []\ntokens = [\"{}\"]\n",
                TokenHash::of(name.as_bytes())
            )
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn a_name_keeps_its_number_and_a_mistake_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("principals.toml");
        std::fs::write(&path, with(&["a", "b"])).unwrap();
        let callers = Callers::open(&path).unwrap();
        let number = |name: &str| callers.current().principal(Proof::Token(name.as_bytes()), 0).number();
        assert_eq!([number("a"), number("b"), number("c")], [Some(0), Some(1), None]);
        std::fs::write(&path, with(&["c", "b"])).unwrap();
        callers.reload().unwrap();
        assert_eq!([number("a"), number("b"), number("c")], [None, Some(1), Some(2)]);
        std::fs::write(&path, with(&["c", "b", "a", "d"]) + "planted = 1").unwrap();
        assert!(!callers.reload().unwrap_err().to_string().contains("planted"));
        assert_eq!(number("a"), None);
        std::fs::write(&path, with(&["a"])).unwrap();
        callers.reload().unwrap();
        assert_eq!([number("a"), number("b")], [Some(0), None]);
    }

    #[test]
    fn a_key_that_is_missing_or_short_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("principals.toml"), folder.path().join("key"));
        std::fs::write(&path, format!("[[key]]\nkid = \"k1\"\nsecret = \"file:{}\"\n", key.display()))
            .unwrap();
        let said = || Callers::open(&path).unwrap_err().to_string();
        assert!(said().contains("k1"), "{}", said());
        std::fs::write(&key, "planted").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert!(said().contains("k1") && said().contains("32") && !said().contains("planted"), "{}", said());
    }
}
