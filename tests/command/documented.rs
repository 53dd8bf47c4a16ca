//! docs/postgres.md, as somebody follows it who copies its commands: all of them are run, in their order, against a real server.
//!
//! | block | what is done with it |
//! | --- | --- |
//! | `sql` | psql, as the superuser |
//! | `toml` | is the node's florin.toml |
//! | `sh` | a shell; `florin serve` is left running |
//! | `conf` | nothing: settings of a standby, which is not here |
//! | `text` | is among what the last `sh` said, however many blanks are between its words |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::blocks::blocks;
use crate::postgres::Server as Postgres;
use crate::support::{Server, florin, wait_for, write};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/postgres.md");

struct Reader {
    /// The last one is asked; they end before what they follow.
    nodes: Vec<Server>,
    folder: TempDir,
    postgres: Postgres,
    said: String,
}

impl Reader {
    fn new() -> Reader {
        let postgres = Postgres::start();
        postgres.sql("CREATE DATABASE payments");
        Reader { folder: TempDir::new().unwrap(), postgres, nodes: Vec::new(), said: String::new() }
    }

    /// A command as it is run here: another host and other ports.
    fn here(&self, text: &str) -> String {
        let server = format!("127.0.0.1:{}", self.postgres.port);
        let text = text
            .replace("@db.example.org/", &format!("@{server}/"))
            .replace("postgres@/", &format!("postgres@{server}/"));
        match self.nodes.last() {
            None => text,
            Some(node) => text
                .replace("127.0.0.1:7300", &node.admin.to_string())
                .replace("127.0.0.1:7400", &node.addr()),
        }
    }

    fn sql(&self, text: &str) {
        let mut psql = self.postgres.client("psql");
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "payments"]);
        let mut psql = psql.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut psql.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let done = psql.wait_with_output().unwrap();
        assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    }

    fn sh(&mut self, text: &str) {
        self.said.clear();
        for line in text.lines() {
            let line = self.here(line);
            if let Some(arguments) = line.strip_prefix("florin serve ") {
                let arguments: Vec<&str> = arguments.split(' ').map(|word| word.trim_matches('\'')).collect();
                self.nodes.push(Server::start(self.folder.path(), &arguments));
                continue;
            }
            let path = Path::new(env!("CARGO_BIN_EXE_florin")).parent().expect("a folder").to_owned();
            let others = std::env::var_os("PATH").unwrap_or_default();
            let all = [path].into_iter().chain(std::env::split_paths(&others));
            let all = std::env::join_paths(all.collect::<Vec<PathBuf>>()).unwrap();
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).env("PATH", all).current_dir(self.folder.path()).stdin(Stdio::null());
            let done = shell.output().unwrap();
            self.said.push_str(&String::from_utf8_lossy(&done.stdout));
            assert!(done.status.success(), "{line}\n{done:?}");
        }
    }

    fn read(&mut self, kind: &str, text: &str) {
        match kind {
            "sql" => self.sql(text),
            "toml" => drop(write(self.folder.path(), "florin.toml", &self.here(text))),
            "sh" => self.sh(text),
            "text" => {
                let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
                let said: Vec<String> = self.said.lines().map(plain).collect();
                for line in text.lines() {
                    assert!(said.contains(&plain(line)), "{line} is missing in\n{}", self.said);
                }
            }
            "conf" => {}
            other => panic!("a block of {other:?} is run by nobody"),
        }
    }
}

#[test]
fn every_command_of_the_page_about_postgres_works() {
    let mut reader = Reader::new();
    let blocks = blocks(&fs::read_to_string(PAGE).unwrap());
    assert!(blocks.len() > 12, "{} blocks", blocks.len());
    for block in &blocks {
        reader.read(&block.kind, &block.text);
    }
    assert_eq!(reader.nodes.len(), 2, "one on florin's own table, one on another's");
    // The first is there still: the row that was added to its table is answered.
    let node = reader.nodes[0].addr();
    let asked = ["get", "balance", "42", "--json", "--addr", &node];
    wait_for("the row", || {
        florin(reader.folder.path(), &asked).output().unwrap().status.success().then_some(())
    });
}
