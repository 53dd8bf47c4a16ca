//! The thread that keeps the map: it takes in what the group, the others and this node's own ledger say, and does what follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use florin_core::nodes::{ByPartition, Departure, Described, Mark, Member, Place, Topic, View};
use florin_kafka::Share;
use florin_schema::{MapNode, NodeMap};
use tokio::sync::mpsc::{Receiver, UnboundedSender};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::config::shown;
use super::exchange::{Exchange, Letter};
use super::group::{Heard, Order};
use super::status::NodesStatus;
use super::text;
use crate::clock::system_wall_us;
use crate::limits::{GROUP_DESCRIBE_EVERY, NODES_TURN};
use crate::node::{Division, ShardHandle};
use crate::shard::{Hold, Holdings};
use crate::threads::Vital;

/// What it works with.
pub(super) struct Keeping {
    pub(super) place: MapNode,
    pub(super) topic: Topic,
    pub(super) following: Arc<Share>,
    pub(super) division: Division,
    pub(super) shards: Vec<ShardHandle>,
    pub(super) status: Arc<NodesStatus>,
    pub(super) exchange: Exchange,
    pub(super) orders: UnboundedSender<Order>,
}

/// See the module.
pub(super) struct Keeper {
    with: Keeping,
    member: Member,
    has_left_group: bool,
    /// What was known when the group was last asked who is there, until it has answered.
    asked: Option<View>,
    described_at: Option<Instant>,
    /// What all shards have been told.
    told: Option<(Arc<NodeMap>, Vec<Hold>)>,
    shown: Option<(u64, Option<Mark>)>,
}

fn now_us() -> u64 {
    system_wall_us().cast_unsigned()
}

impl Keeper {
    pub(super) fn new(with: Keeping) -> Keeper {
        Keeper {
            member: Member::new(with.place.clone(), with.topic, now_us()),
            with,
            has_left_group: false,
            asked: None,
            described_at: None,
            told: None,
            shown: None,
        }
    }

    /// The thread's life.
    pub(super) async fn run(
        mut self,
        mut group: Receiver<Heard>,
        mut letters: Receiver<Letter>,
        stop: Arc<AtomicBool>,
    ) {
        let mut turns = interval(NODES_TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.load(Relaxed) {
            Vital::Nodes.at_work();
            tokio::select! {
                Some(heard) = group.recv() => self.hear_group(heard),
                Some(letter) = letters.recv() => self.member.hear(letter.news, letter.asked_us),
                _ = turns.tick() => self.turn(),
            }
        }
    }

    fn hear_group(&mut self, heard: Heard) {
        match heard {
            Heard::Described(described) => {
                let Some(asked) = self.asked.take() else { return };
                self.described_at = Some(Instant::now());
                match described {
                    Ok(Some(described)) => self.describe(described, &asked),
                    Ok(None) => {}
                    Err(error) => self.trouble(error.to_string()),
                }
            }
            Heard::Out(error) => {
                tracing::error!("{error}");
                self.with.status.fail(error.to_string());
            }
        }
    }

    fn trouble(&self, reason: String) {
        self.with.status.update(|standing| {
            if standing.trouble.as_ref() != Some(&reason) {
                tracing::warn!("{reason}");
                standing.trouble = Some(reason);
            }
        });
    }

    fn describe(&mut self, described: Described, asked: &View) {
        self.member.describe(&described, asked);
        let own = Place::of(&self.with.place);
        let heard: BTreeSet<Place> =
            self.member.view().living().map(|report| Place::of(&report.node)).collect();
        let unheard = described.keys().filter(|place| **place != own && !heard.contains(place));
        let unheard: Vec<String> = unheard.map(shown).collect();
        let is_member = described.contains_key(&own);
        self.with.status.update(|standing| {
            (standing.is_member, standing.unheard, standing.trouble) = (is_member, unheard, None);
        });
    }

    fn turn(&mut self) {
        self.ask();
        let held = self.held();
        self.member.turn(&held, now_us());
        self.tell();
        self.follow(&held);
        self.show();
        self.leave();
        let kept = self.member.kept();
        let loading = kept.partitions().filter(|&partition| held.get(partition) != Some(&true)).count();
        let (map, is_told, lags) =
            (self.member.map().cloned(), self.told.is_some(), self.with.following.lags());
        self.with.status.update(|standing| {
            standing.has_been_ready |= standing.is_member && is_told && loading == 0;
            (standing.kept, standing.loading, standing.lags) = (kept.len(), loading, lags);
            (standing.map, standing.held) =
                (map, held.iter().map(|(at, &is_ready)| (at, is_ready)).collect());
        });
    }

    /// Asks who is there, where that is due, and asks those for what they know.
    fn ask(&mut self) {
        let is_due = self.described_at.is_none_or(|at| at.elapsed() >= GROUP_DESCRIBE_EVERY);
        if is_due && self.asked.is_none() {
            self.asked = Some(self.member.view().clone());
            // A thread that has ended has told why.
            let _ = self.with.orders.send(Order::Describe);
        }
        self.with.exchange.ask(self.member.peers());
    }

    /// The partitions that are followed, and whether all of each has been applied.
    fn held(&self) -> ByPartition<bool> {
        let reached_us = self.with.shards.iter().map(|shard| shard.watermark.load().1).min().unwrap_or(0);
        let has_reached = |at: u64| reached_us > 0 && at <= reached_us;
        let standings = self.with.following.standings();
        standings
            .into_iter()
            .map(|(partition, at)| (partition, at.is_some_and(|at| has_reached(at.monotonic_us))))
            .collect()
    }

    /// Tells the shards whose users they answer about.
    fn tell(&mut self) {
        let Some(map) = self.member.map() else { return };
        let holds = self.member.holds();
        let is_same =
            |(told, before): &(Arc<NodeMap>, Vec<Hold>)| told.epoch == map.epoch && *before == holds;
        if !(self.with.division.is_told() && self.told.as_ref().is_some_and(is_same))
            && self.with.division.tell(Holdings::new(NodeMap::clone(map), holds.clone()))
        {
            self.told = Some((Arc::clone(map), holds));
        }
    }

    /// Follows what it keeps. What it does not keep any more is let go of once no shard answers about it.
    fn follow(&mut self, held: &ByPartition<bool>) {
        let (kept, is_taken_over) = (self.member.kept(), self.with.division.is_taken_over());
        let told = self.told.as_ref().map(|(_, holds)| holds);
        let is_let_go =
            |partition: u32| is_taken_over && told.is_none_or(|holds| holds[partition as usize] == Hold::No);
        let still = held.partitions().filter(|&partition| !kept.has(partition) && !is_let_go(partition));
        let wanted: BTreeSet<u32> = kept.partitions().chain(still).collect();
        self.with.following.want(&wanted);
    }

    /// Prepares what whoever asks is told of the nodes.
    fn show(&mut self) {
        let key = Some(text::key(&self.member));
        if self.shown == key {
            return;
        }
        let told = Arc::new(text::write(&self.member));
        if self.with.division.show(Arc::clone(&told)) {
            self.shown = key;
            self.with.status.update(|standing| standing.told = Some(told));
        }
    }

    /// Sees to it that others have what this node has, where it is about to end.
    fn leave(&mut self) {
        let now_us = now_us();
        if self.with.status.is_to_leave() {
            self.member.leave(now_us);
        }
        match self.member.departure(now_us) {
            Departure::LeaveGroup if !self.has_left_group => {
                let _ = self.with.orders.send(Order::Leave);
                self.has_left_group = true;
            }
            Departure::End => self.with.status.let_go(),
            Departure::LeaveGroup | Departure::Stay => {}
        }
    }
}
