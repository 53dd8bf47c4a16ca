//! One target under one load, once: the unit of everything that is reported.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use florin_schema::{MapNode, Status, nodes::node_authority};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    generator::{self, Endpoints, GeneratorError, Load, Moment, Outcome, Plan, Settings, Span},
    limits,
    sample::{self, Everyone, Host, Sample, ServerUse, Stranger},
    targets::{Target, hello::HelloError},
};

pub use crate::generator::Health;

/// Quantiles of the percentile curve: ever closer to 1, as tails matter.
const CURVE: [f64; 17] =
    [0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];

/// What came out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The target's label.
    pub target: String,
    /// The server's command, empty where it ran already.
    pub command: String,
    /// The load, in words.
    pub load: String,
    /// Connections of the generator.
    pub connections: usize,
    /// Questions in flight on each, at most.
    pub depth: usize,
    /// Arrivals a second, in an open loop.
    pub offered_rate: Option<f64>,
    /// The mix, in words.
    pub mix: String,
    /// The shape of keys, in words.
    pub keys: String,
    /// Of the generator.
    pub seed: u64,
    /// Of the measured window.
    pub seconds: f64,
    /// Questions served in it.
    pub served: u64,
    /// The same a second.
    pub rate: f64,
    /// Of those served.
    pub latency: Latency,
    /// Refused for now, by status.
    pub shed: BTreeMap<String, u64>,
    /// Due, but not sent by the generator.
    pub unsent: u64,
    /// Sent, and not answered.
    pub lost: u64,
    /// The server's cost; none where its process is not known.
    pub server: Option<ServerUse>,
    /// How the generator was.
    pub generator: GeneratorUse,
    /// CPUs that neither the server nor the generator kept busy, of those that they were pinned to: somebody else's. None
    /// where the bench has not pinned both.
    #[serde(default)]
    pub foreign_cpu: Option<f64>,
    /// Other processes of this host that took much CPU meanwhile, on whichever CPUs; the busiest first.
    #[serde(default)]
    pub strangers: Vec<Stranger>,
    /// Each second of the window.
    pub series: Vec<Second>,
    /// User-side instructions, where the server ran under callgrind.
    pub instructions: Option<crate::callgrind::Instructions>,
    /// Where nodes divide the users, what each has served.
    #[serde(default)]
    pub nodes: Vec<NodeShare>,
}

/// One of several nodes that divide the users.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeShare {
    /// Its address, as the map has it.
    pub node: String,
    /// Questions that it has served in the window.
    pub served: u64,
}

/// What each node has served; nothing where there is but one.
fn shares(endpoints: &Endpoints, outcome: &Outcome) -> Vec<NodeShare> {
    let Endpoints::ByOwner(owners, _) = endpoints else { return Vec::new() };
    let share = |(place, served): (usize, u64)| {
        let MapNode { host, port, tls_port, .. } = &owners.nodes()[place];
        NodeShare { node: node_authority(host, *port, *tls_port), served }
    };
    owners.by_node(&outcome.by_lane).into_iter().map(share).collect()
}

impl Trial {
    /// Of everything that was due, the share that was not served.
    pub fn error_share(&self) -> f64 {
        let errors = self.shed.values().sum::<u64>() + self.unsent + self.lost;
        let due = errors + self.latency.count;
        if due == 0 { 0.0 } else { errors as f64 / due as f64 }
    }

    /// What each node has served, as a sentence, and how many questions came to one whose user had moved; none where there is but one node.
    pub fn divided(&self) -> Option<String> {
        let all = self.nodes.iter().map(|share| share.served).sum::<u64>().max(1) as f64;
        let share =
            |NodeShare { node, served }: &NodeShare| format!("{node} {:.1} %", *served as f64 / all * 100.0);
        let shares: Vec<String> = self.nodes.iter().map(share).collect();
        let moved = self.shed.get(Status::NotOwner.name()).copied().unwrap_or_default();
        (!shares.is_empty()).then(|| {
            let (target, load, shares) = (&self.target, &self.load, shares.join(", "));
            format!("{target}, {load}: served by {shares}; {moved} came to a node whose user had moved")
        })
    }

    /// Whether somebody else was so busy on the same CPUs that this says more about them.
    pub fn is_disturbed(&self) -> bool {
        self.foreign_cpu.is_some_and(|foreign| foreign > limits::FOREIGN_CPU_MAX)
    }

    /// Who else was busy meanwhile, as a sentence; none where nobody disturbed the measurement as far as is known.
    pub fn disturbance(&self) -> Option<String> {
        let named: Vec<String> = self
            .strangers
            .iter()
            .map(|Stranger { name, pid, cpu_share }| {
                format!("{name} (process {pid}) {:.0} %", cpu_share * 100.0)
            })
            .collect();
        let busiest = if named.is_empty() {
            String::new()
        } else {
            format!("; busiest on this host: {}", named.join(", "))
        };
        let found = match self.foreign_cpu {
            Some(foreign) if self.is_disturbed() => format!(
                "others took {:.0} % of a CPU from the CPUs that the server and the generator are pinned to{busiest}",
                foreign * 100.0
            ),
            // Whether they ran on the same CPUs is not known.
            None if !named.is_empty() => {
                format!(
                    "server and generator are not both pinned, and others were busy, perhaps beside them{busiest}"
                )
            }
            _ => return None,
        };
        Some(format!("{}, {}: {found}", self.target, self.load))
    }
}

/// Latencies in ns; in a closed loop from writing the question, in an open one from when it was due.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Answers counted.
    pub count: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Quantile and latency.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency {
            count: histogram.len(),
            mean_ns: histogram.mean(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: histogram.max(),
            curve: CURVE.iter().map(|&quantile| (quantile, at(quantile))).collect(),
        }
    }
}

/// One second of the window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Second {
    /// Answers.
    pub served: u64,
    /// Their median, ns.
    pub p50_ns: u64,
    /// Their 99th percentile, ns.
    pub p99_ns: u64,
}

/// How the generator was.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GeneratorUse {
    /// CPUs of its threads, as pinned; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Of the window, the share in which its busiest thread worked or waited for a CPU.
    pub busy_share: f64,
    /// Open loop: 99th percentile of how late it looked at arrivals, ns.
    pub lag_p99_ns: Option<u64>,
    /// Open loop: the most arrivals that waited for a free connection.
    pub backlog_max: usize,
    /// Whether it was the bottleneck itself: `fine`, or how it shows.
    pub verdict: Health,
}

/// Why there is no trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The load could not be made, or an answer was wrong.
    #[error("{target}, {load}: {source}")]
    Generator {
        /// Of whom.
        target: String,
        /// Under what.
        load: String,
        /// Why.
        source: GeneratorError,
    },
    /// The generator's threads slept through the window.
    #[error("{target}, {load}: the generator asked nothing: it got no CPU; is something else running on it?")]
    Starved {
        /// Of whom.
        target: String,
        /// Under what.
        load: String,
    },
    /// Nodes that divide the users do not say who has whom.
    #[error("{target}: {source}")]
    Nodes {
        /// Of whom.
        target: String,
        /// Why.
        source: HelloError,
    },
    /// The server's process.
    #[error("{target}: cannot sample its process, did it end? ({source})")]
    Sample {
        /// Of whom.
        target: String,
        /// Why.
        source: io::Error,
    },
}

/// A trial and its histograms.
#[derive(Debug)]
pub struct Measured {
    /// The numbers.
    pub trial: Trial,
    /// Latencies by second, ns.
    pub intervals: Vec<Histogram<u64>>,
}

/// Loads `target` once; `progress` is told the rate about twice a second.
pub fn measure(
    target: &Target,
    load: Load,
    settings: &Settings,
    progress: &mut dyn FnMut(f64),
) -> Result<Measured, TrialError> {
    let truth = settings.truth.clone().filter(|_| target.serves_ledger);
    let endpoints = target
        .endpoints_now()
        .map_err(|source| TrialError::Nodes { target: target.label.clone(), source })?;
    let plan = Plan {
        endpoints,
        access: target.access.clone(),
        speech: target.speech,
        load,
        settings: Settings { truth, ..settings.clone() },
    };
    let mut observer = Observer::new(target, settings);
    let outcome = generator::run(&plan, &mut |moment, served| {
        if let Some(rate) = observer.see(moment, served) {
            progress(rate);
        }
    })
    .map_err(|source| TrialError::Generator {
        target: target.label.clone(),
        load: load.to_string(),
        source,
    })?;
    if outcome.asked == 0 {
        return Err(TrialError::Starved { target: target.label.clone(), load: load.to_string() });
    }
    let window = observer.finish(target, settings.span, &outcome)?;
    let nodes = shares(&plan.endpoints, &outcome);
    let measured = assemble(target, load, settings, outcome, window);
    Ok(Measured { trial: Trial { nodes, ..measured.trial }, ..measured })
}

/// Looks at the server, the host and the clock as the window begins and ends.
struct Observer {
    pid: Option<rustix::process::Pid>,
    /// The server's and the generator's.
    cpus: Vec<usize>,
    begun: Option<Look>,
    ended: Option<Look>,
    last: (Instant, u64),
}

struct Look {
    at: Instant,
    served: u64,
    server: Option<io::Result<Sample>>,
    own: io::Result<Sample>,
    host: io::Result<Host>,
    everyone: io::Result<Everyone>,
}

struct WindowUse {
    served: u64,
    duration: Duration,
    server: Option<ServerUse>,
    foreign_cpu: Option<f64>,
    strangers: Vec<Stranger>,
}

impl Observer {
    fn new(target: &Target, settings: &Settings) -> Observer {
        let is_pinned = !target.cpus.is_empty() && !settings.cpus.is_empty();
        let mut cpus = if is_pinned { [&target.cpus[..], &settings.cpus].concat() } else { Vec::new() };
        cpus.sort_unstable();
        cpus.dedup();
        Observer { pid: target.pid, cpus, begun: None, ended: None, last: (Instant::now(), 0) }
    }

    fn look(&self, at: Instant, served: u64) -> Look {
        let own = Sample::take(rustix::process::getpid());
        let (server, host) = (self.pid.map(Sample::take), Host::take(&self.cpus));
        Look { at, served, server, own, host, everyone: Everyone::take() }
    }

    /// Returns the rate since the last look, while the window lasts.
    fn see(&mut self, moment: Moment, served: u64) -> Option<f64> {
        let now = Instant::now();
        let (then, before) = std::mem::replace(&mut self.last, (now, served));
        match moment {
            Moment::Begin => {
                self.begun = Some(self.look(now, served));
                return None;
            }
            Moment::Tick => {}
            Moment::End => self.ended = Some(self.look(now, served)),
        }
        Some((served - before) as f64 / now.duration_since(then).as_secs_f64().max(1e-9))
    }

    fn finish(self, target: &Target, span: Span, outcome: &Outcome) -> Result<WindowUse, TrialError> {
        let begun = self.begun.expect("a run that ends has begun");
        let ended = self.ended.expect("a run that returns has ended");
        // A run of so many questions is over when all are answered, a little after the last look.
        let served = match span {
            Span::Time { .. } => ended.served - begun.served,
            Span::Requests { .. } => outcome.served,
        };
        let sampled = |source| TrialError::Sample { target: target.label.clone(), source };
        let server = match (begun.server, ended.server) {
            (Some(first), Some(last)) => {
                let used = last.map_err(sampled)?.since(&first.map_err(sampled)?, served);
                Some(ServerUse { huge_bytes: self.pid.map_or(0, sample::huge_bytes), ..used })
            }
            _ => None,
        };
        let own = ended.own.map_err(sampled)?.since(&begun.own.map_err(sampled)?, served);
        let host = ended.host.map_err(sampled)?.since(&begun.host.map_err(sampled)?);
        let is_ours = !self.cpus.is_empty();
        let foreign = |server: ServerUse| (host - server.cpu_share - own.cpu_share).max(0.0);
        let foreign_cpu = server.filter(|_| is_ours).map(foreign);
        let ours: Vec<_> = self.pid.into_iter().chain([rustix::process::getpid()]).collect();
        let strangers = ended.everyone.map_err(sampled)?.busiest_since(
            &begun.everyone.map_err(sampled)?,
            &ours,
            limits::FOREIGN_CPU_MAX,
            limits::STRANGERS_NAMED_MAX,
        );
        let duration = ended.at.duration_since(begun.at);
        Ok(WindowUse { served, duration, server, foreign_cpu, strangers })
    }
}

fn assemble(
    target: &Target,
    load: Load,
    settings: &Settings,
    outcome: Outcome,
    window: WindowUse,
) -> Measured {
    let seconds = window.duration.as_secs_f64().max(1e-9);
    let series = outcome.intervals.iter().map(|interval| Second {
        served: interval.len(),
        p50_ns: interval.value_at_quantile(0.5),
        p99_ns: interval.value_at_quantile(0.99),
    });
    let trial = Trial {
        target: target.label.clone(),
        command: target.command.clone(),
        load: load.to_string(),
        connections: load.connections(),
        depth: load.depth(),
        offered_rate: match load {
            Load::Closed { .. } => None,
            Load::Open { rate, .. } => Some(rate),
        },
        mix: settings.work.mix.to_string(),
        keys: settings.work.keys.to_string(),
        seed: settings.work.seed,
        seconds,
        served: window.served,
        rate: window.served as f64 / seconds,
        latency: Latency::of(&outcome.latencies()),
        shed: outcome.shed.iter().map(|(status, &count)| (status.name().to_owned(), count)).collect(),
        unsent: outcome.unsent,
        lost: outcome.lost,
        server: window.server,
        generator: GeneratorUse {
            cpus: settings.cpus.clone(),
            busy_share: outcome.effort.busy_share,
            lag_p99_ns: outcome.effort.lag_p99_ns,
            backlog_max: outcome.backlog_max,
            verdict: outcome.effort.health(),
        },
        foreign_cpu: window.foreign_cpu,
        strangers: window.strangers,
        series: series.collect(),
        instructions: None,
        nodes: Vec::new(),
    };
    Measured { trial, intervals: outcome.intervals }
}
