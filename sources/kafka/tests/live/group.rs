//! Nodes in a consumer group of a real broker: what its description says of them.

use std::collections::BTreeSet;
use std::time::Duration;

use florin_core::nodes::Place;
use florin_kafka::group::{Member, Membership};

use super::broker::{Broker, Operation, Resource, USER};
use super::login;
use super::mirror::eventually;

const PARTITIONS: u32 = 7;

fn place(port: u16) -> Place {
    Place { host: "2001:db8::2".to_owned(), port, tls_port: 0 }
}

fn join(broker: &Broker, place: &Place) -> Membership {
    Membership::join(&broker.address("grouped").parse().unwrap(), "nodes", place).unwrap()
}

/// Turns all of them until the first is told that these nodes have all partitions among them, each a fair share.
fn divides(nodes: &[(&Place, &Membership)]) -> Vec<Member> {
    let mut divided = Vec::new();
    eventually("the group divides the partitions", || {
        for (_, membership) in nodes {
            membership.turn(Duration::from_millis(20)).unwrap();
        }
        let Ok(Some(mut members)) = nodes[0].1.described() else { return false };
        members.sort_by(|one, other| one.place.cmp(&other.place));
        let all: BTreeSet<u32> = members.iter().flat_map(|member| member.assigned.clone()).collect();
        let shares: Vec<usize> = members.iter().map(|member| member.assigned.len()).collect();
        let is_there = members.iter().map(|member| &member.place).eq(nodes.iter().map(|(place, _)| *place));
        let fair = PARTITIONS as usize / nodes.len();
        let is_divided = shares.iter().sum::<usize>() == all.len()
            && all == (0..PARTITIONS).collect()
            && shares.iter().all(|share| (fair..=fair + 1).contains(share));
        divided = members;
        is_there && is_divided
    });
    divided
}

/// Three nodes divide a topic's partitions; one that is started anew at its address has what its former life had, which is told that
/// it is out; of one that leaves the others have the partitions at once.
#[test]
fn nodes_are_told_of_each_other_by_the_group_alone() {
    let Some(broker) = Broker::shared() else { return };
    broker.make_topic("grouped", PARTITIONS.cast_signed());
    let (one, two, three) = (place(7001), place(7002), place(7003));
    let (first, second) = (join(broker, &one), join(broker, &two));
    divides(&[(&one, &first), (&two, &second)]);
    let third = join(broker, &three);
    let before = divides(&[(&one, &first), (&two, &second), (&three, &third)]);

    let fourth = join(broker, &three);
    let mut after = Vec::new();
    eventually("the former life is told that it is out", || {
        after = divides(&[(&one, &first), (&two, &second), (&three, &fourth)]);
        third.turn(Duration::from_millis(20)).is_err()
    });
    let assigned =
        |members: &[Member]| members.iter().map(|member| member.assigned.clone()).collect::<Vec<_>>();
    assert_eq!(assigned(&after), assigned(&before), "nobody has another partition for it");
    fourth.leave();
    eventually("it has left", || {
        fourth.turn(Duration::from_millis(20)).unwrap();
        fourth.has_left()
    });
    divides(&[(&one, &first), (&two, &second)]);
}

/// Brokers that had stood still took two requests of one node for two nodes, and told the only one that there was that it was out: nodes
/// ended for it, all of a group at once.
#[test]
fn a_node_that_is_taken_for_another_joins_again() {
    let Some(broker) = Broker::shared() else { return };
    broker.make_topic("fenced", PARTITIONS.cast_signed());
    let (address, place) = (broker.address("fenced").parse().unwrap(), place(7005));
    let join = || Membership::join(&address, "fenced-nodes", &place).unwrap();
    let turned = |membership: &Membership| membership.turn(Duration::from_millis(20)).unwrap();
    let joined = || {
        let node = join();
        eventually("it has joined", || {
            turned(&node);
            !node.has_left()
        });
        node
    };
    let node = joined();
    for _ in 0..2 {
        // One that joins, and is not heard of again.
        let _other = joined();
        let mut was_out = false;
        eventually("the node has joined again", || {
            turned(&node);
            was_out |= node.has_left();
            was_out && !node.has_left()
        });
    }
}

/// A user who may not join would wait for ever for a group that looks as if it had no members.
#[test]
fn a_right_to_join_that_is_missing_is_named_and_a_node_joins_once_it_is_there() {
    let Some(broker) = Broker::shared() else { return };
    broker.make_topic("guarded-group", 1);
    broker.allow("somebody-else", Operation::Read, Resource::Group("guarded-nodes"));
    let (password, address) = login(broker, "guarded-group");
    let membership = Membership::join(&address, "guarded-nodes", &place(7004)).unwrap();
    let described = || {
        membership.turn(Duration::from_millis(20)).unwrap();
        membership.described()
    };
    let right = format!("--allow-principal User:{USER} --operation Read --group guarded-nodes)");
    eventually("it is told that it may not", || {
        described().is_err_and(|error| error.exit_code == 20 && error.to_string().contains(&right))
    });
    broker.allow(USER, Operation::Read, Resource::Group("guarded-nodes"));
    eventually("it is in the group", || {
        described().is_ok_and(|members| {
            members.is_some_and(|members| members.iter().any(|member| member.place == place(7004)))
        })
    });
    drop(password);
}
