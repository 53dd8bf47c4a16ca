//! What the follower does with a ledger that fails, and a clock that is set.

use florin_schema::{Asset, Version};

use super::*;
use crate::ledger::Kind;

/// What comes together.
type Said = (Vec<Row>, Progress<Place>);

/// A ledger that says what the test has put down for it, and counts how often it is asked.
#[derive(Default)]
struct Scripted {
    /// What comes next, first to last; then nothing new.
    says: VecDeque<Result<Said, SourceError>>,
    asked: usize,
    /// Behind which place it was set going, each time.
    loads: Vec<Option<Place>>,
    /// Up to where it was told that its rows are kept elsewhere.
    applied: Vec<Place>,
    /// Accounts of which it finds rows changed. It can read them again, where it can: each has its first row, and no other.
    changed: VecDeque<UserId>,
    can_reread: bool,
}

#[derive(Clone, PartialEq, PartialOrd, Debug)]
struct Place(u64);

impl Position for Place {
    fn encode(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        Some(Place(u64::from_le_bytes(bytes.try_into().ok()?)))
    }
}

impl Source for Scripted {
    type Identity = &'static str;
    type Position = Place;

    fn identity(&mut self) -> Result<&'static str, SourceError> {
        Ok("scripted")
    }

    fn load(&mut self, after: Option<&Place>) -> Result<(), SourceError> {
        self.loads.push(after.cloned());
        Ok(())
    }

    fn applied(&mut self, position: &Place) {
        self.applied.push(position.clone());
    }

    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<Place>, SourceError> {
        self.asked += 1;
        let (said, progress) = self.says.pop_front().unwrap_or_else(|| Ok((Vec::new(), at_end(now))))?;
        rows.extend(said);
        Ok(progress)
    }

    fn next_changed(&mut self) -> Option<UserId> {
        self.changed.pop_front()
    }

    fn can_reread(&self) -> bool {
        self.can_reread
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        rows.push(Ok(row(1)));
        Ok(Page::Last)
    }
}

/// A shard that applies everything at once, and keeps what it was sent of rows and commits.
#[derive(Default)]
struct Shard {
    sent: Vec<FeedEvent>,
    watermark: Now,
}

impl Outlet for Shard {
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent> {
        if !matches!(event, FeedEvent::BatchEnd(_)) {
            self.sent.push(event);
        }
        Ok(())
    }

    fn applied_batch(&self) -> u64 {
        u64::MAX
    }

    fn publish(&mut self, wall_us: i64, monotonic_us: u64) {
        self.watermark = Now { wall_us, monotonic_us };
    }

    fn next_request(&mut self) -> Option<FeedRequest> {
        None
    }

    fn wake(&mut self) {}
}

/// Everything has come, and no commit goes on.
fn at_end(now: Now) -> Progress<Place> {
    Progress { position: None, whole: Some(0), complete_before: Some(now), again_us: 10, loaded: None }
}

fn at(monotonic_us: u64) -> Now {
    Now { wall_us: 1_795_320_306_000_000 + monotonic_us.cast_signed(), monotonic_us }
}

fn row(version: u64) -> Transaction {
    Transaction {
        user_id: UserId::new(7).unwrap(),
        version: Version(version),
        asset: Asset::parse(b"COIN").unwrap(),
        kind: Kind::Recharge,
        amount: 1,
        occurred_at_us: 0,
    }
}

fn follower() -> Follower<Scripted, Shard> {
    Follower::new(Scripted::default(), alloc::vec![Shard::default()]).unwrap()
}

impl Follower<Scripted, Shard> {
    /// Goes on at this time as far as it can; until when it rests.
    fn goes_on(&mut self, now: Now) -> u64 {
        for _ in 0..100 {
            if let Wait::Until(us) = self.step(now) {
                return us;
            }
        }
        panic!("a follower that never rests");
    }

    /// All that it has to say.
    fn told(&mut self) -> Vec<Note> {
        core::iter::from_fn(|| self.next_note()).collect()
    }
}

/// A ledger that cannot be read is left alone for its pause, and then asked from where it was.
#[test]
fn a_ledger_that_failed_is_not_asked_before_its_time() {
    let mut follower = follower();
    assert_eq!(follower.doing(), Doing::Loading { thousandths: 0, to_repair: 0 });
    let locked = || Err(SourceError::Unavailable("it is locked".into()));
    follower.source.says.extend([locked(), locked()]);
    for (now_us, until_us, asked) in [
        (5, 5 + FEED_RETRY_US, 1),
        (6, 5 + FEED_RETRY_US, 1),
        (4 + FEED_RETRY_US, 5 + FEED_RETRY_US, 1),
        (5 + FEED_RETRY_US, 5 + 2 * FEED_RETRY_US, 2),
    ] {
        assert_eq!(follower.goes_on(at(now_us)), until_us, "at {now_us} µs");
        assert_eq!(follower.source.asked, asked, "at {now_us} µs");
        assert_eq!(follower.doing(), Doing::Failing("it is locked"), "at {now_us} µs");
    }
    let again_us = 5 + 2 * FEED_RETRY_US;
    assert_eq!(follower.goes_on(at(again_us)), again_us + 10);
    assert_eq!((follower.source.loads.len(), follower.doing()), (3, Doing::Following));
    // Once, however often it was tried.
    assert_eq!(follower.told(), [Note::Failing("it is locked".into()), Note::Recovered, Note::Loaded]);
}

/// A row that is none is counted and told, each of them, and its account flagged where it is known whose it is.
#[test]
fn each_row_that_is_none_is_counted_and_told() {
    let mut follower = follower();
    let none = |user_id| {
        let (place, found) = ("5".into(), "x".into());
        Box::new(Unreadable { place, user_id, column: "amount", expected: "a number", found })
    };
    let user = row(1).user_id;
    let rows = alloc::vec![Err(none(None)), Ok(row(1)), Err(none(Some(user))), Err(none(None))];
    follower.source.says.push_back(Ok((rows, Progress { whole: Some(4), ..at_end(at(1)) })));
    follower.goes_on(at(1));
    assert_eq!(follower.counts(), Counts { rows: 4, unreadable: 3, ..Counts::default() });
    assert_eq!(follower.told().iter().filter(|note| matches!(note, Note::Unreadable(_))).count(), 3);
    assert_eq!(follower.outlets()[0].sent, [FeedEvent::Row(row(1)), FeedEvent::Unreadable(user)]);
}

/// What failed between two commits has broken none of them off: the next is shown as soon as it is whole, though more is still to come.
#[test]
fn a_failure_between_commits_keeps_none_of_them_from_being_shown() {
    let mut follower = follower();
    let is_whole = |rows: usize, more: bool| Progress {
        position: Some(Place(rows as u64)),
        whole: Some(rows),
        complete_before: (!more).then_some(at(1)),
        again_us: u64::from(!more),
        loaded: None,
    };
    follower.source.says.push_back(Ok((alloc::vec![Ok(row(1))], is_whole(1, false))));
    follower.goes_on(at(1));
    follower.source.says.push_back(Err(SourceError::Unavailable("the connection was cut".into())));
    follower.goes_on(at(10));
    follower.source.says.push_back(Ok((alloc::vec![Ok(row(2))], is_whole(1, true))));
    follower.goes_on(at(10 + FEED_RETRY_US));
    assert_eq!(follower.outlets()[0].sent, [FeedEvent::Row(row(1)), FeedEvent::Row(row(2))]);
    assert_eq!(follower.outlets()[0].watermark, at(10 + FEED_RETRY_US));
}

/// Each time that the clock was set is counted, and told once.
#[test]
fn each_step_of_the_clock_is_counted() {
    let mut follower = follower();
    let mut now = at(0);
    follower.goes_on(now);
    for by_us in [3_600_000_000, -7_200_000_000, 0, 86_400_000_000] {
        now = Now { wall_us: now.wall_us + 1_000 + by_us, monotonic_us: now.monotonic_us + 1_000 };
        follower.goes_on(now);
    }
    assert_eq!(follower.counts().clock_steps, 3);
    let steps = follower.told().into_iter().filter_map(|note| match note {
        Note::ClockStepped { by_us } => Some(by_us),
        _ => None,
    });
    assert_eq!(steps.collect::<Vec<_>>(), [3_600_000_000, -7_200_000_000, 86_400_000_000]);
}

/// An account of which a row was changed is flagged at once, and read again: that is counted.
#[test]
fn a_changed_account_is_flagged_and_read_again_once() {
    let mut follower = follower();
    follower.source.can_reread = true;
    follower
        .source
        .says
        .push_back(Ok((alloc::vec![Ok(row(1))], Progress { whole: Some(1), ..at_end(at(1)) })));
    follower.goes_on(at(1));
    assert_eq!(follower.counts(), Counts { rows: 1, ..Counts::default() });
    follower.source.changed.push_back(row(1).user_id);
    for now_us in [20, 40, 60] {
        follower.goes_on(at(now_us));
    }
    let user = row(1).user_id;
    let expected = [
        FeedEvent::Row(row(1)),
        FeedEvent::Unreadable(user),
        FeedEvent::RereadBegin(user),
        FeedEvent::RereadRow(row(1)),
        FeedEvent::RereadEnd(user),
    ];
    assert_eq!(follower.outlets()[0].sent, expected);
    assert_eq!(follower.counts(), Counts { rows: 1, rereads: 1, ..Counts::default() });
    assert_eq!(follower.to_repair(), 0);
}

/// Shards that hold a checkpoint are brought what came after it, and the ledger may let go of no row before the next one is on disk.
#[test]
fn what_follows_a_checkpoint_is_brought_and_kept_until_the_next() {
    let mut follower = follower().with_checkpoints();
    follower.resume_after(Place(3));
    assert_eq!(follower.reached(), None, "nothing is answered yet");
    let whole = Progress { position: Some(Place(4)), whole: Some(1), ..at_end(at(1)) };
    follower.source.says.push_back(Ok((alloc::vec![Ok(row(1))], whole)));
    follower.goes_on(at(1));
    assert_eq!(follower.source.loads, [Some(Place(3))]);
    assert_eq!(follower.reached(), Some((&Place(4), 1)));
    assert_eq!(follower.source.applied, []);
    follower.note_durable(&Place(4));
    assert_eq!(follower.source.applied, [Place(4)]);
    assert_eq!(follower.doing(), Doing::Following);
}
