//! The audit as an operator has it: a flag, a page, and a command that looks from outside.

use crate::support::{
    Server, folder_with_ledger, get, run, run_with_input, tamper, transaction, wait_for, write,
};

#[test]
fn a_node_is_audited_from_within_and_from_outside() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--audit", "100%"]);
    let passes = |page: &str| -> u64 {
        let count = page.lines().find_map(|line| line.strip_prefix("florin_audit_passes_total "));
        count.map_or(0, |count| count.parse().unwrap())
    };
    wait_for("a pass", || (passes(&get(server.admin, "/metrics")) >= 1).then_some(()));
    let audit = get(server.admin, "/v1/audit");
    assert!(audit.contains(r#""differences":"0""#) && audit.contains(r#""buckets":"1024""#), "{audit}");
    assert!(audit.contains(r#""evidence":[]"#), "{audit}");

    let admin = server.admin.to_string();
    run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &transaction(1, 7, "10")).ok();
    let command = ["audit", "--ledger", "sqlite:florin.db", "--node", &server.addr()];
    let said = run(folder.path(), &command).ok();
    assert!(said.contains("3 accounts are answered") && said.contains("to the byte"), "{said}");

    tamper(&folder.path().join("florin.db"), "UPDATE transactions SET amount = 1501 WHERE amount = 1500");
    let differences = |page: &str| page.contains("florin_audit_differences_total 1\n");
    wait_for("the difference", || differences(&get(server.admin, "/metrics")).then_some(()));
    let audit = get(server.admin, "/v1/audit");
    assert!(audit.contains(r#""user_id":"1""#) && audit.contains(r#""what":"balance""#), "{audit}");
    drop(server);

    // A node that does not look by itself is looked at from outside.
    let server = Server::start(folder.path(), &[]);
    assert!(get(server.admin, "/v1/audit").contains("--audit 1%"));
    let command = ["audit", "--ledger", "sqlite:florin.db", "--node", &server.addr()];
    run(folder.path(), &command).ok();
    tamper(&folder.path().join("florin.db"), "UPDATE transactions SET amount = 1500 WHERE amount = 1501");
    let found = run(folder.path(), &command);
    assert!(found.out.contains("user 1, version 2, balance:"), "{found:?}");
    assert!(found.refused(1).contains("1 of 3 accounts"), "it says how many");
}

/// The rows that were read were counted, and those of the account that comes last in a read are read again with the next: a ledger of
/// 1,000,003 rows was told as 1,057,599.
#[test]
fn each_row_of_the_ledger_counts_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A read of 1,024 rows ends in the middle of user 10; user 12 has more rows than a read.
    let row = |number: u32, user: u32| {
        format!("00000000-0000-4000-8000-{number:012},{user},COIN,recharge,5,2026-11-20T10:00:00Z\n")
    };
    let users = (0..1_100).map(|number| number / 100).chain([11; 100]).chain([12; 2_500]).chain([13]);
    let rows: String = (1..).zip(users).map(|(number, user)| row(number, user)).collect();
    write(
        folder.path(),
        "rows.csv",
        &format!("transaction_id,user_id,asset,kind,amount,occurred_at\n{rows}"),
    );
    run(folder.path(), &["import", "rows.csv"]).ok();
    let server = Server::start(folder.path(), &["--audit", "100%"]);
    let said = run(folder.path(), &["audit", "--node", &server.addr()]).ok();
    assert!(said.contains("14 accounts are answered") && said.contains(" as 3,701 rows of "), "{said}");
    // The node's own audit says the same of itself.
    let audit = wait_for("a pass", || {
        let audit = get(server.admin, "/v1/audit");
        audit.contains(r#""last":{"#).then_some(audit)
    });
    assert!(audit.contains(r#""rows":"3701""#), "{audit}");
}
