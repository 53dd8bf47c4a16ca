//! Asks the server up to where its log goes, so that a time is known before which everything is in; and watches what could make
//! that untrue (a table or a publication that was altered) or costly (the log that is kept for the slot).
//!
//! The place is asked for after the time was taken, and the table is looked at after the place was: rows that were committed before the
//! place were published while it looked so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use florin_core::clock::Now;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};

use crate::facts::{self, Table};
use crate::failure::Failure;
use crate::limits::{LOOK_EVERY, LOOK_PAUSE, LOOK_PAUSE_MAX, WATCH_EVERY};
use crate::look::{self, Look};
use crate::mapping::Mapping;
use crate::outbox::{Event, Outbox};
use crate::position::Lsn;
use crate::status::PgStatus;
use crate::wire::Wire;

/// See the module.
pub struct Asker {
    /// The connection.
    pub questions: Arc<Mutex<Wire>>,
    /// The table.
    pub table: Table,
    /// What published it.
    pub publication: String,
    /// What its columns are.
    pub mapping: Mapping,
    /// How the table looked last.
    pub known: Arc<std::sync::Mutex<Option<Look>>>,
    /// The same, for positions.
    pub digest: Arc<AtomicU64>,
    /// Rows of which the stream has said that they were changed or removed.
    pub changed: Arc<AtomicU64>,
    /// What was loaded on top may have been changed before without the server having counted it yet.
    pub late: Option<Late>,
    /// Up to where the log was when nothing was amiss last.
    pub looked: Arc<AtomicU64>,
    /// The slot's name.
    pub slot: String,
    /// Where it is told what the slot costs.
    pub status: Arc<PgStatus>,
}

/// See [`Asker::late`].
pub struct Late {
    /// Rows that had been changed or removed while everything was followed.
    pub before: u64,
    /// By then the server has counted all that came before the load.
    pub until: Instant,
}

impl Asker {
    /// Answers each time that comes.
    pub async fn run(&self, asked: &mut mpsc::Receiver<Now>, outbox: &Outbox) -> Failure {
        match self.answer(asked, outbox).await {
            Ok(()) => Failure::Unavailable("nobody asks any more".to_owned()),
            Err(failure) => failure,
        }
    }

    async fn answer(&self, asked: &mut mpsc::Receiver<Now>, outbox: &Outbox) -> Result<(), Failure> {
        let look = look::statement(&self.publication, self.table.oid, &self.mapping);
        let prepare = format!(
            "PREPARE florin_place AS SELECT pg_current_wal_insert_lsn(); PREPARE florin_look AS {look}"
        );
        self.questions.lock().await.query(&prepare).await?;
        let mut watch_at = Instant::now();
        let (mut last, mut changes, mut looked) = (Lsn::default(), 0, Instant::now());
        while let Some(at) = asked.recv().await {
            let place = self.place().await?;
            let begun = Instant::now();
            // Where the log has not moved, no table was altered.
            if place != last || begun >= looked + LOOK_EVERY {
                changes = self.look().await?;
                looked = begun;
                self.looked.store(place.0, Relaxed);
            }
            last = place;
            // Of a table with many partitions it is a large look.
            let pause = (begun.elapsed() * LOOK_PAUSE).min(LOOK_PAUSE_MAX);
            outbox.send(Event::Asked(at, place.before_page_header(), changes)).await?;
            if Instant::now() >= watch_at {
                watch_at = Instant::now() + WATCH_EVERY;
                let slot = facts::slot(&mut *self.questions.lock().await, &self.slot).await?;
                self.status.watch(slot.as_ref(), place);
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Looks at the table, and judges what has moved. How many rows were changed or removed.
    async fn look(&self) -> Result<u64, Failure> {
        let mut questions = self.questions.lock().await;
        let mut now = Look::take(&mut questions, "EXECUTE florin_look").await?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        now.check_standbys()?;
        let changes = now.changes;
        if let Some(late) = self.late.as_ref().filter(|late| Instant::now() < late.until) {
            now.check_changes(late.before + self.changed.load(Relaxed))?;
        }
        if let Some(known) = &known {
            if !known.is_as(&now) {
                known.judge(&now, &mut questions, &self.table, &self.mapping).await?;
            }
            now.remember(known);
        }
        if !now.lacks_column() {
            self.digest.store(now.digest(), Relaxed);
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        Ok(changes)
    }

    async fn place(&self) -> Result<Lsn, Failure> {
        let nowhere =
            |error| Failure::Unavailable(format!("the server does not say where its log ends: {error}"));
        self.ask("EXECUTE florin_place").await?.parse().map_err(nowhere)
    }

    async fn ask(&self, sql: &str) -> Result<String, Failure> {
        let answer = self.questions.lock().await.query(sql).await?;
        Ok(answer.first().and_then(|row| row.first()?.clone()).unwrap_or_default())
    }
}
