//! What the thread that speaks with the server hands to the follower's: in order, bounded, and waking it.

use std::thread::Thread;

use florin_core::clock::Now;
use florin_core::follower::Row;
use florin_schema::UserId;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::journal::Compared;
use crate::limits::EVENTS_MAX;
use crate::position::{Lsn, PgPosition};

/// Rows, and what they lead to.
#[derive(Default, Debug)]
pub struct Batch {
    /// In the order of commits.
    pub rows: Vec<Row>,
    /// Behind how many of them a commit ends, the last that does; none = they belong to one that goes on.
    pub whole: Option<usize>,
    /// Accounts of which rows were changed or removed, and by which transaction: they are to be read again once that is visible;
    /// 0 = it is.
    pub changed: Vec<(UserId, u32)>,
    /// Everything up to here has come with this; none = the rest of a commit follows.
    pub reached: Option<PgPosition>,
    /// How much of a snapshot has come, in thousandths.
    pub loaded: Option<u16>,
}

impl Batch {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.changed.is_empty() && self.reached.is_none()
    }
}

/// What there is to tell.
#[derive(Debug)]
pub enum Event {
    /// Rows.
    Batch(Batch),
    /// A snapshot was loaded; what became of the rows that were delivered before it.
    Compared(Compared),
    /// The stream has begun.
    Following,
    /// What had been committed at the time lies before the place; and how many rows had been changed or removed.
    Asked(Now, Lsn, u64),
    /// It ended.
    Failed(Failure),
}

impl From<Batch> for Event {
    fn from(batch: Batch) -> Event {
        Event::Batch(batch)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Outbox {
    events: mpsc::Sender<Event>,
    taker: Thread,
}

impl Outbox {
    /// One that wakes this thread.
    pub fn to(taker: Thread) -> (Outbox, mpsc::Receiver<Event>) {
        let (events, taken) = mpsc::channel(EVENTS_MAX);
        (Outbox { events, taker }, taken)
    }

    /// Waits until there is room.
    ///
    /// # Errors
    /// Where nobody takes anything any more.
    pub async fn send(&self, event: Event) -> Result<(), Failure> {
        let sent = self.events.send(event).await;
        self.taker.unpark();
        sent.map_err(|_| Failure::Unavailable("the follower has gone on without this connection".to_owned()))
    }
}
