//! What has been shown of each user, so that nobody who is asked later shows less.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use florin_schema::records::{Balance, Balances, Statistics};
use florin_schema::{NodeId, Status, Version};

use crate::limits::SEEN_USERS_MAX;
use crate::reply::{Origin, Reply};

/// The highest version that was shown of a user, and by which node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub version: Version,
    pub node: NodeId,
}

/// Marks of the users that were read last, at least [`SEEN_USERS_MAX`] of them: when the young half is full it becomes the old
/// one, which is forgotten.
#[derive(Default)]
pub(crate) struct Seen {
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    young: HashMap<u64, Mark>,
    old: HashMap<u64, Mark>,
}

impl Halves {
    fn get(&self, user: u64) -> Option<Mark> {
        self.young.get(&user).or_else(|| self.old.get(&user)).copied()
    }
}

/// An answer that shows less of a user than has been shown before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Behind {
    pub user: u64,
    pub shown: Version,
    pub got: Version,
}

impl Seen {
    pub fn mark(&self, user: u64) -> Option<Mark> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner).get(user)
    }

    /// Keeps what an answer shows, all of it, or says where it is behind and keeps nothing.
    pub fn show(&self, answer: &impl Shown, node: NodeId) -> Result<(), Behind> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut behind = None;
        answer.each(&mut |user, got| {
            let shown = halves.get(user).map_or(Version(0), |mark| mark.version);
            if got < shown {
                behind = Some(Behind { user, shown, got });
            }
        });
        if let Some(behind) = behind {
            return Err(behind);
        }
        answer.each(&mut |user, version| {
            if version > Version(0) {
                if halves.young.len() >= SEEN_USERS_MAX && !halves.young.contains_key(&user) {
                    halves.old = std::mem::take(&mut halves.young);
                }
                halves.young.insert(user, Mark { version, node });
            }
        });
        Ok(())
    }
}

/// What shows users at versions: 0 where it says that there is no such user.
pub(crate) trait Shown {
    fn each(&self, tell: &mut dyn FnMut(u64, Version));
    /// Where the answer comes from.
    fn origin(&self) -> Origin;
    /// Whether it has all that was asked, of accounts that are complete.
    fn is_whole(&self) -> bool {
        !self.origin().is_quarantined()
    }
}

impl Shown for Reply<Balance> {
    fn each(&self, tell: &mut dyn FnMut(u64, Version)) {
        tell(self.user_id.to_native(), self.version());
    }

    fn origin(&self) -> Origin {
        Reply::origin(self)
    }
}

impl Shown for Reply<Statistics> {
    fn each(&self, tell: &mut dyn FnMut(u64, Version)) {
        tell(self.user_id.to_native(), self.version());
    }

    fn origin(&self) -> Origin {
        Reply::origin(self)
    }
}

impl Shown for Reply<Balances> {
    fn each(&self, tell: &mut dyn FnMut(u64, Version)) {
        for entry in self.entries.iter() {
            match (entry.balance.as_ref(), Status::try_from(entry.status)) {
                (Some(balance), _) => tell(entry.user_id.to_native(), Version(balance.version.to_native())),
                (None, Ok(Status::NotFound)) => tell(entry.user_id.to_native(), Version(0)),
                (None, _) => {}
            }
        }
    }

    fn origin(&self) -> Origin {
        Reply::origin(self)
    }

    fn is_whole(&self) -> bool {
        let lacks = |status: u8| status != Status::Ok as u8;
        !Reply::origin(self).is_quarantined() && !self.entries.iter().any(|entry| lacks(entry.status))
    }
}

impl Shown for Origin {
    fn each(&self, _tell: &mut dyn FnMut(u64, Version)) {}

    fn origin(&self) -> Origin {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(u64, u64);

    impl Shown for One {
        fn each(&self, tell: &mut dyn FnMut(u64, Version)) {
            tell(self.0, Version(self.1));
        }

        fn origin(&self) -> Origin {
            unreachable!("what is kept does not depend on it")
        }
    }

    #[test]
    fn less_than_was_shown_is_behind_and_memory_is_bounded() {
        let seen = Seen::default();
        seen.show(&One(7, 5), NodeId(1)).unwrap();
        assert_eq!(
            seen.show(&One(7, 4), NodeId(2)),
            Err(Behind { user: 7, shown: Version(5), got: Version(4) })
        );
        assert!(seen.show(&One(7, 0), NodeId(2)).is_err(), "a user that was shown does exist");
        assert_eq!(seen.mark(7), Some(Mark { version: Version(5), node: NodeId(1) }));
        seen.show(&One(7, 6), NodeId(2)).unwrap();
        assert_eq!(seen.mark(7), Some(Mark { version: Version(6), node: NodeId(2) }));
        assert_eq!(seen.mark(8), None);
        for user in 0..10 * SEEN_USERS_MAX as u64 {
            seen.show(&One(user, 9), NodeId(1)).unwrap();
            // Whoever is read now and then is not forgotten.
            seen.show(&One(7, 9), NodeId(1)).unwrap();
        }
        assert_eq!(seen.mark(7).unwrap().version, Version(9));
        let halves = seen.halves.lock().unwrap();
        assert!(halves.young.len() <= SEEN_USERS_MAX && halves.old.len() <= SEEN_USERS_MAX);
    }
}
