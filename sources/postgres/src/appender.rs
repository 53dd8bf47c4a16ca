//! What a node appends. One transaction serves all that wait: their accounts are locked in the order of their ids, what the
//! ledger holds of them is read, each request is judged, and what is let in is inserted at once.
//!
//! What is acknowledged is in the followed ledger: server and table are told from others within the transaction, where nobody
//! can put another in their place any more, and it is looked once more after the commit whether that server is followed still.
//!
//! A commit whose answer was lost may have happened. So the same is appended again, at the server that is followed: its
//! accounts' locks make it wait until the first has ended one way or the other, and rows that the first has entered are told
//! by their ids.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use florin_core::limits::{ASSETS_MAX, LEDGER_ACCOUNTS_CACHED_MAX};
use florin_record::{
    Appended, Appender, Field, LedgerError, NewTransaction, Outcome, Refused, Rejection, TransactionId,
    Trouble,
};
use florin_schema::{Asset, UserId, Version};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::address::TableName;
use crate::beside::Beside;
use crate::instance::{Instance, WHO};
use crate::ledger::PgLedger;
use crate::limits::{APPEND_TRIES_MAX, COMMIT_TIMEOUT, SETTLE_PAUSE, SETTLE_TIMEOUT};
use crate::sql::{Sql, SqlError, unavailable, uncertain};

/// The largest that the column holds.
const VERSION_MAX: u64 = i64::MAX as u64;

/// See the module.
pub struct PgAppender {
    ledger: Arc<PgLedger>,
    statements: Statements,
    connected: Option<Sql>,
    /// Some assets of accounts. Rows are never removed, so what was seen stays true.
    assets: HashMap<UserId, Vec<Asset>>,
}

struct Statements {
    lock: String,
    existing: String,
    accounts: String,
    held: String,
    insert: String,
    identity: String,
}

/// What a batch adds, and its versions.
type New = Vec<(NewTransaction, Version)>;

impl Statements {
    fn of(table: &TableName) -> Statements {
        let (name, accounts) = (table.quoted(), Beside::of(table).accounts.quoted());
        Statements {
            lock: format!(
                "WITH made AS (INSERT INTO {accounts} (user_id) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING RETURNING user_id) \
                 SELECT count(*) FROM (SELECT 1 FROM {accounts} WHERE user_id = ANY ($1) ORDER BY user_id FOR NO KEY UPDATE) locked"
            ),
            existing: format!(
                "SELECT transaction_id, version, user_id, asset, kind, amount, occurred_at FROM {name} WHERE transaction_id = ANY \
                 ($1::text[])"
            ),
            accounts: format!(
                "SELECT u, (SELECT max(version) FROM {name} WHERE user_id = u) FROM unnest($1::bigint[]) AS u"
            ),
            held: format!(
                "SELECT u, (SELECT array_agg(DISTINCT asset) FROM {name} WHERE user_id = u) FROM unnest($1::bigint[]) AS u"
            ),
            insert: format!(
                "INSERT INTO {name} (transaction_id, user_id, version, asset, kind, amount, occurred_at) SELECT * FROM unnest($1::text[], \
                 $2::bigint[], $3::bigint[], $4::text[], $5::smallint[], $6::bigint[], $7::bigint[]) ON CONFLICT (transaction_id) DO NOTHING"
            ),
            identity: format!("SELECT {WHO}, coalesce(to_regclass($1)::oid, 0), current_database()::text"),
        }
    }
}

/// Why a batch did not come to its end.
enum Broken {
    /// Somebody was faster: to begin anew is right.
    Overtaken,
    /// Nothing was appended.
    Ledger(LedgerError),
    /// Whether this was appended is not known.
    Unanswered(New, LedgerError),
}

impl From<SqlError> for Broken {
    fn from(error: SqlError) -> Broken {
        let overtaken = [
            SqlState::UNIQUE_VIOLATION,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        match error.code() {
            Some(code) if overtaken.contains(code) => Broken::Overtaken,
            _ => Broken::Ledger(error.into_ledger_error()),
        }
    }
}

impl PgAppender {
    /// `ledger` is the one that is followed.
    pub fn new(ledger: Arc<PgLedger>) -> PgAppender {
        let statements = Statements::of(&ledger.target().address.table);
        PgAppender { ledger, statements, connected: None, assets: HashMap::new() }
    }

    fn attempt(&mut self, requests: &[&[NewTransaction]], deadline: Instant) -> Result<Vec<Outcome>, Broken> {
        let sql = match self.connected.take().filter(|sql| !sql.client.is_closed()) {
            Some(sql) => sql,
            None => Sql::connect(&self.ledger.target().address).map_err(Broken::Ledger)?,
        };
        // Given back only by a batch that has ended: any other ends with its connection.
        let outcomes = self.batch(&sql, requests, deadline)?;
        self.connected = Some(sql);
        Ok(outcomes)
    }

    fn batch(
        &mut self,
        sql: &Sql,
        requests: &[&[NewTransaction]],
        deadline: Instant,
    ) -> Result<Vec<Outcome>, Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Broken::Ledger(unavailable(
                "nothing was appended: other writers kept the ledger for too long; try again in a moment"
                    .to_owned(),
            )));
        }
        let client = &sql.client;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {ms}; SET LOCAL statement_timeout = {ms}",
            ms = left.as_millis().max(1)
        );
        sql.wait(left, client.batch_execute(&begin))?;
        let mut judge = self.read(sql, requests, left)?;
        let outcomes = requests.iter().map(|request| judge.request(request)).collect();
        self.insert(sql, &judge.new, left)?;
        let here = self.check_identity(sql, left)?;
        match sql.wait(COMMIT_TIMEOUT, client.batch_execute("COMMIT")) {
            Ok(()) => {}
            Err(error) if error.is_refusal() => return Err(error.into()),
            Err(error) => return Err(Broken::Unanswered(judge.new, error.into_commit_error())),
        }
        if let Err(reason) = self.ledger.followed().check(here) {
            return Err(Broken::Unanswered(judge.new, uncertain(&reason)));
        }
        self.remember(judge);
        Ok(outcomes)
    }

    /// Locks the accounts, and reads what the ledger holds of them and of the ids.
    fn read(&self, sql: &Sql, requests: &[&[NewTransaction]], left: Duration) -> Result<Judge, Broken> {
        let rows = || requests.iter().flat_map(|request| request.iter());
        let users: Vec<i64> =
            rows().map(|row| row.user_id.get().cast_signed()).collect::<BTreeSet<_>>().into_iter().collect();
        let ids: Vec<String> = rows().map(|row| row.transaction_id.to_string()).collect();
        let (client, statements) = (&sql.client, &self.statements);
        // Twice: rows that the first has made are not seen by it.
        for _ in 0..2 {
            let locked: i64 = sql.wait(left, client.query_one(&statements.lock, &[&users]))?.get(0);
            if usize::try_from(locked) == Ok(users.len()) {
                break;
            }
        }
        let mut judge = Judge::default();
        for row in sql.wait(left, client.query(&statements.existing, &[&ids]))? {
            let text: String = row.get(0);
            if let Some(id) = TransactionId::parse(&text) {
                judge.known.insert(id, Held::of(&row));
            }
        }
        for row in sql.wait(left, client.query(&statements.accounts, &[&users]))? {
            let last: Option<i64> = row.get(1);
            let last = last.map_or(Some(0), |last| u64::try_from(last).ok().filter(|&last| last > 0));
            judge.last.extend(user_of(row.get(0)).map(|user| (user, last)));
        }
        let is_unseen = |row: &&NewTransaction| {
            self.assets.get(&row.user_id).is_none_or(|assets| !assets.contains(&row.asset))
                && judge.last.get(&row.user_id) != Some(&Some(0))
        };
        let unseen: BTreeSet<i64> =
            rows().filter(is_unseen).map(|row| row.user_id.get().cast_signed()).collect();
        let unseen: Vec<i64> = unseen.into_iter().collect();
        for row in rows() {
            if let Some(assets) = self.assets.get(&row.user_id) {
                judge.assets.entry(row.user_id).or_insert_with(|| assets.clone());
            }
        }
        if !unseen.is_empty() {
            for row in sql.wait(left, client.query(&statements.held, &[&unseen]))? {
                let codes: Vec<String> = row.get::<_, Option<Vec<String>>>(1).unwrap_or_default();
                let assets = codes.iter().filter_map(|code| Asset::parse(code.as_bytes()).ok()).collect();
                judge.assets.extend(user_of(row.get(0)).map(|user| (user, assets)));
            }
        }
        Ok(judge)
    }

    fn insert(&self, sql: &Sql, new: &[(NewTransaction, Version)], left: Duration) -> Result<(), Broken> {
        if new.is_empty() {
            return Ok(());
        }
        let each =
            |number: fn(&(NewTransaction, Version)) -> i64| new.iter().map(number).collect::<Vec<i64>>();
        let ids: Vec<String> = new.iter().map(|(row, _)| row.transaction_id.to_string()).collect();
        let assets: Vec<String> = new.iter().map(|(row, _)| row.asset.to_string()).collect();
        let kinds: Vec<i16> = new.iter().map(|(row, _)| row.kind.number().into()).collect();
        let users = each(|(row, _)| row.user_id.get().cast_signed());
        let versions = each(|(_, version)| version.0.cast_signed());
        let (amounts, times) = (each(|(row, _)| row.amount), each(|(row, _)| row.occurred_at_us));
        let values: [&(dyn ToSql + Sync); 7] = [&ids, &users, &versions, &assets, &kinds, &amounts, &times];
        let inserted = sql.wait(left, sql.client.execute(&self.statements.insert, &values))?;
        // Of another account, by a writer that has just committed.
        if usize::try_from(inserted) == Ok(new.len()) { Ok(()) } else { Err(Broken::Overtaken) }
    }

    fn check_identity(&self, sql: &Sql, left: Duration) -> Result<Instance, Broken> {
        let name = self.ledger.target().table();
        let row = sql.wait(left, sql.client.query_one(&self.statements.identity, &[&name]))?;
        let texts: [Option<&str>; 3] = [row.get(0), row.get(1), row.get(2)];
        let here = Instance::of(&texts).ok_or_else(|| {
            unavailable("nothing was appended: the server does not say which one it is".to_owned())
        });
        let here = here.map_err(Broken::Ledger)?;
        let (table, database): (u32, &str) = (row.get(3), row.get(4));
        let followed = self.ledger.identity();
        if (here.system, table, database) == (followed.system, followed.table_oid, &followed.database) {
            let is_followed = self.ledger.followed().check(here);
            return is_followed.map(|()| here).map_err(|reason| {
                Broken::Ledger(unavailable(format!("nothing was appended: {reason}; try again in a moment")))
            });
        }
        Err(Broken::Ledger(LedgerError::new(
            Trouble::OtherLedger,
            format!(
                "nothing was appended: this is not the ledger that is followed, which is {followed}; here is the object id {table} in \
                 database {database} of the server {}: put that one back, or restart florin",
                here.system
            ),
        )))
    }

    /// Finds out what became of a batch that may have been appended, by appending it again.
    fn settle(
        &mut self,
        requests: &[&[NewTransaction]],
        new: New,
        first: LedgerError,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let ids = |new: New| new.into_iter().map(|(row, version)| (row.transaction_id, version));
        let mut ours: HashMap<TransactionId, Version> = ids(new).collect();
        let mut last = first;
        tracing::warn!("{last}");
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while Instant::now() < deadline {
            match self.attempt(requests, deadline) {
                Ok(outcomes) => return Ok(claimed(outcomes, requests, ours)),
                Err(Broken::Unanswered(new, error)) => {
                    ours.extend(ids(new));
                    last = error;
                }
                Err(Broken::Ledger(error)) => last = error,
                Err(Broken::Overtaken) => {}
            }
            thread::sleep(SETTLE_PAUSE);
        }
        Err(uncertain(&last.reason))
    }

    fn remember(&mut self, judge: Judge) {
        if self.assets.len() + judge.assets.len() > LEDGER_ACCOUNTS_CACHED_MAX {
            self.assets.clear();
        }
        self.assets.extend(judge.assets);
    }
}

impl Appender for PgAppender {
    fn append(
        &mut self,
        requests: &[&[NewTransaction]],
        deadline: Instant,
    ) -> Result<Vec<Outcome>, LedgerError> {
        if !self.ledger.target().mapping.is_own() {
            return Err(LedgerError::new(
                Trouble::ReadOnly,
                "nothing was appended: florin only reads a table that is mapped ([ledger.columns], [ledger.kinds]); commit its rows there",
            ));
        }
        for _ in 0..APPEND_TRIES_MAX {
            match self.attempt(requests, deadline) {
                Ok(outcomes) => return Ok(outcomes),
                Err(Broken::Ledger(error)) => return Err(error),
                Err(Broken::Unanswered(new, error)) => return self.settle(requests, new, error),
                Err(Broken::Overtaken) => {}
            }
        }
        Err(unavailable(
            "nothing was appended: another writer adds to the same accounts without locking them; try again in a moment".to_owned(),
        ))
    }

    fn close(self: Box<Self>) {}
}

/// The answer to a batch that was appended again: rows that are there as the first attempt had them were entered by it, and
/// were no duplicates then. (Somebody else's would be there with the same id, content and version: the same to any caller.)
fn claimed(
    mut outcomes: Vec<Outcome>,
    requests: &[&[NewTransaction]],
    mut ours: HashMap<TransactionId, Version>,
) -> Vec<Outcome> {
    for (outcome, request) in outcomes.iter_mut().zip(requests) {
        for (appended, row) in outcome.iter_mut().flatten().zip(*request) {
            // Once: another of the same id in the same request was a duplicate then, too.
            if ours.remove(&row.transaction_id) == Some(appended.version) {
                appended.duplicate = false;
            }
        }
    }
    outcomes
}

/// What the ledger holds, and what this batch adds to it.
#[derive(Default)]
struct Judge {
    known: HashMap<TransactionId, Held>,
    /// Each account's last version; none = one that no other can follow.
    last: HashMap<UserId, Option<u64>>,
    assets: HashMap<UserId, Vec<Asset>>,
    new: New,
}

/// A row that has an id already.
#[derive(Clone)]
struct Held {
    version: i64,
    user_id: i64,
    asset: String,
    kind: i16,
    amount: i64,
    occurred_at: i64,
}

impl Held {
    fn of(row: &tokio_postgres::Row) -> Held {
        Held {
            version: row.get(1),
            user_id: row.get(2),
            asset: row.get(3),
            kind: row.get(4),
            amount: row.get(5),
            occurred_at: row.get(6),
        }
    }

    fn is(row: &NewTransaction, version: Version) -> Held {
        Held {
            version: version.0.cast_signed(),
            user_id: row.user_id.get().cast_signed(),
            asset: row.asset.to_string(),
            kind: row.kind.number().into(),
            amount: row.amount,
            occurred_at: row.occurred_at_us,
        }
    }

    /// Whether it is this one.
    fn compare(&self, row: &NewTransaction) -> Result<Appended, Rejection> {
        let Some(version) = u64::try_from(self.version).ok().filter(|&version| version > 0).map(Version)
        else {
            return Err(Rejection::NoNextVersion { user_id: row.user_id });
        };
        let equal = [
            (Field::UserId, self.user_id == row.user_id.get().cast_signed()),
            (Field::Asset, self.asset == row.asset.to_string()),
            (Field::Kind, self.kind == i16::from(row.kind.number())),
            (Field::Amount, self.amount == row.amount),
            (Field::OccurredAt, self.occurred_at == row.occurred_at_us),
        ];
        match equal.iter().find(|(_, equal)| !equal) {
            None => Ok(Appended { version, duplicate: true }),
            Some(&(field, _)) => {
                Err(Rejection::Conflict { transaction_id: row.transaction_id, field, version })
            }
        }
    }
}

impl Judge {
    /// All of a request, or nothing.
    fn request(&mut self, rows: &[NewTransaction]) -> Outcome {
        let users: HashSet<UserId> = rows.iter().map(|row| row.user_id).collect();
        let of = |from: &HashMap<UserId, Vec<Asset>>| {
            users.iter().map(|user| (*user, from.get(user).cloned().unwrap_or_default())).collect::<Vec<_>>()
        };
        let (assets, added) = (of(&self.assets), self.new.len());
        let last: Vec<_> = users.iter().map(|user| (*user, self.last.get(user).copied().flatten())).collect();
        let mut appended = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            match self.row(row) {
                Ok(one) => appended.push(one),
                Err(rejection) => {
                    for (row, _) in self.new.drain(added..) {
                        self.known.remove(&row.transaction_id);
                    }
                    self.assets.extend(assets);
                    self.last.extend(last);
                    return Err(Refused { index, rejection });
                }
            }
        }
        Ok(appended)
    }

    fn row(&mut self, row: &NewTransaction) -> Result<Appended, Rejection> {
        row.check()?;
        if let Some(held) = self.known.get(&row.transaction_id) {
            return held.compare(row);
        }
        let last = self.last.entry(row.user_id).or_insert(Some(0));
        let Some(version) = last.filter(|&last| last < VERSION_MAX).map(|last| Version(last + 1)) else {
            return Err(Rejection::NoNextVersion { user_id: row.user_id });
        };
        let assets = self.assets.entry(row.user_id).or_default();
        if !assets.contains(&row.asset) {
            if assets.len() >= ASSETS_MAX {
                return Err(Rejection::TooManyAssets { user_id: row.user_id, asset: row.asset });
            }
            assets.push(row.asset);
        }
        *last = Some(version.0);
        self.known.insert(row.transaction_id, Held::is(row, version));
        self.new.push((*row, version));
        Ok(Appended { version, duplicate: false })
    }
}

fn user_of(number: i64) -> Option<UserId> {
    u64::try_from(number).ok().and_then(UserId::new)
}
