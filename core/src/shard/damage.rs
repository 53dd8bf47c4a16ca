//! What could go wrong with an account, done to one for the audit to find. A release build has none of it.

use florin_schema::{UserId, Version};

use super::Shard;
use super::table::Outcome;
use crate::ledger::Transaction;

/// Something that goes wrong with one account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Its first balance is one too high.
    Balance,
    /// A bit of what is held of its first asset is another.
    FlippedBit,
    /// Its next row does not come.
    LostRow,
    /// Its next row is added twice.
    DoubledRow,
    /// Its next row is added to the windows of the day before.
    WrongWindow,
}

impl Damage {
    /// All of them, and what each is called.
    pub const ALL: [(Damage, &str); 5] = [
        (Damage::Balance, "balance"),
        (Damage::FlippedBit, "flipped-bit"),
        (Damage::LostRow, "lost-row"),
        (Damage::DoubledRow, "doubled-row"),
        (Damage::WrongWindow, "wrong-window"),
    ];
}

const DAY_US: i64 = 86_400_000_000;

impl Shard {
    /// Does this to the account, at once or with its next row.
    pub(super) fn damage(&mut self, user: UserId, damage: Damage) {
        let table = &mut self.responder.table;
        match damage {
            Damage::Balance => table.damage(user, |rows, _| rows[0].available += 1),
            Damage::FlippedBit => {
                table.damage(user, |rows, _| rows[0].held.set(rows[0].held.get() ^ 1 << 20))
            }
            Damage::LostRow | Damage::DoubledRow | Damage::WrongWindow => {
                self.audits.damages.push((user, damage));
            }
        }
    }

    /// Applies a row to an account whose row is to go wrong; whether it was one.
    pub(super) fn damage_row(&mut self, row: &Transaction) -> bool {
        let is_of = |&(user, _): &(UserId, Damage)| user == row.user_id;
        let Some(at) = self.audits.damages.iter().position(is_of) else { return false };
        match self.audits.damages.swap_remove(at).1 {
            Damage::DoubledRow => {
                if self.apply(row, row) == Outcome::Applied {
                    let before = Version(row.version.0 - 1);
                    self.responder.table.damage(row.user_id, |_, root| root.version.set(before.0));
                    self.apply(row, row);
                }
            }
            Damage::WrongWindow => {
                let occurred_at_us = row.occurred_at_us - DAY_US;
                self.apply(&Transaction { occurred_at_us, ..*row }, row);
                self.responder.table.damage(row.user_id, |_, root| {
                    root.updated_at_us.set(root.updated_at_us.get().max(row.occurred_at_us));
                });
            }
            Damage::LostRow | Damage::Balance | Damage::FlippedBit => {}
        }
        true
    }
}
