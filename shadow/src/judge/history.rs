//! What the primary has shown of each user, and when: whoever claims to be fresher must not show less.

use bytes::Bytes;
use florin_schema::UserId;

use crate::generations::Generations;
use crate::limits::{HISTORY_CONTENT_BYTES_MAX, HISTORY_CONTENTS_BYTES_MAX, HISTORY_USERS_MAX as USERS_MAX};
use crate::request::Question;

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

/// Which content of a user's: its balances, or its statistics with these windows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aspect(u8);

impl Aspect {
    /// The one that is asked about.
    pub fn of(question: &Question) -> Aspect {
        match question {
            Question::Statistics(_, windows) => Aspect(windows.bits()),
            Question::Balance(_) | Question::Balances(_) | Question::Other => Aspect(0),
        }
    }
}

/// All that has been shown, within bounds.
#[derive(Debug)]
pub struct History {
    /// When a user was first asked about.
    met: Generations<UserId, i64>,
    shown: Generations<UserId, Shown>,
    said: Generations<(UserId, Aspect), Said>,
}

/// What the primary has said of the last two versions that it has shown.
#[derive(Clone, Debug)]
struct Said {
    last: (u64, Bytes),
    before: Option<(u64, Bytes)>,
}

impl Default for History {
    fn default() -> History {
        History {
            met: Generations::new(USERS_MAX),
            shown: Generations::new(USERS_MAX),
            said: Generations::new(HISTORY_CONTENTS_BYTES_MAX),
        }
    }
}

impl History {
    /// When the primary was first heard to speak of a user; that is `now_us` where it never was.
    pub fn meet(&mut self, user: UserId, now_us: i64) -> i64 {
        let met_us = self.met.get(&user).copied().unwrap_or(now_us);
        self.met.insert(user, met_us, 1);
        met_us
    }

    /// Remembers that the primary has shown this version; 0 where it has never heard of the user.
    pub fn note(&mut self, user: UserId, version: u64, at_us: i64) {
        let known = self.shown(user);
        let was_unknown = version == 0 || known.is_some_and(|known| known.was_unknown);
        let keep =
            known.filter(|known| known.version >= version).unwrap_or(Shown { version, at_us, was_unknown });
        self.shown.insert(user, keep, 1);
    }

    /// Keeps the content that the primary has shown of a version.
    pub fn keep(&mut self, user: UserId, aspect: Aspect, version: u64, content: impl FnOnce() -> Bytes) {
        let key = (user, aspect);
        let known = self.said.get(&key);
        if known.is_some_and(|known| known.last.0 >= version) {
            return;
        }
        let content = content();
        if content.len() > HISTORY_CONTENT_BYTES_MAX {
            return;
        }
        // A copy: what is kept for long does not hold on to the buffer that it lies in.
        let content = Bytes::copy_from_slice(&content);
        let before = known.map(|known| known.last.clone());
        let bytes = content.len() + before.as_ref().map_or(0, |before| before.1.len());
        self.said.insert(key, Said { last: (version, content), before }, bytes);
    }

    /// What the primary has said of a version, if that is known.
    pub fn said(&self, user: UserId, aspect: Aspect, version: u64) -> Option<Bytes> {
        let said = self.said.get(&(user, aspect))?;
        let mut versions = std::iter::once(&said.last).chain(&said.before);
        versions.find(|(kept, _)| *kept == version).map(|(_, content)| content.clone())
    }

    /// What is known of a user.
    pub fn shown(&self, user: UserId) -> Option<Shown> {
        self.shown.get(&user).copied()
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
    fn the_contents_of_the_last_two_versions_are_kept_within_bounds() {
        let mut history = History::default();
        let balance = Aspect(0);
        let keep = |history: &mut History, id, version, text: &str| {
            history.keep(user(id), balance, version, || Bytes::copy_from_slice(text.as_bytes()));
        };
        for (version, text) in [(5, "five"), (7, "seven"), (6, "not kept"), (7, "not again"), (9, "nine")] {
            keep(&mut history, 1, version, text);
        }
        let said = |history: &History, version| history.said(user(1), balance, version);
        assert_eq!(said(&history, 9).as_deref(), Some(&b"nine"[..]));
        assert_eq!(said(&history, 7).as_deref(), Some(&b"seven"[..]));
        assert_eq!((said(&history, 5), said(&history, 6)), (None, None));
        assert_eq!(history.said(user(1), Aspect(15), 9), None);
        let long = "x".repeat(HISTORY_CONTENT_BYTES_MAX);
        keep(&mut history, 1, 10, &(long.clone() + "y"));
        assert_eq!(said(&history, 10), None);
        for id in 2..4 * (HISTORY_CONTENTS_BYTES_MAX / HISTORY_CONTENT_BYTES_MAX) as u64 {
            keep(&mut history, id, 1, &long);
            keep(&mut history, id, 2, &long);
        }
        assert_eq!(said(&history, 9), None, "whom nobody has asked about for long is forgotten");
    }

    #[test]
    fn it_forgets_whom_nobody_asks_about_and_remembers_when_it_met_the_others() {
        let mut history = History::default();
        for id in 0..3 * USERS_MAX as u64 {
            history.note(user(id), 1, 1);
            history.note(user(7), 1, 1);
            history.meet(user(id), 1);
            assert_eq!(history.meet(user(7), id as i64), 0);
        }
        assert_eq!(history.shown(user(7)), Some(Shown { version: 1, at_us: 1, was_unknown: false }));
        assert_eq!((history.shown(user(8)), history.meet(user(8), 99)), (None, 99));
    }
}
