//! Every command of every page is run by a test, or stands below with the reason why not: a command that nobody has run does not work.
//!
//! A command is what stands in a block of `sh` or `console` (there, behind a `$`), or in a block that is indented by four and is no
//! configuration. `followed.rs` runs those that are [`Run::Here`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::blocks::blocks;

/// What becomes of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// `followed.rs` runs it, with the others of its page and in their order.
    Here,
    /// The test of this name runs it.
    By(&'static str),
    /// Make has such a target, and says what it would do.
    Make,
    /// Nobody runs it, because …
    Not(&'static str),
}

use Run::{By, Here, Make, Not};

const POSTGRES: Run = By("every_command_of_the_page_about_postgres_works");
const KAFKA: Run = By("a_topic_is_made_checked_and_followed_and_what_is_wrong_in_it_is_counted");
const OPERATING: Run = By("every_command_of_the_page_about_operating_works");
const MIGRATING: Run = By("every_step_of_the_migration_and_every_way_back_works");
const SECURITY: Run = By("every_command_of_the_page_about_security_works");
const PACKAGE: Run = By("the_package_starts_nothing_by_itself_and_serves_once_it_is_started");
const UPGRADE: Run = By("an_upgrade_under_load_loses_no_request");
const SAVED_PLAN: Run = By("a_saved_plan_holds_while_its_unit_is_active_and_is_taken_back_when_it_stops");
const APPLIED: Run = By("what_is_applied_holds_and_what_is_reverted_is_as_it_was");
const RECORDED: Run = By("two_sockets_have_shards_on_both_nodes_beside_their_nics");
const MEASURES: Run = Not("measures for minutes or hours, on CPUs that do nothing else");
const RELEASE: Run = Not("compiles everything for minutes; the tests build the same without optimisation");

/// Page, or any, how its commands begin, and what becomes of them. The longest beginning that fits counts.
#[rustfmt::skip]
const PAGES: &[(&str, &str, Run)] = &[
    ("", "make ", Make),
    ("", "florin-bench ", MEASURES),
    ("", "cargo run --release --example ", MEASURES),
    ("README.md", "cargo build --release", RELEASE),
    ("README.md", "export PATH=", Not("the tests have the program on their path")),
    ("README.md", "", Here),
    ("CONTRIBUTING.md", "cargo test", Not("is a part of what runs this test")),
    ("docs/audit.md", "", Here),
    ("docs/capacity.md", "florin size ", By("what_the_page_about_capacity_shows_is_printed")),
    ("docs/console.md", "florin top ", By("top_shows_a_node_by_tls_to_whom_it_knows")),
    ("docs/console.md", "curl ", By("top_shows_a_node_by_tls_to_whom_it_knows")),
    ("docs/deploy.md", "cargo build --release", RELEASE),
    ("docs/deploy.md", "cargo run --release --example pages", By("each_command_has_a_man_page_and_each_shell_a_completion")),
    ("docs/deploy.md", "cargo deb", PACKAGE),
    ("docs/deploy.md", "sudo apt install ./target", PACKAGE),
    ("docs/deploy.md", "sudo apt install ./florin_NEW.deb", UPGRADE),
    ("docs/deploy.md", "sudo -u florin florin import", Here),
    ("docs/deploy.md", "sudo systemctl enable", By("restarts_under_load_lose_no_connection_and_no_request")),
    ("docs/deploy.md", "systemctl status florin", Not("shows what the package's test asks `systemctl show` for")),
    ("docs/deploy.md", "sudo FLORIN_DELETE_LEDGER=yes apt purge",
        By("a_removal_stops_the_node_and_a_purge_leaves_the_ledger_and_nothing_else")),
    ("docs/kafka.md", "", KAFKA),
    ("docs/kafka.md", "florin serve --ledger kafka://broker:9092/ledger --group ", By("three_nodes_divide_a_topic_and_no_read_fails_whatever_becomes_of_one")),
    ("docs/kafka.md", "florin publish ", By("a_ledger_is_published_once_however_often_and_the_topics_answers_are_the_ledgers")),
    ("docs/languages.md", "redis-cli ", Here),
    ("docs/migrating.md", "", MIGRATING),
    ("docs/operating.md", "", OPERATING),
    ("docs/performance.md", "perf ", MEASURES),
    ("docs/postgres.md", "", POSTGRES),
    ("docs/profiles.md", "curl ", By("a_profile_under_load_names_what_the_shard_does")),
    ("docs/profiles.md", "go tool pprof", By("a_profile_under_load_names_what_the_shard_does")),
    ("docs/profiles.md", "sysctl ", Not("changes the host")),
    ("docs/runbook.md", "", Here),
    ("docs/runbook.md", "journalctl ", By("a_reload_takes_over_what_is_logged_and_a_mistake_changes_nothing")),
    ("docs/security.md", "", SECURITY),
    ("docs/shadow.md", "florin shadow ", MIGRATING),
    ("docs/shadow.md", "curl ", MIGRATING),
    ("docs/shadow.md", "CANDIDATE=", MEASURES),
    ("docs/shadow.md", "scripts/shadow-latency", MEASURES),
    ("docs/shadow.md", "LOAD=half", MEASURES),
    ("docs/tuning.md", "florin tune show", RECORDED),
    ("docs/tuning.md", "florin tune check", RECORDED),
    ("docs/tuning.md", "florin tune plan", RECORDED),
    ("docs/tuning.md", "florin tune plan --shards 16 --json >", SAVED_PLAN),
    ("docs/tuning.md", "florin tune apply", APPLIED),
    ("docs/tuning.md", "florin tune apply --shards 16 --dry-run", By("a_rehearsal_touches_nothing")),
    ("docs/tuning.md", "florin tune revert", APPLIED),
    ("docs/tuning.md", "florin tune verify", SAVED_PLAN),
    ("docs/tuning.md", "florin tune watch", By("a_network_of_its_own_is_set_up_drifts_and_is_restored")),
    ("docs/tuning.md", "systemctl enable --now florin-tune", SAVED_PLAN),
    ("tuning/backlog.md", "nstat ", Not("reads counters of the host's, which mean something under load alone")),
    ("tuning/coalescing.md", "for us in", Not("sets a NIC")),
    ("tuning/irqbalance.md", "florin tune apply", APPLIED),
    ("tuning/swappiness.md", "grep VmSwap", Not("reads what a node that runs for weeks has been swapped")),
    ("clients/go/README.md", "go get ", Not("the module is not published yet")),
    ("clients/go/README.md", "go vet ./... && go test", Not("is what scripts/test-go does, in `make test`")),
    ("clients/go/README.md", "go test -fuzz", Not("goes on without end")),
];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages whose commands are looked at.
pub fn pages() -> Vec<String> {
    let below = |folder: &'static str| {
        let files = fs::read_dir(root().join(folder)).expect("a readable folder");
        let names =
            files.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
        names.filter(|name| name.ends_with(".md")).map(move |name| format!("{folder}/{name}"))
    };
    let mut pages: Vec<String> = below("docs").chain(below("tuning")).collect();
    pages.extend(
        ["README.md", "CONTRIBUTING.md", "clients/go/README.md", "clients/rust/README.md"].map(str::to_owned),
    );
    pages.sort();
    pages
}

/// A page's commands, each on one line and without its comment, in their order.
fn commands(page: &str) -> Vec<String> {
    commands_of(&fs::read_to_string(root().join(page)).expect("a page"))
}

fn commands_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in blocks(text) {
        // What else stands behind it is for the test that runs it.
        match block.kind.split_whitespace().next().unwrap_or_default() {
            "sh" => found.extend(joined(block.text.lines())),
            "console" => {
                found.extend(joined(block.text.lines().filter_map(|line| line.strip_prefix("$ "))));
            }
            "bash" | "shell" | "" => {
                panic!("a block of commands is `sh` or `console`, not {:?}:\n{}", block.kind, block.text)
            }
            _ => {}
        }
    }
    found.extend(joined(indented(text).filter(|line| !is_configuration(line))));
    found
}

/// The lines of blocks that are indented by four.
fn indented(page: &str) -> impl Iterator<Item = &str> {
    let (mut is_fenced, mut was_code, mut was_blank) = (false, false, true);
    page.lines().filter_map(move |line| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        }
        let is_code =
            !is_fenced && line.starts_with("    ") && !line.trim().is_empty() && (was_code || was_blank);
        (was_code, was_blank) = (is_code, line.trim().is_empty());
        is_code.then(|| line.trim())
    })
}

/// A key with its value, a section, a comment, a list's entry.
fn is_configuration(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    let is_assigned = line.split_whitespace().nth(1) == Some("=") || (first.contains('=') && first == line);
    is_assigned || line.starts_with(['[', '#', '-', '{']) || line.ends_with(':')
}

/// Lines that go on behind a backslash, or within quotes, are one command.
fn joined<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let line = line.split("  #").next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match commands.last_mut().filter(|_| goes_on) {
            Some(command) => *command = format!("{} {line}", command.trim_end_matches('\\').trim_end()),
            None => commands.push(line.to_owned()),
        }
        let command = commands.last().expect("one was begun");
        goes_on = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
    }
    commands
}

/// The row of a command.
fn row(page: &str, command: &str) -> Option<usize> {
    let fits = |&(_, row): &(usize, &(&str, &str, Run))| {
        (row.0 == page || row.0.is_empty()) && command.starts_with(row.1)
    };
    let fitting = PAGES.iter().enumerate().filter(fits);
    fitting.max_by_key(|(_, row)| row.1.len()).map(|(place, _)| place)
}

/// Those of a page that are run here.
pub fn to_run(page: &str) -> Vec<String> {
    let is_here = |command: &String| row(page, command).is_some_and(|place| PAGES[place].2 == Here);
    commands(page).into_iter().filter(is_here).collect()
}

/// The pages that have any.
pub fn followed() -> Vec<String> {
    pages().into_iter().filter(|page| !to_run(page).is_empty()).collect()
}

#[test]
fn every_command_of_every_page_is_run_or_has_a_reason() {
    let mut used = BTreeSet::new();
    let mut unknown = Vec::new();
    let mut count = 0;
    for page in pages() {
        for command in commands(&page) {
            count += 1;
            match row(&page, &command) {
                Some(place) => drop(used.insert(place)),
                None => unknown.push(format!("{page}: {command}")),
            }
        }
    }
    assert!(count > 80, "{count} commands are not all");
    assert!(
        unknown.is_empty(),
        "expected a row of PAGES for each command, found none for:\n{}\nRun it in a test, or say there why nobody does",
        unknown.join("\n")
    );
    let unused: Vec<_> =
        (0..PAGES.len()).filter(|place| !used.contains(place)).map(|place| PAGES[place]).collect();
    assert!(unused.is_empty(), "no page has such a command any more: {unused:?}");
}

#[test]
fn a_command_is_found_however_it_stands() {
    let page = "# A page\n\n    make run     # see it\n    key = \"value\"\n\n```sh back\nflorin a \\\n    --b 'c\nd'  # why\n\n\
                florin e\n```\n\n```console\n$ florin f\nsaid\n```\n\n- an item,\n    that goes on\n\n```text\nnone\n```\n";
    assert_eq!(commands_of(page), ["florin a --b 'c d'", "florin e", "florin f", "make run"]);
    assert_eq!(row("docs/logs.md", "florin something-new"), None);
    assert_eq!(row("docs/deploy.md", "florin something-new"), None);
}

#[test]
fn tests_that_are_to_run_commands_are_there() {
    let mut named: BTreeSet<&str> = PAGES
        .iter()
        .filter_map(|row| match row.2 {
            By(test) => Some(test),
            Here | Make | Not(_) => None,
        })
        .collect();
    let mut open: Vec<PathBuf> = ["tests", "tuning/tests"].iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                named.retain(|name| !text.contains(&format!("fn {name}(")));
            }
        }
    }
    assert!(named.is_empty(), "there is no test of this name: {named:?}");
}

#[test]
fn make_has_every_target_that_a_page_names() {
    let mut count = 0;
    for page in pages() {
        for command in commands(&page) {
            if row(&page, &command).is_some_and(|place| PAGES[place].2 == Make) {
                count += 1;
                let target = command.split_whitespace().nth(1).expect("a target");
                let mut make = std::process::Command::new("make");
                let said = make
                    .args(["--dry-run", target])
                    .env_remove("MAKEFLAGS")
                    .current_dir(root())
                    .output()
                    .expect("make is there");
                assert!(said.status.success() && !said.stdout.is_empty(), "{page}: {command}: {said:?}");
            }
        }
    }
    assert!(count >= 4, "{count} commands of make are not all");
}
