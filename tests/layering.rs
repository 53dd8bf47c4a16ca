//! Who may know whom, as far as Cargo cannot say it: the arrows between modules of one crate go one way, the rooms of the shadow
//! that judge do no I/O, and nobody opens the fence around `unsafe` unseen. That florin-core does no I/O says its `no_std`.
//!
//! It reads lines, not tokens: `cargo fmt` gives every path one form. What follows `#[cfg(test)]` at the margin may do what it likes.

#[path = "layering/bounds.rs"]
mod bounds;
#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A crate's source folder, and of each of its modules what that may name of its siblings.
type Layers = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const CRATES: &[Layers] = &[
    (
        "core/src",
        &[
            ("clock", &[]),
            ("limits", &[]),
            ("ledger", &["limits"]),
            ("audit", &["ledger"]),
            ("checkpoint", &["audit", "ledger", "limits"]),
            ("mesh", &[]),
            ("wire", &["limits"]),
            ("nodes", &["limits"]),
            ("shard", &["audit", "checkpoint", "ledger", "nodes", "wire", "mesh", "limits", "clock"]),
            ("follower", &["shard", "ledger", "mesh", "limits", "clock"]),
        ],
    ),
    (
        "src",
        &[
            ("clock", &[]),
            ("numbers", &[]),
            ("threads", &["limits"]),
            ("sources", &["follower"]),
            ("orders", &["follower", "mesh", "shard"]),
            ("auditor", &["audit", "follower", "orders", "shard", "mesh", "threads", "limits", "clock"]),
            (
                "checkpoints",
                &["follower", "checkpoint", "audit", "orders", "shard", "mesh", "threads", "limits", "clock"],
            ),
            ("feed", &["checkpoints", "sources", "follower", "threads", "limits", "clock"]),
            ("callers", &["threads", "shard", "mesh", "limits", "clock"]),
            ("tls", &["limits"]),
            ("profiler", &["limits"]),
            ("drivers", &["tls", "threads", "shard", "mesh", "limits", "clock"]),
            (
                "node",
                &[
                    "auditor",
                    "callers",
                    "checkpoints",
                    "orders",
                    "drivers",
                    "tls",
                    "feed",
                    "sources",
                    "threads",
                    "numbers",
                    "shard",
                    "mesh",
                    "limits",
                    "clock",
                ],
            ),
            ("nodes", &["callers", "node", "tls", "sources", "threads", "shard", "limits", "clock"]),
            (
                "admin",
                &[
                    "nodes",
                    "auditor",
                    "callers",
                    "checkpoints",
                    "profiler",
                    "threads",
                    "node",
                    "tls",
                    "feed",
                    "numbers",
                    "shard",
                    "limits",
                    "clock",
                ],
            ),
            (
                "cli",
                &[
                    "numbers",
                    "nodes",
                    "auditor",
                    "audit",
                    "clock",
                    "follower",
                    "callers",
                    "checkpoints",
                    "checkpoint",
                    "admin",
                    "threads",
                    "node",
                    "drivers",
                    "tls",
                    "feed",
                    "sources",
                    "shard",
                    "ledger",
                    "limits",
                ],
            ),
        ],
    ),
    (
        "shadow/src",
        &[
            ("limits", &[]),
            ("clock", &[]),
            ("budget", &[]),
            ("generations", &[]),
            ("named", &[]),
            ("files", &[]),
            ("address", &[]),
            ("json", &["limits"]),
            ("request", &["json"]),
            ("credentials", &["request"]),
            ("answer", &["request", "json"]),
            ("judge", &["answer", "request", "json", "generations", "limits"]),
            ("record", &["credentials", "answer", "request", "budget", "files", "limits"]),
            (
                "evidence",
                &[
                    "record",
                    "judge",
                    "credentials",
                    "answer",
                    "request",
                    "json",
                    "address",
                    "files",
                    "clock",
                    "limits",
                ],
            ),
            ("targets", &["judge", "answer", "request", "address", "clock", "limits"]),
            ("fuzzed", &["targets", "judge", "json", "request"]),
            (
                "cutover",
                &[
                    "targets",
                    "evidence",
                    "judge",
                    "credentials",
                    "answer",
                    "request",
                    "address",
                    "files",
                    "clock",
                    "generations",
                    "limits",
                ],
            ),
            (
                "mirror",
                &[
                    "cutover", "targets", "evidence", "judge", "answer", "request", "budget", "clock",
                    "limits",
                ],
            ),
            (
                "proxy",
                &[
                    "cutover", "targets", "mirror", "evidence", "record", "judge", "answer", "request",
                    "budget", "clock", "limits",
                ],
            ),
            ("replay", &["proxy", "mirror", "evidence", "record"]),
            (
                "config",
                &["proxy", "cutover", "mirror", "evidence", "judge", "credentials", "request", "limits"],
            ),
            ("admin", &["proxy", "cutover", "evidence", "limits"]),
            (
                "run",
                &[
                    "admin", "config", "replay", "proxy", "cutover", "targets", "mirror", "evidence",
                    "record", "judge", "budget", "address", "limits",
                ],
            ),
        ],
    ),
];

/// Rooms that are tested like money: the judge of two services, and what it reads answers with.
const PURE_ROOMS: &[&str] = &["shadow/src/judge", "shadow/src/answer", "shadow/src/json"];
/// What they may not name: whatever reads a clock, a file, a socket, a thread, chance or the environment.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "axum::",
    "hyper::",
    "libc::",
    "rand::",
    "rusqlite::",
    "rustix::",
    "socket2::",
    "tempfile::",
    "tokio::",
    "tracing::",
];

/// The only places that may allow `unsafe`, which the workspace denies. Generated code is FlatBuffers'.
const MAY_BE_UNSAFE: &[&str] = &[
    "bench/src/generator/mod.rs",
    "core/src/mesh/latest.rs",
    "core/src/mesh/ring.rs",
    "core/src/shard/memory.rs",
    "core/src/wire/encode/line.rs",
    "schemas/src/generated.rs",
    "src/drivers/ring/mod.rs",
];

/// The crates of ledgers.
const SOURCES: &[&str] =
    &["sources/kafka/src", "sources/postgres/src", "sources/record/src", "sources/sqlite/src"];

/// Where the server starts threads and tasks other than through `threads`, which ends the process where one panics.
const MAY_START_THREADS: &[&str] = &[
    // The demonstration joins its threads, and ends with what they say.
    "src/cli/demo/load.rs",
    "src/cli/demo/mod.rs",
    // Who asks over a connection is told how that has ended.
    "src/cli/http.rs",
    // These wait for what they have begun, and end with what it says.
    "src/cli/service.rs",
    "src/cli/shadow.rs",
    // Holds what ends the process, and reports how it has started.
    "src/node/shard_thread.rs",
    // Who waits for a profile is told where the thread that takes it has ended.
    "src/profiler/mod.rs",
    "src/threads.rs",
    // Their tasks hold what ends the process.
    "sources/postgres/src/following.rs",
    "sources/postgres/src/reread.rs",
    // Its sessions are joined by a task that does.
    "sources/postgres/src/snapshot.rs",
    "sources/record/src/threads.rs",
];

/// The feed, the loaders and the tasks of the control plane could each die without a word: a panic stays with whoever joins.
#[test]
fn nothing_dies_unseen() {
    let starts = |text: &str| {
        [
            "thread::Builder",
            "thread::spawn(",
            "tokio::spawn(",
            "task::spawn(",
            "spawn_blocking(",
            "JoinSet::new",
        ]
        .iter()
        .any(|way| text.contains(way))
    };
    let found: Vec<String> = ["src"]
        .iter()
        .chain(SOURCES)
        .flat_map(|folder| sources(folder))
        .filter(|(_, text)| starts(text))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert_eq!(found, MAY_START_THREADS, "start it with spawn_vital or spawn_vital_task");
}

#[test]
fn arrows_go_one_way() {
    let mut broken = Vec::new();
    for (folder, layers) in CRATES {
        for (file, text) in sources(folder) {
            let module = module_of(&file, folder);
            if ["lib", "main"].contains(&module.as_str()) {
                continue;
            }
            let Some((_, allowed)) = layers.iter().find(|(name, _)| *name == module) else {
                broken.push(format!(
                    "{}: a new module: give it its place in tests/layering.rs",
                    file.display()
                ));
                continue;
            };
            let foreign = |name: &&String| **name != module && !allowed.contains(&name.as_str());
            for name in siblings_named(&text).iter().filter(foreign) {
                broken.push(format!("{}: {module} may not name crate::{name}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "the layering is broken:\n{}", broken.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    for (folder, layers) in CRATES {
        let place = |name: &str| layers.iter().position(|(layer, _)| *layer == name);
        for (at, (layer, allowed)) in layers.iter().enumerate() {
            // What florin-core holds stands below all of the server.
            let upwards = allowed.iter().find(|name| place(name).is_some_and(|other| other >= at));
            assert_eq!(upwards, None, "{folder}: {layer} may only name what stands above it in the table");
        }
    }
}

#[test]
fn the_rooms_that_judge_do_no_io() {
    for room in PURE_ROOMS {
        for (file, text) in sources(room) {
            let named = IMPURE.iter().find(|name| text.contains(**name));
            assert_eq!(named, None, "{} does no I/O", file.display());
        }
    }
}

/// Serde takes an array of values for a struct: `["100%"]` moved all callers, and a state in an array was believed. Every text is
/// read by `florin-input`, which takes names only, and nothing is read that serde buffers, for that escapes it.
#[test]
fn structs_are_read_by_names_alone() {
    const MAY_READ: &[&str] = &[
        // One struct, without any within it, and an answer that is the legacy service's to the byte.
        "core/src/wire/http/body.rs",
        // Reads no structs: what two services answered, as it is.
        "shadow/src/json/value.rs",
    ];
    let ways = ["serde_json::from_", "serde_json::Deserializer", "toml::from_", "JsonRejection", "Form<"];
    let buffered = ["flatten", "untagged", "tag =", "content ="];
    let is_buffered = |line: &str| line.contains("#[serde(") && buffered.iter().any(|way| line.contains(way));
    let mut found = Vec::new();
    let folders = ["bench/src", "core/src", "src", "shadow/src", "tuning/src", "clients/rust/src"];
    for folder in folders.iter().chain(SOURCES) {
        for (file, text) in sources(folder) {
            let is_reader = ways.iter().any(|way| text.contains(way));
            if is_reader && !MAY_READ.iter().any(|place| file == Path::new(place)) {
                found.push(format!("{}: read it with florin_input", file.display()));
            }
            let derives = text.split("#[derive(").skip(1).filter(|after| {
                let item = after.split("\n}").next().unwrap_or_default();
                let is_read = item.split(')').next().is_some_and(|list| list.contains("Deserialize"));
                // What is made from another struct is read as that.
                is_read && !item.contains("serde(from") && item.lines().any(is_buffered)
            });
            found.extend(derives.map(|_| format!("{}: serde buffers what it reads there", file.display())));
        }
    }
    assert!(found.is_empty(), "an array may be taken for a struct:\n{}", found.join("\n"));
}

#[test]
fn unsafe_stays_within_its_fence() {
    let folders = [
        "core/src",
        "input/src",
        "src",
        "schemas/src",
        "clients/rust/src",
        "shadow/src",
        "bench/src",
        "tuning/src",
    ];
    let open: BTreeSet<String> = folders
        .iter()
        .chain(SOURCES)
        .flat_map(|folder| sources(folder))
        .filter(|(_, text)| text.contains("allow(unsafe_code"))
        .map(|(file, _)| file.display().to_string())
        .collect();
    assert_eq!(open, MAY_BE_UNSAFE.iter().map(|&place| place.to_owned()).collect());
}

#[test]
fn each_way_to_name_a_sibling_is_seen() {
    let text = "use crate::shard::Table;\nuse crate::{limits, wire::{self, Parsed}};\nfn f() { crate::mesh::ring(2) }\n\
                // crate::words\n#[cfg(test)]\nmod tests { use crate::feed; }\n";
    let named: Vec<String> = siblings_named(&production(text)).into_iter().collect();
    assert_eq!(named, ["limits", "mesh", "shard", "wire"]);
}

/// The production code of each file below `folder`.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let is_test = ["tests", "tests.rs", "golden.rs", "generated"].contains(&name.as_str());
            if path.is_dir() && !is_test {
                open.push(path);
            } else if name.ends_with(".rs") && !is_test {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                sources
                    .push((path.strip_prefix(root).expect("below the root").to_owned(), production(&text)));
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} has moved");
    sources.sort();
    sources
}

/// Without comments, and without what only tests see.
fn production(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// `src/wire/http.rs` is of the module `wire`.
fn module_of(file: &Path, folder: &str) -> String {
    let inside = file.strip_prefix(folder).expect("found below it");
    let first = inside.iter().next().expect("a file").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules at the crate's root that a file names, by `crate::` or, for those of florin-core, through the re-export.
fn siblings_named(text: &str) -> BTreeSet<String> {
    let paths = paths_named(text).into_iter().filter(|path| path[0] == "crate");
    // A macro's or a type's name at the root is no module.
    paths
        .filter_map(|mut path| (path.len() > 1).then(|| path.swap_remove(1)))
        .filter(|name| name.starts_with(char::is_lowercase))
        .collect()
}

/// The paths that a text names from `crate`, `super` or `self` on, those of a group one by one.
fn paths_named(text: &str) -> Vec<Vec<String>> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let begins = ["crate::", "super::", "self::"].into_iter().flat_map(|begin| text.match_indices(begin));
    let whole = begins.filter(|(at, _)| !text[..*at].chars().next_back().is_some_and(is_part));
    let trees = whole.map(|(at, _)| {
        let mut depth = 0;
        let end = text[at..].find(|letter: char| {
            depth += i32::from(letter == '{') - i32::from(letter == '}');
            depth < 0 || (depth == 0 && letter != '}' && !is_part(letter))
        });
        &text[at..end.map_or(text.len(), |end| at + end)]
    });
    let words =
        |path: String| -> Vec<String> { path.split("::").map(|word| word.trim().to_owned()).collect() };
    trees.flat_map(branches).map(words).collect()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn branches(tree: &str) -> Vec<String> {
    let Some((stem, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().to_owned()];
    };
    let inside = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let mut depth = 0;
    let parts = inside.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(branches).map(|branch| format!("{}{branch}", stem.trim())).collect()
}
