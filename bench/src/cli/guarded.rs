//! What it costs to keep strangers out: `--tls` and `--token`, each target beside the same in plain.

use std::fmt::Write;

use super::{args::RunArgs, error::CliError, flags::LoadSpec};
use crate::{
    campaign::Campaign,
    limits::{TLS_CPU_MOST, TLS_CPU_MOST_DEEP, TOKEN_CPU_MOST},
    targets::{Given, Kind, TargetSpec, Via},
};

/// Targets, of which some are others with something before them.
pub(super) struct Guarded {
    /// All of them, those that were given first.
    pub(super) targets: Vec<TargetSpec>,
    /// Of two of them: which is which in plain, and what it has beside.
    pairs: Vec<(usize, usize, Guard)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guard {
    Tls,
    Token,
}

impl Guard {
    /// Whether such a target may have it.
    fn is_for(self, spec: &TargetSpec) -> bool {
        self == Guard::Token || (spec.via != Via::Unix && spec.idle == 0)
    }

    /// The same target behind it.
    fn before(self, spec: &TargetSpec) -> TargetSpec {
        let mut guarded = spec.clone();
        let (place, name) = match self {
            Guard::Tls => (&mut guarded.tls, "tls"),
            Guard::Token => (&mut guarded.token, "token"),
        };
        *place = Some(Given::Made);
        guarded.label = spec.label.as_ref().map(|label| format!("{label} {name}"));
        guarded
    }

    /// The most that it may cost, as a multiple of what it takes in plain; none where the design says nothing.
    fn most(self, spec: &TargetSpec, depth: usize) -> Option<f64> {
        match self {
            Guard::Tls if depth == 1 => Some(TLS_CPU_MOST),
            Guard::Tls if depth <= 8 => Some(TLS_CPU_MOST_DEEP),
            // Over HTTP every request shows it.
            Guard::Token if spec.via != Via::Http => Some(TOKEN_CPU_MOST),
            Guard::Tls | Guard::Token => None,
        }
    }
}

impl Guarded {
    /// Beside each florin the same with what was asked for.
    pub(super) fn of(args: &RunArgs) -> Result<Guarded, CliError> {
        let asked = [(args.tls, Guard::Tls), (args.token, Guard::Token)];
        let guards: Vec<Guard> =
            asked.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, guard)| guard).collect();
        Guarded::beside(&args.targets, &guards)
    }

    fn beside(given: &[TargetSpec], guards: &[Guard]) -> Result<Guarded, CliError> {
        let mut guarded = Guarded { targets: given.to_vec(), pairs: Vec::new() };
        let is_plain =
            |spec: &TargetSpec| spec.kind == Kind::Florin && spec.tls.is_none() && spec.token.is_none();
        for (plain, spec) in given.iter().enumerate().filter(|(_, spec)| is_plain(spec)) {
            if !guards.is_empty() && spec.address.is_some() {
                return Err(CliError::Usage(
                    "--tls and --token are of servers that the bench starts: a running one is asked by florin,addr=…,tls=FILE and \
                     token=FILE, beside itself in plain"
                        .to_owned(),
                ));
            }
            for guard in guards.iter().filter(|guard| guard.is_for(spec)) {
                guarded.pairs.push((plain, guarded.targets.len(), *guard));
                guarded.targets.push(guard.before(spec));
            }
        }
        if !guards.is_empty() && guarded.pairs.is_empty() {
            return Err(CliError::Usage(
                "--tls and --token want a florin in plain to be compared with, for --tls over TCP and without idle=: say \
                 --target florin"
                    .to_owned(),
            ));
        }
        Ok(guarded)
    }

    /// What each costs, and what it may.
    pub(super) fn costs(&self, campaign: &Campaign, loads: &[LoadSpec]) -> Option<String> {
        let ratio = |load, guarded, plain| campaign.cpu_ratio(load, guarded, plain);
        self.table(&loads.iter().map(|load| (load.connections, load.depth)).collect::<Vec<_>>(), ratio)
    }

    fn table(
        &self,
        loads: &[(usize, usize)],
        ratio: impl Fn(usize, usize, usize) -> Option<f64>,
    ) -> Option<String> {
        if self.pairs.is_empty() {
            return None;
        }
        let mut text = String::from(
            "\nthe server's CPU a request, as a multiple of the same in plain:\n\n| target | load | × plain | at most |\n\
             | --- | --- | ---: | --- |\n",
        );
        for (load, (connections, depth)) in loads.iter().enumerate() {
            for &(plain, guarded, guard) in &self.pairs {
                let spec = &self.targets[guarded];
                let found = ratio(load, guarded, plain);
                let (shown, most) = (found.map(|ratio| format!("{ratio:.2}")), guard.most(spec, *depth));
                let judged = match (found, most) {
                    (Some(found), Some(most)) if found > most => format!("{most}: missed"),
                    (Some(_), Some(most)) => format!("{most}: reached"),
                    (_, most) => most.map_or("–".to_owned(), |most| most.to_string()),
                };
                let label = spec.label();
                let shown = shown.unwrap_or_else(|| "–".to_owned());
                let _ = writeln!(text, "| {label} | {connections} × {depth} | {shown} | {judged} |");
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Guard; 2] = [Guard::Tls, Guard::Token];

    fn specs(texts: &[&str]) -> Vec<TargetSpec> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_florin_is_asked_with_what_keeps_strangers_out_beside_itself_in_plain() {
        let guarded =
            Guarded::beside(&specs(&["florin", "valkey", "florin,via=unix,label=u"]), &BOTH).unwrap();
        let labels: Vec<String> = guarded.targets.iter().map(TargetSpec::label).collect();
        let expected = ["florin rkyv", "valkey", "u", "florin rkyv tls", "florin rkyv token", "u token"]
            .map(str::to_owned);
        assert_eq!(labels, expected);
        assert_eq!(Guarded::beside(&specs(&["florin", "limit"]), &[]).unwrap().targets.len(), 2);
        for wrong in [&["valkey"][..], &["florin,via=unix"], &["florin,tls=on"], &["florin,addr=127.0.0.1:1"]]
        {
            assert!(Guarded::beside(&specs(wrong), &[Guard::Tls]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_cost_stands_beside_what_it_may_be() {
        let guarded = Guarded::beside(&specs(&["florin", "florin,via=http"]), &BOTH).unwrap();
        let found = |load: usize, guarded: usize, _| {
            Some([1.19, 1.31, 1.4][load] - if guarded == 3 { 0.19 } else { 0.0 })
        };
        let text = guarded.table(&[(64, 1), (256, 8), (64, 32)], found).unwrap();
        for line in [
            "| florin rkyv tls | 64 × 1 | 1.19 | 1.2: reached |",
            "| florin rkyv token | 64 × 1 | 1.00 | 1.02: reached |",
            "| florin rkyv tls | 256 × 8 | 1.31 | 1.3: missed |",
            "| florin rkyv tls | 64 × 32 | 1.40 | – |",
            "| florin http token | 64 × 1 | 1.19 | – |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let none = Guarded::beside(&specs(&["florin"]), &[]).unwrap();
        assert_eq!(none.table(&[(1, 1)], |_, _, _| None), None);
    }
}
