//! The `florin` command with a fault that a test can order: SIGUSR2 makes one shard of `serve` hang. Built only with the
//! feature `fault-injection`, which no package has.

use std::process::ExitCode;

fn main() -> ExitCode {
    florin::cli::main()
}
