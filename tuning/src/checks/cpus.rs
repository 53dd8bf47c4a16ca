//! Checks of the CPUs that shards run on.

use std::collections::BTreeMap;

use super::{Finding, Scene, Status};
use crate::host::Cpus;
use crate::knobs::Knob;
use crate::plan::{count, deep_states, elsewhere, wanted_timer_migration};

/// Whether the kernel keeps its own work off the shards' CPUs.
pub(super) fn isolation(scene: &Scene<'_>) -> Finding {
    let (host, quiet) = (scene.host, scene.placement.quiet());
    let bare = quiet.without(&host.isolated.and(&host.nohz_full));
    let change = scene.changes(Knob::Isolation).first().map(|setting| setting.value.clone());
    Finding {
        status: if bare.is_empty() { Status::Ok } else { Status::Warn },
        found: format!("isolated {}, nohz_full {}", host.isolated.or_none(), host.nohz_full.or_none()),
        wanted: format!("both hold {}", quiet.or_none()),
        why: "without it the scheduler's tick and balancing, RCU callbacks and stray tasks interrupt a shard: its tail",
        how: format!(
            "add to the kernel's command line and reboot: {}; or keep others off with `florin tune plan --systemd`",
            change.unwrap_or_default()
        ),
    }
}

/// Whether something else may run on the shards' CPUs.
pub(super) fn neighbours(scene: &Scene<'_>) -> Finding {
    let quiet = scene.placement.quiet();
    let own = |process: usize| scene.host.florin.iter().any(|running| running.process == process);
    let strangers: Vec<_> = scene
        .host
        .processes
        .iter()
        .filter(|process| {
            process.name != "florin" && !own(process.id) && !process.cpus.and(&quiet).is_empty()
        })
        .collect();
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    strangers.iter().for_each(|process| *by_name.entry(&process.name).or_default() += 1);
    let names: Vec<&str> = by_name.keys().take(5).copied().collect();
    let more = if by_name.len() > names.len() { ", …" } else { "" };
    Finding {
        status: if scene.host.processes.is_empty() {
            Status::Unknown
        } else if strangers.is_empty() {
            Status::Ok
        } else {
            Status::Warn
        },
        found: match strangers.len() {
            0 if quiet.is_empty() => "each shard's CPU keeps house too".to_owned(),
            0 => format!("no other process may run on {}", quiet.or_none()),
            strangers => {
                let strangers =
                    if strangers == 1 { "1 process".to_owned() } else { format!("{strangers} processes") };
                format!("{strangers} may run on {}: {}{more}", quiet.or_none(), names.join(", "))
            }
        },
        wanted: "none".to_owned(),
        why: "whatever runs on a shard's CPU makes its callers wait for a time slice, milliseconds",
        how: "florin tune plan --systemd, or AllowedCPUs= in system.slice and user.slice".to_owned(),
    }
}

/// Whether two shards share a core.
pub(super) fn smt(scene: &Scene<'_>) -> Finding {
    let shards = scene.placement.shard_cpus();
    let crowded: Vec<String> = scene
        .host
        .cores
        .iter()
        .map(|core| core.cpus.and(&shards))
        .filter(|on_core| on_core.len() > 1)
        .map(|on_core| on_core.to_string())
        .collect();
    Finding {
        status: if crowded.is_empty() { Status::Ok } else { Status::Fail },
        found: if crowded.is_empty() {
            "each shard has its core".to_owned()
        } else {
            format!("shards share a core: {}", crowded.join(" "))
        },
        wanted: "one shard on each core".to_owned(),
        why: "two threads of a core share its execution units and its L1: each is slower, and one's burst is the other's tail",
        how: "give one CPU of each core in --cpus; `florin tune plan` does".to_owned(),
    }
}

/// Whether the shards' CPUs run at full speed.
pub(super) fn governor(scene: &Scene<'_>) -> Finding {
    let facts = &scene.host.facts;
    let governor =
        |cpu: usize| facts.get(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    let mut found: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for cpu in scene.placement.shard_cpus().iter() {
        if let Some(governor) = governor(cpu) {
            found.entry(governor).or_default().push(cpu);
        }
    }
    let words: Vec<String> = found
        .iter()
        .map(|(governor, cpus)| format!("{governor} on {}", cpus.iter().copied().collect::<Cpus>()))
        .collect();
    Finding {
        status: if found.is_empty() {
            Status::Unknown
        } else if found.keys().all(|governor| *governor == "performance") {
            Status::Ok
        } else {
            Status::Warn
        },
        found: if found.is_empty() { "this host does not say".to_owned() } else { words.join(", ") },
        wanted: "performance".to_owned(),
        why: "a CPU that slows down between bursts answers the first questions of each burst slowly",
        how: "echo performance > /sys/devices/system/cpu/cpuN/cpufreq/scaling_governor".to_owned(),
    }
}

/// Whether the shards' CPUs may sleep deeply.
pub(super) fn c_states(scene: &Scene<'_>) -> Finding {
    let facts = &scene.host.facts;
    let shards = scene.placement.shard_cpus();
    let states: Vec<String> = shards.iter().flat_map(|cpu| deep_states(scene.host, cpu)).collect();
    let enabled: Vec<&String> =
        states.iter().filter(|state| facts.get(&format!("{state}/disable")) == Some("0")).collect();
    let slowest = enabled.iter().filter_map(|state| facts.number(&format!("{state}/latency"))).max();
    let is_known =
        shards.iter().any(|cpu| !facts.names(&format!("sys/devices/system/cpu/cpu{cpu}/cpuidle")).is_empty());
    Finding {
        status: match (is_known, enabled.is_empty()) {
            (false, _) => Status::Unknown,
            (true, true) => Status::Ok,
            (true, false) => Status::Warn,
        },
        found: match slowest {
            Some(us) => {
                format!(
                    "{} enabled; to wake from the deepest takes {us} µs",
                    count(enabled.len(), "deep state")
                )
            }
            None if is_known => "no deep state is enabled".to_owned(),
            None => "this host has no idle states, or hides them".to_owned(),
        },
        wanted: "no state that takes more than 50 µs to wake from".to_owned(),
        why: "a shard that was idle answers only once its CPU has woken",
        how: "florin tune apply --with c-states; it costs power".to_owned(),
    }
}

/// Whether time is read without a system call.
pub(super) fn clocksource(scene: &Scene<'_>) -> Finding {
    let found = scene.host.facts.get("sys/devices/system/clocksource/clocksource0/current_clocksource");
    let is_fast =
        |name: &str| ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&name);
    Finding {
        status: match found {
            None => Status::Unknown,
            Some(name) if is_fast(name) => Status::Ok,
            Some(_) => Status::Fail,
        },
        found: found.unwrap_or("this host does not say").to_owned(),
        wanted: "tsc, or what the hypervisor offers instead".to_owned(),
        why: "a shard reads the clock each turn; through hpet or acpi_pm that is a system call and a slow device",
        how: "boot with tsc=reliable where the log says why the TSC was distrusted (dmesg | grep -i tsc)"
            .to_owned(),
    }
}

/// Whether timers stay where they were armed.
pub(super) fn timer_migration(scene: &Scene<'_>) -> Finding {
    let found = scene.host.facts.get("proc/sys/kernel/timer_migration");
    let wanted = wanted_timer_migration(scene.host);
    Finding {
        status: match found {
            None => Status::Unknown,
            Some(value) if value == wanted => Status::Ok,
            Some(_) => Status::Warn,
        },
        found: found.unwrap_or("this host does not say").to_owned(),
        wanted: wanted.to_owned(),
        why: "without nohz_full a timer of an idle CPU moves to a busy one, and the busy ones are the shards'; with it, \
              to one that keeps house",
        how: format!("sysctl -w kernel.timer_migration={wanted}"),
    }
}

/// Whether the kernel does its own work elsewhere.
pub(super) fn workqueue(scene: &Scene<'_>) -> Finding {
    let found = scene.host.facts.get("sys/devices/virtual/workqueue/cpumask").and_then(Cpus::from_mask);
    let quiet = scene.placement.quiet();
    let wanted = elsewhere(scene.host, scene.placement);
    let on_quiet = found.as_ref().map(|cpus| cpus.and(&quiet));
    Finding {
        status: match &on_quiet {
            None => Status::Unknown,
            Some(cpus) if cpus.is_empty() => Status::Ok,
            Some(_) => Status::Warn,
        },
        found: found
            .as_ref()
            .map_or_else(|| "this host does not say".to_owned(), |cpus| format!("CPUs {}", cpus.or_none())),
        wanted: format!("CPUs {}", wanted.or_none()),
        why: "work that is bound to no CPU (writing back, encryption, drivers) runs wherever this mask allows",
        how: format!("echo {} > /sys/devices/virtual/workqueue/cpumask", wanted.to_mask()),
    }
}

/// What the CPU's flaws cost here. Never changed: that is for whoever answers for the host's safety.
pub(super) fn mitigations(scene: &Scene<'_>) -> Finding {
    let folder = "sys/devices/system/cpu/vulnerabilities";
    let facts = &scene.host.facts;
    let names = facts.names(folder);
    let states = |word: &str| {
        let found = names
            .iter()
            .filter(|name| facts.get(&format!("{folder}/{name}")).is_some_and(|text| text.starts_with(word)));
        found.copied().collect::<Vec<&str>>()
    };
    let (mitigated, vulnerable) = (states("Mitigation"), states("Vulnerable"));
    Finding {
        status: if names.is_empty() { Status::Unknown } else { Status::Ok },
        found: format!(
            "mitigated: {}; vulnerable: {}",
            if mitigated.is_empty() { "nothing".to_owned() } else { mitigated.join(", ") },
            if vulnerable.is_empty() { "nothing".to_owned() } else { vulnerable.join(", ") }
        ),
        wanted: "reported, never changed".to_owned(),
        why: "each system call and each switch pays for them; a shard makes few of either",
        how: "nothing: it is a matter of safety".to_owned(),
    }
}
