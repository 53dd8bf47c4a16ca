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
    let names: Vec<&str> = facts.names("sys/class/net").into_iter().filter(|name| *name != "lo").collect();
    names.iter().map(|name| nic(facts, irqs, name, &names)).collect()
}

fn nic(facts: &Facts, irqs: &[Irq], name: &str, all_names: &[&str]) -> Nic {
    let folder = format!("sys/class/net/{name}");
    let uevent = facts.get(&format!("{folder}/device/uevent")).unwrap_or_default();
    let variable = |name: &str| uevent.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    // -1 is how a kernel says that it does not know.
    let node = facts.get(&format!("{folder}/device/numa_node")).and_then(|text| text.parse().ok());
    let device = Device {
        nic: name,
        others: all_names.iter().copied().filter(|other| *other != name).collect(),
        listed: listed(facts, &folder, variable("DRIVER")),
        slot: variable("PCI_SLOT_NAME"),
        virtio: virtio_device(facts, name),
        platform: variable("OF_FULLNAME").and_then(platform_name),
    };
    let own: Vec<&Irq> = irqs.iter().filter(|irq| device.owns(irq)).collect();
    let rx_queues = facts.numbered(&format!("{folder}/queues"), "rx-").len();
    let (queue_irqs, unknown_irqs) = device.understood(&own, rx_queues);
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

/// What tells a NIC's interrupts from others'.
struct Device<'a> {
    nic: &'a str,
    /// The other interfaces, some of which may be ports of the same device.
    others: Vec<&'a str>,
    /// The interrupts that sysfs lists below the device; empty where it has no such list.
    listed: Vec<usize>,
    /// Of PCI.
    slot: Option<&'a str>,
    /// As `virtio2`.
    virtio: Option<&'a str>,
    /// As `30be0000.ethernet`, of a device that no bus enumerates.
    platform: Option<String>,
}

impl Device<'_> {
    /// By the device's list of interrupts where it has one; another port of that device may say that one is its own. Else
    /// by name: the interface's, the slot's, or the device's.
    fn owns(&self, irq: &Irq) -> bool {
        let names = |nic: &str| irq.action.split(['-', '@', ':']).any(|part| part == nic);
        if !self.listed.is_empty() {
            return self.listed.contains(&irq.number) && !self.others.iter().any(|other| names(other));
        }
        let names_slot = self.slot.is_some_and(|slot| irq.action.ends_with(&format!("@pci:{slot}")));
        let of_virtio = |device: &str| {
            irq.action.strip_prefix(device).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        names(self.nic)
            || names_slot
            || self.virtio.is_some_and(of_virtio)
            || self.is_called_as_the_device(irq)
    }

    /// Whether an interrupt has no name of its own: so drivers call the only one.
    fn is_called_as_the_device(&self, irq: &Irq) -> bool {
        let names = [Some(self.nic), self.virtio, self.platform.as_deref()];
        names.contains(&Some(irq.action.as_str()))
    }

    /// The queues of these interrupts, and those interrupts that nothing is understood of.
    ///
    /// Where names tell each queue once, the others are the device's own events. Where none does, a single interrupt of a
    /// single queue is clear; but only if it is known to be the only one, and not the one of several whose name happens
    /// to say whose it is (a virtio device's `virtio2-config`).
    fn understood(&self, own: &[&Irq], rx_queues: usize) -> (Vec<QueueIrq>, Vec<usize>) {
        let mut queues: Vec<QueueIrq> = own.iter().filter_map(|irq| queue_irq(irq)).collect();
        queues.sort_unstable_by_key(|irq| (irq.queue, irq.direction, irq.irq));
        let is_twice =
            |pair: &[QueueIrq]| (pair[0].queue, pair[0].direction) == (pair[1].queue, pair[1].direction);
        if !queues.is_empty() && !queues.windows(2).any(is_twice) {
            return (queues, Vec::new());
        }
        match own {
            [irq] if rx_queues == 1 && (!self.listed.is_empty() || self.is_called_as_the_device(irq)) => {
                (vec![QueueIrq { irq: irq.number, queue: 0, direction: Direction::Receive }], Vec::new())
            }
            _ => (Vec::new(), own.iter().map(|irq| irq.number).collect()),
        }
    }
}

/// The interrupts below a PCI device. A virtio device has none: they are its parent's, which carries nothing else. (Other
/// parents, such as those of subfunctions, carry others' interrupts too.)
fn listed(facts: &Facts, folder: &str, driver: Option<&str>) -> Vec<usize> {
    let own = facts.numbered(&format!("{folder}/device/msi_irqs"), "");
    if own.is_empty() && driver == Some("virtio_net") {
        return facts.numbered(&format!("{folder}/device/../msi_irqs"), "");
    }
    own
}

fn virtio_device<'a>(facts: &'a Facts, nic: &str) -> Option<&'a str> {
    let devices = "sys/bus/virtio/devices";
    let carries = |device: &&str| facts.get(&format!("{devices}/{device}/net/{nic}/ifindex")).is_some();
    facts.names(devices).into_iter().find(carries)
}

/// `30be0000.ethernet` of `/soc/bus@30800000/ethernet@30be0000`, as the kernel names what a device tree holds.
fn platform_name(full_name: &str) -> Option<String> {
    let (kind, address) = full_name.rsplit('/').next()?.split_once('@')?;
    Some(format!("{address}.{kind}"))
}

/// Reads the queue out of names like `eth0-TxRx-3`, `mlx5_comp3@pci:0000:3b:00.0`, `virtio2-input.0`, `eth0-fp-1`
/// (bnx2x), `eth0-rxtx-2` (vmxnet3, nfp), `eth0-q2-rx` (Xen) or `mana_q1@pci:7870:00:00.0`.
fn queue_irq(irq: &Irq) -> Option<QueueIrq> {
    let name = irq.action.split('@').next().unwrap_or_default();
    let (stem, digits) = number_at_end(name);
    let kind = stem.trim_end_matches(['-', '.', '_']).to_ascii_lowercase();
    let ends_with = |ends: &[&str]| ends.iter().any(|end| kind.ends_with(end));
    let direction = if ends_with(&["txrx", "tx-rx", "rxtx", "rx-tx", "comp", "rx", "input", "-fp", "mana_q"])
    {
        Direction::Receive
    } else if ends_with(&["tx", "output"]) {
        Direction::Transmit
    } else {
        return None;
    };
    let before = || number_at_end(kind.trim_end_matches(['r', 't', 'x', '-']));
    let queue = match (digits, before()) {
        ("", (stem, digits)) if stem.ends_with("-q") && !digits.is_empty() => digits.parse().ok()?,
        ("", _) => 0,
        (digits, _) => digits.parse().ok()?,
    };
    Some(QueueIrq { irq: irq.number, queue, direction })
}

fn number_at_end(name: &str) -> (&str, &str) {
    name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len())
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
            ("eth0-rxtx-2", Some((2, Receive))),
            ("nfp-eth0-rxtx-1", Some((1, Receive))),
            ("eth0-q3-rx", Some((3, Receive))),
            ("eth0-q3-tx", Some((3, Transmit))),
            ("eth0-event-2", None),
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

    /// A tree of sysfs and procfs with these interrupts and one NIC of one receive queue, read as a host is.
    fn read_tree(uevent: &str, irqs_named: &[(usize, &str)], more: &[&str]) -> Nic {
        let root = tempfile::tempdir().unwrap();
        let mut facts = Facts::default();
        let lines: Vec<String> =
            irqs_named.iter().map(|(irq, action)| format!(" {irq}: 1 PCI-MSIX 0-edge {action}")).collect();
        facts.insert("proc/interrupts", format!("CPU0\n{}", lines.join("\n")));
        for (irq, _) in irqs_named {
            facts.insert(format!("proc/irq/{irq}/smp_affinity_list"), "0");
        }
        facts.insert("sys/class/net/eth0/queues/rx-0/rps_cpus", "0");
        facts.insert("sys/class/net/eth0/queues/tx-0/tx_timeout", "0");
        facts.insert("sys/class/net/eth0/device/uevent", uevent);
        more.iter().for_each(|path| facts.insert(*path, "1"));
        facts.write(root.path()).unwrap();
        let facts = Facts::gather(root.path()).unwrap();
        nics(&facts, &irqs(&facts)).remove(0)
    }

    #[test]
    fn an_event_of_the_device_is_never_taken_for_a_queue() {
        // The queues' interrupts had names that nobody knew, and sysfs no list of them where it was looked for. The one
        // whose name said whose it is, of the device's configuration, was then "the only one": it was put beside a shard
        // as its queue, and the queues' own were moved away as strangers'.
        let queue_of = |nic: &Nic| nic.irqs.iter().map(|irq| irq.irq).collect::<Vec<_>>();
        let virtio = "sys/bus/virtio/devices/virtio2/net/eth0/ifindex";
        let named = [(30, "virtio2-config"), (31, "vp-queues")];
        let nic = read_tree("DRIVER=virtio_net", &named, &[virtio]);
        assert_eq!((queue_of(&nic), &nic.unknown_irqs[..]), (vec![], &[30][..]), "by name only");
        // Interrupts of a virtio device are listed below its parent, the PCI function.
        let parents = [30, 31, 32].map(|irq| format!("sys/class/net/eth0/device/../msi_irqs/{irq}"));
        let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
        let nic = read_tree("DRIVER=virtio_net", &named, &parents);
        assert_eq!((queue_of(&nic), &nic.unknown_irqs[..]), (vec![], &[30, 31][..]), "by the parent's list");
        let named = [(30, "virtio2-config"), (31, "virtio2-input.0"), (32, "virtio2-output.0")];
        let nic = read_tree("DRIVER=virtio_net", &named, &[&parents[..], &[virtio]].concat());
        assert_eq!(
            (queue_of(&nic), nic.unknown_irqs.len()),
            (vec![31, 32], 0),
            "names that tell their queues"
        );
        for named in
            ["ena-mgmnt@pci:0000:00:05.0", "mlx5_async0@pci:0000:00:05.0", "eth0-event-1", "eth0:misc"]
        {
            let nic = read_tree("DRIVER=x\nPCI_SLOT_NAME=0000:00:05.0", &[(40, named)], &[]);
            assert_eq!((queue_of(&nic), &nic.unknown_irqs[..]), (vec![], &[40][..]), "{named}");
        }
    }

    #[test]
    fn the_only_interrupt_has_its_devices_name() {
        let virtio = "sys/bus/virtio/devices/virtio0/net/eth0/ifindex";
        let platform = "DRIVER=fec\nOF_NAME=ethernet\nOF_FULLNAME=/soc@0/bus@30800000/ethernet@30be0000";
        for (uevent, action, more) in [
            ("DRIVER=e1000e\nPCI_SLOT_NAME=0000:00:19.0", "eth0", &[][..]),
            ("DRIVER=virtio_net", "virtio0", &[virtio]),
            (platform, "30be0000.ethernet", &[]),
        ] {
            let nic = read_tree(uevent, &[(7, action), (8, "nvme0q1")], more);
            assert_eq!(nic.irqs.iter().map(|irq| irq.irq).collect::<Vec<_>>(), [7], "{action}");
        }
    }

    #[test]
    fn a_queue_that_two_interrupts_claim_is_not_understood() {
        // Ports of one device: each is listed with the other's, which its name tells apart where it can.
        let mut facts = Facts::default();
        let table = "CPU0\n 40: 1 PCI 0-edge eth0-Rx0\n 41: 1 PCI 1-edge eth1-Rx0\n 42: 1 PCI 2-edge a-rx\n 43: 1 PCI 3-edge b-rx";
        facts.insert("proc/interrupts", table);
        for irq in 40..44 {
            facts.insert(format!("proc/irq/{irq}/smp_affinity_list"), "0");
        }
        for (nic, listed) in [("eth0", [40, 41]), ("eth1", [40, 41]), ("eth2", [42, 43])] {
            facts.insert(format!("sys/class/net/{nic}/queues/rx-0/rps_cpus"), "0");
            listed
                .iter()
                .for_each(|irq| facts.insert(format!("sys/class/net/{nic}/device/msi_irqs/{irq}"), "msix"));
        }
        let nics = nics(&facts, &irqs(&facts));
        let found: Vec<_> = nics
            .iter()
            .map(|nic| (nic.irqs.iter().map(|irq| irq.irq).collect::<Vec<_>>(), nic.unknown_irqs.clone()))
            .collect();
        assert_eq!(found, [(vec![40], vec![]), (vec![41], vec![]), (vec![], vec![42, 43])]);
    }
}
