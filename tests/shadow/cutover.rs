//! Callers that the candidate serves, and the guard over it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::faulty::{Reaction, between};
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, wait_for};

const USERS: u64 = 300;

/// Who answers each user, by a header that only the candidate's answers have.
fn sides(caller: &mut Caller) -> BTreeMap<u64, bool> {
    let side = |user: u64| {
        let answer = caller.get(&format!("/v1/users/{user}/balance"));
        // The ledger has not named all of them.
        let is_own = answer.body.starts_with(&format!("{{\"user_id\":\"{user}\""));
        assert!(is_own || answer.status == 404, "{} {}", answer.head, answer.body);
        (user, answer.head.to_ascii_lowercase().contains("x-side: candidate"))
    };
    (0..USERS).map(side).collect()
}

struct Stage {
    _folder: TempDir,
    _node: Server,
    shadow: Shadow,
    /// The candidate fails while this is set.
    fails: Arc<AtomicBool>,
}

fn stage(share: &str, config: &str, failure: fn() -> Reaction) -> Stage {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let candidate = between(node.any, move |_, answer| {
        answer.head = answer.head.replacen("\r\n", "\r\nX-Side: candidate\r\n", 1);
        failing.load(Ordering::Relaxed).then(failure)
    });
    std::fs::write(folder.path().join("s.toml"), config).expect("a file");
    let serve = format!("candidate={share}");
    let more = ["--serve", &serve, "--config", "s.toml"];
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), &more);
    Stage { _folder: folder, _node: node, shadow, fails }
}

/// A guard that watches nothing: beside other tests, a candidate may take its time.
const PATIENT: &str =
    "[serve]\ntimeout-ms = 20000\np99-ms-max = 20000.0\nerror-rate-max = 1.0\nmismatch-rate-max = 1.0\n";

#[test]
fn a_user_stays_on_its_side_while_the_share_grows_and_everything_is_compared() {
    let stage = stage("30%", PATIENT, || Reaction::Hang);
    let mut caller = Caller::connect(stage.shadow.listen);
    let first = sides(&mut caller);
    assert_eq!(first, sides(&mut caller), "a user changed its side");
    let served = first.values().filter(|served| **served).count() as u64;
    assert!((USERS / 5..USERS * 2 / 5).contains(&served), "{served} of {USERS} at 30%");
    let answer = stage.shadow.serve("60%");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"candidate\":\"60%\"}"), "{answer}");
    let second = sides(&mut caller);
    assert!(first.iter().all(|(user, served)| !served || second[user]), "a user went back");
    assert!(second.values().filter(|served| **served).count() as u64 > served);
    let wrong = stage.shadow.serve("60");
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("expected a percentage"), "{wrong}");
    stage.shadow.serve("0%");
    assert!(sides(&mut caller).values().all(|served| !served));
    stage.shadow.settled(4 * USERS);
    let ended = stage.shadow.end();
    ended.assert_same();
    assert_eq!((ended.verdict["requests"].as_u64(), ended.count("equal")), (Some(4 * USERS), 4 * USERS));
}

#[test]
fn what_the_candidate_fails_the_primary_answers() {
    for failure in [
        || Reaction::Last(Vec::new()),
        || Reaction::Hang,
        || Reaction::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ] {
        let config = PATIENT.replace("timeout-ms = 20000", "timeout-ms = 100")
            + "[mirror]\ntimeout-ms = 100\nqueue = 100000\nin-flight = 500\n";
        let stage = stage("10%", &config, failure);
        stage.fails.store(true, Ordering::Relaxed);
        let mut caller = Caller::connect(stage.shadow.listen);
        assert!(sides(&mut caller).values().all(|served| !served), "each was answered by the primary");
        stage.shadow.settled(USERS);
        let ended = stage.shadow.end();
        assert!(ended.verdict["serve"]["fell_back"].as_u64().expect("a count") > 0);
        assert_eq!(ended.count("candidate_error"), USERS, "{:#}", ended.verdict);
    }
}

#[test]
fn the_guard_takes_the_share_back_within_a_second_and_says_why() {
    let config = PATIENT.replace("error-rate-max = 1.0", "error-rate-max = 0.2");
    let stage =
        stage("100%", &config, || Reaction::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let mut caller = Caller::connect(stage.shadow.listen);
    assert!(sides(&mut caller).values().all(|served| *served));
    stage.fails.store(true, Ordering::Relaxed);
    let broke = Instant::now();
    let after = wait_for("the guard", || {
        // Every caller is answered, whoever does it.
        assert!(caller.get("/v1/users/1/balance").status == 200);
        stage.shadow.logged().contains("goes back from 100% to 0%").then(|| broke.elapsed())
    });
    // The log line says when; how long a loaded machine takes to let us see it is another matter.
    assert!(after < Duration::from_secs(60), "{after:?}");
    let log = stage.shadow.logged();
    assert!(log.contains("it failed ") && log.contains("20.00 % is allowed"), "{log}");
    let state = stage.shadow.state();
    assert_eq!(state["serve"]["candidate_percent"], 0.0);
    assert!(state["serve"]["rolled_back"].as_str().expect("a reason").contains("within a second"));
    stage.fails.store(false, Ordering::Relaxed);
    assert!(sides(&mut caller).values().all(|served| !served), "it stays back until somebody decides");
    stage.shadow.serve("100%");
    assert!(sides(&mut caller).values().all(|served| *served));
}

#[test]
fn a_schedule_raises_the_share_by_itself_and_native_candidates_serve_json() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1", "--now", "2026-11-22T10:30:00Z"]);
    let config = format!(
        "{PATIENT}schedule = [{{ after-seconds = 0, share = \"50%\" }}, {{ after-seconds = 1, share = \"100%\" }}]\n"
    );
    std::fs::write(folder.path().join("s.toml"), config).expect("a file");
    let candidate = format!("florin://{}", node.any);
    let shadow = Shadow::start(folder.path(), &http(node.any), &candidate, &["--config", "s.toml"]);
    wait_for("the schedule's end", || (shadow.state()["serve"]["candidate_percent"] == 100.0).then_some(()));
    let mut caller = Caller::connect(shadow.listen);
    let mut direct = Caller::connect(node.any);
    for target in ["/v1/users/5/balance", "/v1/users/5/statistics?window=7d", "/v1/users/987654/balance"] {
        let (through, around) = (caller.get(target), direct.get(target));
        assert_eq!((through.status, through.body), (around.status, around.body), "{target}");
        assert!(through.head.contains("content-type: application/"), "{}", through.head);
    }
    let ids = r#"{"user_ids":["7","987654"]}"#;
    let ask = |caller: &mut Caller| caller.ask("POST", "/v1/balances:batchGet", ids).expect("an answer").body;
    assert_eq!(ask(&mut caller), ask(&mut direct));
    shadow.settled(4);
    let ended = shadow.end();
    ended.assert_same();
    assert_eq!(ended.verdict["serve"]["served"], 4);
}
