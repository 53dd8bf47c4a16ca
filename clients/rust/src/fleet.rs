//! The nodes of a client: which of them a request is asked of.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use florin_schema::NodeId;
use florin_schema::ids::mix;
use futures_util::future::{join_all, select, select_all};

use crate::builder::{Backoff, Settings};
use crate::connection::{Common, Connection};
use crate::counters::NodePool;
use crate::hedge::Hedging;
use crate::seen::Seen;
use crate::tls::Connector;
use crate::topology::{Route, Topology};
use crate::{Address, Error};

/// A set of nodes, by their places.
pub(crate) type Nodes = u64;

/// The most addresses that a client takes.
pub(crate) const NODES_MAX: usize = Nodes::BITS as usize;

/// How long to wait before nodes that could not answer are asked again.
const ASK_AGAIN: Backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(250) };

/// One address, and what is behind it.
struct Node {
    address: Address,
    salt: u64,
    topology: Arc<Topology>,
}

/// Whom a request is asked of.
pub(crate) struct Choice {
    /// The set that holds nobody else.
    pub node: Nodes,
    pub connection: Arc<Connection>,
    /// Who answered the address's last Hello; [`NodeId`]'s default where it has told no id.
    pub id: NodeId,
}

impl Choice {
    /// The node's, in the order given.
    pub fn place(&self) -> usize {
        self.node.trailing_zeros() as usize
    }
}

/// Every node that a client was given.
pub(crate) struct Fleet {
    common: Common,
    nodes: Vec<Node>,
    /// What has been shown by any of them.
    pub seen: Seen,
    /// Where second requests are sent.
    pub hedging: Option<Hedging>,
}

impl Fleet {
    /// Connects to every address; one that answers is enough.
    pub async fn open(
        addresses: &[Address],
        settings: Settings,
        tls: Option<Connector>,
    ) -> Result<Fleet, Error> {
        let hedging = settings.hedge.map(Hedging::new);
        let common = Common {
            settings: Arc::new(settings),
            tls,
            tally: Arc::default(),
            ledger: Arc::default(),
            good: Arc::default(),
        };
        let node = |address: &Address| {
            // The same in every process, so that all ask the same node for a user.
            let salt = address.to_string().bytes().fold(0, |salt, byte| mix(salt ^ u64::from(byte)));
            Node { address: address.clone(), salt, topology: Topology::open(address, &common) }
        };
        let nodes: Vec<Node> = addresses.iter().map(node).collect();
        let settled = join_all(nodes.iter().map(|node| node.topology.settled())).await;
        let mut failures = settled.into_iter().filter_map(Result::err).collect::<Vec<Error>>();
        if failures.len() == nodes.len() {
            return Err(failures.swap_remove(0));
        }
        Ok(Fleet { common, nodes, seen: Seen::default(), hedging })
    }

    pub fn common(&self) -> &Common {
        &self.common
    }

    /// As the caller gave it.
    pub fn address(&self, place: usize) -> &Address {
        &self.nodes[place].address
    }

    /// How the connections stand, node by node in the order given.
    pub fn pools(&self) -> Vec<NodePool> {
        self.nodes.iter().map(|node| node.topology.pool(node.address.clone())).collect()
    }

    /// Whether there is more than one node.
    pub fn is_many(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The first node, in the order given, that has told its shard map; the first where none has.
    pub fn first(&self) -> &Topology {
        let known = self.nodes.iter().find(|node| node.topology.map().shards > 0);
        &known.unwrap_or(&self.nodes[0]).topology
    }

    /// Whom the request is asked of, `refused` excepted: of those that are heard, or else up, the one that stands first
    /// for this user, for every client alike. While nobody has refused and nobody is up, one that is not, which says why.
    pub fn pick(&self, route: Route, refused: Nodes) -> Option<Choice> {
        if !self.is_many() {
            return (refused == 0).then(|| self.choice(0, route));
        }
        let best = |fits: fn(&Connection) -> bool| {
            let open = (0..self.nodes.len()).filter(|&place| refused & (1 << place) == 0);
            let choices = open.map(|place| (self.score(place, route), self.choice(place, route)));
            let fitting = choices.filter(|(_, choice)| fits(&choice.connection));
            fitting.max_by_key(|&(score, _)| score).map(|(_, choice)| choice)
        };
        let anyone = || best(|connection| !connection.is_refused()).or_else(|| best(|_| true));
        let found = best(Connection::is_good).or_else(|| best(Connection::is_up));
        if refused == 0 { found.or_else(anyone) } else { found }
    }

    /// Whether somebody else than `refused` is heard.
    pub fn has_other(&self, route: Route, refused: Nodes) -> bool {
        self.is_many() && self.pick(route, refused).is_some_and(|choice| choice.connection.is_good())
    }

    /// Whom a second request is asked of while `first` is unanswered: another node that is heard, else the same over another
    /// connection.
    pub fn second(&self, route: Route, first: &Choice, refused: Nodes) -> Option<Choice> {
        let others = refused | first.node;
        let other = self.is_many().then(|| self.pick(route, others)).flatten();
        other.filter(|choice| choice.connection.is_good()).or_else(|| {
            let connection = self.nodes[first.place()].topology.other(route, &first.connection)?;
            Some(Choice { node: first.node, connection, id: first.id })
        })
    }

    /// How users are spread over nodes: by rendezvous, so that a node's users go to all others when it is gone.
    fn score(&self, place: usize, route: Route) -> u64 {
        let user = match route {
            Route::Owner(user_id) => user_id.get(),
            Route::Any => 0,
        };
        mix(user ^ self.nodes[place].salt)
    }

    fn choice(&self, place: usize, route: Route) -> Choice {
        let topology = &self.nodes[place].topology;
        // Of a single node nothing is kept, so its id does not matter.
        let id = if self.is_many() { topology.map().identity.node } else { NodeId::default() };
        Choice { node: 1 << place, connection: topology.pick(route), id }
    }

    /// How long to wait before nodes that could not answer are asked again.
    pub fn pause(rounds: u32) -> Duration {
        ASK_AGAIN.pause(rounds, &mut rand::rng())
    }

    /// Waits until a connection that may take the request is up, or none will be.
    pub async fn up(&self, route: Route) {
        let up = select_all(self.nodes.iter().map(|node| Box::pin(node.topology.up(route))));
        let refused = join_all(self.nodes.iter().map(|node| node.topology.refused()));
        select(up, pin!(refused)).await;
    }
}
