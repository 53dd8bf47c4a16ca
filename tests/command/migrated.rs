//! docs/migrating.md, as a team follows it: every command of each step is run, and of each way back. Another node plays the service that is
//! replaced; callers come through the proxy wherever there is one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::blocks::{Block, blocks};
use crate::operated::shell;
use crate::support::{Server, florin, folder_with_ledger, get, wait_for, write};

const PAGE: &str = include_str!("../../docs/migrating.md");
/// Each caller's round: a balance and a statistic of both users, and a batch.
const ROUND: u64 = 5;
const ROUNDS: u64 = 8;

/// `florin shadow` in the background; killed when dropped.
pub struct Proxy {
    child: Child,
    _out: BufReader<ChildStdout>,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    pub fn start(folder: &Path, command: &str) -> Proxy {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
        let mut child =
            florin(folder, &arguments).stdout(Stdio::piped()).spawn().expect("the command was built");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut address = |name: &str| -> SocketAddr {
            let mut line = String::new();
            while !line.trim_start().starts_with(name) {
                line.clear();
                assert!(
                    out.read_line(&mut line).expect("UTF-8") > 0,
                    "it ended before it said its addresses: {command}"
                );
            }
            let last = line.split_whitespace().last().expect("an address");
            last.trim_start_matches("http://").parse().expect("an address")
        };
        let listen = address("listen");
        let admin = command.contains("--admin").then(|| address("admin"));
        Proxy { child, _out: out, listen, admin }
    }

    /// Where callers come.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let code = wait_for("the proxy's end", || self.child.try_wait().expect("our own child")).code();
        assert_eq!(code, Some(0), "consistent, complete and proven");
    }
}

struct Team {
    proxy: Option<Proxy>,
    node: Option<Server>,
    service: Server,
    folder: TempDir,
    said: String,
}

impl Team {
    fn new() -> Team {
        let folder = folder_with_ledger();
        std::fs::rename(folder.path().join("florin.db"), folder.path().join("ledger.db")).unwrap();
        let ledger = format!("sqlite:{}", folder.path().join("ledger.db").display());
        write(folder.path(), "florin.toml", &format!("ledger = \"{ledger}\"\n"));
        let service = Server::start(folder.path(), &["--shards", "1", "--ledger", &ledger]);
        Team { proxy: None, node: None, service, folder, said: String::new() }
    }

    /// A command as it is run here.
    fn here(&self, line: &str) -> String {
        let folder = format!("{}/", self.folder.path().display());
        let mut line = line.replace("sudo ", "").replace("/var/lib/florin/", &folder);
        line = line.replace("127.0.0.1:7500", &self.service.addr());
        if let Some(node) = &self.node {
            line = line.replace("127.0.0.1:7400", &node.addr());
        }
        let proxy = self.proxy.as_ref();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listen, admin) = (proxy.map_or(free, |proxy| proxy.listen), proxy.and_then(|proxy| proxy.admin));
        line.replace("127.0.0.1:8080", &listen.to_string())
            .replace("127.0.0.1:7601", &admin.unwrap_or(free).to_string())
    }

    /// Callers who come through the proxy, and are answered.
    fn callers(&self) {
        let address = self.proxy.as_ref().expect("they come through it").listen;
        for _ in 0..ROUNDS {
            for user in 1..=2 {
                for what in ["balance", "statistics"] {
                    let answer = get(address, &format!("/v1/users/{user}/{what}"));
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                }
            }
            let body = "{\"user_ids\":[\"1\",\"2\"]}";
            let mut stream = TcpStream::connect(address).expect("the proxy listens");
            write!(
                stream,
                "POST /v1/balances:batchGet HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            )
            .expect("a connection");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }

    /// All that callers have asked has its verdict.
    fn settled(&self) -> Value {
        let admin = self.proxy.as_ref().and_then(|proxy| proxy.admin).expect("it has an admin port");
        wait_for("the verdicts", || {
            let answer = get(admin, "/v1/shadow");
            let state: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
            let is_settled = state["queue"]["open"] == 0 && state["requests"].as_u64()? >= ROUND * ROUNDS;
            is_settled.then_some(state)
        })
    }

    fn run(&mut self, block: &Block) {
        for line in block.text.lines() {
            match self.here(line).as_str() {
                "systemctl start florin" => {
                    self.node = Some(Server::start(
                        self.folder.path(),
                        &["--shards", "2", "--config", "florin.toml"],
                    ));
                }
                "systemctl stop florin" => drop(self.node.take()),
                "kill %1; wait %1" => {
                    self.callers();
                    self.proxy.take().expect("it runs").end();
                }
                command => match command.strip_suffix(" &") {
                    Some(command) => self.proxy = Some(Proxy::start(self.folder.path(), command)),
                    None => self.said = shell(self.folder.path(), command),
                },
            }
        }
    }

    fn step(&mut self, number: usize, kind: &str) {
        let begins = format!("{number}. ");
        let all = blocks(PAGE);
        let of_step: Vec<&Block> =
            all.iter().filter(|block| block.section.starts_with(&begins) && block.kind == kind).collect();
        assert!(!of_step.is_empty(), "step {number} has no {kind}");
        of_step.into_iter().for_each(|block| self.run(block));
    }
}

#[test]
fn every_step_of_the_migration_and_every_way_back_works() {
    let mut team = Team::new();
    let block = blocks(PAGE).into_iter().find(|block| block.kind == "toml").expect("what is enough");
    let enough = block.text.replace("answers = 300", "answers = 3").replace("users = 100", "users = 2");
    assert_ne!(enough, block.text);
    write(team.folder.path(), "shadow.toml", &enough);
    team.step(1, "sh");
    team.step(1, "sh back");
    team.step(1, "sh");
    team.step(2, "sh");
    team.step(3, "sh");
    team.step(4, "sh");
    team.step(4, "sh back");
    team.step(4, "sh");
    team.callers();
    let state = team.settled();
    team.step(5, "sh");
    let shown: Value = serde_json::from_str(&team.said).expect("JSON");
    for what in ["consistent", "complete", "proven"] {
        assert_eq!(
            (&state[what], &shown[what]),
            (&Value::Bool(true), &Value::Bool(true)),
            "{what}: {shown:#}"
        );
    }
    team.step(6, "sh");
    team.callers();
    team.step(6, "sh back");
    team.callers();
    team.step(6, "sh");
    team.step(7, "sh");
    assert!(team.said.contains("\"user_id\":\"1\""), "{}", team.said);
    team.step(7, "sh back");
    assert!(team.said.contains("\"user_id\":\"1\""), "{}", team.said);
    team.step(8, "sh");
    team.step(8, "sh back");
    let state: Value = serde_json::from_str(
        get(team.proxy.as_ref().unwrap().admin.unwrap(), "/v1/shadow").split_once("\r\n\r\n").unwrap().1,
    )
    .unwrap();
    assert_eq!(state["serve"]["candidate_percent"], 100.0, "it goes on with the share that it had");
}
