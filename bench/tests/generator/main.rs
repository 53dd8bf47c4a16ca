//! The generator against small servers that behave or do not: every misbehaviour is caught, and time is counted from when
//! a question was due.

mod comparison;
mod divided;
mod node;
mod server;

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use florin_bench::generator::{
    self, Access, Endpoint, Endpoints, GeneratorError, Load, Moment, Outcome, Plan, Settings, Span, Speech,
    Waiting,
};
use florin_bench::protocol::{
    Wrong,
    resp::{Ask, Values},
};
use florin_bench::truth::Truth;
use florin_bench::work::{Arrivals, KeyShape, Kind, Mix, Population, Work};
use florin_schema::Encoding;

use server::{Fault, Server};

const NATIVE: Speech = Speech::Native(Encoding::Rkyv);
/// Long enough for the slowest machine; a run ends earlier, after its requests.
const AT_MOST: Duration = Duration::from_secs(60);

fn plan(endpoints: Endpoints, speech: Speech, load: Load, span: Span) -> Plan {
    let settings = Settings {
        work: Work { mix: Mix::only(Kind::Balance), keys: KeyShape::Uniform, seed: 1 },
        population: Population::first(1_000).unwrap(),
        span,
        cpus: Vec::new(),
        waiting: Waiting::Parked,
        keys_drawn: 4_096,
        truth: None,
    };
    Plan { endpoints, access: Access::default(), speech, load, settings }
}

fn closed(server: &Server, speech: Speech, requests: u64) -> Plan {
    let load = Load::Closed { connections: 4, depth: 8 };
    let span = Span::Requests { count: requests, at_most: AT_MOST };
    plan(Endpoints::Any(server.endpoint()), speech, load, span)
}

fn run(plan: &Plan) -> Result<Outcome, GeneratorError> {
    generator::run(plan, &mut |_, _| {})
}

#[test]
fn every_question_is_answered_once() {
    for speech in [NATIVE, Speech::Http] {
        let server = Server::start(Fault::None);
        let outcome = run(&closed(&server, speech, 5_000)).unwrap();
        assert_eq!((outcome.asked, outcome.served, outcome.lost), (5_000, 5_000, 0), "{speech:?}");
        assert_eq!(outcome.latencies().len(), 5_000);
        assert_eq!(server.answered(), 5_000);
    }
}

/// The processes that the threads of `pid` have started and that live.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_bench_that_is_killed_takes_its_server_along() {
    // The server of a bench that was killed went on running, and took its CPU from whatever was measured next.
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let until = Instant::now() + AT_MOST;
        while !is_so() {
            assert!(Instant::now() < until, "{what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    let mut bench = Command::new(env!("CARGO_BIN_EXE_florin-bench"))
        .args(["limit", "--load", "1x1", "--duration", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = bench.id();
    wait("a server is started", &|| !children(pid).is_empty());
    let server = children(pid)[0];
    let command = || fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap_or_default();
    wait("the server's own program runs", &|| {
        command().contains("serve-fixed") && !command().contains("pdeathsig")
    });
    bench.kill().unwrap();
    bench.wait().unwrap();
    // A zombie that nobody reaps has no command line either.
    wait("the server ends", &|| command().is_empty());
}

#[test]
fn a_reader_who_has_gone_loses_no_results() {
    // `florin-bench run --out DIR | head` panicked at its first line, before it had written anything into DIR.
    let (server, out) = (Server::start(Fault::None), tempfile::tempdir().unwrap());
    let Endpoint::Tcp(address) = server.endpoint() else { panic!("it listens on TCP") };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Command::new(env!("CARGO_BIN_EXE_florin-bench"))
        .args(["run", "--target", &format!("http,addr={address}"), "--load", "2x1"])
        .args(["--users", "50", "--warmup", "0", "--duration", "0.1", "--out"])
        .arg(out.path())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .status()
        .unwrap();
    assert!(ended.success(), "{ended}");
    assert!(fs::read_to_string(out.path().join("report.json")).unwrap().contains("\"summaries\""));
}

#[test]
fn a_window_of_time_is_measured_and_its_ends_are_told() {
    let server = Server::start(Fault::None);
    let span = Span::Time { warmup: Duration::from_millis(50), measure: Duration::from_millis(200) };
    let mut moments = Vec::new();
    let mut plan = closed(&server, NATIVE, 0);
    plan.settings.span = span;
    let outcome = generator::run(&plan, &mut |moment, served| moments.push((moment, served))).unwrap();
    let (first, last) = (moments[0], *moments.last().unwrap());
    assert_eq!((first.0, last.0), (Moment::Begin, Moment::End));
    assert!(first.1 < last.1 && last.1 <= outcome.served, "{moments:?}");
    assert!(outcome.latencies().len() < outcome.served, "the warm-up does not count");
    assert_eq!(outcome.lost, 0);
}

#[test]
fn a_wrong_id_is_caught() {
    let outcome = run(&closed(&Server::start(Fault::OtherId), NATIVE, 5_000));
    assert!(matches!(outcome, Err(GeneratorError::Wrong(Wrong::Id { .. }))), "{outcome:?}");
}

#[test]
fn an_answer_given_twice_is_caught() {
    let outcome = run(&closed(&Server::start(Fault::Twice), NATIVE, 5_000));
    assert!(matches!(outcome, Err(GeneratorError::Wrong(Wrong::Id { .. }))), "{outcome:?}");
    // Over HTTP the second one is taken for the next question's, which was about somebody else.
    let outcome = run(&closed(&Server::start(Fault::Twice), Speech::Http, 5_000));
    let caught = matches!(outcome, Err(GeneratorError::Wrong(Wrong::User { .. } | Wrong::Unasked { .. })));
    assert!(caught, "{outcome:?}");
}

#[test]
fn another_users_answer_is_caught() {
    for speech in [NATIVE, Speech::Http] {
        let outcome = run(&closed(&Server::start(Fault::OtherUser), speech, 5_000));
        assert!(matches!(outcome, Err(GeneratorError::Wrong(Wrong::User { .. }))), "{speech:?}: {outcome:?}");
    }
}

#[test]
fn an_impossible_version_is_caught() {
    for speech in [NATIVE, Speech::Http] {
        let outcome = run(&closed(&Server::start(Fault::VersionZero), speech, 5_000));
        assert!(
            matches!(outcome, Err(GeneratorError::Wrong(Wrong::Implausible { .. }))),
            "{speech:?}: {outcome:?}"
        );
    }
}

/// What answers say is compared with the ledger by the turn: that it is, whatever was asked and answered, shows at the end of a run.
#[test]
fn a_value_that_the_ledger_does_not_have_is_caught() {
    let truth = |amount: i64| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let ledger = rusqlite::Connection::open(&path).unwrap();
        ledger.execute_batch(florin_schema::LEDGER_SQL).unwrap();
        // The server's accounts are all at version 7.
        for (version, kind, amount) in (1..=7).map(|v| if v == 1 { (v, 1, amount + 6) } else { (v, 5, 1) }) {
            let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                       VALUES (?1, 500, ?2, 'A', ?3, ?4, 0)";
            let id = format!("00000000-0000-4000-8000-{version:012}");
            ledger.execute(sql, (id, version, kind, amount)).unwrap();
        }
        drop(ledger);
        Some(Arc::new(Truth::read(&path).unwrap()))
    };
    for speech in [NATIVE, Speech::Http] {
        let server = Server::start(Fault::None);
        let mut plan = closed(&server, speech, 20_000);
        plan.settings.truth = truth(5);
        assert_eq!(run(&plan).unwrap().served, 20_000, "{speech:?}");
        plan.settings.truth = truth(6);
        match run(&plan) {
            Err(GeneratorError::Wrong(Wrong::Implausible { user, .. })) => assert_eq!(user.get(), 500),
            other => panic!("{speech:?}: {other:?}"),
        }
    }
}

#[test]
fn a_short_answer_is_caught() {
    for speech in [NATIVE, Speech::Http] {
        let outcome = run(&closed(&Server::start(Fault::CutAndClose), speech, 5_000));
        match outcome {
            Err(GeneratorError::Wrong(Wrong::Closed { waiting, partial_bytes, .. })) => {
                assert!(waiting > 0 && partial_bytes > 0, "{speech:?}: {waiting}, {partial_bytes}");
            }
            other => panic!("{speech:?}: {other:?}"),
        }
    }
}

#[test]
fn answers_in_pieces_are_put_together() {
    for speech in [NATIVE, Speech::Http] {
        let outcome = run(&closed(&Server::start(Fault::BytePieces), speech, 300)).unwrap();
        assert_eq!((outcome.served, outcome.lost), (300, 0), "{speech:?}");
    }
}

#[test]
fn a_refusal_for_now_is_counted_and_a_defect_ends_the_run() {
    let shed = run(&closed(&Server::start(Fault::Overloaded), NATIVE, 1_000)).unwrap();
    assert_eq!(shed.shed.values().sum::<u64>(), 1);
    assert_eq!(shed.served, 999);
    let outcome = run(&closed(&Server::start(Fault::NotFound), NATIVE, 1_000));
    assert!(matches!(outcome, Err(GeneratorError::Wrong(Wrong::Status { .. }))), "{outcome:?}");
}

#[test]
fn a_stall_shows_in_all_questions_that_were_due_meanwhile() {
    let server = Server::start(Fault::Stall(Duration::from_millis(100)));
    // 1,000 questions are due in the window, 200 of them during the stall: a fifth, so the 99th percentile is deep in it.
    let load = Load::Open { connections: 1, depth: 64, rate: 2_000.0, arrivals: Arrivals::Uniform };
    let span = Span::Time { warmup: Duration::ZERO, measure: Duration::from_millis(500) };
    let outcome = run(&plan(Endpoints::Any(server.endpoint()), NATIVE, load, span)).unwrap();
    let latencies = outcome.latencies();
    // The thousandth is due as the window ends.
    assert!((999..=1_000).contains(&(latencies.len() + outcome.unsent)), "{}", latencies.len());
    assert!(latencies.value_at_quantile(0.99) > 80_000_000, "{}", latencies.value_at_quantile(0.99));
    // Of the 200 due in the stall at most 64 were on their way: the others waited here, and their time counts too.
    let stalled = latencies.iter_recorded().filter(|value| value.value_iterated_to() > 20_000_000);
    assert!(stalled.map(|value| value.count_at_value()).sum::<u64>() > 140);
    assert!(outcome.backlog_max > 60, "{}", outcome.backlog_max);
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let server = Server::start(Fault::Silence);
    let load = Load::Open { connections: 2, depth: 3, rate: 1_000.0, arrivals: Arrivals::Uniform };
    let span = Span::Time { warmup: Duration::ZERO, measure: Duration::from_millis(200) };
    let outcome = run(&plan(Endpoints::Any(server.endpoint()), NATIVE, load, span)).unwrap();
    assert_eq!((outcome.served, outcome.lost, outcome.asked), (0, 6, 6));
    // 200 were due, the last of them as the window ends.
    assert!((193..=194).contains(&outcome.unsent), "{}", outcome.unsent);
}

#[test]
fn each_shard_is_asked_only_about_its_own_users() {
    let servers: Vec<Server> = (0..2).map(|shard| Server::start_shard(shard, 2)).collect();
    let endpoints = Endpoints::ByShard(servers.iter().map(Server::endpoint).collect());
    for load in [
        Load::Closed { connections: 4, depth: 4 },
        Load::Open { connections: 4, depth: 64, rate: 20_000.0, arrivals: Arrivals::Poisson },
    ] {
        let span = Span::Requests { count: 2_000, at_most: AT_MOST };
        let outcome = run(&plan(endpoints.clone(), NATIVE, load, span)).unwrap();
        assert_eq!(outcome.served, 2_000, "{load}");
    }
    assert!(servers.iter().all(|server| server.answered() > 1_000), "both were asked");
}

#[test]
fn several_threads_share_a_load() {
    let server = Server::start(Fault::None);
    let cpu = rustix::thread::sched_getcpu();
    let mut plan = closed(&server, NATIVE, 4_000);
    plan.settings.cpus = vec![cpu, cpu];
    let outcome = run(&plan).unwrap();
    assert_eq!(outcome.served, 4_000);
}

#[test]
fn nobody_there_is_a_sentence() {
    let server = Server::start(Fault::None);
    let plan = Plan {
        endpoints: Endpoints::Any(Endpoint::Unix("/nonexistent/socket".into())),
        ..closed(&server, NATIVE, 1)
    };
    assert!(run(&plan).unwrap_err().to_string().contains("/nonexistent/socket"));
    let shards = Endpoints::ByShard(vec![server.endpoint(); 5]);
    let few = run(&Plan { endpoints: shards, ..closed(&server, NATIVE, 1) }).unwrap_err();
    assert!(few.to_string().contains("give 5"), "{few}");
    let mut statistics = closed(&server, Speech::Resp(Ask::Get, Values::Loaded), 1);
    statistics.settings.work.mix = Mix::only(Kind::Statistics);
    // It named the program's own types: "statistics cannot be asked over Resp(Get, Loaded)".
    let unspoken = run(&statistics).unwrap_err();
    assert!(matches!(unspoken, GeneratorError::Unspoken { .. }));
    assert!(unspoken.to_string().contains("statistics cannot be asked over RESP (ask="), "{unspoken}");
}
