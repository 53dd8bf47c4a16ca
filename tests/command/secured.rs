//! docs/security.md, as somebody follows it who copies its commands: from loopback to mutual TLS with a principal for each team. All of them
//! are run, in their order; a node that is started is left running until the next.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::blocks::{Block, blocks};
use crate::operated::shell;
use crate::support::{Server, end, florin, folder_with_ledger, run, wait_for, write};

const PAGE: &str = include_str!("../../docs/security.md");

struct Reader {
    node: Option<Server>,
    folder: TempDir,
}

impl Reader {
    fn new() -> Reader {
        let folder = folder_with_ledger();
        write(
            folder.path(),
            "more.csv",
            "transaction_id,user_id,asset,kind,amount,occurred_at\n\
             00000000-0000-4000-8000-000000000004,42,COIN,recharge,4200,2026-11-20T10:00:00Z\n",
        );
        run(folder.path(), &["import", "more.csv"]).ok();
        Reader { node: None, folder }
    }

    /// A command as it is run here: at the ports that the node has, where there is one.
    fn here(&self, line: &str) -> String {
        let Some(node) = &self.node else { return line.to_owned() };
        let mut line = line.replace("127.0.0.1:7300", &node.admin.to_string());
        line = line.replace("7400", &node.any.port().to_string());
        if let Some(tls) = node.tls {
            line = line.replace("localhost:7500", &format!("localhost:{}", tls.port()));
        }
        if let Some(admin) = node.tls_admin {
            line = line.replace("localhost:7301", &format!("localhost:{}", admin.port()));
        }
        if line.starts_with("florin get ") && !line.contains("--addr") {
            line.push_str(&format!(" --addr 127.0.0.1:{}", node.any.port()));
        }
        line
    }

    /// `florin serve`, on free ports of the addresses that are named.
    fn serve(&mut self, line: &str) {
        drop(self.node.take());
        let line = line.split(" #").next().unwrap_or_default().replace(":7400", ":0");
        let mut arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        arguments.extend(["--admin", "127.0.0.1:0", "--shards", "1"]);
        if !line.contains("--config") {
            let ip = if line.contains("0.0.0.0") { "0.0.0.0:0" } else { "127.0.0.1:0" };
            arguments.extend(["--shard-listen", ip]);
            if !line.contains("--listen") {
                arguments.extend(["--listen", ip]);
            }
        }
        self.node = Some(Server::spawn(florin(self.folder.path(), &arguments)));
    }

    /// Lines between two nodes are one script, as they are in the reader's shell.
    fn sh(&mut self, text: &str) {
        let mut script = String::new();
        for line in text.lines() {
            if line.starts_with("florin serve") {
                self.script(&std::mem::take(&mut script));
                self.serve(line);
            } else {
                // Ports of a file that is written are free ones, too.
                let line = line
                    .replace("\"0.0.0.0:7500\"", "\"0.0.0.0:0\"")
                    .replace("\"127.0.0.1:7301\"", "\"127.0.0.1:0\"");
                script += &(self.here(&line) + "\n");
            }
        }
        self.script(&script);
    }

    fn script(&self, script: &str) {
        if !script.is_empty() {
            shell(self.folder.path(), &format!("set -eu\n{script}"));
        }
    }

    fn refused(&self, text: &str) {
        for line in text.lines() {
            let arguments: Vec<String> =
                self.here(line).split_whitespace().skip(1).map(str::to_owned).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let said = run(self.folder.path(), &arguments).refused(1);
            assert!(said.contains("permission denied") || said.contains("--tls-cert"), "{line}: {said}");
        }
    }

    /// The page's example of a file, with a hash where it leaves one out; its key is where systemd puts what the page's drop-in names.
    fn principals(&self, text: &str) {
        let text = text.replace("sha256:…", &format!("sha256:{}", "0123456789abcdef".repeat(4)));
        write(self.folder.path(), "example.toml", &text);
        let key = write(self.folder.path(), "florin-key", &"k".repeat(32));
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut check = florin(self.folder.path(), &["principal", "check", "--file", "example.toml"]);
        check.env("CREDENTIALS_DIRECTORY", self.folder.path());
        end(check, "").ok();
    }

    fn read(&mut self, block: &Block) {
        match block.kind.as_str() {
            "sh" => self.sh(&block.text),
            "sh refused" => self.refused(&block.text),
            "toml" => self.principals(&block.text),
            "json" => {
                for line in block.text.lines() {
                    let entry: BTreeMap<String, String> =
                        serde_json::from_str(line).expect("an entry of the audit log");
                    assert!(entry.contains_key("principal") && entry.contains_key("outcome"), "{entry:?}");
                }
            }
            "ini" => assert!(block.text.contains("LoadCredential=florin-key:"), "{}", block.text),
            other => panic!("a block of {other:?} is run by nobody: {}", block.text),
        }
    }
}

/// What follows a key of a file in YAML.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "))
}

/// docs/deploy.md's scrape job, with the files that the walk has made: as Prometheus asks.
fn scraped(folder: &Path, tls_admin: SocketAddr) {
    let page = include_str!("../../docs/deploy.md");
    let block =
        blocks(page).into_iter().find(|block| block.text.contains("scheme: https")).expect("such a job");
    let file = |key: &str| {
        let path = Path::new(value(&block.text, key).unwrap_or_else(|| panic!("{key} in {}", block.text)));
        let name = path.file_name().expect("a file").to_owned();
        let made =
            [folder.join("certs").join(&name), folder.join(&name)].into_iter().find(|path| path.exists());
        made.unwrap_or_else(|| panic!("the walk makes no {}", name.display())).display().to_string()
    };
    let (ca, certificate, key, token) =
        (file("ca_file"), file("cert_file"), file("key_file"), file("credentials_file"));
    let metrics = format!("https://localhost:{}/metrics", tls_admin.port());
    let by_certificate = format!("--cacert {ca} --cert {certificate} --key {key}");
    let by_token = format!("{by_certificate} -H \"Authorization: Bearer $(cat {token})\"");
    for proof in [by_certificate, by_token] {
        let page = shell(folder, &format!("curl -sSf {proof} {metrics}"));
        assert!(page.contains("\nflorin_accounts"), "{page}");
    }
}

#[test]
fn every_command_of_the_page_about_security_works() {
    let mut reader = Reader::new();
    for block in &blocks(PAGE) {
        reader.read(block);
    }
    let node = reader.node.as_ref().expect("the walk ends with one");
    assert!(node.tls.is_some() && node.tls_admin.is_some(), "it ends with TLS");
    scraped(reader.folder.path(), node.tls_admin.expect("it is there"));
    wait_for("the refusal in the audit log", || {
        let log = std::fs::read_to_string(reader.folder.path().join("audit.jsonl")).ok()?;
        let is_there = |line: &str| {
            line.contains("\"GetBalance\"") && line.contains("PermissionDenied") && line.contains("team-b")
        };
        log.lines().any(is_there).then_some(())
    });
}
