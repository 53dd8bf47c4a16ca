//! An SQLite file as a ledger to be followed.
//!
//! Much is read at once by several threads; what is left, and what is committed later, by one batch after the other. Each
//! batch is one read transaction that first looks whether the row after which it reads is still there.

use std::fmt;
use std::sync::Arc;

use florin_core::clock::Now;
use florin_core::follower::{Page, Progress, Row, Source, SourceError};
use florin_core::limits::{FEED_BATCH_ROWS, FEED_POLL_US};
use florin_schema::{LedgerId, UserId, Version};

use super::pages::Pages;
use super::stripes::{Stripe, Stripes, Taken};
use crate::limits::{PARALLEL_ROWS_MIN, STRIPES_LOOK_US};
use crate::{Followed, LedgerFile, Place, Reader, SameFile, Seq, SqliteError};

/// See the module.
pub struct SqliteSource {
    file: Arc<LedgerFile>,
    reader: Reader,
    /// What was read and handed over.
    place: Option<Place>,
    /// Where loading began and will end, for saying how far it is.
    span: Option<(Seq, Seq)>,
    stripes: Option<Stripes>,
    pages: Pages,
    /// The connection may not work any more.
    has_failed: bool,
}

impl SqliteSource {
    /// Opens a connection of its own to the ledger.
    pub fn open(file: &Arc<LedgerFile>) -> Result<SqliteSource, SqliteError> {
        let reader = Reader::open(file.path())?;
        let pages = Pages::new(file);
        let file = Arc::clone(file);
        Ok(SqliteSource { file, reader, place: None, span: None, stripes: None, pages, has_failed: false })
    }

    /// In thousandths, by where the rows lie.
    fn loaded(&self) -> Option<u16> {
        let ((Seq(first), Seq(last)), place) = (self.span?, self.place.as_ref()?);
        let whole = i128::from(last) - i128::from(first);
        let part = i128::from(place.seq.0) - i128::from(first);
        let thousandths = if whole > 0 { 1_000 * part / whole } else { 1_000 };
        Some(thousandths.clamp(0, 1_000) as u16)
    }

    fn take(&mut self, rows: &mut Vec<Row>) -> Result<Progress<Place>, SourceError> {
        let stripes = self.stripes.as_mut().expect("several threads read");
        let progress = match stripes.take().map_err(|error| self.failed(error))? {
            Taken::Stripe(Stripe { rows: read, last }) => {
                *rows = read;
                self.place = Some(last.clone());
                Progress {
                    position: Some(last),
                    whole: None,
                    complete_before: None,
                    again_us: 0,
                    loaded: self.loaded(),
                }
            }
            Taken::Awaited => Progress {
                position: None,
                whole: None,
                complete_before: None,
                again_us: STRIPES_LOOK_US,
                loaded: None,
            },
            Taken::End => {
                self.stripes = None;
                Progress { position: None, whole: None, complete_before: None, again_us: 0, loaded: None }
            }
        };
        Ok(progress)
    }

    /// The writer must hear of it too.
    fn lost(&self) -> SourceError {
        let reason = format!(
            "the ledger {} lost rows that it had; restart florin to load what is there now",
            self.reader.path().display()
        );
        self.file.condemn(&reason);
        SourceError::Replaced(reason)
    }

    fn failed(&mut self, error: SqliteError) -> SourceError {
        self.has_failed = true;
        SourceError::Unavailable(error.to_string())
    }
}

impl Source for SqliteSource {
    type Identity = SameFile;
    type Position = Place;

    fn identity(&mut self) -> Result<SameFile, SourceError> {
        Ok(self.file.check().map(|()| SameFile)?)
    }

    fn lasting_identity(&mut self) -> Result<String, SourceError> {
        let id = self.reader.ledger_id().map_err(|error| self.failed(error))?;
        if id == LedgerId::default() {
            return Err(SourceError::Unavailable(
                "the ledger has no first row that it can be told by".to_owned(),
            ));
        }
        Ok(format!("sqlite {id}"))
    }

    fn resume(&mut self, begin: &Place, end: &Place) -> Result<(), SourceError> {
        for place in [begin, end] {
            let found = self.reader.follow(Some(place), 0, &mut Vec::new());
            if found.map_err(|error| self.failed(error))? == Followed::Lost {
                return Err(SourceError::Replaced(format!(
                    "row {} is not there any more, or another one is: the ledger was restored, or is another",
                    place.seq.0
                )));
            }
        }
        if begin > end {
            return Err(SourceError::Replaced("the checkpoint ends before it begins".to_owned()));
        }
        Ok(())
    }

    fn load(&mut self, after: Option<&Place>) -> Result<(), SourceError> {
        self.stripes = None;
        if std::mem::take(&mut self.has_failed) {
            self.reader = Reader::open(self.reader.path()).map_err(|error| self.failed(error))?;
        }
        // Before anything is read in parallel, which looks at no row twice.
        if self.reader.follow(after, 0, &mut Vec::new()).map_err(|error| self.failed(error))?
            == Followed::Lost
        {
            return Err(self.lost());
        }
        self.place = after.cloned();
        let seq = after.map(|place| place.seq);
        let first = if let Some(seq) = seq { Ok(Some(seq)) } else { self.reader.first() };
        let span = first.and_then(|first| Ok(first.zip(self.reader.last()?)));
        self.span = span.map_err(|error| self.failed(error))?;
        let is_much = self.reader.nth(seq, PARALLEL_ROWS_MIN).map_err(|error| self.failed(error))?.is_some();
        if is_much {
            self.stripes = Stripes::begin(self.reader.path(), seq);
        }
        Ok(())
    }

    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<Place>, SourceError> {
        if self.stripes.is_some() {
            return self.take(rows);
        }
        let found = self.reader.follow(self.place.as_ref(), FEED_BATCH_ROWS, rows);
        match found.map_err(|error| self.failed(error))? {
            Followed::Rows(last) => {
                let is_all = rows.len() < FEED_BATCH_ROWS;
                if last.is_some() {
                    self.place.clone_from(&last);
                }
                Ok(Progress {
                    position: last,
                    // A transaction that reads to the end sees whole commits.
                    whole: is_all.then_some(rows.len()),
                    complete_before: is_all.then_some(now),
                    again_us: if is_all { FEED_POLL_US } else { 0 },
                    loaded: self.loaded(),
                })
            }
            Followed::Lost => Err(self.lost()),
        }
    }

    fn can_reread(&self) -> bool {
        true
    }

    fn reread(&mut self, user: UserId, after: Option<Version>) {
        self.pages.ask(user, after);
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        self.pages.take(rows)
    }

    fn transaction_id_of(&mut self, user: UserId, version: Version) -> Option<String> {
        self.reader.transaction_id_of(user, version).ok().flatten()
    }
}

impl fmt::Debug for SqliteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSource")
            .field("ledger", &self.reader.path())
            .field("place", &self.place)
            .finish()
    }
}
