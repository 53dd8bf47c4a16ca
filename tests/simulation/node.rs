//! A node without a kernel: its shards, and for each the driver's part of a turn (completions in, sends and closes
//! out), as the plan of `florin::shard` has it. A shard that has parked is run only for a completion, for its bell or
//! when its time has come: a wake-up that the shards forget is a request that stays unanswered.

use std::collections::VecDeque;
use std::sync::Arc;

use florin::clock::Now;
use florin::mesh::Parking;
use florin::shard::{self, Listener, Park, Shard, ShardMetrics, ShardSetup};
use florin_schema::ShardIndex;

use super::Fault;
use super::feed::{Feed, FeedEnd};
use super::ledger::Ledger;
use super::mirror::{Mirror, Turn};
use super::random::Random;

pub const SERVER: &str = "florin/simulated";
/// Connections of one shard: few, so that an index is soon used again.
pub const SLOTS: usize = 6;
/// As the shard has it: how long a draining shard goes on answering with data.
const DRAIN_ANSWER_US: u64 = 1_000_000;

/// What the kernel would report of the connection in `slot`, opened by `client`.
pub struct Completion {
    pub slot: usize,
    pub client: usize,
    pub what: What,
}

pub enum What {
    Opened(Listener),
    Received(Vec<u8>),
    Sent(usize),
    InputEnded,
    Gone,
}

/// The driver's side of one connection.
pub struct Line {
    pub client: usize,
    pub intake: bool,
    /// On its way, and how many bytes of it have been read by the client, and reported to the shard.
    pub in_flight: Vec<u8>,
    pub read: usize,
    reported: usize,
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
    pub bell: bool,
    pub park: Park,
    pub completions: VecDeque<Completion>,
    pub lines: [Option<Line>; SLOTS],
    pub mirror: Mirror,
    pub metrics: Arc<ShardMetrics>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    wall_us: i64,
    pub draining_since_us: Option<u64>,
}

pub struct Node {
    pub seats: Vec<Seat>,
    pub ports: Vec<u16>,
    pub max_staleness_us: u64,
    fault: Fault,
}

impl Node {
    pub fn new(random: &mut Random, fault: Fault) -> (Node, Vec<FeedEnd>) {
        let shards = random.pick(&[1, 2, 2, 3, 4]);
        let max_staleness_us = random.pick(&[50_000, 30_000_000]);
        let ports: Vec<u16> = if random.percent(80) { (7401..7401 + shards).collect() } else { Vec::new() };
        let parkings: Vec<Arc<Parking>> = (0..shards).map(|_| Arc::new(Parking::new())).collect();
        let (mut seats, mut ends) = (Vec::new(), Vec::new());
        for (index, peers) in shard::mesh(&parkings).into_iter().enumerate() {
            let parking = Arc::clone(&parkings[index]);
            let (end, feed) = FeedEnd::new(random, Arc::clone(&parking));
            ends.push(end);
            let metrics = Arc::new(ShardMetrics::default());
            let shard = Shard::new(ShardSetup {
                index: ShardIndex(index as u16),
                shards,
                peers,
                parking,
                feed,
                metrics: Arc::clone(&metrics),
                max_staleness_us,
                server: SERVER.to_owned(),
                ports: ports.clone(),
                identity: Default::default(),
            });
            seats.push(Seat::new(shard, metrics));
        }
        (Node { seats, ports, max_staleness_us, fault }, ends)
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
        let until = |seat: &Seat| if let Park::Until(us) = seat.park { Some(us) } else { None };
        self.seats.iter().filter_map(until).min()
    }

    /// One turn of shard `index`.
    pub fn turn(
        &mut self,
        index: usize,
        moment: (u64, Now),
        feed: &mut Feed,
        ledger: &Ledger,
        random: &mut Random,
    ) -> Vec<Event> {
        let (step, now) = moment;
        let mut events = Vec::new();
        let end = &mut feed.ends[index];
        let seat = &mut self.seats[index];
        seat.bell = false;
        seat.wall_us = seat.wall_us.max(now.wall_us);
        let (as_of_us, taken_us) = end.watermark.load();
        let before = end.taken();

        seat.shard.begin_turn(now);
        seat.reap(random, &mut events);
        seat.shard.work();
        seat.serve(random, &mut events);
        let mut bells = Vec::new();
        while let Some(shard) = seat.shard.next_bell() {
            bells.push(usize::from(shard.0));
        }
        seat.shard.end_turn(now.monotonic_us + 3);
        seat.park = seat.shard.park();

        let after = end.taken();
        seat.mirror.advance(&end.log, after, (as_of_us, taken_us), ledger);
        let refuses = |since_us| now.monotonic_us - since_us > DRAIN_ANSWER_US;
        seat.mirror.turns.push(Turn {
            step,
            monotonic_us: now.monotonic_us,
            wall_us: seat.wall_us,
            as_of_us,
            taken_us,
            events: [before, after],
            refuses: seat.draining_since_us.is_some_and(refuses),
        });
        self.ring(&bells, random);
        events
    }

    pub fn ring(&mut self, bells: &[usize], random: &mut Random) {
        for &bell in bells {
            self.seats[bell].bell |= self.fault != Fault::LostBell || random.percent(50);
        }
    }

    /// Begins to drain, as if in each shard's last turn.
    pub fn drain(&mut self) {
        for seat in &mut self.seats {
            seat.draining_since_us
                .get_or_insert(seat.mirror.turns.last().map_or(0, |turn| turn.monotonic_us));
            seat.shard.drain();
            // A driver drains between two turns, and goes on with the next.
            seat.bell = true;
        }
    }
}

impl Seat {
    fn new(shard: Shard, metrics: Arc<ShardMetrics>) -> Seat {
        Seat {
            shard,
            bell: false,
            park: Park::Busy,
            completions: VecDeque::new(),
            lines: [const { None }; SLOTS],
            mirror: Mirror::default(),
            metrics,
            bytes_in: 0,
            bytes_out: 0,
            wall_us: i64::MIN,
            draining_since_us: None,
        }
    }

    fn may_run(&self, now_us: u64) -> bool {
        let is_due = match self.park {
            Park::Busy => true,
            Park::Until(us) => us <= now_us,
            Park::Idle => false,
        };
        is_due || self.bell || !self.completions.is_empty()
    }

    /// Hands the shard some of the completions that are here, in their order.
    fn reap(&mut self, random: &mut Random, events: &mut Vec<Event>) {
        let here = self.completions.len();
        let count = if random.percent(70) { here } else { random.between(0, here as i64) as usize };
        for Completion { slot, client, what } in self.completions.drain(..count) {
            let connection = slot as u32;
            if let What::Opened(listener) = what {
                self.shard.open(connection, listener);
                self.lines[slot] =
                    Some(Line { client, intake: true, in_flight: Vec::new(), read: 0, reported: 0 });
                continue;
            }
            // The shard may have closed it meanwhile.
            let Some(line) = self.lines[slot].as_mut().filter(|line| line.client == client) else { continue };
            match what {
                What::Opened(_) => unreachable!("treated above"),
                What::Received(bytes) => {
                    self.bytes_in += bytes.len() as u64;
                    self.shard.receive(connection, &bytes);
                    events.push(Event::Delivered { client, bytes: bytes.len() });
                }
                What::Sent(bytes) => {
                    self.bytes_out += bytes as u64;
                    line.reported += bytes;
                    self.shard.sent(connection, bytes);
                    if line.reported == line.in_flight.len() {
                        (line.read, line.reported) = (0, 0);
                        self.shard.recycle(std::mem::take(&mut line.in_flight));
                    }
                }
                What::InputEnded => self.shard.end_of_input(connection),
                What::Gone => {
                    self.lines[slot] = None;
                    self.shard.closed(connection);
                }
            }
        }
    }

    /// Does what the connections want.
    fn serve(&mut self, random: &mut Random, events: &mut Vec<Event>) {
        while let Some(connection) = self.shard.next_touched() {
            let slot = connection as usize;
            let line = self.lines[slot].as_mut().expect("a shard touches open connections alone");
            let wants = self.shard.wants(connection);
            if wants.output && line.in_flight.is_empty() {
                let spare = if random.percent(80) { self.shard.spare_buffer() } else { Vec::new() };
                line.in_flight = self.shard.take_output(connection, spare);
                let (bytes, hash) = (line.in_flight.len(), fnv(0, &line.in_flight));
                events.push(Event::Taken { client: line.client, bytes, hash });
            }
            line.intake = wants.intake;
            if wants.cut {
                let client = line.client;
                self.lines[slot] = None;
                self.shard.closed(connection);
                events.push(Event::Cut { client });
            } else if wants.close {
                assert!(line.in_flight.is_empty(), "a connection is closed only once its answers are sent");
                let client = line.client;
                self.lines[slot] = None;
                self.shard.closed(connection);
                events.push(Event::Closed { client });
            }
        }
    }

    /// Whether it may sleep for ever: parked, and nobody has rung.
    pub fn is_asleep(&self) -> bool {
        self.park == Park::Idle && !self.bell && self.completions.is_empty()
    }
}

/// FNV-1a, continued from `hash`.
pub fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
