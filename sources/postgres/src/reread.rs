//! Accounts' histories, on a connection of their own: however long one is, the stream does not wait for it.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::Thread;

use florin_core::follower::{Page, Row, SourceError};
use florin_core::limits::FEED_BATCH_ROWS;
use florin_record::threads::{EndsProcess, Vital};
use florin_schema::{UserId, Version};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::instance::Followed;
use crate::limits::{COMMIT_TRIES, VISIBLE_PAUSE, VISIBLE_TRIES};
use crate::reading::Reading;
use crate::target::Target;
use crate::wire::Wire;

type Answer = Result<(Vec<Row>, Page), SourceError>;

/// A page that is asked for.
#[derive(Debug)]
pub struct Asked {
    user: UserId,
    after: Option<Version>,
    /// The newest row of the account that was delivered.
    known: Version,
    /// The transaction that changed its rows last; 0 = none did.
    after_xid: u32,
    answer: SyncSender<Answer>,
    taker: Thread,
}

impl Asked {
    /// What is asked for, and where it will come.
    pub fn new(
        user: UserId,
        after: Option<Version>,
        (known, after_xid): (Version, u32),
        taker: Thread,
    ) -> (Asked, Receiver<Answer>) {
        let (answer, page) = sync_channel(1);
        (Asked { user, after, known, after_xid, answer, taker }, page)
    }
}

/// The follower's side.
#[derive(Default)]
pub struct Rereads {
    awaited: Option<Receiver<Answer>>,
    come: Option<Answer>,
}

impl Rereads {
    /// A page was asked for; it comes here.
    pub fn await_page(&mut self, page: Receiver<Answer>) {
        self.come = None;
        self.awaited = Some(page);
    }

    /// Whether it is here.
    pub fn has_come(&mut self) -> bool {
        if self.come.is_none()
            && let Some(awaited) = &self.awaited
        {
            self.come = match awaited.try_recv() {
                Ok(answer) => Some(answer),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    Some(Err(SourceError::Unavailable("the connection's thread ended".to_owned())))
                }
            };
        }
        self.come.is_some()
    }

    /// Takes it, if it is here.
    pub fn take(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        if self.awaited.is_none() {
            return Ok(Page::Last);
        }
        if !self.has_come() {
            return Ok(Page::Awaited);
        }
        self.awaited = None;
        let (read, page) = self.come.take().unwrap_or_else(|| Ok((Vec::new(), Page::Last)))?;
        *rows = read;
        Ok(page)
    }
}

/// The server's side: a task, and its connection.
pub struct Rereader {
    asks: mpsc::UnboundedSender<Asked>,
}

impl Rereader {
    /// Starts the task; it connects when a page is asked for.
    pub fn new(target: Target, followed: Followed) -> Rereader {
        let (asks, mut asked) = mpsc::unbounded_channel::<Asked>();
        let end = EndsProcess::of(Vital::PostgresReread);
        tokio::spawn(async move {
            let _end = end;
            let mut reading = None;
            while let Some(asked) = asked.recv().await {
                Vital::PostgresReread.at_work();
                let answer = read(&target, &followed, &mut reading, &asked).await;
                if answer.is_err() {
                    // A connection that has failed may not work again.
                    reading = None;
                }
                let _ = asked.answer.send(answer.map_err(|failure| SourceError::from(&failure)));
                asked.taker.unpark();
            }
        });
        Rereader { asks }
    }

    /// Asks for a page.
    pub fn ask(&self, asked: Asked) {
        // The task ends with the runtime alone.
        let _ = self.asks.send(asked);
    }
}

async fn read(
    target: &Target,
    followed: &Followed,
    reading: &mut Option<Reading>,
    asked: &Asked,
) -> Result<(Vec<Row>, Page), Failure> {
    let reading = match reading {
        Some(reading) => reading,
        None => reading.insert(Reading::begin(target).await?),
    };
    reading.check(followed)?;
    wait_until_visible(&mut reading.wire, asked.after_xid).await?;
    for _ in 0..VISIBLE_TRIES {
        let rows = page(target, reading, asked).await?;
        let last = rows.iter().flatten().map(|row| row.version).max();
        if rows.len() == FEED_BATCH_ROWS {
            return Ok((rows, Page::More));
        }
        if last.max(asked.after).unwrap_or_default() >= asked.known {
            return Ok((rows, Page::Last));
        }
        sleep(VISIBLE_PAUSE).await;
    }
    // The row was removed.
    Ok((page(target, reading, asked).await?, Page::Last))
}

/// Waits until what a transaction did is seen by whoever looks: its commit was in the log before.
async fn wait_until_visible(wire: &mut Wire, xid: u32) -> Result<(), Failure> {
    // The stream has the lower half of its number; the whole is the one nearest to the next that will be given.
    let sql = format!(
        "SELECT pg_visible_in_snapshot((m - (((m - {xid} + 2147483648) & 4294967295) - 2147483648))::text::xid8, \
             pg_current_snapshot()) \
         FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS m) AS next"
    );
    for _ in 0..COMMIT_TRIES {
        if xid == 0 || wire.query(&sql).await?.first().and_then(|row| row.first()?.as_deref()) == Some("t") {
            return Ok(());
        }
        sleep(VISIBLE_PAUSE).await;
    }
    Err(Failure::Unavailable(
        "a commit that changed the account is not visible yet: a standby has not confirmed it".to_owned(),
    ))
}

async fn page(target: &Target, reading: &mut Reading, asked: &Asked) -> Result<Vec<Row>, Failure> {
    let user_id = asked.user.get();
    let which = |user: &str, version: &str| {
        let after = asked.after.map_or_else(String::new, |after| format!(" AND {version} > {}", after.0));
        format!("{user} = {user_id}{after}")
    };
    let mut rows = Vec::new();
    reading.rows(target, which, FEED_BATCH_ROWS, &mut rows).await?;
    Ok(rows)
}
