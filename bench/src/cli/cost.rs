//! `florin-bench cost`.

use std::{fmt::Write, fs, path::PathBuf};

use clap::Args;

use super::{error::CliError, say};
use crate::{
    compare::findings::{Bound, Findings},
    cost::{
        Assumptions, Bill, CostError, HOURS_PER_YEAR, MicroDollars, fleet_before, implied_vcpu_hour, story,
    },
    report::markdown::grouped,
};

#[derive(Args, Debug)]
pub(super) struct CostArgs {
    /// A comparison's compare.json: its last server is the replacement
    #[arg(long, value_name = "FILE", conflicts_with_all = ["before", "after"])]
    comparison: Option<PathBuf>,
    /// Which server of the comparison is today's, by its label [default: the strongest of those before the last, for nobody
    /// rewrites what could be tuned]
    #[arg(long, value_name = "LABEL", requires = "comparison")]
    baseline: Option<String>,
    /// Which endpoint of the comparison
    #[arg(long, value_name = "KIND", default_value = "balance")]
    endpoint: String,
    /// Without a comparison: requests a second that a core of today's service does within its objective
    #[arg(long, value_name = "RATE", requires = "after")]
    before: Option<u64>,
    /// And a core of its replacement
    #[arg(long, value_name = "RATE", requires = "before")]
    after: Option<u64>,
    /// Requests a second at the busiest time
    #[arg(long, value_name = "RATE", default_value_t = 1_000_000)]
    peak: u64,
    /// Of today's CPU, the share that is replaced, in %: what only waits, or stays in its language, is not
    #[arg(long, value_name = "%", default_value_t = 100)]
    replaced: u64,
    /// Of each core, the share that stays free at the peak, in %
    #[arg(long, value_name = "%", default_value_t = 50)]
    headroom: u64,
    /// vCPUs of a machine
    #[arg(long, value_name = "N", default_value_t = 16)]
    machine_vcpus: u64,
    /// Machines that may fail at the peak: N + this many are paid for
    #[arg(long, value_name = "N", default_value_t = 1)]
    spare: u64,
    /// Dollars that a vCPU costs for an hour, its share of memory and network included
    #[arg(long, value_name = "DOLLARS", default_value = "0.048")]
    vcpu_hour: MicroDollars,
    /// Hours of a year that are paid for
    #[arg(long, value_name = "N", default_value_t = HOURS_PER_YEAR)]
    hours: u64,
    /// Dollars that the migration costs once: says after how many months it has paid for itself
    #[arg(long, value_name = "DOLLARS")]
    migration: Option<u64>,
    /// Work the case study's own example instead: 400 vCPUs, about $300,000 a year, and what that assumes
    #[arg(long)]
    story: bool,
}

/// Prints the bill.
pub(super) fn run(args: &CostArgs) -> Result<(), CliError> {
    let text = if args.story { the_story(args) } else { the_bill(args)? };
    say::result(&text);
    Ok(())
}

/// Requests a second and core, before and after, and the ends of the interval of their ratio.
struct Rates {
    before: u64,
    after: u64,
    source: String,
    /// After, at either end of the ratio's interval, where one was measured.
    ends: Option<(u64, u64)>,
}

fn rates(args: &CostArgs) -> Result<Rates, CostError> {
    if let (Some(before), Some(after)) = (args.before, args.after) {
        return Ok(Rates { before, after, source: "as given".to_owned(), ends: None });
    }
    let Some(path) = &args.comparison else {
        return Err(CostError::Unknown(
            "give --comparison target/compare/compare.json (`florin-bench compare` writes it), or --before and \
             --after in requests a second and core, or --story"
                .to_owned(),
        ));
    };
    let text = fs::read_to_string(path).map_err(|source| CostError::File { path: path.clone(), source })?;
    let findings: Findings = florin_input::json(text.as_bytes())
        .map_err(|source| CostError::Findings { path: path.clone(), source })?;
    measured(&findings, &args.endpoint, args.baseline.as_deref())
}

/// The knees of a comparison's last server and of the baseline, for each core.
fn measured(findings: &Findings, endpoint: &str, baseline: Option<&str>) -> Result<Rates, CostError> {
    let Some(section) = findings.sections.iter().find(|section| section.endpoint == endpoint) else {
        let known = findings.terms.endpoints.join(", ");
        let unknown = format!("the comparison has no endpoint {endpoint:?}: it has {known}");
        return Err(CostError::Unknown(unknown));
    };
    let last = section.knees.len().saturating_sub(1);
    let cores = findings.terms.server_cpus.len() as f64;
    if cores == 0.0 {
        let unpinned = "the comparison's servers were not pinned: measure with --server-cpus, so that cores can be counted";
        return Err(CostError::Unknown(unpinned.to_owned()));
    }
    let knee =
        |target: usize| section.knees.get(target).and_then(|knee| knee.rate()).map(|rate| rate / cores);
    let labels = &findings.terms.labels;
    let strongest = || (0..last).max_by(|&a, &b| knee(a).unwrap_or(0.0).total_cmp(&knee(b).unwrap_or(0.0)));
    let from = match baseline {
        None => strongest(),
        Some(label) => Some(labels[..last].iter().position(|known| known == label).ok_or_else(|| {
            let known = labels[..last].join(", ");
            CostError::Unknown(format!(
                "no server {label:?} comes before the comparison's last one: there are {known}"
            ))
        })?),
    };
    let from = from.unwrap_or_default();
    let versus = section.ratios.iter().find(|versus| (versus.upper, versus.lower) == (last, from));
    let (Some(before), Some(after), Some(versus)) = (knee(from), knee(last), versus) else {
        return Err(CostError::Unknown(format!("the comparison does not know both knees of {endpoint} yet")));
    };
    let bound = match versus.bound {
        Bound::Exact => "",
        Bound::AtLeast => "; the generator was the bottleneck for the second, so it is a lower bound",
        Bound::AtMost | Bound::Unknown => {
            "; the generator was the bottleneck for the first, so the gain is an upper bound"
        }
    };
    Ok(Rates {
        before: before as u64,
        after: after as u64,
        source: format!(
            "knees of {}{} and {} at {endpoint}, {}{bound}",
            labels[from],
            if baseline.is_none() && last > 1 { ", the strongest there is besides," } else { "" },
            labels[last],
            findings.terms.objective
        ),
        ends: Some(((before * versus.ratio.low) as u64, (before * versus.ratio.high) as u64)),
    })
}

fn the_bill(args: &CostArgs) -> Result<String, CostError> {
    let rates = rates(args)?;
    let base = Assumptions {
        peak: args.peak,
        before_per_core: rates.before,
        after_per_core: rates.after,
        replaced_percent: args.replaced,
        headroom_percent: args.headroom,
        machine_vcpus: args.machine_vcpus,
        spare_machines: args.spare,
        vcpu_hour: args.vcpu_hour,
        hours: args.hours,
    };
    let bill = base.bill()?;
    let mut text = assumptions(&base, &rates.source);
    text.push_str(
        "| | cores before | after | machines before | after | $/year before | after | saved |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (name, assumptions) in variations(&base, &rates) {
        line(&mut text, &name, &assumptions.bill()?);
    }
    if let Some(once) = args.migration {
        let saved = bill.saved_dollars();
        let _ = match saved > 0 {
            true => writeln!(
                text,
                "\nA migration of ${} has paid for itself after {} months.",
                grouped(once as f64),
                (i128::from(once) * 12 + saved - 1) / saved
            ),
            false => writeln!(text, "\nA migration never pays for itself: nothing is saved."),
        };
    }
    Ok(text)
}

/// Every assumption, in words, with its flag.
fn assumptions(base: &Assumptions, source: &str) -> String {
    format!(
        "Assumed, and to be changed by these flags:\n\n\
         - a core does {} requests a second before and {} after ({source}; --comparison, --endpoint, --baseline, or --before, --after)\n\
         - at the busiest time {} requests a second come (--peak)\n\
         - {} % of today's CPU is replaced; the rest stays as it is (--replaced)\n\
         - {} % of each core stays free at the peak (--headroom)\n\
         - a machine has {} vCPUs, and a vCPU does what a core of the measurement did (--machine-vcpus)\n\
         - {} more machine(s) than needed, so that as many may fail at the peak (--spare)\n\
         - a vCPU costs {} an hour, memory and network included (--vcpu-hour), {} hours a year (--hours)\n\n",
        grouped(base.before_per_core as f64),
        grouped(base.after_per_core as f64),
        grouped(base.peak as f64),
        base.replaced_percent,
        base.headroom_percent,
        base.machine_vcpus,
        base.spare_machines,
        base.vcpu_hour,
        grouped(base.hours as f64),
    )
}

/// The assumptions, and each of them changed by itself.
fn variations(base: &Assumptions, rates: &Rates) -> Vec<(String, Assumptions)> {
    let mut all = vec![("**as assumed**".to_owned(), *base)];
    let mut add = |name: String, changed: Assumptions| all.push((name, changed));
    if let Some((low, high)) = rates.ends {
        add("gain at the low end of its interval".to_owned(), Assumptions { after_per_core: low, ..*base });
        add("gain at the high end of its interval".to_owned(), Assumptions { after_per_core: high, ..*base });
    }
    for (name, price) in [("half", base.vcpu_hour.0 / 2), ("twice", base.vcpu_hour.0 * 2)] {
        add(format!("vCPUs at {name} the price"), Assumptions { vcpu_hour: MicroDollars(price), ..*base });
    }
    for (name, peak) in [("a tenth of", base.peak.div_ceil(10)), ("ten times", base.peak.saturating_mul(10))]
    {
        add(format!("{name} the peak"), Assumptions { peak, ..*base });
    }
    for headroom_percent in [30, 70] {
        add(format!("{headroom_percent} % headroom"), Assumptions { headroom_percent, ..*base });
    }
    for replaced_percent in [50, 10] {
        add(format!("{replaced_percent} % of the CPU replaced"), Assumptions { replaced_percent, ..*base });
    }
    all
}

fn line(text: &mut String, name: &str, bill: &Bill) {
    let dollars = |fleet: crate::cost::Fleet| grouped(fleet.yearly.dollars() as f64);
    let saved = bill.saved_dollars();
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {} | {} | {} | {} | {}{} |",
        grouped(bill.before.cores as f64),
        grouped(bill.after.cores as f64),
        grouped(bill.before.machines as f64),
        grouped(bill.after.machines as f64),
        dollars(bill.before),
        dollars(bill.after),
        if saved < 0 { "-" } else { "" },
        grouped(saved as f64),
    );
}

/// The case study's example, and what has to be true for it.
fn the_story(args: &CostArgs) -> String {
    let implied = implied_vcpu_hour(story::DOLLARS_SAVED, story::VCPUS_SAVED, args.hours);
    let here = MicroDollars(args.vcpu_hour.0 * u128::from(story::VCPUS_SAVED) * u128::from(args.hours));
    let [balance, statistics] = story::THROUGHPUT_PERCENT;
    let by_cpu = story::VCPUS_SAVED * 100 / (100 - story::CPU_PERCENT);
    let fleet = |percent| grouped(fleet_before(story::VCPUS_SAVED, percent) as f64);
    format!(
        "The story: {saved} vCPUs were no longer needed, which saved about ${dollars} a year.\n\n\
         {saved} vCPUs × {hours} hours × {implied} = ${dollars}\n\n\
         What that needs:\n\n\
         - A vCPU-hour at {implied}, all included. At {here_price} (--vcpu-hour) the same vCPUs come to ${here_dollars} a \
         year: what is missing has to be memory, network, support, copies in other regions, or a dearer machine.\n\
         - vCPUs that are given back, or used by somebody who would have bought others; idle ones cost what they did.\n\
         - A fleet that was large enough: {by_statistics} vCPUs before, where throughput doubles (statistics); {by_balance} \
         where it grows to {balance_times} times (balance); {by_cpu} where CPU falls to {cpu} % at the same load.\n\
         - All of the fleet's CPU spent in what was replaced. Where that is half, the fleet was twice as large.\n",
        saved = story::VCPUS_SAVED,
        dollars = grouped(story::DOLLARS_SAVED as f64),
        hours = grouped(args.hours as f64),
        here_price = args.vcpu_hour,
        here_dollars = grouped(here.dollars() as f64),
        by_statistics = fleet(statistics),
        by_balance = fleet(balance),
        balance_times = format_args!("{}.{}", balance / 100, balance % 100 / 10),
        by_cpu = grouped(by_cpu as f64),
        cpu = story::CPU_PERCENT,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        cli::args::{Cli, Command},
        compare::findings::{Knee, Versus, tests::findings},
    };

    fn args(flags: &[&str]) -> CostArgs {
        let cli = Cli::parse_from(["florin-bench", "cost"].iter().chain(flags));
        let Command::Cost(args) = cli.command else { panic!("it is the cost command") };
        args
    }

    #[test]
    fn a_comparison_becomes_a_bill() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("compare.json");
        fs::write(&path, findings().to_json()).unwrap();
        let text =
            the_bill(&args(&["--comparison", path.to_str().unwrap(), "--migration", "100000"])).unwrap();
        // Knees of about 10,000 and 20,000 a core; half of that is usable: about 200 cores, then 100.
        assert!(text.contains("knees of old and new at balance"), "{text}");
        let line = text.lines().find(|line| line.contains("as assumed")).unwrap();
        let cells: Vec<u64> =
            line.split('|').filter_map(|cell| cell.trim().replace(',', "").parse().ok()).collect();
        assert!((200..=206).contains(&cells[0]) && (100..=104).contains(&cells[1]), "{line}");
        assert_eq!(cells[4] - cells[5], cells[6], "{line}");
        assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 2 + 11);
        assert!(text.contains("paid for itself after"), "{text}");
    }

    #[test]
    fn each_assumption_is_printed_with_its_flag() {
        let text = the_bill(&args(&["--before", "20000", "--after", "100000"])).unwrap();
        for flag in [
            "--before",
            "--peak",
            "--replaced",
            "--headroom",
            "--machine-vcpus",
            "--spare",
            "--vcpu-hour",
            "--hours",
        ] {
            assert!(text.contains(flag), "{flag}: {text}");
        }
        let error = the_bill(&args(&[])).unwrap_err().to_string();
        assert!(error.contains("--comparison") && error.contains("--story"), "{error}");
    }

    #[test]
    fn the_story_adds_up_and_says_what_it_needs() {
        let text = the_story(&args(&["--story"]));
        for part in
            ["400 vCPUs × 8,760 hours × $0.085616 = $300,000", "$168,192", "800 vCPUs before", "900", "1,176"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_comparison_without_the_endpoint_says_which_it_has() {
        let error = measured(&findings(), "batch:7", None).err().unwrap().to_string();
        assert!(error.contains("balance, statistics"), "{error}");
    }

    #[test]
    fn the_bill_is_made_against_the_strongest_unless_another_is_named() {
        // A gain was once priced against the first server, which nobody had tuned.
        let mut findings = findings();
        findings.terms.labels = vec!["plain".into(), "tuned".into(), "new".into()];
        let section = &mut findings.sections[0];
        let knee = |target, rate| Knee { target, rates: vec![rate; 4], at_least: 0, nothing: 0 };
        section.knees = vec![knee(0, 10_000.0), knee(1, 30_000.0), knee(2, 60_000.0)];
        let versus = section.ratios[0];
        section.ratios =
            [(1, 0), (2, 0), (2, 1)].map(|(upper, lower)| Versus { upper, lower, ..versus }).to_vec();
        let before =
            |baseline| measured(&findings, "balance", baseline).map(|rates| (rates.before, rates.source));
        let (rate, source) = before(None).unwrap();
        assert!(rate == 30_000 && source.contains("tuned, the strongest"), "{rate}: {source}");
        assert_eq!(before(Some("plain")).unwrap().0, 10_000);
        let error = before(Some("new")).unwrap_err().to_string();
        assert!(error.contains("plain, tuned"), "{error}");
    }
}
