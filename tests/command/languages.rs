//! Redis' clients, as they are published, ask a node: what docs/languages.md shows, what redis-cli prints, and a benchmark's flood.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Server, built_go, end, get, run, write};

const DOCUMENT: &str = include_str!("../../docs/languages.md");

/// Where `scripts/redis-clients` has put them.
fn clients() -> PathBuf {
    let found = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/redis-clients"))
        .output()
        .expect("a shell");
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).expect("a path").trim())
}

/// A node on two shards, with users 1 to 120.
fn node() -> (TempDir, Server, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let row = |user: u32| {
        format!(
            "00000000-0000-4000-8000-{user:012},{user},COIN,recharge,{},2026-11-20T10:00:00Z\n",
            user * 100
        )
    };
    let rows: String = (1..=120).map(row).collect();
    write(
        folder.path(),
        "rows.csv",
        &format!("transaction_id,user_id,asset,kind,amount,occurred_at\n{rows}"),
    );
    run(folder.path(), &["import", "rows.csv"]).ok();
    let server = Server::start(folder.path(), &["--shards", "2"]);
    let port = server.any.port().to_string();
    (folder, server, port)
}

/// The document's example in a language, for a node at `port`.
fn example(language: &str, port: &str) -> String {
    let (_, after) = DOCUMENT.split_once(&format!("<!-- example: {language} -->\n```")).expect(language);
    let (_, code) = after.split_once('\n').expect("a line");
    code.split_once("\n```").expect("an end").0.replace("PORT", port)
}

fn in_folder(program: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    command
}

#[test]
fn pythons_example_runs_as_it_is_printed() {
    let (folder, _server, port) = node();
    let file = write(folder.path(), "example.py", &example("python", &port));
    let mut command = in_folder("python3", folder.path(), &[file.to_str().expect("a path")]);
    command.env("PYTHONPATH", clients().join("python"));
    assert_eq!(end(command, "").ok(), "COIN 100\n");
}

#[test]
fn nodes_example_runs_as_it_is_printed() {
    let (folder, _server, port) = node();
    let file = write(folder.path(), "example.js", &example("node", &port));
    let mut command = in_folder("node", folder.path(), &[file.to_str().expect("a path")]);
    command.env("NODE_PATH", clients().join("node_modules"));
    assert_eq!(end(command, "").ok(), "COIN 100n\n");
}

#[test]
fn gos_example_runs_as_it_is_printed() {
    let (folder, _server, port) = node();
    let clients = clients();
    let module = folder.path().join("go");
    std::fs::create_dir(&module).expect("a folder");
    for file in ["go.mod", "go.sum"] {
        std::fs::copy(clients.join("go").join(file), module.join(file)).expect("a module");
    }
    write(&module, "main.go", &example("go", &port));
    built_go(&module, ".", &module.join("example"));
    let printed = end(Command::new(module.join("example")), "").ok();
    assert!(printed.starts_with("{\"user_id\":\"1\"") && printed.ends_with("} <nil>\n"), "{printed}");
}

#[test]
fn redis_cli_is_told_what_http_callers_are() {
    let (folder, server, port) = node();
    let cli = |arguments: &[&str]| {
        end(in_folder("redis-cli", folder.path(), &[&["-p", &port], arguments].concat()), "").ok()
    };
    let http = get(server.any, "/v1/users/1/balance");
    let body = http.split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(cli(&["GET", "balance:1"]), format!("{body}\n"));
    let http = get(server.any, "/v1/users/1/statistics");
    let body = http.split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(cli(&["GET", "statistics:1"]), format!("{body}\n"));
    assert_eq!(cli(&["GET", "balance:999"]), "\n");
    assert_eq!(cli(&["MGET", "balance:1", "balance:999"]).lines().count(), 2);
    let told = cli(&["-3", "FLORIN.BALANCE", "2", "MINVERSION", "1"]);
    assert!(told.contains("quarantined") && told.contains("false"), "{told}");
    let refused = cli(&["SET", "balance:1", "0"]);
    assert!(refused.starts_with("ERR unknown command \"SET\": expected GET, MGET"), "{refused}");
    assert!(cli(&["INFO"]).contains("loading:0\r\n"));
    assert_eq!(cli(&["PING"]), "PONG\n");
    assert!(commands(&server) >= 8.0);
}

#[test]
fn benchmarks_that_flood_get_every_answer() {
    let (folder, server, port) = node();
    let valkey = clients().join("bin/valkey-benchmark");
    for benchmark in ["redis-benchmark", valkey.to_str().expect("a path")] {
        for pipeline in ["1", "32"] {
            let flood = ["-p", &port, "-n", "20000", "-c", "16", "-P", pipeline, "--csv", "GET", "balance:7"];
            let ended = end(in_folder(benchmark, folder.path(), &flood), "");
            let printed = ended.out.clone() + &ended.err;
            assert!(!printed.contains("Error") && !printed.contains("-ERR"), "{printed}");
            assert!(ended.ok().contains("GET balance:7"), "{printed}");
        }
    }
    assert!(commands(&server) >= 80_000.0);
}

/// How many RESP commands a node has read.
fn commands(server: &Server) -> f64 {
    let metrics = get(server.admin, "/metrics");
    let of_shards = metrics.lines().filter(|line| line.starts_with("florin_resp_commands_total"));
    of_shards.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
