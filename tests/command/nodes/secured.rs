//! Nodes that divide users, none of which tells anything to whoever does not prove who asks: by TLS with tokens, and with certificates
//! alone. They ask each other in the same way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;

use super::USERS;
use super::group::{Group, PARTITIONS, settles_as};
use super::readers::{Caller, Reader};
use crate::kafka::broker::Broker;
use crate::kafka::send;
use crate::secure::{ask, asked, connect, trusting};
use crate::support::{Server, run, wait_for, write};

const NODES: [&str; 2] = ["GET", "/v1/nodes"];
const BALANCE: [&str; 2] = ["GET", "/v1/users/1/balance"];

/// What nodes and callers are given: two authorities of which all trust both, so that one can take the other's place.
struct Files(TempDir);

impl Files {
    fn make() -> Files {
        let files = Files(TempDir::new().unwrap());
        let [old, new] = ["old", "new"].map(|authority| {
            run(files.folder(), &["tls", "init", authority]).ok();
            files.text(&format!("{authority}/ca.crt"))
        });
        write(files.folder(), "ca.crt", &(old + &new));
        files.show("old");
        let principal =
            |arguments: &[&str]| run(files.folder(), &[&["principal", "add"], arguments].concat()).ok();
        write(files.folder(), "team.token", &principal(&["team", "--may", "balance,statistics,batch"]));
        write(files.folder(), "nodes.token", &principal(&["nodes", "--may", "none"]));
        principal(&["team", "--certificate", "spiffe://florin.local/caller"]);
        principal(&["nodes", "--certificate", "localhost"]);
        for secret in ["team.token", "nodes.token"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(files.at(secret), mode).unwrap();
        }
        files
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap()
    }

    /// From now on the nodes' certificate is this authority's.
    fn show(&self, authority: &str) {
        for name in ["node.crt", "node.key"] {
            // A key remains nobody else's to read.
            std::fs::copy(self.at(&format!("{authority}/{name}")), self.at("next")).unwrap();
            std::fs::rename(self.at("next"), self.at(name)).unwrap();
        }
    }

    fn trusting(&self, shows: Option<&str>) -> Arc<ClientConfig> {
        let both = [self.at("old"), self.at("new")];
        let shows = shows.map(|name| self.at("old").join(name));
        trusting(&both.each_ref().map(PathBuf::as_path), shows.as_deref())
    }
}

/// What is done to nodes that are reached by TLS alone, whoever asks.
struct Secured<'a> {
    files: &'a Files,
    group: Group<'a>,
    /// Of every node, beside the files of its own.
    flags: Vec<&'a str>,
    /// A caller that may read, and what it proves itself by over HTTP.
    caller: Caller,
    shows: Arc<ClientConfig>,
    token: Option<String>,
}

impl Secured<'_> {
    fn start(&self, listen: &str) -> Server {
        let by_tls = [
            "--tls-listen",
            listen,
            "--tls-shard-listen",
            "127.0.0.1:0",
            "--tls-cert",
            "node.crt",
            "--tls-key",
            "node.key",
            "--principals",
            "principals.toml",
        ];
        let flags = [&by_tls[..], &self.flags].concat();
        Server::spawn(self.group.command("off", &flags))
    }

    fn get(&self, node: SocketAddr, what: [&str; 2]) -> Option<(u16, Vec<u8>)> {
        asked(&mut *connect(node, Some(&self.shows)), what, self.token.as_deref(), "").ok()
    }

    fn told(&self, node: SocketAddr) -> Option<Value> {
        let (status, body) = self.get(node, NODES)?;
        let told: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
        (!told["map"].is_null()).then_some(told)
    }

    /// Whether a caller that trusts this authority alone is answered: only then is that one's certificate shown.
    fn shows_certificate_of(&self, node: SocketAddr, authority: &str) -> bool {
        let config = trusting(&[&self.files.at(authority)], Some(&self.files.at("old/caller")));
        ask(&mut *connect(node, Some(&config)), BALANCE, self.token.as_deref(), "").is_ok()
    }

    /// Three nodes, one of which is killed, and ends in order, and whose certificates are all replaced; nobody's read fails.
    fn holds(&self, broker: &Broker, topic: &str) {
        let mut nodes: Vec<Server> = (0..3).map(|_| self.start("127.0.0.1:0")).collect();
        let any: Vec<SocketAddr> = nodes.iter().map(|node| node.tls.expect("it listens")).collect();
        let told = |node| self.told(node);
        settles_as(&any, told);
        self.refuses(&nodes);

        let caller = Caller { node: format!("florins://localhost:{}", any[0].port()), ..self.caller.clone() };
        let flags = caller.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        for json in [&["--json"][..], &[]] {
            let users: Vec<String> = USERS.map(|user| user.to_string()).collect();
            let users: Vec<&str> = users.iter().map(String::as_str).collect();
            let asked = [&["get", "balances"], &users[..], &["--addr", &caller.node], &flags, json].concat();
            let shown = run(self.files.folder(), &asked).ok();
            let ok = if json.is_empty() { "  OK" } else { "\"OK\"" };
            assert_eq!(shown.matches(ok).count(), users.len(), "{shown}");
        }

        let readers = Reader::all(self.files.folder(), &caller);
        let go_on = || readers.iter().for_each(Reader::goes_on);
        go_on();
        nodes[1].signal(Signal::KILL);
        go_on();
        send(broker, topic, USERS, 3..=3);
        nodes[1] = self.start(&any[1].to_string());
        settles_as(&any, told);
        go_on();

        self.files.show("new");
        for (node, place) in nodes.iter().zip(&any) {
            node.signal(Signal::HUP);
            wait_for("the new certificate", || self.shows_certificate_of(*place, "new").then_some(()));
        }
        go_on();
        // Who comes again is believed by its new certificate, and believes the others by theirs.
        let ending = nodes.remove(2);
        ending.signal(Signal::TERM);
        assert_eq!(ending.ended().0, Some(0));
        go_on();
        nodes.push(self.start(&any[2].to_string()));
        settles_as(&any, told);
        go_on();
        readers.into_iter().for_each(Reader::ends);
    }

    /// Nobody is told anything, of any node, who does not prove who asks.
    fn refuses(&self, nodes: &[Server]) {
        let nobody = self.files.trusting(None);
        for node in nodes {
            let place = node.tls.expect("it listens");
            for what in [NODES, BALANCE] {
                let told = ask(&mut *connect(place, Some(&nobody)), what, None, "");
                // Where certificates are asked for, whoever has none does not come as far.
                assert!(!told.is_ok_and(|status| status != 401), "{what:?}");
            }
            assert_eq!(ask(&mut *connect(node.admin, None), NODES, None, "").unwrap(), 401);
            let at = format!("florins://localhost:{}", place.port());
            for json in [&["--json"][..], &[]] {
                let anybody = [&["get", "balance", "1", "--addr", &at, "--tls-ca", "ca.crt"], json].concat();
                run(self.files.folder(), &anybody).refused(1);
            }
        }
    }
}

#[test]
fn nodes_by_tls_and_tokens_ask_each_other_and_refuse_whoever_has_none() {
    let Some(broker) = Broker::shared() else { return };
    let files = Files::make();
    broker.make_topic("tokens", PARTITIONS as i32);
    send(broker, "tokens", USERS, 1..=2);
    let settings = format!(
        "ledger = \"{}\"\ngroup = \"tokens\"\ntls-listen = \"127.0.0.1:0\"\ntls-cert = \"node.crt\"\ntls-key = \"node.key\"\n",
        broker.address("tokens")
    );
    for (authorities, is_right) in [("ca.crt", true), ("nowhere.crt", false)] {
        write(files.folder(), "florin.toml", &format!("{settings}group-tls-ca = \"{authorities}\"\n"));
        let checked = run(files.folder(), &["config", "check"]);
        if is_right {
            checked.ok();
        } else {
            let refused = checked.refused(2);
            assert!(refused.contains("--group-tls-ca") && refused.contains(authorities), "{refused}");
        }
    }
    let secured = Secured {
        group: Group { folder: files.folder(), ledger: broker.address("tokens"), name: "tokens" },
        flags: vec!["--group-tls-ca", "ca.crt", "--group-token-file", "nodes.token"],
        caller: Caller {
            node: String::new(),
            token: Some(files.at("team.token")),
            authorities: Some(files.at("ca.crt")),
            identity: None,
        },
        shows: files.trusting(None),
        token: Some(files.text("team.token").trim().to_owned()),
        files: &files,
    };
    secured.holds(broker, "tokens");
}

#[test]
fn nodes_ask_each_other_by_their_certificates_alone() {
    let Some(broker) = Broker::shared() else { return };
    let files = Files::make();
    broker.make_topic("certificates", PARTITIONS as i32);
    send(broker, "certificates", USERS, 1..=2);
    let secured = Secured {
        group: Group { folder: files.folder(), ledger: broker.address("certificates"), name: "certificates" },
        flags: vec!["--tls-client-ca", "ca.crt"],
        caller: Caller {
            node: String::new(),
            token: None,
            authorities: Some(files.at("ca.crt")),
            identity: Some([files.at("old/caller.crt"), files.at("old/caller.key")]),
        },
        shows: files.trusting(Some("caller")),
        token: None,
        files: &files,
    };
    secured.holds(broker, "certificates");
}
