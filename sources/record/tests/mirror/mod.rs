//! The follower over a source of any kind, with plain maps for shards: what it delivers is judged row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use florin_core::clock::Now;
use florin_core::follower::{Doing, Follower, Note, Outlet, Source, Wait};
use florin_core::ledger::Transaction;
use florin_core::shard::{FeedEvent, FeedRequest, Reason};

/// What the shards hold.
#[derive(Default)]
pub struct View {
    pub accounts: BTreeMap<u64, Vec<Transaction>>,
    /// As they will be at the end of a commit of which some rows have come.
    unfinished: BTreeMap<u64, Vec<Transaction>>,
    pub quarantined: BTreeSet<u64>,
    reread: Option<(u64, Vec<Transaction>, bool)>,
    /// (as_of, monotonic)
    pub watermark: (i64, u64),
    pub notes: Vec<String>,
    pub doing: String,
    pub went_back: bool,
    pub duplicates: u64,
    pub gaps: u64,
}

struct MapOutlet {
    view: Arc<Mutex<View>>,
    requests: Vec<FeedRequest>,
    applied: u64,
}

impl MapOutlet {
    fn apply(&mut self, row: Transaction, is_part: bool) {
        let mut view = self.view.lock().unwrap();
        let user = row.user_id.get();
        let View { accounts, unfinished, .. } = &mut *view;
        let rows = if is_part {
            let shown = || accounts.get(&user).cloned().unwrap_or_default();
            unfinished.entry(user).or_insert_with(shown)
        } else {
            if let Some(rows) = unfinished.remove(&user) {
                accounts.insert(user, rows);
            }
            accounts.entry(user).or_default()
        };
        let last = rows.len() as u64;
        if row.version.0 == last + 1 {
            rows.push(row);
            if view.quarantined.contains(&user) {
                self.requests.push(FeedRequest::Reread { user_id: row.user_id, reason: Reason::HoleFilled });
            }
        } else if row.version.0 <= last {
            view.duplicates += 1;
        } else {
            view.gaps += 1;
            if view.quarantined.insert(user) {
                self.requests.push(FeedRequest::Reread { user_id: row.user_id, reason: Reason::Gap });
            }
        }
    }
}

impl Outlet for MapOutlet {
    fn send(&mut self, event: FeedEvent) -> Result<(), FeedEvent> {
        match event {
            FeedEvent::Row(row) | FeedEvent::Part(row) => {
                self.apply(row, matches!(event, FeedEvent::Part(_)));
                let mut view = self.view.lock().unwrap();
                if let Some((user, rows, _)) = &mut view.reread
                    && *user == row.user_id.get()
                    && row.version.0 == rows.len() as u64 + 1
                {
                    rows.push(row);
                }
            }
            FeedEvent::CommitEnd => {
                let mut view = self.view.lock().unwrap();
                let finished = std::mem::take(&mut view.unfinished);
                view.accounts.extend(finished);
            }
            FeedEvent::BatchEnd(batch) => self.applied = batch,
            FeedEvent::Unreadable(user) => {
                let mut view = self.view.lock().unwrap();
                view.quarantined.insert(user.get());
                if let Some((reread, _, whole)) = &mut view.reread
                    && *reread == user.get()
                {
                    *whole = false;
                }
            }
            FeedEvent::RereadBegin(user) => {
                self.view.lock().unwrap().reread = Some((user.get(), Vec::new(), true));
            }
            FeedEvent::RereadRow(row) => {
                if let Some((_, rows, whole)) = &mut self.view.lock().unwrap().reread {
                    if row.version.0 == rows.len() as u64 + 1 {
                        rows.push(row);
                    } else if row.version.0 > rows.len() as u64 {
                        *whole = false;
                    }
                }
            }
            FeedEvent::RereadEnd(_) => {
                let mut view = self.view.lock().unwrap();
                let (user, rows, whole) = view.reread.take().unwrap();
                let View { accounts, unfinished, .. } = &mut *view;
                let latest = if unfinished.contains_key(&user) { unfinished } else { accounts };
                let before = latest.get(&user).map_or(0, Vec::len);
                if rows.len() >= before && !rows.is_empty() {
                    latest.insert(user, rows);
                    if whole {
                        view.quarantined.remove(&user);
                    }
                } else {
                    view.quarantined.insert(user);
                }
            }
        }
        Ok(())
    }

    fn applied_batch(&self) -> u64 {
        self.applied
    }

    fn publish(&mut self, as_of_us: i64, taken_us: u64) {
        let mut view = self.view.lock().unwrap();
        view.went_back |= as_of_us < view.watermark.0 || taken_us < view.watermark.1;
        view.watermark = (as_of_us, taken_us);
    }

    fn next_request(&mut self) -> Option<FeedRequest> {
        self.requests.pop()
    }

    fn wake(&mut self) {}
}

/// A follower on a thread, and what its source tells of the server.
pub struct Mirror<T> {
    pub view: Arc<Mutex<View>>,
    pub status: T,
    started: Instant,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Mirror<T> {
    pub fn over<S: Source<Identity: Send, Position: Send> + Send + 'static>(
        source: S,
        status: T,
    ) -> Mirror<T> {
        let (view, stop, started) =
            (Arc::new(Mutex::new(View::default())), Arc::<AtomicBool>::default(), Instant::now());
        let outlet = MapOutlet { view: Arc::clone(&view), requests: Vec::new(), applied: 0 };
        let mut follower = Follower::new(source, vec![outlet]).unwrap();
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&view));
        let thread = thread::spawn(move || {
            while !stopped.load(Relaxed) {
                let now = Now {
                    wall_us: i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros())
                        .unwrap(),
                    monotonic_us: started.elapsed().as_micros() as u64 + 1,
                };
                let wait = follower.step(now);
                let mut said = Vec::new();
                while let Some(note) = follower.next_note() {
                    if std::env::var_os("FLORIN_SAY").is_some() {
                        eprintln!("{note:?}");
                    }
                    said.push(match note {
                        Note::Failing(reason) => reason,
                        other => format!("{other:?}"),
                    });
                }
                let doing = match follower.doing() {
                    Doing::Failing(reason) => format!("failing: {reason}"),
                    other => format!("{other:?}"),
                };
                {
                    let mut view = told.lock().unwrap();
                    view.notes.extend(said);
                    view.doing = doing;
                }
                match wait {
                    Wait::No => {}
                    Wait::Shard => thread::yield_now(),
                    Wait::Until(us) => {
                        let now_us = started.elapsed().as_micros() as u64 + 1;
                        thread::park_timeout(Duration::from_micros(us.saturating_sub(now_us)));
                    }
                }
            }
        });
        Mirror { view, status, started, stop, thread: Some(thread) }
    }

    /// Waits until everything that is committed now is in.
    pub fn catch_up(&self) {
        let now_us = self.started.elapsed().as_micros() as u64 + 1;
        eventually("the watermark reaches what is committed", || {
            self.view.lock().unwrap().watermark.1 >= now_us
        });
    }

    /// The moment that its monotonic clock calls so.
    #[allow(dead_code)] // Not everybody asks.
    pub fn at(&self, monotonic_us: u64) -> Instant {
        self.started + Duration::from_micros(monotonic_us.saturating_sub(1))
    }

    pub fn doing(&self) -> String {
        self.view.lock().unwrap().doing.clone()
    }

    pub fn said(&self, what: &str) -> bool {
        let view = self.view.lock().unwrap();
        view.notes.iter().any(|note| note.contains(what)) || view.doing.contains(what)
    }

    /// (rows, sum of versions and amounts) by user, of those that are not quarantined.
    pub fn rows(&self) -> usize {
        self.view.lock().unwrap().accounts.values().map(Vec::len).sum()
    }

    pub fn versions_of(&self, user: u64) -> u64 {
        self.view.lock().unwrap().accounts.get(&user).map_or(0, |rows| rows.len() as u64)
    }

    /// One line a row, as the ledger's SQL gives them.
    pub fn told(&self) -> String {
        let view = self.view.lock().unwrap();
        let rows = view.accounts.values().flatten();
        let lines = rows.map(|row| {
            let (user, version) = (row.user_id.get(), row.version.0);
            format!("{user}|{version}|{}|{}|{}", row.asset, row.kind.number(), row.amount)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl<T> Drop for Mirror<T> {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        thread::park_timeout(Duration::from_millis(2));
    }
}
