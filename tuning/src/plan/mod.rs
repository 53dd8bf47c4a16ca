//! From a host and a wish to a plan: who runs where, and which values change for it.

mod placement;
mod readable;
mod settings;
mod shell;
mod systemd;

use serde::{Deserialize, Serialize};

pub use placement::{IrqPlace, NicPlace, Placement, Request, ShardPlace, Siblings, place};
pub use readable::readable;
pub use settings::{Selection, Setting, is_same, settings};
pub(crate) use settings::{deep_states, elsewhere, wanted_timer_migration};
pub use shell::shell;
pub use systemd::{Unit, systemd};

use crate::host::{Cpus, Host};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing is known of CPUs.
    #[error("the host names no CPU that may be used: is sys/devices/system/cpu/online there?")]
    NoCpus,
    /// More shards than cores.
    #[error(
        "{shards} shards need {shards} cores, and {cores} cores with {threads} CPUs may be used: lower --shards, or give \
         shards to siblings as well (--siblings shards)"
    )]
    NotEnough {
        /// Asked for.
        shards: usize,
        /// There.
        cores: usize,
        /// On those cores.
        threads: usize,
    },
    /// A NIC that is not there.
    #[error("there is no NIC {nic}: this host has {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    UnknownNic {
        /// Named.
        nic: String,
        /// There.
        known: Vec<String>,
    },
    /// CPUs that may not be used.
    #[error("{flag} names the CPUs {cpus}, and only {allowed} may be used: change it, or the control group")]
    NotAllowed {
        /// Which flag.
        flag: &'static str,
        /// Too many.
        cpus: Cpus,
        /// There.
        allowed: Cpus,
    },
    /// Two flags that contradict each other.
    #[error(
        "--shards asks for {shards} shards and --cpus gives the CPUs {cpus}: give one for each, or only --cpus"
    )]
    CountDiffers {
        /// By one.
        shards: usize,
        /// By the other.
        cpus: Cpus,
    },
    /// What was given as a plan.
    #[error("{path} is no plan: {reason}; `florin tune plan --json` writes one")]
    NotAPlan {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// Who runs where, and what changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "PlanText")]
pub struct Plan {
    /// Who runs where.
    #[serde(flatten)]
    pub placement: Placement,
    /// What changes, in this order.
    pub settings: Vec<Setting>,
}

/// A plan as it is read: all of its names side by side, and no other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    shards: Vec<ShardPlace>,
    housekeeping: Cpus,
    spare: Cpus,
    idle: Cpus,
    irqs: Vec<IrqPlace>,
    nics: Vec<NicPlace>,
    reasons: Vec<String>,
    settings: Vec<Setting>,
}

impl From<PlanText> for Plan {
    fn from(text: PlanText) -> Plan {
        let PlanText { shards, housekeeping, spare, idle, irqs, nics, reasons, settings } = text;
        let placement = Placement { shards, housekeeping, spare, idle, irqs, nics, reasons };
        Plan { placement, settings }
    }
}

impl Plan {
    /// Makes a plan.
    pub fn make(host: &Host, request: &Request, selection: &Selection) -> Result<Plan, PlanError> {
        let placement = place(host, request)?;
        let settings = settings(host, &placement, selection);
        Ok(Plan { placement, settings })
    }

    /// Reads what [`Plan::to_json`] wrote.
    pub fn from_json(path: &str, text: &str) -> Result<Plan, PlanError> {
        florin_input::json(text.as_bytes())
            .map_err(|error| PlanError::NotAPlan { path: path.to_owned(), reason: error.to_string() })
    }

    /// For machines, and for `florin tune apply --plan`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan has only names, numbers and lists of them")
    }
}

/// `1 shard`, `2 shards`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs::Knob;

    /// Arrays of values were taken for a shard's place and for a setting, however deep they lay in a plan.
    #[test]
    fn a_plan_is_read_by_names_and_is_what_was_written() {
        let place =
            Placement { shards: vec![ShardPlace { shard: 0, cpu: 1, node: 0 }], ..Placement::default() };
        let setting = Setting {
            path: "/a".to_owned(),
            was: "1".to_owned(),
            value: "2".to_owned(),
            knob: Knob::Tcp,
            interrupt: None,
        };
        let plan = Plan { placement: place, settings: vec![setting] };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(Plan::from_json("plan", &text).unwrap(), plan);
        for (from, to) in [
            (r#"{"shard":0,"cpu":1,"node":0}"#, "[0,1,0]"),
            (r#"{"path":"/a","was":"1","value":"2","knob":"tcp"}"#, r#"["/a","1","2","tcp",null]"#),
            (r#""cpu":1"#, r#""cpu":1,"cpu":2"#),
            (r#""cpu":1"#, r#""cpu":1,"core":2"#),
            (r#""reasons":[]"#, r#""reasons":[],"more":[]"#),
        ] {
            assert!(text.contains(from), "{text}");
            let refused = Plan::from_json("plan", &text.replace(from, to)).unwrap_err().to_string();
            assert!(refused.contains("is no plan"), "{to}: {refused}");
        }
    }
}
