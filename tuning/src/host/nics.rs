//! NICs, their queues, and which interrupt belongs to which queue.

use super::{Cpus, Facts};

/// An interrupt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Irq {
    /// Its number.
    pub number: usize,
    /// What the driver calls it.
    pub action: String,
    /// The CPUs that it may be served on.
    pub cpus: Cpus,
}

/// Which way a queue's packets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// In, or both ways.
    Receive,
    /// Out.
    Transmit,
}

/// The interrupt of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueIrq {
    /// The interrupt's number.
    pub irq: usize,
    /// The queue's.
    pub queue: usize,
    /// What it announces.
    pub direction: Direction,
}

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// The node that its slot hangs on, where it says so.
    pub node: Option<usize>,
    /// Of the kernel; empty where there is no device behind it.
    pub driver: String,
    /// Mbit/s, where it says so.
    pub speed_mbit: Option<u64>,
    /// Whether it carries anything.
    pub is_up: bool,
    /// How many receive queues.
    pub rx_queues: usize,
    /// How many transmit queues.
    pub tx_queues: usize,
    /// By queue.
    pub irqs: Vec<QueueIrq>,
    /// The device's interrupts, where the driver's names for them tell no queue: nobody knows what they announce, and
    /// nobody moves them.
    pub unknown_irqs: Vec<usize>,
}

impl Nic {
    /// Whether there is a device behind it, rather than another interface, a bridge or a tunnel.
    pub fn is_device(&self) -> bool {
        !self.driver.is_empty()
    }
}

/// All interrupts that have a number, a driver and an affinity.
pub(super) fn irqs(facts: &Facts) -> Vec<Irq> {
    let table = facts.get("proc/interrupts").unwrap_or_default();
    let columns = table.lines().next().map_or(0, |head| head.split_whitespace().count());
    let mut irqs: Vec<Irq> = table.lines().skip(1).filter_map(|line| irq(facts, columns, line)).collect();
    irqs.sort_unstable_by_key(|irq| irq.number);
    irqs
}

/// A line is: number, colon, a count for each CPU, the chip, its line, and the names of who serves it.
fn irq(facts: &Facts, columns: usize, line: &str) -> Option<Irq> {
    let (number, rest) = line.split_once(':')?;
    let number: usize = number.trim().parse().ok()?;
    let action = rest.split_whitespace().skip(columns).last()?.to_owned();
    let cpus = facts.get(&format!("proc/irq/{number}/smp_affinity_list"))?.parse().ok()?;
    Some(Irq { number, action, cpus })
}

/// All interfaces but the loopback.
pub(super) fn nics(facts: &Facts, irqs: &[Irq]) -> Vec<Nic> {
    let names = facts.names("sys/class/net");
    names.into_iter().filter(|name| *name != "lo").map(|name| nic(facts, irqs, name)).collect()
}

fn nic(facts: &Facts, irqs: &[Irq], name: &str) -> Nic {
    let folder = format!("sys/class/net/{name}");
    let uevent = facts.get(&format!("{folder}/device/uevent")).unwrap_or_default();
    let variable = |name: &str| uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    // -1 is how a kernel says that it does not know.
    let node = facts.get(&format!("{folder}/device/numa_node")).and_then(|text| text.parse().ok());
    let own = |irq: &&Irq| belongs(facts, &folder, name, variable("PCI_SLOT_NAME"), irq);
    let own: Vec<&Irq> = irqs.iter().filter(own).collect();
    let rx_queues = facts.numbered(&format!("{folder}/queues"), "rx-").len();
    let (queue_irqs, unknown_irqs) = understood(&own, rx_queues);
    Nic {
        name: name.to_owned(),
        node,
        driver: variable("DRIVER").unwrap_or_default().to_owned(),
        speed_mbit: facts.number(&format!("{folder}/speed")),
        is_up: facts.get(&format!("{folder}/operstate")) == Some("up"),
        rx_queues,
        tx_queues: facts.numbered(&format!("{folder}/queues"), "tx-").len(),
        irqs: queue_irqs,
        unknown_irqs,
    }
}

/// The queues of a device's interrupts, and those interrupts that nothing is understood of. Where some names tell a
/// queue, the others are the device's own events; where none does, only a single interrupt of a single queue is clear.
fn understood(own: &[&Irq], rx_queues: usize) -> (Vec<QueueIrq>, Vec<usize>) {
    let mut queues: Vec<QueueIrq> = own.iter().filter_map(|irq| queue_irq(irq)).collect();
    queues.sort_unstable_by_key(|irq| (irq.queue, irq.direction, irq.irq));
    match own {
        _ if !queues.is_empty() => (queues, Vec::new()),
        [irq] if rx_queues == 1 => {
            (vec![QueueIrq { irq: irq.number, queue: 0, direction: Direction::Receive }], Vec::new())
        }
        _ => (Vec::new(), own.iter().map(|irq| irq.number).collect()),
    }
}

/// By the device's list of interrupts where it has one (PCI). Else by name: the interface's, the slot's, or the virtio
/// device's.
fn belongs(facts: &Facts, folder: &str, nic: &str, slot: Option<&str>, irq: &Irq) -> bool {
    let listed = facts.numbered(&format!("{folder}/device/msi_irqs"), "");
    if !listed.is_empty() {
        return listed.contains(&irq.number);
    }
    let action = &irq.action;
    let names_nic = action.split(['-', '@', ':']).any(|part| part == nic);
    let names_slot = slot.is_some_and(|slot| action.ends_with(&format!("@pci:{slot}")));
    let names_virtio = action.split_once('-').is_some_and(|(device, _)| {
        facts.get(&format!("sys/bus/virtio/devices/{device}/net/{nic}/ifindex")).is_some()
    });
    names_nic || names_slot || names_virtio
}

/// Reads the queue out of names like `eth0-TxRx-3`, `mlx5_comp3@pci:0000:3b:00.0`, `virtio2-input.0`, `eth0-fp-1`
/// (bnx2x) or `mana_q1@pci:7870:00:00.0`.
fn queue_irq(irq: &Irq) -> Option<QueueIrq> {
    let name = irq.action.split('@').next().unwrap_or_default();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[stem.len()..];
    let kind = stem.trim_end_matches(['-', '.', '_']).to_ascii_lowercase();
    let ends_with = |ends: &[&str]| ends.iter().any(|end| kind.ends_with(end));
    let direction = if ends_with(&["txrx", "tx-rx", "comp", "rx", "input", "-fp", "mana_q"]) {
        Direction::Receive
    } else if ends_with(&["tx", "output"]) {
        Direction::Transmit
    } else {
        return None;
    };
    let queue = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(QueueIrq { irq: irq.number, queue, direction })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(action: &str) -> Option<(usize, Direction)> {
        let irq = Irq { number: 7, action: action.to_owned(), cpus: Cpus::default() };
        queue_irq(&irq).map(|found| (found.queue, found.direction))
    }

    #[test]
    fn queues_are_read_out_of_each_drivers_names() {
        use Direction::{Receive, Transmit};
        let cases = [
            ("eth0-TxRx-3", Some((3, Receive))),
            ("i40e-eth0-TxRx-11", Some((11, Receive))),
            ("ens5-Tx-Rx-2", Some((2, Receive))),
            ("mlx5_comp7@pci:0000:3b:00.0", Some((7, Receive))),
            ("virtio2-input.1", Some((1, Receive))),
            ("virtio2-output.1", Some((1, Transmit))),
            ("virtio3-rx", Some((0, Receive))),
            ("eth0-tx-4", Some((4, Transmit))),
            ("mlx5_async0@pci:0000:3b:00.0", None),
            ("virtio2-config", None),
            ("eth0-fp-2", Some((2, Receive))),
            ("mana_q5@pci:7870:00:00.0", Some((5, Receive))),
            ("gve-ntfy-blk3@pci:0000:00:04.0", None),
            ("mlx4-3@0000:03:00.0", None),
            ("eth0", None),
        ];
        for (action, expected) in cases {
            assert_eq!(queue(action), expected, "{action}");
        }
    }

    #[test]
    fn an_interrupt_belongs_to_the_nic_that_it_names() {
        let mut facts = Facts::default();
        facts.insert("proc/interrupts", "       CPU0  CPU1\n 30:  1  2  PCI-MSIX-0000:00:03.0 1-edge virtio2-input.0\n 31: 0 0 PCI-MSI 5-edge eth1-TxRx-0\nNMI: 0 0 Non-maskable interrupts");
        for irq in [30, 31] {
            facts.insert(format!("proc/irq/{irq}/smp_affinity_list"), "0-1");
        }
        facts.insert("sys/bus/virtio/devices/virtio2/net/eth0/ifindex", "2");
        for nic in ["eth0", "eth1", "lo"] {
            facts.insert(format!("sys/class/net/{nic}/queues/rx-0/rps_cpus"), "0");
        }
        let irqs = irqs(&facts);
        let found: Vec<(String, Vec<usize>)> = nics(&facts, &irqs)
            .into_iter()
            .map(|nic| (nic.name, nic.irqs.iter().map(|irq| irq.irq).collect()))
            .collect();
        assert_eq!(found, [("eth0".to_owned(), vec![30]), ("eth1".to_owned(), vec![31])]);
    }
    #[test]
    fn a_devices_interrupts_are_its_own_whatever_its_driver_calls_them() {
        // gve, mlx4 and others name their interrupts after nothing that is known here. sysfs lists them below the device
        // all the same; they were once taken for strangers', and moved away from their queues' shards.
        let mut facts = Facts::default();
        let table = "CPU0\n 40: 1 PCI-MSIX 0-edge gve-ntfy-blk0@pci:0000:00:04.0\n 41: 1 PCI-MSIX 1-edge \
                     gve-mgmnt@pci:0000:00:04.0\n 50: 0 PCI-MSI 5-edge eth1\n 60: 0 PCI-MSI 6-edge nvme0q1";
        facts.insert("proc/interrupts", table);
        for irq in [40, 41, 50, 60] {
            facts.insert(format!("proc/irq/{irq}/smp_affinity_list"), "0");
        }
        for (nic, own) in [("eth0", &[40, 41][..]), ("eth1", &[50])] {
            facts.insert(format!("sys/class/net/{nic}/queues/rx-0/rps_cpus"), "0");
            for irq in own {
                facts.insert(format!("sys/class/net/{nic}/device/msi_irqs/{irq}"), "msix");
            }
        }
        let nics = nics(&facts, &irqs(&facts));
        assert_eq!((nics[0].irqs.len(), &nics[0].unknown_irqs[..]), (0, &[40, 41][..]));
        // One interrupt, one queue: there is nothing to mistake.
        assert_eq!((nics[1].irqs[0].irq, nics[1].irqs[0].queue, nics[1].unknown_irqs.len()), (50, 0, 0));
    }
}
