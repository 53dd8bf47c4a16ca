//! Measures what the schedule asks for, one thing after the other, and writes each down before the next.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Job, Outcome, Purpose, Record, Terms,
    callers::{Caller, CallerError, Client},
    journal::{Journal, JournalError},
    schedule,
};
use crate::{
    generator::Load,
    generator::Settings,
    limits,
    targets::{Bench, Kind as TargetKind, Target, TargetError, TargetSpec, Via},
    trial::{self, TrialError},
    work::{Arrivals, Kind, Mix},
};

/// A comparison to be run: the terms, and what they are run with.
#[derive(Debug)]
pub struct Comparison {
    /// What is compared.
    pub terms: Terms,
    /// The terms' targets.
    pub specs: Vec<TargetSpec>,
    /// The terms' endpoints.
    pub kinds: Vec<Kind>,
    /// How arrivals are spaced.
    pub arrivals: Arrivals,
    /// What servers are started with.
    pub bench: Bench,
    /// What all trials share; the mix is each section's own.
    pub settings: Settings,
    /// The Go caller, where there is one.
    pub caller: Option<Caller>,
}

/// Why a comparison stands still.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A measurement.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A caller's.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// How a run has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Everything is measured.
    Complete,
    /// Its time was up; there is more to measure.
    OutOfTime,
}

/// Hears of the work as it goes on.
pub trait Watcher {
    /// This is measured now.
    fn begins(&mut self, what: &str);
    /// So many requests a second are served right now.
    fn rate(&mut self, what: &str, rate: f64);
    /// One more is done, of about so many.
    fn done(&mut self, done: u64, of_about: u64);
}

impl Comparison {
    /// Ways in which each target can be asked by a Go caller. Only the first and the last are: those between differ from the
    /// first in nothing that a caller could tell.
    fn clients(&self) -> Vec<Vec<Client>> {
        let clients = |(index, spec): (usize, &TargetSpec)| match (&self.caller, spec.kind, spec.via) {
            _ if index > 0 && index + 1 < self.specs.len() => Vec::new(),
            (Some(_), TargetKind::Florin, Via::Http | Via::Any) => vec![Client::Http, Client::Florin],
            (Some(_), TargetKind::Http, _) => vec![Client::Http],
            _ => Vec::new(),
        };
        self.specs.iter().enumerate().map(clients).collect()
    }

    /// Measures what is not in the journal of `directory` yet, for at most `at_most`.
    pub fn run(
        &self,
        directory: &Path,
        at_most: Option<Duration>,
        watcher: &mut dyn Watcher,
    ) -> Result<(Journal, Ended), RunError> {
        let until = at_most.map(|at_most| Instant::now() + at_most);
        let mut journal = Journal::open(directory, &self.terms)?;
        let (clients, mut stage) = (self.clients(), None);
        let about = schedule::estimate(&self.terms, &clients);
        while let Some(job) = schedule::next(&self.terms, &clients, journal.records()) {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok((journal, Ended::OutOfTime));
            }
            let done = journal.records().len() as u64;
            watcher.done(done, about.max(done + 1));
            let stage = self.stage(&mut stage, job, watcher)?;
            let record = self.measure(&stage.targets[job.target], job, watcher)?;
            journal.add(record)?;
        }
        Ok((journal, Ended::Complete))
    }

    /// The servers for this job. Each stage has fresh processes, and each climb is one: so that none carries the marks of an
    /// overload into the next, and what a process happened to get, its memory's place among them, is drawn anew for each climb.
    fn stage<'a>(
        &self,
        stage: &'a mut Option<Stage>,
        job: Job,
        watcher: &mut dyn Watcher,
    ) -> Result<&'a Stage, TargetError> {
        let name = (job.endpoint, Part::of(job.purpose));
        if stage.as_ref().is_none_or(|stage| stage.name != name) {
            // The old ones end first: they would be in the way of the new ones.
            *stage = None;
            let mut targets = Vec::new();
            for (spec, label) in self.specs.iter().zip(&self.terms.labels) {
                watcher.begins(&format!("starting {label}"));
                let target = Target::start(spec, &self.bench)?;
                target.pause();
                targets.push(target);
            }
            *stage = Some(Stage { name, targets });
        }
        Ok(stage.as_ref().expect("it has just been set up"))
    }

    fn measure(&self, target: &Target, job: Job, watcher: &mut dyn Watcher) -> Result<Record, RunError> {
        target.resume()?;
        let kind = self.kinds[job.endpoint];
        let outcome = match job.purpose {
            Purpose::Caller { load, client, .. } => {
                let caller = self.caller.as_ref().expect("only what can be asked is scheduled");
                let load = self.terms.callers[load];
                watcher.begins(&format!("{kind}: {} by {client}, {load}", target.label));
                Outcome::Caller(caller.run(target, client, kind, load)?)
            }
            Purpose::Climb { rung, .. } => self.load(target, kind, self.terms.ladder.rate(rung), watcher)?,
            Purpose::Seek { rate } | Purpose::Case { rate, .. } => self.load(target, kind, rate, watcher)?,
        };
        target.pause();
        Ok(Record { job, outcome })
    }

    fn load(
        &self,
        target: &Target,
        kind: Kind,
        rate: f64,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, TrialError> {
        let what = format!("{kind}: {} at {rate:.0}/s", target.label);
        watcher.begins(&what);
        let (connections, depth) = (self.terms.connections, self.terms.depth);
        let load = Load::Open { connections, depth, rate, arrivals: self.arrivals };
        let mut settings = self.settings.clone();
        settings.work.mix = Mix::only(kind);
        let mut trial = || {
            trial::measure(target, load, &settings, &mut |rate| watcher.rate(&what, rate))
                .map(|measured| measured.trial)
        };
        let mut found = trial()?;
        for _ in 0..limits::DISTURBED_MAX {
            if !found.is_disturbed() {
                break;
            }
            found = trial()?;
        }
        Ok(Outcome::Trial(Box::new(found)))
    }
}

/// The servers of one part of a comparison.
struct Stage {
    name: (usize, Part),
    targets: Vec<Target>,
}

/// Parts of a comparison that have servers of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Climb(u32),
    Case,
    Callers,
}

impl Part {
    fn of(purpose: Purpose) -> Part {
        match purpose {
            Purpose::Climb { climb, .. } => Part::Climb(climb),
            Purpose::Seek { .. } | Purpose::Case { .. } => Part::Case,
            Purpose::Caller { .. } => Part::Callers,
        }
    }
}
