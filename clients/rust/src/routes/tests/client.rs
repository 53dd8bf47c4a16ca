//! A client: its calls choose by the production code, and take a turn for each round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use florin_schema::{NodeId, NodeMap, ShardIndex, UserId, Version};

use super::node::Reply;
use crate::reply::Origin;
use crate::routes::{self, Asked, Next, Reach, Roster, Tour};
use crate::seen::{Seen, Shown};
use crate::{Address, Disconnect, Error, Refusal};

/// What a turn takes.
const TURN: Duration = Duration::from_millis(50);
/// So many turns a call may take: a second.
pub const DEADLINE: u64 = 20;
/// After so many a node that does not answer is taken for one that stands still.
const STALL: u64 = 3;
/// What a client does wrong on purpose: each has to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// It believes whichever map it heard last.
    IgnoresEpochs,
    /// It keeps the first map that it is told.
    NeverRelearns,
    /// It does not look at what it has shown when it changes nodes.
    GoesBack,
    /// It takes a node that does not hold the user for one that knows of no transactions.
    BelievesAnybody,
    /// It forgets who has been asked in vain.
    AsksTheSame,
}

impl Defect {
    /// All of them.
    pub const ALL: [Defect; 5] = [
        Defect::IgnoresEpochs,
        Defect::NeverRelearns,
        Defect::GoesBack,
        Defect::BelievesAnybody,
        Defect::AsksTheSame,
    ];
}

/// Somebody behind an address, as the network has it.
pub enum Behind<'a> {
    Nobody,
    /// It does not answer.
    Frozen,
    There(&'a super::node::Node),
}

/// A call under way.
struct Call {
    user: UserId,
    began: u64,
    tour: Tour,
    /// Until when it waits: for an answer that may not come, or before it asks again.
    waits_until: u64,
    attempts: u32,
    /// What it was told by whom, for whoever looks into a seed.
    way: Vec<String>,
    /// In how many turns a node was there that can tell of the others, and whose address the client knows.
    chances: u64,
    /// The same, whether it can tell of others or not.
    reachable: u64,
}

/// How a call ended.
pub struct Ended {
    pub user: UserId,
    pub attempts: u32,
    pub way: Vec<String>,
    pub chances: u64,
    pub reachable: u64,
    /// In turns.
    pub took: u64,
    pub answer: Option<Answer>,
}

pub struct Answer {
    pub version: Version,
    pub by: NodeId,
    pub is_owner: bool,
}

/// See the module.
pub struct Client {
    given: Vec<Address>,
    roster: Roster,
    seen: Seen,
    calls: Vec<Call>,
    /// Which addresses are known to stand still.
    stalled: BTreeMap<usize, u64>,
    /// When the map was last asked for, and when the first turn was.
    asked: Asked,
    began: Instant,
    /// Who has been greeted.
    met: BTreeSet<NodeId>,
    pub learned: u64,
    defect: Option<Defect>,
}

struct One(u64, Version);

impl Shown for One {
    fn each(&self, tell: &mut dyn FnMut(u64, Version)) {
        tell(self.0, self.1);
    }

    fn origin(&self) -> Origin {
        unreachable!("what is kept does not depend on it")
    }
}

fn refusal(as_of_us: i64) -> Refusal {
    let message = String::new();
    Refusal { message, shard: ShardIndex(0), as_of_us, is_quarantined: false, is_lasting: false }
}

impl Client {
    pub fn new(given: &[Address], defect: Option<Defect>) -> Client {
        Client {
            given: given.to_vec(),
            roster: Roster::new(given),
            seen: Seen::default(),
            calls: Vec::new(),
            stalled: BTreeMap::new(),
            asked: Asked::default(),
            began: Instant::now(),
            met: BTreeSet::new(),
            learned: 0,
            defect,
        }
    }

    pub fn begin(&mut self, user: UserId, now: u64) {
        let tour = Tour::default();
        let way = Vec::new();
        self.calls.push(Call {
            user,
            began: now,
            tour,
            waits_until: now,
            attempts: 0,
            way,
            chances: 0,
            reachable: 0,
        });
    }

    /// So many turns go by in which it asks for nothing.
    pub fn idle(&mut self, turns: u64) {
        self.began += TURN * turns as u32;
    }

    pub fn asked_about(&self) -> impl Iterator<Item = UserId> + '_ {
        self.calls.iter().map(|call| call.user)
    }

    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn shown(&self, user: UserId) -> Version {
        self.seen.mark(user.get()).map_or(Version(0), |mark| mark.version)
    }

    /// Connects to whoever is there and has not been greeted: a Hello's reply has the map.
    pub fn greet<'a>(&mut self, behind: &impl Fn(&Address) -> Behind<'a>) {
        for address in self.roster.addresses().to_vec().into_iter().flatten() {
            if let Behind::There(node) = behind(&address)
                && self.met.insert(node.id())
            {
                self.learn(node.member.map(), behind);
            }
        }
    }

    /// A turn of each call: one question, and its answer.
    pub fn turn<'a>(
        &mut self,
        now: u64,
        behind: &impl Fn(&Address) -> Behind<'a>,
        reply: &impl Fn(&'a super::node::Node, UserId, Version) -> Reply,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        for mut call in std::mem::take(&mut self.calls) {
            let is_there = |address: &Address| matches!(behind(address), Behind::There(_));
            let can_tell =
                |address: &Address| matches!(behind(address), Behind::There(node) if node.has_heard(now));
            let mut known = self.roster.addresses().iter().flatten();
            call.reachable += u64::from(known.clone().any(is_there));
            call.chances += u64::from(known.any(can_tell));
            let answer = if call.waits_until <= now { self.ask(&mut call, now, behind, reply) } else { None };
            let is_over = answer.is_some() || now - call.began >= DEADLINE;
            match is_over {
                true => ended.push(Ended {
                    user: call.user,
                    attempts: call.attempts,
                    way: call.way,
                    chances: call.chances,
                    reachable: call.reachable,
                    took: now - call.began,
                    answer,
                }),
                false => self.calls.push(call),
            }
        }
        ended
    }

    fn ask<'a>(
        &mut self,
        call: &mut Call,
        now: u64,
        behind: &impl Fn(&Address) -> Behind<'a>,
        reply: &impl Fn(&'a super::node::Node, UserId, Version) -> Reply,
    ) -> Option<Answer> {
        let addresses = self.roster.addresses().to_vec();
        let stalled = &self.stalled;
        // A connection is made between two turns; one that stands still is known once somebody has waited in vain.
        let reach = |place: usize| {
            Some(match behind(addresses[place].as_ref()?) {
                Behind::Nobody => Reach::Down,
                Behind::Frozen if stalled.contains_key(&place) => Reach::Up,
                Behind::Frozen | Behind::There(_) => Reach::Good,
            })
        };
        let order = self.roster.order(Some(call.user));
        let Some(place) = routes::pick(reach, &order, &call.tour, None) else {
            call.tour.begin_again();
            call.way.push(format!("turn {now}: nobody is left"));
            call.waits_until = now + 1;
            return None;
        };
        call.attempts += 1;
        let address = addresses[place].clone().expect("somebody was picked");
        let error = match behind(&address) {
            Behind::Nobody => {
                call.waits_until = now + 1;
                Error::Disconnected { address, cause: Disconnect::Closed }
            }
            Behind::Frozen => {
                self.stalled.insert(place, now);
                call.way.push(format!("turn {now}, place {place}: stands still"));
                call.waits_until = now + STALL;
                if self.defect != Some(Defect::AsksTheSame) {
                    call.tour.failed(place, Next::AskAgain);
                }
                return None;
            }
            Behind::There(node) => {
                self.stalled.remove(&place);
                let mark = self.seen.mark(call.user.get());
                let is_blind = self.defect == Some(Defect::GoesBack);
                let floor = mark.filter(|mark| mark.node != node.id() && !is_blind);
                let told = reply(node, call.user, floor.map_or(Version(0), |mark| mark.version));
                let is_believed = self.defect == Some(Defect::BelievesAnybody);
                match told {
                    Reply::NotOwner(_) if is_believed => {
                        return Some(Answer { version: Version(0), by: node.id(), is_owner: false });
                    }
                    Reply::Version(version) => {
                        let shown = self.seen.show(&One(call.user.get(), version), node.id());
                        if shown.is_err() && !is_blind {
                            call.tour.failed(place, Next::AskAgain);
                            return None;
                        }
                        let is_owner = order.is_first(place);
                        self.look_for_news(node, is_owner, now, behind);
                        return Some(Answer { version, by: node.id(), is_owner });
                    }
                    reply @ (Reply::Stale | Reply::Unavailable) => {
                        self.look_for_news(node, false, now, behind);
                        match reply {
                            Reply::Stale => Error::Stale(refusal(0)),
                            _ => Error::Unavailable(refusal(0)),
                        }
                    }
                    Reply::NotOwner(epoch) => {
                        if epoch > self.roster.epoch() {
                            self.learn(node.member.map(), behind);
                            call.waits_until = now + 1;
                        } else {
                            call.tour.astray();
                        }
                        Error::NotOwner(refusal(epoch.cast_signed()))
                    }
                }
            }
        };
        call.way.push(format!(
            "turn {now}, map of {}, place {place}: {}",
            self.roster.epoch(),
            error.label()
        ));
        let next = Next::after(&error, true, false);
        assert_ne!(next, Next::Tell, "{error}");
        if self.defect != Some(Defect::AsksTheSame) {
            call.tour.failed(place, next);
        }
        None
    }

    /// Asks for the map where that is due. The call does not wait for it.
    fn look_for_news<'a>(
        &mut self,
        node: &super::node::Node,
        is_well: bool,
        now: u64,
        behind: &impl Fn(&Address) -> Behind<'a>,
    ) {
        let is_there = |address: &&Address| matches!(behind(address), Behind::There(_));
        let good = self.roster.addresses().iter().flatten().filter(is_there).count();
        if self.asked.is_due(self.began + TURN * now as u32, good, is_well) {
            self.learn(node.member.map(), behind);
        }
    }

    fn learn<'a>(&mut self, map: Option<&Arc<NodeMap>>, behind: &impl Fn(&Address) -> Behind<'a>) {
        let Some(map) = map else { return };
        let (addresses, known) = (self.roster.addresses().to_vec(), self.roster.epoch());
        match self.defect {
            Some(Defect::NeverRelearns) if known > 0 => return,
            Some(Defect::IgnoresEpochs) => self.roster = Roster::new(&self.given),
            _ => {}
        }
        let id_at = |place: usize| match addresses[place].as_ref().map(behind) {
            Some(Behind::There(node)) => node.id(),
            _ => NodeId(0),
        };
        if self.roster.learn(Arc::clone(map), false, id_at) {
            self.learned += 1;
            // A node keeps its place, and its connections, for as long as it is known.
            let known = self.roster.addresses();
            self.stalled.retain(|&place, _| known.get(place) == addresses.get(place));
        }
        assert!(self.roster.epoch() >= known, "a client went back from the map of {known}");
    }
}
