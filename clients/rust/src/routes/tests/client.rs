//! A client: its calls choose by the production code, and take a turn for each round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_schema::{NodeId, NodeMap, ShardIndex, UserId, Version};

use super::node::Reply;
use crate::reply::Origin;
use crate::routes::{self, Next, Reach, Roster, Tour};
use crate::seen::{Seen, Shown};
use crate::{Address, Disconnect, Error, Refusal};

/// So many turns of 50 ms a call may take: a second.
pub const DEADLINE: u64 = 20;
/// After so many a node that does not answer is taken for one that stands still.
const STALL: u64 = 3;
/// How often the map is asked for by a client whose calls go to others than the owners, and by others.
const LEARN_TURNS: u64 = 20;
const RENEW_TURNS: u64 = 200;

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
    /// In how many turns a node was there that has a map, and whose address the client knows.
    chances: u64,
}

/// How a call ended.
pub struct Ended {
    pub user: UserId,
    pub attempts: u32,
    pub chances: u64,
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
    roster: Roster,
    seen: Seen,
    calls: Vec<Call>,
    /// Which addresses are known to stand still.
    stalled: BTreeMap<usize, u64>,
    asked_news: u64,
    /// Who has been greeted.
    met: BTreeSet<NodeId>,
    pub learned: u64,
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
    pub fn new(given: &[Address]) -> Client {
        Client {
            roster: Roster::new(given),
            seen: Seen::default(),
            calls: Vec::new(),
            stalled: BTreeMap::new(),
            asked_news: 0,
            met: BTreeSet::new(),
            learned: 0,
        }
    }

    pub fn begin(&mut self, user: UserId, now: u64) {
        let tour = Tour::default();
        self.calls.push(Call { user, began: now, tour, waits_until: now, attempts: 0, chances: 0 });
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
                self.learn(node.agreement.map(), behind);
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
            call.chances += u64::from(self.roster.addresses().iter().flatten().any(is_there));
            let answer = if call.waits_until <= now { self.ask(&mut call, now, behind, reply) } else { None };
            let is_over = answer.is_some() || now - call.began >= DEADLINE;
            match is_over {
                true => ended.push(Ended {
                    user: call.user,
                    attempts: call.attempts,
                    chances: call.chances,
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
                call.waits_until = now + STALL;
                call.tour.failed(place, Next::AskAgain);
                return None;
            }
            Behind::There(node) => {
                self.stalled.remove(&place);
                let mark = self.seen.mark(call.user.get());
                let floor =
                    mark.filter(|mark| mark.node != node.id()).map_or(Version(0), |mark| mark.version);
                match reply(node, call.user, floor) {
                    Reply::Version(version) => {
                        if self.seen.show(&One(call.user.get(), version), node.id()).is_err() {
                            call.tour.failed(place, Next::AskAgain);
                            return None;
                        }
                        let is_owner = order.is_first(place);
                        let turns = if is_owner { RENEW_TURNS } else { LEARN_TURNS };
                        if now >= self.asked_news + turns {
                            self.asked_news = now;
                            self.learn(node.agreement.map(), behind);
                        }
                        return Some(Answer { version, by: node.id(), is_owner });
                    }
                    reply @ (Reply::Stale | Reply::Unavailable) => {
                        if now >= self.asked_news + LEARN_TURNS {
                            self.asked_news = now;
                            self.learn(node.agreement.map(), behind);
                            call.waits_until = now + 1;
                        }
                        match reply {
                            Reply::Stale => Error::Stale(refusal(0)),
                            _ => Error::Unavailable(refusal(0)),
                        }
                    }
                    Reply::NotOwner(epoch) => {
                        if epoch > self.roster.epoch() {
                            self.learn(node.agreement.map(), behind);
                            call.waits_until = now + 1;
                        }
                        Error::NotOwner(refusal(epoch.cast_signed()))
                    }
                }
            }
        };
        let next = Next::after(&error, true, false);
        assert_ne!(next, Next::Tell, "{error}");
        call.tour.failed(place, next);
        None
    }

    fn learn<'a>(&mut self, map: Option<&Arc<NodeMap>>, behind: &impl Fn(&Address) -> Behind<'a>) {
        let Some(map) = map else { return };
        let addresses = self.roster.addresses().to_vec();
        let id_at = |place: usize| match addresses[place].as_ref().map(behind) {
            Some(Behind::There(node)) => node.id(),
            _ => NodeId(0),
        };
        if self.roster.learn(Arc::clone(map), false, id_at) {
            self.learned += 1;
            self.stalled.clear();
        }
    }
}
