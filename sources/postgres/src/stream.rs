//! Following: the stream's messages become rows, commit by commit, and the server hears what was applied.
//!
//! Whatever is here is read before anything is waited for; then the rows of it are handed over at once. While there is no room
//! for them nothing more is read, but the server still hears from this program every second: a silent one loses its slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use florin_core::limits::FEED_BATCH_ROWS;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::decoder::{self, EPOCH_US, Message, Relation, Tuple};
use crate::facts::{self, TableRef};
use crate::failure::Failure;
use crate::limits::{GATHER, GATHER_AFTER, GATHER_WITHIN, PING_EVERY, STATUS_EVERY, STREAM_SILENCE};
use crate::mapping::Mapping;
use crate::outbox::{Batch, Outbox};
use crate::position::{Lsn, PgPosition};
use crate::row::{Shape, ShapeError};
use crate::wire::{Piece, Wire};

/// Where the messages of the plugin begin, behind the type, two places and a time.
const HEADER_BYTES: usize = 25;

/// A stream that was started.
pub struct Stream {
    /// The connection.
    pub wire: Wire,
    /// For questions about tables; whoever asks for the time's place uses it too.
    pub questions: Arc<Mutex<Wire>>,
    /// Of the ledger's rows.
    pub mapping: Mapping,
    /// Everything before it has been handed over, and its history.
    pub position: PgPosition,
    /// Up to where every shard has applied what came: this is confirmed.
    pub applied: Arc<AtomicU64>,
    /// Up to where the log was when the server was looked at last. Nothing behind it is confirmed: by then it may count whoever confirms
    /// as a standby, and a commit would be safe for that.
    pub looked: Arc<AtomicU64>,
    /// Rows that were changed or removed.
    pub changes: Arc<AtomicU64>,
    /// By table: how its rows are read; none = they are not the ledger's.
    shapes: HashMap<u32, Option<Shape>>,
    /// Where the commit ends whose rows are coming.
    open: Option<Lsn>,
    /// Its transaction.
    xid: u32,
    batch: Batch,
    received: Lsn,
    status_at: Instant,
    ping_at: Instant,
    heard: Instant,
    /// Reads in a row that hardly had to wait.
    prompt: u32,
}

impl Stream {
    /// A stream that begins at `position`.
    pub fn new(
        wire: Wire,
        questions: Arc<Mutex<Wire>>,
        mapping: Mapping,
        position: PgPosition,
        applied: Arc<AtomicU64>,
    ) -> Stream {
        let now = Instant::now();
        Stream {
            wire,
            questions,
            mapping,
            received: position.lsn,
            position,
            applied,
            looked: Arc::new(AtomicU64::new(position.lsn.0)),
            changes: Arc::default(),
            shapes: HashMap::new(),
            open: None,
            xid: 0,
            batch: Batch::default(),
            status_at: now,
            ping_at: now + PING_EVERY,
            heard: now,
            prompt: 0,
        }
    }

    /// Follows until something ends it.
    pub async fn run(&mut self, outbox: &Outbox) -> Failure {
        loop {
            match self.turn(outbox).await {
                Ok(()) => {}
                Err(failure) => return failure,
            }
        }
    }

    async fn turn(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        let mut replies = false;
        while self.batch.rows.len() < FEED_BATCH_ROWS {
            match self.wire.piece()? {
                Some(Piece::Data(data)) => replies |= self.take(&data).await?,
                Some(Piece::End) => {
                    return Err(Failure::Unavailable(
                        "the server ended the stream: it is shutting down".to_owned(),
                    ));
                }
                None => break,
            }
        }
        if replies || Instant::now() >= self.status_at {
            self.send_status().await?;
        }
        if !self.batch.is_empty() {
            return self.hand_over(outbox).await;
        }
        self.gather();
        let begun = Instant::now();
        tokio::select! {
            filled = self.wire.fill() => {
                filled?;
                self.heard = Instant::now();
                self.prompt = if self.heard - begun < GATHER_WITHIN { self.prompt + 1 } else { 0 };
            }
            () = sleep_until(self.status_at) => {}
        }
        if self.heard.elapsed() > STREAM_SILENCE {
            return Err(Failure::Unavailable(format!(
                "the server was silent for {} s",
                STREAM_SILENCE.as_secs()
            )));
        }
        Ok(())
    }

    /// Where one message comes right after the other, lets some come together. The server sends each by itself, and to read, to wake the
    /// follower and to wake a shard costs as much as many rows. (The event loop's own timers are too coarse for that, and nobody else
    /// on its thread is in a hurry.)
    fn gather(&self) {
        if self.prompt >= GATHER_AFTER {
            std::thread::sleep(GATHER);
        }
    }

    /// Waits for room, and goes on telling the server that somebody is here.
    async fn hand_over(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let sent = outbox.send(batch.into());
        tokio::pin!(sent);
        loop {
            let status_at = self.status_at;
            tokio::select! {
                biased;
                sent = &mut sent => return sent,
                () = sleep_until(status_at) => {
                    self.send_status().await?;
                    // Nothing is read meanwhile.
                    self.heard = Instant::now();
                }
            }
        }
    }

    /// What was received, and what of it was applied.
    async fn send_status(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let asks = now >= self.ping_at;
        if asks {
            self.ping_at = now + PING_EVERY;
        }
        self.status_at = now + STATUS_EVERY;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent_at = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX) - EPOCH_US;
        let mut status = Vec::with_capacity(34);
        status.push(b'r');
        let (applied, looked) = (self.applied.load(Relaxed), self.looked.load(Relaxed));
        for place in places_told(self.received.0, applied, looked) {
            status.extend_from_slice(&place.to_be_bytes());
        }
        status.extend_from_slice(&sent_at.to_be_bytes());
        status.push(asks.into());
        self.wire.send_data(&status).await?;
        Ok(())
    }

    /// Takes a message in; whether the server waits for an answer.
    async fn take(&mut self, data: &[u8]) -> Result<bool, Failure> {
        let place = |at: usize| {
            let bytes = data.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| Lsn(u64::from_be_bytes(*bytes)))
        };
        match data.first() {
            Some(b'w') if data.len() > HEADER_BYTES => {
                self.received = self.received.max(place(1).unwrap_or_default());
                self.message(&data[HEADER_BYTES..]).await?;
                Ok(false)
            }
            Some(b'k') if data.len() == 18 => {
                let end = place(1).unwrap_or_default();
                self.received = self.received.max(end);
                // Within a commit it says nothing about that commit.
                if self.open.is_none() {
                    self.reach(end);
                }
                Ok(data[17] != 0)
            }
            _ => Err(Failure::Unavailable("the stream has a message of an unknown kind".to_owned())),
        }
    }

    fn reach(&mut self, end: Lsn) {
        if end > self.position.lsn {
            self.position.lsn = end;
            self.batch.reached = Some(self.position);
        }
        self.batch.whole = Some(self.batch.rows.len());
    }

    async fn message(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match decoder::parse(bytes)? {
            Message::Begin { commit, xid, .. } if self.open.is_none() => {
                self.open = Some(commit);
                self.xid = xid;
            }
            Message::Commit { commit, end } if self.open == Some(commit) => {
                self.open = None;
                self.received = self.received.max(end);
                self.reach(end);
            }
            Message::Relation(relation) => self.relation(&relation).await?,
            Message::Insert { relation, new } => {
                let commit = self.commit()?;
                if let Some(shape) = shape_of(&self.shapes, relation)? {
                    // Until the commit has ended, this leads nowhere.
                    self.batch.reached = None;
                    self.batch.rows.push(shape.read(new, || format!("of the commit at {commit}")));
                }
            }
            Message::Update { relation, old, new } => {
                self.commit()?;
                if let Some(shape) = shape_of(&self.shapes, relation)? {
                    let users = changed(shape, old, Some(new))?;
                    self.changed(users);
                }
            }
            Message::Delete { relation, old } => {
                self.commit()?;
                if let Some(shape) = shape_of(&self.shapes, relation)? {
                    let users = changed(shape, Some(old), None)?;
                    self.changed(users);
                }
            }
            Message::Truncate(tables) => {
                self.commit()?;
                for table in tables {
                    if shape_of(&self.shapes, table)?.is_some() {
                        return Err(Failure::Changed("the ledger was emptied (TRUNCATE)".to_owned()));
                    }
                }
            }
            Message::Other => {}
            Message::Begin { .. } | Message::Commit { .. } => {
                return Err(Failure::Unavailable(
                    "the stream's commits do not begin and end in turn".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn commit(&self) -> Result<Lsn, Failure> {
        self.open.ok_or_else(|| Failure::Unavailable("the stream has a row outside of a commit".to_owned()))
    }

    fn changed(&mut self, users: impl IntoIterator<Item = florin_schema::UserId>) {
        self.batch.reached = None;
        self.changes.fetch_add(1, Relaxed);
        let xid = self.xid;
        self.batch.changed.extend(users.into_iter().map(|user| (user, xid)));
    }

    /// How a table's rows look from here on.
    async fn relation(&mut self, relation: &Relation) -> Result<(), Failure> {
        let mut questions = self.questions.lock().await;
        let is_ours = relation.oid == self.position.table_oid
            || facts::is_part(&mut questions, relation.oid, self.position.table_oid).await?;
        let shape = if is_ours {
            let types = facts::own_types(&mut questions, &relation.columns).await?;
            match Shape::of(&relation.columns, &types, &self.mapping) {
                Ok(shape) => Some(shape),
                Err(error) => {
                    let table_oid = self.position.table_oid;
                    return Err(passed(&mut questions, table_oid, &self.mapping, error).await);
                }
            }
        } else {
            if !self.shapes.contains_key(&relation.oid) {
                tracing::warn!(
                    "the publication also has table {}.{}, which is sent for nothing: give florin one of its own",
                    relation.schema,
                    relation.name
                );
            }
            None
        };
        self.shapes.insert(relation.oid, shape);
        Ok(())
    }
}

/// What follows from rows that cannot be read, the table being as it was when they were added: a snapshot has them as it is now.
async fn passed(questions: &mut Wire, table_oid: u32, mapping: &Mapping, error: ShapeError) -> Failure {
    let table = facts::table(questions, TableRef::Oid(table_oid)).await;
    match table.map(|table| Shape::of(&table.columns, &table.types, mapping)) {
        Ok(Ok(_)) => Failure::Lost(format!("for a while {error}")),
        _ => error.into(),
    }
}

fn shape_of(shapes: &HashMap<u32, Option<Shape>>, table: u32) -> Result<Option<&Shape>, Failure> {
    let unknown =
        || Failure::Unavailable("the stream has a row of a table that it did not describe".to_owned());
    shapes.get(&table).map(Option::as_ref).ok_or_else(unknown)
}

/// Whose rows an UPDATE or a DELETE has changed.
fn changed(
    shape: &Shape,
    old: Option<Tuple<'_>>,
    new: Option<Tuple<'_>>,
) -> Result<Vec<florin_schema::UserId>, Failure> {
    let mut users = Vec::new();
    match old.map(|old| shape.user_of(old)) {
        Some(Some(user)) => users.push(user),
        // What identifies the row did not change, and the account is of it.
        None if shape.identifies_user() => {}
        None | Some(None) => {
            return Err(Failure::Changed(
                "a row of the ledger was changed or removed, and the server does not say whose it was (ALTER TABLE … REPLICA \
                 IDENTITY FULL)"
                    .to_owned(),
            ));
        }
    }
    users.extend(new.and_then(|new| shape.user_of(new)));
    users.dedup();
    Ok(users)
}

/// What a server is told: up to where its log was received, is on a disk and is applied. Nothing behind where the server was looked at last.
fn places_told(received: u64, applied: u64, looked: u64) -> [u64; 3] {
    [received.max(applied), applied, applied].map(|place| place.min(looked))
}

#[cfg(test)]
mod tests {
    use super::places_told;

    /// An administrator may have made this node a synchronous standby since the last look: to confirm more would let a commit count as safe.
    #[test]
    fn nothing_is_told_behind_the_last_look() {
        assert_eq!(places_told(30, 20, 40), [30, 20, 20]);
        assert_eq!(places_told(30, 20, 25), [25, 20, 20]);
        assert_eq!(places_told(30, 20, 10), [10; 3]);
        // What a checkpoint had applied may be ahead of what came.
        assert_eq!(places_told(10, 20, 40), [20; 3]);
    }
}
