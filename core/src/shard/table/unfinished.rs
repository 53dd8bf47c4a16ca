//! Accounts of which some rows of a commit have come, and others may still: as the commit will leave them, beside those that are
//! shown meanwhile.
//!
//! A commit may concern any number of accounts, and none of them may make a turn long. So this is a hash table that grows and
//! shrinks by one bucket with each account (linear hashing), in blocks of the shard's own memory: nothing is ever moved as a
//! whole, and the system is asked for no memory that the table's accounts would not be laid into next.
//!
//! | part | size | holds |
//! | --- | --- | --- |
//! | chunk | a block of 32 KiB | 682 slots |
//! | slot | 48 bytes | an account, and the head of a bucket's chain: there are as many buckets as accounts |

use alloc::vec::Vec;

use florin_schema::UserId;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::audit::Fingerprint;
use crate::limits::UNFINISHED_CHUNKS_USUAL;
use crate::shard::account::Account;
use crate::shard::blocks::{Blocks, Family, Handle, SMALL_BYTES_MAX};

/// The largest block that comes from a span: eight fill one.
const CHUNK_BYTES: usize = SMALL_BYTES_MAX;
const SLOTS: usize = CHUNK_BYTES / size_of::<Slot>();

/// Rows of an account that have come and are not shown yet. Whoever counts rows counts them when they are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Coming {
    /// All of them.
    pub rows: Fingerprint,
    /// The account's first is among them.
    pub is_new: bool,
}

/// An account as the commit will leave it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Whose.
    pub user_id: UserId,
    /// Nobody is shown it yet.
    pub account: Account,
    /// What is new about it.
    pub coming: Coming,
}

/// A number of a slot, and one more; 0 = none.
type Link = u32;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Slot {
    user_id: u64,
    rows: Fingerprint,
    balance: Handle,
    is_new: u32,
    /// The next account of its bucket.
    next: Link,
    /// The first account of the bucket with this slot's number.
    first: Link,
}

const _: () = assert!(size_of::<Slot>() == 48);

impl Slot {
    fn entry(&self) -> Entry {
        Entry {
            user_id: UserId::new(self.user_id).expect("a legal id was put in"),
            account: Account { balance: self.balance },
            coming: Coming { rows: self.rows, is_new: self.is_new != 0 },
        }
    }

    fn set(&mut self, entry: &Entry) {
        let Entry { user_id, account, coming } = entry;
        (self.user_id, self.balance) = (user_id.get(), account.balance);
        (self.rows, self.is_new) = (coming.rows, u32::from(coming.is_new));
    }
}

/// See the module.
pub(super) struct Unfinished {
    chunks: Vec<Handle>,
    accounts: usize,
}

impl Unfinished {
    pub fn new() -> Unfinished {
        Unfinished { chunks: Vec::with_capacity(UNFINISHED_CHUNKS_USUAL), accounts: 0 }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.accounts == 0
    }

    pub fn get(&self, blocks: &Blocks, user: UserId) -> Option<Entry> {
        self.find(blocks, user).map(|slot| self.slot(blocks, slot).entry())
    }

    /// Puts an account in, or in the stead of the user's that is there.
    pub fn put(&mut self, blocks: &mut Blocks, entry: &Entry) {
        let slot = match self.find(blocks, entry.user_id) {
            Some(slot) => slot,
            None => self.add(blocks, entry.user_id),
        };
        self.slot_mut(blocks, slot).set(entry);
    }

    pub fn remove(&mut self, blocks: &mut Blocks, user: UserId) -> Option<Entry> {
        let slot = self.find(blocks, user)?;
        let entry = self.slot(blocks, slot).entry();
        let last = self.accounts - 1;
        self.unlink(blocks, slot);
        if slot != last {
            self.unlink(blocks, last);
            let moved = self.slot(blocks, last).entry();
            self.slot_mut(blocks, slot).set(&moved);
            self.link(blocks, slot);
        }
        self.accounts = last;
        // Those of the bucket that is no more go where they were before there was one.
        self.spread(blocks, last);
        // The first chunk stays: most commits need no other.
        if last > 0 && last.is_multiple_of(SLOTS) {
            blocks.free(self.chunks.pop().expect("a slot lies in a chunk"), CHUNK_BYTES);
        }
        Some(entry)
    }

    /// Takes the one out that came last.
    pub fn pop(&mut self, blocks: &mut Blocks) -> Option<Entry> {
        let last = self.slot(blocks, self.accounts.checked_sub(1)?).entry();
        self.remove(blocks, last.user_id)
    }

    fn find(&self, blocks: &Blocks, user: UserId) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let mut next = self.slot(blocks, self.bucket(user)).first;
        while let Some(at) = slot_of(next) {
            let slot = self.slot(blocks, at);
            if slot.user_id == user.get() {
                return Some(at);
            }
            next = slot.next;
        }
        None
    }

    /// A new last slot for the user.
    fn add(&mut self, blocks: &mut Blocks, user: UserId) -> usize {
        let slot = self.accounts;
        if slot == self.chunks.len() * SLOTS {
            self.chunks.push(blocks.allocate(Family::Statistics, CHUNK_BYTES));
        }
        self.accounts += 1;
        if slot > 0 {
            // The bucket that is new takes its share of the one that had it.
            self.spread(blocks, slot - self.accounts.next_power_of_two() / 2);
        }
        self.slot_mut(blocks, slot).user_id = user.get();
        self.link(blocks, slot);
        slot
    }

    /// The bucket that the user belongs into.
    fn bucket(&self, user: UserId) -> usize {
        let all = self.accounts.next_power_of_two();
        let bucket = user.hashed().hash() as usize & (all - 1);
        if bucket < self.accounts { bucket } else { bucket - all / 2 }
    }

    /// Links all of a bucket's anew.
    fn spread(&mut self, blocks: &mut Blocks, bucket: usize) {
        let mut next = core::mem::take(&mut self.slot_mut(blocks, bucket).first);
        while let Some(slot) = slot_of(next) {
            next = self.slot(blocks, slot).next;
            self.link(blocks, slot);
        }
    }

    fn link(&mut self, blocks: &mut Blocks, slot: usize) {
        let bucket = self.bucket_of(blocks, slot);
        let first = core::mem::replace(&mut self.slot_mut(blocks, bucket).first, link_to(slot));
        self.slot_mut(blocks, slot).next = first;
    }

    fn unlink(&mut self, blocks: &mut Blocks, slot: usize) {
        let (bucket, next) = (self.bucket_of(blocks, slot), self.slot(blocks, slot).next);
        let mut before = self.slot(blocks, bucket).first;
        if before == link_to(slot) {
            self.slot_mut(blocks, bucket).first = next;
            return;
        }
        while let Some(at) = slot_of(before) {
            before = self.slot(blocks, at).next;
            if before == link_to(slot) {
                self.slot_mut(blocks, at).next = next;
            }
        }
    }

    fn bucket_of(&self, blocks: &Blocks, slot: usize) -> usize {
        self.bucket(self.slot(blocks, slot).entry().user_id)
    }

    fn slot<'a>(&self, blocks: &'a Blocks, slot: usize) -> &'a Slot {
        let at = slot % SLOTS * size_of::<Slot>();
        let chunk = blocks.block(self.chunks[slot / SLOTS], CHUNK_BYTES);
        Slot::ref_from_bytes(&chunk[at..at + size_of::<Slot>()]).expect("a block is aligned to 16 bytes")
    }

    fn slot_mut<'a>(&self, blocks: &'a mut Blocks, slot: usize) -> &'a mut Slot {
        let at = slot % SLOTS * size_of::<Slot>();
        let chunk = blocks.block_mut(self.chunks[slot / SLOTS], CHUNK_BYTES);
        Slot::mut_from_bytes(&mut chunk[at..at + size_of::<Slot>()]).expect("a block is aligned to 16 bytes")
    }
}

fn link_to(slot: usize) -> Link {
    u32::try_from(slot + 1).expect("a shard's memory holds fewer accounts")
}

fn slot_of(link: Link) -> Option<usize> {
    (link as usize).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a plain map.
        #[test]
        fn whoever_was_put_in_is_found_until_taken_out(steps in prop::collection::vec((0_u64..2_000, 0..8), 1..6_000)) {
            let (mut blocks, mut unfinished, mut model) = (Blocks::new(), Unfinished::new(), HashMap::new());
            let of = |entry: Option<Entry>| entry.map(|entry| (entry.account, entry.coming));
            for (step, (user, kind)) in steps.into_iter().enumerate() {
                let user_id = UserId::new(user * 7_919).unwrap();
                match kind {
                    0 => prop_assert_eq!(of(unfinished.remove(&mut blocks, user_id)), model.remove(&user_id)),
                    1 => {
                        let popped = unfinished.pop(&mut blocks);
                        prop_assert_eq!(popped.is_none(), model.is_empty());
                        if let Some(Entry { user_id, .. }) = popped {
                            prop_assert_eq!(of(popped), model.remove(&user_id));
                        }
                    }
                    _ => {
                        let account = Account { balance: Handle::read_from_bytes(&(step as u32).to_le_bytes()).unwrap() };
                        let coming = Coming { rows: Fingerprint::decode(&[step as u8; 24]), is_new: kind == 2 };
                        unfinished.put(&mut blocks, &Entry { user_id, account, coming });
                        model.insert(user_id, (account, coming));
                    }
                }
                prop_assert_eq!(of(unfinished.get(&blocks, user_id)), model.get(&user_id).copied());
                prop_assert_eq!(unfinished.accounts, model.len());
            }
            for (&user_id, &entry) in &model {
                prop_assert_eq!(of(unfinished.get(&blocks, user_id)), Some(entry));
            }
            while unfinished.pop(&mut blocks).is_some() {}
            prop_assert!(blocks.live_bytes() <= CHUNK_BYTES, "what was for many is given back");
        }
    }

    /// Memory comes with those who need it and goes with them, but for the first chunk: the next commit has it at once.
    #[test]
    fn a_chunk_goes_with_the_last_who_lies_in_it() {
        let (mut blocks, mut unfinished) = (Blocks::new(), Unfinished::new());
        for chunks in [1, 2, 3] {
            for user in 0..chunks * SLOTS {
                let user_id = UserId::new(user as u64).unwrap();
                let account = Account { balance: Handle::NONE };
                unfinished.put(&mut blocks, &Entry { user_id, account, coming: Coming::default() });
            }
            assert_eq!((unfinished.chunks.len(), blocks.live_bytes()), (chunks, chunks * CHUNK_BYTES));
            for left in (0..chunks * SLOTS).rev() {
                assert!(unfinished.pop(&mut blocks).is_some());
                assert_eq!(unfinished.chunks.len(), left.div_ceil(SLOTS).max(1));
            }
            assert_eq!(blocks.live_bytes(), CHUNK_BYTES);
        }
    }

    /// However many accounts a commit concerns, each is looked for among a few.
    #[test]
    fn nobody_is_looked_for_among_many() {
        const ACCOUNTS: u64 = 5_000;
        let (mut blocks, mut unfinished) = (Blocks::new(), Unfinished::new());
        let mut together = vec![0_u64; ACCOUNTS as usize];
        for user in 0..ACCOUNTS {
            let (user_id, account) = (UserId::new(user).unwrap(), Account { balance: Handle::NONE });
            unfinished.put(&mut blocks, &Entry { user_id, account, coming: Coming::default() });
        }
        for user in 0..ACCOUNTS {
            together[unfinished.bucket(UserId::new(user).unwrap())] += 1;
        }
        let squares: u64 = together.iter().map(|accounts| accounts * accounts).sum();
        assert!(squares < 4 * ACCOUNTS, "{} steps each", squares as f64 / ACCOUNTS as f64);
    }
}
