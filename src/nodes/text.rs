//! What nodes tell each other, and whoever looks: the map, and how each node stands, as JSON. Read with distrust: whoever answers may
//! be another build, or no florin.

use std::cmp::Reverse;
use std::sync::Arc;

use florin_core::nodes::{ByPartition, Mark, Member, News, Report, Standing};
use florin_schema::nodes::{HOST_BYTES_MAX, is_host};
use florin_schema::{MapNode, NodeId, NodeMap, Partitioner, decimal};
use serde::{Deserialize, Serialize};

use crate::limits::{HOLDERS_MAX, NODES_KNOWN_MAX, NODES_MAX, PARTITIONS_MAX};
use crate::shard::NodesText;

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

/// What a node tells: whoever says what it knows is told which map there is, and of nodes what is new to it; whoever does not, all of it.
#[derive(Serialize, Deserialize)]
struct NewsText<Map> {
    node: String,
    version: String,
    map: Option<Map>,
    nodes: Vec<ReportText>,
}

#[derive(Serialize, Deserialize)]
struct MarkText {
    epoch: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct MapText {
    epoch: String,
    digest: String,
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

/// What a node tells of itself and of the others. It has said the same already where its [`key`] is the same.
pub fn write(member: &Member) -> NodesText {
    let (node, version) = (member.node().id.0.to_string(), member.view().version().to_string());
    let map = member.map().zip(member.mark()).map(|(map, mark)| MapText::of(map, mark));
    let mark = member.mark().map(MarkText::of);
    let whole = NewsText { node: node.clone(), version: version.clone(), map, nodes: Vec::new() };
    let news = NewsText { node, version, map: mark, nodes: Vec::new() };
    let mut parts: Vec<(u64, Vec<u8>)> = member
        .view()
        .since(0)
        .map(|(since, report, is_gone)| (since, json(&ReportText::of(report, is_gone))))
        .collect();
    parts.sort_by_key(|(since, _)| Reverse(*since));
    NodesText::new(before_nodes(&whole), before_nodes(&news), &parts)
}

/// What [`write()`] depends on.
pub fn key(member: &Member) -> (u64, Option<Mark>) {
    (member.view().version(), member.mark())
}

/// As far as the list of nodes, which is the last field.
fn before_nodes(text: &impl Serialize) -> Vec<u8> {
    let mut bytes = json(text);
    bytes.truncate(bytes.len() - "]}".len());
    bytes
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has string keys")
}

/// What another node has told that was told what this one knows of it.
///
/// # Errors
/// What is wrong with its answer.
pub fn read(bytes: &[u8]) -> Result<News, TextError> {
    let text: NewsText<MarkText> = florin_input::json(bytes)?;
    if text.nodes.len() > NODES_KNOWN_MAX {
        return Err(wrong("nodes", format!("at most {NODES_KNOWN_MAX}")));
    }
    let words = text.nodes.into_iter().map(ReportText::read).collect::<Result<_, TextError>>()?;
    let map = text.map.map(MarkText::read).transpose()?;
    Ok(News { teller: node_id(&text.node)?, version: number("version", &text.version)?, words, map })
}

/// The map in what a node tells people; `None` where it has none yet.
///
/// # Errors
/// What is wrong with it.
pub fn read_map(bytes: &[u8]) -> Result<Option<NodeMap>, TextError> {
    #[derive(Deserialize)]
    struct Whole {
        map: Option<MapText>,
    }
    florin_input::json::<Whole>(bytes)?.map.map(MapText::read).transpose()
}

impl MarkText {
    fn of(mark: Mark) -> MarkText {
        MarkText { epoch: mark.epoch.to_string(), digest: mark.digest.to_string() }
    }

    fn read(self) -> Result<Mark, TextError> {
        let digest = decimal(&self.digest).ok_or_else(|| wrong("map.digest", "a whole number"))?;
        Ok(Mark { epoch: number("map.epoch", &self.epoch)?, digest })
    }
}

impl MapText {
    fn of(map: &NodeMap, mark: Mark) -> MapText {
        let holders = |partition| {
            let standbys = map.standbys(partition).map(Some);
            let mut holders: Vec<Option<u16>> = [map.owner(partition)].into_iter().chain(standbys).collect();
            holders.truncate(if holders == [None] { 0 } else { holders.len() });
            holders
        };
        let MarkText { epoch, digest } = MarkText::of(mark);
        MapText {
            epoch,
            digest,
            partitioner: map.partitioner.to_string(),
            nodes: map.nodes().iter().map(NodeText::of).collect(),
            partitions: (0..map.partitions()).map(holders).collect(),
            holders_each: map.holders_each(),
        }
    }

    fn read(self) -> Result<NodeMap, TextError> {
        let MapText { epoch, partitioner, nodes, partitions, holders_each, .. } = self;
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
        if !is_host(&host) || (port, tls_port) == (0, 0) {
            let expected =
                format!("a host of 1 to {HOST_BYTES_MAX} letters, digits, -, ., _ and : and a port");
            return Err(wrong("node", expected));
        }
        Ok(MapNode { id: node_id(&id)?, host, port, tls_port })
    }
}

impl ReportText {
    fn of(report: &Report, is_gone: bool) -> ReportText {
        let at = |standing| {
            let held = report.held.iter().filter(|(_, found)| **found == standing && !is_gone);
            held.map(|(partition, _)| partition).collect()
        };
        ReportText {
            node: NodeText::of(&report.node),
            number: report.number.to_string(),
            is_gone,
            is_leaving: report.is_leaving,
            has_map: report.has_map,
            // Of one that is gone nobody asks what it had.
            assigned: report.assigned.partitions().filter(|_| !is_gone).collect(),
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
        let mut held: Vec<(u32, Standing)> =
            each(loading, Standing::Loading).chain(each(ready, Standing::Ready)).collect();
        for ClaimText { partition, claim } in owning {
            held.push((partition, Standing::Owning(number("nodes.claim", &claim)?)));
        }
        let (held, assigned): (ByPartition<Standing>, ByPartition<()>) =
            (held.into_iter().collect(), assigned.into_iter().collect());
        let is_there = |partition: u32| (partition as usize) < PARTITIONS_MAX;
        if !held.partitions().chain(assigned.partitions()).all(is_there) {
            return Err(wrong("nodes.partitions", format!("partitions below {PARTITIONS_MAX}")));
        }
        let number = number("nodes.number", &text)?;
        Ok((Arc::new(Report { node: node.read()?, number, is_leaving, has_map, assigned, held }), is_gone))
    }
}

impl ClaimText {
    fn of((partition, standing): (u32, &Standing)) -> Option<ClaimText> {
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

/// What was read, written again: for `fuzz/`, and for no caller.
#[doc(hidden)]
pub mod fuzzed {
    use super::{MapText, Mark, MarkText, News, NewsText, NodeMap, ReportText, json};

    /// As the node that told it would tell it.
    pub fn write_news(news: &News) -> Vec<u8> {
        let nodes = news.words.iter().map(|(report, is_gone)| ReportText::of(report, *is_gone)).collect();
        let map = news.map.map(MarkText::of);
        json(&NewsText { node: news.teller.0.to_string(), version: news.version.to_string(), map, nodes })
    }

    /// As a node tells people that knows this map, and of no other node.
    pub fn write_map(map: &NodeMap) -> Vec<u8> {
        let mark = Mark { epoch: map.epoch, digest: map.digest() };
        let (node, version) = (1.to_string(), 0.to_string());
        json(&NewsText { node, version, map: Some(MapText::of(map, mark)), nodes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use florin_core::nodes::{Place, Topic};
    use serde_json::Value;

    use super::*;
    use crate::limits::{NODES_ASK_EVERY, NODES_ASKED_EACH, NODES_BYTES_MAX};

    fn node(id: u64) -> MapNode {
        MapNode { id: NodeId(id), host: format!("node-{id}"), port: 7_400, tls_port: 0 }
    }

    fn report(id: u64) -> Report {
        let held = [(1, Standing::Loading), (2, Standing::Ready), (3, Standing::Owning(9))];
        let (assigned, held) = ([1, 3].into_iter().collect(), held.into_iter().collect());
        Report {
            node: node(id),
            number: 1_795_320_306_000_000,
            is_leaving: id == 2,
            has_map: id != 2,
            assigned,
            held,
        }
    }

    fn topic(partitions: u32, standbys: usize) -> Topic {
        Topic { partitioner: Partitioner::Crc32, partitions, standbys }
    }

    /// A member that knows of these, and is in the group with them.
    fn member(topic: Topic, words: Vec<(Arc<Report>, bool)>) -> Member {
        let mut member = Member::new(node(u64::MAX), topic, 1);
        let described = words.iter().map(|(report, _)| (Place::of(&report.node), BTreeSet::new()));
        let described = described.chain([(Place::of(&node(u64::MAX)), BTreeSet::new())]).collect();
        let mark = Mark { epoch: 7, digest: u64::MAX };
        member.hear(News { teller: NodeId(1), version: 1, words, map: Some(mark) }, 1);
        let asked = member.view().clone();
        member.describe(&described, &asked);
        member.turn(&ByPartition::default(), 9);
        member
    }

    fn small() -> Member {
        member(topic(4, 1), vec![(Arc::new(report(1)), false), (Arc::new(report(2)), true)])
    }

    fn answer(text: &NodesText, since: Option<u64>) -> Vec<u8> {
        text.answer(since).concat()
    }

    #[test]
    fn news_are_read_as_they_are_written() {
        let member = small();
        let (text, all) = (write(&member), member.news(0));
        assert!(all.map.is_some_and(|mark| mark.epoch > 7) && all.words.len() == 3);
        let read = read(&answer(&text, Some(0))).unwrap();
        assert_eq!((read.teller, read.version, read.map), (all.teller, all.version, all.map));
        let of =
            |news: &News, id| news.words.iter().find(|(report, _)| report.node.id.0 == id).cloned().unwrap();
        assert_eq!(of(&read, 1), of(&all, 1));
        // Of one that is gone it is told which, and no more.
        let (gone, is_gone) = of(&read, 2);
        assert!(
            (gone.number, is_gone) == (report(2).number, true)
                && gone.held.is_empty()
                && gone.assigned.is_empty()
        );
        for since in 0..=all.version {
            let told = super::read(&answer(&text, Some(since))).unwrap().words;
            assert_eq!(told.len(), member.news(since).words.len(), "since {since}");
        }
    }

    #[test]
    fn whoever_looks_is_shown_the_map() {
        let member = small();
        let told: Value = serde_json::from_slice(write(&member).whole()).unwrap();
        let map = member.map().unwrap();
        assert_eq!(told["map"]["epoch"], map.epoch.to_string());
        assert_eq!(told["map"]["digest"], map.digest().to_string());
        assert_eq!(told["map"]["partitions"].as_array().unwrap().len(), 4);
        assert_eq!(told["map"]["partitions"][2], serde_json::json!([0]));
        assert_eq!(told["map"]["partitions"][0], serde_json::json!([]));
        assert_eq!(told["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(read_map(write(&member).whole()).unwrap().as_ref(), Some(&**map));
        let without = write(&Member::new(node(1), topic(4, 1), 1));
        let told: Value = serde_json::from_slice(without.whole()).unwrap();
        assert!(told["map"].is_null() && told["nodes"].as_array().unwrap().is_empty());
        assert_eq!(read_map(without.whole()).unwrap(), None);
    }

    /// One of `nodes` nodes of `each` partitions, each held by `holders` of them.
    fn large(nodes: u64, each: u64, holders: u64) -> Member {
        let held_by = |id: u64| {
            let own = (0..holders).flat_map(move |back| {
                (0..each).map(move |partition| {
                    let standing = if back == 0 { Standing::Owning(partition) } else { Standing::Ready };
                    (((id + nodes - back) % nodes * each + partition) as u32, standing)
                })
            });
            own.collect::<ByPartition<Standing>>()
        };
        let word = |id: u64| {
            let held = held_by(id);
            let assigned = (id * each..(id + 1) * each).map(|partition| partition as u32).collect();
            let node = node(10_000_000_000_000_000_000 + id);
            (Arc::new(Report { node, held, assigned, ..report(1) }), false)
        };
        member(topic((nodes * each) as u32, holders as usize - 1), (0..nodes).map(word).collect())
    }

    /// What a node hears a second of the others where nothing changes, and once of a change of one of them.
    #[test]
    fn a_group_that_rests_says_little_and_what_the_largest_tells_is_read() {
        for (nodes, each, holders) in [(2, 12, 2), (99, 24, 2), (255, 32, 4)] {
            let member = large(nodes, each, holders);
            let text = write(&member);
            let version = member.view().version();
            let bytes = |since| answer(&text, since).len();
            let (whole, all, one, none) =
                (bytes(None), bytes(Some(0)), bytes(Some(version - 1)), bytes(Some(version)));
            let periods = 1_000 / NODES_ASK_EVERY.as_millis() as u64;
            let asks = nodes.min(NODES_ASKED_EACH as u64) * periods;
            eprintln!(
                "{} nodes x {each} partitions x {holders} holders: {whole} bytes to people, {all} at first; {asks} questions a second, \
                 {} bytes of answers where nothing is new; {} before, where each told all",
                nodes + 1,
                asks * none as u64,
                nodes * periods * whole as u64
            );
            assert!(whole.max(all) <= NODES_BYTES_MAX, "{whole}");
            assert!(none < 150 && one < none + all / 4, "{none} {one} {all}");
            assert_eq!(read(&answer(&text, Some(0))).unwrap().words.len(), nodes as usize + 1);
        }
    }

    #[test]
    fn nonsense_is_not_believed() {
        let text = String::from_utf8(answer(&write(&small()), Some(0))).unwrap();
        let epoch = small().map().unwrap().epoch;
        let of_epoch = format!("\"epoch\":\"{epoch}\"");
        for (of, is) in [
            (&*of_epoch, "\"epoch\":\"18446744073709551615\""),
            ("\"digest\":\"", "\"digest\":\"-"),
            ("\"version\":\"", "\"version\":\"x"),
            ("\"number\":\"1795320306000000\"", "\"number\":\"18446744073709551615\""),
            ("\"id\":\"1\"", "\"id\":\"0\""),
            ("\"host\":\"node-1\"", "\"host\":\"\""),
            ("\"host\":\"node-1\"", "\"host\":\"node-1\\r\\nx\""),
            ("\"host\":\"node-1\"", "\"host\":\"node\\\"} 1\""),
            ("\"ready\":[2]", "\"ready\":[8192]"),
            ("\"claim\":\"9\"", "\"claim\":\"18446744073709551615\""),
            ("{", "["),
        ] {
            let wrong = text.replacen(of, is, 1);
            assert_ne!(wrong, text, "{of}");
            assert!(read(wrong.as_bytes()).is_err(), "{is}");
        }
        let text = String::from_utf8(write(&small()).whole().to_vec()).unwrap();
        for (of, is) in [
            (&*of_epoch, "\"epoch\":\"18446744073709551615\""),
            ("[0]", "[9]"),
            ("[0]", "[0,null]"),
            ("[0]", "[0,0,0,0]"),
            ("\"holders_each\":3", "\"holders_each\":0"),
            ("crc32", "md5"),
        ] {
            let wrong = text.replacen(of, is, 1);
            assert_ne!(wrong, text, "{of}");
            assert!(read_map(wrong.as_bytes()).is_err(), "{is}");
        }
    }
}
