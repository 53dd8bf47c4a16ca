//! Each way in which a file is no ledger that can be used has its own answer.

use std::fs;

use crate::scratch::*;
use crate::{Reader, Seq, SqliteError, Writer};

fn opened(scratch: &Scratch) -> [Result<(), SqliteError>; 2] {
    [Reader::open(&scratch.ledger()).map(drop), Writer::open(&scratch.ledger()).map(drop)]
}

#[test]
fn no_file() {
    let scratch = Scratch::new();
    for result in opened(&scratch) {
        let error = result.unwrap_err();
        assert!(matches!(error, SqliteError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("florin import"), "{error}");
    }
    assert!(!scratch.ledger().exists());
    let nowhere = Writer::open_or_create(&scratch.file("no/such/folder/ledger.db")).map(drop).unwrap_err();
    assert!(matches!(nowhere, SqliteError::Sqlite { operation: "open", .. }), "{nowhere}");
}

#[test]
fn something_else_than_sqlite() {
    let scratch = Scratch::new();
    fs::write(scratch.ledger(), "transaction_id,user_id\n".repeat(100)).unwrap();
    for result in opened(&scratch) {
        assert!(matches!(result, Err(SqliteError::NotALedger { .. })), "{result:?}");
    }
    fs::remove_file(scratch.ledger()).unwrap();
    fs::create_dir(scratch.ledger()).unwrap();
    for result in opened(&scratch) {
        assert!(matches!(result, Err(SqliteError::NotALedger { .. })), "{result:?}");
    }
}

#[test]
fn another_database() {
    let create = "CREATE TABLE transactions (seq INTEGER PRIMARY KEY, transaction_id TEXT, user_id, version, asset, amount";
    for (sql, lacking) in [
        (String::new(), "no table"),
        ("CREATE TABLE orders (id INTEGER)".to_owned(), "no table"),
        (format!("{create})"), "lacks kind, occurred_at"),
    ] {
        let scratch = Scratch::new();
        fs::write(scratch.ledger(), "").unwrap();
        drop(scratch.sql(&sql));
        for result in opened(&scratch) {
            let error = result.unwrap_err();
            assert!(matches!(error, SqliteError::OtherSchema { .. }), "{error}");
            assert!(error.to_string().contains(lacking), "{error}");
        }
    }
    // It can be read, but duplicates could not be told apart from new rows.
    let scratch = Scratch::new();
    drop(scratch.sql(&format!("{create}, kind, occurred_at)")));
    let [reader, writer] = opened(&scratch);
    reader.unwrap();
    assert!(matches!(writer, Err(SqliteError::OtherSchema { .. })), "{writer:?}");
}

#[test]
fn other_tables_are_left_alone() {
    let scratch = Scratch::new();
    drop(scratch.sql("CREATE TABLE orders (id INTEGER)"));
    let result = Writer::open_or_create(&scratch.ledger()).map(drop);
    assert!(matches!(result, Err(SqliteError::OtherSchema { .. })), "{result:?}");
}

#[test]
fn a_locked_ledger() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let holder = scratch.sql("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
    for result in opened(&scratch) {
        let error = result.unwrap_err();
        assert!(matches!(error, SqliteError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("florin import"), "{error}");
    }
    drop(holder);
    for result in opened(&scratch) {
        result.unwrap();
    }
}

#[test]
fn a_writer_does_not_keep_readers_out() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.append(&[recharge(1, 7)]).unwrap();
    let mut batch = writer.begin().unwrap();
    batch.append(&recharge(2, 7)).unwrap().unwrap();
    assert_eq!(scratch.rows().len(), 1);
    batch.commit().unwrap();
    assert_eq!(scratch.rows().len(), 2);
}

#[test]
fn names_mean_nothing_but_files() {
    let scratch = Scratch::new();
    for name in ["a b?mode=memory", ":memory:", "file:x", "ü'\"%20"] {
        let path = scratch.file(name);
        Writer::open_or_create(&path).unwrap().append(&[recharge(1, 7)]).unwrap();
        assert!(path.is_file(), "{name}");
        assert_eq!(Reader::open(&path).unwrap().last().unwrap(), Some(Seq(1)), "{name}");
    }
}

/// The feed once stood still at "attempt to write a readonly database" until somebody happened to write.
#[test]
fn what_a_dead_writer_began_is_taken_back() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 7)]).unwrap();
    // A cache this small has to be written to the file before the commit.
    let dying = scratch.sql("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE");
    for version in 2..500 {
        let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES \
            ('00000000-0000-4000-8000-' || printf('%012d', ?1), 7, ?1, 'COIN', 1, 5, 0)";
        dying.execute(sql, [version]).unwrap();
    }
    let died = Scratch::new();
    for suffix in ["", "-journal"] {
        let name = |scratch: &Scratch| scratch.file(&format!("ledger.db{suffix}"));
        fs::copy(name(&scratch), name(&died)).unwrap();
    }
    drop(Reader::open(&died.ledger()).unwrap());
    assert_eq!(died.rows().len(), 1);
}

#[test]
fn a_folder_that_may_not_be_written_to_is_named() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    // What SQLite says to a user who is not root: "unable to open database file", "attempt to write a readonly database".
    use rusqlite::ffi::{Error, SQLITE_CANTOPEN, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_DIRECTORY};
    for code in [SQLITE_CANTOPEN, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_DIRECTORY] {
        let refused = rusqlite::Error::SqliteFailure(Error::new(code), None);
        let error = SqliteError::of(&scratch.ledger(), "open", refused);
        assert!(error.to_string().contains("in that folder"), "{error}");
        assert_eq!(error.exit_code(), 20);
    }
}

/// To open a FIFO waits for whoever writes to it: a start on one never ended.
#[test]
fn nothing_that_is_no_file_is_waited_for() {
    let fifo = |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let scratch = Scratch::new();
        if !suffix.is_empty() {
            drop(scratch.writer());
        }
        fifo(scratch.file(&format!("ledger.db{suffix}")));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || drop(tell.send((opened(&scratch), scratch))));
        let (results, _scratch) = told.recv_timeout(std::time::Duration::from_secs(30)).expect("it ends");
        for result in results {
            assert!(matches!(result, Err(SqliteError::NotALedger { .. })), "{suffix}: {result:?}");
        }
    }
}

/// A ledger that was made under the name of another's log: SQLite removed it when that other was opened.
#[test]
fn no_ledger_is_made_under_a_name_that_sqlite_gives_to_others() {
    let scratch = Scratch::new();
    for name in ["other.db-wal", "other.db-journal", "other.db-shm"] {
        for is_there in [false, true] {
            if is_there {
                fs::write(scratch.file(name), "").unwrap();
            }
            let refusal = Writer::open_or_create(&scratch.file(name)).map(drop).unwrap_err();
            assert!(matches!(refusal, SqliteError::Beside { .. }), "{refusal}");
            assert_eq!(scratch.file(name).exists(), is_there);
        }
    }
}
