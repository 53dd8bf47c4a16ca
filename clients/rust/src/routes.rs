//! Whom a call asks, one after the other: decided from what is known of the nodes, without speaking to any. The simulation of a
//! hundred nodes drives this very code.

use std::sync::Arc;
use std::time::Instant;

use florin_schema::ids::mix;
use florin_schema::nodes::HOLDERS_MAX;
use florin_schema::{MapNode, NodeId, NodeMap, UserId};

use crate::limits::{LEARN_EVERY, LOST_EVERY, PLACES_MAX, RENEW_EVERY};
use crate::{Address, Error};

/// A set of nodes, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Nodes([u64; PLACES_MAX.div_ceil(64)]);

impl Nodes {
    fn add(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn has(&self, place: usize) -> bool {
        self.0[place / 64] & 1 << (place % 64) != 0
    }

    fn is_empty(&self) -> bool {
        *self == Nodes::default()
    }
}

/// How a node can be asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reach {
    /// It refuses the client in a way that no waiting mends.
    Refused,
    /// There is no connection at the moment.
    Down,
    /// There is one, and it is not heard, or is being ended.
    Up,
    /// It is heard.
    Good,
}

/// What follows an attempt that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The caller is told.
    Tell,
    /// Others are asked; if they do not answer either, this is.
    AskOthers,
    /// Others are asked; if they do not answer either, all of them again, a little later.
    AskAgain,
    /// Whoever can be asked is, as soon as somebody can.
    Reconnect,
}

impl Next {
    /// What follows an error. `is_many`: there are other nodes. `is_callers`: it was the caller who asked for the freshness that did not
    /// hold, and not the client, lest something goes back in time.
    pub fn after(error: &Error, is_many: bool, is_callers: bool) -> Next {
        match error {
            Error::Disconnected { .. } | Error::OtherNode { .. } => Next::Reconnect,
            // Time does not mend it; another node may have seen more.
            Error::Unavailable(refusal) if refusal.is_lasting && is_many => Next::AskOthers,
            Error::Unavailable(refusal) if refusal.is_lasting => Next::Tell,
            Error::Unavailable(_) | Error::NotOwner(_) => Next::AskAgain,
            Error::Stale(_) if is_many && !is_callers => Next::AskAgain,
            Error::Stale(_) | Error::Overloaded(_) if is_many => Next::AskOthers,
            _ => Next::Tell,
        }
    }
}

/// A call's way from node to node.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tour {
    /// Who has been asked in vain in this round.
    refused: Nodes,
    rounds: u32,
    may_pass: bool,
    /// Whether somebody who holds the user's partition by the map has said that it does not, and knew of no later map.
    is_astray: bool,
}

impl Tour {
    /// Whether nobody has been asked in vain.
    pub fn is_fresh(&self) -> bool {
        self.refused.is_empty()
    }

    /// The node at `place` was asked in vain.
    pub fn failed(&mut self, place: usize, next: Next) {
        match next {
            Next::Tell => {}
            Next::AskOthers => self.refused.add(place),
            Next::AskAgain => {
                self.refused.add(place);
                self.may_pass = true;
            }
            Next::Reconnect => self.may_pass = true,
        }
    }

    /// The map is wrong about the user: others are asked at once.
    pub fn astray(&mut self) {
        self.is_astray = true;
    }

    /// Nobody is left to be asked. How many rounds there have been before this one, where another may end otherwise.
    pub fn begin_again(&mut self) -> Option<u32> {
        let rounds = self.rounds;
        let may_pass = self.may_pass;
        *self = Tour { rounds: rounds.saturating_add(1), ..Tour::default() };
        may_pass.then_some(rounds)
    }
}

/// Whom a request is asked of, but for `beside`: of those that are heard, or else up, the one that stands first. Where it is known who
/// holds the user's partition, others are asked only where none of these can be; and where the map is wrong, and from the second round
/// on, before holders that are not heard: by then they may know better. While nobody has refused and nobody is up, one that is not, which
/// says why. `reach` is of a place, where there is somebody.
pub(crate) fn pick(
    reach: impl Fn(usize) -> Option<Reach>,
    order: &Order<'_>,
    tour: &Tour,
    beside: Option<usize>,
) -> Option<usize> {
    let is_open = |&place: &usize, least: Reach| {
        !tour.refused.has(place) && beside != Some(place) && reach(place).is_some_and(|reach| reach >= least)
    };
    let holder = |least| order.holders.iter().flatten().copied().find(|place| is_open(place, least));
    let best = |least| {
        let open = (0..order.salts.len()).filter(|place| is_open(place, least));
        open.max_by_key(|&place| order.score(place))
    };
    let may_know_better = tour.rounds > 0 || tour.is_astray;
    let heard = holder(Reach::Good).or_else(|| if may_know_better { best(Reach::Good) } else { None });
    if let Some(place) = heard.or_else(|| holder(Reach::Up)) {
        return Some(place);
    }
    let is_first = tour.refused.is_empty() && beside.is_none();
    if !is_first && !may_know_better && order.is_known() {
        return None;
    }
    let up = best(Reach::Good).or_else(|| best(Reach::Up));
    let anyone = || best(Reach::Down).or_else(|| best(Reach::Refused));
    if is_first { up.or_else(anyone) } else { up }
}

/// When the map was last asked for.
#[derive(Default)]
pub(crate) struct Asked {
    at: Option<Instant>,
    /// The most that could be asked since, nodes or connections.
    good: usize,
}

impl Asked {
    /// Whether it is time to ask again, which is noted: soon, where a call did not go as the map has it (not `is_well`), and at once,
    /// but for a moment, where fewer can be asked than before (`good`). Those who stay know who has come; once all that a client
    /// knows of have left, nobody can tell it.
    pub fn is_due(&mut self, now: Instant, good: usize, is_well: bool) -> bool {
        self.good = self.good.max(good);
        let every = match is_well {
            _ if good < self.good => LOST_EVERY,
            true => RENEW_EVERY,
            false => LEARN_EVERY,
        };
        let is_due = self.at.is_none_or(|at| now.saturating_duration_since(at) >= every);
        if is_due {
            *self = Asked { at: Some(now), good };
        }
        is_due
    }
}

/// In which order nodes are asked for a user.
pub(crate) struct Order<'a> {
    user: u64,
    salts: &'a [u64],
    /// Who holds its partition, the owner first.
    holders: [Option<usize>; HOLDERS_MAX],
}

impl Order<'_> {
    /// How well a node stands beside the holders: by rendezvous, for every client alike, so that a node's users go to all others when
    /// it is gone.
    fn score(&self, place: usize) -> u64 {
        mix(self.user ^ self.salts[place])
    }

    /// The places of those who hold the user's partition, the owner's first.
    pub fn holders(&self) -> &[Option<usize>; HOLDERS_MAX] {
        &self.holders
    }

    /// Whether it is known who holds the user's partition.
    fn is_known(&self) -> bool {
        self.holders.iter().any(Option::is_some)
    }

    /// Whether the node is the user's owner, or nobody knows of one.
    pub fn is_first(&self, place: usize) -> bool {
        self.holders[0].is_none_or(|owner| owner == place)
    }
}

/// The nodes of a client: those that it was given, and those that a map has told it of. A node keeps its place for as long as it is
/// known; later it is another's.
#[derive(Clone, Default)]
pub(crate) struct Roster {
    given: usize,
    addresses: Vec<Option<Address>>,
    salts: Vec<u64>,
    map: Option<Arc<NodeMap>>,
    /// By the map's places: the client's.
    places: Vec<Option<usize>>,
}

impl Roster {
    /// Of those that the client was given.
    pub fn new(given: &[Address]) -> Roster {
        let mut roster = Roster { given: given.len(), ..Roster::default() };
        given.iter().for_each(|address| roster.put(None, address.clone()));
        roster
    }

    /// Who is where.
    pub fn addresses(&self) -> &[Option<Address>] {
        &self.addresses
    }

    /// The epoch of what is known; 0 where there is no map.
    pub fn epoch(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.epoch)
    }

    /// The order for a user; for who asks anybody, that of user 0.
    pub fn order(&self, user: Option<UserId>) -> Order<'_> {
        let mut holders = [None; HOLDERS_MAX];
        if let (Some(map), Some(user)) = (&self.map, user) {
            let known = map.holders(map.partition_of(user)).map(|place| self.places[usize::from(place)]);
            holders.iter_mut().zip(known).for_each(|(holder, place)| *holder = place);
        }
        Order { user: user.map_or(0, UserId::get), salts: &self.salts, holders }
    }

    /// Takes a map in, unless what is known is as late or later. `id_at` tells who answers at a place that was given: behind an address
    /// that is translated may be one of the map's nodes, and that one is asked where the client was told to.
    pub fn learn(&mut self, map: Arc<NodeMap>, is_tls: bool, id_at: impl Fn(usize) -> NodeId) -> bool {
        if map.partitions() == 0 || map.epoch <= self.epoch() {
            return false;
        }
        let given = (0..self.given).map(|place| (place, id_at(place))).filter(|(_, id)| *id != NodeId(0));
        let given: Vec<(usize, NodeId)> = given.collect();
        let wanted: Vec<Option<Address>> = map.nodes().iter().map(|node| address_of(node, is_tls)).collect();
        let is_named = |known: &Option<Address>| known.is_some() && wanted.contains(known);
        for place in self.given..self.addresses.len() {
            if !is_named(&self.addresses[place]) {
                self.addresses[place] = None;
            }
        }
        let mut places = Vec::with_capacity(wanted.len());
        for (node, address) in map.nodes().iter().zip(wanted) {
            let there = given.iter().find(|(_, id)| *id == node.id).map(|&(place, _)| place);
            places.push(there.or_else(|| self.place_of(address?)));
        }
        (self.map, self.places) = (Some(map), places);
        true
    }

    /// Where an address is, or is from now on.
    fn place_of(&mut self, address: Address) -> Option<usize> {
        let known = self.addresses.iter().position(|known| known.as_ref() == Some(&address));
        if known.is_some() {
            return known;
        }
        let free = self.addresses.iter().position(Option::is_none);
        if free.is_none() && self.addresses.len() == PLACES_MAX {
            return None;
        }
        self.put(free, address);
        free.or(Some(self.addresses.len() - 1))
    }

    fn put(&mut self, free: Option<usize>, address: Address) {
        // The same in every process, so that all ask the same node for a user.
        let salt = address.to_string().bytes().fold(0, |salt, byte| mix(salt ^ u64::from(byte)));
        match free {
            Some(place) => (self.addresses[place], self.salts[place]) = (Some(address), salt),
            None => {
                self.addresses.push(Some(address));
                self.salts.push(salt);
            }
        }
    }
}

/// Where a node is asked; `None` where it is not, for it has no listener for TLS.
fn address_of(node: &MapNode, is_tls: bool) -> Option<Address> {
    let MapNode { host, port, tls_port, .. } = node;
    let address = |host: &String, port: u16| match is_tls {
        true => Address::Tls { host: host.clone(), port },
        false => Address::Tcp { host: host.clone(), port },
    };
    let port = if is_tls { *tls_port } else { *port };
    (port != 0).then(|| address(host, port))
}

#[cfg(test)]
mod tests;
