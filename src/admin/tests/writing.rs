//! Transactions by the admin port: each enters once, wholly, into the ledger that is followed, or its caller is told why not.

use super::*;

#[test]
fn a_transaction_gets_its_version_and_a_repetition_the_same() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let both = format!("[{},{}]", transaction(1, 5), transaction(2, 7));
    let receipt = |version: u32, number: u32, duplicate: bool| {
        format!(
            r#"{{"transaction_id":"00000000-0000-4000-8000-{number:012}","user_id":"42","version":"{version}","duplicate":{duplicate}}}"#
        )
    };
    let answer = port.post(&both);
    let expected = format!(r#"{{"transactions":[{},{}]}}"#, receipt(1, 1, false), receipt(2, 2, false));
    assert_eq!(answer, Answer { status: 200, body: expected });
    let again = port.post(&format!("{{\"transactions\":[{},{}]}}", transaction(2, 7), transaction(3, 1)));
    let expected = format!(r#"{{"transactions":[{},{}]}}"#, receipt(2, 2, true), receipt(3, 3, false));
    assert_eq!(again, Answer { status: 200, body: expected });
}

/// Whoever shut its half of the connection behind a transaction, as `nc -N` does, was not told that it had entered.
#[test]
fn who_has_sent_all_is_told_what_became_of_it() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    for number in 1..=20 {
        let body = format!("[{}]", transaction(number, 5));
        let head = "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let answer = said(&port, &text, |stream| stream.shutdown(std::net::Shutdown::Write).unwrap());
        let version = format!("\"version\":\"{number}\"");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(&version), "{answer}");
    }
}

#[test]
fn a_refused_request_leaves_nothing_behind() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    assert_eq!(port.post(&transaction(1, 5)).status, 200);
    let conflict = port.post(&format!("[{},{}]", transaction(2, 9), transaction(1, 6)));
    assert_eq!(conflict.status, 409);
    let problem: serde_json::Value = serde_json::from_str(&conflict.body).unwrap();
    assert_eq!((&problem["index"], &problem["version"]), (&1.into(), &"1".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("amount"), "{problem}");
    // Had the first half of the refused request entered, this would be version 3.
    assert!(port.post(&transaction(3, 5)).body.contains(r#""version":"2""#));
}

#[test]
fn callers_at_once_are_all_served_and_each_transaction_enters_once() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let port = &port;
            scope.spawn(move || {
                for number in 0..16 {
                    // Every second one is sent by two callers; one in eight contradicts what is there already.
                    let id =
                        if number % 2 == 0 { number + 1_000 * (caller / 2) } else { number + 1_000 * caller };
                    let amount = if number == 15 { caller + 1 } else { 5 };
                    let id = if number == 15 { 15 } else { id };
                    let answer = port.post(&transaction(id + 1, amount));
                    let may_conflict = number == 15 && answer.status == 409;
                    assert!(answer.status == 200 || may_conflict, "{answer:?}");
                }
            });
        }
    });
    let answer = port.post(&transaction(99_999, 5));
    let receipt: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    // 8 callers × 7 of their own, 4 pairs × 8 shared, and the one id that all want with another amount each.
    assert_eq!(receipt["transactions"][0]["version"], (8 * 7 + 4 * 8 + 1 + 1).to_string());
}

/// A ledger with one row of user 42, its port, and another ledger with two of user 7.
fn two_ledgers() -> (Scratch, Port, Scratch) {
    let (ledger, other) = (Scratch::new(), Scratch::new());
    drop(ledger.writer());
    other.writer().append(&[recharge(1, 7), recharge(2, 7)]).unwrap();
    let port = Port::open(&ledger.ledger());
    assert_eq!(port.post(&transaction(1, 5)).status, 200);
    (ledger, port, other)
}

fn sibling(ledger: &Path, suffix: &str) -> std::path::PathBuf {
    ledger.with_extension(format!("db{suffix}"))
}

/// Each was once acknowledged with 200, into a file that nobody would look for; or it damaged the file that was put there.
#[test]
fn nothing_is_written_once_the_path_leads_to_something_else() {
    type Act = fn(&Path, &Path);
    let acts: [(&str, Act, &str); 4] = [
        (
            "the ledger is moved away with its log, and another put there",
            |ledger, other| {
                for suffix in ["", "-wal", "-shm"] {
                    let (from, to) = (sibling(ledger, suffix), sibling(ledger, &format!("-old{suffix}")));
                    std::fs::rename(from, to).unwrap();
                }
                std::fs::copy(other, ledger).unwrap();
            },
            "another file",
        ),
        ("it is removed", |ledger, _| std::fs::remove_file(ledger).unwrap(), "removed"),
        (
            "its log is removed",
            |ledger, _| std::fs::remove_file(sibling(ledger, "-wal")).unwrap(),
            "-wal or -shm",
        ),
        (
            "another one is copied over it",
            |ledger, other| {
                std::fs::copy(other, ledger).unwrap();
            },
            "something else than SQLite",
        ),
    ];
    for (what, act, reason) in acts {
        let (ledger, port, other) = two_ledgers();
        act(&ledger.ledger(), &other.ledger());
        let before = std::fs::read(ledger.ledger()).ok();
        for number in 2..4 {
            let answer = port.post(&transaction(number, 5));
            assert_eq!(answer.status, 503, "{what}: {answer:?}");
            assert!(answer.detail().contains(reason), "{what}: {answer:?}");
        }
        drop(port);
        assert!(std::fs::read(ledger.ledger()).ok() == before, "{what}: the file was written to");
    }
}

/// Rows that another program writes through a second name lie in a log that nobody here can see.
#[test]
fn nothing_is_written_while_the_ledger_has_a_second_name() {
    let (ledger, port, _) = two_ledgers();
    std::fs::hard_link(ledger.ledger(), ledger.file("second.db")).unwrap();
    let answer = port.post(&transaction(2, 5));
    assert_eq!((answer.status, answer.detail().contains("2 names")), (503, true), "{answer:?}");
    std::fs::remove_file(ledger.file("second.db")).unwrap();
    assert!(port.post(&transaction(2, 5)).body.contains(r#""version":"2""#));
}

/// During a long import each caller once waited for all before it, 5 s a piece.
#[test]
fn callers_wait_for_another_writer_together_and_not_for_long() {
    const CALLERS: u32 = 48;
    let (ledger, port, _) = two_ledgers();
    let other = ledger.sql("BEGIN IMMEDIATE");
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let port = &port;
            scope.spawn(move || {
                let answer = port.post(&transaction(100 + caller, 5));
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.detail().contains("locked by another process"), "{answer:?}");
            });
        }
    });
    // Twice, for a caller may come while the group before it waits; the rest is what a slow machine may add.
    let bound = CALLERS * crate::limits::APPLY_WAIT / 2;
    assert!(began.elapsed() < bound, "{:?}", began.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(port.post(&transaction(2, 5)).body.contains(r#""version":"2""#));
}

/// Once 500, and an import wrote the version -2^63.
#[test]
fn an_account_without_a_next_version_is_a_conflict_that_says_so() {
    let (ledger, port, _) = two_ledgers();
    let last = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES \
        ('00000000-0000-4000-8000-0000000000ff', 42, 9223372036854775807, 'COIN', 1, 5, 0)";
    drop(ledger.sql(last));
    let answer = port.post(&transaction(2, 5));
    assert_eq!((answer.status, answer.detail().contains("none that another can follow")), (409, true));
    // What is there already is answered as ever.
    assert!(port.post(&transaction(1, 5)).body.contains(r#""version":"1","duplicate":true"#));
}

/// A stop once left the log filled, so that a backup put in the ledger's place afterwards was overlaid with it.
#[test]
fn after_a_stop_the_file_alone_is_the_whole_ledger() {
    let (ledger, port, _) = two_ledgers();
    drop(port);
    assert!(!sibling(&ledger.ledger(), "-wal").exists(), "the log is still there");
    assert_eq!(ledger.rows().len(), 1);
}
