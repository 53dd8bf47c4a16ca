//! What the primary has shown of each user, and when: whoever claims to be fresher must not show less.

use std::collections::HashMap;

use florin_schema::UserId;

/// Users in one generation; two are kept, so that the one that is dropped held whom nobody has asked about for long.
/// About 24 MiB in all.
const USERS_MAX: usize = 1 << 18;

/// The highest version that the primary has shown of a user, and when it first did: µs since 1970 UTC, by this
/// process's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// So many transactions.
    pub version: u64,
    /// Since then at least the ledger has had them.
    pub at_us: i64,
    /// The primary once said that it had never heard of the user: who is new now was not there then.
    pub was_unknown: bool,
}

/// All that has been shown, within bounds.
#[derive(Debug, Default)]
pub struct History {
    recent: HashMap<UserId, Shown>,
    older: HashMap<UserId, Shown>,
}

impl History {
    /// Remembers that the primary has shown this version; 0 where it has never heard of the user.
    pub fn note(&mut self, user: UserId, version: u64, at_us: i64) {
        let known = self.shown(user);
        let was_unknown = version == 0 || known.is_some_and(|known| known.was_unknown);
        let keep =
            known.filter(|known| known.version >= version).unwrap_or(Shown { version, at_us, was_unknown });
        if self.recent.len() >= USERS_MAX && !self.recent.contains_key(&user) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(user, keep);
    }

    /// What is known of a user.
    pub fn shown(&self, user: UserId) -> Option<Shown> {
        self.recent.get(&user).or_else(|| self.older.get(&user)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn the_highest_version_and_its_first_time_are_kept() {
        let mut history = History::default();
        for (version, at_us) in [(5, 10), (5, 20), (4, 30), (6, 40), (6, 50)] {
            history.note(user(1), version, at_us);
        }
        assert_eq!(history.shown(user(1)), Some(Shown { version: 6, at_us: 40, was_unknown: false }));
        history.note(user(3), 0, 10);
        history.note(user(3), 2, 20);
        assert_eq!(history.shown(user(3)), Some(Shown { version: 2, at_us: 20, was_unknown: true }));
        assert_eq!(history.shown(user(2)), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_whom_nobody_asks_about() {
        let mut history = History::default();
        for id in 0..3 * USERS_MAX as u64 {
            history.note(user(id), 1, 1);
            history.note(user(7), 1, 1);
        }
        assert!(history.recent.len() <= USERS_MAX && history.older.len() <= USERS_MAX);
        assert_eq!(history.shown(user(7)), Some(Shown { version: 1, at_us: 1, was_unknown: false }));
        assert_eq!(history.shown(user(8)), None);
    }
}
