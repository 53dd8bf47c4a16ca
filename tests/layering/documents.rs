//! What the documents name is there: the files and functions of the map, where links lead, the tests of promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A map that names a file which has moved leads nowhere.
#[test]
fn the_map_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is there");
    let is_place = |text: &&str| {
        text.contains('/')
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter))
            && text.split('/').next().is_some_and(|first| !first.is_empty() && root.join(first).is_dir())
    };
    let places: BTreeSet<&str> = map.split('`').skip(1).step_by(2).filter(is_place).collect();
    let gone: Vec<_> = places.iter().filter(|place| !root.join(place).exists()).collect();
    assert!(places.len() > 40 && gone.is_empty(), "ARCHITECTURE.md names what is not there: {gone:?}");
}

/// The functions that the map of a request names are in the files beside them, or in those of the next hop.
#[test]
fn each_hop_is_where_the_map_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is there");
    let (_, section) = map.split_once("## A request, hop by hop").expect("the map has them");
    let table = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let hops: Vec<Vec<&str>> =
        table.take_while(|line| line.starts_with('|')).map(|line| line.split('|').collect()).collect();
    let text_of = |cell: &str| {
        let mut folder = PathBuf::new();
        let mut text = String::new();
        for place in cell.split('`').skip(1).step_by(2) {
            let path = if place.contains('/') { root.join(place) } else { folder.join(place) };
            let files = if path.is_dir() { files_in(&path) } else { vec![path.clone()] };
            folder = if path.is_dir() { path } else { path.parent().expect("a folder").to_owned() };
            files.iter().for_each(|file| text += &fs::read_to_string(file).expect("a file of the map"));
        }
        text
    };
    let texts: Vec<String> = hops.iter().map(|cells| text_of(cells[2])).collect();
    let mut astray = Vec::new();
    for (at, cells) in hops.iter().enumerate() {
        let here = [&texts[at][..], texts.get(at + 1).map_or("", String::as_str)];
        for named in cells[3].split('`').skip(1).step_by(2).filter(|named| !named.contains('/')) {
            let function = named.rsplit("::").next().unwrap_or(named);
            let is_there =
                |text: &&str| ["(", "<"].iter().any(|end| text.contains(&format!("fn {function}{end}")));
            if !here.iter().any(is_there) {
                astray.push(format!("{}: {named}", cells[2].trim()));
            }
        }
    }
    assert!(
        hops.len() > 8 && astray.is_empty(),
        "ARCHITECTURE.md names functions that are elsewhere: {astray:?}"
    );
}

/// The files of a folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_file()).collect()
}

/// Where an anchor leads, as GitHub makes them of headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: char| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => {
            Some(letter.to_ascii_lowercase())
        }
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(kept).collect()).collect()
}

/// A link to what has moved leads nowhere, and a runbook is read when there is no time to look for it.
#[test]
fn the_documents_links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = Vec::new();
    for folder in ["", "docs", "schemas", "tuning", "clients/rust", "clients/go", "bench/legacy"] {
        let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
        let paths = entries.map(|entry| entry.expect("a readable folder").path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let (mut broken, mut links) = (Vec::new(), 0);
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page");
        // Every second part lies within a fence.
        for part in text.split("```").step_by(2) {
            for after in part.split("](").skip(1) {
                let target = after.split([')', ' ']).next().unwrap_or_default();
                if target.contains("://") || target.starts_with("mailto:") || target.is_empty() {
                    continue;
                }
                links += 1;
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
                let leads = path.exists()
                    && (anchor.is_empty()
                        || fs::read_to_string(&path).is_ok_and(|text| anchors(&text).contains(anchor)));
                if !leads {
                    broken.push(format!("{}: {target}", page.display()));
                }
            }
        }
    }
    assert!(links > 100 && broken.is_empty(), "of {links} links these lead nowhere:\n{}", broken.join("\n"));
}

/// A promise whose test has another name by now is held by nobody.
#[test]
fn promises_name_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).expect("it is there");
    let is_test = |word: &&str| {
        word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && (word.matches('_').count() > 2 || (word.starts_with("Test") && word.len() > 8))
    };
    let mut named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    let count = named.len();
    let mut open: Vec<PathBuf> = ["core", "src", "input", "sources", "tests", "clients", "fuzz"]
        .iter()
        .map(|folder| root.join(folder))
        .collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            let ends = |end: &str| path.extension().is_some_and(|extension| extension == end);
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
                open.push(path);
            } else if ends("rs") || ends("go") {
                let text = fs::read_to_string(&path).expect("a text");
                named.retain(|name| {
                    !text.contains(&format!("fn {name}(")) && !text.contains(&format!("func {name}("))
                });
            }
        }
    }
    assert!(count > 50 && named.is_empty(), "docs/promises.md names no test of ours: {named:?}");
}
