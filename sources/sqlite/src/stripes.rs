//! Reading much of the ledger at once: several threads decode, one takes their rows in the order of commits.
//!
//! ```text
//!     reader 0:  stripe 0    stripe 3    stripe 4 …     whoever is free takes the next stripe: where it ends is looked up
//!     reader 1:     stripe 1    stripe 2    stripe 5 …  in the ledger, so a stripe has a number of rows, however far apart
//!     taken:     0, 1, 2, 3, 4, 5 …
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use florin_core::follower::Row;
use florin_record::threads::{Vital, spawn_vital};

use crate::limits::{READERS_MAX, STRIPE_ROWS, STRIPES_AHEAD};
use crate::{Followed, Place, Reader, Seq, SqliteError};

/// Rows of one stripe, and the place of the last.
pub(super) struct Stripe {
    pub rows: Vec<Row>,
    pub last: Place,
}

/// What [`Stripes::take`] has.
pub(super) enum Taken {
    Stripe(Stripe),
    /// The next is still being read.
    Awaited,
    /// All have been taken.
    End,
}

/// Readers at work.
pub(super) struct Stripes {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// A stripe was taken, or the readers are to end.
    moved: Condvar,
    /// Who takes them.
    taker: Thread,
}

#[derive(Default)]
struct State {
    /// Where the next stripe begins; none = at the start.
    after: Option<Seq>,
    next: u64,
    taken: u64,
    /// All stripes are begun.
    is_at_end: bool,
    ends: bool,
    read: BTreeMap<u64, Stripe>,
    failed: Option<SqliteError>,
}

impl Stripes {
    /// Begins to read everything after `after`; what is read wakes the thread that calls this. `None` where the system gives
    /// no thread for it.
    pub fn begin(ledger: &Path, after: Option<Seq>) -> Option<Stripes> {
        let state = State { after, ..State::default() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), moved: Condvar::new(), taker: thread::current() });
        let readers = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(READERS_MAX));
        let start = |_| {
            let (shared, ledger) = (Arc::clone(&shared), ledger.to_owned());
            spawn_vital(Vital::Loader, move || shared.run(&ledger))
        };
        let started: Vec<_> = (0..readers).map(start).collect();
        let (mut running, mut refusal) = (Vec::new(), None);
        for reader in started {
            match reader {
                Ok(reader) => running.push(reader),
                Err(error) => refusal = Some(error),
            }
        }
        if let Some(error) = refusal {
            tracing::warn!(
                "of {readers} threads to load the ledger the system gave {}: {error} (ulimit -u, TasksMax=)",
                running.len()
            );
        }
        let stripes = Stripes { shared, readers: running };
        (!stripes.readers.is_empty()).then_some(stripes)
    }

    /// The next stripe, if it is there.
    pub fn take(&mut self) -> Result<Taken, SqliteError> {
        let mut state = self.shared.lock();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let next = state.taken;
        if let Some(stripe) = state.read.remove(&next) {
            state.taken += 1;
            self.shared.moved.notify_all();
            return Ok(Taken::Stripe(stripe));
        }
        Ok(if state.is_at_end && state.taken == state.next { Taken::End } else { Taken::Awaited })
    }
}

impl Drop for Stripes {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.moved.notify_all();
        for reader in self.readers.drain(..) {
            // One that panics ends the process.
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader's life.
    fn run(&self, ledger: &Path) {
        let read = Reader::open(ledger).and_then(|reader| {
            while let Some((index, after)) = self.begin_stripe(&reader)? {
                Vital::Loader.at_work();
                let stripe = read_stripe(&reader, after)?;
                self.lock().read.insert(index, stripe);
                self.taker.unpark();
            }
            Ok(())
        });
        if let Err(error) = read {
            let mut state = self.lock();
            state.failed.get_or_insert(error);
            state.ends = true;
            self.moved.notify_all();
        }
        self.taker.unpark();
    }

    /// The next stripe's index and where it begins, once there is room for it. The lock is held while its end is looked up:
    /// that takes a tenth of the time of reading it.
    fn begin_stripe(&self, reader: &Reader) -> Result<Option<(u64, Option<Seq>)>, SqliteError> {
        let mut state = self.lock();
        while !state.ends && !state.is_at_end && state.next >= state.taken + STRIPES_AHEAD {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ends || state.is_at_end {
            return Ok(None);
        }
        let after = state.after;
        match reader.nth(after, STRIPE_ROWS)? {
            Some(end) => state.after = Some(end),
            // Fewer are left: whoever follows reads them one batch after the other.
            None => {
                state.is_at_end = true;
                return Ok(None);
            }
        }
        state.next += 1;
        Ok(Some((state.next - 1, after)))
    }
}

fn read_stripe(reader: &Reader, after: Option<Seq>) -> Result<Stripe, SqliteError> {
    let mut rows = Vec::with_capacity(STRIPE_ROWS);
    match reader.follow_from(after, STRIPE_ROWS, &mut rows)? {
        Followed::Rows(Some(last)) => Ok(Stripe { rows, last }),
        Followed::Rows(None) | Followed::Lost => Err(SqliteError::NotALedger {
            path: reader.path().to_owned(),
            found: "one that lost rows".to_owned(),
        }),
    }
}
