//! The thread that makes checkpoints: when it is time, when rows enough have come, and when somebody asks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cut::{Cut, Reached};
use super::status::wall_us;
use super::store::Unfinished;
use super::write::{OpenBlocks, SectionWriter, Written};
use super::{CheckpointConfig, CheckpointStatus, Doubts, Port, Store};
use crate::audit::{BUCKETS, Fingerprint};
use crate::checkpoint::Manifest;
use crate::clock::Clock;
use crate::limits::{
    CHECKPOINT_AFTER_FINDING, CHECKPOINT_BUFFERS, CHECKPOINT_CUT_WAIT_US, CHECKPOINT_DUE_LOOK,
    CHECKPOINT_LOOK, CHECKPOINT_PIECE_BYTES, CHECKPOINT_PIECE_ROOM, CHECKPOINT_RESTS, CHECKPOINTS_KEPT,
};
use crate::shard::{CheckpointAnswer, CheckpointOrder};
use crate::threads::{Vital, give_way, spawn_vital};

/// A checkpoint that is on the disk.
#[derive(Clone, PartialEq, Debug)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// In it.
    pub accounts: u64,
    /// Of its sections.
    pub bytes: u64,
    /// When it was made, µs since 1970 UTC.
    pub made_at_us: i64,
    /// How long that took; 0 of one that another process made.
    pub seconds: f64,
    /// Where it begins.
    begin: Vec<u8>,
}

impl Made {
    pub(super) fn loaded(path: &Path, manifest: &Manifest) -> Made {
        Made {
            path: path.to_owned(),
            accounts: manifest.accounts(),
            bytes: manifest.bytes(),
            made_at_us: manifest.made_at_us,
            seconds: 0.0,
            begin: manifest.begin.clone(),
        }
    }
}

/// Why none was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The feed has nothing that one could begin with.
    #[error("the ledger is not followed at the moment: {0}")]
    Feed(String),
    /// The file system.
    #[error("cannot write to {}: {source}", .folder.display())]
    Write {
        /// Where.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It may hold what is wrong.
    #[error("the audit has found something wrong meanwhile")]
    Doubted,
    /// The node ends.
    #[error("the node ends")]
    Ends,
}

/// Whoever asked for a checkpoint hears of it.
type Answer = Box<dyn FnOnce(Result<Made, String>) + Send>;

/// Asks for checkpoints.
#[derive(Clone)]
pub struct MakerHandle {
    orders: Sender<Answer>,
    status: Arc<CheckpointStatus>,
}

impl MakerHandle {
    /// Has one made; `answer` is called on the maker's thread when it is on the disk, or could not be made.
    pub fn make(&self, answer: impl FnOnce(Result<Made, String>) + Send + 'static) {
        if let Err(mpsc::SendError(answer)) = self.orders.send(Box::new(answer)) {
            answer(Err(MakeError::Ends.to_string()));
        }
    }

    /// What there is to say.
    pub fn status(&self) -> &Arc<CheckpointStatus> {
        &self.status
    }
}

/// What the maker has in common with others.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The folder.
    pub store: Arc<Store>,
    /// The feed's.
    pub cut: Arc<Cut>,
    /// What there is to say.
    pub status: Arc<CheckpointStatus>,
    /// The audit's.
    pub doubts: Arc<Doubts>,
}

/// The thread, as long as it is held.
pub struct Maker {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    handle: MakerHandle,
}

impl Maker {
    /// Starts it. It begins once it is given the ways to the shards, when nothing is loaded any more. `following` says how many rows were
    /// taken from the ledger so far; nothing while it is not followed.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        config: CheckpointConfig,
        shared: Shared,
        clock: Clock,
        ports: Receiver<Vec<Port>>,
        following: impl Fn() -> Option<u64> + Send + 'static,
    ) -> io::Result<Maker> {
        let Shared { store, cut, status, doubts } = shared;
        let (orders, asked) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let making = Making {
            config,
            store,
            cut,
            status: Arc::clone(&status),
            doubts,
            clock,
            stop: Arc::clone(&stop),
            ports: Vec::new(),
            buffers: Vec::new(),
            open: OpenBlocks::new(),
        };
        let thread = spawn_vital(Vital::Checkpoint, move || making.run(&ports, &asked, following))?;
        Ok(Maker { thread: Some(thread), stop, handle: MakerHandle { orders, status } })
    }

    /// The way to ask it.
    pub fn handle(&self) -> MakerHandle {
        self.handle.clone()
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

struct Making {
    config: CheckpointConfig,
    store: Arc<Store>,
    cut: Arc<Cut>,
    status: Arc<CheckpointStatus>,
    doubts: Arc<Doubts>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    ports: Vec<Port>,
    /// Free ones, which all shards share.
    buffers: Vec<Vec<u8>>,
    open: OpenBlocks,
}

impl Making {
    fn run(
        mut self,
        ports: &Receiver<Vec<Port>>,
        asked: &Receiver<Answer>,
        following: impl Fn() -> Option<u64>,
    ) {
        give_way();
        while self.ports.is_empty() {
            match ports.recv_timeout(CHECKPOINT_DUE_LOOK) {
                Ok(ports) => self.ports = ports,
                Err(RecvTimeoutError::Timeout) if !self.stop.load(Relaxed) => {}
                Err(_) => return,
            }
        }
        // A node that has loaded no checkpoint makes one as soon as it can.
        let last = self.status.last().map(|_| Instant::now());
        let mut due = Due { last, took: Duration::ZERO, rows: 0 };
        loop {
            self.doubts.remove();
            if self.stop.load(Relaxed) {
                return;
            }
            let answer = match asked.recv_timeout(CHECKPOINT_DUE_LOOK) {
                Ok(answer) => Some(answer),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(rows) = following() else {
                if let Some(answer) = answer {
                    answer(Err(MakeError::Feed("/readyz says why".to_owned()).to_string()));
                }
                continue;
            };
            if answer.is_some()
                || due.is(&self.config, rows)
                || (self.doubts.is_one_owed() && due.has_rested())
            {
                let begun = Instant::now();
                let outcome = self.make(answer.is_some());
                due = Due { last: Some(Instant::now()), took: begun.elapsed(), rows };
                self.tell(outcome, answer);
            }
        }
    }

    fn tell(&self, outcome: Result<Option<Made>, MakeError>, answer: Option<Answer>) {
        let told = match outcome {
            Ok(Some(made)) => {
                tracing::info!(
                    accounts = made.accounts,
                    bytes = made.bytes,
                    seconds = made.seconds,
                    "made {}",
                    made.path.display()
                );
                Ok(made)
            }
            Ok(None) => return,
            Err(MakeError::Ends) => Err(MakeError::Ends.to_string()),
            Err(error) => {
                self.status.note_failure();
                tracing::error!("no checkpoint was made: {error}; it is tried again");
                Err(error.to_string())
            }
        };
        if let Some(answer) = answer {
            answer(told);
        }
    }

    /// Makes one; none where nothing has come since the last, and nobody `insists`.
    fn make(&mut self, insists: bool) -> Result<Option<Made>, MakeError> {
        Vital::Checkpoint.at_work();
        let begun = Instant::now();
        let sure = self.doubts.begin()?;
        let begin = self.reach(self.clock.monotonic_us())?;
        if !insists && self.status.last().is_some_and(|last| last.begin == begin.position) {
            self.doubts.unless_raised(sure, || self.status.note_current())?;
            return Ok(None);
        }
        let made_at_us = wall_us();
        let folder = self.config.folder.clone();
        let failed = |source| MakeError::Write { folder: folder.clone(), source };
        let unfinished = self.store.begin().map_err(failed)?;
        let (mut sections, mut incomplete) = (Vec::new(), 0);
        let mut fingerprints = vec![Some(Fingerprint::default()); BUCKETS];
        for index in 0..self.ports.len() {
            let written = self.copy(index, &unfinished)?.map_err(failed)?;
            let applied = self.fingerprints(index)?;
            self.doubts.unless_raised(sure, || ())?;
            for (bucket, all) in fingerprints.iter_mut().enumerate() {
                let known = applied[bucket].filter(|_| !written.unknown[bucket]);
                *all = all.zip(known).map(|(all, own)| all.plus(own));
            }
            sections.push(written.section);
            incomplete += written.incomplete;
        }
        // All that any account holds had been committed by now.
        let end = self.reach(self.clock.monotonic_us())?;
        if end.ledger != begin.ledger {
            return Err(MakeError::Feed("it was replaced by another meanwhile".to_owned()));
        }
        if end.loads != begin.loads {
            return Err(MakeError::Feed("everything was loaded again meanwhile".to_owned()));
        }
        let manifest = Manifest {
            ledger: begin.ledger,
            begin: begin.position,
            end: end.position,
            made_at_us,
            incomplete,
            sections,
            fingerprints,
        };
        let publish = || {
            let path = unfinished.publish(&manifest)?;
            self.cut.note_durable(manifest.begin.clone());
            let made = Made { seconds: begun.elapsed().as_secs_f64(), ..Made::loaded(&path, &manifest) };
            self.status.note_made(made.clone());
            Ok(made)
        };
        let made = self.doubts.publish(sure, publish)?.map_err(failed)?;
        if let Err(error) = self.store.retain(CHECKPOINTS_KEPT) {
            tracing::warn!("cannot remove an old checkpoint from {}: {error}", folder.display());
        }
        Ok(Some(made))
    }

    /// Waits until every shard has applied all that had been committed by then (monotonic µs).
    fn reach(&mut self, complete_us: u64) -> Result<Reached, MakeError> {
        self.cut.want(complete_us);
        let until_us = complete_us + CHECKPOINT_CUT_WAIT_US;
        loop {
            match self.cut.take() {
                Some(reached) => return reached.map_err(MakeError::Feed),
                None if self.stop.load(Relaxed) => return Err(MakeError::Ends),
                None if self.clock.monotonic_us() > until_us => {
                    return Err(MakeError::Feed("it did not get on in time; /readyz says why".to_owned()));
                }
                None => thread::park_timeout(CHECKPOINT_LOOK),
            }
        }
    }

    /// Copies a shard's accounts into its section. Whatever the disk says, the shard is not left with a buffer.
    fn copy(&mut self, index: usize, unfinished: &Unfinished) -> Result<io::Result<Written>, MakeError> {
        let mut section = SectionWriter::create(unfinished.path(), index, &mut self.open);
        let port = &mut self.ports[index];
        assert!(port.tell(CheckpointOrder::Begin).is_ok(), "nothing else is ordered meanwhile");
        let mut has_all = false;
        while !has_all || port.unanswered() > 0 {
            while !has_all && section.is_ok() && port.unanswered() < CHECKPOINT_BUFFERS {
                let fresh = || Vec::with_capacity(CHECKPOINT_PIECE_BYTES + CHECKPOINT_PIECE_ROOM);
                port.order(CheckpointOrder::Fill(self.buffers.pop().unwrap_or_else(fresh)));
            }
            if section.is_err() && port.unanswered() == 0 {
                break;
            }
            match port.answer() {
                Some(CheckpointAnswer::Filled { mut records, is_last }) => {
                    has_all |= is_last;
                    if let Ok(writer) = &mut section
                        && let Err(error) = writer.add(&records)
                    {
                        section = Err(error);
                    }
                    records.clear();
                    self.buffers.push(records);
                }
                Some(other) => unreachable!("nothing else was ordered, but {other:?} came"),
                None if self.stop.load(Relaxed) => return Err(MakeError::Ends),
                None => thread::park_timeout(CHECKPOINT_LOOK),
            }
        }
        self.buffers.truncate(CHECKPOINT_BUFFERS);
        Ok(section.and_then(SectionWriter::finish))
    }

    /// Which rows a shard's accounts had when they were copied.
    fn fingerprints(&mut self, index: usize) -> Result<Vec<Option<Fingerprint>>, MakeError> {
        let port = &mut self.ports[index];
        port.order(CheckpointOrder::Fingerprints(Vec::with_capacity(BUCKETS)));
        loop {
            match port.answer() {
                Some(CheckpointAnswer::Fingerprints(applied)) => return Ok(applied),
                Some(other) => unreachable!("nothing else was ordered, but {other:?} came"),
                None if self.stop.load(Relaxed) => return Err(MakeError::Ends),
                None => thread::park_timeout(CHECKPOINT_LOOK),
            }
        }
    }
}

/// When the next one is due.
struct Due {
    last: Option<Instant>,
    /// How long the last one took.
    took: Duration,
    rows: u64,
}

impl Due {
    fn is(&self, config: &CheckpointConfig, rows: u64) -> bool {
        // Of an empty ledger there is nothing to keep.
        let Some(last) = self.last else { return rows > 0 };
        config.every.is_some_and(|every| last.elapsed() >= every)
            || config.every_rows.is_some_and(|every| rows.saturating_sub(self.rows) >= every)
    }

    /// Where much is found wrong, little of the time goes into checkpoints that will not last.
    fn has_rested(&self) -> bool {
        let rest = CHECKPOINT_AFTER_FINDING.max(CHECKPOINT_RESTS * self.took);
        self.last.is_none_or(|last| last.elapsed() >= rest)
    }
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maker").field("status", &self.handle.status).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MakerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MakerHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follower::{Waker, link};
    use crate::mesh::Parking;
    use crate::shard::{Shard, ShardSetup, checkpoint_link};

    #[test]
    fn one_that_is_in_the_making_when_something_is_found_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let (status, cut) = (Arc::default(), Arc::new(Cut::default()));
        let doubts = Arc::new(Doubts::new(Arc::clone(&store), Arc::clone(&status)));
        let (parking, waker): (_, Waker) = (Arc::new(Parking::new()), Arc::new(|| {}));
        let (_outlet, feed) = link(Arc::clone(&parking), Arc::clone(&waker));
        let (port, link) = checkpoint_link();
        let mut shard = Shard::new(ShardSetup::alone(Arc::clone(&parking), feed)).with_checkpoints(link);
        let config = CheckpointConfig {
            folder: folder.path().to_owned(),
            every: None,
            every_rows: None,
            at_end: false,
        };
        let clock = Clock::new(None);
        let mut making = Making {
            config,
            store: Arc::clone(&store),
            cut: Arc::clone(&cut),
            status: Arc::clone(&status),
            doubts: Arc::clone(&doubts),
            clock,
            stop: Arc::default(),
            ports: vec![Port::new(port, parking, waker)],
            buffers: Vec::new(),
            open: OpenBlocks::new(),
        };
        // It asks how far the node is before it copies and behind that; or nothing is found.
        for (comes_at, is_made) in [(1, false), (2, false), (3, true)] {
            let (outcome, is_one_owed) = thread::scope(|scope| {
                let made = scope.spawn(|| (making.make(true), making.doubts.is_one_owed()));
                let mut asked = 0;
                while !made.is_finished() {
                    if cut.wants(u64::MAX) {
                        asked += 1;
                        if asked == comes_at {
                            doubts.raise();
                            doubts.settle();
                        }
                        let (ledger, position) = ("test".to_owned(), Vec::new());
                        cut.put(Ok(Reached { ledger, position, loads: 1 }));
                    }
                    shard.begin_turn(clock.now());
                    shard.work();
                    thread::park_timeout(CHECKPOINT_LOOK);
                }
                made.join().unwrap()
            });
            let there = store.checkpoints().unwrap().len();
            assert_eq!((there, is_one_owed), (usize::from(is_made), !is_made), "{outcome:?}");
            assert_eq!(matches!(outcome, Err(MakeError::Doubted)), !is_made, "{outcome:?}");
        }
    }
}
