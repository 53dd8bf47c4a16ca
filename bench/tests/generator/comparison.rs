//! A whole comparison between two small servers: interrupted, gone on with, and reported.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use florin_bench::climb::Ladder;
use florin_bench::compare::{
    Job, Purpose, Terms,
    callers::{Caller, CallerLoad, Client},
    case,
    findings::Findings,
    journal::{self, Journal, JournalError},
    run::{Comparison, Ended, RunError, Watcher},
    schedule,
};
use florin_bench::environment::Environment;
use florin_bench::generator::Settings;
use florin_bench::generator::{Endpoint, Span, Waiting};
use florin_bench::ramp::Objective;
use florin_bench::targets::{Bench, TargetSpec, Tool};
use florin_bench::work::{Arrivals, KeyShape, Kind, Mix, Population, Work};

use crate::server::{Fault, Server};

/// A caller that says what a real one would, whatever it is told.
const CALLER: &str = r#"#!/bin/sh
echo '{"event":"begin"}'
echo '{"event":"end"}'
echo '{"event":"result","seconds":1,"served":500,"errors":0,"last_error":"","user_seconds":0.01,"system_seconds":0.02,"p50_ns":1,"p90_ns":2,"p99_ns":3,"p999_ns":4,"max_ns":5}'
"#;

/// Hears of everything and keeps count.
#[derive(Default)]
struct Count {
    begun: usize,
}

impl Watcher for Count {
    fn begins(&mut self, what: &str) {
        self.begun += usize::from(!what.starts_with("starting"));
    }

    fn rate(&mut self, _: &str, _: f64) {}

    fn done(&mut self, done: u64, of_about: u64) {
        assert!(done < of_about);
    }
}

/// The bench's own process stands for both servers', so that there is a CPU to look at. Whatever they do is good enough:
/// how far a climb comes must not depend on the host.
fn plan(servers: &[Server; 2], caller: &Path) -> Comparison {
    let target = |server: &Server| {
        let Endpoint::Tcp(address) = server.endpoint() else { panic!("it listens on TCP") };
        format!("http,addr={address},pid={}", std::process::id())
    };
    let targets: Vec<String> = servers.iter().map(target).collect();
    let specs: Vec<TargetSpec> = targets.iter().map(|text| text.parse().unwrap()).collect();
    let population = Population::first(50).unwrap();
    let terms = Terms {
        labels: vec!["one".into(), "two".into()],
        targets,
        programs: Vec::new(),
        // The small servers know no other question.
        endpoints: vec!["balance".into(), "balance again".into()],
        objective: Objective { p99_max_ns: u64::MAX, error_share_max: 1.0 },
        ladder: Ladder { from: 1_000.0, rung_percent: 10.0, to: 3_500.0 },
        climbs: 2,
        rounds: 2,
        case_cpu: 0.78,
        connections: 4,
        depth: 1,
        callers: vec![CallerLoad { goroutines: 2, rate: 100 }],
        warmup_seconds: 0.0,
        seconds: 0.05,
        keys: "uniform".into(),
        seed: 1,
        arrivals: "uniform".into(),
        users: 50,
        ledger: String::new(),
        server_cpus: Vec::new(),
        generator_cpus: Vec::new(),
    };
    Comparison {
        caller: Some(Caller::new(caller.to_owned(), &population, &terms).unwrap()),
        terms,
        specs,
        kinds: vec![Kind::Balance, Kind::Balance],
        arrivals: Arrivals::Uniform,
        bench: Bench {
            postgres: None,
            florin: "florin".into(),
            server_cpus: Vec::new(),
            ledger: None,
            population: population.clone(),
            value_bytes: 0,
            tool: Tool::None,
        },
        settings: Settings {
            work: Work { mix: Mix::only(Kind::Balance), keys: KeyShape::Uniform, seed: 1 },
            population,
            span: Span::Time { warmup: Duration::ZERO, measure: Duration::from_millis(50) },
            cpus: Vec::new(),
            waiting: Waiting::Parked,
            keys_drawn: 1_024,
            truth: None,
        },
    }
}

fn executable(directory: &Path, script: &str) -> std::path::PathBuf {
    let path = directory.join("caller");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_was_interrupted_is_gone_on_with_and_nothing_is_measured_twice() {
    let directory = tempfile::tempdir().unwrap();
    let servers = [Server::start(Fault::None), Server::start(Fault::None)];
    let plan = plan(&servers, &executable(directory.path(), CALLER));
    let out = directory.path().join("out");

    let mut watcher = Count::default();
    let (journal, ended) = plan.run(&out, Some(Duration::ZERO), &mut watcher).unwrap();
    assert_eq!((journal.records().len(), ended, watcher.begun), (0, Ended::OutOfTime, 0));
    drop(journal);

    let (journal, ended) = plan.run(&out, None, &mut watcher).unwrap();
    assert_eq!(ended, Ended::Complete);
    let all = journal.records().to_vec();
    assert_eq!(watcher.begun, all.len());
    drop(journal);

    // As if it had been stopped in the middle of writing a line.
    let path = out.join(journal::NAME);
    let text = fs::read_to_string(&path).unwrap();
    let half: usize = text.split_inclusive('\n').take(1 + all.len() / 2).map(str::len).sum();
    fs::write(&path, &text[..half + 40]).unwrap();
    let mut watcher = Count::default();
    let (journal, ended) = plan.run(&out, None, &mut watcher).unwrap();
    assert_eq!(ended, Ended::Complete);
    assert_eq!(journal.records()[..all.len() / 2], all[..all.len() / 2]);
    assert_eq!(watcher.begun, journal.records().len() - all.len() / 2, "only what was missing is measured");
    check(&plan, &journal, &out);
}

/// What such servers must come to.
fn check(plan: &Comparison, journal: &Journal, out: &Path) {
    let findings = Findings::of(&plan.terms, journal.records(), Environment::look(), true);
    for section in &findings.sections {
        // Nothing breaks, so every climb ends at the top of the ladder.
        for knee in &section.knees {
            assert_eq!((&knee.rates[..], knee.at_least), (&[3_500.0, 3_500.0][..], 2));
        }
        let callers = &section.callers[0].rows;
        assert!(callers.iter().all(|row| row.client == Client::Http && row.caller_us == 60.0));
        assert_eq!(callers.len(), 2);
        assert_eq!(section.ratios.len(), 1);
    }
    for endpoint in 0..2 {
        let of_case = |job: &Job| job.endpoint == endpoint && matches!(job.purpose, Purpose::Case { .. });
        let measured = journal.records().iter().filter(|record| of_case(&record.job)).count();
        // A host that is so busy that this process got no CPU in one of the windows leaves nothing to search by.
        let is_found =
            matches!(schedule::case_rate(&plan.terms, journal.records(), endpoint), case::Next::Found(_));
        assert_eq!(measured, if is_found { 2 * 2 } else { 0 });
    }
    findings.write(out).unwrap();
    let read: Findings =
        serde_json::from_str(&fs::read_to_string(out.join("compare.json")).unwrap()).unwrap();
    assert_eq!(read, findings);
    for name in ["compare.html", "compare.md"] {
        assert!(fs::read_to_string(out.join(name)).unwrap().contains("balance again"), "{name}");
    }
}

#[test]
fn other_settings_are_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let servers = [Server::start(Fault::None), Server::start(Fault::None)];
    let mut plan = plan(&servers, &executable(directory.path(), CALLER));
    plan.run(directory.path(), Some(Duration::ZERO), &mut Count::default()).unwrap();
    plan.terms.seed = 2;
    let error = plan.run(directory.path(), None, &mut Count::default()).unwrap_err();
    assert!(matches!(error, RunError::Journal(JournalError::OtherTerms { .. })), "{error}");
    assert!(error.to_string().contains("seed was 1, now 2"), "{error}");
}

#[test]
fn a_caller_that_fails_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let servers = [Server::start(Fault::None), Server::start(Fault::None)];
    let failing = executable(directory.path(), "#!/bin/sh\necho 'caller: no such user' >&2\nexit 1\n");
    let mut plan = plan(&servers, &failing);
    plan.terms.endpoints.truncate(1);
    let error = plan.run(directory.path(), None, &mut Count::default()).unwrap_err().to_string();
    assert!(error.contains("net/http") && error.contains("no such user"), "{error}");
    // What was measured before it is kept.
    let (kept, _) = plan.run(directory.path(), Some(Duration::ZERO), &mut Count::default()).unwrap();
    let climbs =
        |side| kept.records().iter().any(|record| record.job.target == side && record.trial().is_some());
    assert!(climbs(0) && climbs(1), "{:?}", kept.records());
}
