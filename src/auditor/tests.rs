use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};

use florin_record::TransactionText;
use florin_schema::Version;
use florin_sqlite::Writer;

use super::*;
use crate::audit::BUCKETS;
use crate::feed::Feed;
use crate::follower::{Row, Waker, link};
use crate::mesh::Parking;
use crate::orders::Port;
use crate::shard::{AuditOrder, Shard, ShardMetrics, ShardSetup, audit_link};
use crate::sources::Ledger;

#[test]
fn a_share_is_a_percentage_and_says_how_long_to_rest() {
    let rest = |share: &str, ms| share.parse::<Share>().unwrap().rest(Duration::from_millis(ms)).as_millis();
    assert_eq!((rest("1%", 2), rest("50%", 7), rest("100%", 9)), (198, 7, 0));
    for wrong in ["1", "0%", "101%", "-1%", "%", "NaN%", "one%", ""] {
        assert!(wrong.parse::<Share>().is_err(), "{wrong}");
    }
}

/// A ledger's scan, and how often the ledger was read; the first time it may lack a user.
struct Counted(Box<dyn Scan>, Arc<AtomicU64>, Option<UserId>);

impl Scan for Counted {
    fn users(&mut self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SourceError> {
        self.0.users(from, limit, rows)?;
        if self.1.fetch_add(1, Relaxed) == 0 {
            rows.retain(|row| row.as_ref().ok().map(|row| row.user_id) != self.2);
        }
        Ok(())
    }

    fn account(
        &mut self,
        user: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SourceError> {
        self.0.account(user, after, limit, rows)
    }
}

/// A shard that this test gives its turns, and how it is reached.
fn shard_by_hand() -> (Shard, Audited, crate::follower::MeshOutlet, Arc<ShardMetrics>) {
    let (parking, metrics) = (Arc::new(Parking::new()), Arc::new(ShardMetrics::default()));
    let waker: Waker = Arc::new(|| {});
    let (outlet, feed) = link(Arc::clone(&parking), Arc::clone(&waker));
    let (port, audit) = audit_link();
    let port = Port::new(port, Arc::clone(&parking), waker);
    let audited = Audited { port, watermark: Arc::clone(&feed.watermark) };
    let setup = ShardSetup { metrics: Arc::clone(&metrics), ..ShardSetup::alone(parking, feed) };
    (Shard::new(setup).with_audit(audit), audited, outlet, metrics)
}

fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    true
}

const MINUTE: Duration = Duration::from_secs(60);

/// A ledger that a shard follows by hand.
struct Followed {
    folder: tempfile::TempDir,
    ledger: Ledger,
    clock: Clock,
    shard: Shard,
    audited: Option<Audited>,
    feed: Feed,
    keeper: Option<Arc<dyn Keeper>>,
}

impl Followed {
    fn with(user: &str) -> Followed {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), user);
        let (clock, ledger) =
            (Clock::new(None), Ledger::open(&folder.path().join("florin.db").into()).unwrap());
        let (shard, audited, outlet, metrics) = shard_by_hand();
        let feed = Feed::spawn(&ledger, clock, vec![outlet], None).unwrap();
        let mut this = Followed { folder, ledger, clock, shard, audited: Some(audited), feed, keeper: None };
        this.turn_until(|| metrics.watermark_monotonic_us.get() > 0);
        this
    }

    fn turn_until(&mut self, mut is_so: impl FnMut() -> bool) {
        let is_so = within(MINUTE, || {
            self.shard.begin_turn(self.clock.now());
            self.shard.work();
            is_so()
        });
        assert!(is_so);
    }

    /// Audits it by a scan that lacks a user at first; what is said, and how often the ledger was read.
    fn audit(&mut self, lacks: Option<&str>) -> (Auditor, Arc<AtomicU64>) {
        let reads = Arc::new(AtomicU64::new(0));
        let lacks = lacks.map(|user| UserId::new(user.parse().unwrap()).unwrap());
        let scan = Counted(self.ledger.scan().unwrap(), Arc::clone(&reads), lacks);
        let audited = vec![self.audited.take().unwrap()];
        (
            Auditor::start(Share::WHOLE, Ok(Box::new(scan)), audited, self.clock, self.keeper.clone())
                .unwrap(),
            reads,
        )
    }
}

fn append(folder: &std::path::Path, user: &str) {
    let text = TransactionText {
        transaction_id: &format!("00000000-0000-4000-8000-{user:0>12}"),
        user_id: user,
        asset: "COIN",
        kind: "recharge",
        amount: "5",
        occurred_at: "2026-11-22T04:05:06Z",
    };
    let mut writer = Writer::open_or_create(&folder.join("florin.db")).unwrap();
    writer.append(&[text.parse().unwrap()]).unwrap();
}

/// A shard was told to note new users, and the ledger was read before it had heard that. Who came between the two was in the shard's sums
/// and in nothing that was read: a row too many, where nothing was wrong.
#[test]
fn nobody_comes_unnoted_between_the_word_to_watch_and_the_reading_of_the_ledger() {
    let mut followed = Followed::with("7");
    // From here on the shard has no turn: its CPU is somebody else's.
    let (auditor, reads) = followed.audit(None);
    let is_early = within(Duration::from_millis(200), || reads.load(Relaxed) > 0);
    append(followed.folder.path(), "8");
    assert!(within(MINUTE, || followed.feed.status().rows() == 2), "it is on its way to the shard");
    let status = Arc::clone(auditor.handle().status());
    followed.turn_until(|| status.passes() > 0);
    let (report, _) = status.last().unwrap();
    assert_eq!(
        (report.buckets, status.evidence()),
        (1_024, vec![]),
        "the ledger was read before the shard watched: {is_early}"
    );
    drop(auditor);
    followed.feed.stop();
}

/// A row that is followed and cannot be read yet was told as one too many.
#[test]
fn what_a_pass_alone_has_seen_of_a_bucket_is_not_told() {
    let mut followed = Followed::with("7");
    let (auditor, _) = followed.audit(Some("7"));
    let status = Arc::clone(auditor.handle().status());
    followed.turn_until(|| status.passes() > 0);
    assert_eq!(status.last().unwrap().0.buckets, 1_023, "it has seen it");
    followed.turn_until(|| status.passes() > 1);
    assert_eq!((status.last().unwrap().0.buckets, status.evidence()), (1_024, vec![]));
    drop(auditor);
    followed.feed.stop();
}

/// What a keeper was told, and how many differences were shown by then.
#[derive(Default)]
struct Told {
    status: OnceLock<Arc<AuditStatus>>,
    calls: Mutex<Vec<(&'static str, usize)>>,
    /// Held by the test until the audit may go on.
    gate: Mutex<()>,
}

impl Told {
    fn note(&self, call: &'static str) {
        let shown = self.status.get().map_or(0, |status| status.evidence().len());
        self.calls.lock().unwrap().push((call, shown));
    }

    fn calls(&self) -> Vec<(&'static str, usize)> {
        self.calls.lock().unwrap().clone()
    }
}

impl Keeper for Told {
    fn doubt(&self) {
        self.note("doubt");
        drop(self.gate.lock().unwrap());
    }

    fn settle(&self) {
        self.note("settle");
    }
}

/// The audit told what it had found, and checkpoints with it were removed a moment later: whoever was killed in between started from them.
#[test]
fn whoever_keeps_what_is_wrong_hears_of_it_before_anybody_else_and_until_it_is_quarantined() {
    let mut followed = Followed::with("7");
    let told = Arc::new(Told::default());
    followed.keeper = Some(Arc::clone(&told) as Arc<dyn Keeper>);
    let gate = told.gate.lock().unwrap();
    let (auditor, _) = followed.audit(None);
    let status = Arc::clone(auditor.handle().status());
    told.status.set(Arc::clone(&status)).unwrap();
    auditor.handle().damage(UserId::new(7).unwrap(), crate::shard::Damage::Balance);
    followed.turn_until(|| !told.calls().is_empty());
    drop(gate);
    assert!(within(MINUTE, || !status.evidence().is_empty()));
    let is_early = within(Duration::from_millis(50), || told.calls().len() > 1);
    assert!(!is_early, "the shard has had no turn to quarantine it");
    followed.turn_until(|| status.differences() > 0);
    assert_eq!(told.calls(), [("doubt", 0), ("settle", 1)]);
    drop(auditor);
    followed.feed.stop();
}

/// A finding counts once no copy of the account passes for whole: a checkpoint that is made for it would hold what is wrong.
#[test]
fn an_account_is_quarantined_before_its_difference_counts() {
    let (mut shard, audited, _outlet, metrics) = shard_by_hand();
    let clock = Clock::new(None);
    let mut shards = Shards::new(vec![audited], clock, Arc::default(), Arc::default());
    thread::scope(|scope| {
        let told = scope.spawn(|| {
            shards.quarantine(UserId::new(7).unwrap()).ok().unwrap();
            metrics.quarantined.get()
        });
        assert!(!within(Duration::from_millis(50), || told.is_finished()), "the shard has not heard of it");
        let is_told = within(MINUTE, || {
            shard.begin_turn(clock.now());
            shard.work();
            told.is_finished()
        });
        assert!(is_told);
        assert_eq!(told.join().unwrap(), 1);
    });
}

/// Orders that are not answered take all the room that there is, as where the sums of many buckets are set right at once: the next was one too
/// many, and ended the process.
#[test]
fn an_order_waits_for_room() {
    let (mut shard, audited, _outlet, _metrics) = shard_by_hand();
    let clock = Clock::new(None);
    let mut shards = Shards::new(vec![audited], clock, Arc::default(), Arc::default());
    let mut told = 0;
    while shards.try_tell(AuditOrder::Begin) {
        told += 1;
    }
    assert!(told > 0);
    thread::scope(|scope| {
        let asked = scope.spawn(|| shards.sums().map(|sums| sums.len()));
        let is_answered = within(MINUTE, || {
            shard.begin_turn(clock.now());
            shard.work();
            asked.is_finished()
        });
        assert!(is_answered);
        assert_eq!(asked.join().unwrap().ok(), Some(BUCKETS));
    });
}
