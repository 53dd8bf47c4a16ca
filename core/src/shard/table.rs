//! A shard's accounts: the index that finds them and the blocks that their records lie in.
//!
//! A lookup goes in passes, each of which asks for the memory that the next one reads: [`Table::prefetch`], [`Table::guess`],
//! [`Table::confirm`].

mod quarantine;
mod unfinished;
mod walk;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use florin_schema::layout::BalanceView;
#[cfg(debug_assertions)]
use florin_schema::layout::{AssetRow, BalanceRoot};
use florin_schema::{HashedUser, UserId, Version};

use super::Defect;
use super::account::{Account, Flags};
use super::blocks::{Blocks, Growth, Handle, Used};
use super::index::{Chores, Index, Place};
use super::memory::Housekeeping;
use super::metrics::Part;
use crate::checkpoint::{Record, RecordError};
use crate::clock::Now;
use crate::ledger::{Arrival, Clocks, Horizon, Transaction};
use crate::limits::INDEX_LINES_PER_TURN;
use crate::wire::AssetTotals;

use quarantine::{Reread, TO_BE_REPAIRED, UNREADABLE};
pub use unfinished::Coming;
use unfinished::{Entry, Unfinished};
pub use walk::Walk;

/// A shard's accounts.
pub struct Table {
    index: Index,
    blocks: Blocks,
    /// Accounts whose history is known to be incomplete: the watermark when each was last whole.
    quarantined: BTreeMap<UserId, Now>,
    /// The watermark of this turn: everything that was committed by then has been applied.
    pub watermark: Now,
    reread: Option<Reread>,
    unfinished: Unfinished,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The account holds it now.
    Applied,
    /// The account holds it now; but rows after it came before it and were skipped, so its history has to be asked for.
    AppliedLate,
    /// It held it already.
    Duplicate,
    /// Rows before it are missing; the account is quarantined. `ask` says whether its history has still to be asked
    /// for.
    Gap {
        /// Whether to ask.
        ask: bool,
    },
    /// It cannot be applied; the account is quarantined and follows no further.
    Defective(Defect),
    /// The account has been defective for longer; the row was skipped.
    Ignored,
}

impl Outcome {
    /// Whether the account holds the row since then.
    #[inline]
    pub fn is_applied(self) -> bool {
        matches!(self, Outcome::Applied | Outcome::AppliedLate)
    }
}

/// The account that has the user's tag: nearly always the user's. Or none, and then the user has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guess(Handle);

impl Guess {
    /// None.
    pub const NOBODY: Guess = Guess(Handle::NONE);
}

/// An account, found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    account: Account,
    /// The archived balance.
    pub balance: BalanceView<'a>,
    /// Whether its history is known to be incomplete.
    pub trust: Trust,
}

impl Found<'_> {
    #[inline(always)]
    fn is_of(&self, user: HashedUser) -> bool {
        self.balance.root.user_id.get() == user.id.get()
    }

    /// Whether none of its transactions has been applied: it is known by those that came behind a gap, or that cannot be applied, so it
    /// is quarantined.
    #[inline(always)]
    pub fn has_no_beginning(&self) -> bool {
        self.trust == Trust::Quarantined && self.balance.root.version.get() == 0
    }
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table {
            index: Index::new(),
            blocks: Blocks::new(),
            quarantined: BTreeMap::new(),
            watermark: Now::default(),
            reread: None,
            unfinished: Unfinished::new(),
        }
    }

    /// Accounts held.
    pub fn accounts(&self) -> usize {
        self.index.taken()
    }

    /// Whether a commit is coming that concerns the user.
    pub fn is_coming(&self, user_id: UserId) -> bool {
        self.unfinished(user_id).is_some()
    }

    fn unfinished(&self, user_id: UserId) -> Option<Account> {
        self.unfinished.get(&self.blocks, user_id).map(|entry| entry.account)
    }

    /// How many transactions the user's account holds, or will once the commit that is coming has ended.
    pub fn coming_version(&self, user_id: UserId) -> Version {
        let unfinished = self.unfinished(user_id).map(|account| account.version(&self.blocks));
        unfinished.unwrap_or_else(|| self.version(user_id))
    }

    /// How many transactions the user's account holds; 0 where there is none.
    pub fn version(&self, user_id: UserId) -> Version {
        let found = self.find(user_id.hashed());
        found.map_or(Version(0), |found| Version(found.balance.root.version.get()))
    }

    /// Bytes held from the system: index and records.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.blocks.bytes()
    }

    /// Where those bytes go, by [`Part`].
    pub fn parts(&self) -> [usize; Part::ALL.len()] {
        let Used { balances, headers, lifetimes, buckets } = self.blocks.used;
        let slack = self.blocks.live_bytes() - (balances + headers + lifetimes + buckets);
        let free = self.blocks.bytes() - self.blocks.live_bytes();
        [self.index.bytes(), balances, headers, lifetimes, buckets, slack, free]
    }

    /// First pass of a lookup: asks for the user's line of the index.
    #[inline]
    pub fn prefetch(&self, user: HashedUser) {
        self.index.prefetch(user);
    }

    /// Second pass: whose account may it be; asks for its record.
    #[inline(always)]
    pub fn guess(&self, user: HashedUser) -> Guess {
        let balance = self.index.guess(user);
        self.blocks.prefetch(balance);
        Guess(balance)
    }

    /// Third pass: the account itself.
    #[inline(always)]
    pub fn confirm(&self, user: HashedUser, mut guess: Guess) -> Option<Found<'_>> {
        while guess.0.is_some() {
            let found = self.found(Account { balance: guess.0 });
            if found.is_of(user) {
                return Some(found);
            }
            guess = self.look_closely(user);
        }
        None
    }

    /// Looks at the records, too.
    #[cold]
    fn look_closely(&self, user: HashedUser) -> Guess {
        self.find_closely(user).map_or(Guess::NOBODY, |(_, balance)| Guess(balance))
    }

    /// All passes at once.
    pub fn find(&self, user: HashedUser) -> Option<Found<'_>> {
        self.confirm(user, self.guess(user))
    }

    #[inline(always)]
    fn found(&self, account: Account) -> Found<'_> {
        let (balance, flags) = account.flagged_balance(&self.blocks);
        Found { account, balance, trust: Trust::of(flags) }
    }

    fn find_closely(&self, user: HashedUser) -> Option<(Place, Handle)> {
        self.index.find(user, |balance| self.found(Account { balance }).is_of(user))
    }

    /// For statistics, before the third pass: asks for where they begin.
    #[inline]
    pub fn prefetch_statistics(&self, Guess(balance): Guess) {
        if balance.is_some() {
            self.blocks.prefetch(Account { balance }.statistics(&self.blocks));
        }
    }

    /// An account's totals in all four windows as of `horizon`, into `totals`; and its first and last `occurred_at`.
    #[inline(always)]
    pub fn statistics(
        &self,
        found: Found<'_>,
        horizon: &Horizon,
        totals: &mut Vec<AssetTotals>,
    ) -> (i64, i64) {
        found.account.totals(&self.blocks, horizon, totals);
        found.account.span_us(&self.blocks)
    }

    /// The clocks by which [`Table::statistics`] are exact.
    #[inline(always)]
    pub fn exact(&self, found: Found<'_>) -> Clocks {
        found.account.exact(&self.blocks)
    }

    /// Applies a row of the ledger as it was committed, behind which none of its account's comes in the same commit.
    pub fn apply(&mut self, row: &Transaction, horizon: &Horizon) -> Outcome {
        if !self.unfinished.is_empty()
            && let Some(Entry { mut account, .. }) = self.unfinished.remove(&mut self.blocks, row.user_id)
        {
            let outcome = apply_to(&mut self.blocks, &mut account, row, horizon);
            self.show(row.user_id, account);
            return outcome;
        }
        let (place, mut account) = self.place_of(row.user_id);
        let before = account.flags(&self.blocks);
        let outcome = apply_to(&mut self.blocks, &mut account, row, horizon);
        self.index.set(place, account.balance);
        self.note_quarantine(row.user_id, before, account.flags(&self.blocks));
        outcome
    }

    /// Applies a row behind which more of its account's may come in the same commit. It is shown with the last of them, or by
    /// [`Table::show_next`].
    pub fn apply_part(&mut self, row: &Transaction, horizon: &Horizon) -> Outcome {
        let user_id = row.user_id;
        let mut entry = match self.unfinished.get(&self.blocks, user_id) {
            Some(entry) => entry,
            None => {
                let account = match self.find_closely(user_id.hashed()) {
                    None => Account::create(&mut self.blocks, user_id),
                    Some((_, balance)) => {
                        let mut shown = Account { balance };
                        if is_skipped(&self.blocks, shown, row) {
                            return apply_to(&mut self.blocks, &mut shown, row, horizon);
                        }
                        shown.copy(&mut self.blocks)
                    }
                };
                Entry { user_id, account, coming: Coming::default() }
            }
        };
        let outcome = apply_to(&mut self.blocks, &mut entry.account, row, horizon);
        self.unfinished.put(&mut self.blocks, &entry);
        outcome
    }

    /// Keeps rows of an account of which a commit is coming, until they are shown.
    pub fn note_coming(&mut self, user_id: UserId, more: Coming) {
        let Some(mut entry) = self.unfinished.get(&self.blocks, user_id) else { return };
        entry.coming.rows = entry.coming.rows.plus(more.rows);
        entry.coming.is_new |= more.is_new;
        self.unfinished.put(&mut self.blocks, &entry);
    }

    /// The rows that were kept of an account that is about to be shown.
    #[inline]
    pub fn take_coming(&mut self, user_id: UserId) -> Option<Coming> {
        if self.unfinished.is_empty() {
            return None;
        }
        let mut entry = self.unfinished.get(&self.blocks, user_id)?;
        let coming = core::mem::take(&mut entry.coming);
        self.unfinished.put(&mut self.blocks, &entry);
        Some(coming)
    }

    /// A commit has ended: shows the next account as it left it; whose, and the rows that were kept of it.
    pub fn show_next(&mut self) -> Option<(UserId, Coming)> {
        let Entry { user_id, account, coming } = self.unfinished.pop(&mut self.blocks)?;
        self.show(user_id, account);
        Some((user_id, coming))
    }

    /// Shows an account in the stead of the one that was shown.
    fn show(&mut self, user_id: UserId, account: Account) {
        let user = user_id.hashed();
        let before = match self.find_closely(user) {
            Some((place, balance)) => {
                let old = Account { balance };
                let before = old.flags(&self.blocks);
                self.index.set(place, account.balance);
                old.free(&mut self.blocks);
                before
            }
            None => {
                self.index.insert(user, account.balance);
                Flags::NONE
            }
        };
        self.note_quarantine(user_id, before, account.flags(&self.blocks));
    }

    /// Changes what an account shows.
    #[cfg(debug_assertions)]
    pub fn damage(&mut self, user_id: UserId, change: impl FnOnce(&mut [AssetRow], &mut BalanceRoot)) {
        let (_, account) = self.place_of(user_id);
        let (rows, root) = account.balance_mut(&mut self.blocks);
        change(rows, root);
    }

    /// Goes on with what growth has left to do, by a bounded piece.
    #[inline]
    pub fn go_on_growing(&mut self) {
        if self.is_growing() {
            self.index.move_lines(INDEX_LINES_PER_TURN);
        }
    }

    /// What was done for growth since this was last asked.
    #[inline]
    pub fn take_growth(&mut self) -> Growth {
        let mut growth = core::mem::take(self.index.growth());
        growth.add(core::mem::take(self.blocks.growth()));
        growth
    }

    /// Tells somebody who has time what to do for growth.
    pub fn tell(&mut self, housekeeping: &Housekeeping) {
        housekeeping.fill(self.blocks.next_page());
        let Chores { ahead, left } = self.index.chores();
        if let Some(ahead) = ahead {
            housekeeping.fill_all(ahead);
        }
        if let Some(left) = left {
            housekeeping.give_back(left);
        }
    }

    /// Whether a page was touched for the first time since that was last asked: as much of that as belongs into one turn.
    #[inline]
    pub fn has_asked_for_memory(&mut self) -> bool {
        self.index.growth().has_asked || self.blocks.growth().has_asked
    }

    /// Whether growth has left something to do.
    #[inline]
    pub fn is_growing(&self) -> bool {
        self.index.is_moving()
    }

    /// Forgets all accounts.
    pub fn clear(&mut self) {
        let watermark = self.watermark;
        *self = Table { watermark, ..Table::new() };
    }

    /// Makes room in an empty table for so many accounts, so that none has to be moved while they come.
    pub fn reserve(&mut self, accounts: usize) {
        assert_eq!(self.accounts(), 0, "a table is made larger before it is filled");
        self.index = Index::with_room(accounts);
    }

    /// Takes in an account as a checkpoint holds it.
    ///
    /// # Errors
    /// Where the table has the account.
    pub fn restore(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let user = record.user().hashed();
        if self.find_closely(user).is_some() {
            return Err(RecordError::Twice);
        }
        if record.is_incomplete() {
            let (_, account) = self.place_of(user.id);
            account.set_flags(&mut self.blocks, TO_BE_REPAIRED);
            self.note_quarantine(user.id, Flags::NONE, Flags::QUARANTINED);
        } else {
            let account = Account::restore(&mut self.blocks, record);
            self.index.insert(user, account.balance);
        }
        Ok(())
    }

    /// The user's place and account; opens the account where it is new.
    fn place_of(&mut self, user_id: UserId) -> (Place, Account) {
        let user = user_id.hashed();
        if let Some((place, balance)) = self.find_closely(user) {
            return (place, Account { balance });
        }
        let account = Account::create(&mut self.blocks, user_id);
        (self.index.insert(user, account.balance), account)
    }
}

/// Whether an account's history is known to be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// As far as anyone knows.
    Whole,
    /// It is not: the answer must say so.
    Quarantined,
}

impl Trust {
    #[inline]
    fn of(flags: Flags) -> Trust {
        if flags.has_any(Flags::QUARANTINED) { Trust::Quarantined } else { Trust::Whole }
    }
}

/// Whether a row leaves its account as it is.
fn is_skipped(blocks: &Blocks, account: Account, row: &Transaction) -> bool {
    account.flags(blocks).has_any(Flags::DEFECTIVE)
        || Arrival::of(row.version, account.version(blocks)) == Arrival::Duplicate
}

fn apply_to(blocks: &mut Blocks, account: &mut Account, row: &Transaction, horizon: &Horizon) -> Outcome {
    let flags = account.flags(blocks);
    if flags.has_any(Flags::DEFECTIVE) {
        return Outcome::Ignored;
    }
    match Arrival::of(row.version, account.version(blocks)) {
        Arrival::Duplicate => Outcome::Duplicate,
        Arrival::Gap => {
            account.set_flags(blocks, flags.and(TO_BE_REPAIRED));
            Outcome::Gap { ask: !flags.has_any(Flags::REREAD_ASKED) }
        }
        Arrival::Next => match account.apply(blocks, row, horizon) {
            Ok(()) if flags.has_any(Flags::QUARANTINED) && !flags.has_any(Flags::REREAD_ASKED) => {
                // The missing row came late, by itself; what came after it was skipped and has to be read again.
                account.set_flags(blocks, flags.without(Flags::LASTING).and(Flags::REREAD_ASKED));
                Outcome::AppliedLate
            }
            Ok(()) => Outcome::Applied,
            Err(defect) => {
                account.set_flags(blocks, flags.and(UNREADABLE));
                Outcome::Defective(defect)
            }
        },
    }
}

#[cfg(test)]
mod tests;
