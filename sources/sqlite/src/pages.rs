//! Accounts' histories, read by a thread and on a connection of their own: however long one is, those who follow the
//! ledger do not wait for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Thread};

use florin_core::follower::{Page, Row, SourceError};
use florin_core::limits::FEED_BATCH_ROWS;
use florin_record::threads::{Vital, spawn_vital};
use florin_schema::{UserId, Version};

use crate::{LedgerFile, Reader, SqliteError};

/// Which page is asked for.
type Asked = (UserId, Option<Version>);
type Answer = Result<Vec<Row>, SourceError>;

/// The way to that thread. It ends when this is dropped.
pub(super) struct Pages {
    ledger: Arc<LedgerFile>,
    thread: Option<(SyncSender<Asked>, Receiver<Answer>)>,
    /// Why there is no page.
    refused: Option<SourceError>,
}

impl Pages {
    /// The thread starts with the first page. `ledger` is the one that is followed: no other is read.
    pub fn new(ledger: &Arc<LedgerFile>) -> Pages {
        Pages { ledger: Arc::clone(ledger), thread: None, refused: None }
    }

    /// Begins to read a page; one at a time. Its arrival wakes the thread that calls this.
    pub fn ask(&mut self, user: UserId, after: Option<Version>) {
        if self.thread.is_none()
            && let Err(error) = self.start()
        {
            self.refused = Some(SourceError::Unavailable(format!(
                "the system gives no thread to read an account again: {error} (ulimit -u, TasksMax=)"
            )));
            return;
        }
        let asked = self.thread.as_ref().is_some_and(|(pages, _)| pages.try_send((user, after)).is_ok());
        if !asked {
            self.refused =
                Some(SourceError::Unavailable("a page was asked for before the last one came".to_owned()));
        }
    }

    /// The page that was asked for, if it is there.
    pub fn take(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let Some((_, answers)) = &self.thread else { return Ok(Page::Last) };
        match answers.try_recv() {
            Ok(page) => {
                *rows = page?;
                Ok(if rows.len() < FEED_BATCH_ROWS { Page::Last } else { Page::More })
            }
            // A thread that has panicked ends the process in a moment: it says why, and not whoever waits for it.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(Page::Awaited),
        }
    }

    fn start(&mut self) -> std::io::Result<()> {
        let (pages, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (ledger, taker) = (Arc::clone(&self.ledger), thread::current());
        spawn_vital(Vital::Reread, move || run(&ledger, &asked, &answer, &taker))?;
        self.thread = Some((pages, answers));
        Ok(())
    }
}

fn run(ledger: &LedgerFile, asked: &Receiver<Asked>, answers: &SyncSender<Answer>, taker: &Thread) {
    let mut reader = None;
    while let Ok((user, after)) = asked.recv() {
        Vital::Reread.at_work();
        let answer = read(ledger, &mut reader, user, after);
        if answer.is_err() {
            // A connection that has failed may not work again.
            reader = None;
        }
        if answers.send(answer).is_err() {
            return;
        }
        taker.unpark();
    }
}

fn read(ledger: &LedgerFile, reader: &mut Option<Reader>, user: UserId, after: Option<Version>) -> Answer {
    let failed = |error: SqliteError| SourceError::Unavailable(error.to_string());
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(Reader::open(ledger.path()).map_err(failed)?),
    };
    let mut rows = Vec::new();
    reader.account(user, after, FEED_BATCH_ROWS, &mut rows).map_err(failed)?;
    // It was opened by its path: that must be the file that is followed.
    ledger.check()?;
    Ok(rows)
}
