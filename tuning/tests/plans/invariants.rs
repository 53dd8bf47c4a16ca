//! What holds of every placement, on every shape of host that is small enough to try.

use florin_tune::host::{Cpus, Facts, Host};
use florin_tune::plan::{Plan, PlanError, Request, Selection, Siblings, place};

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
fn the_plan_is_the_same_from_inside_the_slice_that_it_has_made() {
    // florin tune plan --systemd keeps every shell off the shards' CPUs. Asked again from such a shell, florin planned for
    // what was left to that shell: shards on the housekeeping CPUs, 22 of them where 16 ran.
    let plan = |facts: &Facts| {
        let host = Host::of(facts.clone());
        place(&host, &Request { shards: Some(16), ..Request::default() }).unwrap()
    };
    let mut facts = crate::machines::two_sockets();
    let before = plan(&facts);
    let others = before.others();
    facts.insert("proc/self/cgroup", "0::/user.slice");
    facts.insert("sys/fs/cgroup/cpuset.cpus.effective", "0-79");
    facts.insert("sys/fs/cgroup/user.slice/cpuset.cpus.effective", others.to_string());
    facts.insert("proc/self/status", format!("Name:\tflorin\nCpus_allowed_list:\t{others}\nSeccomp:\t0"));
    assert_eq!(plan(&facts), before);
    // What runs is counted, not what would.
    for shard in 0..3 {
        facts.insert(
            format!("proc/90/task/{}/status", 91 + shard),
            format!("Name:\tflorin-shard-{shard}\nCpus_allowed_list:\t{shard}-79"),
        );
    }
    facts.insert("proc/90/status", "Name:\tflorin\nPPid:\t1\nCpus_allowed_list:\t0-79");
    let host = Host::of(facts);
    assert!(florin_tune::show::terminal(&host, &before).contains("florin runs 3 shards"));
}

#[test]
fn little_cores_carry_no_shard() {
    // A board with four little cores, three middle and a large one says so by capacity alone: no file names the little ones.
    let shape = Shape {
        packages: 1,
        nodes_per_package: 1,
        cores_per_node: 8,
        threads: 1,
        cores_per_cache: 8,
        cache: "1K",
    };
    let mut machine = shape.build();
    for (cpu, capacity) in [250, 250, 530, 530, 871, 871, 871, 1024].into_iter().enumerate() {
        machine.set(format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity"), capacity.to_string());
    }
    let placement = place(&Host::of(machine.finish()), &Request::default()).unwrap();
    assert_eq!(placement.shard_cpus(), "4-7".parse().unwrap());
    assert_eq!(placement.housekeeping, "0".parse().unwrap());
}

#[test]
fn a_nics_interrupts_without_known_queues_stay_where_they_are() {
    // gve's names say nothing of queues. Its interrupts were once called a stranger's and herded onto housekeeping CPU 0.
    let mut machine = Shape {
        packages: 1,
        nodes_per_package: 1,
        cores_per_node: 4,
        threads: 1,
        cores_per_cache: 4,
        cache: "1K",
    }
    .build();
    machine.nic(&Card {
        name: "eth0",
        driver: "gve",
        slot: "0000:00:04.0",
        node: 0,
        speed: 1,
        queues: 2,
        first_irq: 40,
        action: "gve-ntfy-blk#@pci:0000:00:04.0",
    });
    machine.irq(60, "nvme0q1");
    let host = Host::of(machine.finish());
    let plan = Plan::make(&host, &Request::default(), &Selection::default()).unwrap();
    let touched = |part: &str| plan.settings.iter().any(|setting| setting.path.contains(part));
    assert!(!touched("/irq/40/") && !touched("/irq/41/") && !touched("rps_cpus"), "{:?}", plan.settings);
    assert!(touched("/irq/60/"));
    let words = florin_tune::plan::readable(&plan);
    assert!(
        words.contains("eth0: 2 interrupts whose queues the driver does not name, left alone"),
        "{words}"
    );
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
