//! The picture for a terminal: a column for each core, a row for each of its hardware threads.

use std::fmt::Write;

use super::{Role, caches, describe_nic, hangs_on, packages, role, title};
use crate::host::{Core, Host, Node};
use crate::plan::Placement;

/// Columns of cores beside each other.
const CORES_PER_LINE: usize = 10;

/// Draws it.
pub fn terminal(host: &Host, placement: &Placement) -> String {
    let mut text = format!("{}: Linux {}\n", title(host, placement), host.kernel);
    text.push_str("s0 s1 … shards   H housekeeping   · idle beside a shard   - everything else\n");
    for (package, nodes) in packages(host) {
        line(&mut text, format_args!("\npackage {package}"));
        for (node, cores) in nodes {
            draw_node(&mut text, host, placement, node, &cores);
        }
    }
    threads(&mut text, host);
    text
}

fn draw_node(text: &mut String, host: &Host, placement: &Placement, node: &Node, cores: &[&Core]) {
    let far = node.distances.iter().filter(|(other, _)| *other != node.index);
    let far: Vec<String> = far.map(|(other, distance)| format!("{other}:{distance}")).collect();
    let far = if far.is_empty() { String::new() } else { format!("  distance {}", far.join(" ")) };
    line(text, format_args!("╭ node {}  CPUs {}{far}", node.index, node.cpus));
    for cache in caches(cores) {
        line(text, format_args!("│ cache {cache}"));
    }
    let cell = |cpu: usize| {
        let word = match role(placement, cpu) {
            Role::Shard(shard) => format!("s{shard}"),
            Role::Housekeeping => "H".to_owned(),
            Role::Idle => "·".to_owned(),
            Role::Spare => "-".to_owned(),
        };
        format!("{cpu} {word}")
    };
    let width = cores.iter().flat_map(|core| core.cpus.iter()).map(|cpu| cell(cpu).chars().count()).max();
    let width = width.unwrap_or(0);
    for cores in cores.chunks(CORES_PER_LINE) {
        let threads = cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
        for thread in 0..threads {
            let cells = cores.iter().map(|core| core.cpus.iter().nth(thread).map(cell).unwrap_or_default());
            let cells: Vec<String> = cells.map(|cell| format!("{cell:<width$}")).collect();
            let edge = if thread == 0 { "│ ┌" } else { "│ └" };
            line(text, format_args!("{edge} {}", cells.join(" │ ").trim_end()));
        }
    }
    for place in placement.nics.iter().filter(|place| hangs_on(host, &place.nic, node.index)) {
        line(text, format_args!("│ ⇄ {}", describe_nic(host, &place.nic).unwrap_or_default()));
        let irqs = placement.irqs.iter().filter(|irq| irq.nic == place.nic);
        for irq in irqs {
            let now = host.irqs.iter().find(|now| now.number == irq.irq);
            let now = now.map_or_else(|| "?".to_owned(), |now| now.cpus.or_none());
            let wanted = irq.cpus.or_none();
            let moved = if now == wanted { String::new() } else { format!(", planned {wanted}") };
            line(
                text,
                format_args!("│   queue {:<3} interrupt {:<5} on CPU {now}{moved}", irq.queue, irq.irq),
            );
        }
    }
    line(text, "╰");
}

/// Where florin's threads may run, and where they did last.
fn threads(text: &mut String, host: &Host) {
    for running in &host.florin {
        line(text, format_args!("\nthreads of process {}", running.process));
        for thread in &running.threads {
            let last = thread.ran_on.map_or_else(|| "?".to_owned(), |cpu| cpu.to_string());
            line(
                text,
                format_args!("  {:<18} may run on {:<12} ran on {last}", thread.name, thread.cpus.or_none()),
            );
        }
    }
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("a String takes any text");
}
