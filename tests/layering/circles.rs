//! Files of a crate name each other one way: two that name each other can be read only together, and are one file in two places.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{SOURCES, paths_named, sources};

/// A file, by its place among the crate's modules.
type Module = Vec<String>;

#[test]
fn files_name_each_other_one_way() {
    let crates =
        ["core/src", "src", "input/src", "shadow/src", "bench/src", "tuning/src", "clients/rust/src"];
    let mut circles = Vec::new();
    for folder in crates.iter().chain(SOURCES) {
        let files: BTreeMap<Module, String> =
            sources(folder).into_iter().map(|(file, text)| (module(&file, folder), text)).collect();
        let named: BTreeMap<&Module, BTreeSet<&Module>> =
            files.iter().map(|(module, text)| (module, named_by(module, text, &files))).collect();
        for &module in named.keys() {
            if let Some(back) = way_back(module, &named) {
                circles.push(format!("{folder}: {} is named by {}", module.join("::"), back.join("::")));
            }
        }
    }
    assert!(circles.is_empty(), "what both need belongs below both:\n{}", circles.join("\n"));
}

/// `src/wire/http/mod.rs` is `wire::http`.
fn module(file: &Path, folder: &str) -> Module {
    let inside = file.strip_prefix(folder).expect("found below it").with_extension("");
    let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The files that one names, but for those that it lies in and those that lie in it: a room and its doors are one thing.
fn named_by<'a>(module: &Module, text: &str, files: &'a BTreeMap<Module, String>) -> BTreeSet<&'a Module> {
    let found = paths_named(text).into_iter().filter_map(|path| {
        let ups = path.iter().take_while(|word| *word == "super").count();
        let from = match path[0].as_str() {
            "crate" => 0,
            _ => module.len().checked_sub(ups)?,
        };
        let rest = path.iter().skip(ups.max(1));
        let whole: Module = module[..from].iter().chain(rest).cloned().collect();
        (1..=whole.len()).rev().find_map(|length| files.get_key_value(&whole[..length])).map(|(file, _)| file)
    });
    found.filter(|file| !file.starts_with(module) && !module.starts_with(file)).collect()
}

/// The last file on a way from one back to itself.
fn way_back<'a>(module: &Module, named: &BTreeMap<&Module, BTreeSet<&'a Module>>) -> Option<&'a Module> {
    let mut open: Vec<&'a Module> = named[&module].iter().copied().collect();
    let mut seen = BTreeSet::new();
    while let Some(file) = open.pop() {
        if named[&file].contains(module) {
            return Some(file);
        }
        if seen.insert(file) {
            open.extend(named[&file].iter().copied());
        }
    }
    None
}
