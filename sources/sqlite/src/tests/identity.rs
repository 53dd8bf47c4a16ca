//! A ledger that is in use is told from another one, and from itself after whatever SQLite does to it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::scratch::*;
use crate::{IdentityError, LedgerFile, Reader, SqliteError, Writer};

fn replaced(ledger: &LedgerFile) -> String {
    match ledger.check() {
        Err(IdentityError::Replaced(reason)) => reason,
        other => panic!("expected another ledger, found {other:?}"),
    }
}

#[test]
fn what_sqlite_does_to_a_ledger_makes_it_no_other() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let ledger = LedgerFile::open(&scratch.ledger()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let other = scratch.sql("");
            for number in 0..60 {
                writer.append(&[recharge(number, 7), recharge(number + 100, 8)]).unwrap();
                let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][usize::from(number % 4)];
                let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
                other.query_row(&checkpoint, [], |_| Ok(())).unwrap();
                if number % 20 == 19 {
                    other.execute_batch("VACUUM").unwrap();
                }
                // The last to close but one: the log stays, for the ledger holds it.
                drop(Writer::open(&scratch.ledger()).unwrap());
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            ledger.check().unwrap();
        }
    });
    ledger.check().unwrap();
}

/// The log of a ledger lies over whatever is copied into its file, so readers saw a mixture and nobody noticed.
#[test]
fn an_older_copy_of_the_same_ledger_is_another_one() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.append(&[recharge(1, 7)]).unwrap();
    writer.checkpoint();
    fs::copy(scratch.ledger(), scratch.file("backup.db")).unwrap();
    writer.append(&[recharge(2, 7)]).unwrap();
    let ledger = LedgerFile::open(&scratch.ledger()).unwrap();
    ledger.check().unwrap();
    fs::copy(scratch.file("backup.db"), scratch.ledger()).unwrap();
    assert!(replaced(&ledger).contains("something else than SQLite"));
    writer.abandon();
}

#[test]
fn what_was_found_once_stays_so_for_all_who_ask() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let ledger = LedgerFile::open(&scratch.ledger()).unwrap();
    let asks = Arc::clone(&ledger);
    ledger.condemn("it lost rows");
    assert_eq!(replaced(&asks), "it lost rows");
}

#[test]
fn a_ledger_that_cannot_be_looked_at_is_no_other_one() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.file("folder")).unwrap();
    let path = scratch.file("folder/ledger.db");
    drop(Writer::open_or_create(&path).unwrap());
    let ledger = LedgerFile::open(&path).unwrap();
    // A loop of links stands for whatever keeps a path from being followed.
    fs::rename(scratch.file("folder"), scratch.file("away")).unwrap();
    std::os::unix::fs::symlink(scratch.file("folder"), scratch.file("folder")).unwrap();
    assert!(matches!(ledger.check(), Err(IdentityError::Unknown(_))), "{:?}", ledger.check());
    fs::remove_file(scratch.file("folder")).unwrap();
    fs::rename(scratch.file("away"), scratch.file("folder")).unwrap();
    ledger.check().unwrap();
}

/// Whether a checkpoint had brought the new name into the file was chance, and decided whether the ledger was given up for good.
#[test]
fn a_table_of_another_name_makes_it_no_other_one_and_other_rows_do() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.append(&[recharge(1, 7)]).unwrap();
    let ledger = LedgerFile::open(&scratch.ledger()).unwrap();
    let run = |sql: &str| {
        scratch.sql(sql);
        scratch.sql("").query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    };
    run("ALTER TABLE transactions RENAME TO elsewhere");
    let checked = ledger.check();
    let Err(IdentityError::Unknown(reason)) = checked else { panic!("{checked:?}") };
    assert!(reason.contains("it has no table `transactions`"), "{reason}");
    run("ALTER TABLE elsewhere RENAME TO transactions");
    ledger.check().unwrap();
    run("ALTER TABLE transactions RENAME TO elsewhere");
    ledger.check().unwrap_err();
    run("CREATE TABLE transactions AS SELECT * FROM elsewhere LIMIT 0");
    assert!(replaced(&ledger).contains("it lost rows"));
}

#[test]
fn a_link_of_the_other_kind_leads_to_the_same_ledger() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    std::os::unix::fs::symlink(scratch.ledger(), scratch.file("link.db")).unwrap();
    let ledger = LedgerFile::open(&scratch.file("link.db")).unwrap();
    scratch.writer().append(&[recharge(1, 7)]).unwrap();
    ledger.check().unwrap();
    assert!(Reader::open(&scratch.file("link.db")).unwrap().last().unwrap().is_some());
}

#[test]
fn a_ledger_with_a_second_name_is_not_opened() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    fs::hard_link(scratch.ledger(), scratch.file("second.db")).unwrap();
    for error in [
        Reader::open(&scratch.ledger()).map(drop).unwrap_err(),
        Writer::open(&scratch.file("second.db")).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, SqliteError::SecondName { links: 2, .. }), "{error}");
        assert_eq!(error.exit_code(), 19);
    }
}
