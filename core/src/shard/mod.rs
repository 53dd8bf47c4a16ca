//! One shard: its table, its connections' protocol state, and what it does in a turn. Does no I/O and is given the
//! time, so that a simulator can run a whole node from a seed.
//!
//! A driver calls, in each turn and in this order: [`Shard::begin_turn`]; for each completion [`Shard::open`],
//! [`Shard::receive`], [`Shard::sent`], [`Shard::end_of_input`] or [`Shard::closed`]; [`Shard::work`]; for each
//! [`Shard::next_touched`] what [`Shard::wants`] says; [`Shard::next_to_wake`] until there is none;
//! [`Shard::end_turn`]; [`Shard::park`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`table`], `index`, `account`, `blocks` | the accounts: finding one, its two records, where they lie |
//! | `session` | one connection's state |
//! | [`life`] | a connection's life, as its driver lives it |
//! | `intake` | from a connection's bytes to requests |
//! | `belt` | lookups under way, so that their cache misses overlap |
//! | `responder` | from a question to its answer: the table, the time, the encoder |
//! | `ending` | time-outs and drains |
//! | `questions` | questions that are passed on, wait, or are joined |
//! | `peers`, `gather`, `waiting` | links to other shards, batches in parts, the waiting room |
//! | `follow` | what the feed brings |
//! | [`checkpoints`] | accounts that are copied out, or taken in, a bounded number a turn |
//! | [`metrics`] | what all of it counts |

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use florin_schema::{NodeIdentity, ShardIndex, UserId};

use crate::clock::Now;
use crate::ledger::Horizon;
use crate::limits::{DRAIN_QUIET_US, SPARE_BUFFER_BYTES, SPARE_BUFFERS, WAITING_POLL_US};
use crate::mesh::Parking;

mod account;
mod belt;
mod blocks;
pub mod checkpoints;
mod ending;
pub mod feed_link;
mod follow;
mod gather;
mod index;
mod intake;
pub mod life;
mod memory;
pub mod metrics;
mod peers;
mod questions;
mod responder;
mod session;
pub mod table;
mod waiting;

use belt::Belt;
use checkpoints::Checkpoints;
pub use checkpoints::{CheckpointAnswer, CheckpointLink, CheckpointOrder, CheckpointPort, checkpoint_link};
pub use feed_link::{Defect, FeedEvent, FeedLink, FeedRequest, Reason};
use gather::Gather;
pub use metrics::ShardMetrics;
pub use peers::{MeshMessage, PeerLink, mesh};
use questions::Room;
use responder::Responder;
use session::{Ending, Session, Stop};
pub use session::{Listener, Wants};
use waiting::{Waiter, WaitingRoom};

/// What a shard is made of.
pub struct ShardSetup {
    /// Its place in the node.
    pub index: ShardIndex,
    /// Shards of the node.
    pub shards: u16,
    /// Its links to the others: one row of [`mesh`].
    pub peers: Vec<Option<PeerLink>>,
    /// Its own.
    pub parking: Arc<Parking>,
    /// Its link to the feed.
    pub feed: FeedLink,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Age of the watermark beyond which no data is answered.
    pub max_staleness_us: u64,
    /// What a Hello says: name and version.
    pub server: String,
    /// What a Hello says: each shard's own port; empty where there are none.
    pub ports: Vec<u16>,
    /// What a Hello says: which node this is, and whose answers it gives.
    pub identity: NodeIdentity,
}

/// Whether a driver may sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Park {
    /// There is work: poll for completions and go on.
    Busy,
    /// Until a completion, a wake-up, or this time (monotonic µs).
    Until(u64),
    /// Until a completion or a wake-up.
    Idle,
}

/// One shard.
pub struct Shard {
    responder: Responder,
    sessions: Vec<Session>,
    peers: Vec<Option<PeerLink>>,
    parking: Arc<Parking>,
    feed: FeedLink,
    /// What the feed's ring had no room for: each account at most once, so bounded by them.
    requests: VecDeque<FeedRequest>,
    /// A batch whose end has come, and which the feed has not been told of.
    applied_batch: Option<u64>,
    checkpoints: Checkpoints,
    waiting: WaitingRoom,
    gathers: slab::Slab<Gather>,
    server: String,
    ports: Vec<u16>,
    identity: NodeIdentity,
    max_staleness_us: u64,

    now: Now,
    turn: u64,
    watermark_taken_us: u64,
    /// The table or the watermark has moved since the waiting room was looked through.
    moved: bool,
    is_parked: bool,
    draining_since_us: Option<u64>,
    /// Whatever came before this has been read, but where the driver has more than it could handle.
    read_until_us: u64,
    input_waits: bool,
    open: usize,

    touched: Vec<u32>,
    /// Connections with input that may be read on.
    ready: VecDeque<u32>,
    /// Connections whose input waits for room in a neighbour's ring.
    blocked: Vec<u32>,
    /// (when, connection), at most one each.
    timeouts: BinaryHeap<Reverse<(u64, u32)>>,

    users: Vec<UserId>,
    belt: Belt,
    due: Vec<Waiter>,
    buffers: Vec<Vec<u8>>,
    next_to_wake: usize,
}

impl Shard {
    /// A shard without accounts, which answers UNAVAILABLE until the feed's first watermark.
    pub fn new(setup: ShardSetup) -> Shard {
        let ShardSetup {
            index,
            shards,
            peers,
            parking,
            feed,
            metrics,
            max_staleness_us,
            server,
            ports,
            identity,
        } = setup;
        Shard {
            responder: Responder::new(index, shards, metrics),
            sessions: Vec::new(),
            peers,
            parking,
            feed,
            requests: VecDeque::new(),
            applied_batch: None,
            checkpoints: Checkpoints::none(),
            waiting: WaitingRoom::default(),
            gathers: slab::Slab::new(),
            server,
            ports,
            identity,
            max_staleness_us,
            now: Now::default(),
            turn: 0,
            watermark_taken_us: 0,
            moved: false,
            is_parked: false,
            draining_since_us: None,
            read_until_us: 0,
            input_waits: false,
            open: 0,
            touched: Vec::new(),
            ready: VecDeque::new(),
            blocked: Vec::new(),
            timeouts: BinaryHeap::new(),
            users: Vec::new(),
            belt: Belt::new(),
            due: Vec::new(),
            buffers: Vec::new(),
            next_to_wake: 0,
        }
    }

    /// Begins a turn at `now`. The wall clock may have been set, back or ahead; windows follow it.
    pub fn begin_turn(&mut self, now: Now) {
        if core::mem::take(&mut self.is_parked) {
            self.parking.cancel();
        }
        if now.wall_us < self.now.wall_us && self.turn > 0 {
            self.responder.metrics.clock_set_back.add(1);
        }
        self.now = now;
        self.turn += 1;
        self.responder.horizon = Horizon::at(self.now.wall_us);
        self.responder.encoder.set_time(self.now.wall_us);
        self.read_watermark();
    }

    /// A connection has come; `connection` is the driver's index of it, reused once it was [`Shard::closed`].
    pub fn open(&mut self, connection: u32, listener: Listener) {
        let index = connection as usize;
        if index >= self.sessions.len() {
            self.sessions.resize_with(index + 1, Session::new);
        }
        assert!(!self.sessions[index].open, "connection {connection} was opened twice");
        self.sessions[index].reopen(listener);
        self.open += 1;
        self.responder.metrics.connections.set(self.open as u64);
        self.responder.metrics.connections_opened.add(1);
    }

    /// The driver could not accept a connection, for want of descriptors or memory.
    pub fn note_accept_refused(&self) {
        self.responder.metrics.accepts_refused.add(1);
    }

    /// The driver has no slot for a further connection.
    pub fn note_connections_full(&self) {
        self.responder.metrics.connections_full.add(1);
    }

    /// The peer has sent all it will: what has come is answered, and then the connection is closed.
    pub fn end_of_input(&mut self, connection: u32) {
        let session = &mut self.sessions[connection as usize];
        if session.ending == Ending::Stays {
            session.ending = Ending::InputEnded;
        }
        self.touch(connection);
    }

    /// The socket is gone: forgets the connection. Answers still due for it are dropped.
    pub fn closed(&mut self, connection: u32) {
        self.finish_lookups();
        let session = &mut self.sessions[connection as usize];
        assert!(session.open, "connection {connection} was closed twice");
        session.open = false;
        let waiting = (session.waits > 0).then(|| session.ticket(connection));
        let (carry, out) = (core::mem::take(&mut session.carry), core::mem::take(&mut session.out));
        self.recycle(carry);
        self.recycle(out);
        if let Some(ticket) = waiting {
            self.leave(ticket);
        }
        self.open -= 1;
        self.responder.metrics.connections.set(self.open as u64);
    }

    /// Everything that is not a completion: input left over, neighbours, the feed, the waiting room, time-outs.
    pub fn work(&mut self) {
        for _ in 0..self.ready.len() {
            let connection = self.ready.pop_front().expect("as many as there were");
            let session = &mut self.sessions[connection as usize];
            session.ready = false;
            // What has had its frames of this turn goes on in the next.
            if session.open && session.stop == Stop::Turn && session.turn == self.turn {
                session.ready = true;
                self.ready.push_back(connection);
            } else if session.open && !session.is_closing() && session.stop != Stop::Incomplete {
                // One that has read on meanwhile waits for its peer, and must not be asked twice to go on.
                self.resume(connection);
            }
        }
        self.finish_lookups();
        if self.drain_mesh() == Room::Made {
            self.unblock();
        }
        self.drain_feed();
        self.serve_checkpoints();
        self.look_through_waiting_room();
        self.moved = false;
        self.end_the_overdue();
    }

    /// A neighbour has answered, so its ring takes questions again.
    fn unblock(&mut self) {
        while let Some(connection) = self.blocked.pop() {
            let session = &mut self.sessions[connection as usize];
            if session.open && !core::mem::replace(&mut session.ready, true) {
                self.ready.push_back(connection);
            }
        }
    }

    /// A connection whose wants may have changed since they were last asked.
    pub fn next_touched(&mut self) -> Option<u32> {
        loop {
            let connection = self.touched.pop()?;
            let session = &mut self.sessions[connection as usize];
            session.touched = false;
            if session.open {
                return Some(connection);
            }
        }
    }

    fn touch(&mut self, connection: u32) {
        if !core::mem::replace(&mut self.sessions[connection as usize].touched, true) {
            self.touched.push(connection);
        }
    }

    /// What `connection` asks of its driver.
    pub fn wants(&self, connection: u32) -> Wants {
        self.sessions[connection as usize].wants()
    }

    /// Takes what is to be sent, leaving `empty` to be filled. One send at a time: the next once all of this was
    /// reported to [`Shard::sent`].
    pub fn take_output(&mut self, connection: u32, empty: Vec<u8>) -> Vec<u8> {
        debug_assert!(empty.is_empty());
        let session = &mut self.sessions[connection as usize];
        let output = core::mem::replace(&mut session.out, empty);
        session.in_flight += output.len();
        output
    }

    /// `bytes` of what was taken have been sent.
    pub fn sent(&mut self, connection: u32, bytes: usize) {
        self.responder.metrics.bytes_out.add(bytes as u64);
        let session = &mut self.sessions[connection as usize];
        session.in_flight -= bytes;
        session.active_us = self.now.monotonic_us;
        if session.stop == Stop::Unsent && session.has_room() && !core::mem::replace(&mut session.ready, true)
        {
            self.ready.push_back(connection);
        }
        self.touch(connection);
    }

    /// A buffer with room for a connection's output, and the way back for one.
    pub fn spare_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Keeps an emptied buffer for later.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=SPARE_BUFFER_BYTES).contains(&buffer.capacity());
        if fits && self.buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// The next neighbour that must be woken after this turn.
    pub fn next_to_wake(&mut self) -> Option<ShardIndex> {
        while self.next_to_wake < self.peers.len() {
            let shard = self.next_to_wake;
            self.next_to_wake += 1;
            if self.peers[shard].as_mut().is_some_and(PeerLink::must_ring) {
                return Some(ShardIndex(shard as u16));
            }
        }
        self.next_to_wake = 0;
        None
    }

    /// Ends a turn: counts what it took, for all requests that it answered.
    pub fn end_turn(&mut self, monotonic_us: u64) {
        self.note_input_read(monotonic_us);
        let took_us = monotonic_us.saturating_sub(self.now.monotonic_us);
        self.responder.publish_counts(took_us);
        let metrics = &self.responder.metrics;
        self.checkpoints.note_turn(took_us, metrics);
        metrics.turns.add(1);
        metrics.waiting.set(self.waiting.len() as u64);
        metrics.mesh_depth.set(self.peers.iter().flatten().map(|peer| peer.outstanding() as u64).sum());
    }

    /// Whether the driver may sleep, and how long. Where it may, this shard's [`Parking`] has been told.
    pub fn park(&mut self) -> Park {
        if self.has_work() {
            return Park::Busy;
        }
        self.parking.announce();
        if self.has_work() {
            self.parking.cancel();
            return Park::Busy;
        }
        self.is_parked = true;
        // What the feed is to be asked for found its ring full: it takes requests, and wakes nobody when there is room for more.
        let looks_again = self.waiting.len() > 0 || !self.requests.is_empty();
        let waiting = looks_again.then(|| self.now.monotonic_us + WAITING_POLL_US);
        let silent = self.timeouts.peek().map(|Reverse((at_us, _))| *at_us);
        let draining = self.draining_since_us.map(|_| self.now.monotonic_us + DRAIN_QUIET_US);
        let first = [waiting, self.waiting.earliest_us(), silent, draining].into_iter().flatten().min();
        first.map_or(Park::Idle, Park::Until)
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty()
            || !self.touched.is_empty()
            || !self.feed.events.is_empty()
            || self.checkpoints.has_work()
            || !self.responder.rereads.is_empty()
            || self.peers.iter().flatten().any(PeerLink::has_messages)
    }

    /// Whether its ledger is loaded; until then it answers UNAVAILABLE.
    pub fn has_data(&self) -> bool {
        self.watermark_taken_us > 0
    }
}

#[cfg(test)]
mod tests;
