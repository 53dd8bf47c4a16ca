//! Commands that stand in a page's sentences and tables, where nobody copies them from: what they name is there, and they are spelled
//! as the program reads them. `bench/src/cli/pages.rs` does the same for florin-bench.

use std::fs;

use clap::Parser;
use clap::error::ErrorKind;
use florin::cli::Cli;

use crate::pages::{pages, root};

/// What stands between backticks on one line.
fn spans(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    let in_code =
        |line: &str| -> Vec<String> { line.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    text.lines().filter(|line| !line.trim_start().starts_with("```")).flat_map(in_code).collect()
}

/// What is wrong with a command, if anything is.
fn fault(command: &str) -> Option<String> {
    let command = command
        .replace("postgres://…", "postgres://user@host/database")
        .replace("--driver NAME", "--driver ring")
        .replace("HOST:PORT", "host:1");
    let words: Vec<&str> = command.split_whitespace().collect();
    let is_there = |paths: &[String]| paths.iter().any(|path| root().join(path).exists());
    match *words.as_slice() {
        ["florin", ..] => {
            // A name is a command, however much more it needs.
            let error = Cli::try_parse_from(&words).err()?;
            let is_short = matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::DisplayHelp
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    | ErrorKind::DisplayVersion
            );
            (!is_short).then(|| error.to_string())
        }
        ["make", target, ..] => {
            let makefile = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
            let is_target = makefile.lines().any(|line| line.starts_with(&format!("{target}: ")));
            (!is_target).then(|| "make has no such target".to_owned())
        }
        ["cargo", ..] => words.windows(2).find_map(|pair| {
            let name = pair[1];
            let places = match pair[0] {
                "--example" => ["", "schemas/"]
                    .map(|of| [format!("{of}examples/{name}.rs"), format!("{of}examples/{name}/main.rs")])
                    .concat(),
                "--test" => vec![format!("tests/{name}.rs"), format!("tests/{name}/main.rs")],
                _ => return None,
            };
            (!is_there(&places)).then(|| format!("there is none of {places:?}"))
        }),
        [script, ..] if script.starts_with("scripts/") => {
            (!is_there(&[script.to_owned()])).then(|| "there is no such script".to_owned())
        }
        _ => None,
    }
}

#[test]
fn commands_in_sentences_and_tables_are_spelled_as_they_are_read() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let begins = ["florin ", "make ", "cargo ", "scripts/"];
        for command in spans(&page).iter().filter(|span| begins.iter().any(|begin| span.starts_with(begin))) {
            count += 1;
            wrong.extend(fault(command).map(|fault| format!("{page}: `{command}`: {fault}")));
        }
    }
    assert!(count > 100, "{count} commands are not all");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_that_is_not_there_is_noticed() {
    for wrong in [
        "florin serv",
        "florin serve --sharts 1",
        "florin get --admin",
        "make nothing",
        "cargo run --release --example nothing",
        "cargo test --test nothing",
        "scripts/nothing",
    ] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
}
