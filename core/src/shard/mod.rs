//! One shard: its table, its connections' protocol state, and what it does in a turn. Does no I/O and is given the
//! time, so that a simulator can run a whole node from a seed.
//!
//! A driver calls, in each turn and in this order: [`Shard::begin_turn`]; for each completion [`Shard::open`],
//! [`Shard::receive`], [`Shard::sent`], [`Shard::end_of_input`] or [`Shard::closed`]; [`Shard::work`]; for each
//! [`Shard::next_touched`] what [`Shard::wants`] says; [`Shard::next_to_wake`] until there is none;
//! [`Shard::end_turn`]; [`Shard::park`]. Where bytes may have come since the turn began, it says so first: [`Shard::input_came_by`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`table`], `index`, `account`, `blocks` | the accounts: finding one, its two records, where they lie |
//! | `connections` | what each connection has said, is owed and may have, and which of them have something to do |
//! | [`life`] | a connection's life, as its driver lives it |
//! | [`holdings`] | which users the node has, where several divide them among them |
//! | [`principal`] | who asks, and what that one may ask |
//! | [`callers`] | callers that prove who they are, and what follows for their connections |
//! | [`quota`] | how much of a node one of them may use |
//! | [`strikes`] | wrong tokens, by the address that showed them |
//! | `admission` | who may not ask, or not so often, is refused |
//! | `elsewhere` | users whom another node has |
//! | `intake` | from a connection's bytes to requests, and who may make them |
//! | `resp` | the same for RESP, whose replies come in order |
//! | `pipeline` | the lookups under way, in groups, so that their cache misses overlap |
//! | `responder` | from a question to its answer: the table, the time, the encoder |
//! | `ending` | time-outs and drains |
//! | `forwarding` | links to other shards, batches in parts, the waiting room |
//! | `foreign` | lookups that are passed on in bundles, and other shards' lookups |
//! | `questions` | other questions: passed on, kept waiting, or joined |
//! | `follow` | what the feed brings |
//! | `fingerprints` | which rows were applied |
//! | [`orders`] | what a thread that may wait asks of a shard |
//! | [`audit`] | accounts that are copied for comparing them with the ledger |
//! | `look` | one user's answers, for an operator who looks |
//! | `damage` | what goes wrong with an account, for the audit to find |
//! | [`checkpoints`] | accounts that are copied out, or taken in, a bounded number a turn |
//! | [`metrics`] | what all of it counts |
//! | `planted` | defects for the simulation to find |

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{NodeIdentity, ShardIndex, UserId};

use crate::audit::Fingerprint;
use crate::clock::Now;
use crate::ledger::Horizon;
use crate::limits::{DRAIN_QUIET_US, WAITING_POLL_US};
use crate::mesh::Parking;
use crate::wire::{HelloAnswer, OwnPorts};

mod account;
mod admission;
pub mod audit;
mod blocks;
pub mod callers;
pub mod checkpoints;
mod connections;
#[cfg(debug_assertions)]
mod damage;
mod elsewhere;
mod ending;
pub mod feed_link;
mod fingerprints;
mod follow;
mod foreign;
mod forwarding;
pub mod holdings;
mod index;
mod intake;
pub mod life;
mod look;
mod memory;
pub mod metrics;
pub mod orders;
mod pipeline;
mod planted;
pub mod principal;
mod questions;
pub mod quota;
mod resp;
mod responder;
mod slow;
pub mod strikes;
pub mod table;

use audit::Audits;
pub use audit::{AuditAnswer, AuditLink, AuditOrder, AuditPort, audit_link};
use callers::Callers;
pub use callers::{CallersLink, CallersPort, Directory, Proof, Refused, callers_link};
use checkpoints::Checkpoints;
pub use checkpoints::{CheckpointAnswer, CheckpointLink, CheckpointOrder, CheckpointPort, checkpoint_link};
use connections::{Connections, Ending, Session, Stop};
pub use connections::{Listener, Wants};
#[cfg(debug_assertions)]
pub use damage::Damage;
pub use feed_link::{Defect, FeedEvent, FeedLink, FeedRequest, Reason};
use fingerprints::Fingerprints;
use follow::Follow;
use forwarding::Forwarding;
pub use forwarding::peers::{MeshMessage, PeerLink, mesh};
pub use holdings::{
    Hold, Holdings, HoldingsLink, HoldingsPort, NO_NODES, NodesNews, NodesText, holdings_link,
};
pub use look::{Look, LookLink, LookOrder, LookPort, look_link};
pub use memory::{Housekeeping, Pages};
pub use metrics::ShardMetrics;
use metrics::Work;
use pipeline::Pipeline;
pub use planted::Planted;
pub use principal::{Principal, Rights};
use questions::Room;
use responder::Responder;
use slow::Slow;
pub use slow::{SlowAnswers, SlowLink, Waited, slow_link};

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
    /// The same for callers by TLS: each shard's own port for them.
    pub tls_ports: Vec<u16>,
    /// What a Hello says: which node this is, and whose answers it gives.
    pub identity: NodeIdentity,
}

impl ShardSetup {
    /// Of a shard without neighbours and without ports of its own, which answers however old its watermark is: what there is to one that
    /// is tried by itself.
    pub fn alone(parking: Arc<Parking>, feed: FeedLink) -> ShardSetup {
        ShardSetup {
            index: ShardIndex(0),
            shards: 1,
            peers: [None].into(),
            parking,
            feed,
            metrics: Arc::default(),
            max_staleness_us: u64::MAX,
            server: String::from("florin"),
            ports: Vec::new(),
            tls_ports: Vec::new(),
            identity: NodeIdentity::default(),
        }
    }
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
    connections: Connections,
    forwarding: Forwarding,
    follow: Follow,
    fingerprints: Fingerprints,
    checkpoints: Checkpoints,
    audits: Audits,
    /// From the control plane, where it looks at users.
    looks: Option<LookLink>,
    /// Where callers have to prove who they are.
    callers: Option<Box<Callers>>,
    /// Where nodes divide the users among them.
    holdings: Option<HoldingsLink>,
    pipeline: Pipeline,
    slow: Slow,
    /// What a Hello says.
    greeting: Greeting,

    now: Now,
    turn: u64,
    parking: Arc<Parking>,
    is_parked: bool,
    draining_since_us: Option<u64>,
    /// Whatever came before this has been read, but where the driver has more than it could handle.
    read_until_us: u64,
    input_waits: bool,

    /// The users of the batch that is being read.
    users: Vec<UserId>,
    planted: Option<Planted>,
}

/// What a Hello says of the node.
struct Greeting {
    server: String,
    ports: Vec<u16>,
    tls_ports: Vec<u16>,
    identity: NodeIdentity,
    /// Where nodes divide the users among them.
    holdings: Option<Arc<Holdings>>,
    /// What whoever asks is told of those nodes.
    nodes: Option<Arc<NodesText>>,
}

impl Greeting {
    /// What a connection is told.
    fn to(&self, session: &Session, connection: u32, responder: &Responder) -> HelloAnswer<'_> {
        let ports = match session.listener {
            Listener::Any | Listener::Shard => &self.ports[..],
            Listener::Tls => &self.tls_ports,
            Listener::Unix => &[],
        };
        // Whoever has the same place later has another number, and so has everybody on another shard.
        let shard = i64::from(responder.index.0) << 47;
        let connection = shard | i64::from(session.generation) << 15 | i64::from(connection);
        HelloAnswer {
            nodes: self.holdings.as_deref().map(Holdings::map),
            server: &self.server,
            shards: responder.shards,
            ports,
            identity: self.identity,
            connection,
        }
    }
}

const _: () =
    assert!(crate::limits::CONNECTIONS_MAX <= 1 << 15, "a connection's number has room for its place");

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
            tls_ports,
            identity,
        } = setup;
        let mut responder = Responder::new(index, shards, metrics);
        let own = |ports: &[u16]| ports.get(usize::from(index.0)).copied();
        responder.encoder.set_ports(OwnPorts { plain: own(&ports), tls: own(&tls_ports) });
        Shard {
            responder,
            connections: Connections::default(),
            forwarding: Forwarding::new(peers),
            follow: Follow::new(feed, max_staleness_us),
            fingerprints: Fingerprints::new(),
            checkpoints: Checkpoints::none(),
            audits: Audits::none(),
            looks: None,
            callers: None,
            holdings: None,
            pipeline: Pipeline::new(),
            slow: Slow::none(),
            greeting: Greeting { server, ports, tls_ports, identity, holdings: None, nodes: None },
            now: Now::default(),
            turn: 0,
            parking,
            is_parked: false,
            draining_since_us: None,
            read_until_us: 0,
            input_waits: false,
            users: Vec::new(),
            planted: None,
        }
    }

    /// Makes this shard wrong, so that a simulation can see whether it would find that. Does nothing in a release build.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
        self.forwarding.planted = Some(planted);
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
        self.responder.table.take_growth();
        self.responder.horizon = Horizon::at(self.now.wall_us);
        self.responder.encoder.set_time(self.now.wall_us);
        self.read_watermark();
        self.look_after_callers();
        self.take_holdings();
    }

    /// A connection has come, and anybody's; `connection` is the driver's index of it, reused once it was [`Shard::closed`].
    pub fn open(&mut self, connection: u32, listener: Listener) {
        self.open_as(connection, listener, Some(self.anonymous()));
    }

    /// As [`Shard::open`], but it is known who it is; or `None`, and [`Shard::identify`] will say. Until then its input waits.
    /// Whoever finds that out ends the connection where it takes too long.
    pub fn open_as(&mut self, connection: u32, listener: Listener, principal: Option<Principal>) {
        self.connections.begin(connection, listener, principal);
        if let Some(principal) = principal {
            self.owns(connection, principal);
        }
        self.responder.metrics.connections.set(self.connections.open() as u64);
        self.responder.metrics.connections_opened.add(1);
    }

    /// It is known now who a connection is, and its input is read on.
    ///
    /// # Panics
    /// Where it was known already: a connection is one principal's as long as it lasts.
    pub fn identify(&mut self, connection: u32, principal: Principal) {
        self.connections[connection].identify(principal);
        self.owns(connection, principal);
        if self.connections[connection].stop == Stop::Await {
            self.connections.make_ready(connection);
        }
        self.connections.touch(connection);
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
        let session = &mut self.connections[connection];
        if session.ending == Ending::Stays {
            session.ending = Ending::InputEnded;
            // What was not looked at, for it could not be whole, may be no request at all.
            if core::mem::take(&mut session.least_input) > 0 && session.stop == Stop::Incomplete {
                self.resume(connection);
            }
        }
        self.connections.touch(connection);
    }

    /// The socket is gone: forgets the connection. Answers still due for it are dropped.
    pub fn closed(&mut self, connection: u32) {
        self.finish_lookups();
        if let Some(ticket) = self.connections.end(connection) {
            self.leave(ticket);
        }
        self.forget_caller(connection);
        self.responder.metrics.connections.set(self.connections.open() as u64);
    }

    /// Everything that is not a completion: input left over, neighbours, the feed, the waiting room, time-outs.
    pub fn work(&mut self) {
        for _ in 0..self.connections.ready() {
            let connection = self.connections.next_ready().expect("as many as there were");
            let session = &self.connections[connection];
            // What has had its frames of this turn goes on in the next.
            if session.open && session.stop == Stop::Turn && session.turn == self.turn {
                self.connections.make_ready(connection);
            } else if session.open && !session.is_closing() && session.stop != Stop::Incomplete {
                // One that has read on meanwhile waits for its peer, and must not be asked twice to go on.
                self.resume(connection);
            }
        }
        self.finish_lookups();
        self.forwarding.flush();
        if self.drain_mesh() == Room::Made {
            // A neighbour has answered, so its link takes questions again.
            while let Some(connection) = self.forwarding.unblock() {
                if self.connections[connection].open {
                    self.connections.make_ready(connection);
                }
            }
        }
        self.drain_feed();
        self.responder.table.go_on_growing();
        self.serve_checkpoints();
        self.serve_audit();
        self.serve_looks();
        self.look_through_waiting_room();
        self.follow.moved = false;
        self.end_the_overdue();
    }

    /// A connection whose wants may have changed since they were last asked.
    #[inline]
    pub fn next_touched(&mut self) -> Option<u32> {
        let connection = self.connections.next_touched()?;
        if let Some(callers) = &mut self.callers {
            callers.settle(connection, self.connections[connection].owed());
        }
        Some(connection)
    }

    /// What `connection` asks of its driver.
    pub fn wants(&self, connection: u32) -> Wants {
        self.connections[connection].wants()
    }

    /// Takes what is to be sent, leaving `empty` to be filled. One send at a time: the next once all of this was
    /// reported to [`Shard::sent`].
    pub fn take_output(&mut self, connection: u32, empty: Vec<u8>) -> Vec<u8> {
        self.connections[connection].take_output(empty)
    }

    /// `bytes` of what was taken have been sent.
    pub fn sent(&mut self, connection: u32, bytes: usize) {
        self.responder.metrics.bytes_out.add(bytes as u64);
        let session = &mut self.connections[connection];
        session.sent(bytes);
        session.active_us = self.now.monotonic_us;
        if session.stop == Stop::Unsent && session.has_room() {
            self.connections.make_ready(connection);
        }
        self.connections.touch(connection);
    }

    /// A buffer with room for a connection's output, and the way back for one.
    pub fn spare_buffer(&mut self) -> Vec<u8> {
        self.connections.buffers.take()
    }

    /// Keeps an emptied buffer for later.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.connections.buffers.give_back(buffer);
    }

    /// The next neighbour that must be woken after this turn.
    pub fn next_to_wake(&mut self) -> Option<ShardIndex> {
        let next = self.forwarding.next_to_wake();
        if Planted::NeverWakes.is(self.planted) { None } else { next }
    }

    /// Ends a turn: counts what it took, for all requests that it answered.
    pub fn end_turn(&mut self, monotonic_us: u64) {
        self.note_input_read(monotonic_us);
        let took_us = monotonic_us.saturating_sub(self.now.monotonic_us);
        let answers = if self.slow.is_slow(took_us) { self.responder.answers() } else { 0 };
        if self.responder.publish_counts(took_us) {
            self.follow.answered_us = Some(self.now.monotonic_us);
        }
        let growth = self.responder.table.take_growth();
        if growth.has_chores {
            self.responder.table.tell(&self.follow.feed.housekeeping);
        }
        let has_taken = core::mem::take(&mut self.follow.has_taken);
        let metrics = &self.responder.metrics;
        let has_copied = self.checkpoints.note_turn(took_us, metrics);
        let work = match (growth.has_worked, has_copied, has_taken) {
            (true, _, _) => Work::Growth,
            (_, true, _) => Work::Checkpoint,
            (_, _, true) => Work::Feed,
            _ => Work::Answers,
        };
        metrics.turns_with[work as usize].record(took_us);
        metrics.turns.add(1);
        metrics.waiting.set(self.forwarding.waiting.len() as u64);
        metrics.mesh_depth.set(self.forwarding.outstanding() as u64);
        if answers > 0 {
            self.note_slow_turn(took_us, answers, work);
        }
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
        debug_assert!(
            !self.forwarding.holds_back() || self.planted.is_some(),
            "lookups leave before their shard sleeps"
        );
        // What the feed is to be asked for found its ring full: it takes requests, and wakes nobody when there is room for more.
        let looks_again = self.forwarding.waiting.len() > 0 || !self.follow.requests.is_empty();
        let waiting = looks_again.then(|| self.now.monotonic_us + WAITING_POLL_US);
        let silent = self.connections.next_look_us();
        let draining = self.draining_since_us.map(|_| self.now.monotonic_us + DRAIN_QUIET_US);
        let first =
            [waiting, self.forwarding.waiting.earliest_us(), silent, draining].into_iter().flatten().min();
        first.map_or(Park::Idle, Park::Until)
    }

    fn has_work(&self) -> bool {
        self.connections.have_work()
            || self.follow.has_work()
            || self.checkpoints.has_work()
            || self.responder.table.is_growing()
            || self.audits.has_work()
            || self.is_looked_at()
            || self.has_new_holdings()
            || !self.responder.rereads.is_empty()
            || self.forwarding.has_messages()
    }

    /// All rows that it has applied to accounts of a bucket.
    ///
    /// # Panics
    /// Where there is no such bucket.
    pub fn applied(&self, bucket: usize) -> Fingerprint {
        self.fingerprints.applied(bucket)
    }

    /// Whether its ledger is loaded; until then it answers UNAVAILABLE.
    pub fn has_data(&self) -> bool {
        self.follow.watermark_taken_us > 0
    }
}

#[cfg(test)]
mod tests;
