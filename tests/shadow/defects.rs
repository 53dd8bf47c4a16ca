//! Defects planted in a candidate: each must be found, and named.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::faulty::{Asked, Reaction, between};
use crate::shadow::{Answer, Caller, Ended, Shadow, generated, http};
use crate::support::{Server, run, run_with_input, transaction, wait_for, write};

/// Half an hour into an hour.
const NOW: &str = "2026-11-22T10:30:00Z";

/// Users 1 and 2 hold two assets each, user 3 has spent all it had.
fn small_ledger() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let row = |n: u32, rest: &str| format!("00000000-0000-4000-8000-{n:012},{rest}\n");
    let rows = [
        "1,COIN,recharge,1500,2026-11-20T10:00:00Z",
        "1,DIAMOND,recharge,30,2026-11-20T11:00:00Z",
        "2,COIN,recharge,99,2026-11-20T12:00:00Z",
        "2,USD,recharge,5,2026-11-20T13:00:00Z",
        "3,COIN,recharge,40,2026-11-20T14:00:00Z",
        "3,COIN,withdrawal,40,2026-11-20T15:00:00Z",
    ];
    let rows: String = rows.iter().enumerate().map(|(at, rest)| row(at as u32, rest)).collect();
    write(
        folder.path(),
        "rows.csv",
        &format!("transaction_id,user_id,asset,kind,amount,occurred_at\n{rows}"),
    );
    run(folder.path(), &["import", "rows.csv"]).ok();
    folder
}

/// Asks about users 1 to 3 in every way, `rounds` times, with the candidate that `change` makes of the node.
fn with_defect(
    change: impl Fn(&Asked, &mut Answer) -> Option<Reaction> + Send + Sync + 'static,
    rounds: u64,
    more: &[&str],
) -> Ended {
    let folder = small_ledger();
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let candidate = between(node.any, change);
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), more);
    let mut caller = Caller::connect(shadow.listen);
    for _ in 0..rounds {
        for user in 1..=3 {
            assert_eq!(caller.get(&format!("/v1/users/{user}/balance")).status, 200);
            assert_eq!(caller.get(&format!("/v1/users/{user}/statistics")).status, 200);
        }
        let batch = caller.ask("POST", "/v1/balances:batchGet", r#"{"user_ids":["3","1","2","9"]}"#);
        assert_eq!(batch.expect("an answer").status, 200);
    }
    shadow.settled(7 * rounds);
    let ended = shadow.end();
    assert_eq!(ended.verdict["requests"], 7 * rounds);
    ended
}

#[track_caller]
fn assert_found(ended: &Ended, verdict: &str, reason: &str) {
    assert_eq!(ended.verdict["consistent"], false, "{:#}", ended.verdict);
    assert_eq!(ended.code, Some(20));
    assert!(ended.reason(verdict, reason) > 0, "{reason} was not named: {:#}", ended.verdict["reasons"]);
}

/// Paths of the mismatches.
fn paths(ended: &Ended) -> Vec<String> {
    let differences =
        ended.mismatches.iter().flat_map(|line| line["differences"].as_array().expect("a list").clone());
    differences.map(|difference| difference["path"].as_str().expect("a path").to_owned()).collect()
}

#[test]
fn without_a_defect_there_is_none() {
    with_defect(|_, _| None, 3, &[]).assert_same();
}

#[test]
fn one_wrong_amount_in_one_account_of_16384() {
    let folder = generated(16_384, 60_000, NOW);
    let node = Server::start(folder.path(), &["--now", NOW]);
    let wrong = "/v1/users/11999/balance";
    let candidate = between(node.any, move |asked, answer| {
        if asked.target == wrong {
            let at = answer.body.find("\"available\":\"").expect("a balance") + "\"available\":\"".len();
            answer.body.insert(at, '1');
        }
        None
    });
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), &[]);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let shadow = &shadow;
            scope.spawn(move || {
                let mut caller = Caller::connect(shadow.listen);
                for user in (part..16_384).step_by(4) {
                    assert!(caller.get(&format!("/v1/users/{user}/balance")).status < 500);
                    // A queue of 4,096 must not overflow: this is about finding, not about speed.
                    if user % 256 < 4 {
                        wait_for("room in the queue", || {
                            (shadow.state()["queue"]["open"].as_u64()? < 1_024).then_some(())
                        });
                    }
                    if user % 1_024 < 4 {
                        caller.get(&format!("/v1/users/{user}/statistics?window=lifetime"));
                    }
                }
            });
        }
    });
    shadow.settled(16_384);
    let ended = shadow.end();
    assert_found(&ended, "mismatch", "content");
    assert_eq!(ended.count("mismatch"), 1);
    assert_eq!(ended.mismatches[0]["request"]["target"], wrong);
    assert!(paths(&ended)[0].ends_with("].available"), "{:?}", paths(&ended));
}

#[test]
fn a_window_that_is_off_by_one_bucket() {
    let folder = generated(500, 50_000, NOW);
    let node = Server::start(folder.path(), &["--shards", "1", "--now", NOW]);
    // The same service, whose clock is an hour ahead: its day has begun and ended an hour later.
    let ahead = ["--shards", "1", "--now", "2026-11-22T11:30:00Z"];
    let candidate = Server::start(folder.path(), &ahead);
    let shadow = Shadow::start(folder.path(), &http(node.any), &format!("florin://{}", candidate.any), &[]);
    let mut caller = Caller::connect(shadow.listen);
    for user in 0..500 {
        caller.get(&format!("/v1/users/{user}/statistics"));
        caller.get(&format!("/v1/users/{user}/balance"));
    }
    shadow.settled(1_000);
    let ended = shadow.end();
    assert_found(&ended, "mismatch", "window_content");
    assert!(paths(&ended).iter().all(|path| path.contains("].windows.24h.")), "{:?}", paths(&ended));
    assert_eq!(ended.verdict["endpoints"]["balance"]["mismatch"], 0);
}

#[test]
fn an_asset_that_is_missing() {
    let ended = with_defect(
        |_, answer| {
            answer.body = answer.body.replace(r#",{"asset":"DIAMOND","available":"30","held":"0"}"#, "");
            None
        },
        1,
        &[],
    );
    assert_found(&ended, "mismatch", "missing");
    assert_eq!(ended.count("mismatch"), 2);
    let mut paths = paths(&ended);
    paths.sort();
    assert_eq!(paths, ["balances[1].balance.balances[DIAMOND]", "balances[DIAMOND]"]);
}

#[test]
fn assets_in_another_order() {
    let ended = with_defect(
        |_, answer| {
            let (coin, usd) = (
                r#"{"asset":"COIN","available":"99","held":"0"}"#,
                r#"{"asset":"USD","available":"5","held":"0"}"#,
            );
            answer.body = answer.body.replace(&format!("{coin},{usd}"), &format!("{usd},{coin}"));
            None
        },
        1,
        &[],
    );
    assert_found(&ended, "mismatch", "order");
    assert_eq!(ended.count("mismatch"), 2);
    let orders: Vec<_> =
        ended.mismatches.iter().map(|line| line["differences"][0]["candidate"].clone()).collect();
    assert_eq!(orders, ["USD, COIN", "USD, COIN"]);
}

#[test]
fn a_404_for_a_zero_balance() {
    let ended = with_defect(
        |asked, answer| {
            if asked.target.starts_with("/v1/users/3/balance") && answer.status == 200 {
                answer.status = 404;
                answer.body =
                    r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no such user"}"#
                        .to_owned();
            }
            None
        },
        1,
        &[],
    );
    assert_found(&ended, "mismatch", "status");
    assert_eq!(
        (ended.count("mismatch"), ended.mismatches[0]["request"]["target"].clone()),
        (1, "/v1/users/3/balance".into())
    );
}

/// Remembers each balance as it first was, and answers that for ever, with the header of now.
fn frozen(min_versions: MinVersions) -> impl Fn(&Asked, &mut Answer) -> Option<Reaction> + Send + Sync {
    let first: Mutex<HashMap<String, (String, String)>> = Mutex::default();
    move |asked, answer| {
        let insists = asked.target.contains("min_version");
        if insists && min_versions == MinVersions::Obeyed || answer.status != 200 {
            return None;
        }
        let path = asked.target.split('?').next().expect("a path").to_owned();
        let version =
            |head: &str| head.lines().find(|line| line.starts_with("Florin-Version")).map(str::to_owned);
        let now = version(&answer.head)?;
        let mut first = first.lock().expect("no panic");
        let (then, body) = first.entry(path).or_insert_with(|| (now.clone(), answer.body.clone()));
        answer.head = answer.head.replace(&now, then);
        answer.body.clone_from(body);
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MinVersions {
    Obeyed,
    Ignored,
}

#[test]
fn a_stale_answer_that_claims_to_be_fresh() {
    for (min_versions, reasons) in [
        (MinVersions::Ignored, &["below_min_version", "stale_claims_fresh"][..]),
        // Only what was shown before gives this one away: it catches up whenever it is asked to.
        (MinVersions::Obeyed, &["stale_claims_fresh"]),
    ] {
        let folder = small_ledger();
        let node = Server::start(folder.path(), &["--shards", "1"]);
        let candidate = between(node.any, frozen(min_versions));
        let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), &[]);
        let mut caller = Caller::connect(shadow.listen);
        caller.get("/v1/users/1/balance");
        shadow.settled(1);
        let admin = node.admin.to_string();
        run_with_input(
            folder.path(),
            &["apply", "-", "--admin", &admin],
            &format!("{}\n", transaction(1, 1, "7")),
        )
        .ok();
        wait_for("the stale answer to be found", || {
            caller.get("/v1/users/1/balance?min_version=3&wait_ms=1000");
            // What the caller insists on is kept for the candidate as well; so the defect shows without it.
            caller.get("/v1/users/1/balance");
            (shadow.state()["verdicts"]["mismatch"] != 0).then_some(())
        });
        let ended = shadow.end();
        assert_eq!(ended.code, Some(20));
        assert!(
            reasons.iter().any(|reason| ended.reason("mismatch", reason) > 0),
            "{:#}",
            ended.verdict["reasons"]
        );
    }
}

#[test]
fn hangs_cuts_and_rare_errors() {
    let timeout = write(
        std::env::temp_dir().as_path(),
        &format!("florin-shadow-{}.toml", std::process::id()),
        "[mirror]\ntimeout-ms = 200\n",
    );
    let config = timeout.display().to_string();
    let user_two = |asked: &Asked| asked.target.starts_with("/v1/users/2/balance");
    let hang =
        with_defect(move |asked, _| user_two(asked).then_some(Reaction::Hang), 2, &["--config", &config]);
    assert_found(&hang, "candidate_error", "timeout");
    let cut = with_defect(
        move |asked, answer| {
            let whole = crate::faulty::bytes(answer);
            user_two(asked).then(|| Reaction::Last(whole[..whole.len() - 9].to_vec()))
        },
        2,
        &[],
    );
    assert_found(&cut, "candidate_error", "cut");
    for ended in [&hang, &cut] {
        assert_eq!((ended.count("candidate_error"), ended.count("equal")), (2, 12), "{:#}", ended.verdict);
        assert_eq!(ended.verdict["complete"], false, "a request without an answer was not compared");
    }
    let number = AtomicU64::new(0);
    let errors = with_defect(
        move |_, answer| {
            if number.fetch_add(1, Ordering::Relaxed) % 1_000 == 999 {
                answer.status = 500;
            }
            None
        },
        300,
        &[],
    );
    assert_found(&errors, "candidate_error", "status_500");
    assert_eq!((errors.count("candidate_error"), errors.count("equal")), (2, 2_098));
    assert_eq!(errors.verdict["complete"], true);
    std::fs::remove_file(timeout).expect("our own file");
}

#[test]
fn a_defect_can_be_allowed_by_a_rule_with_a_name() {
    let folder = TempDir::new().expect("a temporary folder");
    let rules = "[[rule]]\nname = \"no diamonds yet\"\nreason = \"they come in v2\"\nendpoint = \"balance\"\nignore = \"balances[DIAMOND]\"\n\
        [[rule]]\nname = \"the same in batches\"\nreason = \"they come in v2\"\nignore = \"balances[*].balance.balances[DIAMOND]\"\n";
    let config = write(folder.path(), "rules.toml", rules).display().to_string();
    let ended = with_defect(
        |_, answer| {
            answer.body = answer.body.replace(r#",{"asset":"DIAMOND","available":"30","held":"0"}"#, "");
            None
        },
        2,
        &["--config", &config],
    );
    ended.assert_same();
    assert_eq!(ended.count("explained"), 4);
    let uses: Vec<_> =
        ended.verdict["rules"].as_array().unwrap().iter().map(|rule| rule["uses"].clone()).collect();
    assert_eq!(uses, [2, 2]);
}

#[test]
fn the_primarys_own_noise_is_reported_as_that() {
    let folder = small_ledger();
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let number = AtomicU64::new(0);
    let noisy: SocketAddr = between(node.any, move |_, answer| {
        let now = number.fetch_add(1, Ordering::Relaxed);
        answer.body = answer.body.replacen('{', &format!("{{\"served\":{now},"), 1);
        None
    });
    let config = "[noise]\nshare = 1.0\n[[rule]]\nname = \"served\"\nreason = \"a counter of the old service\"\nignore = \"served\"\n";
    let config = write(folder.path(), "noise.toml", config).display().to_string();
    let shadow = Shadow::start(folder.path(), &http(noisy), &http(node.any), &["--config", &config]);
    let mut caller = Caller::connect(shadow.listen);
    for _ in 0..5 {
        caller.get("/v1/users/1/balance");
    }
    shadow.settled(5);
    let ended = shadow.end();
    ended.assert_same();
    assert_eq!(ended.count("explained"), 5);
    assert_eq!(ended.verdict["noise"]["places"]["served"], 5);
}

/// The answer of version `version` that `answer` would have been, by header and by body.
fn at_version(answer: &mut Answer, version: &str) {
    let quoted = |version: &str| format!("\"version\":\"{version}\"");
    let header =
        answer.head.lines().find_map(|line| line.strip_prefix("Florin-Version: ")).map(str::to_owned);
    let Some(now) = header else { return };
    answer.head =
        answer.head.replace(&format!("Florin-Version: {now}"), &format!("Florin-Version: {version}"));
    answer.body = answer.body.replace(&quoted(&now), &quoted(version));
}

/// What was wrong at first was forgiven once, where it bore a lower version: the candidate was asked again, said the right
/// thing, and had "caught up".
#[test]
fn wrong_first_answers_under_a_lower_version() {
    let balance = |asked: &Asked, answer: &Answer| {
        asked.target.starts_with("/v1/users/1/balance") && answer.status == 200
    };
    let is_first = |asked: &Asked| !asked.target.contains("min_version");
    let somebody_elses = with_defect(
        move |asked, answer| {
            if balance(asked, answer) && is_first(asked) {
                at_version(answer, "1");
                answer.body = answer.body.replace("\"user_id\":\"1\"", "\"user_id\":\"2\"");
            }
            None
        },
        1,
        &[],
    );
    assert_found(&somebody_elses, "mismatch", "user");
    let empty = with_defect(
        move |asked, answer| {
            if balance(asked, answer) && is_first(asked) {
                at_version(answer, "0");
                let rows = answer.body.find("\"balances\":[").expect("a balance");
                answer.body.replace_range(rows.., "\"balances\":[]}");
            }
            None
        },
        1,
        &[],
    );
    assert_found(&empty, "mismatch", "empty");
    let other_shape = with_defect(
        move |asked, answer| {
            if balance(asked, answer) && is_first(asked) {
                at_version(answer, "1");
                answer.body = answer.body.replace("\"held\"", "\"blocked\"");
            }
            None
        },
        1,
        &[],
    );
    assert_found(&other_shape, "mismatch", "missing");
    for ended in [&somebody_elses, &empty, &other_shape] {
        assert_eq!((ended.count("mismatch"), ended.count("caught_up")), (1, 0), "{:#}", ended.verdict);
    }
}

/// Every first answer was of version 1, with an amount that was invented and a time of now; asked again, the candidate said the right
/// thing. All had "caught up", and the run was consistent, complete and proven; later they were unproven. Who calls itself fresh lies, for
/// it lacks what the primary has shown; of who calls itself old nobody knows.
#[test]
fn invented_first_answers_are_no_agreement_however_well_they_catch_up() {
    let invented = |as_of: Option<&'static str>| {
        with_defect(
            move |asked, answer| {
                if asked.target.ends_with("/balance") && answer.status == 200 {
                    at_version(answer, "1");
                    answer.body = answer.body.replace("\"available\":\"", "\"available\":\"77");
                    let line = answer.head.lines().find(|line| line.starts_with("Florin-As-Of: "));
                    if let (Some(line), Some(as_of)) = (line.map(str::to_owned), as_of) {
                        answer.head = answer.head.replace(&line, &format!("Florin-As-Of: {as_of}"));
                    }
                }
                None
            },
            1,
            &[],
        )
    };
    let fresh = invented(None);
    assert_eq!((fresh.code, fresh.reason("mismatch", "stale_claims_fresh")), (Some(20), 3));
    let ended = invented(Some("2026-11-22T10:30:00Z"));
    assert_eq!(ended.verdict["proof"]["answers"], 4, "what is unproven is no answer that was compared");
    assert_eq!((ended.code, ended.count("unproven"), ended.count("caught_up")), (Some(23), 3, 0));
    assert_eq!(
        (ended.reason("unproven", "never_shown"), ended.count("equal")),
        (3, 4),
        "{:#}",
        ended.verdict
    );
    let unchecked = ended.verdict["unchecked"].to_string();
    assert!(unchecked.contains("what the candidate said at first of 3 requests"), "{unchecked}");
}

/// Both sides said all the time that transactions are missing, and were found to be the same.
#[test]
fn what_both_sides_call_incomplete_proves_nothing() {
    let folder = small_ledger();
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let flagged = between(node.any, |_, answer| {
        answer.head = answer.head.replacen("\r\n", "\r\nFlorin-Quarantined: true\r\n", 1);
        None
    });
    let shadow = Shadow::start(folder.path(), &http(flagged), &http(flagged), &[]);
    let mut caller = Caller::connect(shadow.listen);
    for _ in 0..10 {
        caller.get("/v1/users/1/balance");
    }
    shadow.settled(10);
    let ended = shadow.end();
    assert_eq!((ended.code, ended.reason("unproven", "quarantined")), (Some(23), 10), "{:#}", ended.verdict);
    assert_eq!(ended.verdict["proof"]["answers"], 0);
    let unchecked = ended.verdict["unchecked"].to_string();
    assert!(unchecked.contains("10 requests of which both sides say"), "{unchecked}");
}

/// A candidate that said it held all that would be committed within the next hour was believed.
#[test]
fn a_time_that_is_still_to_come_on_one_side_only() {
    let ended = with_defect(
        |_, answer| {
            let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
            let stated = answer.head.lines().find(|line| line.starts_with("Florin-As-Of")).map(str::to_owned);
            if let Some(stated) = stated {
                answer.head = answer.head.replace(&stated, &format!("Florin-As-Of: {ahead:.6}"));
            }
            None
        },
        1,
        &[],
    );
    assert_found(&ended, "mismatch", "as_of_ahead");
}

#[test]
fn a_flag_on_one_side_only() {
    let flagged = with_defect(
        |asked, answer| {
            if asked.target.starts_with("/v1/users/2/balance") {
                answer.head = answer.head.replacen("\r\n", "\r\nFlorin-Quarantined: true\r\n", 1);
            }
            None
        },
        1,
        &[],
    );
    assert_found(&flagged, "mismatch", "flag");
    assert_eq!(flagged.count("mismatch"), 1);
}

/// Both sides refused whatever was asked, and the candidate was said to answer the same.
#[test]
fn refusals_on_both_sides_prove_nothing() {
    for refusal in ["503 Service Unavailable", "404 Not Found", "401 Unauthorized"] {
        let answer = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let service = crate::faulty::serve(move |_| Reaction::Bytes(answer.clone()));
        let folder = TempDir::new().expect("a temporary folder");
        let shadow = Shadow::start(folder.path(), &http(service), &http(service), &[]);
        let mut caller = Caller::connect(shadow.listen);
        for user in 0..20 {
            caller.get(&format!("/v1/users/{user}/balance"));
        }
        shadow.settled(20);
        let ended = shadow.end();
        assert_eq!((ended.code, ended.count("equal")), (Some(21), 20), "{:#}", ended.verdict);
        assert_eq!(ended.verdict["proof"]["refused_alike"], 20);
        let words = ended.verdict["verdict"].as_str().expect("a sentence");
        assert!(words.contains("not one answer that was no refusal"), "{words}");
    }
}

/// One endpoint behind a wrong path, and all others right: the run is not complete.
#[test]
fn an_endpoint_that_was_only_ever_refused() {
    let ended = with_defect(|_, _| None, 1, &[]);
    assert_eq!(
        (ended.code, ended.verdict["proven"].as_bool()),
        (Some(22), Some(false)),
        "so few prove little"
    );
    assert_eq!(ended.verdict["proof"]["users"], 3);
    let folder = small_ledger();
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let enough = write(folder.path(), "s.toml", "[enough]\nanswers = 2\nusers = 2\n").display().to_string();
    for (statistics, code) in [("statistics", 0), ("statistic", 21)] {
        let shadow = Shadow::start(folder.path(), &http(node.any), &http(node.any), &["--config", &enough]);
        let mut caller = Caller::connect(shadow.listen);
        for user in 1..=2 {
            caller.get(&format!("/v1/users/{user}/balance"));
            caller.get(&format!("/v1/users/{user}/{statistics}"));
        }
        shadow.settled(4);
        let ended = shadow.end();
        assert_eq!(ended.code, Some(code), "{:#}", ended.verdict);
    }
}
