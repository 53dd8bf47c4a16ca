//! One connection: many callers' requests, tied to their replies by request id.
//!
//! ```text
//! callers ──encode──▶ output ──▶ writer ──one write──▶ server ──▶ reader ──▶ each caller's own channel
//! ```
//!
//! Whoever calls encodes its request into the shared output and wakes the writer. The writer takes all that has gathered
//! while its last write was under way and writes it at once: so the busier a client is, the more requests share a system
//! call and a packet, which is worth more than anything that a server can do.
//!
//! A [`Connection`] leads to one address for as long as the client lives; a session is one socket of it. `link` makes
//! them, one after the other: another before the last has ended where that has fallen silent, or is ended by the server.

mod dial;
mod link;
mod reach;
pub(crate) mod read;
mod session;
mod silence;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use florin_schema::{LedgerId, NodeId, Opcode};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::timeout;

pub(crate) use dial::ShardMap;
use read::RawReply;
use session::{Session, Standing};

use crate::builder::Settings;
use crate::counters::{NodePool, Tally};
use crate::heard::Heard;
use crate::request::Request;
use crate::routes::Reach;
use crate::tls::Connector;
use crate::{Address, Disconnect, Error, Freshness};

/// How a connection stands.
#[derive(Clone)]
pub(crate) enum State {
    /// The first attempt is under way.
    Connecting,
    /// It answers.
    Up(Arc<Session>),
    /// It will be tried again.
    Down(Error),
}

impl State {
    /// Whether somebody has to do something before it can answer.
    fn is_refused(&self) -> bool {
        matches!(self, State::Down(error) if error.is_final())
    }

    /// What the Hello of a connection that answers said.
    pub fn map(&self) -> Option<Arc<ShardMap>> {
        match self {
            State::Up(session) => Some(Arc::clone(&session.map)),
            State::Connecting | State::Down(_) => None,
        }
    }
}

/// What all connections of a client have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub settings: Arc<Settings>,
    /// Where the client reaches its nodes by TLS.
    pub tls: Option<Connector>,
    pub tally: Arc<Tally>,
    /// The first ledger that a Hello told; 0 before.
    pub ledger: Arc<AtomicU64>,
    /// How many sessions are good.
    pub good: Arc<AtomicUsize>,
    /// The map of partitions.
    pub heard: Arc<Heard>,
}

/// Who must answer.
#[derive(Clone)]
pub(crate) enum Expected {
    /// Any node of the client's ledger: this is the address that the caller gave.
    Anyone,
    /// The node whose shard map names this port. Where another answers, the map may be out of date: it is asked for again.
    Node {
        /// Who.
        id: NodeId,
        /// What the caller called the node whose shard it is: its certificate is for that name.
        address: Address,
        /// Makes the connection that told the map anew.
        ask_again: Arc<Notify>,
    },
}

/// What a reply says as the answer to a client's first Hello, and the map of partitions in it: for [`crate::fuzzed`].
pub(crate) fn greeted(common: &Common, address: &Address, reply: &RawReply) -> Result<ShardMap, Error> {
    dial::greeted(&Shared::new(address.clone(), Expected::Anyone, common), reply, None)
}

/// What a connection's sessions and its supervisor share. The state is not among it: that holds a session, and the two would keep
/// each other for ever.
struct Shared {
    address: Address,
    settings: Arc<Settings>,
    tls: Option<Connector>,
    tally: Arc<Tally>,
    good: Arc<AtomicUsize>,
    ledger: Arc<AtomicU64>,
    heard: Arc<Heard>,
    expected: Expected,
    /// Asks for the session to be made anew.
    renewal: Arc<Notify>,
    /// Asks for the next attempt to connect, instead of after its pause.
    wanted: Notify,
}

impl Shared {
    fn new(address: Address, expected: Expected, common: &Common) -> Shared {
        let Common { settings, tls, tally, ledger, good, heard } = common.clone();
        Shared {
            address,
            settings,
            tls,
            tally,
            good,
            ledger,
            heard,
            expected,
            renewal: Arc::new(Notify::new()),
            wanted: Notify::new(),
        }
    }

    /// The node's address, as the caller gave it.
    fn node(&self) -> &Address {
        match &self.expected {
            Expected::Node { address, .. } => address,
            Expected::Anyone => &self.address,
        }
    }

    /// Refuses an answer to Hello of another node, or of another ledger than the first.
    fn check_identity(&self, map: &ShardMap) -> Result<(), Error> {
        let LedgerId(got) = map.identity.ledger;
        let known = match got {
            0 => Ok(0),
            got => self.ledger.compare_exchange(0, got, Relaxed, Relaxed),
        };
        if let Err(expected) = known
            && expected != got
        {
            let (expected, got) = (LedgerId(expected), LedgerId(got));
            return Err(Error::OtherLedger { address: self.address.clone(), expected, got });
        }
        let got = map.identity.node;
        match &self.expected {
            Expected::Node { id, ask_again, .. } if *id != got && id.0 != 0 && got.0 != 0 => {
                ask_again.notify_one();
                Err(Error::OtherNode { address: self.address.clone(), expected: *id, got })
            }
            Expected::Node { .. } | Expected::Anyone => Ok(()),
        }
    }
}

/// A connection that is made again whenever it ends. Dropping it ends it for good.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    state: Arc<watch::Sender<State>>,
    supervisor: AbortHandle,
}

impl Connection {
    /// Begins to connect. Must be called within a tokio runtime.
    pub fn open(address: Address, expected: Expected, common: &Common) -> Arc<Connection> {
        let shared = Arc::new(Shared::new(address, expected, common));
        let state = Arc::new(watch::Sender::new(State::Connecting));
        let link = link::Link { shared: Arc::clone(&shared), state: Arc::clone(&state) };
        let supervisor = tokio::spawn(link.supervise()).abort_handle();
        Arc::new(Connection { shared, state, supervisor })
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Follows its state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// What makes it connect anew.
    pub fn renewal(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.renewal)
    }

    /// Somebody needs it, or has said that there is a node: it is tried soon where it is down.
    pub fn want(&self) {
        if self.reach() == Reach::Down {
            self.shared.wanted.notify_one();
        }
    }

    /// Who answers; `None` where nobody does.
    pub fn node(&self) -> Option<NodeId> {
        self.state.borrow().map().map(|map| map.identity.node)
    }

    /// Counts it among a node's connections.
    pub fn count(&self, pool: &mut NodePool) {
        pool.connections += 1;
        let State::Up(session) = &*self.state.borrow() else { return };
        match session.standing() {
            Standing::Good => pool.good += 1,
            Standing::Stalled => pool.silent += 1,
            Standing::Leaving | Standing::Over => {}
        }
        let (in_flight, queued_bytes) = session.load();
        pool.in_flight += in_flight;
        pool.queued_bytes += queued_bytes;
    }

    /// How it can be asked.
    pub fn reach(&self) -> Reach {
        match &*self.state.borrow() {
            State::Up(session) if session.standing() == Standing::Good => Reach::Good,
            State::Up(_) => Reach::Up,
            state if state.is_refused() => Reach::Refused,
            State::Down(_) | State::Connecting => Reach::Down,
        }
    }

    /// Whether it can be asked now.
    pub fn is_up(&self) -> bool {
        self.reach() >= Reach::Up
    }

    /// Whether it can be asked now and is heard.
    pub fn is_good(&self) -> bool {
        self.reach() == Reach::Good
    }

    /// Waits for the end of the first attempt to connect, or for the state after it.
    pub async fn settled(&self) -> Result<Arc<ShardMap>, Error> {
        let mut state = self.state();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match &*settled.expect("the sender lives in `self`") {
            State::Up(session) => Ok(Arc::clone(&session.map)),
            State::Down(error) => Err(error.clone()),
            State::Connecting => unreachable!("waited for another state"),
        }
    }

    /// Waits until it answers.
    pub async fn up(&self) {
        let mut state = self.state();
        let up = state.wait_for(|state| matches!(state, State::Up(_))).await;
        up.expect("the sender lives in `self`");
    }

    /// Waits until it is.
    pub async fn refused(&self) {
        let mut state = self.state();
        let refused = state.wait_for(State::is_refused).await;
        refused.expect("the sender lives in `self`");
    }

    /// Asks who holds which partition, in the same round trip as any other question; of who stands still no longer than of whom
    /// others are asked instead.
    pub async fn learn(&self) {
        let body = dial::hello_body(&self.shared);
        let request = Request { opcode: Opcode::Hello, user_id: 0, freshness: Freshness::NONE, body: &body };
        if let Ok(Ok(reply)) = timeout(self.shared.settings.stall_after, self.call(&request)).await {
            // A node that cannot say it is asked again when it is next in the way.
            let _ = dial::note_map(&self.shared, &reply);
        }
    }

    /// Asks, and waits for the reply.
    pub async fn call(&self, request: &Request<'_>) -> Result<RawReply, Error> {
        let session = match &*self.state.borrow() {
            State::Up(session) => Ok(Arc::clone(session)),
            State::Down(error) => Err(error.clone()),
            State::Connecting => Err(self.shared.disconnected(Disconnect::Connecting)),
        };
        match session {
            Ok(session) => session.call(request).await,
            Err(error) => {
                // A caller that asks again in a loop must let whoever connects have its turn.
                yield_now().await;
                Err(error)
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}
