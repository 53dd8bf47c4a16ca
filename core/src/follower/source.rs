//! What a ledger must be able to do to be followed. The file of SQLite is one; a replication stream or a log of partitions
//! are others, so nothing here assumes that a position is a number or that an answer is there at once.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use florin_schema::{UserId, Version};

use crate::clock::Now;
use crate::ledger::Transaction;

/// A row as it was found.
pub type Row = Result<Transaction, Box<Unreadable>>;

/// A row that no transaction can be made of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("row {place}: {column}: expected {expected}, found {found}")]
pub struct Unreadable {
    /// Where the ledger has it, in the ledger's own words.
    pub place: String,
    /// Whose account it concerns, if that at least is known.
    pub user_id: Option<UserId>,
    /// The first column that is wrong.
    pub column: &'static str,
    /// What a legal value is.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// How far a ledger has been read. It is one value: whatever a source needs to go on from there, and to see that it still
/// reads the same history, is in it. A checkpoint keeps it as bytes.
///
/// `partial_cmp` says which of two lies further on; a vector of offsets may have neither.
pub trait Position: Clone + PartialEq + PartialOrd + fmt::Debug {
    /// As bytes, for [`Position::decode`].
    fn encode(&self) -> Vec<u8>;
    /// `None` where the bytes are no position of this kind of source.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Why a source has nothing to give.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// It may pass by itself, and is tried again: the file is locked, the connection is gone. The sentence says what to do.
    #[error("{0}")]
    Unavailable(String),
    /// What is there is not what was followed: another ledger, or one that lost rows. Nothing of it is applied.
    #[error("{0}")]
    Replaced(String),
}

/// What [`Source::next`] has to give. Its rows, where there are any, are in the vector.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress<P> {
    /// Where the view stands once the rows are applied; none = where it stood.
    pub position: Option<P>,
    /// Behind how many of the rows a commit ends: the last place among them where one does. None = nowhere: they belong to one that
    /// goes on. Of a commit that has not ended, or of several at once, no account shows a part.
    pub whole: Option<usize>,
    /// Everything that was committed before this time lies up to that position; none = that is not known.
    pub complete_before: Option<Now>,
    /// When to ask again, µs from now; 0 = at once, for there is more.
    pub again_us: u64,
    /// How much of what there was to load has come, in thousandths; none = nothing is known of it.
    pub loaded: Option<u16>,
}

/// What [`Source::page`] has to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// It is still being read.
    Awaited,
    /// Its rows are in the vector; more may follow them.
    More,
    /// Its rows are in the vector: the last that the account had when they were read.
    Last,
}

/// A ledger that can be followed.
///
/// Every method returns soon: at most a few thousand rows are read in it, and what takes longer is done by threads of the
/// source's own, which wake the follower's. What a call had put into `rows` when it failed is thrown away. To deliver
/// something twice is always harmless: the accounts' versions tell.
pub trait Source {
    /// Which ledger it is; see [`Source::identity`].
    type Identity: Clone + PartialEq + fmt::Debug + fmt::Display;
    /// See [`Position`].
    type Position: Position;

    /// Which ledger this is at the moment.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] where it cannot be asked: that makes it no other ledger.
    fn identity(&mut self) -> Result<Self::Identity, SourceError>;

    /// From now on [`Source::next`] brings everything after `after`, or everything. This is also how a source is set
    /// going again after an error. It may read in parallel as long as it delivers each account's rows in their order.
    fn load(&mut self, after: Option<&Self::Position>) -> Result<(), SourceError>;

    /// Adds to `rows` what was committed next. Called at `now`, before anything is asked: what had been committed by then
    /// is in an answer that reaches the end.
    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<Self::Position>, SourceError>;

    /// Whether a thread of the source's has something, so that [`Source::next`] or [`Source::page`] is worth a call before the
    /// time that the last one gave.
    fn has_news(&mut self) -> bool {
        false
    }

    /// An account of which [`Source::next`] has found that rows were changed or removed in a ledger that only grows. Asked after
    /// it until there is none: the account is quarantined, and read again where that can be done.
    fn next_changed(&mut self) -> Option<UserId> {
        None
    }

    /// Which ledger this is, in words that are the same after a restart: a checkpoint keeps them.
    ///
    /// # Errors
    /// Where it cannot be asked, or is of a kind whose ledgers have none.
    fn lasting_identity(&mut self) -> Result<String, SourceError> {
        Err(SourceError::Unavailable("no checkpoint can be told to be of this kind of ledger".to_owned()))
    }

    /// Whether a checkpoint's accounts can be gone on with: this ledger still has everything up to `end`, the same as when they
    /// were taken from it, and [`Source::load`] can bring everything after `begin`.
    ///
    /// # Errors
    /// Why not.
    fn resume(&mut self, begin: &Self::Position, end: &Self::Position) -> Result<(), SourceError> {
        let _ = (begin, end);
        Err(SourceError::Unavailable(
            "this kind of ledger cannot be gone on with from a checkpoint".to_owned(),
        ))
    }

    /// How often everything was loaded, on top of what was there: accounts that were copied before and after the last time are not of
    /// one history.
    fn loads(&self) -> u64 {
        0
    }

    /// Every shard has applied everything up to `position`, or a checkpoint that begins there is on disk, where the node keeps
    /// any: a source that keeps rows for its readers may let them go.
    fn applied(&mut self, position: &Self::Position) {
        let _ = position;
    }

    /// Whether it can read an account's history again.
    fn can_reread(&self) -> bool {
        false
    }

    /// Begins to read a page of an account's rows in the order of their versions: those after `after`, or from the first.
    /// On a connection of its own; one page at a time.
    fn reread(&mut self, user: UserId, after: Option<Version>) {
        let _ = (user, after);
    }

    /// The page that was asked for last, into `rows`.
    ///
    /// # Errors
    /// The page has to be asked for again.
    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        let _ = rows;
        Ok(Page::Last)
    }

    /// The id of an account's row as the ledger spells it, for people; `None` where it cannot be had soon.
    fn transaction_id_of(&mut self, user: UserId, version: Version) -> Option<String> {
        let _ = (user, version);
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A ledger that does no more than it has to.
    struct Least;

    /// The only place of a ledger that is read from nowhere else.
    #[derive(Clone, PartialEq, PartialOrd, Debug)]
    pub struct Nowhere;

    impl Position for Nowhere {
        fn encode(&self) -> Vec<u8> {
            Vec::new()
        }

        fn decode(_: &[u8]) -> Option<Nowhere> {
            None
        }
    }

    impl Source for Least {
        type Identity = &'static str;
        type Position = Nowhere;

        fn identity(&mut self) -> Result<&'static str, SourceError> {
            Ok("least")
        }

        fn load(&mut self, _: Option<&Nowhere>) -> Result<(), SourceError> {
            Ok(())
        }

        fn next(&mut self, _: Now, _: &mut Vec<Row>) -> Result<Progress<Nowhere>, SourceError> {
            unreachable!("nobody asks")
        }
    }

    #[test]
    fn a_ledger_is_taken_for_no_more_than_it_was_made_to_do() {
        let (mut ledger, mut rows, user) = (Least, Vec::new(), UserId::new(7).unwrap());
        assert!(!ledger.has_news() && !ledger.can_reread());
        assert_eq!((ledger.next_changed(), ledger.loads()), (None, 0));
        assert!(ledger.lasting_identity().is_err() && ledger.resume(&Nowhere, &Nowhere).is_err());
        ledger.reread(user, None);
        assert_eq!((ledger.page(&mut rows), rows.len()), (Ok(Page::Last), 0));
        assert_eq!(ledger.transaction_id_of(user, Version(1)), None);
    }
}
