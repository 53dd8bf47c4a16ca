//! One simulation: who acts when, and what time it is. Everything follows from the seed.

use florin_core::clock::Now;
use florin_core::limits::REREAD_PAUSE_MAX_US;
use florin_core::shard::{FeedEvent, Park};
use florin_schema::WindowMask;

use super::Fault;
use super::auditor::{AtRest, Auditor, Seen, Verdict};
use super::client::{Client, Mark, State, Surroundings};
use super::feed::Feed;
use super::ledger::{DAY_US, HOUR_US, Ledger};
use super::node::{Event, Node, SLOTS, USUAL_SLOTS, fnv};
use super::random::Random;
use super::request::{Ask, Flood};

/// Connections over a whole simulation, at most.
const CLIENTS_MAX: usize = 24;
/// Steps after which a simulation that should have come to rest is stuck.
const SETTLE_STEPS: usize = 60_000;
/// Time after which it is: longer than anything may wait, ten seconds of silence and an account's pauses included.
const SETTLE_US: u64 = 200_000_000;

/// What a simulation was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Of every scheduling decision and every byte that was sent.
    pub trace: u64,
    pub steps: u64,
    pub seen: Seen,
    /// A fault that must be found was injected.
    pub tampered: bool,
}

pub struct World {
    random: Random,
    fault: Fault,
    monotonic_us: u64,
    /// The wall clock's lead over the monotonic one; it can be set back.
    wall_offset_us: i64,
    /// What the wall clock stands at, where it is fixed.
    fixed_wall_us: Option<i64>,
    /// The latest wall time so far: what watermarks and commits bear, for they never go back.
    latest_wall_us: i64,
    node: Node,
    feed: Feed,
    ledger: Ledger,
    auditor: Auditor,
    clients: Vec<Client>,
    step: u64,
    trace: u64,
    tampered: bool,
    is_draining: bool,
    /// Nobody begins anything new.
    is_resting: bool,
    may_jump: bool,
    /// The wall clock is set by days and years.
    clock_leaps: bool,
    flood: Option<Flood>,
    /// A shard that does not get to run for a while.
    stalled: Option<usize>,
    /// A watermark from then or later is waited for.
    awaited_us: u64,
}

/// Runs the simulation of `seed`.
pub fn run(seed: u64, fault: Fault) -> Result<Report, String> {
    let mut world = World::new(seed, fault)?;
    world.live()?;
    world.come_to_rest()?;
    world.check_counters()?;
    world.note_sights();
    Ok(Report { trace: world.trace, steps: world.step, tampered: world.tampered, seen: world.auditor.seen })
}

impl World {
    fn new(seed: u64, fault: Fault) -> Result<World, String> {
        let mut random = Random::new(seed);
        let (node, taps) = Node::new(&mut random, fault);
        let feed = Feed::new(taps, &mut random, fault)?;
        let ledger = Ledger::new(&mut random);
        // Shortly before an hour, or a day, begins: 2026-11-22T00:00:00Z and the hours after it.
        let hour = random.pick(&[0, 0, 7, 23]);
        let wall_us = 1_795_305_600_000_000 + hour * HOUR_US - random.between(1, 200_000);
        let is_fixed = random.one_in(6);
        let auditor = Auditor::new(node.shards(), is_fixed);
        let may_jump = random.percent(40);
        let clock_leaps = !is_fixed && random.one_in(6);
        let flood = match random.below(150) {
            0 => Some(Flood::Asks),
            1 => Some(Flood::Waits),
            _ => None,
        };
        let stalls = flood.is_some() || random.one_in(10);
        let stalled = stalls.then(|| random.below(node.seats.len()));
        Ok(World {
            fault,
            monotonic_us: 1,
            wall_offset_us: wall_us,
            fixed_wall_us: is_fixed.then_some(wall_us),
            latest_wall_us: wall_us,
            node,
            feed,
            ledger,
            auditor,
            clients: Vec::new(),
            step: 0,
            trace: seed,
            tampered: false,
            is_draining: false,
            is_resting: false,
            may_jump,
            clock_leaps,
            flood,
            stalled,
            awaited_us: 0,
            random,
        })
    }

    /// Everybody acts, in any order.
    fn live(&mut self) -> Verdict {
        let actions = self.random.between(100, 900);
        let drains_at = if self.random.one_in(8) { self.random.between(0, actions) } else { i64::MAX };
        for action in 0..actions {
            self.pass_time();
            if action == drains_at {
                self.drain();
            }
            if action > actions * 2 / 3 {
                self.stalled = None;
            }
            match self.random.below(100) {
                0..40 => self.any_client_acts()?,
                40..80 => {
                    self.any_shard_runs()?;
                }
                80..91 => {
                    self.feed_acts()?;
                }
                91..95 => self.write(),
                // A wake-up for no reason.
                95 => {
                    let shard = self.random.below(self.node.seats.len());
                    self.turn(shard)?;
                }
                _ => self.new_client(),
            }
        }
        self.stalled = None;
        Ok(())
    }

    fn pass_time(&mut self) {
        self.monotonic_us += self.random.between(0, 150) as u64;
        if self.may_jump && self.random.one_in(60) {
            let most_us =
                self.random.pick(&[3_000, 40_000, 900_000, 11_000_000, 31_000_000, 70 * 60_000_000, DAY_US]);
            self.monotonic_us += self.random.between(1, most_us) as u64;
        }
        if self.random.one_in(200) {
            self.wall_offset_us += self.random.between(-2 * HOUR_US, 2 * HOUR_US);
        }
        if self.clock_leaps && self.random.one_in(150) {
            let most_us = self.random.pick(&[3 * DAY_US, 40 * DAY_US, 1_000 * DAY_US]);
            self.wall_offset_us += self.random.between(-most_us, most_us);
            self.node.clock_has_leapt();
            self.auditor.seen.note("clock leaps", 1);
        }
        self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
    }

    fn wall_us(&self) -> i64 {
        self.fixed_wall_us.unwrap_or(self.wall_offset_us + self.monotonic_us as i64)
    }

    fn write(&mut self) {
        // The clock of a ledger is another machine's: its `occurred_at` lies about that of the shards.
        self.ledger.write(&mut self.random, self.latest_wall_us, self.latest_wall_us);
        // What is read from now on is committed before whatever is captured from now on.
        self.monotonic_us += 1;
        self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
    }

    fn new_client(&mut self) {
        if self.clients.len() >= CLIENTS_MAX || self.is_draining {
            return;
        }
        let seats = self.node.seats.len();
        // A connection is owed so little that a ring fills only where all ask one shard of one that does nothing.
        let seat = match (self.flood, self.stalled) {
            (Some(Flood::Asks), Some(stalled)) => (stalled + 1) % seats,
            _ => self.random.below(seats),
        };
        if let Some(slot) = self.free_slot(seat) {
            let (id, random) = (self.clients.len(), &mut self.random);
            let client = match self.flood {
                Some(flood) => Client::flooding(id, seat, slot, flood, random),
                None => Client::new(id, seat, slot, random),
            };
            self.clients.push(client);
        }
    }

    fn free_slot(&mut self, seat: usize) -> Option<usize> {
        let is_free = |slot: &usize| {
            let holds =
                |client: &Client| client.seat == seat && client.slot == *slot && client.state != State::Gone;
            let there = &self.node.seats[seat];
            let is_under_way = there.completions.iter().any(|completion| completion.slot == *slot);
            !self.clients.iter().any(holds) && there.lines[*slot].is_none() && !is_under_way
        };
        let slots = if self.flood.is_some() { SLOTS } else { USUAL_SLOTS };
        let free: Vec<usize> = (0..slots).filter(is_free).collect();
        (!free.is_empty()).then(|| self.random.pick(&free))
    }

    fn any_client_acts(&mut self) -> Verdict {
        let begin = self.random.below(self.clients.len().max(1));
        for index in 0..self.clients.len() {
            if self.client_acts((begin + index) % self.clients.len())? {
                break;
            }
        }
        Ok(())
    }

    fn client_acts(&mut self, index: usize) -> Result<bool, String> {
        let (client, mut around) = self.client(index);
        client.act(&mut around)
    }

    fn client(&mut self, index: usize) -> (&mut Client, Surroundings<'_>) {
        let around = Surroundings {
            node: &mut self.node,
            ledger: &self.ledger,
            auditor: &mut self.auditor,
            random: &mut self.random,
            fault: self.fault,
            tampered: &mut self.tampered,
        };
        (&mut self.clients[index], around)
    }

    fn any_shard_runs(&mut self) -> Result<bool, String> {
        let stalled = self.stalled;
        let runnable = self.node.runnable(self.monotonic_us);
        let runnable: Vec<usize> = runnable.filter(|&shard| Some(shard) != stalled).collect();
        if runnable.is_empty() {
            return Ok(false);
        }
        let shard = self.random.pick(&runnable);
        self.turn(shard)?;
        Ok(true)
    }

    fn turn(&mut self, shard: usize) -> Verdict {
        self.step += 1;
        let mark = Mark { step: self.step, monotonic_us: self.monotonic_us };
        let now = Now { wall_us: self.wall_us(), monotonic_us: self.monotonic_us };
        let moment = (self.step, now);
        let events = self.node.turn(
            shard,
            moment,
            &mut self.feed.follower.outlets()[shard],
            &self.ledger,
            &mut self.random,
        );
        if let Some((user, view)) = self.node.seats[shard].mirror.half {
            return Err(format!("{user} is shown at {}, in the middle of a commit", view.version));
        }
        if self.node.seats[shard].metrics.links_full.get() > 0 {
            self.auditor.seen.note("the mesh full", 1);
        }
        self.trace = fnv(self.trace, &[shard as u8, mark.step as u8, mark.monotonic_us as u8]);
        for event in events {
            match event {
                Event::Delivered { client, bytes } => self.clients[client].note_delivered(bytes, mark),
                Event::Taken { client, bytes, hash } => {
                    self.clients[client].note_taken(bytes, mark.step);
                    self.trace = fnv(self.trace ^ client as u64, &hash.to_le_bytes());
                }
                // Who has gone knows nothing of it.
                Event::Cut { client } | Event::Closed { client }
                    if self.clients[client].state == State::Gone => {}
                Event::Cut { client } => {
                    let since_us = self.node.seats[shard].draining_since_us;
                    self.clients[client].note_cut(mark, since_us, &mut self.auditor.seen)?;
                }
                Event::Closed { client } => {
                    let since_us = self.node.seats[shard].draining_since_us;
                    self.clients[client].note_closed(mark, since_us, &mut self.auditor.seen)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the feed had something to do.
    fn feed_acts(&mut self) -> Result<bool, String> {
        self.feed.hand_over(&mut self.ledger);
        if !self.is_resting && self.random.one_in(80) {
            self.feed.source().is_replaced ^= true;
        }
        let now = Now { wall_us: self.wall_us(), monotonic_us: self.monotonic_us };
        let delivers_all = self.is_resting || self.random.one_in(3);
        let mut acted = self.feed.deliver(delivers_all, &mut self.random);
        if self.feed.is_due(self.monotonic_us) {
            acted = true;
            self.feed.step(
                now,
                &self.node,
                &self.ledger,
                self.fixed_wall_us.is_none(),
                &mut self.auditor.seen,
            )?;
            let woken = self.feed.woken();
            self.node.wake(&woken, &mut self.random);
        }
        Ok(acted)
    }

    fn drain(&mut self) {
        self.is_draining = true;
        // Who is not known by the end of a drain is not answered; here everybody is to be.
        for client in &mut self.clients {
            client.identify(&mut self.node);
        }
        self.node.drain();
    }

    /// Nobody begins anything new: everything owed must be answered, every gap closed, every connection end.
    fn come_to_rest(&mut self) -> Verdict {
        self.is_resting = true;
        self.feed.calm_down();
        self.ledger.commit_withheld(self.latest_wall_us);
        self.feed.hand_over(&mut self.ledger);
        self.ledger.show_overlooked(&mut self.random, self.latest_wall_us);
        self.monotonic_us += 1;
        self.latest_wall_us += 1;
        self.clients.iter_mut().for_each(Client::finish);
        self.settle("its clients are served", |world| world.clients.iter().all(Client::is_served))?;
        if !self.is_draining {
            self.end_connections();
            self.settle("its connections have ended", World::has_no_connection)?;
            // Accounts that were read again in vain may be tried once more by then.
            self.monotonic_us += REREAD_PAUSE_MAX_US;
            self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
            self.settle("its accounts are whole", World::feed_is_done)?;
            self.awaited_us = self.monotonic_us;
            self.settle("its watermark is fresh", |world| world.feed.published_us() >= world.awaited_us)?;
            if self.node.may_forget() {
                // Whoever asks first makes windows be read again; a moment later they must be there.
                self.ask_everything(AtRest::MayForget)?;
                self.settle("windows are asked for", World::has_no_connection)?;
                self.monotonic_us += REREAD_PAUSE_MAX_US;
                self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
                self.awaited_us = self.monotonic_us;
                self.settle("its windows are whole", |world| {
                    let is_fresh = world.feed.published_us() >= world.awaited_us;
                    is_fresh && world.feed_is_done() && world.shards_are_idle()
                })?;
            }
            self.ask_everything(AtRest::Whole)?;
            self.settle("its last clients are served", World::has_no_connection)?;
            if self.random.one_in(4) {
                self.drain();
            }
        }
        self.settle("its shards are idle", |world| {
            world.has_no_connection() && world.feed_is_done() && world.shards_are_idle()
        })
    }

    fn feed_is_done(&mut self) -> bool {
        self.feed.is_done(&self.ledger)
    }

    fn has_no_connection(&mut self) -> bool {
        self.clients.iter().all(|client| client.state == State::Gone)
            && self.node.seats.iter().all(|seat| seat.lines.iter().all(Option::is_none))
    }

    fn shards_are_idle(&self) -> bool {
        let is_idle = |seat: &super::node::Seat| {
            // While it drains it looks about from time to time.
            let is_drained = seat.shard.drained() && matches!(seat.park, Park::Until(_)) && !seat.is_woken;
            seat.is_asleep() || is_drained && seat.metrics.waiting.get() == 0
        };
        self.node.seats.iter().all(is_idle)
    }

    fn end_connections(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].state != State::Open {
                continue;
            }
            if self.random.percent(50) {
                self.clients[index].leave(&mut self.node);
            } else {
                self.clients[index].end_input(&mut self.node);
            }
        }
    }

    /// Asks each shard about every user of the ledger.
    fn ask_everything(&mut self, at_rest: AtRest) -> Verdict {
        for seat in 0..self.node.seats.len() {
            let is_http = self.random.one_in(3);
            let (id, slot) = (self.clients.len(), self.random.below(SLOTS));
            self.clients.push(Client::last(id, seat, slot, is_http, &mut self.random));
            let users = self.ledger.histories.iter();
            let shards = self.node.shards();
            let seats = &self.node.seats;
            let held = |user: florin_schema::UserId| {
                seats[usize::from(user.shard(shards).0)].mirror.latest(user).version
            };
            let whole = |(&user, history): (&_, &super::ledger::History)| {
                (user, history.whole().unwrap_or(held(user)))
            };
            let users: Vec<_> = users.map(whole).collect();
            for (user, version) in users {
                let (client, mut around) = self.client(id);
                client.ask_at_rest(Ask::Balance(user), version, at_rest, &mut around);
                let statistics = Ask::Statistics(user, WindowMask::ALL);
                client.ask_at_rest(statistics, version, at_rest, &mut around);
            }
        }
        Ok(())
    }

    /// Lets everybody act who can, and time pass where nobody can, until `is_done`. No shard is woken for nothing here.
    fn settle(&mut self, what: &str, is_done: impl Fn(&mut World) -> bool) -> Verdict {
        let begin_us = self.monotonic_us;
        for _ in 0..SETTLE_STEPS {
            if is_done(self) {
                return Ok(());
            }
            if self.monotonic_us > begin_us + SETTLE_US {
                break;
            }
            if !self.somebody_acts()? {
                self.wait();
            }
        }
        let clients = self.clients.iter().filter(|client| !client.is_served());
        let clients: String = clients.map(|client| format!("\n  {}", client.describe())).collect();
        let seats =
            self.node.seats.iter().map(|seat| format!("\n  {:?}, woken {}", seat.park, seat.is_woken));
        let waited_us = self.monotonic_us - begin_us;
        Err(format!("stuck for {waited_us} µs until {what}:{clients}{}", seats.collect::<String>()))
    }

    fn somebody_acts(&mut self) -> Result<bool, String> {
        let mut acted = false;
        for index in 0..self.clients.len() {
            acted |= self.client_acts(index)?;
        }
        for _ in 0..2 * self.node.seats.len() {
            self.monotonic_us += 1;
            self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
            acted |= self.any_shard_runs()?;
        }
        acted |= self.feed_acts()?;
        Ok(acted)
    }

    /// Lets time pass until something is due.
    fn wait(&mut self) {
        let waits_for_silence = |client: &Client| client.is_served() || client.is_silent();
        let is_done = self.feed_is_done() && self.feed.published_us() >= self.awaited_us;
        let feed_matters = !is_done || !self.clients.iter().all(waits_for_silence);
        let feed_us = self.feed.next_us().filter(|_| feed_matters);
        let next_us = [self.node.next_us(), feed_us].into_iter().flatten().min();
        let next_us = next_us.or(self.feed.next_us()).unwrap_or(self.monotonic_us + 1_000_000);
        self.monotonic_us = self.monotonic_us.max(next_us);
        self.latest_wall_us = self.latest_wall_us.max(self.wall_us());
        // Whoever sent what may mean anything may have nothing to wait for.
        for client in &mut self.clients {
            if client.is_unpredictable() && client.state == State::Open && self.random.one_in(50) {
                client.leave(&mut self.node);
            }
        }
    }

    fn check_counters(&self) -> Verdict {
        for (shard, seat) in self.node.seats.iter().enumerate() {
            let (metrics, mirror) = (&seat.metrics, &seat.mirror);
            let counts = mirror.counts;
            let pairs = [
                ("connections", metrics.connections.get(), 0),
                ("waiting", metrics.waiting.get(), 0),
                ("mesh_depth", metrics.mesh_depth.get(), 0),
                ("applied", metrics.applied.get(), counts.applied),
                ("duplicates", metrics.duplicates.get(), counts.duplicates),
                ("gaps", metrics.gaps.get(), counts.gaps),
                ("accounts", metrics.accounts.get(), mirror.accounts() as u64),
                ("quarantined", metrics.quarantined.get(), mirror.quarantined() as u64),
                ("turns", metrics.turns.get(), mirror.turns.len() as u64),
                ("bytes_in", metrics.bytes_in.get(), seat.bytes_in),
                ("bytes_out", metrics.bytes_out.get(), seat.bytes_out),
            ];
            for (name, counted, expected) in pairs {
                if counted != expected {
                    return Err(format!("shard {shard} counts {name} {counted}, and it is {expected}"));
                }
            }
            for (bucket, expected) in mirror.applied(&self.ledger).into_iter().enumerate() {
                let held = seat.shard.applied(bucket);
                if held != expected {
                    return Err(format!(
                        "shard {shard}: bucket {bucket} holds {held:?} and not {expected:?}"
                    ));
                }
            }
            if self.is_draining && !seat.shard.drained() {
                return Err(format!("shard {shard} has not drained"));
            }
        }
        Ok(())
    }

    fn note_sights(&mut self) {
        let seen = &mut self.auditor.seen;
        let histories = self.ledger.histories.values();
        seen.note("defects", histories.filter(|history| history.defect.is_some()).count() as u64);
        seen.note("rows", self.ledger.rows.len() as u64);
        seen.note("re-reads", self.feed.follower.counts().rereads);
        seen.note("overlooked rows", self.ledger.overlooked);
        seen.note("clock steps", self.feed.follower.counts().clock_steps);
        for tap in self.feed.follower.outlets() {
            let count = |is: fn(&FeedEvent) -> bool| tap.log.iter().filter(|event| is(event)).count() as u64;
            seen.note("parts of commits", count(|event| matches!(event, FeedEvent::Part(_))));
            seen.note("commits in pieces", count(|event| *event == FeedEvent::CommitEnd));
        }
        for seat in &self.node.seats {
            seen.note("gaps", seat.metrics.gaps.get());
            seen.note("duplicates", seat.metrics.duplicates.get());
        }
    }
}
