//! What is said of each host, word for word. `FLORIN_BLESS=1 cargo test --workspace --test plans` writes it anew: read
//! the difference before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use florin_tune::TuneCommand;
use florin_tune::host::Facts;

use crate::machines;

#[derive(Parser)]
pub struct Cli {
    #[command(subcommand)]
    pub command: TuneCommand,
}

/// Runs `florin tune` with these words; gives what it prints, and how it ends.
pub fn tune(words: &[&str]) -> (String, Result<(), florin_tune::TuneError>) {
    let cli = Cli::try_parse_from(["tune"].iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let outcome = florin_tune::run(&cli.command, &mut out);
    (String::from_utf8(out).unwrap(), outcome)
}

/// A recorded tree of a host.
pub struct Tree(tempfile::TempDir);

impl Tree {
    pub fn of(facts: &Facts) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        facts.write(folder.path()).unwrap();
        Tree(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `florin tune COMMAND --root TREE …`.
    pub fn tune(&self, words: &[&str]) -> (String, Result<(), florin_tune::TuneError>) {
        let root = self.path().to_str().unwrap();
        let words: Vec<&str> =
            words[..1].iter().chain(&["--root", root]).chain(&words[1..]).copied().collect();
        tune(&words)
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/golden").join(name)
}

fn assert_golden(path: &Path, text: &str) {
    if std::env::var_os("FLORIN_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let differs = expected.lines().zip(text.lines()).position(|(expected, found)| expected != found);
    let line = differs.unwrap_or(expected.lines().count().min(text.lines().count()));
    assert!(
        expected == text,
        "{} is another one, from line {} on:\nexpected {:?}\nfound    {:?}",
        path.display(),
        line + 1,
        expected.lines().nth(line),
        text.lines().nth(line)
    );
}

/// One host's picture, checks and plan in one file, so that a change is seen in its context.
fn assert_host(name: &str, facts: &Facts, flags: &[&str]) {
    let tree = Tree::of(facts);
    let mut text = String::new();
    for command in ["show", "check", "plan"] {
        let words: Vec<&str> = [command].iter().chain(flags).copied().collect();
        let (printed, outcome) = tree.tune(&words);
        let end = outcome.map_or_else(|error| format!("(exit code 1: {error})\n"), |()| String::new());
        text.push_str(&format!("$ florin tune {}\n{printed}{end}\n", words.join(" ")));
    }
    assert_golden(&golden(&format!("{name}.txt")), &text);
}

#[test]
fn a_laptop_gives_its_large_cores_to_shards_and_keeps_house_on_a_small_one() {
    assert_host("laptop", &machines::laptop(), &[]);
}

#[test]
fn two_sockets_have_shards_on_both_nodes_beside_their_nics() {
    assert_host("two-sockets", &machines::two_sockets(), &[]);
}

#[test]
fn of_eight_nodes_the_nics_is_filled_first() {
    assert_host("many-nodes", &machines::many_nodes(), &["--shards", "24", "--nic", "ens3f0np0"]);
}

#[test]
fn a_vm_keeps_within_its_cpuset() {
    assert_host("vm", &machines::vm(), &["--nic", "eth0"]);
}

#[test]
fn a_container_is_told_what_only_its_host_can_change() {
    assert_host("container", &machines::container(), &["--nic", "eth0"]);
}

#[test]
fn the_plan_has_each_form() {
    let tree = Tree::of(&machines::vm());
    for (form, file) in [("--json", "vm.json"), ("--shell", "vm.sh"), ("--systemd", "vm.units")] {
        let (text, outcome) = tree.tune(&["plan", "--shards", "4", form]);
        outcome.unwrap();
        assert_golden(&golden(file), &text);
    }
}

#[test]
fn the_picture_in_the_documentation_is_that_of_the_host_with_two_sockets() {
    let (text, outcome) = Tree::of(&machines::two_sockets()).tune(&["show", "--svg", "--shards", "16"]);
    outcome.unwrap();
    assert_golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/two-sockets.svg"), &text);
}

#[test]
fn a_record_of_a_tree_is_that_tree() {
    let tree = Tree::of(&machines::vm());
    let copy = tempfile::tempdir().unwrap();
    let folder = copy.path().join("record");
    tree.tune(&["record", folder.to_str().unwrap()]).1.unwrap();
    assert_eq!(Facts::gather(&folder).unwrap(), Facts::gather(tree.path()).unwrap());
    assert_eq!(Facts::gather(&folder).unwrap(), machines::vm());
}
