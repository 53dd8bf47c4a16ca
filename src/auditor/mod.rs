//! The audit that never ends: a thread that reads the ledger again, account after account, and compares what the node answers.
//!
//! ```text
//!     ledger ──rows, by users, on a connection of its own──▶ pass ──recomputed──▶ compare ──▶ difference: evidence, quarantine
//!     shards ──what is served, for some accounts a turn────────┘  └──sums of hashes, by bucket, at the end of the pass
//! ```
//!
//! A pass proves two things. Each account's answers, balance and all windows, are to the byte what its rows amount to, at the same
//! version. And the rows that were applied are, bucket by bucket of users, exactly those that the ledger has: none is missing, none is
//! there twice, none is another, whether or not that shows in an answer.
//!
//! | module | holds |
//! | --- | --- |
//! | [`history`] | an account's rows, read and added up |
//! | [`compare`] | what is served against what must be |
//! | `shards` | orders to the shards, and how far they are |
//! | `pass` | one pass |
//! | [`status`] | what there is to say of it |

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[cfg(debug_assertions)]
use florin_schema::UserId;

use crate::clock::Clock;
use crate::follower::{Scan, SourceError};
use crate::limits::{AUDIT_PASS_PAUSE, AUDIT_RETRY, AUDIT_WAIT};
use crate::threads::{Vital, give_way, spawn_vital};

pub mod compare;
pub mod history;
mod pass;
mod shards;
pub mod status;

use pass::{Pass, Suspected};
pub use shards::{Audited, Shards};
pub use status::{AuditStatus, Doing, Finding};

/// The share of a CPU's time that an audit may take, in millionths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(u32);

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share(1_000_000);

    /// How long to rest after having worked for so long.
    fn rest(self, worked: Duration) -> Duration {
        let rest = worked.as_micros() * u128::from(Share::WHOLE.0 - self.0) / u128::from(self.0);
        Duration::from_micros(u64::try_from(rest).unwrap_or(u64::MAX))
    }
}

impl FromStr for Share {
    type Err = &'static str;

    /// `1%`, `0.5%`.
    fn from_str(text: &str) -> Result<Share, &'static str> {
        let expected = "expected a share of a CPU's time from 0.01% to 100%, like 1%";
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        match percent {
            Some(percent) if (0.01..=100.0).contains(&percent) => {
                Ok(Share((percent * 10_000.0).round() as u32))
            }
            _ => Err(expected),
        }
    }
}

/// Why a pass did not come to its end.
#[derive(Debug)]
enum Ended {
    /// The node ends.
    Stopped,
    /// The ledger cannot be read.
    Ledger(SourceError),
}

impl From<SourceError> for Ended {
    fn from(error: SourceError) -> Ended {
        Ended::Ledger(error)
    }
}

/// Who keeps what the node answers, for a restart.
pub trait Keeper: Send + Sync {
    /// Something that is answered is about to be told as wrong: once this returns, nothing that is kept may hold it.
    fn doubt(&self);

    /// The account is quarantined, and what is kept from now on knows that.
    fn settle(&self);
}

/// What an audit is told from outside.
pub enum Command {
    /// Do something wrong to an account, for the audit to find.
    #[cfg(debug_assertions)]
    Damage(UserId, crate::shard::Damage),
}

/// What others have of the audit.
#[derive(Clone)]
pub struct AuditHandle {
    status: Arc<AuditStatus>,
    #[cfg_attr(
        not(debug_assertions),
        expect(dead_code, reason = "there is nothing to tell but in builds for tests")
    )]
    commands: Sender<Command>,
}

impl AuditHandle {
    /// What there is to say.
    pub fn status(&self) -> &Arc<AuditStatus> {
        &self.status
    }

    /// Does something wrong to an account.
    #[cfg(debug_assertions)]
    pub fn damage(&self, user: UserId, damage: crate::shard::Damage) {
        // The thread ends with the node.
        let _ = self.commands.send(Command::Damage(user, damage));
    }
}

/// The thread, as long as it is held.
pub struct Auditor {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    handle: AuditHandle,
}

impl Auditor {
    /// Starts it; it begins once every shard has a watermark. Where the ledger cannot be scanned it says why, and rests.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        share: Share,
        scan: Result<Box<dyn Scan>, String>,
        shards: Vec<Audited>,
        clock: Clock,
        keeper: Option<Arc<dyn Keeper>>,
    ) -> io::Result<Auditor> {
        let (status, stop) = (Arc::new(AuditStatus::default()), Arc::new(AtomicBool::new(false)));
        let (commands, told) = mpsc::channel();
        let handle = AuditHandle { status: Arc::clone(&status), commands };
        let scan = match scan {
            Ok(scan) => scan,
            Err(reason) => {
                tracing::warn!("this ledger is not audited: {reason}");
                status.set_doing(Doing::Unable(reason));
                return Ok(Auditor { thread: None, stop, handle });
            }
        };
        let shards = Shards::new(shards, clock, Arc::clone(&stop), Arc::clone(&status));
        let pace =
            Pace { share, stop: Arc::clone(&stop), status: Arc::clone(&status), worked: Duration::ZERO };
        let suspected = Suspected::default();
        let auditing = Auditing { scan, shards, pace, told, status, keeper, suspected };
        let thread = spawn_vital(Vital::Audit, move || auditing.run())?;
        Ok(Auditor { thread: Some(thread), stop, handle })
    }

    /// What others have of it.
    pub fn handle(&self) -> AuditHandle {
        self.handle.clone()
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

/// Holds the audit to its share of time.
struct Pace {
    share: Share,
    stop: Arc<AtomicBool>,
    status: Arc<AuditStatus>,
    /// And not yet rested for.
    worked: Duration,
}

impl Pace {
    /// Does some work: reading and comparing, whoever's CPU it takes.
    fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        self.status.note_work(took);
        self.worked += took;
        outcome
    }

    /// Rests for what was done.
    fn rest(&mut self) -> Result<(), Ended> {
        let rest = self.share.rest(std::mem::take(&mut self.worked));
        self.wait(rest)
    }

    fn wait(&self, time: Duration) -> Result<(), Ended> {
        let until = Instant::now() + time;
        loop {
            if self.stop.load(Relaxed) {
                return Err(Ended::Stopped);
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                _ => return Ok(()),
            }
        }
    }
}

struct Auditing {
    scan: Box<dyn Scan>,
    shards: Shards,
    pace: Pace,
    told: Receiver<Command>,
    status: Arc<AuditStatus>,
    keeper: Option<Arc<dyn Keeper>>,
    suspected: Suspected,
}

impl Auditing {
    fn run(mut self) {
        Vital::Audit.at_work();
        give_way();
        while let Ok(()) = self.shards.wait_until_complete(1).and_then(|()| self.pass()) {}
    }

    /// A pass, and the rest after it.
    fn pass(&mut self) -> Result<(), Ended> {
        self.obey();
        self.status.begin_pass();
        let (shards, pace, suspected) = (&mut self.shards, &mut self.pace, &mut self.suspected);
        let pass = Pass::new(&mut *self.scan, shards, pace, &self.status, self.keeper.as_deref(), suspected);
        match pass.run() {
            Ok(report) => {
                self.status.end_pass(report);
                self.pace.wait(AUDIT_PASS_PAUSE)
            }
            Err(Ended::Stopped) => Err(Ended::Stopped),
            Err(Ended::Ledger(error)) => {
                self.status.note_failure(&error.to_string());
                self.pace.wait(AUDIT_RETRY)
            }
        }
    }

    fn obey(&mut self) {
        while let Ok(command) = self.told.try_recv() {
            match command {
                #[cfg(debug_assertions)]
                Command::Damage(user, damage) => self.shards.damage(user, damage),
            }
        }
    }
}

/// Waits a little for somebody else.
fn look_again() {
    thread::park_timeout(AUDIT_WAIT);
}

impl std::fmt::Debug for Auditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auditor").field("status", &self.handle.status).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AuditHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditHandle").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
