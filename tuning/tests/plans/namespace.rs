//! The real thing: `florin tune` on the running kernel's own files, in a network and a mount namespace of the test's
//! own, with a virtual interface of four queues. The host's own values are the same before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use florin_tune::TuneError;
use florin_tune::host::{Cpus, Facts};

use crate::golden::tune;

/// Set in the process that runs within the namespaces.
const INSIDE: &str = "FLORIN_TUNE_TEST_INSIDE";
/// Knobs whose files belong to a network namespace.
const KNOBS: &str = "packet-steering,busy-poll,backlog,tcp";
const NIC: &str = "florin0";

/// Values that anybody could set, by path.
fn settable(facts: &Facts) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for folder in ["sys/class/net", "proc/sys", "sys/devices/virtual", "sys/kernel"] {
        collect(facts, folder, &mut values);
    }
    values
}

fn collect(facts: &Facts, folder: &str, values: &mut BTreeMap<String, String>) {
    for name in facts.names(folder) {
        let path = format!("{folder}/{name}");
        match facts.get(&path) {
            Some(text) => drop(values.insert(path, text.to_owned())),
            None => collect(facts, &path, values),
        }
    }
}

fn now() -> BTreeMap<String, String> {
    settable(&Facts::gather(Path::new("/")).unwrap())
}

fn has(command: &str, flag: &str) -> bool {
    Command::new(command).arg(flag).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_network_of_its_own_is_set_up_drifts_and_is_restored() {
    if !rustix::process::geteuid().is_root() || !has("unshare", "--version") || !has("ip", "-V") {
        eprintln!(
            "skipped: a_network_of_its_own_is_set_up_drifts_and_is_restored needs root, unshare and ip"
        );
        return;
    }
    let before = now();
    let script = format!(
        "set -e; mount -t sysfs sysfs /sys; ip link add {NIC} numtxqueues 4 numrxqueues 4 type veth peer name florin1 \
         numtxqueues 4 numrxqueues 4; ip link set {NIC} up; ip link set florin1 up; exec \"$0\" \"$@\""
    );
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(own)
        .args(["--exact", "namespace::inside", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("1 passed"), "{printed}");
    assert_eq!(now(), before, "the host is another one than before");
}

/// Does nothing unless the test above has made its surroundings.
#[test]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let journal = journal.to_str().unwrap();
    let run = |words: &[&str]| {
        let (text, outcome) = tune(&[words, &["--journal", journal]].concat());
        eprintln!("$ florin tune {}\n{text}{outcome:?}", words.join(" "));
        (text, outcome)
    };
    fs::write("/proc/sys/net/core/somaxconn", "128\n").unwrap();
    let queue = |name: &str| format!("/sys/class/net/{NIC}/queues/{name}");
    // A mask that somebody else has set must come back as it was.
    fs::write(queue("rx-1/rps_cpus"), "1\n").unwrap();
    let before = now();

    let apply = ["apply", "--nic", NIC, "--only", KNOBS, "--allow-container"];
    let (text, outcome) = run(&apply);
    outcome.unwrap();
    assert!(text.lines().all(|line| line.starts_with("changed: ")), "{text}");
    let (plan, _) = tune(&["plan", "--nic", NIC, "--only", KNOBS, "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["settings"], serde_json::json!([]), "nothing is left to change");
    let shards: Cpus = plan["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| shard["cpu"].as_u64().unwrap() as usize)
        .collect();
    let mask = |name: &str| Cpus::from_mask(&fs::read_to_string(queue(name)).unwrap()).unwrap();
    for number in 0..4 {
        for steering in [mask(&format!("rx-{number}/rps_cpus")), mask(&format!("tx-{number}/xps_cpus"))] {
            assert!(!steering.is_empty() && steering.without(&shards).is_empty(), "{steering} of {shards}");
        }
    }
    assert_eq!(fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim(), "4096");
    run(&["verify"]).1.unwrap();

    fs::write(queue("rx-0/rps_cpus"), "0\n").unwrap();
    let (text, outcome) = run(&["verify"]);
    assert!(matches!(outcome, Err(TuneError::Drifted { drifted: 1 })), "{text}");
    assert!(text.contains(&format!("drift: {}", queue("rx-0/rps_cpus"))), "{text}");
    run(&apply).1.unwrap();
    run(&["verify"]).1.unwrap();

    run(&["revert"]).1.unwrap();
    assert_eq!(now(), before);
    assert!(!Path::new(journal).exists());
}
