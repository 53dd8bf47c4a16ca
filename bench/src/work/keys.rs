//! About whom is asked: which users there are, how unequal they are, and a sequence of them drawn beforehand.

use std::{fmt, fs, io, path::PathBuf, str::FromStr, sync::Arc};

use florin_schema::{MapNode, NodeMap, UserId};
use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use rand_distr::{Distribution, Zipf};

/// The users of a server, each of whom it must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Population(Arc<[UserId]>);

/// Why there is no population.
#[derive(Debug, thiserror::Error)]
pub enum PopulationError {
    /// The file cannot be read.
    #[error("cannot read the user ids of {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it.
    #[error("{}, line {line}: expected a user id from 0 to 2^63-1, found {found:?}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// Nobody to ask about.
    #[error("there are no users to ask about")]
    Nobody,
}

impl Population {
    /// These users.
    pub fn new(users: Vec<UserId>) -> Result<Population, PopulationError> {
        if users.is_empty() { Err(PopulationError::Nobody) } else { Ok(Population(users.into())) }
    }

    /// The users 1 to `count`, as `florin generate` numbers them.
    pub fn first(count: u32) -> Result<Population, PopulationError> {
        Population::new((1..=u64::from(count)).filter_map(UserId::new).collect())
    }

    /// One id a line; empty lines and those that begin with # do not count.
    pub fn read(path: PathBuf) -> Result<Population, PopulationError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(PopulationError::Unreadable { path, source }),
        };
        let mut users = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.parse().ok().and_then(UserId::new) {
                Some(user) => users.push(user),
                None => return Err(PopulationError::Line { path, line: index + 1, found: line.to_owned() }),
            }
        }
        Population::new(users)
    }

    /// All of them.
    pub fn users(&self) -> &[UserId] {
        &self.0
    }
}

/// How unequal users are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum KeyShape {
    /// All the same.
    Uniform,
    /// The k-th most wanted is asked for in proportion to k^-s.
    Zipf(f64),
    /// So many users get such a share of the requests; the others share the rest.
    Hot {
        /// How many.
        users: usize,
        /// From 0 to 1.
        share: f64,
    },
    /// One after the other, in the order of the population: to replay a file of ids.
    InOrder,
}

/// A text that is no shape.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no shape of keys: say uniform, zipf:S (S > 0), hot:USERS:SHARE (0 < SHARE < 1) or in-order"
)]
pub struct KeyShapeError(String);

impl FromStr for KeyShape {
    type Err = KeyShapeError;

    fn from_str(text: &str) -> Result<KeyShape, KeyShapeError> {
        let parts: Vec<&str> = text.split(':').collect();
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let shape = match parts[..] {
            ["uniform"] => Some(KeyShape::Uniform),
            ["in-order"] => Some(KeyShape::InOrder),
            ["zipf", s] => number(s).filter(|&s| s > 0.0).map(KeyShape::Zipf),
            ["hot", users, share] => match (users.parse(), number(share)) {
                (Ok(users), Some(share)) if users > 0 && share > 0.0 && share < 1.0 => {
                    Some(KeyShape::Hot { users, share })
                }
                _ => None,
            },
            _ => None,
        };
        shape.ok_or_else(|| KeyShapeError(text.to_owned()))
    }
}

impl fmt::Display for KeyShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyShape::Uniform => f.write_str("uniform"),
            KeyShape::Zipf(s) => write!(f, "zipf:{s}"),
            KeyShape::Hot { users, share } => write!(f, "hot:{users}:{share}"),
            KeyShape::InOrder => f.write_str("in-order"),
        }
    }
}

impl KeyShape {
    /// Draws `count` users. Who is popular is shuffled by `seed`, so that popularity says nothing about ids, and all
    /// threads that share the seed agree about it.
    fn draw(self, population: &Population, count: usize, seed: u64, random: &mut SmallRng) -> Vec<UserId> {
        let users = population.users();
        let by_popularity = || {
            let mut order = users.to_vec();
            order.shuffle(&mut <SmallRng as rand::SeedableRng>::seed_from_u64(seed));
            order
        };
        match self {
            KeyShape::Uniform => (0..count).map(|_| users[random.random_range(0..users.len())]).collect(),
            KeyShape::InOrder => users.iter().copied().cycle().take(count).collect(),
            KeyShape::Zipf(s) => {
                let order = by_popularity();
                let ranks =
                    Zipf::new(order.len() as f64, s).expect("a population has users, and s is positive");
                (0..count).map(|_| order[ranks.sample(random) as usize - 1]).collect()
            }
            KeyShape::Hot { users: hot, share } => {
                let order = by_popularity();
                let (hot, cold) = order.split_at(hot.min(order.len()));
                let pick = |random: &mut SmallRng| {
                    let among = if cold.is_empty() || random.random_bool(share) { hot } else { cold };
                    among[random.random_range(0..among.len())]
                };
                (0..count).map(|_| pick(random)).collect()
            }
        }
    }
}

/// What one thread asks about, drawn beforehand: for each lane (a shard's port, or the only one) its own users, and the
/// order in which the lanes' turns come, which is that of the draw.
#[derive(Debug)]
pub struct Draws {
    lanes: Vec<Lane>,
    order: Box<[u16]>,
    next: usize,
}

#[derive(Debug, Default)]
struct Lane {
    users: Vec<UserId>,
    next: usize,
}

/// How keys go to lanes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Routing {
    /// One lane for everybody.
    Any,
    /// A lane for each of so many shards, by wire.md.
    ByShard(u16),
    /// Those of the nodes that divide the users.
    ByOwner(Arc<Owners>),
}

/// Nodes that divide the users, each with lanes of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owners {
    map: NodeMap,
    /// How many lanes each of the map's nodes has: one for each of its shards, one where any shard is asked, none where it owns nothing.
    lanes: Vec<u16>,
}

impl Owners {
    /// Nodes with so many lanes each, in the map's order. Every partition has an owner with a lane, or an error says which has none.
    ///
    /// # Errors
    /// The partition.
    pub fn new(map: NodeMap, lanes: Vec<u16>) -> Result<Owners, u32> {
        let has_lane = |place: u16| lanes.get(usize::from(place)).is_some_and(|&lanes| lanes > 0);
        match (0..map.partitions()).find(|&partition| !map.owner(partition).is_some_and(has_lane)) {
            Some(partition) => Err(partition),
            None => Ok(Owners { map, lanes }),
        }
    }

    fn lanes(&self) -> usize {
        self.lanes.iter().copied().map(usize::from).sum()
    }

    /// By its owner, and there by its shard.
    fn lane(&self, user: UserId) -> u16 {
        let owner = self.map.owner(self.map.partition_of(user)).map(usize::from).expect("each has one");
        self.lanes[..owner].iter().sum::<u16>() + user.shard(self.lanes[owner]).0
    }

    /// What the lanes have counted, node by node: of each that has lanes, its place in the map.
    pub fn by_node(&self, counted: &[u64]) -> Vec<(usize, u64)> {
        let mut rest = counted;
        let mut sums = Vec::new();
        for (place, &lanes) in self.lanes.iter().enumerate().filter(|(_, lanes)| **lanes > 0) {
            let (own, others) = rest.split_at(usize::from(lanes).min(rest.len()));
            sums.push((place, own.iter().sum()));
            rest = others;
        }
        sums
    }

    /// The map's.
    pub fn nodes(&self) -> &[MapNode] {
        self.map.nodes()
    }
}

impl Routing {
    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        match self {
            Routing::Any => 1,
            Routing::ByShard(shards) => usize::from(*shards),
            Routing::ByOwner(owners) => owners.lanes(),
        }
    }

    fn lane(&self, user: UserId) -> u16 {
        match self {
            Routing::Any => 0,
            Routing::ByShard(shards) => user.shard(*shards).0,
            Routing::ByOwner(owners) => owners.lane(user),
        }
    }
}

/// What a draw is made from.
#[derive(Debug)]
pub struct DrawPlan<'a> {
    /// Of whom.
    pub population: &'a Population,
    /// How unequal.
    pub shape: KeyShape,
    /// To which lanes.
    pub routing: Routing,
    /// How many.
    pub count: usize,
    /// Decides who is popular: the same for all threads of a run.
    pub seed: u64,
}

impl Draws {
    /// Draws from `plan`. Each lane has at least one user, or an error says which has none.
    pub fn new(plan: &DrawPlan<'_>, random: &mut SmallRng) -> Result<Draws, LaneEmpty> {
        let drawn = plan.shape.draw(plan.population, plan.count, plan.seed, random);
        let mut lanes: Vec<Lane> = (0..plan.routing.lanes()).map(|_| Lane::default()).collect();
        let order: Box<[u16]> = drawn.iter().map(|&user| plan.routing.lane(user)).collect();
        for (&user, &lane) in drawn.iter().zip(&order) {
            lanes[usize::from(lane)].users.push(user);
        }
        // A lane that nobody was drawn for, as with very unequal keys, still needs somebody for its closed loop.
        for (index, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.users.is_empty()) {
            let is_its_own = |&&user: &&UserId| usize::from(plan.routing.lane(user)) == index;
            let anyone = plan.population.users().iter().find(is_its_own);
            lane.users.push(*anyone.ok_or(LaneEmpty { shard: index })?);
        }
        Ok(Draws { lanes, order, next: 0 })
    }

    /// Whose turn it is.
    #[inline]
    pub fn next_lane(&mut self) -> usize {
        let lane = self.order[self.next];
        self.next = if self.next + 1 == self.order.len() { 0 } else { self.next + 1 };
        usize::from(lane)
    }

    /// The lane's next user.
    #[inline]
    pub fn next_user(&mut self, lane: usize) -> UserId {
        let lane = &mut self.lanes[lane];
        let user = lane.users[lane.next];
        lane.next = if lane.next + 1 == lane.users.len() { 0 } else { lane.next + 1 };
        user
    }
}

/// A shard that owns none of the users.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no user belongs to shard {shard}, all nodes' counted through: give more users, or use the any-shard port"
)]
pub struct LaneEmpty {
    /// Which.
    pub shard: usize,
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io::Write};

    use rand::SeedableRng;

    use super::*;

    fn drawn(shape: KeyShape, users: u32, count: usize) -> HashMap<UserId, usize> {
        let population = Population::first(users).unwrap();
        let mut seen = HashMap::new();
        for user in shape.draw(&population, count, 7, &mut SmallRng::seed_from_u64(3)) {
            *seen.entry(user).or_default() += 1;
        }
        seen
    }

    #[test]
    fn uniform_keys_reach_everybody_alike() {
        let seen = drawn(KeyShape::Uniform, 100, 100_000);
        assert_eq!(seen.len(), 100);
        assert!(seen.values().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }

    #[test]
    fn zipf_keys_fall_with_the_rank() {
        let mut counts: Vec<usize> = drawn(KeyShape::Zipf(1.0), 1_000, 200_000).into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The harmonic number of 1,000 is 7.485: the first gets 13.4 %, the tenth a tenth of that.
        assert!((25_500..28_000).contains(&counts[0]), "{}", counts[0]);
        assert!((2_300..3_100).contains(&counts[9]), "{}", counts[9]);
    }

    #[test]
    fn a_hot_set_gets_its_share() {
        let mut counts: Vec<usize> =
            drawn(KeyShape::Hot { users: 10, share: 0.9 }, 1_000, 100_000).into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let hot: usize = counts[..10].iter().sum();
        assert!((89_000..91_000).contains(&hot), "{hot}");
    }

    #[test]
    fn lanes_hold_only_their_shards_users_and_keep_the_order_of_the_draw() {
        let population = Population::first(1_000).unwrap();
        let plan = DrawPlan {
            population: &population,
            shape: KeyShape::InOrder,
            routing: Routing::ByShard(3),
            count: 1_000,
            seed: 1,
        };
        let mut draws = Draws::new(&plan, &mut SmallRng::seed_from_u64(1)).unwrap();
        for turn in 0..2_500u64 {
            let lane = draws.next_lane();
            let user = draws.next_user(lane);
            assert_eq!(user.get(), turn % 1_000 + 1);
            assert_eq!(usize::from(user.shard(3).0), lane);
        }
    }

    #[test]
    fn a_shard_without_users_is_named() {
        let population = Population::new(vec![UserId::new(1).unwrap()]).unwrap();
        let routing = Routing::ByShard(2);
        let plan = DrawPlan { population: &population, shape: KeyShape::Uniform, routing, count: 9, seed: 1 };
        let empty = 1 - usize::from(UserId::new(1).unwrap().shard(2).0);
        let outcome = Draws::new(&plan, &mut SmallRng::seed_from_u64(1));
        assert_eq!(outcome.unwrap_err(), LaneEmpty { shard: empty });
    }

    #[test]
    fn a_file_of_ids_is_read_and_its_defects_are_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# ids\n7\n\n42\n").unwrap();
        let read = Population::read(file.path().to_owned()).unwrap();
        assert_eq!(read.users(), [7, 42].map(|id| UserId::new(id).unwrap()));
        file.write_all(b"-1\n").unwrap();
        let error = Population::read(file.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("\"-1\""), "{error}");
    }

    #[test]
    fn a_shape_is_printed_as_it_is_read() {
        for text in ["uniform", "zipf:0.99", "hot:100:0.9", "in-order"] {
            assert_eq!(text.parse::<KeyShape>().unwrap().to_string(), text);
        }
        for wrong in ["", "zipf", "zipf:0", "zipf:NaN", "hot:0:0.5", "hot:1:1", "hot:1", "normal"] {
            assert!(wrong.parse::<KeyShape>().is_err(), "{wrong:?}");
        }
    }
}
