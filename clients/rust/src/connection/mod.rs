//! One connection: many callers' requests, tied to their replies by request id.
//!
//! ```text
//! callers ──encode──▶ output ──▶ writer ──one write──▶ server ──▶ reader ──▶ each caller's own channel
//! ```
//!
//! Whoever calls encodes its request into the shared output and wakes the writer. The writer takes all that has gathered
//! while its last write was under way and writes it at once: so the busier a client is, the more requests share a system
//! call and a packet, which is worth more than anything that a server can do.

mod dial;
mod link;
pub(crate) mod read;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

pub(crate) use dial::ShardMap;
use read::RawReply;
use table::Table;

use crate::builder::Settings;
use crate::counters::{Tally, add};
use crate::request::Request;
use crate::{Address, Disconnect, Error};

/// How a connection stands.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// The first attempt is under way.
    Connecting,
    /// It answers; and what its Hello said.
    Up(Arc<ShardMap>),
    /// It will be tried again.
    Down(Error),
}

/// What callers, writer and reader share.
struct Shared {
    address: Address,
    settings: Arc<Settings>,
    tally: Arc<Tally>,
    table: Mutex<Table>,
    /// There is something to write.
    work: Notify,
    /// One permit a request in flight: callers beyond them wait.
    room: Semaphore,
    state: watch::Sender<State>,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under this lock halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is made again whenever it ends. Dropping it ends it for good.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

impl Connection {
    /// Begins to connect. Must be called within a tokio runtime.
    pub fn open(address: Address, settings: Arc<Settings>, tally: Arc<Tally>) -> Arc<Connection> {
        let connecting = Error::Disconnected { address: address.clone(), cause: Disconnect::Connecting };
        let shared = Arc::new(Shared {
            address,
            room: Semaphore::new(settings.in_flight_max),
            settings,
            tally,
            table: Mutex::new(Table::new(connecting)),
            work: Notify::new(),
            state: watch::Sender::new(State::Connecting),
        });
        let supervisor = tokio::spawn(link::supervise(Arc::clone(&shared))).abort_handle();
        Arc::new(Connection { shared, supervisor })
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Follows its state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Whether it answers now.
    pub fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up(_))
    }

    /// Waits for the end of the first attempt to connect, or for the state after it.
    pub async fn settled(&self) -> Result<Arc<ShardMap>, Error> {
        let mut state = self.state();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match &*settled.expect("the sender lives in `shared`") {
            State::Up(map) => Ok(Arc::clone(map)),
            State::Down(error) => Err(error.clone()),
            State::Connecting => unreachable!("waited for another state"),
        }
    }

    /// Waits until it answers.
    pub async fn up(&self) {
        let mut state = self.state();
        let up = state.wait_for(|state| matches!(state, State::Up(_))).await;
        up.expect("the sender lives in `shared`");
    }

    /// Asks, and waits for the reply. Cancel safe: a dropped call's reply is discarded.
    pub async fn call(&self, request: &Request<'_>) -> Result<RawReply, Error> {
        let _permit = self.shared.room.acquire().await.expect("nobody closes the semaphore");
        let (request_id, reply) = self.shared.table().ask(request)?;
        let place = Place { shared: &self.shared, request_id };
        add(&self.shared.tally.requests, 1);
        self.shared.work.notify_one();
        let answer = reply.await.expect("whoever takes a waiter out of the table answers it");
        std::mem::forget(place);
        answer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// A caller's place in the table, given back when it leaves without its reply.
struct Place<'a> {
    shared: &'a Shared,
    request_id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.table().forget(self.request_id);
    }
}
