//! Asks the server up to where its log goes, so that a time is known before which everything is in; and watches what could make
//! that untrue (the publication) or costly (the log that is kept for the slot).
//!
//! The place is asked for after the time was taken, and the publication is looked at after the place was: rows that were
//! committed before the place were published while it looked so.

use std::sync::Arc;

use florin_core::clock::Now;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::facts;
use crate::failure::Failure;
use crate::limits::WATCH_EVERY;
use crate::outbox::{Event, Outbox};
use crate::position::Lsn;
use crate::status::PgStatus;
use crate::wire::Wire;

/// See the module.
pub struct Asker {
    /// The connection.
    pub questions: Arc<Mutex<Wire>>,
    /// What the publication looked like when this began.
    pub publication: String,
    /// Its name.
    pub publication_name: String,
    /// The table's object id.
    pub table_oid: u32,
    /// The slot's name.
    pub slot: String,
    /// Where it is told what the slot costs.
    pub status: Arc<PgStatus>,
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
        let look = facts::publication_look(&self.publication_name, self.table_oid);
        let prepare = format!(
            "PREPARE florin_place AS SELECT pg_current_wal_insert_lsn(); PREPARE florin_look AS {look}"
        );
        self.questions.lock().await.query(&prepare).await?;
        let mut watch_at = Instant::now();
        let mut last = Lsn::default();
        while let Some(at) = asked.recv().await {
            let place = self.place().await?;
            // Where the log has not moved, nothing was altered.
            if place != last && self.ask("EXECUTE florin_look").await? != self.publication {
                return Err(Failure::Lost(format!("the publication {} was altered", self.publication_name)));
            }
            last = place;
            outbox.send(Event::Asked(at, place.before_page_header())).await?;
            if Instant::now() >= watch_at {
                watch_at = Instant::now() + WATCH_EVERY;
                let slot = facts::slot(&mut *self.questions.lock().await, &self.slot).await?;
                self.status.watch(slot.as_ref(), place);
            }
        }
        Ok(())
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
