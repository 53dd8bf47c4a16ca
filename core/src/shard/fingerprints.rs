//! Which rows a shard has applied, by bucket of users.
//!
//! Whoever walks over the accounts, to copy them into a checkpoint or to compare them with the ledger, sees each at another
//! moment. So the rows that came for accounts which a walk had met already are summed up besides, once for each of the two walks:
//! without them, the sums are those of the accounts as the walk has seen them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;

use florin_schema::{UserId, Version};

use super::audit::Sum;
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

/// What became of a history that was read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RereadEnd {
    /// It is the account.
    Shown,
    /// It will be.
    Unfinished,
    /// It held less than the account.
    Thrown,
}

/// See the module.
pub(super) struct Fingerprints {
    applied: Sums,
    after_copying: Sums,
    after_audit: Sums,
    /// Buckets of which it is not known what was applied: a checkpoint named some of their accounts, and no more.
    unknown: Box<[bool]>,
    /// Rows of a commit that is coming, and whether the user is new: they count when they are shown.
    unfinished: BTreeMap<UserId, (Fingerprint, bool)>,
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
            unfinished: BTreeMap::new(),
            reread: None,
        }
    }

    /// A row as it was committed has been applied, and is shown.
    #[inline]
    pub fn note_applied(&mut self, row: &Transaction, met_by: MetBy) {
        let fingerprint = self.note_live(row);
        self.add(row.user_id, fingerprint, met_by);
    }

    /// A row has been applied which is shown later.
    pub fn note_part(&mut self, row: &Transaction) {
        let fingerprint = self.note_live(row);
        self.add_unfinished(row.user_id, fingerprint, row.version == Version(1));
    }

    fn add_unfinished(&mut self, user: UserId, fingerprint: Fingerprint, is_new: bool) {
        let (rows, was_new) = self.unfinished.entry(user).or_default();
        *rows = rows.plus(fingerprint);
        *was_new |= is_new;
    }

    /// Whether rows wait to be shown.
    #[inline]
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// The first user of whom rows wait to be shown.
    pub fn first_unfinished(&self) -> Option<UserId> {
        self.unfinished.first_key_value().map(|(&user, _)| user)
    }

    /// The user's rows that waited are shown. Whether it is a new user's first.
    pub fn show(&mut self, user: UserId, met_by: MetBy) -> bool {
        let Some((rows, is_new)) = self.unfinished.remove(&user) else { return false };
        self.add(user, rows, met_by);
        is_new
    }

    /// The fingerprint of a row that came as it was committed.
    #[inline]
    fn note_live(&mut self, row: &Transaction) -> Fingerprint {
        let fingerprint = Fingerprint::of(row);
        if let Some(reread) = self.reread.as_mut().filter(|reread| reread.user == row.user_id) {
            // The history that is being read has it, too, or will be thrown away.
            reread.rows = reread.rows.minus(fingerprint);
        }
        fingerprint
    }

    fn add(&mut self, user: UserId, fingerprint: Fingerprint, met_by: MetBy) {
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

    /// That history has ended, and has taken the place of the account, or of what a commit that is coming will leave. Whether a new
    /// user's first rows are shown with it.
    pub fn end_reread(&mut self, end: RereadEnd, met_by: MetBy) -> bool {
        let Some(Reread { user, version, rows }) = self.reread.take() else { return false };
        let is_new = version == Version(0);
        match end {
            RereadEnd::Shown => self.add(user, rows, met_by),
            RereadEnd::Unfinished => self.add_unfinished(user, rows, is_new),
            RereadEnd::Thrown => {}
        }
        is_new && end == RereadEnd::Shown
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
