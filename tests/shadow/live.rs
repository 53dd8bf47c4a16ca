//! Two right services over one ledger that is written to all the time: not one mismatch.

use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, end, florin, transaction};

const USERS: u64 = 40;
/// Reads of each run.
const READS: u64 = 1_500;

#[test]
fn live_writes_make_no_mismatch_in_any_encoding() {
    let folder = generated(USERS, 4_000, "2026-11-22T10:30:00Z");
    let primary = Server::start(folder.path(), &["--shards", "1"]);
    let candidate = Server::start(folder.path(), &["--shards", "2"]);
    let mut writer = Caller::connect(primary.admin);
    let mut written = 0;
    for candidate in [
        http(candidate.any),
        format!("florin://{}", candidate.any),
        format!("florin://{}?encoding=flatbuffers", candidate.any),
    ] {
        // Beside the other tests on two cores a node may lag for longer than it ever would by itself.
        let config = "unproven-max = 1.0\n[catch-up]\nbudget-ms = 20000\nasks = 1000\n";
        let shadow = Shadow::configured(&folder, [&http(primary.any), &candidate], config, &[]);
        let mut caller = Caller::connect(shadow.listen);
        // Whom nobody has named yet is known to be new when it comes.
        for user in 0..USERS {
            caller.get(&format!("/v1/users/{user}/balance"));
        }
        shadow.settled(USERS);
        for turn in 0..READS / 3 {
            let user = turn * 7 % USERS;
            // Few users and many writes: most answers are of accounts that have just moved on.
            let rows: Vec<String> =
                (0..4).map(|at| transaction(written + at, (user + u64::from(at)) % USERS, "3")).collect();
            written += 4;
            let answer = writer.ask("POST", "/v1/transactions", &format!("[{}]", rows.join(",")));
            assert_eq!(answer.expect("an answer").status, 200);
            caller.get(&format!("/v1/users/{user}/balance"));
            caller.get(&format!("/v1/users/{user}/statistics?window=24h,lifetime"));
            let ids: Vec<String> = (user..user + 5).map(|id| format!("\"{id}\"")).collect();
            let body = format!("{{\"user_ids\":[{}]}}", ids.join(","));
            assert_eq!(caller.ask("POST", "/v1/balances:batchGet", &body).expect("an answer").status, 200);
        }
        shadow.settled(READS + USERS);
        let ended = shadow.end();
        ended.assert_same();
        assert_eq!(ended.verdict["requests"], READS + USERS);
        // What a node that lags says is often of a version that nobody else has asked for.
        let same: u64 = ["equal", "caught_up", "unproven"].iter().map(|verdict| ended.count(verdict)).sum();
        assert_eq!(same, READS + USERS, "{:#}", ended.verdict);
    }
}

#[test]
fn flags_and_files_that_cannot_be_are_refused() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let shadow = |arguments: &[&str]| end(florin(folder.path(), &[&["shadow"], arguments].concat()), "");
    let sides =
        ["--listen", "127.0.0.1:0", "--primary", "http://127.0.0.1:1", "--candidate", "florin://127.0.0.1:2"];
    assert!(shadow(&[]).refused(2).contains("--primary"));
    let with = |more: &[&str]| shadow(&[&sides[..], more].concat());
    assert!(with(&["--serve", "5%"]).refused(2).contains("candidate=N%"));
    assert!(with(&["--serve", "candidate=101%"]).refused(2).contains("expected a percentage"));
    assert!(with(&["--config", "none.toml"]).refused(2).contains("cannot read none.toml"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    assert!(with(&["--admin", &address]).refused(13).contains("give another --admin"));
    let native = ["--listen", "127.0.0.1:0", "--primary", "florin://a:1", "--candidate", "http://b:2"];
    assert!(shadow(&native).refused(2).contains("expected http://HOST:PORT"));
    let missing = ["replay", "none", "--primary", "http://a:1", "--candidate", "http://b:1"];
    assert!(shadow(&missing).refused(1).contains("cannot read none"));
}
