//! The subcommands and their flags.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::{
    compare::CompareArgs,
    cost::CostArgs,
    flags::{LoadSpec, not_negative, positive, seconds},
    setup::{Setup, cpus},
};
use crate::{affinity::Cpus, isolation::Trouble, targets::TargetSpec, work::Mix};

/// Measures servers: how fast, at which latency, at what cost.
#[derive(Parser, Debug)]
#[command(name = "florin-bench", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Load one or several targets, interleaved, and compare them to the first
    Run(RunArgs),
    /// Find each target's knee: the highest rate at which it keeps the objective
    Ramp(RampArgs),
    /// What replacing the first server by another would bring: knees, and CPU, memory and latency at the same load
    Compare(Box<CompareArgs>),
    /// A comparison in money: cores, machines and dollars a year, with every assumption
    Cost(CostArgs),
    /// Compare all drivers that the florin binary has, and this host's limit
    Drivers(DriversArgs),
    /// How throughput grows with shards, on their own ports and on the any-shard port, and the law that it follows; takes
    /// --server-cpus, of which each shard has one, and others with --cpus
    Scale(ScaleArgs),
    /// What trouble with some callers costs all others: half handshakes, floods of handshakes, and one who asks far more often than it
    /// may; by TLS and with tokens
    Isolation(IsolationArgs),
    /// Connections a second in plain, and by TLS with and without tickets, and what each costs the server
    Handshakes(HandshakesArgs),
    /// Measure this host's limit: the ring driver with a fixed reply and no shard behind it
    Limit(LimitArgs),
    /// How fast this host's memory answers, in small pages and in huge ones: which tables of two hosts can be compared
    Memory(MemoryArgs),
    /// The process that makes the trouble of `isolation`, until its standard input ends
    #[command(hide = true)]
    MakeTrouble(MakeTroubleArgs),
    /// The server that `limit` measures
    #[command(hide = true)]
    ServeFixed(ServeFixedArgs),
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// What to load: florin, http, valkey, memcached or limit, with options, like florin,encoding=flatbuffers,via=unix or
    /// http,addr=127.0.0.1:8080,pid=77; again for more. Options: label, encoding=rkyv|flatbuffers,
    /// via=shard|neighbour|any|unix|http (neighbour: every request has to be passed on), ask=get|mget (valkey; of florin, over RESP; of limit get), driver, shards, tls=on|FILE (by TLS; FILE: the authorities of a
    /// running server), token=on|FILE (callers prove who they are), addr (one of
    /// several nodes that divide the users tells of all: each is asked about its own), pid, idle=CONNECTIONS (open beside the load's), binary, flag
    #[arg(long = "target", value_name = "TARGET", required = true)]
    pub(super) targets: Vec<TargetSpec>,
    /// How: CONNECTIONSxDEPTH for a closed loop; @RATE behind it for an open one, like 64x32@100000; again for more
    #[arg(long = "load", value_name = "CxD[@RATE]", default_value = "64x1")]
    pub(super) loads: Vec<LoadSpec>,
    #[command(flatten)]
    pub(super) rounds: Rounds,
    /// Beside each florin the same by TLS, and what that costs
    #[arg(long)]
    pub(super) tls: bool,
    /// Beside each florin the same for callers who prove who they are by a token, and what that costs
    #[arg(long)]
    pub(super) token: bool,
    /// Run each server under valgrind instead, and count its instructions over so many requests (needs valgrind)
    #[arg(long, value_name = "REQUESTS")]
    pub(super) callgrind: Option<u64>,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct RampArgs {
    /// What to load, as in `run`; again for more
    #[arg(long = "target", value_name = "TARGET", required = true)]
    pub(super) targets: Vec<TargetSpec>,
    /// Connections, and questions in flight on each at most; further ones wait in the generator, and their time counts
    #[arg(long, value_name = "CxD", default_value = "64x64")]
    pub(super) load: LoadSpec,
    /// The objective: 99th percentile, in ms
    #[arg(long, value_name = "MS", default_value_t = 5.0, value_parser = positive)]
    pub(super) p99_ms: f64,
    /// The objective: errors, in % of what was due
    #[arg(long, value_name = "%", default_value_t = 0.01, value_parser = not_negative)]
    pub(super) errors: f64,
    /// The first rate
    #[arg(long, value_name = "RATE", default_value_t = 10_000.0, value_parser = positive)]
    pub(super) from: f64,
    /// No rate above this
    #[arg(long, value_name = "RATE", default_value_t = 20_000_000.0, value_parser = positive)]
    pub(super) to: f64,
    /// How narrow the gap between what holds and what breaks must become, in %
    #[arg(long, value_name = "%", default_value_t = 3.0, value_parser = positive)]
    pub(super) precision: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct DriversArgs {
    /// Only this one; again for more [default: all that the binary has]
    #[arg(long = "driver", value_name = "NAME")]
    pub(super) drivers: Vec<String>,
    /// As in `run`
    #[arg(long = "load", value_name = "CxD[@RATE]", default_values = ["64x1", "256x8", "64x32"])]
    pub(super) loads: Vec<LoadSpec>,
    #[command(flatten)]
    pub(super) rounds: Rounds,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct ScaleArgs {
    /// Numbers of shards [default: 1, 2, 4, … up to the number of --server-cpus, of which each shard has one]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) shards: Vec<u16>,
    /// For each shard, as in `run`
    #[arg(long, value_name = "CxD[@RATE]", default_value = "64x32")]
    pub(super) load: LoadSpec,
    #[command(flatten)]
    pub(super) rounds: Rounds,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct IsolationArgs {
    /// The others: CONNECTIONSxDEPTH@RATE, an open loop, whose latency counts from when a question was due
    #[arg(long, value_name = "CxD@RATE", default_value = "16x8@5000")]
    pub(super) load: LoadSpec,
    /// Handshakes that are begun and go no further, at any time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(super) half_handshakes: usize,
    /// Threads that make whole ones, one after the other
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(super) handshake_threads: usize,
    /// What the greedy one may ask a second
    #[arg(long, value_name = "RATE", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) quota: u32,
    /// How many times as often it asks
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) times: u32,
    /// On how many connections
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(super) connections: usize,
    /// CPUs on which the trouble is made [default: those of the others' load, which comes first there]
    #[arg(long, value_name = "LIST", default_value = "", value_parser = cpus, hide_default_value = true)]
    pub(super) trouble_cpus: Cpus,
    #[command(flatten)]
    pub(super) node: OneNode,
}

#[derive(Args, Debug)]
pub(super) struct MakeTroubleArgs {
    /// What
    pub(super) trouble: Trouble,
    /// For a running server
    #[arg(long, value_name = "TARGET")]
    pub(super) target: TargetSpec,
    /// Half handshakes, threads, or the greedy one's connections
    #[arg(long, value_name = "N")]
    pub(super) count: usize,
    /// How often the greedy one asks a second
    #[arg(long, value_name = "RATE", value_parser = not_negative)]
    pub(super) rate: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// What is measured of a node that the bench starts, whatever is done to it.
#[derive(Args, Debug)]
pub(super) struct OneNode {
    /// Shards of the node [default: as florin has them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) shards: Option<u16>,
    #[command(flatten)]
    pub(super) rounds: Rounds,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Debug)]
pub(super) struct HandshakesArgs {
    /// Threads that connect, one connection after the other
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(super) threads: usize,
    #[command(flatten)]
    pub(super) node: OneNode,
}

#[derive(Args, Debug)]
pub(super) struct MemoryArgs {
    /// Where the chase runs
    #[arg(long, value_name = "CPU")]
    pub(super) cpu: Option<usize>,
    /// Sizes to chase through, KiB
    #[arg(long = "kib", value_name = "N", value_parser = clap::value_parser!(u64).range(16..=1 << 24),
        default_values = ["32", "512", "4096", "16384", "65536", "262144"])]
    pub(super) sizes_kib: Vec<u64>,
}

#[derive(Args, Debug)]
pub(super) struct LimitArgs {
    /// More targets to compare with it, as in `run`
    #[arg(long = "target", value_name = "TARGET")]
    pub(super) targets: Vec<TargetSpec>,
    /// As in `run`
    #[arg(long = "load", value_name = "CxD[@RATE]", default_values = ["64x1", "256x8", "64x32"])]
    pub(super) loads: Vec<LoadSpec>,
    /// Over a unix socket
    #[arg(long)]
    pub(super) unix: bool,
    #[command(flatten)]
    pub(super) rounds: Rounds,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ServeFixedArgs {
    /// Where to listen
    #[arg(long)]
    pub(super) listen: SocketAddr,
    /// And here
    #[arg(long)]
    pub(super) unix: PathBuf,
    /// Assets in the reply
    #[arg(long)]
    pub(super) assets: usize,
}

#[derive(Args, Debug)]
pub(super) struct Rounds {
    /// How often to measure each target under each load, in turn; 5 or more for numbers to publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) rounds: u16,
}

/// What all that measures florin takes, but for `compare`.
#[derive(Args, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) setup: Setup,
    /// What is asked: balance, statistics, batch:N, or several by weight, like balance=9,statistics=1
    #[arg(long = "mix", value_name = "MIX", default_value = "balance")]
    pub(super) mix: Mix,
    /// Bytes of a value in valkey and memcached [default: as many as a balance of the ledger has]
    #[arg(long, value_name = "BYTES")]
    pub(super) value_bytes: Option<usize>,
    /// Seconds before the measured window
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) warmup: Duration,
    /// Seconds of the measured window
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) duration: Duration,
    /// Write report.json, report.html, report.md and a .hlog for each target and load into this directory
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// The commands of a page: its lines that begin with one, to their end or over a backslash, and what stands in backticks.
    fn commands(page: &str) -> Vec<String> {
        let joined = page.replace("\\\n", " ");
        let lines = joined.lines().map(|line| line.trim_start().split(" #").next().unwrap_or_default());
        let spans = joined.split('`').skip(1).step_by(2);
        let is_command = |text: &&str| text.starts_with("florin-bench ") && text.contains(" --");
        lines.chain(spans).filter(is_command).map(str::to_owned).collect()
    }

    /// A command that a page shows and the program does not know is found by whoever wants to measure.
    #[test]
    fn the_documents_commands_are_understood() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        let pages = std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path());
        let texts = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
        let found: Vec<String> =
            texts.flat_map(|path| commands(&std::fs::read_to_string(path).unwrap())).collect();
        assert!(found.len() > 15, "{found:?}");
        for command in found {
            // What is left out stands elsewhere on its page, and each has a process of its own.
            let command = command.replace("pid=PID", "pid=77");
            let words = command.split_whitespace().filter(|word| !["…", "C"].contains(word));
            if let Err(error) = Cli::try_parse_from(words)
                && error.exit_code() != 0
            {
                panic!("{command}: {error}");
            }
        }
    }
}
