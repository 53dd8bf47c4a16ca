//! What holds of every placement, on every shape of host that is small enough to try.

use florin_tune::host::{Cpus, Host};
use florin_tune::plan::{PlanError, Request, Siblings, place};

use crate::machines::{Card, Shape};

fn host(packages: usize, cores_per_node: usize, threads: usize) -> Host {
    let shape = Shape {
        packages,
        nodes_per_package: 2,
        cores_per_node,
        threads,
        cores_per_cache: cores_per_node,
        cache: "1K",
    };
    let mut machine = shape.build();
    machine.nic(&Card {
        name: "eth0",
        driver: "e",
        slot: "s",
        node: 1,
        speed: 1,
        queues: 3,
        first_irq: 40,
        action: "eth0-TxRx-#",
    });
    machine.irq(90, "disk");
    Host::of(machine.finish())
}

fn all_requests(host: &Host) -> Vec<Request> {
    let mut requests = Vec::new();
    for siblings in [Siblings::Idle, Siblings::Housekeeping, Siblings::Shards] {
        for shards in 0..=host.allowed.len() + 1 {
            let shards = (shards > 0).then_some(shards);
            requests.push(Request { shards, siblings, ..Request::default() });
        }
    }
    requests
}

#[test]
fn every_placement_is_whole_and_nothing_is_in_two_places() {
    let mut placed = 0;
    for (packages, cores, threads) in [(1, 1, 1), (1, 1, 2), (1, 3, 2), (2, 2, 1), (2, 4, 2), (2, 20, 2)] {
        let host = host(packages, cores, threads);
        for request in all_requests(&host) {
            let placement = match place(&host, &request) {
                Ok(placement) => placement,
                Err(PlanError::NotEnough { shards, cores, threads }) => {
                    let room = if request.siblings == Siblings::Shards { threads } else { cores };
                    assert!(shards > room, "{request:?}");
                    continue;
                }
                Err(error) => panic!("{request:?}: {error}"),
            };
            placed += 1;
            let shards = placement.shard_cpus();
            assert_eq!(shards.len(), placement.shards.len(), "a CPU has two shards: {request:?}");
            assert!(request.shards.is_none_or(|wanted| wanted == shards.len()), "{request:?}");
            assert!(!shards.is_empty() && !placement.housekeeping.is_empty(), "{request:?}");
            let everything = shards.or(&placement.housekeeping).or(&placement.idle).or(&placement.spare);
            assert_eq!(everything, host.allowed, "{request:?}");
            let shared = shards.and(&placement.housekeeping);
            assert!(
                shared.is_empty() || placement.housekeeping.without(&shared).is_empty() || shared == shards
            );
            assert!(shards.and(&placement.idle).is_empty() && shards.and(&placement.spare).is_empty());
            let crowded = host.cores.iter().any(|core| core.cpus.and(&shards).len() > 1);
            assert!(!crowded || request.siblings == Siblings::Shards, "{request:?}");
            let of_irqs: Cpus = placement.irqs.iter().flat_map(|irq| irq.cpus.iter()).collect();
            assert_eq!(placement.irqs.len(), 3);
            assert!(of_irqs.without(&shards).is_empty() && !of_irqs.is_empty(), "{request:?}");
            assert!(placement.shards.iter().enumerate().all(|(index, shard)| index == shard.shard));
        }
    }
    assert!(placed > 150, "{placed}");
}

#[test]
fn shards_come_to_the_nics_node_first() {
    let host = host(2, 4, 2);
    for shards in 1..=3 {
        let placement = place(&host, &Request { shards: Some(shards), ..Request::default() }).unwrap();
        assert!(placement.shards.iter().all(|shard| shard.node == 1), "{placement:?}");
    }
    let placement = place(&host, &Request { shards: Some(5), ..Request::default() }).unwrap();
    let on_first = placement.shards.iter().filter(|shard| shard.node == 0).count();
    assert_eq!(on_first, 2, "the nearest node comes next: {placement:?}");
}

#[test]
fn cpus_that_are_given_are_taken_as_they_are() {
    let host = host(1, 3, 2);
    let cpus: Cpus = "1,3".parse().unwrap();
    let request = Request { cpus: Some(cpus.clone()), ..Request::default() };
    let placement = place(&host, &request).unwrap();
    assert_eq!(placement.shard_cpus(), cpus);
    assert!(placement.housekeeping.and(&cpus).is_empty());
    let strangers = Request { cpus: Some("1,99".parse().unwrap()), ..Request::default() };
    let refusal = place(&host, &strangers).unwrap_err().to_string();
    assert!(refusal.contains("--cpus") && refusal.contains("99"), "{refusal}");
    let other_count = Request { shards: Some(3), ..request };
    assert!(matches!(place(&host, &other_count), Err(PlanError::CountDiffers { .. })));
    let unknown = Request { nics: vec!["eth7".to_owned()], ..Request::default() };
    let refusal = place(&host, &unknown).unwrap_err().to_string();
    assert!(refusal.contains("eth7") && refusal.contains("eth0"), "{refusal}");
}
