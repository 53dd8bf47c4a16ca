//! A command that asks a node and reaches none says what to do: of each that there is.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{NOBODY, Server, folder_with_ledger, run, transaction, write};

/// Those that ask a node, what names it, and what they end with where it does not answer.
const ASKING: &[(&[&str], &str, i32)] = &[
    (&["get", "balance", "1"], "--addr", 1),
    (&["get", "balance", "1", "--json"], "--addr", 1),
    (&["get", "statistics", "1"], "--addr", 1),
    (&["get", "statistics", "1", "--json"], "--addr", 1),
    (&["get", "balances", "1", "2"], "--addr", 1),
    (&["get", "balances", "1", "2", "--json"], "--addr", 1),
    (&["audit"], "--node", 1),
    (&["top"], "--admin", 1),
    (&["apply", "line.jsonl"], "--admin", 1),
    (&["checkpoint"], "--admin", 1),
    (&["support", "folder", "--log", "line.jsonl"], "--admin", 3),
];

/// The commands below one that take a node's address.
fn asking(folder: &Path, words: &[&str]) -> BTreeSet<String> {
    let help = run(folder, &[words, &["--help"]].concat()).ok();
    let mut found = BTreeSet::new();
    if help.contains("<HOST:PORT|florins://HOST:PORT") {
        found.insert(words.join(" "));
    }
    if let Some((_, commands)) = help.split_once("\nCommands:\n") {
        let commands = commands.split("\n\n").next().expect("there is a first");
        // What goes on for a second line is set further in.
        let names = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !name.is_empty() && *name != "help") {
            found.extend(asking(folder, &[words, &[name]].concat()));
        }
    }
    found
}

/// A port for TLS that was asked in plain was told as "version: expected 1, got 2", and where nobody listened that was all that was said.
#[test]
fn who_is_not_reached_is_told_with_what_to_do() {
    let folder = folder_with_ledger();
    let at = folder.path();
    let known: BTreeSet<String> = ASKING
        .iter()
        .map(|(words, ..)| {
            let all = asking(at, &words[..1]);
            let fitting = all.into_iter().filter(|name| words.join(" ").starts_with(name));
            fitting.max_by_key(String::len).expect("a command that asks")
        })
        .collect();
    assert_eq!(asking(at, &[]), known, "each is tried below");
    let page = include_str!("../../docs/security.md");
    for sentence in ["take `--token-file", "take `--tls-ca`"] {
        let (before, _) = page.split_once(sentence).expect("the page says who takes it");
        let named = before.rsplit(". ").next().expect("the sentence's begin");
        let lacks = |name: &&String| {
            let first = name.split(' ').next().expect("a word");
            !named.contains(&format!("`{first}`")) && !named.contains(&format!("`florin {first}`"))
        };
        assert_eq!(known.iter().find(lacks), None, "docs/security.md does not name it: {named}");
    }

    write(at, "line.jsonl", &transaction(1, 1, "5"));
    run(at, &["tls", "init", "certs"]).ok();
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls-admin", "127.0.0.1:0"];
    let files = ["--tls-cert", "certs/node.crt", "--tls-key", "certs/node.key"];
    let server = Server::start(at, &[&["--shards", "1"], &tls[..], &files].concat());
    let (any, admin) = (server.tls.expect("by TLS"), server.tls_admin.expect("by TLS"));
    let for_reads = server.addr();
    for &(words, flag, code) in ASKING {
        let secured = if flag == "--admin" { admin } else { any }.to_string();
        let plain = if flag == "--admin" { server.admin.to_string() } else { server.addr() };
        let by_tls = format!("florins://{plain}");
        let at_reads = (&*for_reads, "give the node's admin port");
        for (address, next) in Some(at_reads).filter(|_| flag == "--admin").into_iter().chain([
            (&*secured, "write florins:// before its address"),
            (NOBODY, "with this address?"),
            (&by_tls, "expected a port of --tls-listen, or of --tls-admin"),
        ]) {
            let said = run(at, &[words, &[flag, address]].concat()).refused(code);
            assert!(said.contains(next), "{words:?} {address}: {said}");
            let _ = std::fs::remove_dir_all(at.join("folder"));
        }
    }
    // Frames are not what an admin port speaks.
    let said = run(at, &["get", "balance", "1", "--addr", &server.admin.to_string()]).refused(1);
    assert!(said.contains("this is a node's admin port"), "{said}");
}
