//! Which rows a shard has applied, by bucket of users.
//!
//! Whoever walks over the accounts, to copy them into a checkpoint or to compare them with the ledger, sees each at another
//! moment. So the rows that came for accounts which a walk had met already are summed up besides, once for each of the two walks:
//! without them, the sums are those of the accounts as the walk has seen them.

use alloc::boxed::Box;
use alloc::vec;

use florin_schema::{UserId, Version};

use super::audit::Sum;
use super::table::Coming;
use crate::audit::{BUCKETS, Fingerprint, bucket_of};
use crate::ledger::Transaction;

/// One for each bucket.
pub(super) type Sums = Box<[Fingerprint]>;

/// Which walks have met a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MetBy {
    /// That which copies accounts into a checkpoint.
    pub copying: bool,
    /// That which compares them with the ledger.
    pub audit: bool,
}

/// Rows that end as an account's when its history has been read again: those that it did not have.
struct Reread {
    user: UserId,
    /// Of the account when that began.
    version: Version,
    rows: Fingerprint,
}

/// See the module.
pub(super) struct Fingerprints {
    applied: Sums,
    after_copying: Sums,
    after_audit: Sums,
    /// Buckets of which it is not known what was applied: a checkpoint named some of their accounts, and no more.
    unknown: Box<[bool]>,
    reread: Option<Reread>,
}

impl Fingerprints {
    pub fn new() -> Fingerprints {
        let sums = || vec![Fingerprint::default(); BUCKETS].into_boxed_slice();
        Fingerprints {
            applied: sums(),
            after_copying: sums(),
            after_audit: sums(),
            unknown: vec![false; BUCKETS].into_boxed_slice(),
            reread: None,
        }
    }

    /// A row has been applied as it was committed. Its fingerprint: it counts when the row is shown.
    #[inline]
    pub fn note_applied(&mut self, row: &Transaction) -> Fingerprint {
        let fingerprint = Fingerprint::of(row);
        if let Some(reread) = self.reread.as_mut().filter(|reread| reread.user == row.user_id) {
            // The history that is being read has it, too, or will be thrown away.
            reread.rows = reread.rows.minus(fingerprint);
        }
        fingerprint
    }

    /// Rows of the user's are shown from now on.
    #[inline]
    pub fn add(&mut self, user: UserId, fingerprint: Fingerprint, met_by: MetBy) {
        let bucket = bucket_of(user.hashed());
        let add = |sums: &mut Sums| sums[bucket] = sums[bucket].plus(fingerprint);
        add(&mut self.applied);
        if met_by.copying {
            add(&mut self.after_copying);
        }
        if met_by.audit {
            add(&mut self.after_audit);
        }
    }

    /// The history of an account that is at `version`, or will be once a commit has come, is read again.
    pub fn begin_reread(&mut self, user: UserId, version: Version) {
        self.reread = Some(Reread { user, version, rows: Fingerprint::default() });
    }

    /// A row of that history has been applied.
    pub fn note_reread(&mut self, row: &Transaction) {
        if let Some(reread) = self.reread.as_mut().filter(|reread| row.version > reread.version) {
            reread.rows = reread.rows.plus(Fingerprint::of(row));
        }
    }

    /// That history has ended: the rows of it that the account did not have.
    pub fn end_reread(&mut self) -> Option<Coming> {
        let Reread { version, rows, .. } = self.reread.take()?;
        Some(Coming { rows, is_new: version == Version(0) })
    }

    /// Nothing was applied.
    pub fn clear(&mut self) {
        *self = Fingerprints::new();
    }

    /// A checkpoint's accounts had these rows; `None` = that is not known.
    pub fn restore(&mut self, bucket: usize, rows: Option<Fingerprint>) {
        match rows {
            Some(rows) => self.applied[bucket] = self.applied[bucket].plus(rows),
            None => self.unknown[bucket] = true,
        }
    }

    pub fn begin_copying(&mut self) {
        self.after_copying.fill(Fingerprint::default());
    }

    pub fn begin_audit(&mut self) {
        self.after_audit.fill(Fingerprint::default());
    }

    /// The rows of the accounts of a bucket as they were compared.
    pub fn audited(&self, bucket: usize) -> Sum {
        let rows = self.applied[bucket].minus(self.after_audit[bucket]);
        Sum { rows, is_unknown: self.unknown[bucket] }
    }

    /// From now on these rows count, too: what the accounts hold is known to be what the ledger has.
    pub fn adopt(&mut self, bucket: usize, rows: Fingerprint) {
        self.applied[bucket] = self.applied[bucket].plus(rows);
        self.unknown[bucket] = false;
    }

    /// The rows of the accounts of a bucket as they were copied; `None` = that is not known.
    pub fn copied(&self, bucket: usize) -> Option<Fingerprint> {
        (!self.unknown[bucket]).then(|| self.applied[bucket].minus(self.after_copying[bucket]))
    }

    /// All rows applied to accounts of a bucket.
    pub fn applied(&self, bucket: usize) -> Fingerprint {
        self.applied[bucket]
    }
}

#[cfg(test)]
mod tests;
