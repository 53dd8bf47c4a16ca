//! Which connection a request takes.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use florin_schema::{ShardIndex, UserId};
use futures_util::future::{join_all, select, select_all};
use tokio::sync::watch;

use crate::builder::Routing;
use crate::connection::{Common, Connection, Expected, ShardMap, State};
use crate::counters::NodePool;
use crate::routes::Reach;
use crate::{Address, Error};

/// Connections that lead to the same port, taken in turn.
struct Lane {
    connections: Vec<Arc<Connection>>,
    turn: AtomicUsize,
}

impl Lane {
    fn open(address: &Address, expected: &Expected, common: &Common) -> Lane {
        let open = |_| Connection::open(address.clone(), expected.clone(), common);
        Lane {
            connections: (0..common.settings.connections_per_shard).map(open).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The next one in turn that is up and heard, or at least up; the next one in turn where none is.
    fn next(&self) -> &Arc<Connection> {
        self.at(self.turn.fetch_add(1, Relaxed))
    }

    /// The one that it would be.
    fn peek(&self) -> &Arc<Connection> {
        self.at(self.turn.load(Relaxed))
    }

    fn at(&self, turn: usize) -> &Arc<Connection> {
        let count = self.connections.len();
        let in_turn = || (0..count).map(|step| &self.connections[turn.wrapping_add(step) % count]);
        let good = in_turn().find(|connection| connection.is_good());
        let up = || in_turn().find(|connection| connection.is_up());
        good.or_else(up).unwrap_or(&self.connections[turn % count])
    }

    /// One that is heard and leads to the same node as `first`, but another.
    fn other(&self, first: &Arc<Connection>) -> Option<Arc<Connection>> {
        let fits = |connection: &&Arc<Connection>| {
            !Arc::ptr_eq(connection, first) && connection.is_good() && connection.node() == first.node()
        };
        self.connections.iter().find(fits).cloned()
    }

    /// Waits until one of them is up.
    async fn up(&self) {
        select_all(self.connections.iter().map(|connection| Box::pin(connection.up()))).await;
    }

    /// Waits until each of them is refused.
    async fn refused(&self) {
        join_all(self.connections.iter().map(|connection| connection.refused())).await;
    }
}

/// The shards' own ports, as one shard map has them.
struct Shards {
    map: Arc<ShardMap>,
    /// One a shard; none where only the any-shard address is to be used.
    lanes: Vec<Lane>,
}

/// Every connection of a client.
pub(crate) struct Topology {
    common: Common,
    any: Lane,
    shards: RwLock<Arc<Shards>>,
}

/// Where a request should go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// To the shard that owns the user.
    Owner(UserId),
    /// To any.
    Any,
}

impl Route {
    /// The user that it is about.
    pub fn user(self) -> Option<UserId> {
        match self {
            Route::Owner(user_id) => Some(user_id),
            Route::Any => None,
        }
    }
}

impl Topology {
    /// Begins to connect to the address.
    pub fn open(address: &Address, common: &Common) -> Arc<Topology> {
        let any = Lane::open(address, &Expected::Anyone, common);
        let mut follow = any.connections[0].state();
        follow.mark_changed();
        let unknown = Shards { map: Arc::default(), lanes: Vec::new() };
        let shards = RwLock::new(Arc::new(unknown));
        let topology = Arc::new(Topology { common: common.clone(), any, shards });
        tokio::spawn(follow_map(follow, Arc::downgrade(&topology)));
        topology
    }

    /// The node's, as the caller or a map gave it.
    pub fn address(&self) -> &Address {
        self.any.connections[0].address()
    }

    /// Waits until the shard map is known and each shard's port has been tried.
    pub async fn settled(&self) -> Result<(), Error> {
        self.learn(self.any.connections[0].settled().await?);
        self.shards().settled(self.common.settings.routing).await
    }

    /// Makes connections to the shards' ports, where the map is another than the last.
    fn learn(&self, map: Arc<ShardMap>) {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if *shards.map != *map {
            *shards = Arc::new(Shards::open(map, &self.any.connections[0], &self.common));
        }
    }

    /// The node's shard map, as its latest Hello had it; of no shards before the first.
    pub fn map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.shards().map)
    }

    /// Over how many shard ports requests are spread; 0 where they all go to the any-shard address.
    pub fn routed_shards(&self) -> u16 {
        let shards = self.shards();
        if shards.lanes.is_empty() { 0 } else { shards.map.shards }
    }

    fn shards(&self) -> Arc<Shards> {
        Arc::clone(&self.shards.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection that a request takes now: up, if one that may take it is.
    pub fn pick(&self, route: Route) -> Arc<Connection> {
        self.choose(route, Lane::next)
    }

    /// How it can be asked for this.
    pub fn reach(&self, route: Route) -> Reach {
        self.choose(route, Lane::peek).reach()
    }

    /// Has it tried soon where it is down and somebody needs it for this.
    pub fn want(&self, route: Route) {
        self.choose(route, Lane::peek).want();
    }

    fn choose(&self, route: Route, next: fn(&Lane) -> &Arc<Connection>) -> Arc<Connection> {
        let shards = self.shards();
        let Some(lane) = shards.lane(route) else { return Arc::clone(next(&self.any)) };
        let own = next(lane);
        if own.is_good() || self.common.settings.routing != Routing::ShardPorts {
            return Arc::clone(own);
        }
        // Whoever is heard, else whoever can be asked, the owner first. Where neither can be, the address that was given
        // says why.
        let any = next(&self.any);
        let is_better = any.is_good() || !own.is_up();
        Arc::clone(if is_better { any } else { own })
    }

    /// A connection for a second request, while the first is unanswered on another one.
    pub fn other(&self, route: Route, first: &Arc<Connection>) -> Option<Arc<Connection>> {
        let shards = self.shards();
        let routing = self.common.settings.routing;
        let own = shards.lane(route).and_then(|lane| lane.other(first));
        let may_ask_any = shards.lane(route).is_none() || routing != Routing::ShardPortsOnly;
        own.or_else(|| may_ask_any.then(|| self.any.other(first)).flatten())
    }

    /// How the connections stand.
    pub fn pool(&self) -> NodePool {
        let shards = self.shards();
        let mut pool = NodePool {
            address: self.address().clone(),
            shards: shards.map.shards,
            connections: 0,
            good: 0,
            silent: 0,
            in_flight: 0,
            queued_bytes: 0,
        };
        for lane in [&self.any].into_iter().chain(&shards.lanes) {
            lane.connections.iter().for_each(|connection| connection.count(&mut pool));
        }
        pool
    }

    /// Waits until the node refuses the client in a way that no waiting mends.
    pub async fn refused(&self) {
        self.any.refused().await;
    }

    /// Waits until a connection that may take the request is up.
    pub async fn up(&self, route: Route) {
        let shards = self.shards();
        match (shards.lane(route), self.common.settings.routing) {
            (None, _) => self.any.up().await,
            (Some(own), Routing::ShardPorts) => {
                select(pin!(own.up()), pin!(self.any.up())).await;
            }
            (Some(own), Routing::ShardPortsOnly | Routing::AnyPort) => own.up().await,
        }
    }
}

impl Shards {
    /// `told_by` has told the map.
    fn open(map: Arc<ShardMap>, told_by: &Connection, common: &Common) -> Shards {
        let host = map.host.filter(|_| common.settings.routing != Routing::AnyPort);
        let given = told_by.address();
        let expected =
            Expected::Node { id: map.identity.node, address: given.clone(), ask_again: told_by.renewal() };
        let lane = |&port: &u16| {
            host.map(|host| Lane::open(&given.neighbour(SocketAddr::new(host, port)), &expected, common))
        };
        let lanes = map.ports.iter().filter_map(lane).collect();
        Shards { map, lanes }
    }

    /// Waits for the first attempt of every connection; their failures count only where nothing else may be used.
    async fn settled(&self, routing: Routing) -> Result<(), Error> {
        let connections = self.lanes.iter().flat_map(|lane| &lane.connections);
        let outcomes = join_all(connections.map(|connection| connection.settled())).await;
        match routing {
            Routing::ShardPortsOnly => outcomes.into_iter().try_for_each(|outcome| outcome.map(drop)),
            Routing::ShardPorts | Routing::AnyPort => Ok(()),
        }
    }

    fn lane(&self, route: Route) -> Option<&Lane> {
        match route {
            Route::Owner(user_id) if !self.lanes.is_empty() => {
                let ShardIndex(shard) = user_id.shard(self.map.shards);
                self.lanes.get(usize::from(shard))
            }
            Route::Owner(_) | Route::Any => None,
        }
    }
}

/// A node that comes back may have other shards on other ports: then new connections are made, and the old ones end when
/// their last call does.
async fn follow_map(mut state: watch::Receiver<State>, topology: Weak<Topology>) {
    while state.changed().await.is_ok() {
        let Some(map) = state.borrow_and_update().map() else { continue };
        let Some(topology) = topology.upgrade() else { return };
        topology.learn(map);
    }
}
