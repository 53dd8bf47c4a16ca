//! Accounts that are known to be wrong or incomplete: they say so in each answer until their history has been read again.

use florin_schema::{HashedUser, UserId, Version};

use super::unfinished::Entry;
use super::{Outcome, Table, apply_to};
use crate::clock::Now;
use crate::ledger::{Horizon, Transaction};
use crate::shard::account::{Account, Flags};

/// Of an account whose history cannot be known.
pub(super) const UNREADABLE: Flags = Flags::QUARANTINED.and(Flags::DEFECTIVE);
/// Of an account whose history is being asked for.
pub(super) const TO_BE_REPAIRED: Flags = Flags::QUARANTINED.and(Flags::REREAD_ASKED);

/// An account that is being read again: built beside the old one, which goes on answering, quarantined.
pub(super) struct Reread {
    user_id: UserId,
    account: Account,
}

impl Table {
    /// Accounts quarantined.
    pub fn quarantined(&self) -> usize {
        self.quarantined.len()
    }

    /// The watermark when the user's account was last whole, if it is quarantined; monotonic 0 = it never was.
    pub fn whole_at(&self, user_id: UserId) -> Option<Now> {
        self.quarantined.get(&user_id).copied()
    }

    /// From now on those of these users who are quarantined count as never having been whole.
    pub fn forget_when_whole(&mut self, is_one: impl Fn(UserId) -> bool) {
        let quarantined = self.quarantined.iter_mut().filter(|(user, _)| is_one(**user));
        quarantined.for_each(|(_, whole_at)| *whole_at = Now::default());
    }

    /// Whether a quarantined account stays so, as far as anyone knows: its history has been read again in vain, or would be.
    pub fn is_lasting(&self, user: HashedUser) -> bool {
        let found = self.find_closely(user).map(|(_, balance)| Account { balance }.flags(&self.blocks));
        found.is_some_and(|flags| flags.has_any(Flags::DEFECTIVE.and(Flags::LASTING)))
    }

    /// Notes that the feed is to be asked for the history of an account whose windows are not held for this time. `false`
    /// where it has been asked already, or would not help.
    pub fn ask_again(&mut self, user: HashedUser) -> bool {
        let Some((_, balance)) = self.find_closely(user) else { return false };
        let account = Account { balance };
        let flags = account.flags(&self.blocks);
        let asks = !flags.has_any(Flags::QUARANTINED.and(Flags::DEFECTIVE).and(Flags::REREAD_ASKED));
        if asks {
            account.set_flags(&mut self.blocks, flags.and(Flags::REREAD_ASKED));
        }
        asks
    }

    /// An undecodable row: the account's history cannot be known, and that is shown at once.
    pub fn mark_unreadable(&mut self, user_id: UserId) {
        if let Some(Entry { account, .. }) = self.unfinished.remove(&mut self.blocks, user_id) {
            self.show(user_id, account);
        }
        let (_, served) = self.place_of(user_id);
        let before = served.flags(&self.blocks);
        served.set_flags(&mut self.blocks, before.and(UNREADABLE));
        self.note_quarantine(user_id, before, Flags::QUARANTINED);
        if let Some(Reread { account, .. }) = self.reread.as_ref().filter(|reread| reread.user_id == user_id)
        {
            let flags = account.flags(&self.blocks);
            account.set_flags(&mut self.blocks, flags.and(UNREADABLE));
        }
    }

    /// What the user is answered with is known to be wrong, and says so from now on. Whether its history is to be asked for.
    pub fn quarantine(&mut self, user_id: UserId) -> bool {
        let (_, shown) = self.place_of(user_id);
        let before = shown.flags(&self.blocks);
        shown.set_flags(&mut self.blocks, before.and(TO_BE_REPAIRED));
        if let Some(account) = self.unfinished(user_id) {
            let flags = account.flags(&self.blocks);
            account.set_flags(&mut self.blocks, flags.and(TO_BE_REPAIRED));
        }
        // Since when it has been wrong nobody knows.
        self.quarantined.insert(user_id, Now::default());
        !before.has_any(Flags::DEFECTIVE.and(Flags::REREAD_ASKED))
    }

    #[inline]
    pub(super) fn note_quarantine(&mut self, user_id: UserId, before: Flags, after: Flags) {
        let [was, is] = [before, after].map(|flags| flags.has_any(Flags::QUARANTINED));
        if was && !is {
            self.quarantined.remove(&user_id);
        } else if is && !was {
            self.quarantined.insert(user_id, self.watermark);
        }
    }

    /// The rows that follow are the account's whole history.
    pub fn begin_reread(&mut self, user_id: UserId) {
        assert!(self.reread.is_none(), "the feed reads one account again at a time");
        self.reread = Some(Reread { user_id, account: Account::create(&mut self.blocks, user_id) });
    }

    /// Applies a row of the history that is being read again.
    ///
    /// # Panics
    /// Where none is.
    pub fn apply_reread(&mut self, row: &Transaction, horizon: &Horizon) -> Outcome {
        let reread = self.reread.as_mut().expect("a history's rows come after it began");
        assert_eq!(reread.user_id, row.user_id, "the feed reads one account again at a time");
        // What is missing here is missing in the ledger: to ask again at once would only find the same.
        match apply_to(&mut self.blocks, &mut reread.account, row, horizon) {
            Outcome::Gap { .. } => Outcome::Gap { ask: false },
            outcome => outcome,
        }
    }

    /// The end of that history: it takes the old account's place, unless it holds less; whether it has. Where a commit is coming that
    /// concerns the account, that is what the commit will leave, and the shown one stays.
    pub fn end_reread(&mut self, user_id: UserId) -> bool {
        let reread = self.reread.take().expect("a re-read ends after it began");
        assert_eq!(reread.user_id, user_id, "a re-read ends with the account it began with");
        let unfinished = self.unfinished.get(&self.blocks, user_id);
        let old = unfinished.map_or_else(|| self.place_of(user_id).1, |entry| entry.account);
        let before = old.flags(&self.blocks);
        if reread.account.version(&self.blocks) < old.version(&self.blocks) {
            // Rows have vanished from the ledger: what readers have seen stays, and stays quarantined.
            old.set_flags(
                &mut self.blocks,
                before.and(Flags::QUARANTINED).and(Flags::LASTING).without(Flags::REREAD_ASKED),
            );
            reread.account.free(&mut self.blocks);
            if unfinished.is_none() {
                self.note_quarantine(user_id, before, Flags::QUARANTINED);
            }
            return false;
        }
        // Of an account without a row nothing is known: those that named it have vanished.
        let is_empty = reread.account.version(&self.blocks) == Version(0);
        let vanished = if is_empty { Flags::QUARANTINED } else { Flags::NONE };
        let after = reread.account.flags(&self.blocks).without(Flags::REREAD_ASKED).and(vanished);
        let after = if after.has_any(Flags::QUARANTINED) { after.and(Flags::LASTING) } else { after };
        reread.account.set_flags(&mut self.blocks, after);
        if let Some(entry) = unfinished {
            self.unfinished.put(&mut self.blocks, &Entry { account: reread.account, ..entry });
            old.free(&mut self.blocks);
        } else {
            self.show(user_id, reread.account);
        }
        true
    }
}
