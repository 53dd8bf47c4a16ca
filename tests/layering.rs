//! Who may know whom: the arrows between florin's modules go one way, the pure layers do no I/O, and `unsafe` stays
//! within its fences. ARCHITECTURE.md says why; this test says no.
//!
//! It reads tokens, not text: comments and strings cannot fool it, use-trees are unfolded, `super::` is resolved, and
//! what a macro is given counts too. Code under `#[cfg(test)]` may do what it likes.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module of the crate's root, and what it may name of its siblings: a module, or only a part of one.
const LAYERS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("limits", &[]),
    ("ledger", &[]),
    ("mesh", &[]),
    ("wire", &["limits"]),
    ("shard", &["ledger", "wire", "mesh", "limits", "clock"]),
    ("follower", &["shard", "ledger", "mesh", "limits", "clock"]),
    ("threads", &[]),
    ("store", &["ledger", "follower", "limits", "clock"]),
    ("feed", &["store", "follower", "threads", "ledger", "mesh", "limits", "clock", "shard"]),
    ("drivers", &["shard", "mesh", "limits", "clock"]),
    ("node", &["drivers", "feed", "store", "threads", "shard", "mesh", "ledger", "limits", "clock"]),
    ("admin", &["node", "feed", "store", "shard", "ledger", "limits", "clock"]),
    ("cli", &["admin", "node", "drivers", "feed", "store", "shard", "ledger", "limits", "clock"]),
    ("lib", EVERYTHING),
    ("main", &["cli"]),
];

/// After these a `::` begins a path instead of continuing one.
const KEYWORDS_BEFORE_PATHS: &[&str] = &[
    "as", "dyn", "else", "for", "if", "impl", "in", "let", "match", "mut", "return", "use", "where", "while",
];

/// For the root, which only declares its modules.
const EVERYTHING: &[&str] = &["*"];

/// The layers that a simulator must be able to run from a seed, and a fuzzer without a kernel.
const PURE: &[&str] = &["ledger", "wire", "shard", "follower"];

/// The same of other crates: the judge of two services is tested like money.
const PURE_ROOMS: &[&str] = &["shadow/src/judge", "shadow/src/answer"];

/// What a pure layer may not name: whatever reads a clock, a file, a socket, a thread, chance or the environment.
/// `std::sync` is no I/O: a shard publishes its counters through it.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "axum",
    "core_affinity",
    "crossterm",
    "hyper",
    "io_uring",
    "libc",
    "rand",
    "ratatui",
    "rusqlite",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
];

/// Pure code returns what went wrong; only a shard, which must not stop for an account whose sums overflow, may log.
const MAY_LOG: &[&str] = &["shard"];

/// Memory is no I/O: where the table's slabs lie is the business of the one file that maps them.
const MAY_MAP_MEMORY: (&str, [&str; 2]) = ("src/shard/memory.rs", ["rustix", "mm"]);

/// The only places for `unsafe`. Generated code is FlatBuffers', and read only through its own verifier.
const MAY_BE_UNSAFE: &[&str] = &[
    "src/mesh/",
    "src/drivers/ring/",
    "src/shard/memory.rs",
    "schemas/src/generated/",
    "bench/src/generator/sockets.rs",
];

/// A broken rule, and where.
#[derive(PartialEq, Eq, Debug)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

#[test]
fn arrows_go_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "schemas/src", "clients/rust/src", "shadow/src", "bench/src", "tuning/src"];
    let sources = read_sources(root, &folders);
    assert!(sources.len() > 15, "the sources have moved: {sources:?}");
    let violations = check(&sources);
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "the layering is broken:\n{}", lines.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    for (layer, allowed) in LAYERS.iter().filter(|(_, allowed)| *allowed != EVERYTHING) {
        for other in *allowed {
            assert!(
                LAYERS.iter().any(|(name, _)| name == other),
                "{layer} may name {other}, which is no layer"
            );
            assert!(!reaches(other, layer), "{layer} and {other} may name each other");
        }
    }
}

fn reaches(from: &str, to: &str) -> bool {
    let allowed = LAYERS.iter().find(|(name, _)| *name == from).map_or(EVERYTHING, |(_, allowed)| allowed);
    from == to || allowed.iter().any(|next| reaches(next, to))
}

#[test]
fn each_kind_of_violation_is_found() {
    let cases = [
        ("src/ledger/mod.rs", "use std::fs::File;", "std::fs::File"),
        ("src/ledger/account.rs", "use std::{fmt, time::{Duration, Instant}};", "std::time::Instant"),
        (
            "src/wire/http.rs",
            "fn f() { let _ = std::time::SystemTime::now(); }",
            "std::time::SystemTime::now",
        ),
        ("src/wire/http.rs", "use ::tokio::net;", "tokio::net"),
        ("src/shard/memory.rs", "use rustix::fs;", "rustix::fs"),
        ("src/shard/table.rs", "use rustix::mm::mmap;", "rustix::mm"),
        ("src/wire/mod.rs", "use std::*;", "std::*"),
        ("src/wire/mod.rs", "use std as s;", "std as s"),
        ("src/wire/mod.rs", "use std::time as t;", "std::time as t"),
        ("src/wire/mod.rs", "use tracing::info;", "tracing::info"),
        ("src/wire/mod.rs", "use crate::shard::Table;", "crate::shard"),
        ("src/wire/mod.rs", "use crate::{limits, ledger};", "crate::ledger"),
        ("src/wire/mod.rs", "use super::shard;", "crate::shard"),
        ("src/wire/http/body.rs", "use super::super::super::shard::Table;", "crate::shard"),
        ("src/wire/mod.rs", "mod inner { use super::super::store; }", "crate::store"),
        ("src/shard/mod.rs", "fn f() { println!(\"{}\", crate::store::PATH); }", "crate::store"),
        ("src/shard/mod.rs", "use crate::*;", "crate::*"),
        ("src/shard/mod.rs", "use crate as florin;", "crate as florin"),
        ("src/store/mod.rs", "use crate::feed::Feed;", "crate::feed"),
        ("src/mesh/ring.rs", "use crate::limits::MESH_RING_SLOTS;", "crate::limits"),
        ("shadow/src/judge/case.rs", "use std::time::SystemTime;", "std::time::SystemTime"),
        ("shadow/src/answer/mod.rs", "use tokio::net;", "tokio::net"),
        ("src/main.rs", "fn main() { florin::node::run() }", "crate::node"),
        ("src/newcomer/mod.rs", "", "newcomer"),
        ("src/shard/table.rs", "fn f(p: *const u8) -> u8 { unsafe { *p } }", "unsafe"),
        ("src/cli/mod.rs", "macro_rules! m { () => { unsafe { f() } } }", "unsafe"),
        ("clients/rust/src/lib.rs", "unsafe impl Send for X {}", "unsafe"),
    ];
    for (file, text, expected) in cases {
        let found = check(&[(PathBuf::from(file), text.to_owned())]);
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert!(found[0].what.contains(expected), "{file}: {text}: {found:?}");
        assert_eq!(found[0].file, Path::new(file));
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    let cases = [
        ("src/ledger/mod.rs", "//! std::fs and crate::shard, in words.\nconst S: &str = \"unsafe std::fs\";"),
        ("src/ledger/mod.rs", "use std::time::Duration; use florin_schema::UserId; pub(crate) struct A;"),
        (
            "src/ledger/mod.rs",
            "use super::ledger::account; use self::account::Account; use crate::ledger::Kind;",
        ),
        ("src/ledger/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; use crate::shard::Table; }"),
        ("src/ledger/mod.rs", "#[cfg(all(test, not(loom)))]\nfn f() { std::fs::read(\"x\"); }"),
        ("src/shard/mod.rs", "use crate::{clock::Now, ledger::{self, Account}}; use tracing::error;"),
        ("src/mesh/ring.rs", "fn f(p: *const u8) -> u8 { unsafe { *p } }"),
        ("src/shard/memory.rs", "use rustix::mm::{MapFlags, mmap_anonymous};"),
        ("src/lib.rs", "pub mod shard; pub mod cli;"),
        ("schemas/src/frame.rs", "use std::fs; use crate::ids::UserId;"),
    ];
    for (file, text) in cases {
        assert_eq!(check(&[(PathBuf::from(file), text.to_owned())]), [], "{file}: {text}");
    }
}

#[test]
fn files_that_only_tests_include_are_tests() {
    let parent = (PathBuf::from("src/wire/mod.rs"), "#[cfg(test)]\nmod golden;".to_owned());
    let child = (PathBuf::from("src/wire/golden.rs"), "use std::fs;".to_owned());
    assert_eq!(check(&[parent, child.clone()]), []);
    assert_eq!(check(&[child]).len(), 1);
}

fn read_sources(root: &Path, folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                sources.push((path.strip_prefix(root).expect("below the root").to_owned(), text));
            }
        }
    }
    sources.sort();
    sources
}

fn check(sources: &[(PathBuf, String)]) -> Vec<Violation> {
    let mut scans = Vec::new();
    let mut test_modules = BTreeSet::new();
    for (file, text) in sources {
        let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut scan = Scan { found: Vec::new(), test_modules: BTreeSet::new() };
        scan.module(tokens, &module_of(file));
        test_modules.append(&mut scan.test_modules);
        scans.push((file, scan.found));
    }
    let is_test = |file: &Path| {
        let module = module_of(file);
        (1..=module.len()).any(|length| test_modules.contains(&module[..length]))
    };
    let judged = scans.into_iter().filter(|(file, _)| !is_test(file));
    judged.flat_map(|(file, found)| judge(file, &found)).collect()
}

/// `src/wire/http.rs` is `crate::wire::http`.
fn module_of(file: &Path) -> Vec<String> {
    let inside = file.iter().skip_while(|part| *part != "src").skip(1);
    let mut module = vec!["crate".to_owned()];
    module.extend(inside.map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()));
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// What one file names, in order: paths, and the keyword `unsafe` as a path of its own.
struct Scan {
    found: Vec<(Vec<String>, usize)>,
    test_modules: BTreeSet<Vec<String>>,
}

impl Scan {
    fn module(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let Some(after) = self.test_item(&tokens, at, module) {
                at = after;
                continue;
            }
            if let (Some("mod"), Some(name), Some(TokenTree::Group(body))) =
                (ident(&tokens, at).as_deref(), ident(&tokens, at + 1), tokens.get(at + 2))
            {
                self.module(body.stream(), &[module, &[name]].concat());
                at += 3;
                continue;
            }
            at = match &tokens[at] {
                TokenTree::Group(group) => {
                    self.module(group.stream(), module);
                    at + 1
                }
                TokenTree::Ident(_) => self.path(&tokens, at, Vec::new(), module),
                _ => at + 1,
            };
        }
    }

    /// Skips an item under `#[cfg(test)]` and says where the next begins.
    fn test_item(&mut self, tokens: &[TokenTree], at: usize, module: &[String]) -> Option<usize> {
        let is_hash = matches!(tokens.get(at)?, TokenTree::Punct(punct) if punct.as_char() == '#');
        let TokenTree::Group(attribute) = tokens.get(at + 1)? else { return None };
        let words: Vec<String> = flatten(attribute.stream());
        if !is_hash || words.first()? != "cfg" || !words.iter().any(|word| word == "test") {
            return None;
        }
        let ends = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        let length =
            tokens[at + 2..].iter().position(ends).map_or(tokens.len() - at - 2, |length| length + 1);
        let item = &tokens[at + 2..at + 2 + length];
        if let Some(name) = item.iter().position(|t| t.to_string() == "mod").and_then(|m| ident(item, m + 1))
        {
            self.test_modules.insert([module, &[name]].concat());
        }
        Some(at + 2 + length)
    }

    /// Reads the path that begins at an identifier, unfolding use-trees, and says where it ends.
    fn path(&mut self, tokens: &[TokenTree], at: usize, mut path: Vec<String>, module: &[String]) -> usize {
        let line = tokens[at].span().start().line;
        path.push(ident(tokens, at).expect("the caller saw an identifier"));
        let mut at = at + 1;
        let is_keyword = KEYWORDS_BEFORE_PATHS.contains(&path[path.len() - 1].as_str());
        while !is_keyword && is_colons(tokens, at) {
            at += 2;
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                Some(TokenTree::Punct(star)) if star.as_char() == '*' => path.push("*".to_owned()),
                Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace => {
                    self.branches(tree.stream(), &path, module);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
        }
        // A renamed prefix would hide everything behind it.
        if let (Some("as"), Some(name)) = (ident(tokens, at).as_deref(), ident(tokens, at + 1)) {
            path.push(format!("as {name}"));
            at += 2;
        }
        self.found.push((resolve(path, module), line));
        at
    }

    fn branches(&mut self, tree: TokenStream, prefix: &[String], module: &[String]) {
        let tokens: Vec<TokenTree> = tree.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = match &tokens[at] {
                TokenTree::Ident(_) => self.path(&tokens, at, prefix.to_vec(), module),
                TokenTree::Punct(star) if star.as_char() == '*' => {
                    let path = [prefix, &["*".to_owned()]].concat();
                    self.found.push((resolve(path, module), star.span().start().line));
                    at + 1
                }
                _ => at + 1,
            };
        }
    }
}

fn ident(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at)? {
        TokenTree::Ident(name) => Some(name.to_string()),
        _ => None,
    }
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}

fn flatten(tokens: TokenStream) -> Vec<String> {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(group) => flatten(group.stream()),
            other => vec![other.to_string()],
        })
        .collect()
}

/// Makes `super::`, `self::` and the binary's `florin::` absolute, and drops `self` at a use-tree's end.
fn resolve(mut path: Vec<String>, module: &[String]) -> Vec<String> {
    path.retain({
        let mut first = true;
        move |part| std::mem::take(&mut first) || part != "self"
    });
    let supers = path.iter().skip(usize::from(path[0] == "self")).take_while(|part| *part == "super").count();
    let relative = supers > 0 || path[0] == "self";
    if relative {
        let rest = path.split_off(supers + usize::from(path[0] == "self"));
        let kept = module.len().saturating_sub(supers).max(1);
        path = [&module[..kept], &rest].concat();
    } else if path[0] == "florin" {
        path[0] = "crate".to_owned();
    }
    path
}

fn judge(file: &Path, found: &[(Vec<String>, usize)]) -> Vec<Violation> {
    let in_server = file.starts_with("src");
    let layer = file.iter().nth(1).map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned());
    let layer = layer.filter(|_| in_server).unwrap_or_default();
    let mut violations = Vec::new();
    let mut say = |line, what| violations.push(Violation { file: file.to_owned(), line, what });
    if in_server && !LAYERS.iter().any(|(name, _)| *name == layer) {
        say(1, format!("{layer} is a new module: give it its place in the table of tests/layering.rs"));
    }
    let allowed = LAYERS.iter().find(|(name, _)| *name == layer).map_or(EVERYTHING, |(_, allowed)| allowed);
    for (path, line) in found {
        let text = path.join("::").replace("::as ", " as ");
        if path[0] == "unsafe" && !MAY_BE_UNSAFE.iter().any(|place| file.starts_with(place)) {
            say(*line, "unsafe is only for src/mesh/, src/drivers/ring/ and src/shard/memory.rs".to_owned());
        }
        let sibling = path.get(1).filter(|_| path[0] == "crate" && allowed != EVERYTHING);
        if sibling.is_some_and(|sibling| *sibling != layer && !allowed.contains(&sibling.as_str())) {
            say(*line, format!("{layer} may not name {text}"));
        }
        let maps_memory =
            file == Path::new(MAY_MAP_MEMORY.0) && path.starts_with(&MAY_MAP_MEMORY.1.map(str::to_owned));
        let is_pure = PURE.contains(&layer.as_str()) || PURE_ROOMS.iter().any(|room| file.starts_with(room));
        if is_pure && !maps_memory && is_impure(path, &layer) {
            let room = if layer.is_empty() { "this room" } else { &layer };
            say(*line, format!("{room} does no I/O, so it may not name {text}"));
        }
    }
    violations
}

fn is_impure(path: &[String], layer: &str) -> bool {
    let logs = path[0] == "tracing" && path.len() > 1;
    if logs {
        return !MAY_LOG.contains(&layer);
    }
    IMPURE.iter().any(|forbidden| {
        let forbidden: Vec<&str> = forbidden.split("::").collect();
        let named = path.len() >= forbidden.len() && path.iter().zip(&forbidden).all(|(a, b)| a == b);
        // A glob or a rename of what contains the forbidden hides it as well.
        let hidden = path.last().is_some_and(|last| last == "*" || last.starts_with("as "))
            && path.len() <= forbidden.len()
            && path[..path.len() - 1].iter().zip(&forbidden).all(|(a, b)| a == b);
        // A lone word, such as a variable called `rand`, is no path.
        (named && path.len() > 1) || (hidden && path.len() > 1)
    })
}
