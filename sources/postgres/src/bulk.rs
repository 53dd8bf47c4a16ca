//! Many rows with one commit: copied into a table that lasts as long as the transaction, judged there all together, and inserted
//! by one statement. Until then nobody waits; the accounts are locked only to be judged.

use std::pin::Pin;
use std::thread;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use florin_core::ledger::Kind;
use florin_core::limits::ASSETS_MAX;
use florin_record::{
    Added, Bulk, BulkWriter, Field, Judged, LedgerError, NewTransaction, Rejection, TransactionId,
};
use florin_schema::{Asset, UserId, Version};
use futures_util::SinkExt;
use tokio_postgres::{CopyInSink, Row};

use crate::address::Address;
use crate::admin;
use crate::beside::Beside;
use crate::limits::{BULK_ASK_TIMEOUT, BULK_PIECE_BYTES, BULK_WORK_TIMEOUT, SETTLE_PAUSE};
use crate::schema::Roles;
use crate::sql::{Sql, SqlError, failed, unavailable, uncertain};
use crate::target::Target;

/// See the module.
pub struct PgBulkWriter {
    address: Address,
    sql: Sql,
    table: String,
    accounts: String,
}

/// An open bulk.
struct PgBulk<'w> {
    writer: &'w PgBulkWriter,
    copying: Option<Pin<Box<CopyInSink<Bytes>>>>,
    piece: BytesMut,
    /// Until a commit was sent.
    is_open: bool,
    /// One of the rows that enter.
    witness: Option<Witness>,
}

/// A row whose presence says that its bulk is there.
struct Witness {
    transaction_id: String,
    user_id: i64,
}

impl PgBulkWriter {
    /// Connects; the table is made where there is none.
    ///
    /// # Errors
    /// Where the server cannot be reached, refuses, or has the ledger in a table of others.
    pub fn open(target: &Target) -> Result<PgBulkWriter, LedgerError> {
        if !target.mapping.is_own() {
            return Err(failed(
                "florin only reads a table that is mapped: put rows into it there".to_owned(),
            ));
        }
        let sql = Sql::connect(&target.address)?;
        let table = target.table();
        let asked =
            sql.wait(BULK_ASK_TIMEOUT, sql.client.query_one("SELECT to_regclass($1) IS NULL", &[&table]));
        let is_missing = asked.map_err(SqlError::into_ledger_error)?.get::<_, bool>(0);
        if is_missing {
            admin::init(target, &Roles::default())?;
        }
        let accounts = Beside::of(&target.address.table).accounts.quoted();
        Ok(PgBulkWriter { address: target.address.clone(), sql, table, accounts })
    }

    fn ask(&self, statement: &str) -> Result<(), LedgerError> {
        self.sql
            .wait(BULK_WORK_TIMEOUT, self.sql.client.batch_execute(statement))
            .map_err(SqlError::into_ledger_error)
    }

    fn rows(&self, statement: &str) -> Result<Vec<Row>, LedgerError> {
        self.sql
            .wait(BULK_WORK_TIMEOUT, self.sql.client.query(statement, &[]))
            .map_err(SqlError::into_ledger_error)
    }

    fn count(&self, statement: &str) -> Result<u64, LedgerError> {
        self.sql
            .wait(BULK_WORK_TIMEOUT, self.sql.client.execute(statement, &[]))
            .map_err(SqlError::into_ledger_error)
    }
}

impl PgBulkWriter {
    /// Whether the row is there, once whoever has its account has ended: asked on a connection of its own.
    fn holds(&self, witness: &Witness) -> Result<bool, LedgerError> {
        let sql = Sql::connect(&self.address)?;
        let Witness { transaction_id, user_id } = witness;
        let (accounts, table) = (&self.accounts, &self.table);
        let ask = |statement: String| {
            sql.wait(BULK_ASK_TIMEOUT, sql.client.batch_execute(&statement))
                .map_err(SqlError::into_ledger_error)
        };
        // Whoever makes an account's row holds it, too. What this makes of it goes with the connection.
        ask(format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {}; INSERT INTO {accounts} (user_id) VALUES ({user_id}) \
             ON CONFLICT DO NOTHING; SELECT 1 FROM {accounts} WHERE user_id = {user_id} FOR NO KEY UPDATE",
            BULK_ASK_TIMEOUT.as_millis()
        ))?;
        let found = format!("SELECT 1 FROM {table} WHERE transaction_id = $1");
        let found = sql.wait(BULK_ASK_TIMEOUT, sql.client.query(&found, &[transaction_id]));
        Ok(!found.map_err(SqlError::into_ledger_error)?.is_empty())
    }
}

impl BulkWriter for PgBulkWriter {
    fn is_empty(&mut self) -> Result<bool, LedgerError> {
        let sql = format!("SELECT 1 FROM {} LIMIT 1", self.table);
        Ok(self.rows(&sql)?.is_empty())
    }

    fn begin(&mut self) -> Result<Box<dyn Bulk + '_>, LedgerError> {
        self.ask(
            "BEGIN ISOLATION LEVEL READ COMMITTED; CREATE TEMP TABLE florin_bulk (number BIGINT, transaction_id TEXT, user_id \
             BIGINT, asset TEXT, kind SMALLINT, amount BIGINT, occurred_at BIGINT) ON COMMIT DROP",
        )?;
        let copying = self.sql.client.copy_in("COPY pg_temp.florin_bulk FROM STDIN");
        let copying = self.sql.wait(BULK_ASK_TIMEOUT, copying).map_err(SqlError::into_ledger_error)?;
        Ok(Box::new(PgBulk {
            writer: self,
            copying: Some(Box::pin(copying)),
            piece: BytesMut::new(),
            is_open: true,
            witness: None,
        }))
    }

    /// A table that was made stays: others may have begun to use it.
    fn close(self: Box<Self>) {}
}

impl PgBulk<'_> {
    fn send(&mut self) -> Result<(), LedgerError> {
        let piece = self.piece.split().freeze();
        match &mut self.copying {
            Some(copying) if !piece.is_empty() => self
                .writer
                .sql
                .wait(BULK_WORK_TIMEOUT, copying.send(piece))
                .map_err(SqlError::into_ledger_error),
            _ => Ok(()),
        }
    }

    /// Rows that have an id that is there already, in the ledger or before them in this bulk: those that are the same are
    /// counted, the others are told.
    fn judge_ids(&self, rejected: &mut Vec<(u64, NewTransaction, Rejection)>) -> Result<u64, LedgerError> {
        let writer = self.writer;
        const SAME: &str = "(b.user_id, b.asset, b.kind, b.amount, b.occurred_at) = (h.user_id, h.asset, h.kind, h.amount, h.occurred_at)";
        const COLUMNS: &str = "b.number, b.transaction_id, b.user_id, b.asset, b.kind, b.amount, b.occurred_at, h.user_id, h.asset, h.kind, \
             h.amount, h.occurred_at";
        let table = &writer.table;
        let held =
            format!("DELETE FROM florin_bulk b USING {table} h WHERE h.transaction_id = b.transaction_id");
        let mut duplicates = writer.count(&format!("{held} AND {SAME}"))?;
        for row in writer.rows(&format!("{held} RETURNING {COLUMNS}, h.version"))? {
            rejected.push(conflict(&row, row.get(12))?);
        }
        let first = "SELECT DISTINCT ON (transaction_id) * FROM florin_bulk ORDER BY transaction_id, number";
        let again = format!(
            "DELETE FROM florin_bulk b USING ({first}) h WHERE h.transaction_id = b.transaction_id AND h.number < b.number"
        );
        duplicates += writer.count(&format!("{again} AND {SAME}"))?;
        // What version the first will have: those before it in its account are known only once all is judged.
        for row in writer.rows(&format!("{again} RETURNING {COLUMNS}, h.number"))? {
            let number: i64 = row.get(12);
            let version = self.version_of(number)?;
            rejected.push(conflict(&row, version)?);
        }
        Ok(duplicates)
    }

    fn version_of(&self, number: i64) -> Result<i64, LedgerError> {
        let sql = format!(
            "SELECT coalesce((SELECT max(version) FROM {} t WHERE t.user_id = b.user_id), 0) + (SELECT count(DISTINCT c.transaction_id) \
             FROM florin_bulk c WHERE c.user_id = b.user_id AND c.number <= b.number) FROM florin_bulk b WHERE b.number = {number}",
            self.writer.table
        );
        Ok(self.writer.rows(&sql)?.first().map_or(0, |row| row.get(0)))
    }

    /// Rows that would give an account one asset more than florin holds, and those of accounts that no version can follow.
    fn judge_accounts(
        &self,
        rejected: &mut Vec<(u64, NewTransaction, Rejection)>,
    ) -> Result<(), LedgerError> {
        let writer = self.writer;
        let table = &writer.table;
        let full = format!(
            "WITH wanted AS (SELECT user_id, asset, min(number) AS number FROM florin_bulk GROUP BY 1, 2), \
             crowded AS (SELECT user_id FROM wanted GROUP BY 1), \
             held AS (SELECT DISTINCT t.user_id, t.asset FROM {table} t JOIN crowded USING (user_id)), \
             ranked AS (SELECT w.user_id, w.asset, row_number() OVER (PARTITION BY w.user_id ORDER BY w.number) + \
               (SELECT count(*) FROM held h WHERE h.user_id = w.user_id) AS place \
               FROM wanted w WHERE NOT EXISTS (SELECT 1 FROM held h WHERE h.user_id = w.user_id AND h.asset = w.asset)) \
             DELETE FROM florin_bulk b USING ranked r WHERE r.user_id = b.user_id AND r.asset = b.asset AND r.place > {ASSETS_MAX} \
             RETURNING b.number, b.transaction_id, b.user_id, b.asset, b.kind, b.amount, b.occurred_at"
        );
        for row in writer.rows(&full)? {
            let (number, row) = transaction(&row)?;
            let rejection = Rejection::TooManyAssets { user_id: row.user_id, asset: row.asset };
            rejected.push((number, row, rejection));
        }
        let ended = format!(
            "DELETE FROM florin_bulk b USING (SELECT user_id, max(version) AS last FROM {table} WHERE user_id IN (SELECT user_id FROM \
             florin_bulk) GROUP BY 1) l WHERE l.user_id = b.user_id AND (l.last < 1 OR l.last > 9223372036854775807 - (SELECT count(*) FROM \
             florin_bulk c WHERE c.user_id = b.user_id)) RETURNING b.number, b.transaction_id, b.user_id, b.asset, b.kind, b.amount, \
             b.occurred_at"
        );
        for row in writer.rows(&ended)? {
            let (number, row) = transaction(&row)?;
            let rejection = Rejection::NoNextVersion { user_id: row.user_id };
            rejected.push((number, row, rejection));
        }
        Ok(())
    }
}

impl PgBulk<'_> {
    /// Finds out whether a commit happened whose answer was lost.
    fn settle(&self, first: LedgerError) -> Result<(), LedgerError> {
        // Nothing of it enters: there is nothing to lose.
        let Some(witness) = &self.witness else { return Ok(()) };
        let mut last = first;
        tracing::warn!("{last}");
        let deadline = Instant::now() + BULK_ASK_TIMEOUT;
        while Instant::now() < deadline {
            match self.writer.holds(witness) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    return Err(unavailable(
                        "nothing was appended: the connection broke off before the commit; the same again is safe".to_owned(),
                    ));
                }
                Err(error) => last = error,
            }
            thread::sleep(SETTLE_PAUSE);
        }
        Err(uncertain(&last.reason))
    }
}

impl Drop for PgBulk<'_> {
    fn drop(&mut self) {
        // A COPY that is not finished is taken back by this.
        drop(self.copying.take());
        if self.is_open {
            // Where that fails, the connection is gone, and with it the transaction.
            let _ = self.writer.ask("ROLLBACK");
        }
    }
}

impl Bulk for PgBulk<'_> {
    fn add(&mut self, number: u64, row: &NewTransaction) -> Result<Added, LedgerError> {
        if let Err(error) = row.check() {
            return Ok(Added::Rejected(error.into()));
        }
        // Digits, letters and hyphens: nothing that COPY would read as something else.
        let line = format!(
            "{number}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            row.transaction_id,
            row.user_id.get(),
            row.asset,
            row.kind.number(),
            row.amount,
            row.occurred_at_us
        );
        self.piece.put_slice(line.as_bytes());
        if self.piece.len() >= BULK_PIECE_BYTES {
            self.send()?;
        }
        Ok(Added::Later)
    }

    fn judge(
        &mut self,
        tell: &mut dyn FnMut(u64, &NewTransaction, Rejection),
    ) -> Result<Judged, LedgerError> {
        self.send()?;
        let writer = self.writer;
        if let Some(mut copying) = self.copying.take() {
            writer
                .sql
                .wait(BULK_WORK_TIMEOUT, copying.as_mut().finish())
                .map_err(SqlError::into_ledger_error)?;
        }
        let (accounts, table) = (&writer.accounts, &writer.table);
        writer.ask(&format!(
            "CREATE INDEX ON florin_bulk (transaction_id); CREATE INDEX ON florin_bulk (user_id, number); ANALYZE florin_bulk; \
             INSERT INTO {accounts} (user_id) SELECT DISTINCT user_id FROM florin_bulk ORDER BY 1 ON CONFLICT DO NOTHING; \
             SELECT count(*) FROM (SELECT 1 FROM {accounts} WHERE user_id IN (SELECT user_id FROM florin_bulk) ORDER BY user_id FOR NO KEY \
             UPDATE) locked"
        ))?;
        let mut rejected = Vec::new();
        let duplicates = self.judge_ids(&mut rejected)?;
        self.judge_accounts(&mut rejected)?;
        rejected.sort_by_key(|(number, ..)| *number);
        for (number, row, rejection) in rejected {
            tell(number, &row, rejection);
        }
        let new = writer.count(&format!(
            "INSERT INTO {table} (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
             SELECT b.transaction_id, b.user_id, coalesce(l.last, 0) + row_number() OVER (PARTITION BY b.user_id ORDER BY b.number), \
             b.asset, b.kind, b.amount, b.occurred_at FROM florin_bulk b LEFT JOIN (SELECT user_id, max(version) AS last FROM {table} WHERE \
             user_id IN (SELECT user_id FROM florin_bulk) GROUP BY 1) l ON l.user_id = b.user_id ORDER BY b.number"
        ))?;
        let witness = writer.rows("SELECT transaction_id, user_id FROM florin_bulk LIMIT 1")?;
        self.witness = witness.first().map(|row| Witness { transaction_id: row.get(0), user_id: row.get(1) });
        Ok(Judged { new, duplicates })
    }

    fn commit(mut self: Box<Self>) -> Result<(), LedgerError> {
        self.is_open = false;
        let sql = &self.writer.sql;
        match sql.wait(BULK_WORK_TIMEOUT, sql.client.batch_execute("COMMIT")) {
            Ok(()) => Ok(()),
            Err(error) if error.is_refusal() => Err(error.into_ledger_error()),
            Err(error) => self.settle(error.into_commit_error()),
        }
    }
}

/// A row as it was given.
fn transaction(row: &Row) -> Result<(u64, NewTransaction), LedgerError> {
    let read = || {
        Some((
            u64::try_from(row.get::<_, i64>(0)).ok()?,
            NewTransaction {
                transaction_id: TransactionId::parse(row.get(1))?,
                user_id: UserId::new(u64::try_from(row.get::<_, i64>(2)).ok()?)?,
                asset: Asset::parse(row.get::<_, &str>(3).as_bytes()).ok()?,
                kind: Kind::from_number(row.get::<_, i16>(4).into())?,
                amount: row.get(5),
                occurred_at_us: row.get(6),
            },
        ))
    };
    read().ok_or_else(|| failed("PostgreSQL gives back another row than it was given".to_owned()))
}

/// A row whose id is taken by one with other content, which has this version.
fn conflict(row: &Row, version: i64) -> Result<(u64, NewTransaction, Rejection), LedgerError> {
    let (number, given) = transaction(row)?;
    let differs = [
        (Field::UserId, row.get::<_, i64>(2) != row.get::<_, i64>(7)),
        (Field::Asset, row.get::<_, &str>(3) != row.get::<_, &str>(8)),
        (Field::Kind, row.get::<_, i16>(4) != row.get::<_, i16>(9)),
        (Field::Amount, row.get::<_, i64>(5) != row.get::<_, i64>(10)),
    ];
    let field = differs.iter().find(|(_, differs)| *differs).map_or(Field::OccurredAt, |&(field, _)| field);
    let version = Version(u64::try_from(version).unwrap_or_default());
    Ok((number, given, Rejection::Conflict { transaction_id: given.transaction_id, field, version }))
}
