//! Loading a snapshot: several sessions copy a range of the table's pages each, one takes their rows in the order of the pages.
//!
//! ```text
//!     session 0:  pages 0…511        1536…2047 …       whoever is free takes the next range
//!     session 1:     512…1023   1024…1535 …
//!     taken:      0…511, 512…1023, 1024…1535 …  ──▶ in the order of their accounts ──▶ the follower
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use florin_core::follower::Row;
use florin_core::limits::FEED_BATCH_ROWS;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::decoder::copy::Copied;
use crate::facts::Table;
use crate::failure::Failure;
use crate::journal::Comparison;
use crate::limits::{COPY_SESSIONS, COPY_SILENCE, RANGE_PAGES, RANGES_AHEAD};
use crate::mapping::{Field, Mapping};
use crate::order::{Order, OutOfOrder};
use crate::outbox::{Batch, Outbox};
use crate::row::{FIELDS, RowReader};
use crate::target::{Purpose, Target};
use crate::wire::{Piece, Wire};

/// What is loaded.
pub struct Loading<'a> {
    /// Where from.
    pub target: &'a Target,
    /// The snapshot's name.
    pub snapshot: &'a str,
    /// The table.
    pub table: &'a Table,
    /// How its rows are read.
    pub reader: &'a RowReader,
}

/// A range's rows, or those of a part of an ordered COPY.
type Ranged = (u64, Vec<Row>);

impl Loading<'_> {
    /// Delivers all rows of the snapshot. What differs from what was delivered before is told by `comparison`.
    ///
    /// # Errors
    /// Those of the connections: then everything is to be loaded once more.
    pub async fn run(&self, outbox: &Outbox, comparison: &mut Comparison) -> Result<(), Failure> {
        // Without versions there is no order but the pages'.
        if self.reader.mapping().is_derived() {
            return self.in_pages(outbox, comparison, &mut Sorting::Off).await.map(|_| ());
        }
        let mut order = Sorting::On(Order::default());
        if self.in_pages(outbox, comparison, &mut order).await? == Ordered::No {
            tracing::warn!(
                "the table's pages hold its rows in no order: it is read by its index, which takes longer"
            );
            self.by_index(outbox, comparison).await?;
        }
        Ok(())
    }

    async fn in_pages(
        &self,
        outbox: &Outbox,
        comparison: &mut Comparison,
        order: &mut Sorting,
    ) -> Result<Ordered, Failure> {
        let ranges = self.table.pages / RANGE_PAGES + 1;
        let next = Arc::new(AtomicU64::new(0));
        let ahead = Arc::new(Semaphore::new(RANGES_AHEAD));
        let (ranged, mut taken) = mpsc::channel::<Ranged>(RANGES_AHEAD);
        let mut sessions = JoinSet::new();
        for _ in 0..COPY_SESSIONS.min(usize::try_from(ranges).unwrap_or(COPY_SESSIONS)) {
            let session = Copying {
                target: self.target.clone(),
                snapshot: self.snapshot.to_owned(),
                table: self.table.name.clone(),
                reader: self.reader.clone(),
            };
            let (next, ahead, ranged) = (Arc::clone(&next), Arc::clone(&ahead), ranged.clone());
            sessions.spawn(async move { session.run(ranges, &next, &ahead, &ranged).await });
        }
        drop(ranged);
        let mut waiting = BTreeMap::new();
        let mut delivering = Delivering { outbox, comparison, batch: Batch::default(), loaded: 0 };
        for range in 0..ranges {
            let rows = loop {
                if let Some(rows) = waiting.remove(&range) {
                    break rows;
                }
                tokio::select! {
                    biased;
                    Some((index, rows)) = taken.recv() => { waiting.insert(index, rows); }
                    Some(ended) = sessions.join_next() => joined(ended)?,
                    else => return Err(Failure::Unavailable("a COPY ended before the table did".to_owned())),
                }
            };
            ahead.add_permits(1);
            delivering.loaded = u16::try_from(1_000 * (range + 1) / ranges).unwrap_or(1_000);
            for row in rows {
                if order.take(row, &mut delivering).is_err() {
                    return Ok(Ordered::No);
                }
                delivering.pass_on().await?;
            }
        }
        order.end(&mut delivering);
        delivering.flush().await?;
        while let Some(ended) = sessions.join_next().await {
            joined(ended)?;
        }
        Ok(Ordered::Yes)
    }

    async fn by_index(&self, outbox: &Outbox, comparison: &mut Comparison) -> Result<(), Failure> {
        let mapping = self.reader.mapping();
        let column = |field| mapping.column(field).map(escape_identifier).unwrap_or_default();
        let sql = format!(
            "{} ORDER BY {}, {}",
            select(mapping, &self.table.name),
            column(Field::UserId),
            column(Field::Version)
        );
        let mut wire = in_snapshot(self.target, self.snapshot).await?;
        let mut delivering = Delivering { outbox, comparison, batch: Batch::default(), loaded: 0 };
        let mut copying = CopyOut::begin(&mut wire, &sql, &self.table.name).await?;
        let mut rows = Vec::new();
        while copying.read(self.reader, &mut rows).await? {
            for row in rows.drain(..) {
                delivering.add(row);
                delivering.pass_on().await?;
            }
        }
        delivering.flush().await
    }
}

fn joined(ended: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Failure::Unavailable("a COPY was given up".to_owned())),
    }
}

/// Whether the pages could be read in order.
#[derive(PartialEq, Eq)]
enum Ordered {
    Yes,
    No,
}

enum Sorting {
    On(Order),
    Off,
}

impl Sorting {
    #[inline]
    fn take(&mut self, row: Row, into: &mut Delivering<'_>) -> Result<(), OutOfOrder> {
        match (self, row) {
            (Sorting::On(order), Ok(row)) => {
                let before = into.batch.rows.len();
                order.take(row, &mut into.batch.rows)?;
                into.compare(before);
                Ok(())
            }
            (_, row) => {
                into.add(row);
                Ok(())
            }
        }
    }

    fn end(&mut self, into: &mut Delivering<'_>) {
        if let Sorting::On(order) = self {
            let before = into.batch.rows.len();
            into.batch.rows.extend(std::mem::take(order).end());
            into.compare(before);
        }
    }
}

/// Rows on their way to the follower.
struct Delivering<'a> {
    outbox: &'a Outbox,
    comparison: &'a mut Comparison,
    batch: Batch,
    loaded: u16,
}

impl Delivering<'_> {
    fn add(&mut self, row: Row) {
        let before = self.batch.rows.len();
        self.batch.rows.push(row);
        self.compare(before);
    }

    /// An account that has another row than was delivered is told before any further row of it.
    #[inline]
    fn compare(&mut self, from: usize) {
        for row in self.batch.rows[from..].iter().flatten() {
            if self.comparison.see(row) {
                self.batch.changed.push((row.user_id, 0));
            }
        }
    }

    async fn pass_on(&mut self) -> Result<(), Failure> {
        if self.batch.rows.len() >= FEED_BATCH_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.loaded = Some(self.loaded);
        self.outbox.send(batch.into()).await
    }
}

/// One session.
struct Copying {
    target: Target,
    snapshot: String,
    table: String,
    reader: RowReader,
}

impl Copying {
    async fn run(
        &self,
        ranges: u64,
        next: &AtomicU64,
        ahead: &Semaphore,
        ranged: &mpsc::Sender<Ranged>,
    ) -> Result<(), Failure> {
        let mut wire = in_snapshot(&self.target, &self.snapshot).await?;
        let select = select(self.reader.mapping(), &self.table);
        loop {
            let Ok(permit) = ahead.acquire().await else { return Ok(()) };
            permit.forget();
            let range = next.fetch_add(1, Relaxed);
            if range >= ranges {
                return Ok(());
            }
            let first = range * RANGE_PAGES;
            let end = if range + 1 == ranges {
                String::new()
            } else {
                format!(" AND ctid < '({},0)'::tid", first + RANGE_PAGES)
            };
            let sql = format!("{select} WHERE ctid >= '({first},0)'::tid{end}");
            let mut rows = Vec::new();
            let mut copying = CopyOut::begin(&mut wire, &sql, &self.table).await?;
            while copying.read(&self.reader, &mut rows).await? {}
            if ranged.send((range, rows)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The columns that a transaction is made of, in the order of the fields.
pub(crate) fn select(mapping: &Mapping, table: &str) -> String {
    let columns = Field::ALL
        .map(|field| mapping.column(field).map_or_else(|| "NULL::bigint".to_owned(), escape_identifier))
        .join(", ");
    format!("SELECT {columns} FROM {table}")
}

async fn in_snapshot(target: &Target, snapshot: &str) -> Result<Wire, Failure> {
    let mut wire = target.connect(Purpose::Questions).await?;
    let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
    wire.query(begin).await?;
    wire.query(&format!("SET TRANSACTION SNAPSHOT {}", escape_literal(snapshot))).await?;
    Ok(wire)
}

/// A COPY that is going on.
pub(crate) struct CopyOut<'a> {
    wire: &'a mut Wire,
    copied: Copied,
    table: &'a str,
    number: u64,
}

impl<'a> CopyOut<'a> {
    pub async fn begin(wire: &'a mut Wire, select: &str, table: &'a str) -> Result<CopyOut<'a>, Failure> {
        wire.begin_copy(&format!("COPY ({select}) TO STDOUT (FORMAT binary)")).await?;
        Ok(CopyOut { wire, copied: Copied::default(), table, number: 0 })
    }

    /// Adds rows that have come, and waits for more; whether there may be more.
    pub async fn read(&mut self, reader: &RowReader, rows: &mut Vec<Row>) -> Result<bool, Failure> {
        while let Some(piece) = self.wire.piece()? {
            let Piece::Data(message) = piece else {
                self.wire.end_copy().await?;
                return if self.copied.has_ended() {
                    Ok(false)
                } else {
                    Err(Failure::Unavailable("a COPY ended before its end".to_owned()))
                };
            };
            let CopyOut { copied, table, number, .. } = self;
            copied.read::<FIELDS>(&message, |cells| {
                *number += 1;
                rows.push(reader.read(cells, || format!("{number} of a copy of {table}")));
            })?;
        }
        let filled = tokio::time::timeout(COPY_SILENCE, self.wire.fill()).await;
        filled.map_err(|_| {
            Failure::Unavailable(format!("a COPY was silent for {} s", COPY_SILENCE.as_secs()))
        })??;
        Ok(true)
    }
}
