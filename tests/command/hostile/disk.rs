//! The disk that the ledger lies on is full: a small one of the test's own, which nobody else sees.

use std::process::{Command, Stdio};

use super::*;
use crate::support::{Ended, SERVE, end, get, run, run_with_input, wait_for};

/// A command that sees `small`, in `folder`, as a disk of so much room, on which the ledger lies.
fn on_small_disk(folder: &Path, room: &str, what: &str) -> Command {
    let mounted = format!("mount -t tmpfs -o size={room} tmpfs small && cp florin.db small/ && {what}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &mounted, "sh", env!("CARGO_BIN_EXE_florin")]);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A folder with a ledger and a place for a small disk, where one may be mounted.
fn folder_with_small_disk() -> Option<tempfile::TempDir> {
    let folder = folder_with_ledger();
    std::fs::create_dir(folder.path().join("small")).unwrap();
    let may = on_small_disk(folder.path(), "1m", "true").output().is_ok_and(|ended| ended.status.success());
    if !may {
        println!("skipped: nobody may mount a small disk here");
    }
    may.then_some(folder)
}

fn rows(count: u64) -> String {
    let row = |n: u64| {
        let user = 10 + n % 100;
        format!("00000000-0000-4000-b000-{n:012},{user},COIN,recharge,1,2026-11-20T10:00:00Z\n")
    };
    let head = "transaction_id,user_id,asset,kind,amount,occurred_at\n".to_owned();
    (0..count).map(row).fold(head, |rows, row| rows + &row)
}

/// An import that fills the disk says so and has put nothing in; the ledger is the one that was there.
#[test]
fn an_import_that_fills_the_disk_leaves_nothing_behind() {
    const ROWS: u64 = 30_000;
    let Some(folder) = folder_with_small_disk() else { return };
    std::fs::write(folder.path().join("many.csv"), rows(ROWS)).unwrap();
    let import = r#""$1" import many.csv --ledger sqlite:small/florin.db; code=$?; cp small/florin.db* after/; exit $code"#;
    std::fs::create_dir(folder.path().join("after")).unwrap();
    let Ended { code, err, .. } = end(on_small_disk(folder.path(), "2m", import), "");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("full"), "{err}");
    let after = folder.path().join("after");
    let again = run(&after, &["import", "../rows.csv"]).ok();
    assert!(again.contains("3 were in the ledger already"), "{again}");
    let all = run(&after, &["import", "../many.csv"]).ok();
    assert!(all.contains("imported 30,000 transactions") && !all.contains("already"), "{all}");
}

/// A node whose ledger's disk is full refuses what it is given, with the reason, and answers what it is asked.
#[test]
fn a_node_whose_disk_is_full_refuses_writes_and_answers() {
    let Some(folder) = folder_with_small_disk() else { return };
    let serve = r#"exec "$@""#;
    let mut command = on_small_disk(folder.path(), "1m", serve);
    command.args(SERVE).args(["--ledger", "sqlite:small/florin.db", "--shards", "1"]);
    let server = Server::spawn(command);
    let admin = server.admin.to_string();
    let mut number = 0;
    let refused = wait_for("a disk that is full", || {
        let lines: String = (0..500).map(|n| transaction(number + n, 8, "1") + "\n").collect();
        number += 500;
        let applied = run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &lines);
        (applied.code != Some(0)).then_some(applied)
    });
    assert!(refused.err.contains("full"), "{refused:?}");
    let written = u64::from(number) - 500;
    let path = format!("/v1/users/8/balance?min_version={written}&wait_ms=1000");
    let balance = wait_for("what was written", || {
        Some(get(server.any, &path)).filter(|balance| balance.starts_with("HTTP/1.1 200"))
    });
    assert!(!balance.contains("Quarantined"), "{balance}");
    assert!(get(server.any, "/v1/users/1/balance").contains("1200"), "others, too");
}
