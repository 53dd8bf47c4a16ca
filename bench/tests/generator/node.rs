//! The bench asks a node in each of the ways that a node answers. One of them had never been tried, and waited five minutes for a word
//! that no node says.

use std::path::Path;

use florin_bench::{
    generator::{Load, Span},
    targets::{
        Bench, Target, TargetSpec, Tool,
        ledger::{self, Generated},
    },
    work::Population,
};

use crate::{AT_MOST, plan, run};

#[test]
fn a_node_is_asked_in_each_of_its_ways() {
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
        population: population.clone(),
        value_bytes: 1,
        tool: Tool::None,
    };
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
    ] {
        let spec: TargetSpec = format!("florin,{options}").parse().unwrap();
        let target = Target::start(&spec, &bench).unwrap();
        let load = Load::Closed { connections: 2, depth: 4 };
        let span = Span::Requests { count: 500, at_most: AT_MOST };
        let mut plan = plan(target.endpoints.clone(), target.speech, load, span);
        plan.settings.population = population.clone();
        let outcome = run(&plan).unwrap();
        assert_eq!((outcome.served, outcome.lost), (500, 0), "{options}");
    }
}
