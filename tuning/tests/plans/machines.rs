//! Hosts to plan for, built fact by fact in the kernel's own words: each is what `florin tune record` would write there.

use florin_tune::host::{Cpus, Facts};

/// How cores are counted.
pub struct Shape {
    pub packages: usize,
    pub nodes_per_package: usize,
    pub cores_per_node: usize,
    /// Hardware threads of a core. The second ones are numbered after all the first ones, as firmware does.
    pub threads: usize,
    pub cores_per_cache: usize,
    pub cache: &'static str,
}

impl Shape {
    fn cores(&self) -> usize {
        self.packages * self.nodes_per_package * self.cores_per_node
    }

    fn threads_of(&self, cores: std::ops::Range<usize>) -> Cpus {
        (0..self.threads)
            .flat_map(|thread| cores.clone().map(move |core| (thread, core)))
            .map(|(thread, core)| thread * self.cores() + core)
            .collect()
    }

    /// The facts of such a host, without a NIC.
    pub fn build(&self) -> Machine {
        let mut facts = Facts::default();
        let online = self.threads_of(0..self.cores());
        facts.insert("sys/devices/system/cpu/online", online.to_string());
        for core in 0..self.cores() {
            let siblings = self.threads_of(core..core + 1);
            let shared = core / self.cores_per_cache * self.cores_per_cache;
            let shared = self.threads_of(shared..shared + self.cores_per_cache);
            for cpu in siblings.iter() {
                let folder = format!("sys/devices/system/cpu/cpu{cpu}");
                let package = core / (self.nodes_per_package * self.cores_per_node);
                facts.insert(format!("{folder}/topology/thread_siblings_list"), siblings.to_string());
                facts.insert(format!("{folder}/topology/physical_package_id"), package.to_string());
                facts.insert(format!("{folder}/cache/index3/level"), "3");
                facts.insert(format!("{folder}/cache/index3/size"), self.cache);
                facts.insert(format!("{folder}/cache/index3/shared_cpu_list"), shared.to_string());
            }
        }
        let nodes = self.packages * self.nodes_per_package;
        for node in 0..nodes {
            let cpus = self.threads_of(node * self.cores_per_node..(node + 1) * self.cores_per_node);
            let distance = |other: usize| match (
                other == node,
                other / self.nodes_per_package == node / self.nodes_per_package,
            ) {
                (true, _) => "10",
                (false, true) => "12",
                (false, false) => {
                    if self.nodes_per_package > 1 {
                        "32"
                    } else {
                        "21"
                    }
                }
            };
            let distances: Vec<&str> = (0..nodes).map(distance).collect();
            facts.insert(format!("sys/devices/system/node/node{node}/cpulist"), cpus.to_string());
            facts.insert(format!("sys/devices/system/node/node{node}/distance"), distances.join(" "));
        }
        for (path, value) in DEFAULTS {
            facts.insert(*path, *value);
        }
        if nodes > 1 {
            facts.insert("proc/sys/kernel/numa_balancing", "1");
        }
        facts.insert("sys/devices/virtual/workqueue/cpumask", online.to_mask());
        facts.insert("proc/irq/default_smp_affinity", online.to_mask());
        facts.insert("proc/self/status", format!("Name:\tflorin\nCpus_allowed_list:\t{online}\nSeccomp:\t0"));
        let mut machine = Machine { facts, online, irqs: Vec::new() };
        machine.process(1, "systemd", 0);
        machine
    }
}

/// What a fresh Debian 13 says.
const DEFAULTS: &[(&str, &str)] = &[
    ("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet"),
    ("proc/self/cgroup", "0::/user.slice"),
    (
        "proc/self/limits",
        "Max open files            1024                 524288               files\nMax locked memory         8388608              8388608              bytes",
    ),
    ("proc/sys/kernel/io_uring_disabled", "0"),
    ("proc/sys/kernel/nmi_watchdog", "1"),
    ("proc/sys/kernel/osrelease", "6.12.57+deb13-amd64"),
    ("proc/sys/kernel/random/boot_id", "5a1f0d1c-0000-4000-8000-000000000001"),
    ("proc/sys/kernel/timer_migration", "1"),
    ("proc/sys/net/core/busy_poll", "0"),
    ("proc/sys/net/core/busy_read", "0"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0"),
    ("proc/sys/net/core/somaxconn", "4096"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
    ("proc/sys/vm/swappiness", "60"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ("sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected"),
    (
        "sys/devices/system/cpu/vulnerabilities/spectre_v2",
        "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional",
    ),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
];

/// A NIC of a machine.
pub struct Card<'a> {
    pub name: &'a str,
    pub driver: &'a str,
    pub slot: &'a str,
    pub node: i32,
    pub speed: u64,
    pub queues: usize,
    pub first_irq: usize,
    /// What the driver calls the interrupt of a queue, with # for the queue.
    pub action: &'a str,
}

/// A host in the making.
pub struct Machine {
    pub facts: Facts,
    pub online: Cpus,
    irqs: Vec<(usize, String)>,
}

impl Machine {
    pub fn set(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.facts.insert(path, text);
    }

    pub fn process(&mut self, id: usize, name: &str, parent: usize) {
        let status = format!("Name:\t{name}\nPPid:\t{parent}\nCpus_allowed_list:\t{}", self.online);
        self.facts.insert(format!("proc/{id}/status"), status);
    }

    pub fn irq(&mut self, number: usize, action: &str) {
        self.irqs.push((number, action.to_owned()));
        let online = self.online.to_string();
        self.facts.insert(format!("proc/irq/{number}/smp_affinity_list"), online);
    }

    pub fn nic(&mut self, card: &Card<'_>) {
        let folder = format!("sys/class/net/{}", card.name);
        let uevent = format!("DRIVER={}\nPCI_SLOT_NAME={}", card.driver, card.slot);
        self.set(format!("{folder}/device/uevent"), uevent);
        self.set(format!("{folder}/device/numa_node"), card.node.to_string());
        self.set(format!("{folder}/operstate"), "up");
        if card.speed > 0 {
            self.set(format!("{folder}/speed"), card.speed.to_string());
        }
        self.set(format!("{folder}/napi_defer_hard_irqs"), "0");
        self.set(format!("{folder}/gro_flush_timeout"), "0");
        let none = "0";
        for queue in 0..card.queues {
            self.set(format!("{folder}/queues/rx-{queue}/rps_cpus"), none);
            self.set(format!("{folder}/queues/rx-{queue}/rps_flow_cnt"), "0");
            self.set(format!("{folder}/queues/tx-{queue}/tx_timeout"), "0");
            if card.queues > 1 {
                self.set(format!("{folder}/queues/tx-{queue}/xps_cpus"), none);
            }
            let irq = card.first_irq + queue;
            self.irq(irq, &card.action.replace('#', &queue.to_string()));
            if !card.slot.is_empty() {
                self.set(format!("{folder}/device/msi_irqs/{irq}"), "msix");
            }
        }
    }

    pub fn governors(&mut self, now: &str) {
        for cpu in self.online.clone().iter() {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
            self.set(format!("{folder}/scaling_available_governors"), "performance powersave");
            self.set(format!("{folder}/scaling_governor"), now);
        }
    }

    pub fn idle_states(&mut self, states: &[(&str, u64)]) {
        for cpu in self.online.clone().iter() {
            for (index, (name, latency)) in states.iter().enumerate() {
                let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpuidle/state{index}");
                self.set(format!("{folder}/name"), *name);
                self.set(format!("{folder}/latency"), latency.to_string());
                self.set(format!("{folder}/disable"), "0");
            }
        }
    }

    /// The facts, with the table of interrupts.
    pub fn finish(mut self) -> Facts {
        let head: Vec<String> = self.online.iter().map(|cpu| format!("CPU{cpu}")).collect();
        let counts = vec!["0"; self.online.len()].join(" ");
        let mut table = format!("{}\n", head.join(" "));
        for (number, action) in &self.irqs {
            table.push_str(&format!("{number}: {counts} PCI-MSI 0-edge {action}\n"));
        }
        table.push_str(&format!("NMI: {counts} Non-maskable interrupts"));
        self.facts.insert("proc/interrupts", table);
        self.facts
    }
}

/// Four large cores with two threads, eight small ones, wireless, on battery.
pub fn laptop() -> Facts {
    let shape = Shape {
        packages: 1,
        nodes_per_package: 1,
        cores_per_node: 12,
        threads: 1,
        cores_per_cache: 12,
        cache: "18432K",
    };
    let mut machine = shape.build();
    // The large cores' threads are numbered next to each other: 0 and 1 are one core, and so on.
    let online: Cpus = "0-15".parse().unwrap();
    machine.online = online.clone();
    for cpu in 0..16 {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        let siblings = if cpu < 8 { format!("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1) } else { cpu.to_string() };
        machine.set(format!("{folder}/topology/thread_siblings_list"), siblings);
        machine.set(format!("{folder}/topology/physical_package_id"), "0");
        machine.set(format!("{folder}/cache/index3/level"), "3");
        machine.set(format!("{folder}/cache/index3/size"), "18432K");
        machine.set(format!("{folder}/cache/index3/shared_cpu_list"), "0-15");
    }
    machine.set("sys/devices/system/cpu/online", "0-15");
    machine.set("sys/devices/system/node/node0/cpulist", "0-15");
    machine.set("sys/devices/cpu_atom/cpus", "8-15");
    machine.set("sys/devices/virtual/workqueue/cpumask", "ffff");
    machine.set("proc/irq/default_smp_affinity", "ffff");
    machine.set("proc/self/status", "Name:\tflorin\nCpus_allowed_list:\t0-15\nSeccomp:\t0");
    machine.nic(&Card {
        name: "wlp0s20f3",
        driver: "iwlwifi",
        slot: "0000:00:14.3",
        node: -1,
        speed: 0,
        queues: 1,
        first_irq: 160,
        action: "iwlwifi:default_queue",
    });
    machine.irq(9, "acpi");
    machine.irq(140, "nvme0q1");
    machine.process(700, "irqbalance", 1);
    machine.process(1200, "firefox", 1);
    machine.governors("powersave");
    machine.idle_states(&[("POLL", 0), ("C1E", 2), ("C6", 170), ("C10", 230)]);
    machine.finish()
}

/// Two packages of 20 cores with two threads each, a NIC on each.
pub fn two_sockets() -> Facts {
    let shape = Shape {
        packages: 2,
        nodes_per_package: 1,
        cores_per_node: 20,
        threads: 2,
        cores_per_cache: 20,
        cache: "28160K",
    };
    let mut machine = shape.build();
    for (name, slot, node, first_irq) in [("eth0", "0000:3b:00.0", 0, 100), ("eth1", "0000:af:00.0", 1, 140)]
    {
        machine.nic(&Card {
            name,
            driver: "i40e",
            slot,
            node,
            speed: 40_000,
            queues: 16,
            first_irq,
            action: &format!("i40e-{name}-TxRx-#"),
        });
        let rings = "Ring parameters for eth:\nPre-set maximums:\nRX:\t\t4096\nTX:\t\t4096\nCurrent hardware settings:\nRX:\t\t512\nTX:\t\t512";
        let channels = "Channel parameters for eth:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t40\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t16";
        machine.set(format!("ethtool/{name}/rings"), rings);
        machine.set(format!("ethtool/{name}/channels"), channels);
        machine.set(
            format!("ethtool/{name}/coalesce"),
            "Coalesce parameters for eth:\nAdaptive RX: on  TX: on\nrx-usecs:\t50",
        );
    }
    for queue in 0..4 {
        machine.irq(180 + queue, &format!("nvme0q{queue}"));
    }
    machine.process(800, "irqbalance", 1);
    machine.process(900, "sshd", 1);
    machine.governors("performance");
    machine.idle_states(&[("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133)]);
    machine.finish()
}

/// 128 cores with two threads in 8 nodes, caches of 8 cores, one fast NIC far from the first core.
pub fn many_nodes() -> Facts {
    let shape = Shape {
        packages: 2,
        nodes_per_package: 4,
        cores_per_node: 16,
        threads: 2,
        cores_per_cache: 8,
        cache: "32768K",
    };
    let mut machine = shape.build();
    machine.nic(&Card {
        name: "ens3f0np0",
        driver: "mlx5_core",
        slot: "0000:41:00.0",
        node: 5,
        speed: 100_000,
        queues: 63,
        first_irq: 400,
        action: "mlx5_comp#@pci:0000:41:00.0",
    });
    machine.irq(399, "mlx5_async0@pci:0000:41:00.0");
    machine.governors("performance");
    machine.idle_states(&[("POLL", 0), ("C1", 1), ("C2", 400)]);
    machine.finish()
}

/// A container with a system of its own on eight CPUs of a hypervisor, of which it is given six.
pub fn vm() -> Facts {
    let shape = Shape {
        packages: 1,
        nodes_per_package: 1,
        cores_per_node: 8,
        threads: 1,
        cores_per_cache: 8,
        cache: "16384K",
    };
    let mut machine = shape.build();
    machine.set("proc/self/cgroup", "0::/system.slice/florin.service");
    machine.set("sys/fs/cgroup/cpuset.cpus.effective", "2-7");
    machine.set("proc/self/status", "Name:\tflorin\nCpus_allowed_list:\t2-7\nSeccomp:\t0");
    machine.set("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock");
    machine.set("sys/bus/virtio/devices/virtio2/net/eth0/ifindex", "2");
    machine.nic(&Card {
        name: "eth0",
        driver: "virtio_net",
        slot: "",
        node: -1,
        speed: 10_000,
        queues: 4,
        first_irq: 30,
        action: "virtio2-input.#",
    });
    machine.irq(29, "virtio2-config");
    machine.finish()
}

/// A container on a large host: four CPUs and a quota, a virtual interface, and nothing that can be changed.
pub fn container() -> Facts {
    let shape = Shape {
        packages: 1,
        nodes_per_package: 1,
        cores_per_node: 16,
        threads: 2,
        cores_per_cache: 8,
        cache: "32768K",
    };
    let mut machine = shape.build();
    machine.set("proc/self/cgroup", "0::/");
    machine.set("sys/fs/cgroup/cpuset.cpus.effective", "4-5,20-21");
    machine.set("sys/fs/cgroup/cpu.max", "350000 100000");
    machine.set("proc/self/status", "Name:\tflorin\nCpus_allowed_list:\t4-5,20-21\nSeccomp:\t2");
    machine.set("sys/class/net/eth0/operstate", "up");
    machine.set("sys/class/net/eth0/queues/rx-0/rps_cpus", "0");
    machine.set("sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0");
    machine.set("sys/class/net/eth0/queues/tx-0/tx_timeout", "0");
    // None of these is seen from inside.
    for path in
        ["proc/sys/kernel/numa_balancing", "proc/sys/vm/swappiness", "sys/devices/virtual/workqueue/cpumask"]
    {
        machine.facts.remove(path);
    }
    let mut facts = machine.finish();
    facts.remove("proc/interrupts");
    facts
}
