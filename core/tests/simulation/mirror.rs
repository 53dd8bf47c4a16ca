//! What each shard must hold after each event of its feed, by schemas/domain.md's rules alone; and when its turns were.

use std::collections::{BTreeMap, BTreeSet};

use florin_core::audit::{BUCKETS, Fingerprint, bucket_of};
use florin_core::shard::FeedEvent;
use florin_schema::UserId;

use super::ledger::Ledger;

/// One account of a shard, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct View {
    pub version: u64,
    pub quarantined: bool,
    /// The watermark when it was last whole, where it is not: as_of, and when it was taken.
    pub whole_at: (i64, u64),
}

#[derive(Clone, Copy, Default)]
struct State {
    view: View,
    /// It follows no further.
    defective: bool,
}

/// What the shard's counters must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub applied: u64,
    pub duplicates: u64,
    pub gaps: u64,
}

/// One turn of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Of the whole simulation.
    pub step: u64,
    pub monotonic_us: u64,
    pub wall_us: i64,
    /// The clock was set so far that windows may have to be read again.
    pub forgets: bool,
    pub as_of_us: i64,
    pub taken_us: u64,
    /// Events of the feed taken before the turn, and with it.
    pub events: [usize; 2],
    /// It has been draining for so long that it refuses to answer with data.
    pub refuses: bool,
}

/// A moment of a turn: before or after it took in what the feed had sent.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub turn: Turn,
    pub is_after: bool,
}

impl Moment {
    pub fn events(&self) -> usize {
        self.turn.events[usize::from(self.is_after)]
    }

    pub fn age_us(&self) -> u64 {
        self.turn.monotonic_us - self.turn.taken_us.min(self.turn.monotonic_us)
    }
}

/// One shard's past.
#[derive(Default)]
pub struct Mirror {
    states: BTreeMap<UserId, State>,
    /// What accounts will be at the end of a commit of which some rows have come.
    unfinished: BTreeMap<UserId, State>,
    /// For each account: how many events had been taken when it became what.
    changes: BTreeMap<UserId, Vec<(usize, View)>>,
    reread: Option<(UserId, State)>,
    /// Accounts that were read again.
    reread_once: BTreeSet<UserId>,
    taken: usize,
    /// An account that is shown in the middle of a commit.
    pub half: Option<(UserId, View)>,
    /// As the shard has it in this turn.
    watermark: (i64, u64),
    pub turns: Vec<Turn>,
    pub counts: Counts,
}

impl Mirror {
    /// In a turn with this watermark the shard has taken the events up to `taken` of `log`.
    pub fn advance(&mut self, log: &[FeedEvent], taken: usize, watermark: (i64, u64), ledger: &Ledger) {
        self.watermark = watermark;
        let before = self.taken;
        while self.taken < taken {
            let event = log[self.taken];
            self.taken += 1;
            self.take(event, ledger);
        }
        if watermark.1 > 0 {
            let changed =
                self.changes.iter().filter(|(_, changes)| changes.last().is_some_and(|&(at, _)| at > before));
            let mut shown = changed.map(|(&user, changes)| (user, changes[changes.len() - 1].1));
            self.half = shown.find(|(user, view)| {
                !view.quarantined && ledger.histories[user].ends_within_commit(view.version)
            });
        }
    }

    fn take(&mut self, event: FeedEvent, ledger: &Ledger) {
        match event {
            FeedEvent::Row(row) => {
                let defect = ledger.histories[&row.user_id].defect;
                if let Some(state) = self.unfinished.remove(&row.user_id) {
                    self.states.insert(row.user_id, state);
                }
                let state = self.states.entry(row.user_id).or_default();
                apply(state, row.version.0, defect, &mut self.counts);
                self.note(row.user_id);
            }
            FeedEvent::Part(row) => {
                let defect = ledger.histories[&row.user_id].defect;
                let shown = self.states.get(&row.user_id).copied();
                let begun = self.unfinished.get(&row.user_id).copied();
                let is_skipped =
                    shown.is_some_and(|shown| shown.defective || row.version.0 <= shown.view.version);
                let mut state = begun.or(shown).unwrap_or_default();
                apply(&mut state, row.version.0, defect, &mut self.counts);
                if begun.is_some() || !is_skipped {
                    self.unfinished.insert(row.user_id, state);
                }
            }
            FeedEvent::CommitEnd => {
                for (user, state) in std::mem::take(&mut self.unfinished) {
                    self.states.insert(user, state);
                    self.note(user);
                }
            }
            FeedEvent::RereadRow(row) => {
                let defect = ledger.histories[&row.user_id].defect;
                let (user, state) = self.reread.as_mut().expect("a history's rows come after it began");
                assert_eq!(*user, row.user_id);
                apply(state, row.version.0, defect, &mut self.counts);
            }
            FeedEvent::RereadBegin(user) => self.reread = Some((user, State::default())),
            FeedEvent::RereadEnd(user) => {
                let (_, again) = self.reread.take().expect("a re-read ends after it began");
                self.reread_once.insert(user);
                let is_unfinished = self.unfinished.contains_key(&user);
                let state = match self.unfinished.get_mut(&user) {
                    Some(state) => state,
                    None => self.states.entry(user).or_default(),
                };
                if again.view.version < state.view.version {
                    state.view.quarantined = true;
                } else {
                    let whole_at = state.view.whole_at;
                    // Of an account without a row nothing is known.
                    let quarantined = again.view.quarantined || again.view.version == 0;
                    *state = State { view: View { whole_at, quarantined, ..again.view }, ..again };
                }
                if !is_unfinished {
                    self.note(user);
                }
            }
            FeedEvent::BatchEnd(_) => {}
            FeedEvent::Unreadable(user) => {
                if let Some(state) = self.unfinished.remove(&user) {
                    self.states.insert(user, state);
                }
                let again = self.reread.as_mut().filter(|(rereading, _)| *rereading == user);
                for state in
                    again.map(|(_, state)| state).into_iter().chain([self.states.entry(user).or_default()])
                {
                    state.view.quarantined = true;
                    state.defective = true;
                }
                self.note(user);
            }
        }
    }

    /// The account has become what it is now.
    fn note(&mut self, user: UserId) {
        let changes = self.changes.entry(user).or_default();
        let was_quarantined = changes.last().is_some_and(|(_, view)| view.quarantined);
        let view = &mut self.states.get_mut(&user).expect("an account of the shard").view;
        if !view.quarantined {
            view.whole_at = (0, 0);
        } else if !was_quarantined {
            view.whole_at = self.watermark;
        }
        let view = *view;
        if changes.last().is_none_or(|&(_, last)| last != view) {
            changes.push((self.taken, view));
        }
    }

    /// What the shard holds of `user` once it has taken `events` events; `None` where it has never heard of it.
    pub fn view(&self, user: UserId, events: usize) -> Option<View> {
        let changes = self.changes.get(&user)?;
        let after = changes.partition_point(|&(at, _)| at <= events);
        Some(changes[after.checked_sub(1)?].1)
    }

    /// What the shard holds of `user` now.
    pub fn latest(&self, user: UserId) -> View {
        self.states.get(&user).map_or(View::default(), |state| state.view)
    }

    /// An account that is incomplete, could be read again, and never was.
    pub fn unrepaired(&self) -> Option<UserId> {
        let is_unrepaired = |(user, state): &(&UserId, &State)| {
            state.view.quarantined && !state.defective && !self.reread_once.contains(user)
        };
        self.states.iter().find(is_unrepaired).map(|(user, _)| *user)
    }

    /// The moments of the turns from step `first` to step `last`, in order.
    pub fn moments(&self, first: u64, last: u64) -> impl Iterator<Item = Moment> + Clone {
        let from = self.turns.partition_point(|turn| turn.step < first);
        let turns = self.turns[from..].iter().take_while(move |turn| turn.step <= last);
        turns.flat_map(|&turn| [false, true].map(|is_after| Moment { turn, is_after }))
    }

    /// By bucket, the rows of all accounts, whenever and however often they came.
    pub fn applied(&self, ledger: &Ledger) -> Vec<Fingerprint> {
        let mut buckets = vec![Fingerprint::default(); BUCKETS];
        for (user, state) in &self.states {
            let bucket = &mut buckets[bucket_of(user.hashed())];
            if let Some(history) = ledger.histories.get(user) {
                let rows = history.prefix(state.view.version).iter().map(Fingerprint::of);
                *bucket = rows.fold(*bucket, Fingerprint::plus);
            }
        }
        buckets
    }

    pub fn accounts(&self) -> usize {
        self.states.len()
    }

    pub fn quarantined(&self) -> usize {
        self.states.values().filter(|state| state.view.quarantined).count()
    }
}

/// schemas/domain.md, "Applying".
fn apply(state: &mut State, version: u64, defect: Option<u64>, counts: &mut Counts) {
    if state.defective {
    } else if version <= state.view.version {
        counts.duplicates += 1;
    } else if version > state.view.version + 1 {
        state.view.quarantined = true;
        counts.gaps += 1;
    } else if defect == Some(version) {
        state.view.quarantined = true;
        state.defective = true;
    } else {
        state.view.version = version;
        counts.applied += 1;
    }
}
