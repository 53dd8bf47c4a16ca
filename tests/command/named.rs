//! Commands that stand in a page's sentences and tables, where nobody copies them from: what they name is there, and they are spelled
//! as the program reads them. `bench/src/cli/pages.rs` does the same for florin-bench.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Parser;
use clap::error::ErrorKind;
use florin::cli::Cli;

use crate::pages::{pages, root};
use crate::support::{Server, folder_with_ledger, get};

/// What stands between backticks on one line.
fn spans(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    let in_code =
        |line: &str| -> Vec<String> { line.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    text.lines().filter(|line| !line.trim_start().starts_with("```")).flat_map(in_code).collect()
}

/// A command without the variables that stand before it.
fn without_variables(mut command: &str) -> &str {
    while let Some((word, rest)) = command.split_once(' ')
        && let Some((name, _)) = word.split_once('=')
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    {
        command = rest;
    }
    command
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
        ["cargo", ..] => words
            .windows(2)
            .find_map(|pair| {
                let name = pair[1];
                let places = match pair[0] {
                    "--example" => ["", "schemas/"]
                        .map(|of| [format!("{of}examples/{name}.rs"), format!("{of}examples/{name}/main.rs")])
                        .concat(),
                    "--test" => ["", "core/"]
                        .map(|of| [format!("{of}tests/{name}.rs"), format!("{of}tests/{name}/main.rs")])
                        .concat(),
                    _ => return None,
                };
                (!is_there(&places)).then(|| format!("there is none of {places:?}"))
            })
            .or_else(|| filter(&words).and_then(no_test)),
        [script, ..] if script.starts_with("scripts/") => {
            (!is_there(&[script.to_owned()])).then(|| "there is no such script".to_owned())
        }
        _ => None,
    }
}

/// Which tests `cargo test` is to run, where that is said.
fn filter<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut words = words.iter().skip_while(|&&word| word != "test").skip(1).copied();
    while let Some(word) = words.next() {
        match word {
            "--test" | "--example" | "-p" | "--features" => drop(words.next()),
            "--" => return None,
            flag if flag.starts_with('-') => {}
            filter => return Some(filter),
        }
    }
    None
}

/// What is wrong where a filter fits no test: cargo runs none, and is content.
fn no_test(filter: &str) -> Option<String> {
    let names = NAMES.get_or_init(|| {
        let mut open: Vec<PathBuf> =
            ["bench", "clients/rust", "core", "schemas", "shadow", "sources", "src", "tests", "tuning"]
                .map(|folder| root().join(folder))
                .to_vec();
        let mut names = BTreeSet::new();
        while let Some(path) = open.pop() {
            names.extend(path.file_stem().map(|name| name.display().to_string()));
            if path.is_dir() {
                open.extend(
                    fs::read_dir(&path)
                        .expect("a readable folder")
                        .map(|entry| entry.expect("an entry").path()),
                );
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
                names.extend(functions.map(str::to_owned));
            }
        }
        names
    });
    let unknown = filter.split("::").find(|part| !names.iter().any(|name| name.contains(part)))?;
    Some(format!("no test and no module is called {unknown}"))
}

static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();

#[test]
fn commands_in_sentences_and_tables_are_spelled_as_they_are_read() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let begins = ["florin ", "make ", "cargo ", "scripts/"];
        let spans = spans(&page);
        let commands = spans.iter().map(|span| without_variables(span));
        for command in commands.filter(|command| begins.iter().any(|begin| command.starts_with(begin))) {
            count += 1;
            wrong.extend(fault(command).map(|fault| format!("{page}: `{command}`: {fault}")));
        }
    }
    assert!(count > 100, "{count} commands are not all");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever asks the admin port for what it does not have is told all that it has: the page has each of them too.
#[test]
fn every_path_of_the_admin_port_stands_on_the_page() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let told = get(server.admin, "/nothing");
    let (_, list) = told.split_once("expected one of ").expect("what there is");
    let list = list.split('"').next().expect("its end");
    let page = fs::read_to_string(root().join("docs/node.md")).expect("the page");
    let missing: Vec<&str> = list.split(", ").filter(|path| !page.contains(&format!("{path}`"))).collect();
    assert!(list.split(", ").count() > 10 && missing.is_empty(), "docs/node.md lacks {missing:?} of {list}");
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
        "cargo test --workspace --test node nothing_that_is_tested",
        "cargo test --workspace --lib wire::nothing_that_is_tested",
        "scripts/nothing",
    ] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
}
