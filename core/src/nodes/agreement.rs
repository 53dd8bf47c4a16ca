//! The map that the nodes agree on, and its epoch.
//!
//! An epoch is the time of a change, and above every epoch that was known of by then: it is raised by whoever finds that the map says
//! something else than it did, or than another node's of that epoch does; and now and then where nothing has changed. As views that
//! meet become the same, so do their maps. By the time it is also above those that nobody is left to tell of: of a node that told its
//! callers alone, and died, and of a group that was stopped as a whole. Where a clock is ahead, the others' epochs follow.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use florin_schema::{NodeId, NodeMap};

use super::plan::{Plan, Topic};
use super::view::{Report, View};
use crate::limits::{HOLDERS_MAX, MAP_STANDS_US};

/// See the module.
#[derive(Debug)]
pub struct Agreement {
    topic: Topic,
    view: View,
    map: Arc<NodeMap>,
    plan: Plan,
    /// Whether something was heard of every member of the group: before, a map would lack what the others know.
    is_complete: bool,
}

impl Agreement {
    /// Of a node that knows of nobody yet.
    ///
    /// # Panics
    /// Where the topic has too many standbys.
    pub fn new(topic: Topic) -> Agreement {
        assert!(topic.standbys < HOLDERS_MAX, "a map names an owner and a few standbys");
        let view = View::default();
        let plan = Plan::of(&topic, &view);
        let map = Arc::new(plan.map.clone());
        Agreement { topic, view, map, plan, is_complete: false }
    }

    /// What is divided.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// What is known: what other nodes are told, with the map.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What callers are told; `None` before something was heard of every member of the group, or somebody was met who had.
    pub fn map(&self) -> Option<&Arc<NodeMap>> {
        self.is_complete.then_some(&self.map)
    }

    /// What follows from what is known.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes in what a node says of itself: this one, whenever that changes. `now_us` is the time, µs since 1970 UTC.
    pub fn hear(&mut self, report: Arc<Report>, now_us: u64) {
        let mut view = self.view.clone();
        view.hear(report);
        self.learn(view, None, now_us);
    }

    /// Takes in what another node knows, and the map that it tells.
    pub fn meet(&mut self, other: &View, map: Option<&NodeMap>, now_us: u64) {
        let mut view = self.view.clone();
        view.merge(other);
        // Whoever has a map has heard of everybody, and now this one has.
        self.is_complete |= map.is_some();
        self.learn(view, map, now_us);
    }

    /// As [`View::describe`]. `is_complete`: something was heard of all members of the group.
    pub fn describe(&mut self, there: &BTreeSet<NodeId>, before: &View, is_complete: bool, now_us: u64) {
        let mut view = self.view.clone();
        view.describe(there, before);
        self.is_complete |= is_complete;
        self.learn(view, None, now_us);
    }

    fn learn(&mut self, view: View, heard: Option<&NodeMap>, now_us: u64) {
        if view != self.view {
            self.plan = Plan::of(&self.topic, &view);
            self.view = view;
        }
        let known = [Some(&*self.map), heard].into_iter().flatten();
        let last = known.max_by_key(|map| (map.epoch, !map.says_as(&self.plan.map))).expect("its own");
        let is_new = !last.says_as(&self.plan.map);
        let epoch = match is_new || now_us.saturating_sub(last.epoch) > MAP_STANDS_US {
            true => last.epoch.saturating_add(1).max(now_us),
            false => last.epoch,
        };
        if epoch != self.map.epoch {
            self.map = Arc::new(self.plan.map.at(epoch));
        }
    }
}
