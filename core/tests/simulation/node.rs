//! A node without a kernel: its shards, and for each the driver's part of a turn (completions in, sends and closes
//! out), as the plan of `florin_core::shard` has it. A shard that has parked is run only for a completion, when it is woken or
//! when its time has come: a wake-up that the shards forget is a request that stays unanswered.

use std::collections::VecDeque;
use std::sync::Arc;

use florin_core::clock::Now;
use florin_core::ledger::Hour;
use florin_core::limits::{CLOCK_BACK_HOURS, LINGER_US};
use florin_core::mesh::Parking;
use florin_core::shard::life::{Arrival, Received};
use florin_core::shard::{self, Listener, Park, Principal, Shard, ShardMetrics, ShardSetup};
use florin_schema::ShardIndex;

use super::Fault;
use super::ledger::Ledger;
use super::line::{Driver, Line};
use super::mirror::{Mirror, Turn};
use super::random::Random;
use super::tap::Tap;

pub const SERVER: &str = "florin/simulated";
/// Connections of one shard: few, so that an index is soon used again.
pub const SLOTS: usize = 24;
/// Of which so many are used where nobody floods the node, so that they are used again and again.
pub const USUAL_SLOTS: usize = 6;
/// As the shard has it: how long a draining shard goes on answering with data.
const DRAIN_ANSWER_US: u64 = 1_000_000;

/// What the kernel would report of the connection in `slot`, opened by `client`.
pub struct Completion {
    pub slot: usize,
    pub client: usize,
    pub what: What,
}

pub enum What {
    /// By whom, where that is known already.
    Opened(Listener, Option<Principal>),
    /// It has been found out who opened it.
    Identified(Principal),
    /// A piece; the receive that brought it goes on, or has ended with it.
    Received(Vec<u8>, bool),
    /// A receive has ended without one.
    ReceiveEnded(Received),
    Sent(usize),
    /// A send has failed, where one was out.
    SendFailed,
    Shut,
    Closed,
    /// The client has sent all it will.
    InputEnded,
    /// Who waited for the client's end is told, or told to wait no longer.
    PeerEnded,
    /// The client is gone, and its socket has failed.
    Gone,
}

/// What a turn did that clients must know.
pub enum Event {
    /// `bytes` of the client's input have reached the shard.
    Delivered { client: usize, bytes: usize },
    /// A buffer with answers was taken for the client: its bytes, and their hash.
    Taken { client: usize, bytes: usize, hash: u64 },
    /// The shard has closed the client's connection.
    Closed { client: usize },
    /// The shard has cut the client off.
    Cut { client: usize },
}

/// One shard and its driver.
pub struct Seat {
    pub shard: Shard,
    pub is_woken: bool,
    pub park: Park,
    pub completions: VecDeque<Completion>,
    pub lines: [Option<Line>; SLOTS],
    /// Connections that the driver, not the shard, has a reason to look at.
    touched: Vec<usize>,
    /// Who lingers, and until when.
    lingering: VecDeque<(u64, usize, usize)>,
    pub mirror: Mirror,
    pub metrics: Arc<ShardMetrics>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    latest_wall_us: i64,
    /// The clock was set by more than windows are held for, so any account may have to be read again.
    clock_has_leapt: bool,
    pub draining_since_us: Option<u64>,
}

pub struct Node {
    pub seats: Vec<Seat>,
    pub ports: Vec<u16>,
    pub max_staleness_us: u64,
    fault: Fault,
}

impl Node {
    pub fn new(random: &mut Random, fault: Fault) -> (Node, Vec<Tap>) {
        let shards = random.pick(&[1, 2, 2, 3, 4]);
        let max_staleness_us = random.pick(&[50_000, 30_000_000]);
        let ports: Vec<u16> = if random.percent(80) { (7401..7401 + shards).collect() } else { Vec::new() };
        let parkings: Vec<Arc<Parking>> = (0..shards).map(|_| Arc::new(Parking::new())).collect();
        let (mut seats, mut taps) = (Vec::new(), Vec::new());
        for (index, peers) in shard::mesh(&parkings).into_iter().enumerate() {
            let parking = Arc::clone(&parkings[index]);
            let (tap, feed) = Tap::new(random, Arc::clone(&parking));
            taps.push(tap);
            let metrics = Arc::new(ShardMetrics::default());
            let mut shard = Shard::new(ShardSetup {
                index: ShardIndex(index as u16),
                shards,
                peers,
                metrics: Arc::clone(&metrics),
                max_staleness_us,
                server: SERVER.to_owned(),
                ports: ports.clone(),
                ..ShardSetup::alone(parking, feed)
            });
            if let Fault::PlantedInShards(planted) = fault {
                shard.plant(planted);
            }
            seats.push(Seat::new(shard, metrics));
        }
        (Node { seats, ports, max_staleness_us, fault }, taps)
    }

    pub fn shards(&self) -> u16 {
        self.seats.len() as u16
    }

    /// Shards that may run at `now_us`.
    pub fn runnable(&self, now_us: u64) -> impl Iterator<Item = usize> {
        let may_run = move |(index, seat): (usize, &Seat)| seat.may_run(now_us).then_some(index);
        self.seats.iter().enumerate().filter_map(may_run)
    }

    /// When the first parked shard's time comes.
    pub fn next_us(&self) -> Option<u64> {
        let parked = |seat: &Seat| if let Park::Until(us) = seat.park { Some(us) } else { None };
        let lingering = |seat: &Seat| seat.lingering.front().map(|&(until_us, ..)| until_us);
        self.seats.iter().flat_map(|seat| [parked(seat), lingering(seat)]).flatten().min()
    }

    /// One turn of shard `index`.
    pub fn turn(
        &mut self,
        index: usize,
        moment: (u64, Now),
        tap: &mut Tap,
        ledger: &Ledger,
        random: &mut Random,
    ) -> Vec<Event> {
        let (step, now) = moment;
        let mut events = Vec::new();
        let seat = &mut self.seats[index];
        seat.is_woken = false;
        seat.latest_wall_us = seat.latest_wall_us.max(now.wall_us);
        let set_back = Hour::of(seat.latest_wall_us).0 - Hour::of(now.wall_us).0;
        let (as_of_us, taken_us) = tap.watermark.load();
        let before = tap.taken();

        seat.shard.begin_turn(now);
        seat.reap(random, &mut events);
        seat.shard.work();
        seat.keep_time(now.monotonic_us);
        seat.serve(now.monotonic_us, random, &mut events);
        let mut woken = Vec::new();
        while let Some(shard) = seat.shard.next_to_wake() {
            woken.push(usize::from(shard.0));
        }
        seat.shard.end_turn(now.monotonic_us + 3);
        seat.park = seat.shard.park();

        let after = tap.taken();
        seat.mirror.advance(&tap.log, after, (as_of_us, taken_us), ledger);
        let refuses = |since_us| now.monotonic_us - since_us > DRAIN_ANSWER_US;
        seat.mirror.turns.push(Turn {
            step,
            monotonic_us: now.monotonic_us,
            wall_us: now.wall_us,
            forgets: set_back > CLOCK_BACK_HOURS || seat.clock_has_leapt,
            as_of_us,
            taken_us,
            events: [before, after],
            refuses: seat.draining_since_us.is_some_and(refuses),
        });
        self.wake(&woken, random);
        events
    }

    pub fn wake(&mut self, shards: &[usize], random: &mut Random) {
        for &shard in shards {
            self.seats[shard].is_woken |= self.fault != Fault::LostWakeUp || random.percent(50);
        }
    }

    /// The wall clock was set by days or years.
    pub fn clock_has_leapt(&mut self) {
        self.seats.iter_mut().for_each(|seat| seat.clock_has_leapt = true);
    }

    /// Whether the clock was ever set so far that windows may have to be read again.
    pub fn may_forget(&self) -> bool {
        self.seats.iter().any(|seat| seat.mirror.turns.iter().any(|turn| turn.forgets))
    }

    /// Begins to drain, as if in each shard's last turn.
    pub fn drain(&mut self) {
        for seat in &mut self.seats {
            seat.draining_since_us
                .get_or_insert(seat.mirror.turns.last().map_or(0, |turn| turn.monotonic_us));
            seat.shard.drain();
            // A driver drains between two turns, and goes on with the next.
            seat.is_woken = true;
        }
    }
}

impl Seat {
    fn new(shard: Shard, metrics: Arc<ShardMetrics>) -> Seat {
        Seat {
            shard,
            is_woken: false,
            park: Park::Busy,
            completions: VecDeque::new(),
            lines: [const { None }; SLOTS],
            touched: Vec::new(),
            lingering: VecDeque::new(),
            mirror: Mirror::default(),
            metrics,
            bytes_in: 0,
            bytes_out: 0,
            latest_wall_us: i64::MIN,
            clock_has_leapt: false,
            draining_since_us: None,
        }
    }

    fn may_run(&self, now_us: u64) -> bool {
        let is_due = match self.park {
            Park::Busy => true,
            Park::Until(us) => us <= now_us,
            Park::Idle => false,
        };
        is_due || self.has_lingered(now_us) || self.is_woken || !self.completions.is_empty()
    }

    fn has_lingered(&self, now_us: u64) -> bool {
        self.lingering.front().is_some_and(|&(until_us, ..)| until_us <= now_us)
    }

    /// Hands the shard some of the completions that are here, in their order.
    fn reap(&mut self, random: &mut Random, events: &mut Vec<Event>) {
        let here = self.completions.len();
        let count = if random.percent(70) { here } else { random.between(0, here as i64) as usize };
        for _ in 0..count {
            let completion = self.completions.pop_front().expect("as many as there were");
            self.handle(completion, random, events);
        }
        if count < here {
            self.shard.input_waits();
        }
    }

    fn handle(
        &mut self,
        Completion { slot, client, what }: Completion,
        random: &mut Random,
        events: &mut Vec<Event>,
    ) {
        let connection = slot as u32;
        self.touched.push(slot);
        if let What::Opened(listener, principal) = what {
            self.shard.open_as(connection, listener, principal);
            assert!(self.lines[slot].is_none(), "a connection was accepted into a slot that is taken");
            self.lines[slot] = Some(Line::new(client, listener));
            return;
        }
        // What the client did after its connection had ended.
        let Some(line) = self.lines[slot].as_mut().filter(|line| line.client == client) else { return };
        let arrival = match what {
            What::Opened(..) => unreachable!("treated above"),
            What::Identified(principal) => {
                if line.life.is_open() {
                    self.shard.identify(connection, principal);
                }
                Arrival::Drop
            }
            What::Received(bytes, goes_on) => {
                if line.life.received(Received::Bytes, goes_on) == Arrival::Take {
                    self.bytes_in += bytes.len() as u64;
                    self.shard.receive(connection, &bytes);
                    events.push(Event::Delivered { client, bytes: bytes.len() });
                }
                Arrival::Drop
            }
            What::InputEnded => {
                if line.end_watch() {
                    self.completions.push_back(Completion { slot, client, what: What::PeerEnded });
                }
                if line.end_input(random) { line.life.received(Received::End, false) } else { Arrival::Drop }
            }
            What::PeerEnded => {
                line.life.saw_end();
                Arrival::Drop
            }
            What::ReceiveEnded(received) => line.life.received(received, false),
            What::Sent(bytes) => {
                self.bytes_out += line.sent(connection, bytes, &mut self.shard);
                Arrival::Drop
            }
            What::SendFailed => {
                line.send_failed(&mut self.shard);
                Arrival::Drop
            }
            What::Gone => {
                line.life.give_up();
                Arrival::Drop
            }
            What::Shut => {
                line.life.shut();
                Arrival::Drop
            }
            What::Closed => {
                line.life.closed();
                self.lines[slot] = None;
                Arrival::Drop
            }
        };
        if arrival == Arrival::TellEnd {
            self.shard.end_of_input(connection);
        }
    }

    /// Gives up on those who have lingered long enough.
    fn keep_time(&mut self, now_us: u64) {
        while self.has_lingered(now_us) {
            let (_, slot, client) = self.lingering.pop_front().expect("one has lingered long enough");
            if let Some(line) = self.lines[slot].as_mut().filter(|line| line.client == client) {
                line.life.give_up();
                self.touched.push(slot);
            }
        }
    }

    /// Begins whatever is to be begun on the connections.
    fn serve(&mut self, now_us: u64, random: &mut Random, events: &mut Vec<Event>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched
            .extend(std::iter::from_fn(|| self.shard.next_touched()).map(|connection| connection as usize));
        for slot in touched {
            let Some(line) = self.lines[slot].as_mut() else { continue };
            let (shard, completions) = (&mut self.shard, &mut self.completions);
            let mut driver = Driver { shard, completions, random: &mut *random, events: &mut *events };
            if line.serve(slot, &mut driver) {
                self.lingering.push_back((now_us + LINGER_US, slot, line.client));
            }
        }
    }

    /// Whether it may sleep for ever: parked, and nobody has woken it.
    pub fn is_asleep(&self) -> bool {
        self.park == Park::Idle && !self.is_woken && self.completions.is_empty()
    }
}

/// FNV-1a, continued from `hash`.
pub fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
