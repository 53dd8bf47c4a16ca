//! A shard's fingerprints against a sum over the rows: while rows come, accounts are read again, and a walk copies them.

use std::collections::BTreeMap;

use florin_schema::{Asset, UserId, Version};
use proptest::prelude::*;

use crate::audit::{BUCKETS, Fingerprint, bucket_of};
use crate::checkpoint::record;
use crate::clock::Now;
use crate::ledger::{Kind, Transaction};
use crate::limits::CHECKPOINT_PIECE_BYTES;
use crate::shard::tests::{Alone, node};
use crate::shard::{CheckpointAnswer, CheckpointOrder, CheckpointPort, FeedEvent, checkpoint_link};

fn row(user: u64, version: u64) -> Transaction {
    Transaction {
        user_id: UserId::new(user).unwrap(),
        version: Version(version),
        asset: Asset::parse(b"COIN").unwrap(),
        kind: Kind::Recharge,
        amount: 1 + (user * version % 1_000) as i64,
        occurred_at_us: version as i64,
    }
}

/// The rows of accounts at these versions.
fn expected(versions: &BTreeMap<u64, u64>) -> Vec<Fingerprint> {
    let mut buckets = vec![Fingerprint::default(); BUCKETS];
    for (&user, &version) in versions {
        let bucket = &mut buckets[bucket_of(UserId::new(user).unwrap().hashed())];
        for version in 1..=version {
            *bucket = bucket.plus(Fingerprint::of(&row(user, version)));
        }
    }
    buckets
}

fn applied(alone: &Alone) -> Vec<Fingerprint> {
    (0..BUCKETS).map(|bucket| alone.shard.applied(bucket)).collect()
}

fn turn(alone: &mut Alone) {
    alone.shard.begin_turn(Now { wall_us: 0, monotonic_us: 1 });
    alone.shard.work();
    alone.shard.end_turn(1);
}

/// What the ledger holds and the shard has.
struct World {
    alone: Alone,
    ledger: BTreeMap<u64, u64>,
    held: BTreeMap<u64, u64>,
}

impl World {
    fn send(&mut self, event: FeedEvent) {
        self.alone.send(event);
        turn(&mut self.alone);
    }

    /// A row is committed, and comes or is lost.
    fn commit(&mut self, user: u64, is_lost: bool) {
        let version = self.ledger.entry(user).or_default();
        *version += 1;
        if is_lost {
            return;
        }
        let version = *version;
        self.send(FeedEvent::Row(row(user, version)));
        let held = self.held.entry(user).or_default();
        if *held + 1 == version {
            *held = version;
        }
    }

    /// The account is read again; `live` rows of it come between those of its history.
    fn reread(&mut self, user: u64, live: u64) {
        let user_id = UserId::new(user).unwrap();
        self.send(FeedEvent::RereadBegin(user_id));
        let history = self.ledger.get(&user).copied().unwrap_or_default();
        for version in 1..=history {
            self.send(FeedEvent::RereadRow(row(user, version)));
            if version == history / 2 {
                (0..live).for_each(|_| self.commit(user, false));
            }
        }
        // The history that is sent reaches every row that came meanwhile.
        let all = self.ledger.get(&user).copied().unwrap_or_default();
        (history + 1..=all).for_each(|version| self.send(FeedEvent::RereadRow(row(user, version))));
        self.send(FeedEvent::RereadEnd(user_id));
        self.held.insert(user, all);
    }

    fn order(&mut self, port: &mut CheckpointPort, order: CheckpointOrder) -> CheckpointAnswer {
        assert!(port.orders.push(order).is_ok());
        turn(&mut self.alone);
        port.answers.pop().expect("an answer in the same turn")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn they_are_those_of_the_rows_that_the_accounts_hold(
        before in prop::collection::vec((0_u64..2_000, 0_u8..20), 1..2_000),
        during in prop::collection::vec((0_u64..4_000, 0_u8..20), 0..2_000),
    ) {
        let (mut port, link) = checkpoint_link();
        let Alone { shard, events, requests } = node(1, 8).remove(0);
        let alone = Alone { shard: shard.with_checkpoints(link), events, requests };
        let mut world = World { alone, ledger: BTreeMap::new(), held: BTreeMap::new() };
        let act = |world: &mut World, (user, what): (u64, u8)| match what {
            0 => world.commit(user, true),
            1 | 2 => world.reread(user, u64::from(what) * 2),
            _ => world.commit(user, false),
        };
        before.into_iter().for_each(|one| act(&mut world, one));
        prop_assert_eq!(applied(&world.alone), expected(&world.held));

        assert!(port.orders.push(CheckpointOrder::Begin).is_ok());
        let (mut copied, mut is_over) = (BTreeMap::new(), false);
        let mut coming = during.into_iter();
        while !is_over {
            coming.by_ref().take(600).for_each(|one| act(&mut world, one));
            // All but a few bytes are taken, so that a turn copies one group of accounts.
            let room = vec![0; CHECKPOINT_PIECE_BYTES - 1];
            let CheckpointAnswer::Filled { records, is_last } =
                world.order(&mut port, CheckpointOrder::Fill(room))
            else {
                panic!("records")
            };
            is_over = is_last;
            let mut rest = &records[CHECKPOINT_PIECE_BYTES - 1..];
            while !rest.is_empty() {
                let (record, after) = rest.split_at(record::peek(rest).bytes);
                rest = after;
                let user = record::peek(record).user;
                let found = crate::checkpoint::Record::take(&mut &record[..]).unwrap();
                // Of one that is incomplete only the name is copied: its bucket is not known.
                let version = if found.is_incomplete() { None } else { Some(found.version().0) };
                copied.insert(user.get(), version);
            }
        }
        coming.for_each(|one| act(&mut world, one));
        let CheckpointAnswer::Fingerprints(found) =
            world.order(&mut port, CheckpointOrder::Fingerprints(Vec::new()))
        else {
            panic!("fingerprints")
        };
        let incomplete: Vec<usize> = copied
            .iter()
            .filter(|(_, version)| version.is_none())
            .map(|(&user, _)| bucket_of(UserId::new(user).unwrap().hashed()))
            .collect();
        let whole = copied.into_iter().filter_map(|(user, version)| Some((user, version?))).collect();
        for (bucket, expected) in expected(&whole).into_iter().enumerate() {
            if !incomplete.contains(&bucket) {
                prop_assert_eq!(found[bucket], Some(expected), "bucket {}", bucket);
            }
        }
        prop_assert_eq!(applied(&world.alone), expected(&world.held));
    }
}
