//! What may become of nodes that divide the users, and of their brokers, one after the other at random, while a writer writes and readers
//! ask by the Rust client and by Go's. No answer is wrong, and none goes back.
//!
//! `FLORIN_TROUBLES=50` makes so many, and is the long form: two brokers and a network for one of the nodes are its own, so that brokers
//! are restarted and frozen, the group's coordinator moves, and that node is cut off; nodes freeze for up to a minute; and how long
//! anybody waited for an answer is judged as well as printed. `FLORIN_SEED=n` draws others, or the same again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use florin_schema::ids::mix;
use rustix::process::Signal;
use tempfile::TempDir;

use super::group::{Group, PARTITIONS, settles};
use super::load::{self, Load, Longest, PROGRAMS};
use crate::kafka::broker::Broker;
use crate::network::{Link, Network};
use crate::support::{Server, get, wait_for};

const BROKERS: Link = Link::First;
/// To callers, and to the other nodes.
const OTHERS: Link = Link::Second;
const TOPIC: &str = "troubles";
const NODES: usize = 3;
/// Of the short form, which the shared broker is enough for.
const FEW: u64 = 4;
/// Longer than any broker is away: who asks for nothing is answered what is held.
const MAX_STALENESS_MS: &str = "600000";
/// How long callers of a node that nothing happens to may wait where those of others are judged: else it is this machine that is slow.
const UNDISTURBED_MOST_S: f64 = 0.1;

/// What happens. Nodes and brokers are named by their places among those that there are.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Trouble {
    /// Killed, and started again after so many seconds: before the group has missed it, or after.
    Kill { node: usize, seconds: u64 },
    /// It stands still for so long.
    Freeze { node: usize, seconds: u64 },
    /// Ended as an operator does, and started again.
    Stop { node: usize },
    /// The same with each of them in turn.
    Roll,
    /// One more, or one less where there is one more already.
    Resize,
    /// A broker is ended, or killed, and started again.
    RestartBroker { broker: usize, is_killed: bool },
    /// It stands still for so long.
    FreezeBroker { broker: usize, seconds: u64 },
    /// The group is another broker's to coordinate.
    MoveCoordinator,
    /// A node hears nothing of the brokers for so long, nor they of it; callers and the others reach it.
    Cut { seconds: u64 },
}

impl Trouble {
    /// So many of them. Each kind comes as often as any other, in an order and with particulars that the seed says.
    fn draw(seed: u64, count: u64, form: Form) -> Vec<Trouble> {
        let mut draws = seed << 32;
        let mut below = |most: usize| {
            draws += 1;
            (mix(draws) % most as u64) as usize
        };
        let kinds = match form {
            Form::Short => 5,
            Form::Long => 8,
            Form::LongWithNetwork => 9,
        };
        let mut kinds_left = Vec::new();
        (0..count)
            .map(|_| {
                if kinds_left.is_empty() {
                    kinds_left.extend(0..kinds);
                }
                let kind = kinds_left.swap_remove(below(kinds_left.len()));
                let node = below(NODES);
                let freezes = if form == Form::Short { 3 } else { 60 };
                match kind {
                    0 => Trouble::Kill { node, seconds: below(10) as u64 },
                    1 => Trouble::Freeze { node, seconds: 1 + below(freezes) as u64 },
                    2 => Trouble::Stop { node },
                    3 => Trouble::Resize,
                    4 => Trouble::Roll,
                    5 => Trouble::RestartBroker { broker: below(2), is_killed: below(2) == 1 },
                    6 => Trouble::FreezeBroker { broker: below(2), seconds: 1 + below(30) as u64 },
                    7 => Trouble::MoveCoordinator,
                    _ => Trouble::Cut { seconds: 1 + below(30) as u64 },
                }
            })
            .collect()
    }

    /// Whether an operator does it.
    fn is_planned(self) -> bool {
        matches!(self, Trouble::Stop { .. } | Trouble::Roll | Trouble::Resize)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Trouble::Kill { node, seconds } => {
                write!(f, "node {node} is killed, and started after {seconds} s")
            }
            Trouble::Freeze { node, seconds } => write!(f, "node {node} stands still for {seconds} s"),
            Trouble::Stop { node } => write!(f, "node {node} is ended, and started"),
            Trouble::Roll => f.write_str("each node is ended, and started"),
            Trouble::Resize => f.write_str("a node is added or removed"),
            Trouble::RestartBroker { broker, is_killed: true } => {
                write!(f, "broker {broker} is killed, and started")
            }
            Trouble::RestartBroker { broker, is_killed: false } => {
                write!(f, "broker {broker} is ended, and started")
            }
            Trouble::FreezeBroker { broker, seconds } => {
                write!(f, "broker {broker} stands still for {seconds} s")
            }
            Trouble::MoveCoordinator => f.write_str("another broker coordinates the group"),
            Trouble::Cut { seconds } => write!(f, "node 0 is cut off the brokers for {seconds} s"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    Short,
    Long,
    LongWithNetwork,
}

/// All that trouble may come to.
struct Scene<'a> {
    group: Group<'a>,
    /// The first node's own.
    network: Option<&'a Network>,
    /// The brokers, as they are named there.
    outside: String,
    brokers: Vec<Broker>,
    coordinator: usize,
    /// Where each is reached, and the node, while it is there.
    nodes: Vec<(SocketAddr, Option<Server>)>,
    load: &'a Load,
}

impl Scene<'_> {
    fn start(&mut self, node: usize) {
        let folder = format!("checkpoints-{node}");
        let keeps = ["--checkpoint", &folder, "--checkpoint-every-s", "10", "--insecure-listen", "on"];
        let keeps = [&keeps[..], &["--max-staleness-ms", MAX_STALENESS_MS]].concat();
        // Each would take the first.
        let cpu = (node % std::thread::available_parallelism().map_or(1, usize::from)).to_string();
        let more = [&keeps[..], &["--cpus", &cpu]].concat();
        let within = self.network.filter(|_| node == 0);
        let ip = match (within, self.network) {
            (Some(network), _) => network.here(OTHERS),
            (None, Some(network)) => network.there(OTHERS),
            (None, None) => Ipv4Addr::LOCALHOST,
        };
        let any = self.nodes.get(node).map_or(SocketAddr::new(IpAddr::V4(ip), 0), |(any, _)| *any);
        let server = match within {
            None => self.group.start(&any.to_string(), &more),
            Some(network) => {
                let group = Group { ledger: self.outside.clone(), ..self.group };
                Server::spawn(network.within(&group.command(&any.to_string(), &more)))
            }
        };
        match self.nodes.get_mut(node) {
            Some(place) => *place = (server.any, Some(server)),
            None => self.nodes.push((server.any, Some(server))),
        }
    }

    fn signal(&self, node: usize, signal: Signal) {
        self.nodes[node].1.as_ref().expect("it is there").signal(signal);
    }

    /// Ends it as an operator does.
    fn end(&mut self, node: usize) {
        self.signal(node, Signal::TERM);
        let (code, said) = self.nodes[node].1.take().expect("it is there").ended();
        assert_eq!(code, Some(0), "{said}");
    }

    /// All that are there agree, and are up to date: brokers that come back need some seconds, and a node that starts meanwhile ends.
    fn settle(&self) {
        let there = self.nodes.iter().filter(|(_, server)| server.is_some());
        let there: Vec<SocketAddr> = there.map(|(any, _)| *any).collect();
        settles(&there);
        for node in there {
            for user in load::users_of_each_partition() {
                let asked = format!("/v1/users/{user}/balance?max_age_ms=1000");
                wait_for("a node is up to date", || {
                    let answer = get(node, &asked);
                    ["200", "307"].iter().any(|status| answer[9..].starts_with(status)).then_some(())
                });
            }
        }
    }

    /// Lets so much time pass, in which everybody is answered.
    fn hold(&self, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        self.load.goes_on();
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }

    fn play(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Kill { node, seconds } => {
                self.signal(node, Signal::KILL);
                self.nodes[node].1.take().expect("it is there").ended();
                self.hold(seconds);
                self.start(node);
            }
            Trouble::Freeze { node, seconds } => {
                self.signal(node, Signal::STOP);
                self.hold(seconds);
                self.signal(node, Signal::CONT);
            }
            Trouble::Stop { node } => {
                self.end(node);
                self.start(node);
            }
            Trouble::Roll => {
                for node in 0..NODES {
                    self.end(node);
                    self.start(node);
                    self.settle();
                }
            }
            Trouble::Resize => match self.nodes.get(NODES) {
                Some((_, Some(_))) => self.end(NODES),
                _ => self.start(NODES),
            },
            Trouble::RestartBroker { broker, is_killed } => {
                let broker = &mut self.brokers[broker];
                if is_killed {
                    broker.crash()
                } else {
                    broker.end()
                }
                broker.resume();
            }
            Trouble::FreezeBroker { broker, seconds } => {
                self.brokers[broker].freeze();
                self.hold(seconds);
                self.brokers[broker].thaw();
            }
            Trouble::MoveCoordinator => {
                self.coordinator = (self.coordinator + 1) % self.brokers.len();
                self.brokers[self.coordinator].coordinate();
            }
            Trouble::Cut { seconds } => {
                let network = self.network.expect("it was drawn because there is one");
                network.cut(BROKERS);
                self.hold(seconds);
                network.mend(BROKERS);
            }
        }
        self.settle();
        self.load.goes_on();
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Lets trouble come, one after the other; what callers waited that they should not have.
fn come(troubles: Vec<Trouble>, scene: &mut Scene<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, trouble) in troubles.into_iter().enumerate() {
        scene.load.goes_on();
        scene.load.begins();
        let began = Instant::now();
        scene.play(trouble);
        let (longest, (failed, why)) = (scene.load.longest(), scene.load.failed());
        let undisturbed_s = seconds(scene.load.longest_undisturbed_us());
        let waits = PROGRAMS.iter().zip(longest).map(|(program, Longest { us, partition })| {
            format!("{program} {:.2} s (partition {partition})", seconds(us))
        });
        let most_s = if trouble.is_planned() { PLANNED_MOST_S } else { UNPLANNED_MOST_S };
        let is_long = failed > 0 || longest.into_iter().any(|longest| seconds(longest.us) >= most_s);
        let line = format!(
            "{:2} {trouble}: settled after {:.1} s; longest waits: {}; of a node apart {undisturbed_s:.2} s; {failed} failed{}",
            number + 1,
            began.elapsed().as_secs_f64(),
            waits.collect::<Vec<_>>().join(", "),
            match is_long {
                true if undisturbed_s >= UNDISTURBED_MOST_S => "; the machine was slow: not judged",
                true => "; LONG",
                false => "",
            }
        );
        println!("{line}");
        if failed > 0 {
            println!("   the last that failed: {why}");
        }
        if is_long && undisturbed_s < UNDISTURBED_MOST_S {
            complaints.push(line);
        }
    }
    complaints
}

/// A read that nothing interrupts is answered by whom it asks first: a client turns to another after 250 ms of silence.
const PLANNED_MOST_S: f64 = 0.25;
const UNPLANNED_MOST_S: f64 = 1.0;

#[test]
fn no_answer_is_wrong_and_none_goes_back_whatever_becomes_of_nodes_and_brokers() {
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (many, seed) = (variable("FLORIN_TROUBLES"), variable("FLORIN_SEED").unwrap_or(1));
    let folder = TempDir::new().unwrap();
    let network = many.and_then(|_| Network::new());
    let mut brokers = Vec::new();
    let first = match many {
        None => Broker::shared(),
        Some(_) => {
            brokers.extend(Broker::start_reached_by(network.as_ref().map(|network| network.there(BROKERS))));
            brokers.extend(brokers.first().map(Broker::joined));
            brokers.first()
        }
    };
    let Some(first) = first else { return };
    first.make_topic(TOPIC, PARTITIONS as i32);
    let all = |name: fn(&Broker) -> String| match brokers[..] {
        [] => name(first),
        _ => brokers.iter().map(name).collect::<Vec<_>>().join(","),
    };
    let (near, outside) = (all(Broker::bootstrap), network.as_ref().map(|_| all(Broker::bootstrap_outside)));
    let producer = first.producer(&[("bootstrap.servers", &near)]);
    let form = match (many, &network) {
        (None, _) => Form::Short,
        (Some(_), None) => Form::Long,
        (Some(_), Some(_)) => Form::LongWithNetwork,
    };
    println!("seed {seed}, {form:?}");
    let ledger = |brokers: &str| format!("kafka://{brokers}/{TOPIC}");
    let load = Arc::new(Load::new());
    let mut scene = Scene {
        group: Group { folder: folder.path(), ledger: ledger(&near), name: TOPIC },
        network: network.as_ref(),
        outside: outside.as_deref().map(ledger).unwrap_or_default() + "?sslmode=disable",
        brokers,
        coordinator: 0,
        nodes: Vec::new(),
        load: &load,
    };
    let troubles = Trouble::draw(seed, many.unwrap_or(FEW), form);
    let keeps = ["--max-staleness-ms", MAX_STALENESS_MS, "--shards", "1"];
    let apart = Server::start(folder.path(), &[&["--ledger", &ledger(&near)], &keeps[..]].concat());
    let complaints = std::thread::scope(|scope| {
        let _ends = Ends(&load);
        scope.spawn(|| load.write(TOPIC, &producer));
        (0..NODES).for_each(|node| scene.start(node));
        scene.settle();
        let nodes: Vec<String> = scene.nodes.iter().map(|(any, _)| any.to_string()).collect();
        let nodes = nodes.join(",");
        for program in 0..PROGRAMS.len() {
            let (load, nodes) = (Arc::clone(&load), nodes.clone());
            scope.spawn(move || load.read(program, &nodes));
        }
        scope.spawn(|| Arc::clone(&load).read_undisturbed(apart.any));
        let complaints = come(troubles, &mut scene);
        load.catches_up();
        complaints
    });
    let untried = load.assert_right();
    let lasts = many.is_some_and(|many| many >= 10);
    assert!(untried.is_empty() || !lasts, "no answer of all these could break {untried:?}");
    for complaint in &complaints {
        println!("longer than it should be: {complaint}");
    }
    assert!(many.is_none() || complaints.is_empty(), "{} troubles were felt", complaints.len());
}

/// Whatever fails, those who call end.
struct Ends<'a>(&'a Load);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ends();
    }
}
