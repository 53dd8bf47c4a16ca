//! A plan as drop-ins for systemd: florin on its CPUs, everything else off them, again after each boot.

use super::Plan;

/// Slices and scopes of everything that is not florin.
const OTHERS: &[&str] = &["system.slice", "user.slice", "machine.slice", "init.scope"];

/// A file below `/etc/systemd/system`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its path there.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// All drop-ins.
pub fn systemd(plan: &Plan) -> Vec<Unit> {
    let placement = &plan.placement;
    let (shards, kept) = (placement.shard_cpus(), &placement.housekeeping);
    let own = shards.or(kept);
    let others = placement.others();
    let drop_in = |unit: &str, text: String| Unit { path: format!("{unit}.d/50-florin-cpus.conf"), text };
    let note = "# Made by florin tune plan --systemd.\n";
    let mut units = vec![
        drop_in("florin.slice", format!("{note}[Slice]\nAllowedCPUs={own}\n")),
        drop_in(
            "florin.service",
            format!(
                "{note}# Shards: {shards}. Housekeeping: {kept}. The same stands in florin.toml:\n#   cpus = \"{shards}\"\n#   \
                 housekeeping-cpus = \"{kept}\"\n[Service]\nSlice=florin.slice\nCPUAffinity=\nCPUAffinity={}\nNUMAPolicy=local\n",
                spaced(&own.to_string())
            ),
        ),
    ];
    if !others.and(&placement.quiet()).is_empty() || placement.quiet().is_empty() {
        return units;
    }
    for unit in OTHERS {
        let section = if unit.ends_with(".scope") { "Scope" } else { "Slice" };
        units.push(drop_in(unit, format!("{note}[{section}]\nAllowedCPUs={others}\n")));
    }
    let banned = placement.quiet();
    units.push(drop_in(
        "irqbalance.service",
        format!("{note}[Service]\nEnvironment=IRQBALANCE_BANNED_CPULIST={banned}\n"),
    ));
    units
}

/// `CPUAffinity=` takes ranges that are separated by spaces.
fn spaced(list: &str) -> String {
    list.replace(',', " ")
}
