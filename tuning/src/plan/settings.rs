//! Which values a placement asks for, and which of them the host does not have yet.

use serde::{Deserialize, Serialize};

use crate::host::{Cpus, Host, Irq, Nic};
use crate::knobs::{FIXED, Knob, chosen_word};
use crate::limits::WAKE_US_MAX;

use super::placement::{NicPlace, Placement};

/// With busy polling: times that an interrupt stays off after a poll that found nothing.
const DEFER_HARD_IRQS: &str = "2";
/// With busy polling: ns after which the NIC is polled again without an interrupt.
const GRO_FLUSH_NS: &str = "200000";
/// Where the kernel's command line is read from. It is changed in the boot loader, and holds after a reboot.
const COMMAND_LINE: &str = "/proc/cmdline";

/// One file's change; in the journal, one that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// From the root of the host.
    pub path: String,
    /// What it held when the plan was made; in the journal, before florin first changed it.
    pub was: String,
    /// What it should hold; of the command line, what should be added to it.
    pub value: String,
    /// What it is about.
    pub knob: Knob,
    /// Of an interrupt's affinity: what the driver calls the interrupt. Its number may be another one after a boot, or once
    /// the NIC has other queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupt: Option<String>,
}

/// Where numbers of interrupts stand in paths.
const IRQ_FOLDER: &str = "/proc/irq/";

impl Setting {
    /// Where this setting is on a host with these interrupts: its path, or that of the same interrupt under another number;
    /// or why there is no such place.
    pub fn place(&self, irqs: &[Irq]) -> Result<String, String> {
        let number = self.path.strip_prefix(IRQ_FOLDER).and_then(|rest| rest.split_once('/'));
        let Some((number, file)) = number else { return Ok(self.path.clone()) };
        let Some(name) = &self.interrupt else {
            return Err("the plan does not say whose interrupt this was: plan again".to_owned());
        };
        let named: Vec<usize> = irqs.iter().filter(|irq| irq.action == *name).map(|irq| irq.number).collect();
        match named[..] {
            _ if named.iter().any(|found| found.to_string() == number) => Ok(self.path.clone()),
            [found] => Ok(format!("{IRQ_FOLDER}{found}/{file}")),
            [] => Err(format!("this host has no interrupt {name} now: plan again")),
            _ => Err(format!(
                "this host has {} interrupts {name}, and none is number {number}: plan again",
                named.len()
            )),
        }
    }

    /// Whether it takes a reboot.
    pub fn is_of_boot(&self) -> bool {
        self.path == COMMAND_LINE
    }
}

/// Which knobs a plan may turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Only these, where any are named.
    pub only: Vec<Knob>,
    /// These besides, though they are optional.
    pub with: Vec<Knob>,
    /// Not these.
    pub without: Vec<Knob>,
}

impl Selection {
    fn has(&self, knob: Knob) -> bool {
        let named = self.with.contains(&knob) || self.only.contains(&knob);
        let usual = self.only.is_empty() && !knob.is_optional();
        (named || usual) && !self.without.contains(&knob)
    }
}

/// Whether two texts mean the same to the file at `path`: masks and lists of CPUs are written in more than one way.
pub fn is_same(path: &str, one: &str, other: &str) -> bool {
    let (one, other) = (one.trim(), other.trim());
    let file = path.rsplit('/').next().unwrap_or_default();
    match file {
        "rps_cpus" | "xps_cpus" | "cpumask" | "smp_affinity" | "default_smp_affinity" => {
            Cpus::from_mask(one).is_some_and(|one| Cpus::from_mask(other) == Some(one))
        }
        "smp_affinity_list" => one.parse::<Cpus>().is_ok_and(|one| other.parse() == Ok(one)),
        "enabled" => chosen_word(one) == chosen_word(other),
        "cmdline" => other.split_whitespace().all(|word| one.split_whitespace().any(|has| has == word)),
        _ => one == other,
    }
}

/// Everything that the selected knobs ask for and that the host does not have, by knob.
pub fn settings(host: &Host, placement: &Placement, selection: &Selection) -> Vec<Setting> {
    let mut wanted = Wishes { host, settings: Vec::new() };
    for knob in Knob::ALL.iter().copied().filter(|&knob| selection.has(knob)) {
        wanted.fixed(knob);
        match knob {
            Knob::Isolation => wanted.isolation(placement),
            Knob::Governor => wanted.governor(placement),
            Knob::CStates => wanted.idle_states(placement),
            Knob::TimerMigration => wanted.timers(),
            Knob::Workqueue => wanted.work(placement),
            Knob::IrqAffinity => wanted.interrupts(placement),
            Knob::PacketSteering => wanted.each_nic(placement, Wishes::steering),
            Knob::BusyPoll => wanted.each_nic(placement, Wishes::polling),
            _ => {}
        }
    }
    wanted.settings
}

struct Wishes<'a> {
    host: &'a Host,
    settings: Vec<Setting>,
}

impl Wishes<'_> {
    /// Wishes that the file at `path`, where there is one, holds `value`.
    fn wish(&mut self, knob: Knob, path: &str, value: impl Into<String>) {
        let value = value.into();
        if let Some(was) = self.host.facts.get(path).filter(|was| !is_same(path, was, &value)) {
            let (path, was) = (format!("/{path}"), was.to_owned());
            self.settings.push(Setting { path, was, value, knob, interrupt: None });
        }
    }

    /// Wishes that an interrupt is served on `cpus`.
    fn wish_served(&mut self, irq: usize, cpus: &Cpus) {
        let (host, wishes) = (self.host, self.settings.len());
        self.wish(Knob::IrqAffinity, &format!("proc/irq/{irq}/smp_affinity_list"), cpus.to_string());
        let name = host.irqs.iter().find(|known| known.number == irq).map(|known| known.action.clone());
        self.settings.iter_mut().skip(wishes).for_each(|setting| setting.interrupt.clone_from(&name));
    }

    fn fixed(&mut self, knob: Knob) {
        for row in FIXED.iter().filter(|row| row.knob == knob) {
            if self.host.facts.get(row.path).is_some_and(|text| !row.wanted.accepts(text)) {
                self.wish(knob, row.path, row.wanted.value());
            }
        }
    }

    fn isolation(&mut self, placement: &Placement) {
        let quiet = placement.quiet();
        if !quiet.is_empty() {
            let value = format!("isolcpus=managed_irq,domain,{quiet} nohz_full={quiet} rcu_nocbs={quiet}");
            self.wish(Knob::Isolation, COMMAND_LINE.trim_start_matches('/'), value);
        }
    }

    fn governor(&mut self, placement: &Placement) {
        for cpu in placement.shard_cpus().iter() {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
            let offered = self.host.facts.get(&format!("{folder}/scaling_available_governors"));
            if offered.is_some_and(|words| words.split_whitespace().any(|word| word == "performance")) {
                self.wish(Knob::Governor, &format!("{folder}/scaling_governor"), "performance");
            }
        }
    }

    fn idle_states(&mut self, placement: &Placement) {
        for cpu in placement.shard_cpus().iter() {
            for state in deep_states(self.host, cpu) {
                self.wish(Knob::CStates, &format!("{state}/disable"), "1");
            }
        }
    }

    fn timers(&mut self) {
        self.wish(Knob::TimerMigration, "proc/sys/kernel/timer_migration", wanted_timer_migration(self.host));
    }

    fn work(&mut self, placement: &Placement) {
        let mask = elsewhere(self.host, placement).to_mask();
        self.wish(Knob::Workqueue, "sys/devices/virtual/workqueue/cpumask", mask);
    }

    /// The NICs' interrupts beside their shards, all others away from the shards; but not those of a NIC that are not
    /// understood.
    fn interrupts(&mut self, placement: &Placement) {
        let (quiet, others) = (placement.quiet(), elsewhere(self.host, placement));
        for irq in &placement.irqs {
            self.wish_served(irq.irq, &irq.cpus);
        }
        if quiet.is_empty() || others.is_empty() {
            return;
        }
        let host = self.host;
        let strangers = host.irqs.iter().filter(|irq| !irq.cpus.and(&quiet).is_empty());
        let is_unknown = |irq: &Irq| host.nics.iter().any(|nic| nic.unknown_irqs.contains(&irq.number));
        let is_placed = |irq: &Irq| placement.irqs.iter().any(|placed| placed.irq == irq.number);
        for irq in strangers.filter(|irq| !is_placed(irq) && !is_unknown(irq)) {
            self.wish_served(irq.number, &others);
        }
        self.wish(Knob::IrqAffinity, "proc/irq/default_smp_affinity", others.to_mask());
    }

    fn each_nic(&mut self, placement: &Placement, wish: fn(&mut Self, &Nic, &NicPlace)) {
        let host = self.host;
        for place in &placement.nics {
            if let Some(nic) = host.nics.iter().find(|nic| nic.name == place.nic) {
                wish(self, nic, place);
            }
        }
    }

    /// Packets are steered in software only where a queue has no interrupt, or has several shards. Where its interrupts are
    /// not understood, nobody knows what that would do.
    fn steering(&mut self, nic: &Nic, place: &NicPlace) {
        let folder = format!("sys/class/net/{}/queues", nic.name);
        let has_irqs = !nic.irqs.is_empty();
        for queue in (0..nic.rx_queues).filter(|_| nic.unknown_irqs.is_empty()) {
            let of_queue = Placement::cpus_of_queue(place, queue, nic.rx_queues);
            let cpus = if has_irqs && of_queue.len() <= 1 { Cpus::default() } else { of_queue };
            self.wish(Knob::PacketSteering, &format!("{folder}/rx-{queue}/rps_cpus"), cpus.to_mask());
            self.wish(Knob::PacketSteering, &format!("{folder}/rx-{queue}/rps_flow_cnt"), "0");
        }
        // The kernel has nothing to choose from, and refuses, where there is one.
        for queue in (0..nic.tx_queues).filter(|_| nic.tx_queues > 1) {
            let mask = Placement::cpus_of_queue(place, queue, nic.tx_queues).to_mask();
            self.wish(Knob::PacketSteering, &format!("{folder}/tx-{queue}/xps_cpus"), mask);
        }
    }

    fn polling(&mut self, nic: &Nic, _: &NicPlace) {
        let folder = format!("sys/class/net/{}", nic.name);
        self.wish(Knob::BusyPoll, &format!("{folder}/napi_defer_hard_irqs"), DEFER_HARD_IRQS);
        self.wish(Knob::BusyPoll, &format!("{folder}/gro_flush_timeout"), GRO_FLUSH_NS);
    }
}

/// Where the kernel's work and everybody's interrupts belong: all CPUs but the quiet ones, those outside this process's
/// control group among them.
pub(crate) fn elsewhere(host: &Host, placement: &Placement) -> Cpus {
    host.online.without(&placement.quiet())
}

/// Without `nohz_full` a timer moves to a CPU that is busy, and that is a shard's; with it, to one that keeps house.
pub(crate) fn wanted_timer_migration(host: &Host) -> &'static str {
    if host.nohz_full.is_empty() { "0" } else { "1" }
}

/// The folders of the idle states of `cpu` that take long to wake from.
pub(crate) fn deep_states(host: &Host, cpu: usize) -> Vec<String> {
    let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpuidle");
    let states =
        host.facts.numbered(&folder, "state").into_iter().map(|state| format!("{folder}/state{state}"));
    let is_deep =
        |state: &String| host.facts.number(&format!("{state}/latency")).is_some_and(|us| us > WAKE_US_MAX);
    states.filter(is_deep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let same = [
            ("/sys/class/net/e/queues/rx-0/rps_cpus", "00000000,000000ff", "ff"),
            ("/proc/irq/9/smp_affinity_list", "0,1,2", "0-2"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never", "madvise"),
            ("/proc/cmdline", "quiet nohz_full=1-3 ro", "nohz_full=1-3"),
            ("/proc/sys/net/core/somaxconn", "4096\n", "4096"),
        ];
        for (path, one, other) in same {
            assert!(is_same(path, one, other), "{path}");
        }
        let different = [
            ("/sys/class/net/e/queues/rx-0/rps_cpus", "ff", "fe"),
            ("/proc/irq/9/smp_affinity_list", "0-3", "0-2"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", "madvise"),
            ("/proc/cmdline", "quiet", "nohz_full=1-3"),
            ("/proc/sys/net/core/somaxconn", "128", "4096"),
        ];
        for (path, one, other) in different {
            assert!(!is_same(path, one, other), "{path}");
        }
    }

    #[test]
    fn optional_knobs_are_turned_when_named() {
        let usual = Selection::default();
        assert!(usual.has(Knob::Backlog) && !usual.has(Knob::BusyPoll));
        assert!(Selection { with: vec![Knob::BusyPoll], ..usual.clone() }.has(Knob::BusyPoll));
        let only = Selection { only: vec![Knob::Tcp], ..usual.clone() };
        assert!(only.has(Knob::Tcp) && !only.has(Knob::Backlog));
        assert!(!Selection { without: vec![Knob::Backlog], ..usual }.has(Knob::Backlog));
    }
}
