//! Checks of what lies between a caller and a shard: NICs, their queues, and the CPUs that serve those.

use super::{Finding, Scene, Status};
use crate::host::{Direction, Nic};
use crate::knobs::Knob;
use crate::plan::count;

impl Scene<'_> {
    /// NICs that callers come by.
    fn nics(&self) -> Vec<&Nic> {
        let placed = &self.placement.nics;
        self.host.nics.iter().filter(|nic| placed.iter().any(|place| place.nic == nic.name)).collect()
    }

    /// A finding for hosts without such a NIC.
    fn without_nic(&self, why: &'static str) -> Finding {
        Finding {
            status: Status::Unknown,
            found: "no NIC is named, and none is up that is a device: --nic names one".to_owned(),
            wanted: "a NIC".to_owned(),
            why,
            how: "florin tune check --nic NAME".to_owned(),
        }
    }
}

/// Whether packets stay on their node.
pub(super) fn numa_distance(scene: &Scene<'_>) -> Finding {
    let why =
        "a packet that crosses to another node's memory costs every access to it, and the link's bandwidth";
    let nics = scene.nics();
    if nics.is_empty() {
        return scene.without_nic(why);
    }
    let shards = &scene.placement.shards;
    let mut words = Vec::new();
    let mut has_crossing = false;
    for nic in nics {
        let Some(node) = nic.node else {
            words.push(format!("{} does not say its node", nic.name));
            continue;
        };
        let nearest = shards.iter().map(|shard| scene.host.distance(node, shard.node)).min().unwrap_or(10);
        has_crossing |= nearest > 10;
        words.push(format!("{} is on node {node}, its nearest shard at distance {nearest}", nic.name));
    }
    Finding {
        status: if has_crossing { Status::Warn } else { Status::Ok },
        found: words.join("; "),
        wanted: "shards on the NIC's node".to_owned(),
        why,
        how: "florin tune plan places shards beside the NIC first; or use a NIC on the shards' node"
            .to_owned(),
    }
}

/// Whether each interrupt is where the plan has it.
pub(super) fn irq_affinity(scene: &Scene<'_>) -> Finding {
    let changes = scene.changes(Knob::IrqAffinity);
    let placed = |path: &str| {
        scene.placement.irqs.iter().any(|irq| path == format!("/proc/irq/{}/smp_affinity_list", irq.irq))
    };
    let astray = changes.iter().filter(|setting| placed(&setting.path)).count();
    let strangers =
        changes.iter().filter(|setting| !setting.path.ends_with("default_smp_affinity")).count() - astray;
    let unknown: usize = scene.nics().iter().map(|nic| nic.unknown_irqs.len()).sum();
    let unknown = match unknown {
        0 => String::new(),
        unknown => format!("; {unknown} of the NIC's own name no queue, and are left alone"),
    };
    Finding {
        status: if astray + strangers > 0 {
            Status::Warn
        } else if scene.host.irqs.is_empty() || !unknown.is_empty() {
            Status::Unknown
        } else {
            Status::Ok
        },
        found: format!(
            "{astray} of {} NIC interrupts are not beside their shard; {strangers} others may run on shard CPUs{unknown}",
            scene.placement.irqs.len()
        ),
        wanted: "NIC interrupts on their shards' CPUs, all others elsewhere".to_owned(),
        why: "a packet that is received on one CPU and answered on another costs a wake-up across cores and two caches",
        how: "florin tune apply --only irq-affinity".to_owned(),
    }
}

/// Whether something moves interrupts back.
pub(super) fn irqbalance(scene: &Scene<'_>) -> Finding {
    let facts = &scene.host.facts;
    let runs = scene.host.processes.iter().any(|process| process.name == "irqbalance");
    let drop_ins = "etc/systemd/system/irqbalance.service.d";
    let files = facts.names(drop_ins).into_iter().map(|file| format!("{drop_ins}/{file}"));
    let files: Vec<String> = files.chain(["etc/default/irqbalance".to_owned()]).collect();
    let banned = files.iter().filter_map(|path| facts.get(path)).find_map(banned);
    let quiet = scene.placement.quiet();
    let covered = banned.as_ref().is_some_and(|banned| quiet.without(banned).is_empty());
    Finding {
        status: if runs && !covered && !quiet.is_empty() { Status::Warn } else { Status::Ok },
        found: match (runs, banned) {
            (false, _) => "does not run".to_owned(),
            (true, None) => "runs, and may use every CPU".to_owned(),
            (true, Some(banned)) => format!("runs, and is banned from {}", banned.or_none()),
        },
        wanted: format!("off, or banned from {}", quiet.or_none()),
        why: "it moves interrupts back within ten seconds, and the settings do not hold",
        how: format!(
            "IRQBALANCE_BANNED_CPULIST={quiet} in /etc/default/irqbalance, or systemctl disable --now irqbalance"
        ),
    }
}

fn banned(text: &str) -> Option<crate::host::Cpus> {
    let line = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let value = line
        .filter_map(|line| line.split_once("IRQBALANCE_BANNED_CPULIST="))
        .map(|(_, value)| value)
        .next_back()?;
    value.trim_matches(['"', '\'']).parse().ok()
}

/// Whether each shard has a queue.
pub(super) fn queues(scene: &Scene<'_>) -> Finding {
    let why = "with fewer queues than shards, some shards' packets are received on another's CPU";
    let nics = scene.nics();
    if nics.is_empty() {
        return scene.without_nic(why);
    }
    let mut words = Vec::new();
    let mut status = Status::Ok;
    for nic in &nics {
        let shards = scene
            .placement
            .nics
            .iter()
            .find(|place| place.nic == nic.name)
            .map_or(0, |place| place.cpus.len());
        let with_irq = nic.irqs.iter().filter(|irq| irq.direction == Direction::Receive).count();
        let queues = if with_irq > 0 { nic.rx_queues.min(with_irq) } else { nic.rx_queues };
        if queues < shards {
            status = Status::Warn;
        }
        let most = scene.ethtool(nic, "channels", Which::Most, &["Combined", "RX"]);
        let most = most.map_or_else(String::new, |most| format!(", and can have {most}"));
        words.push(format!(
            "{} has {} for {}{most}",
            nic.name,
            count(queues, "receive queue"),
            count(shards, "shard")
        ));
    }
    let first = nics.first().map_or("eth0", |nic| &nic.name);
    Finding {
        status,
        found: words.join("; "),
        wanted: "a receive queue for each shard near it".to_owned(),
        why,
        how: format!(
            "ethtool -L {first} combined {}, then plan again: interrupts get new numbers",
            scene.placement.shards.len()
        ),
    }
}

/// Whether packets are steered in software although the NIC does it, or the other way round.
pub(super) fn packet_steering(scene: &Scene<'_>) -> Finding {
    let changes: Vec<_> = scene
        .changes(Knob::PacketSteering)
        .into_iter()
        .filter(|setting| setting.path.contains("/queues/"))
        .collect();
    let why = "XPS sends a shard's answers by its own queue; RPS moves packets to other CPUs, which only helps where queues are \
               too few";
    if scene.nics().is_empty() {
        return scene.without_nic(why);
    }
    let example = changes.first().map(|setting| {
        let path = setting.path.trim_start_matches("/sys/class/net/");
        format!(", like {path}: {} instead of {}", setting.was, setting.value)
    });
    Finding {
        status: if changes.is_empty() { Status::Ok } else { Status::Warn },
        found: match changes.len() {
            0 => "queues are steered to their shards".to_owned(),
            changes => {
                format!("steered otherwise: {}{}", count(changes, "queue"), example.unwrap_or_default())
            }
        },
        wanted: "each transmit queue used by its shard; RPS only where queues are too few".to_owned(),
        why,
        how: "florin tune apply --only packet-steering".to_owned(),
    }
}

/// Whether a NIC holds enough packets for a burst.
pub(super) fn rings(scene: &Scene<'_>) -> Finding {
    let why = "what arrives while the ring is full is dropped and comes again after 200 ms";
    let mut words = Vec::new();
    let mut status = Status::Ok;
    for nic in scene.nics() {
        let now = scene.ethtool(nic, "rings", Which::Now, &["RX"]);
        let most = scene.ethtool(nic, "rings", Which::Most, &["RX"]);
        if let (Some(now), Some(most)) = (now, most) {
            if now < most.min(1_024) {
                status = Status::Warn;
            }
            words.push(format!("{}: {now} of {most}", nic.name));
        }
    }
    scene.by_ethtool(words, status, "1024 or the most there is", why, "ethtool -G NIC rx 1024")
}

/// Whether a NIC waits before it interrupts.
pub(super) fn coalescing(scene: &Scene<'_>) -> Finding {
    let why = "adaptive coalescing guesses; a fixed, small wait gives the same tail each time";
    let mut words = Vec::new();
    let mut status = Status::Ok;
    for nic in scene.nics() {
        let Some(text) = scene.host.facts.get(&format!("ethtool/{}/coalesce", nic.name)) else { continue };
        let adaptive = text.lines().any(|line| line.starts_with("Adaptive RX: on"));
        let wait = scene.ethtool(nic, "coalesce", Which::Most, &["rx-usecs"]);
        if adaptive || wait.is_some_and(|us| us > 50) {
            status = Status::Warn;
        }
        words.push(format!(
            "{}: adaptive {}, rx-usecs {}",
            nic.name,
            if adaptive { "on" } else { "off" },
            wait.map_or_else(|| "unknown".to_owned(), |us| us.to_string())
        ));
    }
    scene.by_ethtool(
        words,
        status,
        "adaptive off, rx-usecs up to 50",
        why,
        "ethtool -C NIC adaptive-rx off rx-usecs 8",
    )
}

/// Whether sockets spin for packets in a way that shards do not use.
pub(super) fn busy_poll(scene: &Scene<'_>) -> Finding {
    let facts = &scene.host.facts;
    let sockets = ["busy_poll", "busy_read"].map(|file| facts.number(&format!("proc/sys/net/core/{file}")));
    let nics: Vec<String> = scene
        .nics()
        .iter()
        .map(|nic| {
            let value = |file: &str| facts.get(&format!("sys/class/net/{}/{file}", nic.name)).unwrap_or("?");
            format!(
                "{} defers {} interrupts, {} ns",
                nic.name,
                value("napi_defer_hard_irqs"),
                value("gro_flush_timeout")
            )
        })
        .collect();
    let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let [poll, read] = sockets;
    Finding {
        status: match sockets {
            [None, None] => Status::Unknown,
            [poll, read] if poll.unwrap_or(0) + read.unwrap_or(0) > 0 => Status::Warn,
            _ => Status::Ok,
        },
        found: format!("busy_poll {}, busy_read {}; {}", number(poll), number(read), nics.join("; ")),
        wanted: "busy_poll 0 and busy_read 0".to_owned(),
        why: "they make blocking callers spin, on the shards' CPUs too; a shard waits in its ring and gains nothing",
        how: "sysctl -w net.core.busy_poll=0 net.core.busy_read=0; to poll instead of interrupts: --with busy-poll".to_owned(),
    }
}

/// Which of `ethtool`'s two sections is meant: what the NIC can do, or how it is set.
#[derive(Clone, Copy)]
enum Which {
    Most,
    Now,
}

impl Scene<'_> {
    /// The first of `names` that `ethtool` knew a number for.
    fn ethtool(&self, nic: &Nic, answer: &str, which: Which, names: &[&str]) -> Option<u64> {
        let text = self.host.facts.get(&format!("ethtool/{}/{answer}", nic.name))?;
        let section = match which {
            Which::Most => text.split("Current hardware settings").next()?,
            Which::Now => text.split("Current hardware settings").nth(1)?,
        };
        names.iter().find_map(|name| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
            section.lines().find_map(value)
        })
    }

    fn by_ethtool(
        &self,
        words: Vec<String>,
        status: Status,
        wanted: &str,
        why: &'static str,
        how: &str,
    ) -> Finding {
        let is_known = !words.is_empty();
        Finding {
            status: if is_known { status } else { Status::Unknown },
            found: if is_known {
                words.join("; ")
            } else {
                "ethtool is missing, or the NIC does not say".to_owned()
            },
            wanted: wanted.to_owned(),
            why,
            how: how.to_owned(),
        }
    }
}
