//! A shard's accounts: an open-addressing index over the records in the slab.
//!
//! A slot is 16 bytes, so that four share a cache line. Probing is linear and begins with a line's first slot, so that it
//! rarely leaves the line that was prefetched; the table doubles before three quarters of it are full; nothing is ever removed.

use florin_schema::layout::BalanceView;
use florin_schema::{HashedUser, UserId};
use zerocopy::FromZeros;

use super::Defect;
use super::account::{Account, DEFECTIVE, QUARANTINED, REREAD_ASKED};
use super::memory::{Pages, prefetch};
use super::slab::Slab;
use crate::ledger::{Arrival, Horizon, Transaction};
use crate::wire::AssetTotals;

#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(16))]
struct Slot {
    user_id: u64,
    account: Account,
}

/// Slots of a cache line.
const LINE: usize = 4;

const _: () = assert!(size_of::<Slot>() * LINE == 64 && SLOTS_MIN.is_power_of_two());

/// Slots of an empty table.
const SLOTS_MIN: usize = 1_024;

/// A shard's accounts.
pub struct Table {
    slots: Pages<Slot>,
    accounts: usize,
    quarantined: usize,
    slab: Slab,
    reread: Option<Reread>,
}

/// An account that is being read again: built beside the old one, which goes on answering, quarantined.
struct Reread {
    user_id: UserId,
    account: Account,
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

/// An account, found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found(Account);

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// An empty table.
    pub fn new() -> Table {
        Table {
            slots: Pages::zeroed(SLOTS_MIN),
            accounts: 0,
            quarantined: 0,
            slab: Slab::new(),
            reread: None,
        }
    }

    /// Accounts held.
    pub fn accounts(&self) -> usize {
        self.accounts
    }

    /// Accounts quarantined.
    pub fn quarantined(&self) -> usize {
        self.quarantined
    }

    /// Bytes held from the system: index and records.
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.slab.bytes()
    }

    /// First pass of a lookup: asks for the user's slot.
    #[inline]
    pub fn prefetch(&self, user: HashedUser) {
        prefetch(&self.slots[self.home(user)]);
    }

    /// Second pass: probes, and asks for the record.
    #[inline(always)]
    pub fn find(&self, user: HashedUser) -> Option<Found> {
        let slot = &self.slots[self.probe(user)];
        slot.account.balance.is_some().then(|| {
            self.slab.prefetch(slot.account.balance);
            Found(slot.account)
        })
    }

    /// Second pass of a lookup of statistics: asks for where they begin, too.
    #[inline]
    pub fn prefetch_statistics(&self, found: Found) {
        self.slab.prefetch(found.0.statistics);
    }

    /// Third pass: the record, and whether its history is known to be incomplete.
    #[inline(always)]
    pub fn balance(&self, found: Found) -> (BalanceView<'_>, Trust) {
        let (balance, flags) = found.0.flagged_balance(&self.slab);
        (balance, Trust::of(flags))
    }

    /// An account's totals in all four windows as of `horizon`, into `totals`; and its first and last `occurred_at`.
    pub fn statistics(&self, found: Found, horizon: &Horizon, totals: &mut Vec<AssetTotals>) -> (i64, i64) {
        found.0.totals(&self.slab, horizon, totals);
        found.0.span_us(&self.slab)
    }

    /// The first slot of the user's line.
    #[inline]
    fn home(&self, user: HashedUser) -> usize {
        // Routing has used the hash's upper bits; its lower ones are as good as new.
        user.hash() as usize & (self.slots.len() - LINE)
    }

    /// The user's slot, or the empty one where it would go. A line's slots are all looked at, for a branch on which of them it
    /// is would be guessed wrong a third of the time, and with it everything that is asked for behind it.
    #[inline(always)]
    fn probe(&self, user: HashedUser) -> usize {
        let mut at = self.home(user);
        loop {
            let line: &[Slot; LINE] = self.slots[at..at + LINE].try_into().expect("a line's slots");
            let mut same = 0;
            for (place, slot) in line.iter().enumerate() {
                same |= u32::from(slot.user_id == user.id.get()) << place;
            }
            // An empty slot's id is 0: user 0, where it is new, finds the first of them, which is where it would go.
            if same != 0 {
                return at + same.trailing_zeros() as usize;
            }
            if let Some(empty) = line.iter().position(|slot| !slot.account.balance.is_some()) {
                return at + empty;
            }
            at = (at + LINE) & (self.slots.len() - 1);
        }
    }

    /// Applies a row of the ledger, of the account being read again if there is one.
    pub fn apply(&mut self, row: &Transaction, horizon: &Horizon) -> Outcome {
        if let Some(reread) = self.reread.as_mut().filter(|reread| reread.user_id == row.user_id) {
            let mut account = reread.account;
            let outcome = apply_to(&mut self.slab, &mut account, row, horizon);
            reread.account = account;
            // What is missing here is missing in the ledger: to ask again at once would only find the same.
            return if let Outcome::Gap { .. } = outcome { Outcome::Gap { ask: false } } else { outcome };
        }
        let slot = self.slot_of(row.user_id);
        let mut account = self.slots[slot].account;
        let before = account.flags(&self.slab);
        let outcome = apply_to(&mut self.slab, &mut account, row, horizon);
        self.slots[slot].account = account;
        self.count_quarantine(before, account.flags(&self.slab));
        outcome
    }

    /// An undecodable row: the account's history cannot be known.
    pub fn mark_unreadable(&mut self, user_id: UserId) {
        let slot = self.slot_of(user_id);
        let account = match &self.reread {
            Some(reread) if reread.user_id == user_id => reread.account,
            _ => self.slots[slot].account,
        };
        let before = account.flags(&self.slab);
        account.set_flags(&mut self.slab, before | QUARANTINED | DEFECTIVE);
        if account == self.slots[slot].account {
            self.count_quarantine(before, QUARANTINED);
        }
    }

    /// The rows that follow are the account's whole history.
    pub fn begin_reread(&mut self, user_id: UserId) {
        assert!(self.reread.is_none(), "the feed reads one account again at a time");
        self.reread = Some(Reread { user_id, account: Account::create(&mut self.slab, user_id) });
    }

    /// The end of that history: it takes the old account's place, unless it holds less.
    pub fn end_reread(&mut self, user_id: UserId) {
        let reread = self.reread.take().expect("a re-read ends after it began");
        assert_eq!(reread.user_id, user_id, "a re-read ends with the account it began with");
        let slot = self.slot_of(user_id);
        let old = self.slots[slot].account;
        let before = old.flags(&self.slab);
        if reread.account.version(&self.slab) < old.version(&self.slab) {
            // Rows have vanished from the ledger: what readers have seen stays, and stays quarantined.
            old.set_flags(&mut self.slab, (before | QUARANTINED) & !REREAD_ASKED);
            reread.account.free(&mut self.slab);
            return;
        }
        let after = reread.account.flags(&self.slab) & !REREAD_ASKED;
        reread.account.set_flags(&mut self.slab, after);
        self.slots[slot].account = reread.account;
        old.free(&mut self.slab);
        self.count_quarantine(before, after);
    }

    fn count_quarantine(&mut self, before: u8, after: u8) {
        self.quarantined += usize::from(after & QUARANTINED != 0);
        self.quarantined -= usize::from(before & QUARANTINED != 0);
    }

    /// The user's slot; opens the account where it is new.
    fn slot_of(&mut self, user_id: UserId) -> usize {
        let user = user_id.hashed();
        let slot = self.probe(user);
        if self.slots[slot].account.balance.is_some() {
            return slot;
        }
        if (self.accounts + 1) * 4 > self.slots.len() * 3 {
            self.double();
        }
        let slot = self.probe(user);
        self.slots[slot] = Slot { user_id: user_id.get(), account: Account::create(&mut self.slab, user_id) };
        self.accounts += 1;
        slot
    }

    fn double(&mut self) {
        let larger = Pages::zeroed(self.slots.len() * 2);
        let old = std::mem::replace(&mut self.slots, larger);
        for slot in old.iter().filter(|slot| slot.account.balance.is_some()) {
            let at = self.probe(UserId::new(slot.user_id).expect("a slot holds a legal id").hashed());
            self.slots[at] = *slot;
        }
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
    fn of(flags: u8) -> Trust {
        if flags & QUARANTINED == 0 { Trust::Whole } else { Trust::Quarantined }
    }
}

fn apply_to(slab: &mut Slab, account: &mut Account, row: &Transaction, horizon: &Horizon) -> Outcome {
    let flags = account.flags(slab);
    if flags & DEFECTIVE != 0 {
        return Outcome::Ignored;
    }
    match Arrival::of(row.version, account.version(slab)) {
        Arrival::Duplicate => Outcome::Duplicate,
        Arrival::Gap => {
            account.set_flags(slab, flags | QUARANTINED | REREAD_ASKED);
            Outcome::Gap { ask: flags & REREAD_ASKED == 0 }
        }
        Arrival::Next => match account.apply(slab, row, horizon) {
            Ok(()) if flags & (QUARANTINED | REREAD_ASKED) == QUARANTINED => {
                // The missing row came late, by itself; what came after it was skipped and has to be read again.
                account.set_flags(slab, flags | REREAD_ASKED);
                Outcome::AppliedLate
            }
            Ok(()) => Outcome::Applied,
            Err(defect) => {
                account.set_flags(slab, flags | QUARANTINED | DEFECTIVE);
                Outcome::Defective(defect)
            }
        },
    }
}

#[cfg(test)]
mod tests;
