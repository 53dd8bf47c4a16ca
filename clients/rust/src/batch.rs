//! GetBalances for any number of users: split by owning shard and by the frame's limit, joined in the order asked.

use std::collections::HashMap;

use florin_schema::frame::BATCH_USERS_MAX;
use florin_schema::records::{AssetBalance, Balance, Balances};
use florin_schema::{Asset, Status, UserId, Version};
use rkyv::Archived;

use crate::Error;
use crate::reply::{self, Reply};

/// One frame's share of the users.
#[derive(Debug)]
pub(crate) struct Part {
    /// In the order asked; 1 to 1,024.
    pub users: Vec<UserId>,
}

impl Part {
    /// The request's body.
    pub fn body(&self) -> Vec<u8> {
        self.users.iter().flat_map(|user_id| user_id.get().to_le_bytes()).collect()
    }
}

/// Where the answer to one of the asked stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    part: usize,
    index: usize,
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was answered.
    Answered(Reply<Balances>),
    /// The node does not have one of its users, by a map that is known now: they are to be split anew.
    Moved,
    /// Nobody who could answer was there, or nobody had room, as long as there was time.
    Refused(Error),
}

impl Outcome {
    /// Why there is no answer.
    pub fn refusal(&self) -> Option<Error> {
        match self {
            Outcome::Refused(error) => Some(error.clone()),
            Outcome::Answered(_) | Outcome::Moved => None,
        }
    }
}

/// What is known of one of the asked.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// Its entry stands there.
    At(Place),
    /// It has no answer, for this reason.
    Not { user_id: UserId, status: Status },
}

/// Splits `users` by who is asked for them.
pub(crate) fn split(users: &[UserId], group: impl Fn(UserId) -> u64) -> (Vec<Part>, Vec<Place>) {
    let mut parts: Vec<Part> = Vec::new();
    let mut open: HashMap<u64, usize> = HashMap::new();
    let place = |&user_id: &UserId| {
        let group = group(user_id);
        let part = match open.get(&group) {
            Some(&part) if parts[part].users.len() < BATCH_USERS_MAX => part,
            _ => {
                parts.push(Part { users: Vec::new() });
                open.insert(group, parts.len() - 1);
                parts.len() - 1
            }
        };
        parts[part].users.push(user_id);
        Place { part, index: parts[part].users.len() - 1 }
    };
    let places = users.iter().map(place).collect();
    (parts, places)
}

/// The answer of [`crate::Client::get_balances`]: one entry for each id asked, in the order asked, read in place.
#[derive(Debug)]
pub struct BalancesReply {
    parts: Vec<Reply<Balances>>,
    told: Vec<Told>,
}

impl BalancesReply {
    /// Of these users, none of whom has an answer yet.
    pub(crate) fn of(users: &[UserId]) -> BalancesReply {
        let nobody = |&user_id: &UserId| Told::Not { user_id, status: Status::Unavailable };
        BalancesReply { parts: Vec::new(), told: users.iter().map(nobody).collect() }
    }

    /// Takes in what became of the frames for those at `asked`, whose places in these are `places`; who is to be asked anew.
    pub(crate) fn add(&mut self, asked: Vec<usize>, places: &[Place], outcomes: Vec<Outcome>) -> Vec<usize> {
        let mut open = Vec::new();
        // Of each frame the number of its reply among all, or why there is none.
        let mut numbers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            numbers.push(match outcome {
                Outcome::Answered(reply) => {
                    self.parts.push(reply);
                    Some(Ok(self.parts.len() - 1))
                }
                Outcome::Moved => None,
                Outcome::Refused(error) => Some(Err(error.entry_status().unwrap_or(Status::Unavailable))),
            });
        }
        for (index, place) in asked.into_iter().zip(places) {
            match numbers[place.part] {
                Some(Ok(part)) => self.told[index] = Told::At(Place { part, ..*place }),
                Some(Err(status)) => {
                    let user_id = self.entry(self.told[index]).user_id;
                    self.told[index] = Told::Not { user_id, status };
                }
                None => open.push(index),
            }
        }
        open
    }

    /// How many entries: as many as ids were asked.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether no id was asked.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The answer to the id asked at `index`.
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        self.told.get(index).map(|&told| self.entry(told))
    }

    /// The entries in the order asked.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.told.iter().map(|&told| self.entry(told))
    }

    /// The oldest watermark among the shards that took part, µs since 1970 UTC; `None` where no id was asked.
    pub fn as_of_us(&self) -> Option<i64> {
        self.parts.iter().map(|part| part.origin().as_of_us).min()
    }

    /// The frames that the answer came in, each with its own origin.
    pub fn parts(&self) -> &[Reply<Balances>] {
        &self.parts
    }

    fn entry(&self, told: Told) -> Entry<'_> {
        let place = match told {
            Told::At(place) => place,
            Told::Not { user_id, status } => {
                return Entry { user_id, status, is_quarantined: false, balance: None };
            }
        };
        let entry = &self.parts[place.part].entries[place.index];
        Entry {
            user_id: UserId::new(entry.user_id.to_native()).expect("checked against what was asked"),
            status: Status::try_from(entry.status).expect("checked when it came"),
            is_quarantined: entry.quarantined,
            balance: entry.balance.as_ref(),
        }
    }
}

/// One user's part of a [`BalancesReply`].
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// As asked.
    pub user_id: UserId,
    /// OK, or why there is no balance: NOT_FOUND, STALE, UNAVAILABLE (also where nobody was there who has the user), …
    pub status: Status,
    /// Whether this account's history is known to be incomplete: its balance may be older than the answer's `as_of_us`. Servers before
    /// this flag never set it; their answers say only that some account is ([`crate::Origin::is_quarantined`] of a part).
    pub is_quarantined: bool,
    /// Present where the status is OK.
    pub balance: Option<&'a Archived<Balance>>,
}

impl Entry<'_> {
    /// How many of the user's transactions the balances hold.
    pub fn version(&self) -> Option<Version> {
        self.balance.map(|balance| Version(balance.version.to_native()))
    }

    /// What the user has of one asset; `None` where there is no balance, or no transaction of the user's has named it.
    pub fn of(&self, asset: Asset) -> Option<AssetBalance> {
        reply::amounts(self.balance?, asset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_user_keeps_its_place_and_every_part_its_owner(
            ids in prop::collection::vec(0..=i64::MAX as u64, 0..5_000),
            shards in 0..=9u16,
        ) {
            let users: Vec<UserId> = ids.into_iter().map(|id| UserId::new(id).unwrap()).collect();
            let (parts, places) =
                split(&users, |user| if shards == 0 { 0 } else { user.shard(shards).0.into() });
            prop_assert_eq!(places.len(), users.len());
            prop_assert_eq!(parts.iter().map(|part| part.users.len()).sum::<usize>(), users.len());
            for (user_id, place) in users.iter().zip(&places) {
                prop_assert_eq!(parts[place.part].users[place.index], *user_id);
            }
            for part in &parts {
                prop_assert!((1..=BATCH_USERS_MAX).contains(&part.users.len()));
                if shards > 0 {
                    prop_assert!(part.users.iter().all(|user| user.shard(shards) == part.users[0].shard(shards)));
                }
            }
            // No more frames than the owners and the limit call for.
            let least = (0..shards.max(1)).map(|shard| {
                let owned = users.iter().filter(|user| shards == 0 || user.shard(shards).0 == shard).count();
                owned.div_ceil(BATCH_USERS_MAX)
            });
            prop_assert_eq!(parts.len(), least.sum::<usize>());
        }
    }
}
