//! Every florin-bench command of every page, in blocks, sentences and tables, is spelled as it is read.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder");
    let below =
        ["docs", "tuning", "."].map(|folder| fs::read_dir(root.join(folder)).expect("a readable folder"));
    let paths = below.into_iter().flatten().map(|entry| entry.expect("an entry").path());
    // What once was is not what is.
    let paths = paths.filter(|path| !path.ends_with("CHANGELOG.md"));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The commands of a page: what stands between backticks, and lines of their own.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut goes_on, mut is_fenced) = (false, false);
    for line in text.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        let is_code = is_fenced || line.starts_with("    ");
        let spans = line.split('`').skip(1).step_by(2);
        // `cargo run … -p florin-bench -- run …` is the same.
        let in_spans = spans.filter_map(|span| {
            span.strip_prefix("florin-bench ")
                .or_else(|| span.split_once("-p florin-bench -- ").map(|parts| parts.1))
        });
        found.extend(in_spans.map(str::to_owned));
        let line = line.trim().split("  #").next().unwrap_or_default().trim_end_matches("; done").trim_end();
        let part = match goes_on {
            true => Some(line),
            false => line.strip_prefix("florin-bench ").filter(|_| is_code),
        };
        if let Some(part) = part {
            let text = part.trim_end_matches('\\').trim_end();
            match found.last_mut().filter(|_| goes_on) {
                Some(command) => *command = format!("{command} {text}"),
                None => found.push(text.to_owned()),
            }
            goes_on = part.ends_with('\\');
        }
    }
    found
}

/// What is wrong with it, if anything is.
fn fault(command: &str) -> Option<String> {
    let command =
        command.replace("NODE_IP:", "127.0.0.1:").replace("HOST:", "127.0.0.1:").replace("=PID", "=1");
    // The page says what `C` and `…` stand for.
    let words =
        command.split_whitespace().filter(|word| !["C", "…"].contains(word)).take_while(|&word| word != "|");
    let words = std::iter::once("florin-bench").chain(words).map(|word| word.trim_matches('\''));
    let error = Cli::try_parse_from(words).err()?;
    // A name is a command, however much more it needs.
    let is_short = matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelp);
    (!is_short).then(|| error.to_string())
}

#[test]
fn every_command_of_every_page_is_spelled_as_it_is_read() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for command in commands(&text) {
            count += 1;
            wrong.extend(fault(&command).map(|fault| format!("{}: {command}\n{fault}", page.display())));
        }
    }
    assert!(count > 50, "{count} commands are not all");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_command_is_found_however_it_stands_and_a_fault_is_noticed() {
    let page = "| `florin-bench run --a` | `cargo run --release -p florin-bench -- ramp --b` |\n\n    florin-bench run \\\n      --c  # d\n";
    assert_eq!(commands(page), ["run --a", "ramp --b", "run --c"]);
    for wrong in ["ran", "run --targett florin", "run --target florin --load 64", "run --target flor"] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
}
