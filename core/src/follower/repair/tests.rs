//! When accounts are read again whose ledger has a hole.

use super::*;
use crate::clock::Now;
use crate::follower::source::tests::Nowhere;
use crate::follower::{Progress, Unreadable};
use crate::ledger::{Kind, Transaction};
use crate::shard::FeedRequest;

/// A ledger with one account, which lacks its second row by default.
struct Holed {
    name: &'static str,
    /// The rows that it has; none where a row cannot be read.
    versions: Vec<Option<u64>>,
    page: Page,
    /// Pages that fail before one comes.
    failures: usize,
    /// Pages that were asked for.
    asked: usize,
}

impl Default for Holed {
    fn default() -> Holed {
        let versions = alloc::vec![Some(1), Some(3)];
        Holed { name: "holed", versions, page: Page::Last, failures: 0, asked: 0 }
    }
}

impl Source for Holed {
    type Identity = &'static str;
    type Position = Nowhere;

    fn identity(&mut self) -> Result<&'static str, SourceError> {
        Ok(self.name)
    }

    fn load(&mut self, _: Option<&Nowhere>) -> Result<(), SourceError> {
        Ok(())
    }

    fn next(&mut self, _: Now, _: &mut Vec<Row>) -> Result<Progress<Nowhere>, SourceError> {
        unreachable!("repairing asks for no new rows")
    }

    fn can_reread(&self) -> bool {
        true
    }

    fn reread(&mut self, _: UserId, _: Option<Version>) {
        self.asked += 1;
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        if let Some(left) = self.failures.checked_sub(1) {
            self.failures = left;
            return Err(SourceError::Unavailable("somebody holds it".into()));
        }
        rows.extend(self.versions.iter().map(|version| version.map(row).ok_or_else(unreadable)));
        Ok(self.page)
    }
}

/// Takes everything and notes when a history begins.
#[derive(Default)]
struct Shard {
    now_us: u64,
    begun_us: Vec<u64>,
    rows: usize,
}

impl Outlet for Shard {
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent> {
        if let FeedEvent::RereadBegin(_) = event {
            self.begun_us.push(self.now_us);
        }
        self.rows += usize::from(matches!(event, FeedEvent::RereadRow(_)));
        Ok(())
    }

    fn applied_batch(&self) -> u64 {
        u64::MAX
    }

    fn publish(&mut self, _: i64, _: u64) {}

    fn next_request(&mut self) -> Option<FeedRequest> {
        None
    }

    fn wake(&mut self) {}
}

fn row(version: u64) -> Transaction {
    Transaction {
        user_id: user(),
        version: Version(version),
        asset: florin_schema::Asset::parse(b"COIN").unwrap(),
        kind: Kind::Recharge,
        amount: 1,
        occurred_at_us: 0,
    }
}

fn unreadable() -> Box<Unreadable> {
    Box::new(Unreadable {
        place: "7".into(),
        user_id: Some(user()),
        column: "amount",
        expected: "a number",
        found: "a word".into(),
    })
}

fn user() -> UserId {
    UserId::new(7).unwrap()
}

struct Bench {
    repair: Repair,
    source: Holed,
    outlets: Outlets<Shard>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            repair: Repair::default(),
            source: Holed::default(),
            outlets: Outlets::new(alloc::vec![Shard::default()]),
        }
    }

    /// Goes on at this time as far as it can; what there is to tell of it.
    fn at(&mut self, now_us: u64) -> VecDeque<Note> {
        self.at_with(now_us, usize::MAX)
    }

    /// The same with so many rows at most.
    fn at_with(&mut self, now_us: u64, rows: usize) -> VecDeque<Note> {
        let mut notes = VecDeque::new();
        self.outlets.all()[0].now_us = now_us;
        self.repair.allow(rows);
        let mut around = Around {
            now_us,
            source: &mut self.source,
            identity: &"holed",
            outlets: &mut self.outlets,
            notes: &mut notes,
            planted: None,
        };
        let ends = (0..1_000).any(|_| self.repair.step(&mut around) == Repaired::Nothing);
        assert!(ends, "it goes on for ever");
        notes
    }

    fn want(&mut self, reason: Reason, now_us: u64) {
        self.repair.want(user(), reason, now_us, None);
    }

    fn begun_us(&mut self) -> &[u64] {
        &self.outlets.all()[0].begun_us
    }
}

/// An account was asked for twice while it had to wait, for the end of its pause and, because a hole was filled, for sooner.
/// It was read at the sooner time, in vain, and at the end of the first pause once more: not a second after.
#[test]
fn what_was_asked_for_twice_waits_after_it_was_read_in_vain() {
    const SECOND_US: u64 = 1_000_000;
    let mut bench = Bench::new();
    bench.want(Reason::Gap, 0);
    bench.at(0);
    bench.want(Reason::Gap, 10);
    bench.at(SECOND_US);
    assert_eq!(bench.begun_us(), [0, SECOND_US], "its pause is two seconds now");
    bench.want(Reason::Gap, SECOND_US + 10);
    bench.want(Reason::HoleFilled, SECOND_US + 500_000);
    for tenth in 0..60 {
        bench.at(SECOND_US + tenth * SECOND_US / 10);
    }
    // A second after the word of the filled hole; then four seconds of pause, once for both.
    assert_eq!(bench.begun_us(), [0, SECOND_US, 2 * SECOND_US + 500_000, 6 * SECOND_US + 500_000]);
    assert_eq!(bench.repair.waiting(), 0);
}

/// Where to look for what is missing.
#[test]
fn the_last_row_before_a_hole_is_told() {
    let mut bench = Bench::new();
    bench.want(Reason::Gap, 0);
    let notes = bench.at(0);
    let told: Vec<Version> = notes
        .iter()
        .filter_map(|note| match note {
            Note::Incomplete { whole, .. } => Some(*whole),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Version(1)]);
}

/// What was routed while a history was read is remembered as runs; where there are too many of them to be remembered, it may have been.
#[test]
fn what_was_routed_meanwhile_is_known() {
    let mut current = Current::new(user());
    [4, 5, 8].into_iter().for_each(|version| current.note_live(Version(version)));
    let routed = |current: &Current| {
        (1..12).filter(|version| current.was_routed(Version(*version))).collect::<Vec<_>>()
    };
    assert_eq!(routed(&current), [4, 5, 8]);
    assert_eq!((current.live, current.runs.len()), (Version(8), 2));
    (10..).step_by(2).take(REREAD_RUNS_MAX).for_each(|version| current.note_live(Version(version)));
    assert_eq!(routed(&current), (1..12).collect::<Vec<_>>());
}

/// Rows that are routed while a history is read are in the ledger by then, and so on a further page. One that has them not is asked for once
/// more and no more.
#[test]
fn a_history_is_read_until_it_has_what_was_routed_meanwhile_or_leads_no_further() {
    let other = UserId::new(8).unwrap();
    for (routed, asked) in [(None, 1), (Some((other, 5)), 1), (Some((user(), 3)), 1), (Some((user(), 5)), 2)]
    {
        let mut bench = Bench::new();
        bench.source.failures = 1;
        bench.want(Reason::Gap, 0);
        bench.at(0);
        if let Some((user, version)) = routed {
            bench.repair.note_live(user, Version(version));
        }
        bench.at(FEED_RETRY_US);
        assert_eq!(bench.source.asked, 1 + asked, "beside the failure, with {routed:?}");
        // It has a hole, and more came: it is asked for again after its pause.
        let waits = usize::from(routed.is_some_and(|(routed, _)| routed == user()));
        assert_eq!(bench.repair.waiting(), waits, "{routed:?}");
    }
}

/// Another ledger in the place of the one that is followed: none of its rows is sent, and what failed is told once.
#[test]
fn an_account_is_not_read_again_from_another_ledger() {
    let mut bench = Bench::new();
    bench.source.name = "another";
    bench.want(Reason::Gap, 0);
    let told = |notes: VecDeque<Note>| {
        notes.iter().filter(|note| matches!(note, Note::RereadFailed(why) if why.contains("another"))).count()
    };
    assert_eq!(told(bench.at(0)), 1);
    assert_eq!(told(bench.at(FEED_RETRY_US)), 0, "it was told");
    assert_eq!((bench.outlets.all()[0].rows, bench.repair.waiting()), (0, 1));
    bench.source.name = "holed";
    bench.at(2 * FEED_RETRY_US);
    assert_eq!((bench.outlets.all()[0].rows, bench.repair.waiting()), (2, 0));
}

/// Of which no row can be read has nothing that a further page could begin behind.
#[test]
fn a_page_without_a_readable_row_is_the_last() {
    let mut bench = Bench::new();
    (bench.source.versions, bench.source.page) = (alloc::vec![None], Page::More);
    bench.want(Reason::Gap, 0);
    bench.at(0);
    assert_eq!((bench.source.asked, bench.repair.waiting()), (1, 0));
}

/// However long a history is, others wait for no more than was allowed of it.
#[test]
fn no_more_rows_are_sent_than_were_allowed() {
    let mut bench = Bench::new();
    bench.want(Reason::Gap, 0);
    for (rows, sent) in [(1, 1), (0, 1), (1, 2)] {
        bench.at_with(0, rows);
        assert_eq!(bench.outlets.all()[0].rows, sent);
    }
}

/// Who has all rows is no more read again; who has got further, after the shortest pause.
#[test]
fn a_pause_is_as_long_as_what_was_read_has_led_nowhere() {
    let mut bench = Bench::new();
    let mut pause_of = |now_us: u64, versions: &[u64]| {
        bench.source.versions = versions.iter().copied().map(Some).collect();
        bench.want(Reason::Gap, now_us);
        let notes = bench.at(now_us);
        notes.iter().find_map(|note| match note {
            Note::Incomplete { again_us, .. } => Some(*again_us),
            _ => None,
        })
    };
    const HOUR_US: u64 = 3_600_000_000;
    assert_eq!(pause_of(0, &[1, 3]), Some(REREAD_PAUSE_MIN_US));
    assert_eq!(pause_of(HOUR_US, &[1, 3]), Some(2 * REREAD_PAUSE_MIN_US));
    assert_eq!(pause_of(2 * HOUR_US, &[1, 2, 4]), Some(REREAD_PAUSE_MIN_US));
    assert_eq!(pause_of(3 * HOUR_US, &[1, 2, 3, 4]), None);
}

/// The same where it was asked for twice before it was ever read.
#[test]
fn what_was_asked_for_twice_at_first_is_read_once_at_once() {
    let mut bench = Bench::new();
    bench.want(Reason::ClockMoved, 0);
    bench.want(Reason::Gap, 0);
    bench.at(0);
    bench.at(REREAD_PAUSE_MIN_US - 1);
    assert_eq!(bench.begun_us(), [0]);
    bench.at(REREAD_PAUSE_MIN_US);
    assert_eq!(bench.begun_us(), [0, REREAD_PAUSE_MIN_US]);
    assert_eq!(bench.repair.waiting(), 0);
}

/// A ledger that fails while an account is read again is left alone for a while each time: it was asked as fast as it failed, had
/// nobody waited.
#[test]
fn a_page_that_failed_is_asked_for_again_after_a_pause() {
    let mut bench = Bench::new();
    bench.source.failures = 2;
    bench.want(Reason::Gap, 0);
    for (now_us, asked) in [
        (0, 1),
        (1, 1),
        (FEED_RETRY_US - 1, 1),
        (FEED_RETRY_US, 2),
        (2 * FEED_RETRY_US - 1, 2),
        (2 * FEED_RETRY_US, 3),
    ] {
        bench.at(now_us);
        assert_eq!(bench.source.asked, asked, "at {now_us} µs");
    }
    assert_eq!((bench.repair.waiting(), bench.begun_us()), (0, &[0][..]), "and read to its end");
}

#[test]
fn who_waits_is_counted_whatever_for() {
    let mut bench = Bench::new();
    let other = |id| UserId::new(id).unwrap();
    let waits = |bench: &Bench| (bench.repair.waiting(), bench.repair.has_first_attempts());
    assert_eq!(waits(&bench), (0, false));
    bench.want(Reason::Gap, 0);
    bench.repair.want(other(8), Reason::Gap, 0, None);
    assert_eq!(waits(&bench), (2, true));
    bench.at(0);
    assert_eq!((waits(&bench), bench.repair.rereads), ((0, false), 2), "both were read, and have a hole");
    bench.want(Reason::Gap, 10);
    assert_eq!(waits(&bench), (1, false), "that was tried before");
    bench.source.failures = 1;
    bench.repair.want(other(9), Reason::Gap, 10, None);
    bench.at(10);
    assert_eq!(waits(&bench), (2, true), "one was begun, and its page failed");
}
