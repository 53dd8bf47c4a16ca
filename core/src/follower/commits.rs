//! Which rows of a batch may be shown when: an account shows none of a commit's rows before it can show all of them. Rows that were
//! read together up to a commit's end are treated as one commit: each account's last one of them shows the others.

use alloc::vec::Vec;

use florin_schema::UserId;

use super::Row;

/// See the module.
#[derive(Default)]
pub(super) struct Commits {
    /// By row: more of its account's may follow before its commit has ended. Without entries where nobody looks yet.
    has_more: Vec<bool>,
    /// Behind how many of the rows a commit ends.
    whole: Option<usize>,
    /// What was read last ends within a commit.
    goes_on: bool,
    /// Parts of a commit were sent, and the source was set going again before them: what ends first is another commit.
    broken: Option<Broken>,
    /// Of the rows of whole commits: whose, and which.
    order: Vec<(UserId, u32)>,
}

/// See [`Commits::break_off`].
#[derive(Clone, Copy)]
struct Broken {
    /// Everything has come that the ledger held when somebody looked since: so the commit has ended.
    has_ended: bool,
}

impl Commits {
    /// The source is set going again, and of a commit only parts were sent. They are shown when everything has come that the ledger
    /// holds, for then it has ended.
    pub fn break_off(&mut self) {
        self.broken = Some(Broken { has_ended: false });
    }

    /// Looks at rows that were read. `is_complete` says whether all has come with them that was committed when somebody looked since;
    /// `is_shown`, whether anybody sees what becomes of them.
    pub fn look_at(&mut self, rows: &[Row], whole: Option<usize>, is_complete: bool, is_shown: bool) {
        self.has_more.clear();
        let was_at_end = !self.goes_on;
        self.goes_on = match whole {
            Some(whole) => whole < rows.len(),
            None => self.goes_on || !rows.is_empty(),
        };
        self.whole = whole;
        if let Some(broken) = &mut self.broken {
            broken.has_ended |= is_complete;
            self.whole = whole.or(was_at_end.then_some(0)).filter(|_| broken.has_ended);
            if self.whole.is_some() {
                self.broken = None;
            }
        }
        let whole = self.whole;
        if !is_shown {
            return;
        }
        self.has_more.resize(rows.len(), true);
        let user_of = |row: &Row| match row {
            Ok(row) => Some(row.user_id),
            Err(unreadable) => unreadable.user_id,
        };
        let users = rows.iter().take(whole.unwrap_or(0)).map(user_of).zip(0..);
        self.order.clear();
        self.order.extend(users.filter_map(|(user, at)| Some((user?, at))));
        self.order.sort_unstable();
        for (at, &(user, row)) in self.order.iter().enumerate() {
            if self.order.get(at + 1).is_none_or(|&(next, _)| next != user) {
                self.has_more[row as usize] = false;
            }
        }
    }

    /// Whether more of the row's account may follow in its commit.
    #[inline]
    pub fn has_more(&self, row: usize) -> bool {
        self.has_more.get(row).is_some_and(|&has_more| has_more)
    }

    /// Whether the row belongs to a commit whose end was not read.
    #[inline]
    pub fn is_unfinished(&self, row: usize) -> bool {
        self.whole.is_none_or(|whole| row >= whole)
    }

    /// Whether a commit ends behind so many rows, and behind none that come later.
    #[inline]
    pub fn end_after(&self, rows: usize) -> bool {
        self.whole == Some(rows)
    }

    /// Whether what was read ends within a commit.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Whether rows are not shown that were read long ago: then nothing may be claimed of them.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use florin_schema::{Asset, Version};

    use super::super::Unreadable;
    use super::*;
    use crate::ledger::{Kind, Transaction};

    fn row(user: u64, version: u64) -> Row {
        Ok(Transaction {
            user_id: UserId::new(user).unwrap(),
            version: Version(version),
            asset: Asset::parse(b"COIN").unwrap(),
            kind: Kind::Recharge,
            amount: 1,
            occurred_at_us: 0,
        })
    }

    fn has_more(commits: &Commits, rows: &[Row]) -> Vec<bool> {
        (0..rows.len()).map(|row| commits.has_more(row)).collect()
    }

    #[test]
    fn an_accounts_last_row_of_whole_commits_shows_the_others_and_a_part_shows_nothing() {
        let mut commits = Commits::default();
        let unreadable = Box::new(Unreadable {
            place: "somewhere".into(),
            user_id: UserId::new(2),
            column: "amount",
            expected: "a number",
            found: "none".into(),
        });
        let rows = [row(1, 1), row(2, 1), row(1, 2), Err(unreadable), row(3, 1), row(1, 3)];
        commits.look_at(&rows, Some(5), false, true);
        assert_eq!(has_more(&commits, &rows), [true, true, false, false, false, true]);
        assert!(commits.goes_on() && commits.end_after(5) && commits.is_unfinished(5));
        assert!(!commits.is_unfinished(4));
        commits.look_at(&rows, None, false, true);
        assert_eq!(has_more(&commits, &rows), [true; 6]);
        commits.look_at(&[], None, false, true);
        assert!(commits.goes_on(), "nothing came, and nothing ended");
        commits.look_at(&[], Some(0), false, true);
        assert!(!commits.goes_on() && commits.end_after(0));
        commits.look_at(&rows, None, false, false);
        assert_eq!(has_more(&commits, &rows), [false; 6], "nobody looks");
        assert!(commits.goes_on(), "and nobody may look yet");
        commits.break_off();
        commits.look_at(&rows, Some(6), false, true);
        assert!(
            !commits.end_after(6),
            "another one's end: of the one that broke off the rest is still to come"
        );
        assert_eq!(has_more(&commits, &rows), [true; 6]);
        commits.look_at(&rows, None, true, true);
        assert!(commits.end_after(0) && !commits.is_broken(), "all of it was there before these");
        commits.break_off();
        commits.look_at(&rows, None, true, true);
        assert!(!commits.end_after(0) && commits.is_broken(), "it has ended, and another one has begun");
        commits.look_at(&rows, Some(2), false, true);
        assert!(commits.end_after(2) && !commits.is_broken());
    }
}
