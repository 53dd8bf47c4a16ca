//! Nodes that divide the users are asked each about its own: real ones on one ledger, which are told who has what.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use florin::node::{Division, Node, NodeConfig};
use florin::shard::{Hold, Holdings};
use florin_bench::{
    generator::{Load, Span},
    targets::{Bench, Target, TargetSpec},
    trial::{self, Trial},
};
use florin_schema::{MapNode, NodeMap, Partitioner, Status};

use crate::{AT_MOST, NATIVE, node::bench, plan, run};

/// Three of them.
struct Divided {
    nodes: Vec<(Node, Division)>,
    epoch: u64,
}

impl Divided {
    fn start(ledger: &Path) -> Divided {
        let nodes = (0..3).map(|_| {
            let mut node = Node::start(NodeConfig {
                divides_users: true,
                shards: Some(2),
                shards_per_cpu: 2,
                ..NodeConfig::local(ledger.to_owned())
            })
            .unwrap();
            let began = Instant::now();
            while !node.obstacles().is_empty() {
                assert!(began.elapsed() < AT_MOST, "{:?}", node.obstacles());
                thread::park_timeout(Duration::from_millis(1));
            }
            let division = node.take_division().unwrap();
            (node, division)
        });
        Divided { nodes: nodes.collect(), epoch: 0 }
    }

    /// From now on each partition has this owner, and nobody else has it.
    fn divide(&mut self, owners: &[u16]) {
        self.epoch += 1;
        let place = |(node, _): &(Node, Division)| MapNode {
            id: node.identity().node,
            host: "127.0.0.1".to_owned(),
            port: address(node).port(),
            tls_port: 0,
        };
        let places = self.nodes.iter().map(place).collect();
        let mut map = NodeMap::new(self.epoch, Partitioner::Murmur2, places, 1);
        owners.iter().for_each(|&owner| map.push(Some(owner), []));
        for ((_, division), place) in self.nodes.iter_mut().zip(0..) {
            let holds = owners.iter().map(|&owner| if owner == place { Hold::Ready } else { Hold::No });
            assert!(division.tell(Holdings::new(map.clone(), holds.collect())));
            let began = Instant::now();
            while !division.is_taken_over() {
                assert!(began.elapsed() < AT_MOST, "a shard stands still");
                thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
}

fn address(node: &Node) -> SocketAddr {
    node.addresses().listen.expect("it listens")
}

const REQUESTS: u64 = 1_200;
const LOAD: Load = Load::Closed { connections: 12, depth: 4 };

fn measured(target: &Target, bench: &Bench) -> Trial {
    let span = Span::Requests { count: REQUESTS, at_most: AT_MOST };
    let mut settings = plan(target.endpoints.clone(), NATIVE, LOAD, span).settings;
    settings.population = bench.population.clone();
    trial::measure(target, LOAD, &settings, &mut |_| {}).unwrap().trial
}

#[test]
fn each_node_is_asked_about_its_own_users_and_what_moves_is_counted() {
    let (_folder, bench) = bench();
    let mut divided = Divided::start(bench.ledger.as_deref().unwrap());
    divided.divide(&[0, 1, 2, 0, 1, 2]);
    let any = address(&divided.nodes[0].0);
    let started = |options: &str| {
        let spec: TargetSpec = format!("florin,addr={any}{options}").parse().unwrap();
        Target::start(&spec, &bench)
    };
    let ways =
        ["", ",encoding=flatbuffers", ",via=any", ",via=http", ",via=any,ask=get", ",via=any,ask=mget"];
    let targets: Vec<Target> = ways.iter().map(|way| started(way).unwrap()).collect();
    for (target, way) in targets.iter().zip(ways) {
        let trial = measured(target, &bench);
        assert_eq!((trial.served, trial.shed.len(), trial.lost), (REQUESTS, 0, 0), "{way}: {trial:?}");
        let served: Vec<u64> = trial.nodes.iter().map(|node| node.served).collect();
        assert!(served.len() == 3 && served.iter().all(|&served| served > 0), "{way}: {served:?}");
        assert_eq!(served.iter().sum::<u64>(), REQUESTS, "{way}");
        let said = trial.divided().expect("there are several");
        assert!(said.contains(&format!("{any} ")) && said.contains("; 0 came to"), "{said}");
    }

    // What has moved between two runs is learned, also that a node has nothing more.
    divided.divide(&[1, 1, 2, 2, 1, 2]);
    let trial = measured(&targets[0], &bench);
    assert_eq!((trial.served, trial.shed.len(), trial.nodes.len()), (REQUESTS, 0, 2), "{trial:?}");

    // And what moves in the middle of one is counted, for nobody follows it there: the endpoints are those of the beginning.
    for (target, way) in targets.iter().zip(ways) {
        let span = Span::Requests { count: REQUESTS, at_most: AT_MOST };
        let mut plan = plan(target.endpoints.clone(), target.speech, LOAD, span);
        plan.settings.population = bench.population.clone();
        let outcome = run(&plan).unwrap();
        let moved = outcome.shed[&Status::NotOwner];
        assert!(moved > 0 && outcome.served > 0, "{way}: {outcome:?}");
        assert_eq!(moved + outcome.served, REQUESTS, "{way}");
    }
    let refused = started(",via=neighbour").unwrap_err().to_string();
    assert!(refused.contains("divide the users"), "{refused}");
}
