//! docs/operating.md, as an operator follows it: all of its commands are run, in their order. Where a command is systemd's or apt's, what
//! they would do is done; `tests/systemd` does it under a real one.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::blocks::blocks;
use crate::support::{Server, end, folder_with_ledger, run, run_with_input, transaction, write};

const PAGE: &str = include_str!("../../docs/operating.md");

struct Operator {
    node: Option<Server>,
    folder: TempDir,
    /// What the last section's commands said.
    said: String,
}

impl Operator {
    fn new() -> Operator {
        let folder = folder_with_ledger();
        std::fs::rename(folder.path().join("florin.db"), folder.path().join("ledger.db")).unwrap();
        let below = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "ledger = \"sqlite:{}\"\ncheckpoint = \"{}\"\n",
            below("ledger.db"),
            below("checkpoints")
        );
        write(folder.path(), "florin.toml", &config);
        let mut operator = Operator { node: None, folder, said: String::new() };
        operator.start();
        operator
    }

    fn start(&mut self) {
        assert!(self.node.is_none(), "it was stopped before");
        self.node = Some(Server::start(self.folder.path(), &["--shards", "1", "--config", "florin.toml"]));
    }

    fn stop(&mut self) {
        let node = self.node.take().expect("it runs");
        node.signal(Signal::TERM);
        assert_eq!(node.ended().0, Some(0));
    }

    /// A command as it is run here.
    fn here(&self, line: &str) -> String {
        let folder = format!("{}/", self.folder.path().display());
        let line = line
            .replace("sudo -u florin ", "")
            .replace("sudo ", "")
            .replace("/tmp/florin-support", "florin-support")
            // Of a node that no unit has started the journal has nothing.
            .replace("florin support ", "florin support --log rows.csv ");
        let line = ["/var/lib/florin/", "/etc/florin/"]
            .iter()
            .fold(line, |line, place| line.replace(place, &folder));
        match &self.node {
            Some(node) => line
                .replace("127.0.0.1:7300", &node.admin.to_string())
                .replace("127.0.0.1:7400", &node.addr()),
            None => line,
        }
    }

    fn section(&mut self, name: &str) {
        self.said.clear();
        let blocks = blocks(PAGE);
        let of_section: Vec<_> = blocks.iter().filter(|block| block.section == name).collect();
        assert!(!of_section.is_empty(), "no commands below {name:?}");
        for line in of_section.iter().flat_map(|block| block.text.lines()) {
            match self.here(line).as_str() {
                "systemctl stop florin" => self.stop(),
                "systemctl start florin" => self.start(),
                "systemctl restart florin" => {
                    self.stop();
                    self.start();
                }
                // The program of before and of after are one here.
                package if package.starts_with("apt install ") => assert!(package.ends_with(".deb")),
                command => self.said.push_str(&shell(self.folder.path(), command)),
            }
        }
    }

    fn balance(&self) -> String {
        let node = self.node.as_ref().expect("it runs").addr();
        run(self.folder.path(), &["get", "balance", "1", "--json", "--addr", &node]).ok()
    }
}

/// What a command says, run as it stands.
pub fn shell(folder: &Path, command: &str) -> String {
    let florin = Path::new(env!("CARGO_BIN_EXE_florin")).parent().expect("a folder").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = [florin].into_iter().chain(std::env::split_paths(&others)).collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("PATH", std::env::join_paths(path).unwrap()).current_dir(folder);
    end(shell, "").ok()
}

#[test]
fn every_command_of_the_page_about_operating_works() {
    let mut operator = Operator::new();
    operator.section("Back up");
    assert!(operator.said.ends_with("ok\n"), "{}", operator.said);
    let before = operator.balance();
    let admin = operator.node.as_ref().unwrap().admin.to_string();
    let more = transaction(9, 1, "700");
    run_with_input(operator.folder.path(), &["apply", "--admin", &admin, "-"], &more).ok();
    crate::support::wait_for("the new balance", || (operator.balance() != before).then_some(()));
    operator.section("Restore");
    assert_eq!(operator.balance(), before, "as it was backed up");
    operator.section("Upgrade");
    assert!(operator.said.contains("\"ready\":true"), "{}", operator.said);
    operator.section("Go back");
    assert_eq!(operator.balance(), before);
    operator.section("Look after the ledger");
    assert!(operator.said.contains("3|3\n"), "{}", operator.said);
    operator.section("Ask for help");
    assert!(operator.folder.path().join("florin-support/metrics.txt").exists());
    let all: std::collections::BTreeSet<_> = blocks(PAGE).into_iter().map(|block| block.section).collect();
    assert_eq!(all.len(), 6, "a section whose commands nobody runs: {all:?}");
}

#[test]
fn what_the_page_about_capacity_shows_is_printed() {
    let page = include_str!("../../docs/capacity.md");
    let command = page.lines().find(|line| line.starts_with("    florin size ")).expect("an example");
    let printed = shell(Path::new("/"), command.trim());
    for what in ["memory ", "checkpoints ", "frames, one by one", "JSON over HTTP"] {
        assert!(printed.contains(what), "{what}: {printed}");
    }
}
