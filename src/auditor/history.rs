//! An account's rows, read from the ledger and added up: what it must be answered with, and which rows those are.

use florin_schema::{UserId, Version};

use crate::audit::{Fingerprint, Recomputed};
use crate::follower::{Row, Scan, SourceError};
use crate::limits::AUDIT_ROWS_PER_READ;
use crate::shard::audit::Below;

/// An account of the ledger.
#[derive(Clone, Debug)]
pub struct History {
    /// What its rows amount to.
    pub account: Recomputed,
    /// Which rows those are.
    pub rows: Fingerprint,
    /// Why the ledger's further rows cannot be added; `None` = there are none.
    pub trouble: Option<String>,
}

/// Some accounts of the ledger: all of those from one user on to another.
#[derive(Debug)]
pub struct Piece {
    /// In the order of users.
    pub histories: Vec<History>,
    /// To whom.
    pub below: Below,
}

impl History {
    /// An account without rows, of which windows may be asked at `wall_us` and later.
    pub fn new(user: UserId, wall_us: i64) -> History {
        let account = Recomputed::new(user, wall_us);
        History { account, rows: Fingerprint::default(), trouble: None }
    }

    /// Whose.
    pub fn user(&self) -> UserId {
        self.account.user()
    }

    /// How many rows were added.
    pub fn version(&self) -> Version {
        self.account.version()
    }

    /// Adds the account's next row, if it can be.
    pub fn add(&mut self, row: &Row) {
        if self.trouble.is_some() {
            return;
        }
        match row {
            Ok(row) if self.account.add(row) => self.rows = self.rows.plus(Fingerprint::of(row)),
            Ok(row) if self.account.is_impossible() => {
                self.trouble = Some(format!("row {} leads beyond what an account can hold", row.version));
            }
            Ok(row) => self.trouble = Some(format!("after row {} comes row {}", self.version(), row.version)),
            Err(unreadable) => self.trouble = Some(unreadable.to_string()),
        }
    }

    /// Adds rows up to version `until`, or all that there are.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read_on(&mut self, scan: &mut dyn Scan, until: Version) -> Result<(), SourceError> {
        let mut rows = Vec::new();
        while self.version() < until && self.trouble.is_none() {
            rows.clear();
            let after = Some(self.version()).filter(|&version| version > Version(0));
            let left = usize::try_from(until.0 - self.version().0).unwrap_or(usize::MAX);
            let limit = left.min(AUDIT_ROWS_PER_READ);
            scan.account(self.user(), after, limit, &mut rows)?;
            rows.iter().for_each(|row| self.add(row));
            if rows.len() < limit {
                break;
            }
        }
        Ok(())
    }

    /// Reads an account up to version `until`, or all of it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(
        scan: &mut dyn Scan,
        user: UserId,
        until: Version,
        wall_us: i64,
    ) -> Result<History, SourceError> {
        let mut history = History::new(user, wall_us);
        history.read_on(scan, until)?;
        Ok(history)
    }
}

/// More than any account has.
pub const ALL: Version = Version(i64::MAX as u64);

/// Reads the accounts from `from` on, as many as some rows make; one that has more rows than that is a piece by itself.
///
/// # Errors
/// Those of reading.
pub fn read_piece(scan: &mut dyn Scan, from: UserId, wall_us: i64) -> Result<Piece, SourceError> {
    let mut rows: Vec<Row> = Vec::new();
    scan.users(from, AUDIT_ROWS_PER_READ, &mut rows)?;
    let user_of = |row: &Row| match row {
        Ok(row) => Some(row.user_id),
        Err(unreadable) => unreadable.user_id,
    };
    let mut piece = Piece { histories: Vec::new(), below: Below::End };
    if rows.len() == AUDIT_ROWS_PER_READ
        && let Some(last) = rows.last().and_then(user_of)
    {
        if rows.first().and_then(user_of) == Some(last) {
            piece.histories.push(History::read(scan, last, ALL, wall_us)?);
            piece.below = UserId::new(last.get() + 1).map_or(Below::End, Below::User);
            return Ok(piece);
        }
        // It may have more rows, and is read with the next piece.
        rows.retain(|row| user_of(row) != Some(last));
        piece.below = Below::User(last);
    }
    for row in &rows {
        let Some(user) = user_of(row) else { continue };
        if piece.histories.last().is_none_or(|history| history.user() != user) {
            piece.histories.push(History::new(user, wall_us));
        }
        piece.histories.last_mut().expect("one was pushed").add(row);
    }
    Ok(piece)
}
