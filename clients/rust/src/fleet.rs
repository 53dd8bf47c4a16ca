//! The nodes of a client: which of them a request is asked of.

use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use florin_schema::{NodeId, NodeMap, UserId};
use futures_util::future::{join_all, select, select_all};
use tokio::time::timeout;

use crate::builder::{Backoff, Settings};
use crate::connection::{Common, Connection};
use crate::counters::NodePool;
use crate::hedge::Hedging;
use crate::limits::WANTED_AFTER;
use crate::routes::{self, Asked, Reach, Roster, Tour};
use crate::seen::Seen;
use crate::tls::Connector;
use crate::topology::{Route, Topology};
use crate::{Address, Error};

/// How long to wait before nodes that could not answer are asked again.
const ASK_AGAIN: Backoff = Backoff { first: Duration::from_millis(5), most: Duration::from_millis(250) };

/// Whom a request is asked of.
pub(crate) struct Choice {
    /// The node's place.
    pub place: usize,
    pub connection: Arc<Connection>,
    /// Who answered the address's last Hello; [`NodeId`]'s default where it has told no id.
    pub id: NodeId,
    /// Whether it holds the user's partition as its owner, as far as that is known.
    pub is_first: bool,
}

/// The nodes that are known, and what is behind each.
#[derive(Clone)]
struct Known {
    roster: Roster,
    nodes: Vec<Option<Arc<Topology>>>,
}

impl Known {
    /// How the node at a place can be asked.
    fn reach(&self, place: usize, route: Route) -> Option<Reach> {
        Some(self.nodes[place].as_ref()?.reach(route))
    }

    fn there(&self) -> impl Iterator<Item = &Arc<Topology>> {
        self.nodes.iter().flatten()
    }
}

/// Every node of a client.
pub(crate) struct Fleet {
    common: Common,
    known: RwLock<Arc<Known>>,
    /// What has been shown by any of them.
    pub seen: Seen,
    /// Where second requests are sent.
    pub hedging: Option<Hedging>,
    /// When somebody was last asked for the map.
    asked: Mutex<Asked>,
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
            heard: Arc::default(),
        };
        let nodes = addresses.iter().map(|address| Some(Topology::open(address, &common))).collect();
        let known = Known { roster: Roster::new(addresses), nodes };
        let settled = join_all(known.there().map(|node| node.settled())).await;
        let mut failures = settled.into_iter().filter_map(Result::err).collect::<Vec<Error>>();
        if failures.len() == addresses.len() {
            return Err(failures.swap_remove(0));
        }
        let (known, asked) = (RwLock::new(Arc::new(known)), Mutex::default());
        let fleet = Fleet { common, known, seen: Seen::default(), hedging, asked };
        // Those that a map has told of: one that is not there is found later.
        let known = fleet.known();
        join_all(known.there().map(|node| node.settled())).await;
        Ok(fleet)
    }

    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The nodes as the latest map has them.
    fn known(&self) -> Arc<Known> {
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        match self.common.heard.later_than(known.roster.epoch()) {
            Some(map) => self.learn(map),
            None => known,
        }
    }

    /// Begins to connect to nodes that the map names first, and lets go of those that it names no more.
    fn learn(&self, map: Arc<NodeMap>) -> Arc<Known> {
        let mut held = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = Known::clone(&held);
        let id_at =
            |place: usize| held.nodes[place].as_ref().map_or(NodeId(0), |node| node.map().identity.node);
        if known.roster.learn(map, self.common.tls.is_some(), id_at) {
            known.nodes.resize(known.roster.addresses().len(), None);
            for (node, address) in known.nodes.iter_mut().zip(known.roster.addresses()) {
                if node.as_ref().map(|node| node.address()) != address.as_ref() {
                    *node = address.as_ref().map(|address| Topology::open(address, &self.common));
                }
            }
            *held = Arc::new(known);
            // A node that it names may have come back.
            held.there().for_each(|node| node.want(Route::Any));
        }
        Arc::clone(&held)
    }

    /// The epoch of the map that is known; 0 where there is none.
    pub fn epoch(&self) -> u64 {
        self.known().roster.epoch()
    }

    /// Whether the map of `epoch` is news.
    pub fn lacks(&self, epoch: u64) -> bool {
        epoch > self.epoch()
    }

    /// Whether it is time to ask for the map.
    pub fn wants_news(&self, is_well: bool) -> bool {
        if self.epoch() == 0 {
            return false;
        }
        let good = self.common.good.load(Relaxed);
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).is_due(Instant::now(), good, is_well)
    }

    /// The address of the node at a place, as the caller or a map gave it.
    pub fn address(&self, place: usize) -> Option<Address> {
        self.known().roster.addresses().get(place).cloned().flatten()
    }

    /// How the connections stand, node by node: those that were given in their order, then those that a map has told of.
    pub fn pools(&self) -> Vec<NodePool> {
        self.known().there().map(|node| node.pool()).collect()
    }

    /// Whether there is more than one node.
    pub fn is_many(&self) -> bool {
        self.known().nodes.len() > 1
    }

    /// The first node, in the order given, that has told its shard map; the first where none has.
    pub fn first(&self) -> Arc<Topology> {
        let known = self.known();
        let first = known.there().find(|node| node.map().shards > 0).or(known.there().next());
        Arc::clone(first.expect("a client is given an address"))
    }

    /// A number for each user, the same for those who are asked of the same nodes and the same shard.
    pub fn groups(&self) -> impl Fn(UserId) -> u64 {
        let known = self.known();
        let shards: Vec<u16> =
            known.nodes.iter().map(|node| node.as_ref().map_or(0, |node| node.routed_shards())).collect();
        let first = self.first().routed_shards();
        move |user| {
            let order = known.roster.order(Some(user));
            let holders = order.holders();
            let shards = holders[0].map_or(first, |owner| shards[owner]);
            let shard = if shards == 0 { 0 } else { user.shard(shards).0 };
            holders.iter().fold(u64::from(shard), |group, holder| {
                group << 12 | holder.map_or(0xFFF, |place| place as u64)
            })
        }
    }

    /// Whom the request is asked of, by a call that has come so far.
    pub fn pick(&self, route: Route, tour: &Tour) -> Option<Choice> {
        self.choose(route, tour, None)
    }

    /// Whether somebody else than `choice` is heard.
    pub fn has_other(&self, route: Route, tour: &Tour, choice: &Choice) -> bool {
        let other = self.choose(route, tour, Some(choice.place));
        other.is_some_and(|other| other.connection.is_good())
    }

    /// Has those tried soon who could answer the request and are not there: those who hold the user's partition, or else anybody. Of a
    /// single node nothing says that it has come back.
    pub fn want(&self, route: Route) {
        let known = self.known();
        if known.nodes.len() == 1 {
            return;
        }
        let order = known.roster.order(route.user());
        let mut holders = order.holders().iter().flatten().peekable();
        match holders.peek() {
            None => known.there().for_each(|node| node.want(route)),
            Some(_) => {
                holders.filter_map(|&place| known.nodes[place].as_ref()).for_each(|node| node.want(route))
            }
        }
    }

    /// Somebody else than `choice` who is heard, whether or not it has the user: it may know who has by now.
    pub fn witness(&self, route: Route, tour: &Tour, choice: &Choice) -> Option<Choice> {
        let mut anybody = *tour;
        anybody.astray();
        let other = self.choose(route, &anybody, Some(choice.place));
        other.filter(|other| other.connection.is_good())
    }

    /// Whom a second request is asked of while `first` is unanswered: another node that is heard, else the same over another
    /// connection.
    pub fn second(&self, route: Route, first: &Choice, tour: &Tour) -> Option<Choice> {
        let other = self.choose(route, tour, Some(first.place));
        other.filter(|choice| choice.connection.is_good()).or_else(|| {
            let known = self.known();
            let connection = known.nodes[first.place].as_ref()?.other(route, &first.connection)?;
            Some(Choice { connection, ..*first })
        })
    }

    fn choose(&self, route: Route, tour: &Tour, beside: Option<usize>) -> Option<Choice> {
        let known = self.known();
        let order = known.roster.order(route.user());
        let place = match known.nodes.len() {
            1 => (beside.is_none() && tour.is_fresh()).then_some(0),
            _ => routes::pick(|place| known.reach(place, route), &order, tour, beside),
        }?;
        let node = known.nodes[place].as_ref()?;
        // Of a single node nothing is kept, so its id does not matter.
        let id = if known.nodes.len() > 1 { node.map().identity.node } else { NodeId::default() };
        Some(Choice { place, connection: node.pick(route), id, is_first: order.is_first(place) })
    }

    /// How long to wait before nodes that could not answer are asked again.
    pub fn pause(rounds: u32) -> Duration {
        ASK_AGAIN.pause(rounds, &mut rand::rng())
    }

    /// Waits until a connection that may take the request is up, or none will be.
    pub async fn up(&self, route: Route) {
        loop {
            // Whoever comes while nobody is there is found at once, and by a map that is heard meanwhile.
            self.want(route);
            if timeout(WANTED_AFTER, self.is_up(route)).await.is_ok() {
                return;
            }
        }
    }

    async fn is_up(&self, route: Route) {
        let known = self.known();
        let up = select_all(known.there().map(|node| Box::pin(node.up(route))));
        let refused = join_all(known.there().map(|node| node.refused()));
        select(up, pin!(refused)).await;
    }
}
