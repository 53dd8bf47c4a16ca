//! A plan for people.

use std::fmt::Write;

use super::{Plan, count};
use crate::knobs::Knob;
use crate::limits::{FILES_NAMED_MAX, INTERRUPTS_NAMED_MAX};

/// The plan in words.
pub fn readable(plan: &Plan) -> String {
    let mut text = String::new();
    let placement = &plan.placement;
    line(&mut text, "why");
    for reason in &placement.reasons {
        line(&mut text, format_args!("  - {reason}"));
    }
    line(&mut text, "");
    line(&mut text, format_args!("shards        {}", placement.shard_cpus().or_none()));
    line(&mut text, format_args!("housekeeping  {}", placement.housekeeping.or_none()));
    line(&mut text, format_args!("idle          {}", placement.idle.or_none()));
    line(&mut text, format_args!("spare         {}", placement.spare.or_none()));
    interrupts(&mut text, plan);
    line(&mut text, "");
    line(&mut text, "florin.toml");
    line(&mut text, format_args!("  cpus = \"{}\"", placement.shard_cpus()));
    line(&mut text, format_args!("  housekeeping-cpus = \"{}\"", placement.housekeeping));
    line(&mut text, "");
    if plan.settings.is_empty() {
        line(&mut text, "settings: none to change");
    } else {
        line(&mut text, format_args!("{} to change", count(plan.settings.len(), "setting")));
    }
    for knob in Knob::ALL {
        of_knob(&mut text, plan, *knob);
    }
    text
}

fn interrupts(text: &mut String, plan: &Plan) {
    for nic in &plan.placement.nics {
        let places: Vec<String> = plan
            .placement
            .irqs
            .iter()
            .filter(|irq| irq.nic == nic.nic)
            .map(|irq| format!("{}→{}", irq.irq, irq.cpus))
            .collect();
        if !nic.left_alone.is_empty() {
            let left = count(nic.left_alone.len(), "interrupt");
            line(text, format_args!("{}: {left} whose queues the driver does not name, left alone", nic.nic));
        } else if places.is_empty() {
            line(text, format_args!("{}: no interrupts of its own", nic.nic));
        } else {
            let more = places.len().saturating_sub(INTERRUPTS_NAMED_MAX);
            let more = if more == 0 { String::new() } else { format!(" … and {more} more") };
            let shown = &places[..places.len().min(INTERRUPTS_NAMED_MAX)];
            line(text, format_args!("{}: interrupt→CPU {}{more}", nic.nic, shown.join(" ")));
        }
    }
}

fn of_knob(text: &mut String, plan: &Plan, knob: Knob) {
    let settings: Vec<_> = plan.settings.iter().filter(|setting| setting.knob == knob).collect();
    if settings.is_empty() {
        return;
    }
    line(text, format_args!("  {knob} ({})", knob.page()));
    for setting in settings.iter().take(FILES_NAMED_MAX) {
        if setting.is_of_boot() {
            line(text, format_args!("    in the boot loader, then reboot: {}", setting.value));
        } else {
            line(text, format_args!("    {}: {} → {}", setting.path, setting.was, setting.value));
        }
    }
    if settings.len() > FILES_NAMED_MAX {
        line(
            text,
            format_args!("    … and {} more like these (--json lists all)", settings.len() - FILES_NAMED_MAX),
        );
    }
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("a String takes any text");
}
