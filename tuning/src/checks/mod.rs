//! What holds on a host and what does not: one function for each knob, in the rooms `cpus`, `limits` and `network`, and
//! the table of files with one right value, [`crate::knobs::FIXED`].

mod cpus;
mod limits;
mod network;

use std::fmt::Write;

use serde::Serialize;

use crate::host::Host;
use crate::knobs::{FIXED, Fixed, Knob};
use crate::plan::{Placement, Plan, Setting};

/// How it stands with a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As wanted.
    Ok,
    /// The host does not tell.
    Unknown,
    /// It costs something.
    Warn,
    /// It costs a lot, or florin does not run as it should.
    Fail,
}

impl Status {
    /// In a column.
    pub const fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Unknown => "unknown",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// Of which knob.
    pub knob: Knob,
    /// What exactly; the knob's own name where it is the whole of it.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What is.
    pub found: String,
    /// What should be.
    pub wanted: String,
    /// What it costs if not.
    pub why: String,
    /// How to set it.
    pub how: String,
    /// Where to read about it.
    pub page: String,
}

/// What checks look at: the host, and where florin's shards are or would be.
pub(crate) struct Scene<'a> {
    pub(crate) host: &'a Host,
    pub(crate) placement: &'a Placement,
    pub(crate) settings: &'a [Setting],
}

impl Scene<'_> {
    /// The plan's changes for `knob`.
    fn changes(&self, knob: Knob) -> Vec<&Setting> {
        self.settings.iter().filter(|setting| setting.knob == knob).collect()
    }
}

/// A check in the making; [`Finding::about`] gives it its knob.
struct Finding {
    status: Status,
    found: String,
    wanted: String,
    why: &'static str,
    how: String,
}

impl Finding {
    fn about(self, knob: Knob, name: &str) -> Check {
        let Finding { status, found, wanted, why, how } = self;
        Check {
            knob,
            name: name.to_owned(),
            status,
            found,
            wanted,
            why: why.to_owned(),
            how,
            page: knob.page(),
        }
    }
}

/// What each knob's function is.
type Look = fn(&Scene<'_>) -> Finding;

const LOOKS: &[(Knob, Look)] = &[
    (Knob::Kernel, limits::kernel),
    (Knob::IoUring, limits::io_uring),
    (Knob::Memlock, limits::memlock),
    (Knob::Nofile, limits::nofile),
    (Knob::Cpuset, limits::cpuset),
    (Knob::Isolation, cpus::isolation),
    (Knob::Neighbours, cpus::neighbours),
    (Knob::Smt, cpus::smt),
    (Knob::NumaDistance, network::numa_distance),
    (Knob::Governor, cpus::governor),
    (Knob::CStates, cpus::c_states),
    (Knob::Clocksource, cpus::clocksource),
    (Knob::TimerMigration, cpus::timer_migration),
    (Knob::Workqueue, cpus::workqueue),
    (Knob::IrqAffinity, network::irq_affinity),
    (Knob::Irqbalance, network::irqbalance),
    (Knob::Queues, network::queues),
    (Knob::PacketSteering, network::packet_steering),
    (Knob::Rings, network::rings),
    (Knob::Coalescing, network::coalescing),
    (Knob::BusyPoll, network::busy_poll),
    (Knob::Mitigations, cpus::mitigations),
];

/// Looks at everything. `plan` says where shards are or would be, and with every knob, what would change for them.
pub fn checks(host: &Host, plan: &Plan) -> Vec<Check> {
    let scene = Scene { host, placement: &plan.placement, settings: &plan.settings };
    let looked = LOOKS.iter().map(|(knob, look)| look(&scene).about(*knob, knob.name()));
    let mut checks: Vec<Check> = looked.chain(FIXED.iter().map(|row| fixed(&scene, row))).collect();
    checks.sort_by_key(|check| check.knob);
    checks
}

fn fixed(scene: &Scene<'_>, row: &Fixed) -> Check {
    let found = scene.host.facts.get(row.path);
    let status = match found {
        None => Status::Unknown,
        Some(text) if row.wanted.accepts(text) => Status::Ok,
        Some(_) => Status::Warn,
    };
    let finding = Finding {
        status,
        found: found.unwrap_or("no such file on this host").to_owned(),
        wanted: row.wanted.to_string(),
        why: row.why,
        how: how_to_write(row),
    };
    let is_only = FIXED.iter().filter(|other| other.knob == row.knob).count() == 1;
    let is_only = is_only && LOOKS.iter().all(|(knob, _)| *knob != row.knob);
    let file = row.path.rsplit('/').next().unwrap_or(row.path);
    let name = if is_only { row.knob.name().to_owned() } else { format!("{}: {file}", row.knob) };
    finding.about(row.knob, &name)
}

fn how_to_write(row: &Fixed) -> String {
    let value = row.wanted.value();
    match row.path.strip_prefix("proc/sys/") {
        Some(name) => format!("sysctl -w {}={value}", name.replace('/', ".")),
        None => format!("echo {value} > /{}", row.path),
    }
}

/// A table for people: what is not right in full, what is right in a line.
pub fn render(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        writeln!(text, "{:<8} {:<32} {}", check.status.word(), check.name, check.found)
            .expect("a String takes any text");
        if matches!(check.status, Status::Warn | Status::Fail) {
            for (label, words) in
                [("wanted", &check.wanted), ("why", &check.why), ("how", &check.how), ("page", &check.page)]
            {
                writeln!(text, "{:9}{label:<7} {words}", "").expect("a String takes any text");
            }
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    writeln!(
        text,
        "{} ok, {} warn, {} fail, {} unknown",
        count(Status::Ok),
        count(Status::Warn),
        count(Status::Fail),
        count(Status::Unknown)
    )
    .expect("a String takes any text");
    text
}
