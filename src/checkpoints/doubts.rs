//! No checkpoint that has a name holds what the audit has found wrong.
//!
//! Any that was made before may. They are removed before the audit tells anybody, and none gets a name until the account is quarantined:
//! whenever the node ends, what was told does not come back. Whoever starts without a checkpoint reads all from the ledger. That takes
//! longer, and is right.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::maker::MakeError;
use super::{CheckpointStatus, Store};

/// Shared between the audit, which doubts, and the maker.
#[derive(Debug)]
pub struct Doubts {
    store: Arc<Store>,
    status: Arc<CheckpointStatus>,
    /// Locked while names are given and taken.
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    /// How often the audit has doubted.
    raised: u64,
    /// How many of those are over.
    settled: u64,
    /// The newest that is to be removed, and could not be yet.
    left: Option<u64>,
    /// Which was told.
    has_failed: bool,
    /// What has lost its name takes room still.
    is_cluttered: bool,
    /// None was made since the audit has found something.
    is_one_owed: bool,
}

impl Doubts {
    /// Nothing has been found yet.
    pub fn new(store: Arc<Store>, status: Arc<CheckpointStatus>) -> Doubts {
        Doubts { store, status, standing: Mutex::default() }
    }

    /// Something is about to be told: all checkpoints that there are lose their names, and one in the making gets none.
    pub fn raise(&self) {
        let mut standing = self.lock();
        standing.raised += 1;
        standing.left = Some(self.store.newest());
        self.status.note_none();
        self.unname_left(&mut standing);
    }

    /// It is quarantined: what is made from now on knows of it.
    pub fn settle(&self) {
        let mut standing = self.lock();
        standing.settled += 1;
        standing.is_one_owed = true;
    }

    /// What whoever begins a checkpoint hands to [`Doubts::unless_raised`]; nothing while something is not settled.
    pub(super) fn begin(&self) -> Result<u64, MakeError> {
        let standing = self.lock();
        if standing.raised == standing.settled { Ok(standing.raised) } else { Err(MakeError::Doubted) }
    }

    /// Does something for a checkpoint that was begun then, and which nobody can doubt meanwhile.
    pub(super) fn unless_raised<T>(&self, then: u64, what: impl FnOnce() -> T) -> Result<T, MakeError> {
        self.still(then).map(|_standing| what())
    }

    /// The same, which gives it its name.
    pub(super) fn publish<T>(
        &self,
        then: u64,
        publish: impl FnOnce() -> io::Result<T>,
    ) -> Result<io::Result<T>, MakeError> {
        let mut standing = self.still(then)?;
        let published = publish();
        standing.is_one_owed &= published.is_err();
        Ok(published)
    }

    /// Removes what is left to be. What takes long is done while nobody waits for it.
    pub(super) fn remove(&self) {
        let is_cluttered = {
            let mut standing = self.lock();
            self.unname_left(&mut standing);
            std::mem::take(&mut standing.is_cluttered)
        };
        if is_cluttered {
            self.store.clear();
        }
    }

    /// Whether none was made since the audit has found something.
    pub(super) fn is_one_owed(&self) -> bool {
        self.lock().is_one_owed
    }

    fn unname_left(&self, standing: &mut Standing) {
        let Some(newest) = standing.left else { return };
        standing.is_cluttered = true;
        match self.store.unname_up_to(newest) {
            Ok(()) => (standing.left, standing.has_failed) = (None, false),
            Err(_) if standing.has_failed => {}
            Err(error) => {
                standing.has_failed = true;
                self.status.note_failure();
                tracing::error!(
                    "cannot remove the checkpoints from {}: {error}; a restart may bring back what the audit has found wrong",
                    self.store.folder().display()
                );
            }
        }
    }

    /// Locked, where nothing was doubted since then.
    fn still(&self, then: u64) -> Result<MutexGuard<'_, Standing>, MakeError> {
        let standing = self.lock();
        if standing.raised == then { Ok(standing) } else { Err(MakeError::Doubted) }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::checkpoints::store::tests::manifest;

    fn publish(store: &Store) -> PathBuf {
        store.begin().unwrap().publish(&manifest()).unwrap()
    }

    #[test]
    fn what_has_come_into_doubt_is_removed_and_what_was_made_since_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let [first, second] = [(); 2].map(|()| publish(&store));
        let status = Arc::new(CheckpointStatus::default());
        let doubts = Doubts::new(Arc::clone(&store), Arc::clone(&status));
        let is_left = || doubts.lock().left.is_some();
        doubts.remove();
        let there = || store.checkpoints().unwrap();
        assert_eq!((there(), doubts.is_one_owed()), (vec![second.clone(), first], false));

        // Something stands where the second would go to.
        let name = second.file_name().unwrap().to_string_lossy();
        let obstacle = folder.path().join(format!(".making-to-be-removed-{name}"));
        fs::write(&obstacle, "something").unwrap();
        doubts.raise();
        doubts.settle();
        for _ in 0..3 {
            doubts.remove();
            assert_eq!((there(), doubts.is_one_owed()), (vec![second.clone()], true));
            assert_eq!(status.failures(), 1, "it is told once");
        }
        let third = publish(&store);
        fs::remove_file(obstacle).unwrap();
        doubts.remove();
        assert_eq!((there(), is_left()), (vec![third], false));
        doubts.raise();
        assert_eq!((there(), is_left()), (vec![], false));
        doubts.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the lock");
    }

    #[test]
    fn nothing_gets_a_name_that_was_begun_before_a_doubt_was_settled() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let doubts = Doubts::new(Arc::clone(&store), Arc::default());
        let begun = doubts.begin().unwrap();
        assert!(doubts.publish(begun, || Ok(())).is_ok());
        doubts.raise();
        let is_refused = |begun| {
            let published = doubts.publish(begun, || -> io::Result<()> { panic!("it was begun before") });
            let done = doubts.unless_raised(begun, || panic!("it was begun before"));
            matches!((published, done), (Err(MakeError::Doubted), Err(MakeError::Doubted)))
        };
        assert!(is_refused(begun));
        assert!(matches!(doubts.begin(), Err(MakeError::Doubted)), "the account passes for whole still");
        doubts.settle();
        assert!(is_refused(begun) && doubts.is_one_owed());
        let begun = doubts.begin().unwrap();
        let failed = doubts.publish(begun, || -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) });
        assert!(matches!(failed, Ok(Err(_))) && doubts.is_one_owed(), "that was none");
        assert!(matches!(doubts.publish(begun, || Ok(())), Ok(Ok(()))) && !doubts.is_one_owed());
    }
}
