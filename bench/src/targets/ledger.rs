//! The ledger behind a measurement: generated once and kept, or somebody's own; and who is in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use florin::ledger::Kind;
use florin_schema::layout::BalanceView;
use florin_schema::{Asset, UserId};
use rusqlite::{Connection, OpenFlags};

use crate::limits::SAMPLED_USERS;
use crate::work::Population;

/// What `florin generate` is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generated {
    /// How many users.
    pub users: u32,
    /// How many transactions.
    pub transactions: u64,
    /// The same seed makes the same platform.
    pub seed: u64,
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be generated.
    #[error("{command} failed: {said}")]
    Generate {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A directory or a file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("reading the ledger {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row that no transaction can be made of.
    #[error("the ledger {} has a row of user {user} that is no transaction: {what}", .path.display())]
    Row {
        /// Which ledger.
        path: PathBuf,
        /// Whose row.
        user: i64,
        /// What stands there.
        what: String,
    },
    /// A user that cannot be.
    #[error("the ledger {} has a user {user}, which is no id", .path.display())]
    User {
        /// Which ledger.
        path: PathBuf,
        /// What stands there.
        user: i64,
    },
}

/// The ledger for `generated` in `directory`; `florin generate` makes it where there is none yet.
pub fn kept(florin: &Path, directory: &Path, generated: Generated) -> Result<PathBuf, LedgerError> {
    let Generated { users, transactions, seed } = generated;
    let path = directory.join(format!("ledger-{users}-{transactions}-{seed}.db"));
    if path.exists() {
        return Ok(path);
    }
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::File { path, source }
    };
    fs::create_dir_all(directory).map_err(file(directory))?;
    // Under another name until it is whole, so that an interrupted one is not taken for it.
    let partial = directory.join(format!("partial-{}.db", std::process::id()));
    let mut command = Command::new(florin);
    command.arg("generate").arg("--ledger").arg(format!("sqlite:{}", partial.display()));
    command.args(["--users", &users.to_string(), "--transactions", &transactions.to_string()]);
    command.args(["--seed", &seed.to_string()]);
    let shown = format!("{command:?}");
    let failed = |said: String| LedgerError::Generate { command: shown.clone(), said };
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fs::rename(&partial, &path).map_err(file(&path))?;
    Ok(path)
}

/// Everybody in a ledger.
pub fn population(path: &Path) -> Result<Vec<UserId>, LedgerError> {
    let read = || {
        let ledger = open(path)?;
        let mut statement = ledger.prepare("SELECT DISTINCT user_id FROM transactions ORDER BY user_id")?;
        let users = statement.query_map([], |row| row.get::<_, i64>(0))?;
        users.collect::<Result<Vec<i64>, _>>()
    };
    let users = read().map_err(|source| LedgerError::Read { path: path.to_owned(), source })?;
    let id = |user: i64| u64::try_from(user).ok().and_then(UserId::new);
    users
        .into_iter()
        .map(|user| id(user).ok_or_else(|| LedgerError::User { path: path.to_owned(), user }))
        .collect()
}

/// Bytes of a balance's body, for the average user: the size of a peer's values.
pub fn balance_bytes(path: &Path, population: &Population) -> Result<usize, LedgerError> {
    let users = &population.users()[..population.users().len().min(SAMPLED_USERS)];
    let (first, last) = (users.iter().min(), users.iter().max());
    let range = [first, last].map(|user| user.expect("a population has users").get() as i64);
    let read = || {
        let sql = "SELECT count(DISTINCT user_id), count(*) FROM \
                   (SELECT DISTINCT user_id, asset FROM transactions WHERE user_id BETWEEN ?1 AND ?2)";
        open(path)?.query_row(sql, range, |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?)))
    };
    let (users, rows) = read().map_err(|source| LedgerError::Read { path: path.to_owned(), source })?;
    Ok(BalanceView::bytes_of((f64::from(rows) / f64::from(users.max(1))).round() as usize))
}

/// A row of the ledger, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose.
    pub user: u64,
    /// In what.
    pub asset: Asset,
    /// What has happened.
    pub kind: Kind,
    /// Minor units.
    pub amount: i64,
}

/// Hands every row to `take`, in the order in which they were committed.
pub fn each_row(path: &Path, mut take: impl FnMut(Row)) -> Result<(), LedgerError> {
    let mut strange = None;
    let mut read = || {
        let ledger = open(path)?;
        let mut statement =
            ledger.prepare("SELECT user_id, asset, kind, amount FROM transactions ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (user, asset, kind): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let read = || {
                Some((
                    u64::try_from(user).ok()?,
                    Asset::parse(asset.as_bytes()).ok()?,
                    Kind::from_number(kind)?,
                ))
            };
            match read() {
                Some((user, asset, kind)) => take(Row { user, asset, kind, amount: row.get(3)? }),
                None => strange = Some((user, format!("asset {asset:?}, kind {kind}"))),
            }
        }
        Ok(())
    };
    read().map_err(|source| LedgerError::Read { path: path.to_owned(), source })?;
    match strange {
        None => Ok(()),
        Some((user, what)) => Err(LedgerError::Row { path: path.to_owned(), user, what }),
    }
}

fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_size_come_from_the_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let ledger = Connection::open(&path).unwrap();
        ledger.execute_batch(florin_schema::LEDGER_SQL).unwrap();
        // Users 3 and 9 have one asset and three, so two on average.
        let rows = [(3, 1, "USD"), (3, 2, "USD"), (9, 1, "COIN"), (9, 2, "USD"), (9, 3, "DIAMOND")];
        for (index, (user, version, asset)) in rows.into_iter().enumerate() {
            let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                       VALUES (?1, ?2, ?3, ?4, 1, 5, 0)";
            let id = format!("00000000-0000-4000-8000-{index:012}");
            ledger.execute(sql, (id, user, version, asset)).unwrap();
        }
        let users = population(&path).unwrap();
        assert_eq!(users, [3, 9].map(|id| UserId::new(id).unwrap()));
        let population = Population::new(users).unwrap();
        assert_eq!(balance_bytes(&path, &population).unwrap(), 32 + 2 * 24);
    }

    #[test]
    fn a_generator_that_fails_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let generated = Generated { users: 2, transactions: 2, seed: 1 };
        let error = kept(Path::new("/bin/false"), directory.path(), generated).unwrap_err();
        assert!(matches!(error, LedgerError::Generate { .. }), "{error}");
    }
}
