//! Nodes that divide a ledger's users among them: a client that was given one of them knows them all, asks each user's owner, and
//! follows what moves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fake::follower::map;
use crate::fake::path::Path;
use crate::fake::{self, Answer, Asked, Fake, entry_of, eventually, user};
use florin_client::records::Balances;
use florin_client::{Backoff, Builder, Client, Error};
use florin_schema::{MapNode, NodeId, NodeMap, Opcode, Partitioner, Status};

const PARTITIONS: u32 = 6;
const USERS: u64 = 60;
/// Where nobody listens: below the ports that are given out, for there a connection to a closed port may be one to itself.
const NOWHERE: &str = "127.0.0.1:1";
const STALL_AFTER: Duration = Duration::from_millis(30);

/// Nodes, who holds what, and the map that they tell.
struct Nodes {
    fakes: Vec<Fake>,
    /// The ways to them, where they are asked by these.
    ways: Vec<Path>,
    held: Vec<Held>,
    epoch: u64,
}

type Held = Arc<Mutex<(BTreeSet<u32>, u64)>>;

impl Nodes {
    async fn start(count: u64) -> Nodes {
        let (mut fakes, mut held) = (Vec::new(), Vec::new());
        for id in 1..=count {
            let holds: Held = Arc::default();
            let own = Arc::clone(&holds);
            fakes.push(Fake::tcp(map(id), move |asked| answer(asked, &own)).await);
            held.push(holds);
        }
        Nodes { fakes, ways: vec![], held, epoch: 0 }
    }

    /// The same, of nodes that are asked by ways.
    async fn start_by_ways(count: u64) -> Nodes {
        let mut nodes = Nodes::start(count).await;
        for fake in &nodes.fakes {
            nodes.ways.push(Path::to(&fake.address).await);
        }
        nodes
    }

    /// Where a node is asked.
    fn address(&self, place: usize) -> &str {
        self.ways.get(place).map_or(&self.fakes[place].address, |way| &way.address)
    }

    /// Cuts the way to a node, and lets nobody through any more.
    fn leave(&self, place: usize) {
        self.ways[place].lead(NOWHERE);
        self.ways[place].cut();
    }

    /// Loses all that travels to a node and from it.
    fn silence(&self, place: usize) {
        self.ways[place].drop_all();
        // Nor is there another connection.
        self.ways[place].lead(NOWHERE);
    }

    /// By partition the owner and its standbys.
    fn divide(&mut self, holders: &[&[u16]]) {
        self.epoch += 1;
        let node = |place: usize| MapNode {
            id: NodeId(place as u64 + 1),
            host: "127.0.0.1".to_owned(),
            port: self.address(place).rsplit_once(':').unwrap().1.parse().unwrap(),
            tls_port: 0,
        };
        let nodes = (0..self.fakes.len()).map(node).collect();
        let mut map = NodeMap::new(self.epoch, Partitioner::Murmur2, nodes, 2);
        for holders in holders {
            map.push(Some(holders[0]), holders[1..].iter().copied());
        }
        for ((fake, held), place) in self.fakes.iter().zip(&self.held).zip(0..) {
            fake.story.map.lock().unwrap().nodes = Some(map.clone());
            let own = holders.iter().zip(0..).filter(|(holders, _)| holders.contains(&place));
            *held.lock().unwrap() = (own.map(|(_, partition)| partition).collect(), self.epoch);
        }
    }

    /// The same of each partition.
    fn divide_alike(&mut self, holders: &[u16]) {
        self.divide(&[holders; PARTITIONS as usize]);
    }

    async fn client(&self) -> Client {
        let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
        // A host that is slow for a moment is no reason to ask a standby.
        let patient = Duration::from_secs(5);
        let builder = Client::builder().backoff(backoff).deadline(fake::PATIENCE).stall_after(patient);
        // It is given one of them.
        builder.connect(&*self.fakes[0].address).await.unwrap()
    }

    /// A client that tries a node that was away only where it is wanted, once it is connected to each.
    async fn client_that_waits(&self, stall_after: Duration) -> Client {
        let backoff = Backoff { first: Duration::from_secs(3_600), most: Duration::from_secs(3_600) };
        let builder = Builder::default().backoff(backoff).deadline(fake::PATIENCE);
        let builder = builder.stall_after(stall_after).silence_max(2 * fake::PATIENCE);
        let client = builder.connect(self.address(0)).await.unwrap();
        let is_there = || client.pool().iter().filter(|node| node.good > 0).count() == self.fakes.len();
        eventually("each is connected to", is_there).await;
        client
    }

    /// How many questions each has been asked.
    fn asked(&self) -> Vec<usize> {
        self.fakes.iter().map(|fake| fake.asked().len()).collect()
    }
}

fn partition_of(id: u64) -> u32 {
    Partitioner::Murmur2.partition_of_user(user(id), PARTITIONS)
}

fn answer(asked: &Asked, held: &Held) -> Answer {
    let (held, epoch) = held.lock().unwrap().clone();
    let is_batch = asked.opcode() == Opcode::GetBalances;
    let users = if is_batch { asked.ids() } else { vec![asked.user_id()] };
    if users.iter().all(|&id| held.contains(&partition_of(id))) {
        let entry = |id| entry_of(id, Some(fake::balance(id)));
        return Answer::Bytes(match is_batch {
            true => asked.rkyv(&Balances { entries: users.into_iter().map(entry).collect() }),
            false => asked.right_answer(),
        });
    }
    let mut frame = asked.reply(Status::NotOwner, 0, b"user_id: another node has it");
    frame[16..24].copy_from_slice(&epoch.to_le_bytes());
    Answer::Bytes(frame)
}

async fn read_all(client: &Client) {
    for id in 0..USERS {
        assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
    }
}

#[tokio::test]
async fn each_user_is_asked_of_its_owner_at_the_first_attempt() {
    let mut nodes = Nodes::start(3).await;
    nodes.divide(&[&[0, 1], &[1, 2], &[2, 0], &[0, 2], &[1, 0], &[2, 1]]);
    let client = nodes.client().await;
    read_all(&client).await;
    for (fake, place) in nodes.fakes.iter().zip(0..) {
        let asked: Vec<u64> = fake.asked().iter().map(Asked::user_id).collect();
        assert!(asked.iter().all(|&id| partition_of(id) % 3 == place), "node {place}: {asked:?}");
    }
    assert_eq!(nodes.asked().iter().sum::<usize>(), USERS as usize);
    // A frame for each pair of owner and standby.
    let users: Vec<_> = (0..USERS).map(user).collect();
    let batch = client.get_balances(&users).await.unwrap();
    assert!(batch.iter().zip(&users).all(|(entry, user)| entry.user_id == *user && entry.balance.is_some()));
    assert_eq!(batch.parts().len(), PARTITIONS as usize);
    assert_eq!(client.counters().retries, 0);
}

/// What has moved is learned in one round trip, whoever was asked first; also by a batch, which is split anew.
#[tokio::test]
async fn a_new_map_is_learned_from_whoever_says_that_it_is_another_nodes() {
    let mut nodes = Nodes::start(3).await;
    nodes.divide(&[&[0], &[0], &[0], &[1], &[1], &[1]]);
    let client = nodes.client().await;
    read_all(&client).await;
    nodes.divide(&[&[2], &[0], &[0], &[2], &[1], &[1]]);
    let before = nodes.asked().iter().sum::<usize>();
    let moved = (0..USERS).find(|&id| partition_of(id) == 3).unwrap();
    client.get_balance(user(moved)).await.unwrap();
    read_all(&client).await;
    let asked = nodes.asked().iter().sum::<usize>() - before;
    // The one that was refused, and perhaps once more while the connection to the third node was made.
    assert!((USERS as usize + 2..=USERS as usize + 4).contains(&asked), "{asked}");

    nodes.divide(&[&[1], &[1], &[1], &[0], &[0], &[0]]);
    let users: Vec<_> = (0..USERS).map(user).collect();
    let batch = client.get_balances(&users).await.unwrap();
    assert!(batch.iter().zip(&users).all(|(entry, user)| entry.user_id == *user && entry.balance.is_some()));
}

/// Whoever is named owner and does not know it yet is behind: the standby is asked, also for a batch, which asked the same node again
/// until its deadline.
#[tokio::test]
async fn an_owner_that_does_not_know_it_is_gone_round() {
    let mut nodes = Nodes::start(2).await;
    nodes.divide(&[&[1, 0], &[1, 0], &[1, 0], &[1, 0], &[1, 0], &[1, 0]]);
    *nodes.held[1].lock().unwrap() = (BTreeSet::new(), 0);
    let client = nodes.client().await;
    read_all(&client).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    let batch = client.get_balances(&users).await.unwrap();
    assert!(batch.iter().all(|entry| entry.balance.is_some()));
    assert!(nodes.asked().iter().all(|&asked| asked > 0), "the owner was asked first");
}

/// An owner that is gone is not waited for, nor is a new map.
#[tokio::test]
async fn a_standby_answers_for_an_owner_that_is_gone() {
    let mut nodes = Nodes::start(3).await;
    nodes.divide(&[&[0, 1], &[1, 2], &[2, 0], &[0, 2], &[1, 0], &[2, 1]]);
    let client = nodes.client().await;
    read_all(&client).await;
    drop(nodes.fakes.remove(1));
    read_all(&client).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    let batch = client.get_balances(&users).await.unwrap();
    assert!(batch.iter().all(|entry| entry.balance.is_some()));
    // Who has no standby is waited for.
    drop(nodes.fakes.remove(1));
    let alone = (0..USERS).find(|&id| partition_of(id) == 5).unwrap();
    let error = client.with_deadline(Duration::from_secs(1)).get_balance(user(alone)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { last: Some(_), .. }), "{error}");
}

/// A standby had just been started when its owner stood still: a client that paused before it connected to the standby again had nobody
/// to ask for the rest of its pause.
#[tokio::test]
async fn a_standby_that_has_come_back_is_asked_where_the_owner_is_silent_or_gone() {
    for is_gone in [false, true] {
        let mut nodes = Nodes::start_by_ways(2).await;
        nodes.divide_alike(&[0, 1]);
        let client = nodes.client_that_waits(STALL_AFTER).await;
        read_all(&client).await;
        nodes.leave(1);
        eventually("the standby is missed", || client.pool()[1].good == 0).await;
        if is_gone {
            nodes.leave(0);
            eventually("the owner is missed", || client.pool()[0].good == 0).await;
        } else {
            nodes.silence(0);
        }
        let (began, before) = (Instant::now(), nodes.ways[1].accepted());
        let calls: Vec<_> = (0..20)
            .map(|id| {
                let client = client.clone();
                tokio::spawn(async move { client.get_balance(user(id)).await })
            })
            .collect();
        // However many wait for it, it is tried no more often than this.
        eventually("it is tried", || nodes.ways[1].accepted() >= before + 3).await;
        let tried = (nodes.ways[1].accepted() - before) as u128;
        assert!(tried <= began.elapsed().as_millis() / 125 + 1, "{tried} attempts in {:?}", began.elapsed());
        nodes.ways[1].lead(&nodes.fakes[1].address);
        for (call, id) in calls.into_iter().zip(0..) {
            assert_eq!(call.await.unwrap().unwrap().to_record(), fake::balance(id));
        }
    }
}

/// A node that was away is tried as soon as a later map names it.
#[tokio::test]
async fn a_node_that_a_later_map_names_is_tried_at_once() {
    let mut nodes = Nodes::start_by_ways(3).await;
    nodes.divide_alike(&[0]);
    let client = nodes.client_that_waits(fake::PATIENCE).await;
    nodes.leave(1);
    eventually("it is missed", || client.pool()[1].good == 0).await;
    let before = nodes.ways[1].accepted();
    nodes.divide_alike(&[2]);
    read_all(&client).await;
    eventually("it is tried", || nodes.ways[1].accepted() > before).await;
}

/// The owner stands still, its standby is gone for good, and by a map that the client does not have yet another node has the users: a
/// call waited for the owner, and asked nobody who could have told.
#[tokio::test]
async fn who_waits_on_a_silent_owner_hears_who_has_the_user_by_now() {
    let mut nodes = Nodes::start_by_ways(3).await;
    nodes.divide_alike(&[0, 1]);
    let client = nodes.client_that_waits(STALL_AFTER).await;
    read_all(&client).await;
    nodes.leave(1);
    nodes.silence(0);
    nodes.divide_alike(&[2]);
    read_all(&client).await;
    assert!(nodes.fakes[2].asked().len() >= USERS as usize);
}

/// A batch failed as a whole where nobody was there for one of its users.
#[tokio::test]
async fn a_batch_lacks_only_those_for_whom_nobody_is_there() {
    let mut nodes = Nodes::start(2).await;
    nodes.divide(&[&[0], &[0], &[0], &[1], &[1], &[1]]);
    let client = nodes.client().await;
    read_all(&client).await;
    drop(nodes.fakes.remove(1));
    let (there, gone): (Vec<u64>, Vec<u64>) = (0..USERS).partition(|&id| partition_of(id) < 3);
    let hasty = client.with_deadline(Duration::from_secs(3));
    let users: Vec<_> = (0..USERS).map(user).collect();
    let batch = hasty.get_balances(&users).await.unwrap();
    assert_eq!(batch.len(), users.len());
    for (id, entry) in (0..).zip(batch.iter()) {
        let status = if there.contains(&id) { Status::Ok } else { Status::Unavailable };
        assert_eq!((entry.user_id, entry.status), (user(id), status));
        assert_eq!(entry.balance.is_some(), status == Status::Ok);
    }
    assert!(batch.as_of_us().is_some());
    // Where nobody answers about any, there is no batch.
    let users: Vec<_> = gone.into_iter().map(user).collect();
    let error = client.with_deadline(Duration::from_millis(100)).get_balances(&users).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { after, .. } if after == Duration::from_millis(100)), "{error}");
}
