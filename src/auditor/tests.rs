use std::sync::atomic::AtomicU64;

use florin_record::TransactionText;
use florin_schema::{ShardIndex, Version};
use florin_sqlite::Writer;

use super::*;
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

/// A ledger's scan, and how often the ledger was read.
struct Counted(Box<dyn Scan>, Arc<AtomicU64>);

impl Scan for Counted {
    fn users(&mut self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SourceError> {
        self.0.users(from, limit, rows)?;
        self.1.fetch_add(1, Relaxed);
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
    let setup = ShardSetup {
        index: ShardIndex(0),
        shards: 1,
        peers: vec![None],
        parking,
        feed,
        metrics: Arc::clone(&metrics),
        max_staleness_us: 30_000_000,
        server: "test".to_owned(),
        ports: Vec::new(),
        tls_ports: Vec::new(),
        identity: Default::default(),
    };
    (Shard::new(setup).with_audit(audit), audited, outlet, metrics)
}

fn within(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::yield_now();
    }
    true
}

const MINUTE: Duration = Duration::from_secs(60);

/// A shard was told to note new users, and the ledger was read before it had heard that. Who came between the two was in the shard's sums
/// and in nothing that was read: a row too many, where nothing was wrong.
#[test]
fn nobody_comes_unnoted_between_the_word_to_watch_and_the_reading_of_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("florin.db");
    let mut writer = Writer::open_or_create(&path).unwrap();
    let mut append = |user: &str| {
        let text = TransactionText {
            transaction_id: &format!("00000000-0000-4000-8000-{user:0>12}"),
            user_id: user,
            asset: "COIN",
            kind: "recharge",
            amount: "5",
            occurred_at: "2026-11-22T04:05:06Z",
        };
        writer.append(&[text.parse().unwrap()]).unwrap();
    };
    append("7");
    let (clock, ledger) = (Clock::new(None), Ledger::open(&path.into()).unwrap());
    let (mut shard, audited, outlet, metrics) = shard_by_hand();
    let mut turn = || {
        shard.begin_turn(clock.now());
        shard.work();
    };
    let feed = Feed::spawn(&ledger, clock, vec![outlet], None).unwrap();
    let is_loaded = within(MINUTE, || {
        turn();
        metrics.watermark_monotonic_us.get() > 0
    });
    assert!(is_loaded);

    // From here on the shard has no turn: its CPU is somebody else's.
    let reads = Arc::new(AtomicU64::new(0));
    let scan = Counted(ledger.scan().unwrap(), Arc::clone(&reads));
    let auditor = Auditor::start(Share::WHOLE, Ok(Box::new(scan)), vec![audited], clock).unwrap();
    let is_early = within(Duration::from_millis(200), || reads.load(Relaxed) > 0);
    append("8");
    assert!(within(MINUTE, || feed.status().rows() == 2), "it is on its way to the shard");

    let status = Arc::clone(auditor.handle().status());
    let is_over = within(MINUTE, || {
        turn();
        status.passes() > 0
    });
    assert!(is_over);
    assert_eq!(status.evidence(), [], "the ledger was read before the shard watched: {is_early}");
    drop(auditor);
    feed.stop();
}

/// Orders that are not answered take all the room that there is, as where many accounts are quarantined at once: the next was one too
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
        assert_eq!(asked.join().unwrap().ok(), Some(crate::audit::BUCKETS));
    });
}
