//! The ledger's file while callers ask: another program keeps it locked, its table has another name for a moment, and it is taken away and
//! put back, which takes a restart. `/readyz` names what is wrong, and the file is none the worse for it.

use rusqlite::Connection;

use super::*;
use crate::support::get;

#[test]
fn no_promise_is_broken_while_the_ledgers_file_is_locked_taken_away_and_altered() {
    let folder = folder_with_ledger();
    let (ledger, away) = (folder.path().join("florin.db"), folder.path().join("away.db"));
    let mut server = start(folder.path(), 2, &[]);
    let says = |server: &Server, what: &str| {
        wait_for(what, || get(server.admin, "/readyz").contains(what).then_some(()));
    };
    let other = Connection::open(&ledger).unwrap();
    // Others write, too: who comes to the lock is chance.
    let run = |sql: &str| wait_for(sql, || other.execute_batch(sql).ok());
    let mut writer = Writer::open(&ledger).unwrap();
    // Whatever keeps a row out, it is tried again.
    let commit = |row: Row| append(&mut writer, row).is_ok();
    with_callers(commit, (server.any, server.admin), |scene| {
        for trouble in 0..variable("FLORIN_ENDS", 3) {
            scene.go_on();
            match trouble % 3 {
                0 => {
                    run("BEGIN EXCLUSIVE");
                    let rows = scene.written[0].load(Relaxed);
                    scene.go_on();
                    assert!(scene.written[0].load(Relaxed) <= rows + 1, "who keeps it keeps everybody out");
                    run("COMMIT");
                }
                1 => {
                    run("ALTER TABLE transactions RENAME TO elsewhere");
                    says(&server, "it has no table `transactions`");
                    run("ALTER TABLE elsewhere RENAME TO transactions");
                }
                _ => {
                    std::fs::rename(&ledger, &away).unwrap();
                    says(&server, "is no longer the one that was opened: it was removed");
                    std::fs::rename(&away, &ledger).unwrap();
                    server.signal(Signal::KILL);
                    server.ended();
                    server = start(folder.path(), 1 + trouble as usize % 3, &[]);
                    scene.serve(&server);
                }
            }
        }
        scene.go_on();
        server.signal(Signal::TERM);
        server.ended();
    });
    let whole: String = other.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    // Another one takes it for the same ledger.
    let server = start(folder.path(), 1, &[]);
    assert!(get(server.any, "/v1/users/1/balance").starts_with("HTTP/1.1 200"));
}
