//! What keeps the demonstration alive: a writer that goes on with the platform's life, and readers; and, on a key, as many of them as the
//! machine can bear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use florin_client::{Address, Client, Error, UserId, WindowMask};
use florin_record::{LedgerError, Trouble};
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::generate::Platform;
use crate::limits::{
    APPLY_TRANSACTIONS_MAX, APPLY_WAIT, DEMO_BATCH_USERS, DEMO_COMMIT, DEMO_READERS, DEMO_RUSH_CALLERS,
    DEMO_RUSH_PAUSE,
};
use crate::sources::{Ledger, LedgerAddress};

/// Set once, to end writer and readers.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Everybody ends soon.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Signals set it too: a terminal that is closed (SIGHUP) would end the process with the ledger left behind.
    pub(super) fn on_signals(&self) -> std::io::Result<()> {
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&self.0))?;
        }
        Ok(())
    }

    /// Whether to end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Appends `per_second` rows a second to the ledger until told to stop.
pub(super) fn start_writer(
    ledger: LedgerAddress,
    mut platform: Platform,
    per_second: u32,
    stop: Stop,
) -> std::io::Result<JoinHandle<Result<u64, LedgerError>>> {
    let run = move || {
        let mut ledger = Ledger::open(&ledger)?.appender();
        let started = Instant::now();
        let mut written = 0;
        let mut rows = Vec::new();
        while !stop.is_set() {
            thread::sleep(DEMO_COMMIT);
            let due = (started.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
            let now_us = Timestamp::now().as_microsecond();
            // An event's rows enter together, so a commit may be ahead of its time by one row. After a pause of the disk
            // there is more to commit, but never more than the ledger takes at once.
            while written + (rows.len() as u64) < due && rows.len() + 2 <= APPLY_TRANSACTIONS_MAX {
                rows.extend(platform.next_event(now_us).rows());
            }
            let outcomes = ledger.append(&[&rows], Instant::now() + APPLY_WAIT)?;
            for outcome in outcomes {
                outcome.map_err(|refused| LedgerError::new(Trouble::Failed, refused.to_string()))?;
            }
            written += rows.len() as u64;
            rows.clear();
        }
        Ok(written)
    };
    thread::Builder::new().name("florin-demo".to_owned()).spawn(run)
}

/// What the readers have seen so far.
#[derive(Default)]
pub(super) struct Tally {
    answers: AtomicU64,
    late: AtomicU64,
    errors: AtomicU64,
}

impl Tally {
    /// Answers.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Calls that had no answer by their deadline: a host that has too much to do is no fault.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Calls that got another answer than theirs, or none.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Asks `per_second / READERS` times a second until dropped: mostly balances, some statistics, a few batches.
pub(super) async fn read(client: Client, users: u32, per_second: u32, tally: Arc<Tally>) {
    let mut ticks = interval(Duration::from_secs(1) * DEMO_READERS / per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ask(&client, users).await {
            // A small platform may have users of whom the ledger knows nothing yet.
            Ok(()) | Err(Error::NotFound(_)) => tally.answers.fetch_add(1, Ordering::Relaxed),
            Err(Error::Deadline { .. }) => tally.late.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "a reader of the demonstration got no answer");
                tally.errors.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

async fn ask(client: &Client, users: u32) -> Result<(), Error> {
    let user = || UserId::new(rand::random_range(1..=u64::from(users))).expect("32 bits fit");
    match rand::random_range(0..20) {
        0 => {
            let batch: Vec<UserId> = (0..DEMO_BATCH_USERS).map(|_| user()).collect();
            client.get_balances(&batch).await.map(|_| ())
        }
        1..5 => client.get_statistics(user(), WindowMask::ALL).await.map(|_| ()),
        _ => client.get_balance(user()).await.map(|_| ()),
    }
}

/// Callers who ask for one balance after the other, without a pause. They share their threads' clients, each of which sends what comes
/// together in one write.
pub(super) struct Rush {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Rush {
    /// Starts them on so many threads.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(
        ask: SocketAddr,
        users: u32,
        threads: usize,
        tally: &Arc<Tally>,
    ) -> std::io::Result<Rush> {
        let mut rush = Rush { stop: Stop::default(), threads: Vec::new() };
        for _ in 0..threads {
            let (stop, tally) = (rush.stop.clone(), Arc::clone(tally));
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(rush_on(ask, users, stop, tally)).map_err(std::io::Error::other)
            };
            let run = move || {
                if let Err(error) = run() {
                    tracing::warn!(%error, "some of the demonstration's callers cannot ask");
                }
            };
            match thread::Builder::new().name("florin-rush".to_owned()).spawn(run) {
                Ok(thread) => rush.threads.push(thread),
                Err(error) => {
                    rush.end();
                    return Err(error);
                }
            }
        }
        Ok(rush)
    }

    /// Ends them.
    pub(super) fn end(self) {
        self.stop.set();
        self.threads.into_iter().for_each(|thread| thread.join().expect("a caller does not panic"));
    }
}

async fn rush_on(ask: SocketAddr, users: u32, stop: Stop, tally: Arc<Tally>) -> Result<(), Error> {
    let client = Client::connect(Address::from(ask)).await?;
    let caller = |client: Client, stop: Stop, tally: Arc<Tally>| async move {
        while !stop.is_set() {
            let user = UserId::new(rand::random_range(1..=u64::from(users))).expect("32 bits fit");
            match client.get_balance(user).await {
                Ok(_) | Err(Error::NotFound(_)) => drop(tally.answers.fetch_add(1, Ordering::Relaxed)),
                // More was asked than can be borne, which is what was to be seen.
                Err(_) => tokio::time::sleep(DEMO_RUSH_PAUSE).await,
            }
        }
    };
    let callers: Vec<_> = (0..DEMO_RUSH_CALLERS)
        .map(|_| tokio::spawn(caller(client.clone(), stop.clone(), Arc::clone(&tally))))
        .collect();
    for caller in callers {
        caller.await.expect("a caller does not panic");
    }
    Ok(())
}
