//! How far each partition is, and which of them the watermark speaks of. Pure: it is told what was read and where partitions end.
//!
//! ```text
//!     Away ──wanted──▶ Loading ──near its end──▶ Joining ──at an end that was asked for since──▶ Followed
//!       ▲                 │                         │                                               │
//!       └─────────────────┴──────── not wanted any more: its offset stays ────────┴─────────────────┘
//! ```
//!
//! What is loaded has a lane of its own, so that what is followed waits behind none of it. Between the lanes a partition begins
//! with the record that was read last: once that is found again it is certain that it is read there.

use std::collections::BTreeMap;

use florin_core::clock::Now;

use crate::decoder::Record;
use crate::failure::Failure;
use crate::limits::LOADING_RECORDS;
use crate::position::{Anchor, KafkaPosition, Reached};

/// By which reader a partition is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Those that are followed, or about to be.
    Followed,
    /// Those that are far behind their ends.
    Loading,
}

/// Which partitions a reader begins with, and at which offset; of which it reads no more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Those that end, first.
    pub ended: Vec<u32>,
    /// Those that begin.
    pub begun: Vec<(u32, u64)>,
}

/// What changes in both lanes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Of [`Lane::Followed`].
    pub followed: Change,
    /// Of [`Lane::Loading`].
    pub loading: Change,
}

impl Changes {
    fn of(&mut self, lane: Lane) -> &mut Change {
        match lane {
            Lane::Followed => &mut self.followed,
            Lane::Loading => &mut self.loading,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It is not read.
    Away,
    Loading,
    /// The first end that was asked for since.
    Joining(Option<u64>),
    /// The watermark waits for it. Everything of it is in once the watermark has come to this time.
    Followed(Now),
}

impl Stage {
    fn lane(self) -> Option<Lane> {
        match self {
            Stage::Away => None,
            Stage::Loading => Some(Lane::Loading),
            Stage::Joining(_) | Stage::Followed(_) => Some(Lane::Followed),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    reached: Reached,
    /// The record that has to come first: it was read last before this reader.
    expected: Option<Anchor>,
    stage: Stage,
}

impl Partition {
    /// Begins, or begins again, where it is: with the record that was read last.
    fn begin(&mut self, stage: Stage) -> u64 {
        self.expected = self.reached.anchor;
        self.stage = stage;
        self.expected.map_or(self.reached.next, |anchor| anchor.offset)
    }

    fn left(&self, end: u64) -> u64 {
        end.saturating_sub(self.reached.next)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Partitions {
    topic: String,
    each: Vec<Partition>,
    /// As near to its end a partition joins those that are followed.
    near: u64,
}

impl Partitions {
    /// As a position has them; none is read yet.
    pub fn new(topic: &str, position: &KafkaPosition) -> Partitions {
        let away = |&reached: &Reached| Partition { reached, expected: None, stage: Stage::Away };
        Partitions {
            topic: topic.to_owned(),
            each: position.partitions.iter().map(away).collect(),
            near: LOADING_RECORDS as u64,
        }
    }

    /// How far they are.
    pub fn position(&self) -> KafkaPosition {
        KafkaPosition { partitions: self.each.iter().map(|partition| partition.reached).collect() }
    }

    /// Reads these and no others from now on. The watermark waits at once for those that were complete before.
    pub fn turn_to(&mut self, wanted: &BTreeMap<u32, Option<Now>>) -> Changes {
        let mut changes = Changes::default();
        for (partition, at) in self.each.iter_mut().zip(0..) {
            match (wanted.get(&at), partition.stage.lane()) {
                (None, Some(lane)) => {
                    changes.of(lane).ended.push(at);
                    partition.stage = Stage::Away;
                }
                (Some(since), None) => {
                    let stage = since.map_or(Stage::Loading, Stage::Followed);
                    let lane = stage.lane().expect("it is read");
                    changes.of(lane).begun.push((at, partition.begin(stage)));
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        changes
    }

    /// Of which of them no record was read: they begin at the topic's first.
    pub fn unread<'a>(&'a self, changes: &'a Changes) -> impl Iterator<Item = u32> + 'a {
        let begun = changes.followed.begun.iter().chain(&changes.loading.begun);
        begun
            .map(|(partition, _)| *partition)
            .filter(|&partition| self.each[partition as usize].reached.next == 0)
    }

    /// From which watermark on everything is in of each partition that is followed.
    pub fn followed(&self) -> impl Iterator<Item = (u32, Now)> {
        self.each.iter().zip(0..).filter_map(|(partition, at)| match partition.stage {
            Stage::Followed(since) => Some((at, since)),
            _ => None,
        })
    }

    /// Of how many that are read the record that was read last is still to be found again.
    pub fn unverified(&self) -> usize {
        let is_unverified =
            |partition: &&Partition| partition.stage != Stage::Away && partition.expected.is_some();
        self.each.iter().filter(is_unverified).count()
    }

    /// Whether something is read in a lane.
    pub fn has(&self, lane: Lane) -> bool {
        self.each.iter().any(|partition| partition.stage.lane() == Some(lane))
    }

    /// Whether a record that a reader gave out was not delivered before.
    ///
    /// # Errors
    /// Where it stands in place of the one that was read last.
    pub fn is_news(&mut self, record: &Record<'_>, lane: Lane) -> Result<bool, Failure> {
        let Some(partition) = self.each.get_mut(record.partition as usize) else { return Ok(false) };
        // What a reader had fetched before it ended.
        if partition.stage.lane() != Some(lane) {
            return Ok(false);
        }
        if let Some(expected) = partition.expected.take() {
            let found = Anchor::of(record);
            return if found == expected {
                Ok(false)
            } else {
                let what =
                    if found.offset == expected.offset { "is another one" } else { "is not there any more" };
                Err(gone(&self.topic, record.partition, what))
            };
        }
        if record.offset < partition.reached.next {
            return Ok(false);
        }
        partition.reached.next = record.offset + 1;
        Ok(true)
    }

    /// The record that was read last of a partition.
    pub fn note_last(&mut self, record: &Record<'_>) {
        self.each[record.partition as usize].reached.anchor = Some(Anchor::of(record));
    }

    /// A reader has given out everything before an offset: it lies behind what brokers do not give out. Whether it is further on.
    ///
    /// # Errors
    /// Where the record that was read last was not among it.
    pub fn skip(&mut self, at: u32, offset: u64, lane: Lane) -> Result<bool, Failure> {
        let Some(partition) = self.each.get_mut(at as usize) else { return Ok(false) };
        if partition.stage.lane() != Some(lane) || offset <= partition.reached.next {
            return Ok(false);
        }
        if partition.expected.is_some() {
            return Err(gone(&self.topic, at, "is not there any more"));
        }
        partition.reached.next = offset;
        Ok(true)
    }

    /// The partitions that are read ended here when they were asked for.
    ///
    /// # Errors
    /// A topic that ends before what was read of it is another.
    pub fn check_ends(&self, ends: &[u64]) -> Result<(), Failure> {
        let is_short = |(partition, &end): (&Partition, &u64)| {
            partition.stage != Stage::Away && end < partition.reached.next
        };
        match self.each.iter().zip(ends).position(is_short) {
            None => Ok(()),
            Some(partition) => Err(gone(&self.topic, partition as u32, "is not there any more")),
        }
    }

    /// They ended here when they were asked for. Those that are near their ends change lanes.
    pub fn note_ends(&mut self, ends: &[u64]) -> Changes {
        let mut changes = Changes::default();
        for ((partition, &end), number) in self.each.iter_mut().zip(ends).zip(0..) {
            match partition.stage {
                Stage::Loading if partition.expected.is_none() && partition.left(end) <= self.near => {
                    changes.loading.ended.push(number);
                    changes.followed.begun.push((number, partition.begin(Stage::Joining(None))));
                }
                Stage::Joining(None) => partition.stage = Stage::Joining(Some(end)),
                _ => {}
            }
        }
        changes
    }

    /// Those that have joined: from now on the watermark waits for them. Watermarks before have said nothing of them, so that everything of
    /// each is in with the next, which is that of what was `asked` and is not answered yet.
    pub fn joined(&mut self, asked: Now) -> Vec<u32> {
        let mut joined = Vec::new();
        for (partition, number) in self.each.iter_mut().zip(0..) {
            if let Stage::Joining(Some(end)) = partition.stage
                && partition.expected.is_none()
                && partition.left(end) == 0
            {
                partition.stage = Stage::Followed(asked);
                joined.push(number);
            }
        }
        joined
    }

    /// Whether everything before these ends was delivered of each partition that is followed.
    pub fn is_complete(&self, ends: &[u64]) -> bool {
        self.each.iter().zip(ends).all(|(partition, &end)| {
            !matches!(partition.stage, Stage::Followed(_))
                || partition.expected.is_none() && partition.left(end) == 0
        })
    }

    /// Of each partition that is read the offsets between what was read and its end.
    pub fn left<'a>(&'a self, ends: &'a [u64]) -> impl Iterator<Item = (u32, u64)> + 'a {
        let read = self.each.iter().zip(ends).zip(0..).filter(|((one, _), _)| one.stage != Stage::Away);
        read.map(|((partition, &end), number)| (number, partition.left(end)))
    }
}

fn gone(topic: &str, partition: u32, what: &str) -> Failure {
    Failure::Replaced(format!(
        "the record that was read last of partition {partition} of topic {topic} {what}: the topic was made anew, or restored to \
         what it was before. Put that one back, or restart florin to load what is there now"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: usize = 3;

    /// What happens around them.
    #[derive(Clone, Debug)]
    enum Step {
        /// A record is committed, or something that brokers do not give out.
        Append {
            partition: usize,
            is_record: bool,
        },
        /// These are wanted; and none was for a moment before, which nobody noticed.
        Want {
            wanted: BTreeSet<u32>,
            is_anew: bool,
        },
        /// A reader gives out so many.
        Read {
            lane: Lane,
            partition: usize,
            records: usize,
        },
        /// A reader that has ended gives out what it had fetched.
        ReadLate {
            lane: Lane,
            partition: usize,
        },
        Ask,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let lane = || prop_oneof![Just(Lane::Followed), Just(Lane::Loading)];
        prop_oneof![
            4 => (0..PARTITIONS, prop::bool::weighted(0.8))
                .prop_map(|(partition, is_record)| Step::Append { partition, is_record }),
            2 => (prop::collection::btree_set(0..PARTITIONS as u32, 0..=PARTITIONS), any::<bool>())
                .prop_map(|(wanted, is_anew)| Step::Want { wanted, is_anew }),
            6 => (lane(), 0..PARTITIONS, 1..6_usize)
                .prop_map(|(lane, partition, records)| Step::Read { lane, partition, records }),
            1 => (lane(), 0..PARTITIONS).prop_map(|(lane, partition)| Step::ReadLate { lane, partition }),
            3 => Just(Step::Ask),
            1 => Just(Step::Restart),
        ]
    }

    /// Logs, readers, and all that was delivered.
    struct World {
        partitions: Partitions,
        logs: [Vec<bool>; PARTITIONS],
        delivered: [Vec<u64>; PARTITIONS],
        wanted: BTreeMap<u32, Option<Now>>,
        readers: BTreeMap<(u32, bool), u64>,
        /// The asks that there were, and where the partitions ended.
        asks: Vec<Vec<u64>>,
        asked: Option<usize>,
        /// The one that was answered last.
        watermark: Option<usize>,
    }

    fn key(partition: u32, lane: Lane) -> (u32, bool) {
        (partition, lane == Lane::Loading)
    }

    fn record(partition: u32, offset: u64) -> Record<'static> {
        Record { partition, offset, time_ms: offset.cast_signed(), key: Some(b"7"), value: None }
    }

    impl World {
        fn new() -> World {
            let mut partitions = Partitions::new("topic", &KafkaPosition::beginning(PARTITIONS as u32));
            partitions.near = 2;
            World {
                partitions,
                logs: Default::default(),
                delivered: Default::default(),
                wanted: BTreeMap::new(),
                readers: BTreeMap::new(),
                asks: Vec::new(),
                asked: None,
                watermark: None,
            }
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Append { partition, is_record } => self.logs[partition].push(is_record),
                Step::Want { wanted, is_anew } => {
                    let since =
                        |partition| self.wanted.get(&partition).copied().flatten().filter(|_| !is_anew);
                    self.wanted = wanted.into_iter().map(|partition| (partition, since(partition))).collect();
                    self.turn();
                }
                Step::Read { lane, partition, records } => {
                    (0..records).for_each(|_| self.read(lane, partition));
                }
                Step::ReadLate { lane, partition } => {
                    let is_reading = self.readers.contains_key(&key(partition as u32, lane));
                    let found = self.logs[partition].iter().rposition(|&is_record| is_record);
                    if let (false, Some(offset)) = (is_reading, found) {
                        let late = record(partition as u32, offset as u64);
                        assert_eq!(self.partitions.is_news(&late, lane), Ok(false));
                        assert_eq!(
                            self.partitions.skip(partition as u32, offset as u64 + 1, lane),
                            Ok(false)
                        );
                    }
                }
                Step::Ask => self.ask(),
                Step::Restart => {
                    self.partitions = Partitions::new("topic", &self.partitions.position());
                    self.partitions.near = 2;
                    self.readers.clear();
                    self.asked = None;
                    self.turn();
                }
            }
            self.answer();
            self.is_true();
        }

        /// What has come to its watermark is answered about, with the age of the watermark.
        fn is_true(&self) {
            let Some(watermark) = self.watermark else { return };
            let is_in = |since: &Now| since.monotonic_us <= watermark as u64;
            let wanted = self.wanted.iter().filter(|(_, since)| since.as_ref().is_some_and(is_in));
            wanted.for_each(|(&partition, _)| self.has_all_before(partition, watermark));
        }

        fn turn(&mut self) {
            let changes = self.partitions.turn_to(&self.wanted);
            self.change(&changes);
            let followed: Vec<(u32, Now)> = self.partitions.followed().collect();
            followed.into_iter().for_each(|(partition, since)| self.arrive(partition, since));
        }

        fn change(&mut self, changes: &Changes) {
            for (lane, change) in [(Lane::Loading, &changes.loading), (Lane::Followed, &changes.followed)] {
                for partition in &change.ended {
                    assert!(self.readers.remove(&key(*partition, lane)).is_some(), "it was not read");
                }
                for (partition, offset) in &change.begun {
                    let before = self.readers.insert(key(*partition, lane), *offset);
                    assert_eq!(before, None, "it is read already");
                    assert_eq!(self.readers.keys().filter(|(other, _)| other == partition).count(), 1);
                }
            }
        }

        fn read(&mut self, lane: Lane, partition: usize) {
            let number = partition as u32;
            let Some(place) = self.readers.get_mut(&key(number, lane)) else { return };
            let Some(&is_record) = self.logs[partition].get(*place as usize) else { return };
            let offset = *place;
            *place += 1;
            if is_record && self.partitions.is_news(&record(number, offset), lane).unwrap() {
                self.delivered[partition].push(offset);
                self.partitions.note_last(&record(number, offset));
            }
            self.partitions.skip(number, offset + 1, lane).unwrap();
        }

        fn ask(&mut self) {
            if self.asked.is_some() {
                return;
            }
            let ends: Vec<u64> = self.logs.iter().map(|log| log.len() as u64).collect();
            self.partitions.check_ends(&ends).unwrap();
            let changes = self.partitions.note_ends(&ends);
            self.change(&changes);
            self.asked = Some(self.asks.len());
            self.asks.push(ends);
        }

        fn answer(&mut self) {
            let Some(asked) = self.asked else { return };
            let at = Now { wall_us: 0, monotonic_us: asked as u64 };
            for partition in self.partitions.joined(at) {
                let is_read = self.partitions.each[partition as usize].expected.is_none();
                assert!(is_read, "it would hold up the others until its reader has begun");
                self.arrive(partition, at);
            }
            let followed: Vec<u32> = self.partitions.followed().map(|(partition, _)| partition).collect();
            assert!(followed.iter().all(|partition| self.wanted.contains_key(partition)));
            if self.partitions.is_complete(&self.asks[asked]) {
                followed.iter().for_each(|&partition| self.has_all_before(partition, asked));
                self.asked = None;
                self.watermark = Some(asked);
            } else {
                let is_behind = |&&partition: &&u32| {
                    self.partitions.position().partitions[partition as usize].next
                        < self.asks[asked][partition as usize]
                        || self.partitions.each[partition as usize].expected.is_some()
                };
                assert!(followed.iter().any(|partition| is_behind(&partition)), "what is loaded holds it up");
            }
        }

        fn arrive(&mut self, partition: u32, since: Now) {
            if let Some(standing) = self.wanted.get_mut(&partition) {
                standing.get_or_insert(since);
            }
        }

        fn has_all_before(&self, partition: u32, ask: usize) {
            let (log, end) = (&self.logs[partition as usize], self.asks[ask][partition as usize]);
            let records = (0..end).filter(|&offset| log[offset as usize]);
            let delivered = &self.delivered[partition as usize];
            assert!(
                records.into_iter().all(|offset| delivered.contains(&offset)),
                "before {end}: {delivered:?}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whatever is wanted, read and asked for in whichever order: each record is delivered once and in order, everything before a time
        /// was delivered of all that the watermark speaks of, and what is loaded holds up nothing, and arrives.
        #[test]
        fn every_record_is_delivered_once_and_the_watermark_speaks_of_what_is_in(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut world = World::new();
            steps.into_iter().for_each(|step| world.take(step));
            world.take(Step::Want { wanted: (0..PARTITIONS as u32).collect(), is_anew: false });
            // It is loaded, changes lanes, is asked for, and asked for once more.
            for _ in 0..4 {
                for partition in 0..PARTITIONS {
                    for lane in [Lane::Loading, Lane::Followed] {
                        world.take(Step::Read { lane, partition, records: 200 });
                    }
                }
                world.take(Step::Ask);
            }
            prop_assert!(world.wanted.values().all(Option::is_some), "{:?}", world.wanted);
            for (log, delivered) in world.logs.iter().zip(&world.delivered) {
                let records: Vec<u64> = (0..).zip(log).filter(|(_, is_record)| **is_record).map(|(at, _)| at).collect();
                prop_assert_eq!(&records, delivered);
            }
        }
    }

    /// What is written all the time is never at its end when that is asked for.
    #[test]
    fn a_partition_that_does_not_come_to_rest_joins() {
        let mut world = World::new();
        let append = || Step::Append { partition: 0, is_record: true };
        let read = |lane| Step::Read { lane, partition: 0, records: 2 };
        world.take(Step::Want { wanted: BTreeSet::from([0]), is_anew: false });
        (0..3).for_each(|_| world.take(append()));
        world.take(read(Lane::Loading));
        world.take(Step::Ask);
        (0..2).for_each(|_| world.take(append()));
        // It begins with the record that was read last.
        for _ in 0..5 {
            world.take(Step::Ask);
            (0..2).for_each(|_| world.take(append()));
            world.take(read(Lane::Followed));
        }
        assert!(world.wanted[&0].is_some());
    }

    #[test]
    fn a_record_that_is_not_what_was_read_last_is_another_topics() {
        let mut position = KafkaPosition::beginning(2);
        position.partitions[1] = Reached { next: 8, anchor: Some(Anchor::of(&record(1, 5))) };
        let begun = |since| {
            let mut partitions = Partitions::new("topic", &position);
            let changes = partitions.turn_to(&BTreeMap::from([(1, since)]));
            (partitions, changes)
        };
        let (mut partitions, changes) = begun(None);
        assert_eq!(changes.loading, Change { ended: vec![], begun: vec![(1, 5)] });
        assert_eq!(partitions.check_ends(&[0, 8]), Ok(()), "the other is not read");
        assert!(partitions.check_ends(&[9, 7]).is_err());
        let other = Record { time_ms: 9, ..record(1, 5) };
        assert!(
            partitions.is_news(&other, Lane::Loading).unwrap_err().to_string().contains("is another one")
        );
        let (mut partitions, _) = begun(Some(Now::default()));
        assert!(partitions.is_news(&record(1, 6), Lane::Followed).is_err());
        let (mut partitions, _) = begun(Some(Now::default()));
        assert!(partitions.skip(1, 9, Lane::Followed).is_err());
        let (mut partitions, _) = begun(Some(Now::default()));
        assert!(!partitions.is_complete(&[0, 8]) && partitions.unverified() == 1);
        assert_eq!(partitions.is_news(&record(1, 5), Lane::Followed), Ok(false));
        assert!(partitions.is_complete(&[0, 8]) && partitions.unverified() == 0);
    }
}
