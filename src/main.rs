//! The `florin` command. Everything that it does lies in the library, in [`florin::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    florin::cli::main()
}
