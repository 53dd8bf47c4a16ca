//! The feed's loop: ask the ledger what is new, route it, wait until it is applied, publish the watermark.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use florin_schema::{UserId, Version};

use super::link::{Router, Stopped};
use super::status::{FeedState, FeedStatus};
use super::stripes;
use crate::clock::Clock;
use crate::shard::{FeedEvent, FeedRequest};
use crate::store::{LedgerRow, Reader, Seq, StoreError, Unreadable};

/// How often the ledger is asked: a tenth of the 50 ms in which a commit must be visible, for about 1 % of one
/// CPU (measured: 50 µs a round, of which the file's locks and its identity are 7 system calls).
const POLL: Duration = Duration::from_millis(5);
/// How long after a failure the ledger is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Rows read at once while following: their read transaction ends before any shard is waited for.
const BATCH_ROWS: usize = 4_096;
/// Places behind from which reading in parallel is worth its threads.
const PARALLEL_MIN: u64 = 65_536;
/// Rows routed between two wake-ups of the shards.
const WAKE_ROWS: usize = 512;
/// Unreadable rows that are logged one by one.
const UNREADABLE_LOGGED_MAX: u64 = 100;

/// Why a round ended early.
enum Interrupt {
    Stopped,
    Ledger(StoreError),
    /// The file is not the one that was loaded: what the shards hold may be wrong, so nothing is added to it.
    Replaced(String),
}

impl From<StoreError> for Interrupt {
    fn from(error: StoreError) -> Interrupt {
        Interrupt::Ledger(error)
    }
}

impl From<Stopped> for Interrupt {
    fn from(Stopped: Stopped) -> Interrupt {
        Interrupt::Stopped
    }
}

pub(super) struct Follower {
    reader: Reader,
    file: FileId,
    clock: Clock,
    router: Router,
    status: Arc<FeedStatus>,
    /// All rows up to here have been routed.
    position: Seq,
    /// The id of the row at `position`: it must stay there.
    anchor: Option<String>,
    loading: Option<Loading>,
    is_failing: bool,
}

/// The first time through the ledger.
struct Loading {
    total: u64,
}

impl Follower {
    pub fn new(
        reader: Reader,
        clock: Clock,
        router: Router,
        status: Arc<FeedStatus>,
    ) -> Result<Follower, StoreError> {
        let file = FileId::of(reader.path())?;
        Ok(Follower {
            reader,
            file,
            clock,
            router,
            status,
            position: Seq(i64::MIN),
            anchor: None,
            loading: Some(Loading { total: 0 }),
            is_failing: false,
        })
    }

    pub fn run(mut self) {
        loop {
            let result = self.round();
            let paused = match result {
                Ok(()) => self.router.pause(POLL),
                Err(Interrupt::Stopped) => return,
                Err(Interrupt::Ledger(error)) => {
                    self.fail(error.to_string());
                    self.router.pause(RETRY).inspect(|()| self.reopen())
                }
                Err(Interrupt::Replaced(reason)) => {
                    self.fail(reason);
                    return self.wait_for_the_end();
                }
            };
            if paused == Err(Stopped) {
                return;
            }
        }
    }

    fn round(&mut self) -> Result<(), Interrupt> {
        // Before the ledger is asked: whatever was committed by now is in its answer.
        let taken = self.clock.now();
        self.check_file()?;
        if let Some(last) = self.reader.last()?
            && self.position < last
        {
            self.catch_up(last)?;
            self.anchor = self.reader.transaction_id_at(self.position)?;
            self.check_file()?;
        }
        self.router.settle()?;
        self.router.publish(taken);
        self.recover();
        while let Some(request) = self.router.next_request() {
            self.answer(request)?;
        }
        self.router.wake();
        Ok(())
    }

    /// Routes everything up to `last`.
    fn catch_up(&mut self, last: Seq) -> Result<(), Interrupt> {
        if self.position == Seq(i64::MIN)
            && let Some(Seq(first)) = self.reader.first()?
        {
            self.position = Seq(first.saturating_sub(1));
        }
        let behind = last.0.abs_diff(self.position.0);
        if let Some(loading) = &mut self.loading {
            loading.total = self.status.rows() + behind;
        }
        if behind >= PARALLEL_MIN {
            let (ledger, after) = (self.reader.path().to_owned(), self.position);
            let read = stripes::read(&ledger, after, last, |rows, end| match self.route(&rows, end) {
                Ok(()) => ControlFlow::Continue(()),
                Err(interrupt) => ControlFlow::Break(interrupt),
            })?;
            return if let ControlFlow::Break(interrupt) = read { Err(interrupt) } else { Ok(()) };
        }
        let mut rows = Vec::new();
        while self.position < last {
            rows.clear();
            self.reader.range(self.position, last, BATCH_ROWS, &mut rows)?;
            let end = if rows.len() < BATCH_ROWS { last } else { rows[BATCH_ROWS - 1].seq };
            self.route(&rows, end)?;
        }
        Ok(())
    }

    /// Sends rows to their shards; all rows up to `end` have been then.
    fn route(&mut self, rows: &[LedgerRow], end: Seq) -> Result<(), Interrupt> {
        for some in rows.chunks(WAKE_ROWS) {
            for row in some {
                match &row.content {
                    Ok(transaction) => self.router.send(transaction.user_id, FeedEvent::Row(*transaction))?,
                    Err(unreadable) => self.quarantine(unreadable)?,
                }
            }
            self.router.wake();
        }
        self.position = end;
        self.status.add_rows(rows.len());
        if let Some(Loading { total }) = self.loading {
            self.status.set(FeedState::Loading { done: self.status.rows(), total });
        }
        Ok(())
    }

    fn quarantine(&mut self, unreadable: &Unreadable) -> Result<(), Stopped> {
        let count = self.status.add_unreadable();
        if count <= UNREADABLE_LOGGED_MAX {
            let user = unreadable.user_id.map_or_else(|| "nobody known".to_owned(), |user| user.to_string());
            tracing::error!(
                seq = unreadable.seq.0,
                user,
                "the ledger holds what is no transaction: {unreadable}"
            );
        }
        if count == UNREADABLE_LOGGED_MAX {
            tracing::error!("further rows that are no transactions are only counted");
        }
        if let Some(user) = unreadable.user_id {
            self.router.send(user, FeedEvent::Unreadable(user))?;
        }
        Ok(())
    }

    fn answer(&mut self, request: FeedRequest) -> Result<(), Stopped> {
        match request {
            FeedRequest::Reread(user) => self.reread(user),
            FeedRequest::Defect { user_id, version, defect } => {
                let id = self.reader.transaction_id_of(user_id, version).ok().flatten();
                let id = id.unwrap_or_else(|| "unknown".to_owned());
                tracing::error!(
                    user = user_id.get(),
                    version = version.0,
                    transaction_id = id,
                    "quarantined: {defect}"
                );
                Ok(())
            }
        }
    }

    /// Sends an account's whole history, page by page, so that a slow shard holds no read transaction open.
    fn reread(&mut self, user: UserId) -> Result<(), Stopped> {
        self.status.add_reread();
        tracing::warn!(user = user.get(), "the account's history had a gap: it is read again");
        self.router.send(user, FeedEvent::RereadBegin(user))?;
        let mut rows = Vec::new();
        let mut after: Option<Version> = None;
        loop {
            self.read_page(user, after, &mut rows)?;
            for row in &rows {
                let event = match &row.content {
                    Ok(transaction) => FeedEvent::Row(*transaction),
                    Err(_) => FeedEvent::Unreadable(user),
                };
                self.router.send(user, event)?;
            }
            let last = rows.iter().rev().find_map(|row| row.content.as_ref().ok());
            match last {
                Some(last) if rows.len() == BATCH_ROWS => after = Some(last.version),
                // A page without a single readable row leads nowhere; the account is quarantined already.
                _ => break,
            }
        }
        self.router.send(user, FeedEvent::RereadEnd(user))
    }

    /// Tries until it succeeds: a history that was begun must be ended before anything else is sent.
    fn read_page(
        &mut self,
        user: UserId,
        after: Option<Version>,
        rows: &mut Vec<LedgerRow>,
    ) -> Result<(), Stopped> {
        rows.clear();
        while let Err(error) = self.reader.account(user, after, BATCH_ROWS, rows) {
            self.fail(error.to_string());
            self.router.pause(RETRY)?;
            self.reopen();
            rows.clear();
        }
        Ok(())
    }

    fn check_file(&self) -> Result<(), Interrupt> {
        let path = self.reader.path();
        let replaced = |what: &str| {
            Interrupt::Replaced(format!(
                "{what} while it was being followed: {}; restart florin to load what is there now",
                path.display()
            ))
        };
        if FileId::of(path).ok() != Some(self.file) {
            return Err(replaced("the ledger's file was removed or replaced"));
        }
        if self.anchor.is_some() && self.reader.transaction_id_at(self.position)? != self.anchor {
            return Err(replaced("the ledger lost rows that it had"));
        }
        Ok(())
    }

    fn fail(&mut self, reason: String) {
        let since = match self.status.state() {
            FeedState::Failing { reason: same, .. } if same == reason => return,
            FeedState::Failing { since, .. } => since,
            _ => SystemTime::now(),
        };
        tracing::error!("the feed stands still: {reason}");
        self.is_failing = true;
        self.status.set(FeedState::Failing { since, reason });
    }

    /// All is well: says so where it was not.
    fn recover(&mut self) {
        if self.loading.take().is_some() {
            tracing::info!(rows = self.status.rows(), "the ledger is loaded; following it");
            self.status.set(FeedState::Following);
        } else if self.is_failing {
            tracing::info!("the feed follows the ledger again");
            self.status.set(FeedState::Following);
        }
        self.is_failing = false;
    }

    /// A connection that has failed may not work again; where no new one can be had, the next round says why.
    fn reopen(&mut self) {
        let path = self.reader.path();
        if FileId::of(path).ok() == Some(self.file)
            && let Ok(reader) = Reader::open(path)
        {
            self.reader = reader;
        }
    }

    fn wait_for_the_end(self) {
        while self.router.pause(Duration::MAX).is_ok() {}
    }
}

/// Which file a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> Result<FileId, StoreError> {
        let found =
            fs::metadata(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(FileId { device: found.dev(), inode: found.ino() })
    }
}
