//! Nodes that divide a ledger's users among them: a client that was given one of them knows them all, asks each user's owner, and
//! follows what moves.

mod fake;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::follower::map;
use fake::{Answer, Asked, Fake, entry_of, user};
use florin_client::records::Balances;
use florin_client::{Backoff, Client, Error};
use florin_schema::{MapNode, NodeId, NodeMap, Opcode, Partitioner, Status};

const PARTITIONS: u32 = 6;
const USERS: u64 = 60;

/// Nodes, who holds what, and the map that they tell.
struct Nodes {
    fakes: Vec<Fake>,
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
        Nodes { fakes, held, epoch: 0 }
    }

    /// By partition the owner and its standbys.
    fn divide(&mut self, holders: &[&[u16]]) {
        self.epoch += 1;
        let node = |(fake, id): (&Fake, u64)| MapNode {
            id: NodeId(id),
            host: "127.0.0.1".to_owned(),
            port: fake.port,
            tls_port: 0,
        };
        let nodes = self.fakes.iter().zip(1..).map(node).collect();
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

    async fn client(&self) -> Client {
        let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
        // A host that is slow for a moment is no reason to ask a standby.
        let patient = Duration::from_secs(5);
        let builder = Client::builder().backoff(backoff).deadline(fake::PATIENCE).stall_after(patient);
        // It is given one of them.
        builder.connect(&*self.fakes[0].address).await.unwrap()
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
