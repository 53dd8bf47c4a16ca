//! The map that the nodes agree on, and its epoch.
//!
//! An epoch is the time of a change, and above every epoch that was known of by then: it is raised by whoever finds that the map says
//! something else than it did, or than another node's of that epoch does; and now and then where nothing has changed. As views that
//! meet become the same, so do their maps. By the time it is also above those that nobody is left to tell of: of a node that told its
//! callers alone, and died, and of a group that was stopped as a whole. Where a clock is ahead, the others' epochs follow.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{NodeId, NodeMap};

use super::plan::{Plan, Topic};
use super::planted::Planted;
use super::view::{Report, View, Word};
use crate::limits::{HOLDERS_MAX, MAP_STANDS_US};

/// Which map a node tells callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Of two that say different things the later has the higher one.
    pub epoch: u64,
    /// What it says, as a number ([`NodeMap::digest`]).
    pub digest: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Agreement {
    topic: Topic,
    view: View,
    map: Arc<NodeMap>,
    plan: Plan,
    /// The partitions that it looked at, until [`Agreement::take_changed`]; some twice.
    changed: Vec<u32>,
    /// Whether others are there than when it was asked last.
    are_nodes_changed: bool,
    /// Whether the plan is not of this view.
    is_stale: bool,
    /// What the map says.
    digest: u64,
    /// Of the maps that others tell those of the highest epoch, where that is not below the map's: what was not settled yet.
    heard: Vec<Mark>,
    /// Whether something was heard of every member of the group: before, a map would lack what the others know.
    is_complete: bool,
    planted: Option<Planted>,
}

impl Agreement {
    /// Of a node that knows of nobody yet.
    ///
    /// # Panics
    /// Where the topic has too many standbys.
    pub fn new(topic: Topic) -> Agreement {
        assert!(topic.standbys < HOLDERS_MAX, "a map names an owner and a few standbys");
        let view = View::default();
        let plan = Plan::new(&topic);
        let map = Arc::new(plan.map.clone());
        Agreement {
            topic,
            view,
            map,
            digest: plan.digest,
            plan,
            changed: Vec::new(),
            are_nodes_changed: false,
            is_stale: false,
            heard: Vec::new(),
            is_complete: false,
            planted: None,
        }
    }

    /// With a defect, for the simulation.
    pub(super) fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
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
        (self.is_complete || Planted::TellsTooEarly.is(self.planted)).then_some(&self.map)
    }

    /// Which map that is.
    pub fn mark(&self) -> Option<Mark> {
        self.map().map(|map| Mark { epoch: map.epoch, digest: self.digest })
    }

    /// What follows from what was known when it was settled last.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Of which partitions the plan may say something else than when this was asked last; some twice.
    pub fn take_changed(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.changed)
    }

    /// Whether others are there by the plan than when this was asked last.
    pub fn take_nodes_changed(&mut self) -> bool {
        core::mem::take(&mut self.are_nodes_changed)
    }

    /// Takes in what a node says of itself: this one, whenever that changes.
    pub fn hear(&mut self, report: Arc<Report>) {
        self.is_stale |= self.view.hear([(report, false)]);
    }

    /// Takes in what another node knows, and which map it tells. `teller`: its id, where it is in the group.
    pub fn meet(&mut self, teller: Option<NodeId>, words: impl IntoIterator<Item = Word>, map: Option<Mark>) {
        self.is_stale |= match teller {
            Some(teller) => self.view.hear_from(teller, words),
            None => self.view.hear(words),
        };
        let Some(mark) = map else { return };
        // Whoever has a map has heard of everybody, and now this one has.
        self.is_complete = true;
        let own = Mark { epoch: self.map.epoch, digest: self.digest };
        let highest = self.heard.first().map_or(own.epoch, |heard| heard.epoch);
        if mark.epoch > highest {
            self.heard.clear();
        }
        if mark.epoch >= highest && mark != own && !self.heard.contains(&mark) {
            self.heard.push(mark);
        }
    }

    /// As [`View::describe`]. `is_complete`: something was heard of all members of the group.
    pub fn describe(&mut self, there: &BTreeSet<NodeId>, before: &View, is_complete: bool) {
        if !Planted::BuriesNobody.is(self.planted) {
            self.is_stale |= self.view.describe(there, before);
        }
        self.is_complete |= is_complete;
    }

    /// Draws the conclusions from all that was taken in. `now_us` is the time, µs since 1970 UTC.
    pub fn settle(&mut self, now_us: u64) {
        if core::mem::take(&mut self.is_stale) {
            let (changed, are_nodes_changed) = self.plan.update(&self.topic, &self.view, self.planted);
            self.changed.extend(changed);
            self.are_nodes_changed |= are_nodes_changed;
        }
        let heard = core::mem::take(&mut self.heard);
        let highest = heard.first().map_or(self.map.epoch, |heard| heard.epoch);
        let own = (self.map.epoch == highest).then_some(self.digest);
        let is_new =
            heard.iter().map(|heard| heard.digest).chain(own).any(|digest| digest != self.plan.digest);
        if Planted::KeepsEpoch.is(self.planted) && self.map.epoch > 0 {
            self.tell(highest);
            return;
        }
        let epoch = match is_new || now_us.saturating_sub(highest) > MAP_STANDS_US {
            true => highest.saturating_add(1).max(now_us),
            false => highest,
        };
        if epoch != self.map.epoch {
            self.tell(epoch);
        }
    }

    fn tell(&mut self, epoch: u64) {
        (self.map, self.digest) = (Arc::new(self.plan.map.at(epoch)), self.plan.digest);
    }
}
