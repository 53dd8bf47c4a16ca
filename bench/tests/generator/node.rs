//! The bench asks a node in each of the ways that a node answers. One of them had never been tried, and waited five minutes for a word
//! that no node says.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use florin::callers::Token;
use florin_bench::{
    affinity::Cpus,
    generator::{Access, Endpoint, Load, Span, Speech},
    isolation::{self, Strength, Trouble},
    targets::{
        Bench, Process, Target, TargetSpec, Tool,
        ledger::{self, Generated},
        probe,
        process::{self, Start},
    },
    work::{Arrivals, Population},
};
use tempfile::TempDir;

use crate::{AT_MOST, plan, run};

/// A bench with a ledger of its own; the folder goes with it.
pub fn bench() -> (TempDir, Bench) {
    let florin = Path::new(env!("CARGO_BIN_EXE_florin-bench")).with_file_name("florin");
    assert!(florin.exists(), "cargo test --workspace builds {}", florin.display());
    let folder = tempfile::tempdir().unwrap();
    let generated = Generated { users: 50, transactions: 500, seed: 7 };
    let ledger = ledger::kept(&florin, folder.path(), generated).unwrap();
    let population = Population::new(ledger::population(&ledger).unwrap()).unwrap();
    let bench = Bench {
        florin,
        server_cpus: Vec::new(),
        ledger: Some(ledger),
        postgres: None,
        population,
        value_bytes: 1,
        tool: Tool::None,
    };
    (folder, bench)
}

/// Asks 500 times, and is answered as often.
fn ask(target: &Target, bench: &Bench, context: &str) {
    let load = Load::Closed { connections: 2, depth: 4 };
    let span = Span::Requests { count: 500, at_most: AT_MOST };
    let mut plan = plan(target.endpoints.clone(), target.speech, load, span);
    plan.settings.population = bench.population.clone();
    plan.access = target.access.clone();
    let outcome = run(&plan).unwrap();
    assert_eq!((outcome.served, outcome.lost), (500, 0), "{context}");
}

#[test]
fn a_node_is_asked_in_each_of_its_ways() {
    let (_folder, bench) = bench();
    for options in [
        "encoding=rkyv",
        "encoding=flatbuffers",
        "via=any",
        "via=neighbour,shards=2,flag=--shards-per-cpu=2",
        "via=http",
        "via=unix",
        "ask=get",
        "ask=mget",
        "via=unix,ask=get",
        "tls=on",
        "tls=on,via=any",
        "tls=on,encoding=flatbuffers,shards=2,flag=--shards-per-cpu=2,via=neighbour",
        "tls=on,via=http",
        "tls=on,ask=mget",
        "token=on",
        "token=on,via=unix",
        "token=on,via=http",
        "token=on,ask=get",
        "tls=on,token=on",
        "tls=on,token=on,via=http",
    ] {
        let spec: TargetSpec = format!("florin,{options}").parse().unwrap();
        ask(&Target::start(&spec, &bench).unwrap(), &bench, options);
    }
}

/// A node that runs already, with certificates and principals that somebody else has made.
#[test]
fn a_running_node_is_asked_by_tls_and_with_a_token() {
    let (folder, bench) = bench();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = Command::new(&bench.florin).args(["tls", "init", &at("certs")]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let token = Token::random();
    let entry =
        format!("[[principal]]\nname = \"a\"\nmay = [\"balance\"]\ntokens = [\"{}\"]\n", token.hash());
    for (name, text) in [("principals.toml", entry.as_str()), ("token", token.reveal())] {
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let address = process::free_address().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let ledger = format!("sqlite:{}", bench.ledger.as_ref().unwrap().display());
    let mut command = Command::new(&bench.florin);
    command.args([
        "serve",
        "--ledger",
        &ledger,
        "--listen",
        "off",
        "--shard-listen",
        "off",
        "--admin",
        "off",
    ]);
    command.args(["--tls-listen", &address.to_string(), "--tls-shard-listen", "127.0.0.1:0"]);
    command.args(["--tls-cert", &at("certs/node.crt"), "--tls-key", &at("certs/node.key")]);
    command.args(["--principals", &at("principals.toml")]);
    let directory = process::scratch().unwrap();
    let node =
        Process::start(Start { command, install: None, cpus: &[], tool: &Tool::None, directory }).unwrap();
    let access = Access::default().by_tls(Path::new(&at("certs/ca.crt"))).unwrap().with_token(token.reveal());
    let (endpoint, someone) = (Endpoint::Tcp(address), bench.population.users()[0]);
    let answers = || probe::answers(&endpoint, &access, Speech::Http, someone);
    process::wait(Some(&node), &endpoint, answers).unwrap();
    let running = format!("florin,addr={address},tls={},token={}", at("certs/ca.crt"), at("token"));
    for via in ["shard", "any", "http"] {
        let spec: TargetSpec = format!("{running},via={via}").parse().unwrap();
        ask(&Target::start(&spec, &bench).unwrap(), &bench, via);
    }
    // Asked in plain it was told as "failed to fill whole buffer", and where nobody listens that was all that was said.
    for kind in ["florin,via=shard", "florin,via=any", "http"] {
        for (address, next) in [(address, "say tls=on"), (nobody, "with this address?")] {
            let spec: TargetSpec = format!("{kind},addr={address}").parse().unwrap();
            let told = Target::start(&spec, &bench).expect_err("nobody who answers in plain").to_string();
            assert!(told.contains(&address.to_string()) && told.contains(next), "{kind}: {told}");
        }
    }
}

/// All trouble of a node's callers can be made, and the others are measured beside it. How they fare is for a machine of its own.
#[test]
fn others_are_measured_beside_each_trouble() {
    let (_folder, bench) = bench();
    let spec: TargetSpec = "florin,tls=on,token=on".parse().unwrap();
    let target = Target::start(&TargetSpec { bounded_per_s: Some(200), ..spec }, &bench).unwrap();
    let strength = Strength {
        half_handshakes: 16,
        handshake_threads: 1,
        connections: 16,
        quota_per_s: 200,
        times: 10,
        program: PathBuf::from(env!("CARGO_BIN_EXE_florin-bench")),
        ledger: bench.ledger.clone().unwrap(),
        cpus: Cpus::default(),
        comes_last: true,
    };
    let load = Load::Open { connections: 2, depth: 8, rate: 200.0, arrivals: Arrivals::Uniform };
    let span = Span::Time { warmup: Duration::ZERO, measure: Duration::from_secs(1) };
    let mut settings = plan(target.endpoints.clone(), target.speech, load, span).settings;
    settings.population = bench.population.clone();
    for trouble in [None].into_iter().chain(Trouble::ALL.map(Some)) {
        let beside = trouble.map(|trouble| (trouble, &strength));
        let found = isolation::measure(&target, load, &settings, beside, &mut |_| {}).unwrap();
        let trial = &found.measured.trial;
        assert!(trial.shed.is_empty(), "nobody bounds the others: {trouble:?}: {:?}", trial.shed);
        let makes = matches!(trouble, Some(Trouble::Handshakes | Trouble::Greed));
        assert_eq!(
            found.made_per_s.is_some_and(|rate| rate > 0.0),
            makes,
            "{trouble:?}: {:?}",
            found.made_per_s
        );
    }
}
