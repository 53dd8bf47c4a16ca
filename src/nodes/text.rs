//! What nodes tell each other, and whoever looks: the map, and how each node stands, as JSON. Read with distrust: whoever answers may
//! be another build, or no florin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_core::nodes::{News, Report, Standing, View};
use florin_schema::nodes::HOST_BYTES_MAX;
use florin_schema::{MapNode, NodeId, NodeMap, Partitioner, decimal};
use serde::{Deserialize, Serialize};

use crate::limits::{HOLDERS_MAX, NODES_KNOWN_MAX, NODES_MAX, PARTITIONS_MAX};

/// All that a node tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tidings {
    /// Who tells it.
    pub node: NodeId,
    /// What it knows.
    pub news: News,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// No JSON, or another.
    #[error("expected what GET /v1/nodes answers: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that cannot be.
    #[error("{field}: expected {expected}")]
    Value {
        /// Which.
        field: &'static str,
        /// What it takes.
        expected: String,
    },
}

fn wrong(field: &'static str, expected: impl Into<String>) -> TextError {
    TextError::Value { field, expected: expected.into() }
}

/// No number of a report's and no epoch is as high: they are times in µs, and a few more.
const NUMBERS_END: u64 = 1 << 62;

#[derive(Serialize, Deserialize)]
struct TidingsText {
    node: String,
    map: Option<MapText>,
    nodes: Vec<ReportText>,
}

#[derive(Serialize, Deserialize)]
struct MapText {
    epoch: String,
    partitioner: String,
    nodes: Vec<NodeText>,
    /// By partition the places among the nodes of its owner, or null, and of its standbys.
    partitions: Vec<Vec<Option<u16>>>,
    /// How many there may be of each.
    holders_each: usize,
}

#[derive(Serialize, Deserialize)]
struct NodeText {
    id: String,
    host: String,
    port: u16,
    tls_port: u16,
}

#[derive(Serialize, Deserialize)]
struct ReportText {
    node: NodeText,
    number: String,
    is_gone: bool,
    is_leaving: bool,
    has_map: bool,
    assigned: Vec<u32>,
    loading: Vec<u32>,
    ready: Vec<u32>,
    owning: Vec<ClaimText>,
}

#[derive(Serialize, Deserialize)]
struct ClaimText {
    partition: u32,
    claim: String,
}

impl Tidings {
    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        let text = TidingsText {
            node: self.node.0.to_string(),
            map: self.news.map.as_deref().map(MapText::of),
            nodes: self.news.view.known().map(|(report, is_gone)| ReportText::of(report, is_gone)).collect(),
        };
        serde_json::to_vec(&text).expect("it has string keys")
    }

    /// From bytes that another node has sent.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Tidings, TextError> {
        let text: TidingsText = florin_input::json(bytes)?;
        if text.nodes.len() > NODES_KNOWN_MAX {
            return Err(wrong("nodes", format!("at most {NODES_KNOWN_MAX}")));
        }
        let known: Result<Vec<_>, TextError> = text.nodes.into_iter().map(ReportText::read).collect();
        let map = text.map.map(MapText::read).transpose()?;
        let news = News { view: View::of(known?), map: map.map(Arc::new) };
        Ok(Tidings { node: node_id(&text.node)?, news })
    }
}

impl MapText {
    fn of(map: &NodeMap) -> MapText {
        let holders = |partition| {
            let standbys = map.standbys(partition).map(Some);
            let mut holders: Vec<Option<u16>> = [map.owner(partition)].into_iter().chain(standbys).collect();
            holders.truncate(if holders == [None] { 0 } else { holders.len() });
            holders
        };
        MapText {
            epoch: map.epoch.to_string(),
            partitioner: map.partitioner.to_string(),
            nodes: map.nodes().iter().map(NodeText::of).collect(),
            partitions: (0..map.partitions()).map(holders).collect(),
            holders_each: map.holders_each(),
        }
    }

    fn read(self) -> Result<NodeMap, TextError> {
        let MapText { epoch, partitioner, nodes, partitions, holders_each } = self;
        if nodes.len() > NODES_MAX {
            return Err(wrong("map.nodes", format!("at most {NODES_MAX}")));
        }
        if !(1..=PARTITIONS_MAX).contains(&partitions.len()) {
            return Err(wrong("map.partitions", format!("1 to {PARTITIONS_MAX}")));
        }
        if !(1..=HOLDERS_MAX).contains(&holders_each) {
            return Err(wrong("map.holders_each", format!("1 to {HOLDERS_MAX}")));
        }
        let partitioner: Partitioner =
            partitioner.parse().map_err(|error| wrong("map.partitioner", format!("another: {error}")))?;
        let nodes: Vec<MapNode> = nodes.into_iter().map(NodeText::read).collect::<Result<_, _>>()?;
        let count = nodes.len();
        let mut map = NodeMap::new(number("map.epoch", &epoch)?, partitioner, nodes, holders_each);
        for holders in partitions {
            let is_there = |place: &Option<u16>| place.is_none_or(|place| usize::from(place) < count);
            let are_standbys = holders.iter().skip(1).all(Option::is_some);
            if holders.len() > holders_each || !holders.iter().all(is_there) || !are_standbys {
                return Err(wrong(
                    "map.partitions",
                    format!("an owner or null, and standbys, below {count}"),
                ));
            }
            let mut holders = holders.into_iter();
            map.push(holders.next().flatten(), holders.flatten());
        }
        Ok(map)
    }
}

impl NodeText {
    fn of(node: &MapNode) -> NodeText {
        let MapNode { id, host, port, tls_port } = node;
        NodeText { id: id.0.to_string(), host: host.clone(), port: *port, tls_port: *tls_port }
    }

    fn read(self) -> Result<MapNode, TextError> {
        let NodeText { id, host, port, tls_port } = self;
        if !(1..=HOST_BYTES_MAX).contains(&host.len()) || (port, tls_port) == (0, 0) {
            return Err(wrong("node", format!("a host of 1 to {HOST_BYTES_MAX} bytes and a port")));
        }
        Ok(MapNode { id: node_id(&id)?, host, port, tls_port })
    }
}

impl ReportText {
    fn of(report: &Report, is_gone: bool) -> ReportText {
        let at = |standing| {
            let held = report.held.iter().filter(|(_, found)| **found == standing && !is_gone);
            held.map(|(&partition, _)| partition).collect()
        };
        ReportText {
            node: NodeText::of(&report.node),
            number: report.number.to_string(),
            is_gone,
            is_leaving: report.is_leaving,
            has_map: report.has_map,
            // Of one that is gone nobody asks what it had.
            assigned: report.assigned.iter().copied().filter(|_| !is_gone).collect(),
            loading: at(Standing::Loading),
            ready: at(Standing::Ready),
            owning: report.held.iter().filter(|_| !is_gone).filter_map(ClaimText::of).collect(),
        }
    }

    fn read(self) -> Result<(Arc<Report>, bool), TextError> {
        let ReportText { node, number: text, is_gone, is_leaving, has_map, assigned, loading, ready, owning } =
            self;
        let each = |partitions: Vec<u32>, standing| {
            partitions.into_iter().map(move |partition| (partition, standing))
        };
        let mut held: BTreeMap<u32, Standing> =
            each(loading, Standing::Loading).chain(each(ready, Standing::Ready)).collect();
        for ClaimText { partition, claim } in owning {
            held.insert(partition, Standing::Owning(number("nodes.claim", &claim)?));
        }
        let assigned: BTreeSet<u32> = assigned.into_iter().collect();
        let is_there = |&partition: &u32| (partition as usize) < PARTITIONS_MAX;
        if !held.keys().chain(&assigned).all(is_there) {
            return Err(wrong("nodes.partitions", format!("partitions below {PARTITIONS_MAX}")));
        }
        let number = number("nodes.number", &text)?;
        Ok((Arc::new(Report { node: node.read()?, number, is_leaving, has_map, assigned, held }), is_gone))
    }
}

impl ClaimText {
    fn of((&partition, standing): (&u32, &Standing)) -> Option<ClaimText> {
        standing.claim().map(|claim| ClaimText { partition, claim: claim.to_string() })
    }
}

fn node_id(text: &str) -> Result<NodeId, TextError> {
    let id = decimal(text).filter(|&id| id != 0);
    id.map(NodeId).ok_or_else(|| wrong("node.id", "a whole number above 0"))
}

fn number(field: &'static str, text: &str) -> Result<u64, TextError> {
    let number = decimal(text).filter(|&number| number < NUMBERS_END);
    number.ok_or_else(|| wrong(field, format!("a whole number below {NUMBERS_END}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NODES_BYTES_MAX;

    fn node(id: u64) -> MapNode {
        MapNode { id: NodeId(id), host: format!("node-{id}"), port: 7_400, tls_port: 0 }
    }

    fn report(id: u64) -> Arc<Report> {
        let held = [(1, Standing::Loading), (2, Standing::Ready), (3, Standing::Owning(9))];
        let (assigned, held) = ([1, 3].into(), held.into());
        Arc::new(Report {
            node: node(id),
            number: 1_795_320_306_000_000,
            is_leaving: id == 2,
            has_map: id != 2,
            assigned,
            held,
        })
    }

    fn tidings() -> Tidings {
        let mut map = NodeMap::new(7, Partitioner::Crc32, vec![node(1), node(2)], 2);
        map.push(Some(1), [0]);
        map.push(None, []);
        map.push(None, [1]);
        map.push(Some(0), []);
        let view = View::of([(report(1), false), (report(u64::MAX), false)]);
        Tidings { node: NodeId(1), news: News { view, map: Some(Arc::new(map)) } }
    }

    #[test]
    fn tidings_are_read_as_they_are_written() {
        let whole = tidings();
        assert_eq!(Tidings::read(&whole.write()).unwrap(), whole);
        let without = Tidings { news: News { map: None, ..whole.news }, ..whole };
        assert_eq!(Tidings::read(&without.write()).unwrap(), without);
    }

    /// What `nodes` nodes of `each` partitions tell, each held by `holders` of them.
    fn large(nodes: u64, each: u64, holders: u64) -> Tidings {
        let held_by = |id: u64| {
            let own = (0..holders).flat_map(move |back| {
                (0..each).map(move |partition| {
                    let standing = if back == 0 { Standing::Owning(partition) } else { Standing::Ready };
                    (((id + nodes - back) % nodes * each + partition) as u32, standing)
                })
            });
            own.collect::<BTreeMap<u32, Standing>>()
        };
        let report = |id: u64| {
            let held = held_by(id);
            let assigned = (id * each..(id + 1) * each).map(|partition| partition as u32).collect();
            let node = node(10_000_000_000_000_000_000 + id);
            Arc::new(Report { node, held, assigned, ..Report::clone(&report(id)) })
        };
        let reports: Vec<_> = (0..nodes).map(|id| (report(id), false)).collect();
        let members = reports.iter().map(|(report, _)| report.node.clone()).collect();
        let mut map = NodeMap::new(1_795_320_306_000_000, Partitioner::Murmur2, members, holders as usize);
        for partition in 0..nodes * each {
            let place = |ahead: u64| ((partition / each + ahead) % nodes) as u16;
            map.push(Some(place(0)), (1..holders).map(place));
        }
        Tidings { node: NodeId(1), news: News { view: View::of(reports), map: Some(Arc::new(map)) } }
    }

    #[test]
    fn what_the_largest_group_tells_is_read() {
        for (nodes, each, holders) in [(100, 24, 2), (256, 32, 4)] {
            let tidings = large(nodes, each, holders);
            let bytes = tidings.write();
            eprintln!("{nodes} nodes x {each} partitions x {holders} holders: {} bytes", bytes.len());
            assert!(bytes.len() <= NODES_BYTES_MAX, "{}", bytes.len());
            assert_eq!(Tidings::read(&bytes).unwrap(), tidings);
        }
    }

    #[test]
    fn of_one_that_is_gone_it_is_told_which_and_no_more() {
        let mut whole = tidings();
        whole.news.view = View::of([(report(2), true)]);
        let read = Tidings::read(&whole.write()).unwrap();
        let known: Vec<_> = read.news.view.known().collect();
        assert_eq!((known[0].0.node.id, known[0].0.number, known[0].1), (NodeId(2), report(2).number, true));
        assert!(known[0].0.held.is_empty() && !read.news.view.has(NodeId(2)));
    }

    #[test]
    fn nonsense_is_not_believed() {
        let text = String::from_utf8(tidings().write()).unwrap();
        for (of, is) in [
            ("\"partitions\":[[1,0]", "\"partitions\":[[2,0]"),
            ("\"partitions\":[[1,0]", "\"partitions\":[[1,null]"),
            ("\"partitions\":[[1,0]", "\"partitions\":[[1,0,0]"),
            ("\"holders_each\":2", "\"holders_each\":0"),
            ("\"epoch\":\"7\"", "\"epoch\":\"18446744073709551615\""),
            ("\"number\":\"1795320306000000\"", "\"number\":\"18446744073709551615\""),
            ("\"id\":\"1\"", "\"id\":\"0\""),
            ("\"host\":\"node-1\"", "\"host\":\"\""),
            ("\"ready\":[2]", "\"ready\":[8192]"),
            ("\"claim\":\"9\"", "\"claim\":\"18446744073709551615\""),
            ("crc32", "md5"),
            ("\"node\":\"1\"", "\"node\":1"),
            ("{", "["),
        ] {
            let wrong = text.replacen(of, is, 1);
            assert_ne!(wrong, text, "{of}");
            assert!(Tidings::read(wrong.as_bytes()).is_err(), "{is}");
        }
    }
}
