//! What one node of the group does: it says how it stands, and finds what it is to follow and what callers are told.
//!
//! ```text
//!     group: who is described, where ─▶ describe ┐          ┌─▶ kept: the partitions to follow
//!     others: their news ────────────────▶ hear  ├─▶ turn ──┼─▶ holds, map: what callers are told
//!     ledger: how far each partition is ──▶ turn ┘          └─▶ news: what others are told
//! ```
//!
//! The group names members by their places; which life of a node is at a place, the node says itself. A place of which nothing was
//! heard yet is somebody whose partitions nobody knows: until something is, there is no map.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use florin_schema::{MapNode, NodeId, NodeMap};

use super::agreement::{Agreement, Mark};
use super::by_partition::ByPartition;
use super::plan::Topic;
use super::planted::Planted;
use super::view::{Report, Standing, View, Word};
use crate::limits::{
    ABSENT_SPEAKS_US, ABSENT_UNHEARD_MAX, HEARD_LATELY_US, LEAVE_HEARD_US, LEAVE_UNHEARD_US,
};

/// What a node has of a partition, as callers are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: others have it.
    No,
    /// It is being loaded.
    Loading,
    /// All of it.
    Ready,
}

/// What a node does next that was told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// It stays: it was not told to end, or others do not have yet what it has, or do not know of it.
    Stay,
    /// It leaves its group, so that others are assigned what it has, and stays until they have it.
    LeaveGroup,
    /// Others have claimed all that it has, and were given time to hear of that; or nobody is left who could.
    End,
}

/// Where a node is: what the group's description says of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Its host's name or address; an IPv6 address without brackets.
    pub host: String,
    /// Of its any-shard listener; 0 where it has none without TLS.
    pub port: u16,
    /// Of its listener for TLS; 0 where it has none.
    pub tls_port: u16,
}

impl Place {
    /// A node's.
    pub fn of(node: &MapNode) -> Place {
        let MapNode { host, port, tls_port, .. } = node;
        Place { host: host.clone(), port: *port, tls_port: *tls_port }
    }

    /// What it is ordered by.
    fn parts(&self) -> (&str, u16, u16) {
        (&self.host, self.port, self.tls_port)
    }
}

/// The group's members, and what each is assigned.
pub type Described = BTreeMap<Place, BTreeSet<u32>>;

/// What a node tells another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// Who tells it.
    pub teller: NodeId,
    /// The version of what it knows: asked again, it tells what is new since.
    pub version: u64,
    /// What it knows of nodes, as far as that is new.
    pub words: Vec<Word>,
    /// Which map it tells callers; `None` before it has one.
    pub map: Option<Mark>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Member {
    node: MapNode,
    agreement: Agreement,
    /// Of its first word.
    number: u64,
    /// Since when it is about to end, and since when nothing keeps it.
    leaving_since: Option<u64>,
    needless_since: Option<u64>,
    /// When its turn was last.
    turned_at_us: u64,
    assigned: ByPartition<()>,
    /// Of each partition that is followed, whether it is caught up.
    followed: ByPartition<bool>,
    is_described: bool,
    /// Whether the group was described since others could hear that this one is about to end.
    is_leaving_described: bool,
    /// Who else is in the group, as it was described last.
    others: BTreeSet<Place>,
    peers: BTreeMap<Place, bool>,
    /// Whether others are in the group since the peers were found.
    is_group_new: bool,
    kept: ByPartition<()>,
    /// Whether there was a map when that was found.
    kept_with_map: bool,
    /// What it keeps by the plan.
    planned: BTreeSet<u32>,
    /// Whether what it keeps, or how it stands, may be otherwise than it was found to be.
    is_to_keep: bool,
    is_to_say: bool,
    said: Option<Said>,
    /// Of those that were not described last the number of the last word, and in how many descriptions running it was the last.
    unheard: BTreeMap<NodeId, (u64, u32)>,
    /// When each of the others was asked last of those times that it told something itself.
    told_us: BTreeMap<NodeId, u64>,
    planted: Option<Planted>,
}

#[derive(Clone, Debug)]
struct Said {
    report: Arc<Report>,
    at_us: u64,
    is_relieved: bool,
}

impl Member {
    /// Of a node that knows of nobody. `now_us` is the time, µs since 1970 UTC, here and everywhere.
    ///
    /// # Panics
    /// Where the topic has too many standbys.
    pub fn new(node: MapNode, topic: Topic, now_us: u64) -> Member {
        Member {
            node,
            agreement: Agreement::new(topic),
            number: now_us,
            leaving_since: None,
            needless_since: None,
            turned_at_us: now_us,
            assigned: ByPartition::default(),
            followed: ByPartition::default(),
            is_described: false,
            is_leaving_described: false,
            others: BTreeSet::new(),
            peers: BTreeMap::new(),
            is_group_new: true,
            kept: ByPartition::default(),
            kept_with_map: false,
            planned: BTreeSet::new(),
            is_to_keep: true,
            is_to_say: true,
            said: None,
            unheard: BTreeMap::new(),
            told_us: BTreeMap::new(),
            planted: None,
        }
    }

    /// With a defect, for the simulation.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
        self.agreement.plant(planted);
    }

    /// The node itself.
    pub fn node(&self) -> &MapNode {
        &self.node
    }

    /// What is known of all nodes. Whoever asks the group who is there takes a copy first, for [`Member::describe`].
    pub fn view(&self) -> &View {
        self.agreement.view()
    }

    /// What callers are told; `None` while somebody is in the group of whom nothing was heard.
    pub fn map(&self) -> Option<&Arc<NodeMap>> {
        self.agreement.map()
    }

    /// Which map that is.
    pub fn mark(&self) -> Option<Mark> {
        self.agreement.mark()
    }

    /// What another node is told that has heard all up to a version, 0 for nothing yet.
    pub fn news(&self, since: u64) -> News {
        let words = self.view().since(since).map(|(_, report, is_gone)| (Arc::clone(report), is_gone));
        News {
            teller: self.node.id,
            version: self.view().version(),
            words: words.collect(),
            map: self.mark(),
        }
    }

    /// Takes in what another node told, which was asked for it at `asked_us`.
    pub fn hear(&mut self, news: News, asked_us: u64) {
        let News { teller, words, map, .. } = news;
        let told_us = self.told_us.entry(teller).or_default();
        *told_us = asked_us.max(*told_us);
        let place = words.iter().find(|(report, _)| report.node.id == teller);
        let is_described = place.is_some_and(|(report, _)| self.others.contains(&Place::of(&report.node)));
        self.agreement.meet(is_described.then_some(teller), words, map);
    }

    /// Where the others are that are to be asked for what they know: those in the group, and those that are there without being in it.
    /// False of those in the group that are not known to be there: they are to tell all that they know, for what they have told before
    /// is known to be over.
    pub fn peers(&self) -> &BTreeMap<Place, bool> {
        &self.peers
    }

    /// Takes in who is in the group, which was asked for when `asked` was known. While that is being decided, there is nothing to take
    /// in. A node that is not in it, because it comes or is about to end, is there for as long as it goes on speaking.
    pub fn describe(&mut self, described: &Described, asked: &View) {
        let assigned = described.get(&Place::of(&self.node));
        self.is_described = assigned.is_some();
        if !self.assigned.partitions().eq(assigned.into_iter().flatten().copied()) {
            let before = core::mem::take(&mut self.assigned);
            let before = before.partitions().filter(|_| Planted::KeepsAssignments.is(self.planted));
            self.assigned = before.chain(assigned.into_iter().flatten().copied()).collect();
            self.is_to_keep = true;
        }
        let own = Place::of(&self.node);
        let others = || described.keys().filter(|place| **place != own);
        if !others().eq(&self.others) {
            self.others = others().cloned().collect();
            self.is_group_new = true;
        }
        // One without this node is of a time before it came, or after it went: nothing was heard of the others yet, or nothing is to be.
        if assigned.is_none() && !self.is_leaving() {
            return;
        }
        self.is_leaving_described |= asked.report(self.node.id).is_some_and(|report| report.is_leaving);
        self.listen_to_absent(described, asked);
        self.forget_tellers();
        let is_there = |report: &&Arc<Report>| {
            self.unheard.get(&report.node.id).is_none_or(|&(_, times)| times < ABSENT_UNHEARD_MAX)
        };
        let living = self.view().living();
        let mut there: BTreeSet<NodeId> = living.filter(is_there).map(|report| report.node.id).collect();
        there.insert(self.node.id);
        // Whoever has a map knows of those that have left the group as well: it is waited for. Where nobody has one, nobody has left.
        let has_none = |report: Option<&Arc<Report>>| report.is_some_and(|report| !report.has_map);
        let is_complete = self.map().is_none() && self.said_by_others().all(has_none);
        self.agreement.describe(&there, asked, is_complete);
    }

    /// The last words of the others in the group; `None` of those of whom nothing was heard.
    fn said_by_others(&self) -> impl Iterator<Item = Option<&Arc<Report>>> {
        let mut said: BTreeMap<&Place, Option<&Arc<Report>>> =
            self.others.iter().map(|place| (place, None)).collect();
        for report in self.view().living() {
            if let Some(found) = said.get_mut(&Place::of(&report.node)) {
                *found = Some(report);
            }
        }
        said.into_values()
    }

    /// Whoever is gone has told nothing.
    fn forget_tellers(&mut self) {
        let mut living = self.agreement.view().living().map(|report| report.node.id).peekable();
        self.told_us.retain(|told, _| {
            while living.next_if(|id| id < told).is_some() {}
            living.peek() == Some(told)
        });
    }

    /// Counts for how long nothing new was heard of those that are not described.
    fn listen_to_absent(&mut self, described: &Described, asked: &View) {
        let before = core::mem::take(&mut self.unheard);
        let described: Vec<_> = described.keys().map(Place::parts).collect();
        let is_absent = |report: &&Arc<Report>| {
            let MapNode { host, port, tls_port, .. } = &report.node;
            described.binary_search(&(host, *port, *tls_port)).is_err()
        };
        for report in asked.living().filter(is_absent) {
            let last = before.get(&report.node.id).filter(|(number, _)| *number == report.number);
            let last = last.filter(|_| !Planted::WaitsForTheSilent.is(self.planted));
            let times = last.map_or(0, |(_, times)| times.saturating_add(1));
            self.unheard.insert(report.node.id, (report.number, times));
        }
    }

    /// It is about to end: others are to have what it has.
    pub fn leave(&mut self, now_us: u64) {
        self.leaving_since.get_or_insert(now_us);
        self.is_to_keep = true;
    }

    fn is_leaving(&self) -> bool {
        self.leaving_since.is_some()
    }

    /// What it does next, where it was told to end. Where those that stand by have all that it has they claim it, and it keeps its place
    /// in the group: started anew soon, it has the same again.
    pub fn departure(&self, now_us: u64) -> Departure {
        // A clock that is set back must not keep it.
        let is_heard = |since: u64| now_us.abs_diff(since) >= LEAVE_HEARD_US;
        match (self.leaving_since, self.needless_since) {
            (Some(_), Some(since)) if is_heard(since) => Departure::End,
            (Some(since), None) if is_heard(since) && self.is_known_to_others() => Departure::LeaveGroup,
            _ => Departure::Stay,
        }
    }

    /// Whether it is about to end, and all others in the group are known and about to end as well: nobody is left to have what it has.
    fn is_last(&self, now_us: u64) -> bool {
        let Some(since) = self.leaving_since else { return false };
        // Somebody may have come since the group was described. Where it is not described any more, nobody can be waited for.
        if !self.is_leaving_described && now_us.abs_diff(since) < LEAVE_UNHEARD_US {
            return false;
        }
        // What was heard of a place before may be of a former life.
        let has_told = |report: &Report| {
            self.has_told_since(report.node.id, since) || now_us.abs_diff(since) >= LEAVE_UNHEARD_US
        };
        let is_ending =
            |report: Option<&Arc<Report>>| report.is_some_and(|report| report.is_leaving && has_told(report));
        let is_other = |report: &&Arc<Report>| report.node.id != self.node.id;
        self.said_by_others().all(is_ending)
            && self.view().living().filter(is_other).all(|report| report.is_leaving)
    }

    /// Whether all others in the group have a map, and know of it by that, and one of them stays: whoever comes then hears of it from them.
    fn is_known_to_others(&self) -> bool {
        let has_map = |report: Option<&Arc<Report>>| report.is_some_and(|report| report.has_map);
        let stays = |report: Option<&Arc<Report>>| report.is_some_and(|report| !report.is_leaving);
        self.said_by_others().any(stays) && self.said_by_others().all(has_map)
    }

    /// Whether it is about to end, and others have claimed all that it has, and have told so since: what was heard before may be of one that
    /// has ended.
    fn is_relieved(&self, now_us: u64) -> bool {
        let Some(since) = self.leaving_since else { return false };
        let plan = self.agreement.plan();
        let has_another = |partition: &u32| {
            let has_told = |id| self.has_told_since(id, since);
            plan.place_of(self.node.id)
                .is_none_or(|place| plan.claimants_since(place, *partition).any(has_told))
        };
        // Everybody who knew of it may be gone, and who came then knows of nobody that is out of the group, and claims nothing of its.
        let is_forgotten = !self.is_described && now_us.abs_diff(since) >= LEAVE_UNHEARD_US;
        let is_owned = |partition: &u32| is_forgotten && self.is_claimed(*partition, now_us);
        let mut ready = self.followed.iter().filter(|(_, is_ready)| **is_ready);
        ready.all(|(partition, _)| has_another(&partition) || is_owned(&partition))
            || Planted::EndsTooEarly.is(self.planted)
    }

    /// Whether another has claimed a partition, whenever it did, and has told lately that it stays and has it.
    fn is_claimed(&self, partition: u32, now_us: u64) -> bool {
        let is_other = |report: &&Arc<Report>| !report.is_leaving && report.node.id != self.node.id;
        let claims =
            |report: &Arc<Report>| report.held.get(partition).is_some_and(|held| held.claim().is_some());
        let mut others = self.view().living().filter(is_other);
        others.any(|report| claims(report) && self.has_told_lately(report.node.id, now_us))
    }

    fn has_told_since(&self, id: NodeId, since_us: u64) -> bool {
        self.told_us.get(&id).is_some_and(|told_us| *told_us >= since_us)
    }

    fn has_told_lately(&self, id: NodeId, now_us: u64) -> bool {
        self.told_us.get(&id).is_some_and(|told_us| now_us.abs_diff(*told_us) < HEARD_LATELY_US)
    }

    /// Whether it goes on following a partition that it has all of and does not keep by the plan: until one that has claimed it since has
    /// told lately that it has it. What others say of that one may be older than its end.
    fn is_held_over(&self, place: u16, partition: u32, now_us: u64) -> bool {
        let mut since = self.agreement.plan().claimants_since(place, partition);
        !since.any(|id| self.has_told_lately(id, now_us)) && !Planted::IgnoresClaims.is(self.planted)
    }

    /// Takes in which partitions are followed, and whether each is caught up, and says so; then finds what is to be followed.
    pub fn turn(&mut self, followed: &ByPartition<bool>, now_us: u64) {
        // Whoever has stood still knows nothing of what has become of the others: what it waits for to end begins anew.
        if core::mem::replace(&mut self.turned_at_us, now_us).abs_diff(now_us) >= LEAVE_HEARD_US {
            self.leaving_since = self.leaving_since.map(|_| now_us);
            (self.needless_since, self.is_leaving_described) = (None, false);
        }
        if *followed != self.followed {
            self.followed.clone_from(followed);
            (self.is_to_say, self.is_to_keep) = (true, true);
        }
        self.settle(now_us);
        self.speak(now_us);
        self.settle(now_us);
        self.find_peers();
        let is_needless = self.is_relieved(now_us) || self.is_last(now_us);
        self.needless_since = is_needless.then(|| self.needless_since.unwrap_or(now_us));
        let Some(place) = self.agreement.plan().place_of(self.node.id) else {
            // Another life has this one's place; the group says so as well, and this one ends.
            self.kept = self.kept.partitions().filter(|&partition| self.followed.has(partition)).collect();
            self.is_to_keep = true;
            return;
        };
        let has_map = self.map().is_some();
        let had_map = core::mem::replace(&mut self.kept_with_map, has_map);
        if !core::mem::take(&mut self.is_to_keep) && has_map == had_map {
            return;
        }
        // Before it is known who else is there, everybody seems to be missing.
        let is_needed =
            |partition: &u32| has_map || self.assigned.has(*partition) || self.followed.has(*partition);
        let mut kept: Vec<u32> = self.planned.iter().copied().filter(is_needed).collect();
        let unplanned = self.followed.iter().filter(|(partition, _)| !self.planned.contains(partition));
        if self.is_leaving() {
            // It answers to the last for whoever has not heard yet of who has it now.
            kept.extend(self.followed.partitions());
        } else {
            let is_held_over = |partition: &u32| self.is_held_over(place, *partition, now_us);
            let ready = unplanned.filter(|(_, is_ready)| **is_ready).map(|(partition, _)| partition);
            let by_plan = kept.len();
            kept.extend(ready.filter(is_held_over));
            self.is_to_keep = kept.len() > by_plan;
        }
        if Planted::LetsGoOfNothing.is(self.planted) {
            kept.extend(self.kept.partitions());
        }
        self.kept = kept.into_iter().collect();
    }

    /// Draws the conclusions from all that was taken in, and notes what they change for this node.
    fn settle(&mut self, now_us: u64) {
        self.agreement.settle(now_us);
        let changed = self.agreement.take_changed();
        let plan = self.agreement.plan();
        let Some(place) = plan.place_of(self.node.id) else {
            // Once it has a place again, all that it keeps is new.
            self.planned.clear();
            (self.is_to_say, self.is_to_keep) = (true, true);
            return;
        };
        for partition in changed {
            let is_other = match plan.keeps(place, partition) {
                true => self.planned.insert(partition),
                false => self.planned.remove(&partition),
            };
            self.is_to_keep |= is_other;
            self.is_to_say = self.is_to_say || self.followed.has(partition);
        }
    }

    /// The partitions that are to be followed. What is not among them is followed until no caller is answered about it.
    pub fn kept(&self) -> &ByPartition<()> {
        &self.kept
    }

    /// What it has of each partition of the topic.
    pub fn holds(&self) -> Vec<Hold> {
        let mut holds = vec![Hold::No; self.agreement.topic().partitions as usize];
        for partition in self.kept.partitions() {
            if let Some(hold) = holds.get_mut(partition as usize) {
                *hold = self.hold(partition);
            }
        }
        holds
    }

    /// What it has of one partition. What it loads and another owns callers are told that it does not have: they are sent there, and do
    /// not wait.
    pub fn hold(&self, partition: u32) -> Hold {
        let owner = || self.map().and_then(|map| map.owner_id(partition));
        match (self.kept.has(partition), self.followed.get(partition)) {
            (false, _) => Hold::No,
            (true, Some(true)) => Hold::Ready,
            (true, Some(false)) if Planted::AnswersEarly.is(self.planted) => Hold::Ready,
            (true, _) if owner().is_some_and(|owner| owner != self.node.id) => Hold::No,
            (true, _) => Hold::Loading,
        }
    }

    fn find_peers(&mut self) {
        let are_others_there = self.agreement.take_nodes_changed();
        if core::mem::take(&mut self.is_group_new) || are_others_there {
            let own = Place::of(&self.node);
            let nodes = self.agreement.plan().map.nodes();
            let living = nodes.iter().map(Place::of).filter(|place| *place != own);
            let others = self.others.iter().cloned().map(|place| (place, false));
            self.peers = others.chain(living.map(|place| (place, true))).collect();
        }
    }

    /// Says how it stands, where that has changed or others think that it is gone; while the group does not say that it is there, again
    /// and again.
    fn speak(&mut self, now_us: u64) {
        // Others must not name it any more, whatever becomes of those who have it now, when it has ended.
        let is_relieved = self.is_relieved(now_us);
        let place = self.agreement.plan().place_of(self.node.id);
        let is_to_say = core::mem::take(&mut self.is_to_say)
            || self.said.as_ref().is_none_or(|said| said.is_relieved != is_relieved);
        let held: Option<ByPartition<Standing>> = is_to_say.then(|| {
            let said = self.followed.iter().filter(|_| !is_relieved);
            said.map(|(partition, &is_ready)| (partition, self.standing(place, partition, is_ready)))
                .collect()
        });
        let is_as_before = self.said.as_ref().is_some_and(|Said { report, at_us, .. }| {
            held.as_ref().is_none_or(|held| report.held == *held)
                && report.assigned == self.assigned
                && (report.is_leaving, report.has_map) == (self.is_leaving(), self.map().is_some())
                && (self.is_described || now_us.abs_diff(*at_us) < ABSENT_SPEAKS_US)
        });
        if is_as_before && self.view().has(self.node.id) {
            self.said.iter_mut().for_each(|said| said.is_relieved = is_relieved);
            return;
        }
        let held = held.unwrap_or_else(|| self.said.as_ref().expect("it has spoken").report.held.clone());
        let number = self.view().next_number(self.node.id, self.number);
        let (node, assigned, is_leaving) = (self.node.clone(), self.assigned.clone(), self.is_leaving());
        let has_map = self.map().is_some();
        let report = Arc::new(Report { node, number, is_leaving, has_map, assigned, held });
        self.said = Some(Said { report: Arc::clone(&report), at_us: now_us, is_relieved });
        self.agreement.hear(report);
    }

    fn standing(&self, place: Option<u16>, partition: u32, is_ready: bool) -> Standing {
        if !is_ready {
            let is_early = Planted::SaysReadyEarly.is(self.planted);
            return if is_early { Standing::Ready } else { Standing::Loading };
        }
        let plan = self.agreement.plan();
        let claim = || plan.claim(place?, partition);
        let before = || self.said.as_ref()?.report.held.get(partition)?.claim();
        if Planted::ClaimsAnew.is(self.planted) {
            return before().or_else(claim).map_or(Standing::Ready, Standing::Owning);
        }
        claim().or_else(before).map_or(Standing::Ready, Standing::Owning)
    }
}
