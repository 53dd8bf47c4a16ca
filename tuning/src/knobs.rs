//! The knobs: each has a name, a page, and for most a file whose value is known to be right or wrong.

use std::fmt;
use std::str::FromStr;

macro_rules! knobs {
    ($($variant:ident $name:literal $about:literal,)*) => {
        /// Something about a host that makes florin faster or slower. Each has a page, `tuning/NAME.md`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Knob {
            $(#[doc = $about] $variant,)*
        }

        impl Knob {
            /// All of them, in the order in which a host is set up.
            pub const ALL: &[Knob] = &[$(Knob::$variant,)*];

            /// As on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Knob::$variant => $name,)*
                }
            }
        }
    };
}

knobs! {
    Kernel "kernel" "The kernel's version.",
    IoUring "io-uring" "Whether io_uring is permitted.",
    Memlock "memlock" "How much memory may be locked.",
    Nofile "nofile" "How many files may be open.",
    Cpuset "cpuset" "The control group's CPUs and quota.",
    Isolation "isolation" "CPUs kept free by the kernel's command line.",
    Neighbours "neighbours" "Other processes on the shards' CPUs.",
    Smt "smt" "Shards that share a core.",
    NumaDistance "numa-distance" "How far the NIC is from its shards.",
    NumaBalancing "numa-balancing" "Pages that the kernel moves between nodes.",
    Governor "governor" "How the CPU chooses its frequency.",
    CStates "c-states" "How deeply an idle CPU sleeps.",
    Clocksource "clocksource" "What time is read from.",
    TimerMigration "timer-migration" "Timers that move to busy CPUs.",
    NmiWatchdog "nmi-watchdog" "A periodic interrupt on each CPU.",
    Workqueue "workqueue" "Where the kernel's own work is done.",
    IrqAffinity "irq-affinity" "Which CPU serves which interrupt.",
    Irqbalance "irqbalance" "The service that moves interrupts.",
    Queues "queues" "How many queues a NIC has.",
    PacketSteering "packet-steering" "RPS, RFS and XPS.",
    Rings "rings" "How many packets a NIC holds back.",
    Coalescing "coalescing" "How long a NIC waits with an interrupt.",
    BusyPoll "busy-poll" "Polling a NIC instead of waiting for it.",
    Backlog "backlog" "How many connections may wait to be accepted.",
    Tcp "tcp" "How TCP treats connections that were quiet.",
    HugePages "huge-pages" "Transparent huge pages.",
    Swappiness "swappiness" "Whether memory is written to disk.",
    Mitigations "mitigations" "What the CPU's flaws cost.",
}

impl Knob {
    /// Where its page is, in the repository.
    pub fn page(self) -> String {
        format!("tuning/{}.md", self.name())
    }

    /// Whether it is turned only when asked for by name: it costs something that not everybody wants to pay.
    pub fn is_optional(self) -> bool {
        matches!(self, Knob::Isolation | Knob::CStates | Knob::BusyPoll | Knob::Swappiness)
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no knob's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a knob ({}), found {found:?}", names())]
pub struct UnknownKnob {
    found: String,
}

fn names() -> String {
    Knob::ALL.iter().map(|knob| knob.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Knob {
    type Err = UnknownKnob;

    fn from_str(text: &str) -> Result<Knob, UnknownKnob> {
        Knob::ALL
            .iter()
            .copied()
            .find(|knob| knob.name() == text)
            .ok_or_else(|| UnknownKnob { found: text.to_owned() })
    }
}

impl serde::Serialize for Knob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Knob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Knob, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a file should hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// This number or more.
    AtLeast(u64),
    /// This number or less.
    AtMost(u64),
    /// Not this one of the words that the file offers, and otherwise that one: `[always] madvise never`.
    Not {
        /// What it should not be.
        word: &'static str,
        /// What to put there instead.
        instead: &'static str,
    },
}

impl Wanted {
    /// Whether `text` will do.
    pub fn accepts(self, text: &str) -> bool {
        let number = text.parse::<u64>();
        match self {
            Wanted::AtLeast(least) => number.is_ok_and(|number| number >= least),
            Wanted::AtMost(most) => number.is_ok_and(|number| number <= most),
            Wanted::Not { word, .. } => chosen_word(text) != word,
        }
    }

    /// What to write where it will not.
    pub fn value(self) -> String {
        match self {
            Wanted::AtLeast(number) | Wanted::AtMost(number) => number.to_string(),
            Wanted::Not { instead, .. } => instead.to_owned(),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::AtLeast(number) => write!(f, "{number} or more"),
            Wanted::AtMost(0) => f.write_str("0"),
            Wanted::AtMost(number) => write!(f, "{number} or less"),
            Wanted::Not { instead, .. } => f.write_str(instead),
        }
    }
}

/// Of a file that offers several words, the one in brackets; of any other, all of it.
pub fn chosen_word(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(word, _)| word)
}

/// A file of the host with one right value, whatever the placement.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Of which knob.
    pub knob: Knob,
    /// Below the root.
    pub path: &'static str,
    /// What it should hold.
    pub wanted: Wanted,
    /// What it costs if not.
    pub why: &'static str,
}

const fn fixed(knob: Knob, path: &'static str, wanted: Wanted, why: &'static str) -> Fixed {
    Fixed { knob, path, wanted, why }
}

/// All of them.
pub const FIXED: &[Fixed] = &[
    fixed(
        Knob::NumaBalancing,
        "proc/sys/kernel/numa_balancing",
        Wanted::AtMost(0),
        "the kernel unmaps pages to see who uses them; a pinned shard's pages are where they belong, and each fault is a stall",
    ),
    fixed(
        Knob::NmiWatchdog,
        "proc/sys/kernel/nmi_watchdog",
        Wanted::AtMost(0),
        "it interrupts each CPU regularly and takes a performance counter",
    ),
    fixed(
        Knob::PacketSteering,
        "proc/sys/net/core/rps_sock_flow_entries",
        Wanted::AtMost(0),
        "a queue's interrupt is already on its shard's CPU; flow steering costs a lookup for each packet",
    ),
    fixed(
        Knob::Backlog,
        "proc/sys/net/core/somaxconn",
        Wanted::AtLeast(4_096),
        "florin asks for 4096 waiting connections on each listener, and the kernel cuts that to this",
    ),
    fixed(
        Knob::Backlog,
        "proc/sys/net/ipv4/tcp_max_syn_backlog",
        Wanted::AtLeast(4_096),
        "when callers reconnect all at once, handshakes beyond this are dropped and come again after a second",
    ),
    fixed(
        Knob::Tcp,
        "proc/sys/net/ipv4/tcp_slow_start_after_idle",
        Wanted::AtMost(0),
        "a connection that was quiet starts slowly again, and a large batch then takes several round trips",
    ),
    fixed(
        Knob::HugePages,
        "sys/kernel/mm/transparent_hugepage/enabled",
        Wanted::Not { word: "never", instead: "madvise" },
        "the table asks for huge pages; with small ones each lookup walks the page tables besides",
    ),
    fixed(
        Knob::Swappiness,
        "proc/sys/vm/swappiness",
        Wanted::AtMost(10),
        "a shard that waits for its own memory to come back from disk answers nobody meanwhile",
    ),
];
