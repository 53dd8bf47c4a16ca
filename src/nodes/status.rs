//! How a node stands among the others, for whoever looks: the readiness check, the metrics, the console.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use florin_schema::{NodeId, NodeMap};
use tokio::sync::watch;

use crate::node::Obstacle;
use crate::shard::NodesText;

/// What is known at the moment.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Whether the group's description names this node.
    pub is_member: bool,
    /// Members that nothing was heard of, each as `host:port`.
    pub unheard: Vec<String>,
    /// Partitions that it is to have.
    pub kept: usize,
    /// Those of them that it loads.
    pub loading: usize,
    /// Each partition that it follows, and whether it has all of it.
    pub held: BTreeMap<u32, bool>,
    /// Of each partition that it follows the offsets to its end, where they are known.
    pub lags: BTreeMap<u32, u64>,
    /// Why the group says nothing, where it does not.
    pub trouble: Option<String>,
    /// The map that callers are told, once there is one.
    pub map: Option<Arc<NodeMap>>,
    /// Whether it had everything that it follows once: then it is ready, and stays so while it loads more.
    pub has_been_ready: bool,
    /// What whoever asks is told of the nodes; none = nothing yet.
    pub told: Option<Arc<NodesText>>,
}

impl Standing {
    /// Each partition that the node with this id follows, and what it is to it: `owner`, `standby` or `loading`.
    pub fn roles(&self, id: NodeId) -> impl Iterator<Item = (u32, &'static str)> + '_ {
        let owns = move |partition| self.map.as_ref().is_some_and(|map| map.owner_id(partition) == Some(id));
        self.held.iter().map(move |(&partition, &is_ready)| match is_ready {
            false => (partition, "loading"),
            true if owns(partition) => (partition, "owner"),
            true => (partition, "standby"),
        })
    }
}

/// How far its leaving is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Leaving {
    /// It is there.
    #[default]
    No,
    /// It was told to.
    Wanted,
    /// The others have all that it has.
    Free,
}

/// Shared between the thread that keeps the map and the control plane.
#[derive(Debug)]
pub struct NodesStatus {
    /// The group's name.
    pub group: String,
    /// How many nodes are to follow each partition beside its owner.
    pub standbys: usize,
    /// Which node this is.
    pub id: NodeId,
    standing: Mutex<Standing>,
    leaving: watch::Sender<Leaving>,
    failed: watch::Sender<Option<String>>,
}

impl NodesStatus {
    /// Of a node that nobody has heard of.
    pub fn new(group: String, standbys: usize, id: NodeId) -> NodesStatus {
        let (leaving, failed) = (watch::Sender::default(), watch::Sender::default());
        NodesStatus { group, standbys, id, standing: Mutex::default(), leaving, failed }
    }

    /// What is known at the moment.
    pub fn standing(&self) -> Standing {
        self.lock().clone()
    }

    /// Changes what is known.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))]
    pub(super) fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the node is not to be sent requests yet. Once it has had all that it follows nothing is, for what it loads then others have.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let standing = self.lock();
        let mut found = Vec::new();
        if standing.has_been_ready {
            return found;
        }
        if !standing.is_member {
            found.push(Obstacle::NotInGroup { group: self.group.clone(), trouble: standing.trouble.clone() });
        } else if standing.map.is_none() {
            found.push(Obstacle::UnheardNodes { nodes: standing.unheard.clone() });
        }
        if standing.loading > 0 {
            found.push(Obstacle::LoadingPartitions { loading: standing.loading, of: standing.kept });
        }
        found
    }

    /// Whether it was told to leave.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))]
    pub(super) fn is_to_leave(&self) -> bool {
        *self.leaving.borrow() != Leaving::No
    }

    /// The others have what it has.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))]
    pub(super) fn let_go(&self) {
        self.leaving.send_replace(Leaving::Free);
    }

    /// It is out of its group for good.
    #[cfg_attr(not(feature = "kafka"), allow(dead_code))]
    pub(super) fn fail(&self, reason: String) {
        self.failed.send_replace(Some(reason));
    }

    /// The node is about to end: others are to have what it has. Resolves once they do.
    pub async fn leave(&self) {
        self.leaving.send_if_modified(|leaving| {
            let is_news = *leaving == Leaving::No;
            if is_news {
                *leaving = Leaving::Wanted;
            }
            is_news
        });
        // The sender is here.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving == Leaving::Free).await;
    }

    /// Resolves once the node is in its group no more, and will not be again, with the reason.
    pub async fn out_of_group(&self) -> String {
        let mut failed = self.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.expect("the sender is here")
    }
}
