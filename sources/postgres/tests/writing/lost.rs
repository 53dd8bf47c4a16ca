//! The answer to a commit that never came. A connection that broke between COMMIT and its answer left the caller with "not known",
//! though the ledger knew; and a connection that led to another server than the followed one, which only had the same name and the
//! same history up to some place, took rows and acknowledged them, where no node ever saw them.
//!
//! A gate between writer and server does what a network does, at that very message.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use florin_core::follower::Source;
use florin_postgres::address::Host;
use florin_postgres::server::{OwnServer, Programs, SUPERUSER, run};
use florin_postgres::{PgAppender, PgBulkWriter, PgLedger, PgSource, Target};
use florin_record::{Appender, BulkWriter, LedgerError, NewTransaction, Trouble};

use crate::support::{Ledger, row, soon, told};

/// What becomes of the next COMMIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It is passed on, and so is its answer.
    Passed,
    /// It is passed on; the connection is cut before its answer.
    Unanswered,
    /// The connection is cut before it.
    Dropped,
    /// The writer's side is cut; it reaches the server only when somebody waits for what it holds.
    Late,
    /// As `Unanswered`, and nobody reaches the server any more.
    Vanished,
}

/// Between writer and server.
struct Gate {
    port: u16,
    server: Arc<AtomicU16>,
    fate: Arc<Mutex<Fate>>,
    is_shut: Arc<AtomicBool>,
    let_go: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn before(server: &OwnServer) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Gate {
            port: listener.local_addr().unwrap().port(),
            server: Arc::new(AtomicU16::new(server.port())),
            fate: Arc::new(Mutex::new(Fate::Passed)),
            is_shut: Arc::default(),
            let_go: Arc::default(),
        };
        let passage = gate.passage();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if passage.is_shut.load(SeqCst) {
                    continue;
                }
                let passage = passage.clone();
                thread::spawn(move || passage.pass(client));
            }
        });
        gate
    }

    fn passage(&self) -> Passage {
        Passage {
            server: Arc::clone(&self.server),
            fate: Arc::clone(&self.fate),
            is_shut: Arc::clone(&self.is_shut),
            let_go: Arc::clone(&self.let_go),
        }
    }

    fn next_commit_is(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    fn target(&self, target: &Target) -> Target {
        let mut through = target.clone();
        through.address.hosts = vec![Host::Tcp("127.0.0.1".to_owned(), self.port)];
        through
    }

    fn let_go(&self) {
        *self.let_go.0.lock().unwrap() = true;
        self.let_go.1.notify_all();
    }
}

#[derive(Clone)]
struct Passage {
    server: Arc<AtomicU16>,
    fate: Arc<Mutex<Fate>>,
    is_shut: Arc<AtomicBool>,
    let_go: Arc<(Mutex<bool>, Condvar)>,
}

impl Passage {
    /// Passes on what the client sends, message by message, and what the server sends as it comes.
    fn pass(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.server.load(SeqCst))) else { return };
        let (mut answers, mut answered) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let is_cut = Arc::<AtomicBool>::default();
        let cut = Arc::clone(&is_cut);
        let back = thread::spawn(move || {
            let mut bytes = [0; 8_192];
            while let Ok(count @ 1..) = answers.read(&mut bytes) {
                // What was passed on is read to its end: the server has done what it was told.
                if cut.load(SeqCst) {
                    break;
                }
                if answered.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = answered.shutdown(Shutdown::Both);
        });
        let mut is_started = false;
        while let Ok(message) = message(&mut client, is_started) {
            is_started = true;
            let is_commit = message.first() == Some(&b'Q') && message[5..].starts_with(b"COMMIT");
            let fate = if is_commit {
                std::mem::replace(&mut *self.fate.lock().unwrap(), Fate::Passed)
            } else {
                Fate::Passed
            };
            if fate == Fate::Dropped {
                break;
            }
            is_cut.store(fate != Fate::Passed, SeqCst);
            if fate == Fate::Late {
                client.shutdown(Shutdown::Both).unwrap();
                let gone = self.let_go.1.wait_while(self.let_go.0.lock().unwrap(), |gone| !*gone);
                drop(gone.unwrap());
            }
            self.is_shut.store(fate == Fate::Vanished, SeqCst);
            if server.write_all(&message).is_err() || fate != Fate::Passed {
                break;
            }
        }
        if is_cut.load(SeqCst) {
            back.join().unwrap();
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }
}

/// A whole message of the client's. The first one has no type before its length.
fn message(from: &mut TcpStream, is_started: bool) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; if is_started { 5 } else { 4 }];
    from.read_exact(&mut message)?;
    let head = message.len();
    let length = u32::from_be_bytes(*message[head - 4..].first_chunk().unwrap()) as usize;
    message.resize(head + length - 4, 0);
    from.read_exact(&mut message[head..])?;
    Ok(message)
}

fn started() -> (Ledger, Gate) {
    let ledger = Ledger::made(&Programs::find().unwrap());
    let gate = Gate::before(&ledger.server);
    (ledger, gate)
}

fn appender(target: Target) -> PgAppender {
    PgAppender::new(Arc::new(PgLedger::open(target).unwrap()))
}

/// Says whether somebody waits for a lock in the server.
fn until_somebody_waits(ledger: &Ledger) {
    let deadline = soon();
    while ledger.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").unwrap() == "0" {
        assert!(Instant::now() < deadline, "nobody waits for the first attempt's end");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_out() {
    let (ledger, gate) = started();
    let mut appender = appender(gate.target(&ledger.target));
    let mut id = 0;
    let mut next = |user| {
        id += 1;
        row(id, user, "COIN", 5)
    };
    let known = next(1);
    assert_eq!(told(&appender.append(&[&[known]], soon()).unwrap()[0]), [(1, false)]);
    // An account that is there, one that is new, one row that was there before, and one id twice in a request.
    for (round, fate) in (2..).zip([Fate::Unanswered, Fate::Dropped, Fate::Late]) {
        let (a, b) = (next(1), next(round * 10));
        gate.next_commit_is(fate);
        let outcomes = thread::scope(|scope| {
            let appending = scope.spawn(|| appender.append(&[&[a, known, a], &[b]], soon()));
            if fate == Fate::Late {
                until_somebody_waits(&ledger);
                gate.let_go();
            }
            appending.join().unwrap()
        });
        let outcomes = outcomes.unwrap_or_else(|error| panic!("{fate:?}: {error}"));
        assert_eq!(told(&outcomes[0]), [(round, false), (1, true), (round, true)], "{fate:?}");
        assert_eq!(told(&outcomes[1]), [(1, false)], "{fate:?}");
        let again = appender.append(&[&[a], &[b]], soon()).unwrap();
        assert_eq!((told(&again[0]), told(&again[1])), (vec![(round, true)], vec![(1, true)]), "{fate:?}");
        assert_eq!(
            ledger.sql("SELECT count(*) FROM transactions").unwrap(),
            (1 + (round - 1) * 2).to_string()
        );
    }
}

/// Nobody can say what became of it: so nobody does, and to send it again is how its writer learns.
#[test]
fn what_nobody_can_find_out_is_said_to_be_unknown() {
    let (ledger, gate) = started();
    let mut appender = appender(gate.target(&ledger.target));
    gate.next_commit_is(Fate::Vanished);
    let error = appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).unwrap_err();
    assert_eq!(error.trouble, Trouble::Uncertain, "{error}");
    assert!(error.reason.starts_with("it is not known whether it was appended: "), "{error}");
    assert!(!error.reason.contains("nothing was appended"), "{error}");
    gate.is_shut.store(false, SeqCst);
    assert_eq!(told(&appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).unwrap()[0]), [(1, true)]);
}

#[test]
fn a_bulk_whose_commit_is_not_answered_is_found_out() {
    let (ledger, gate) = started();
    let put = |rows: &[NewTransaction], fate: Fate| -> Result<u64, LedgerError> {
        let mut writer = PgBulkWriter::open(&gate.target(&ledger.target))?;
        let mut bulk = writer.begin()?;
        for (number, row) in (1..).zip(rows) {
            bulk.add(number, row)?;
        }
        let judged = bulk.judge(&mut |_, _, rejection| panic!("{rejection}"))?;
        gate.next_commit_is(fate);
        bulk.commit().map(|()| judged.new)
    };
    let rows: Vec<_> = (0..100).map(|id| row(id, u64::try_from(id % 7).unwrap(), "COIN", 5)).collect();
    let error = put(&rows, Fate::Dropped).unwrap_err();
    assert!(error.reason.starts_with("nothing was appended"), "{error}");
    assert_eq!(ledger.sql("SELECT count(*) FROM transactions").unwrap(), "0");
    assert_eq!(put(&rows, Fate::Unanswered), Ok(100));
    let more: Vec<_> = (0..200).map(|id| row(id, u64::try_from(id % 7).unwrap(), "COIN", 5)).collect();
    let entered = thread::scope(|scope| {
        let putting = scope.spawn(|| put(&more, Fate::Late));
        until_somebody_waits(&ledger);
        gate.let_go();
        putting.join().unwrap()
    });
    assert_eq!(entered, Ok(100));
    assert_eq!(ledger.sql("SELECT count(*) FROM transactions").unwrap(), "200");
}

/// A copy of the server, made from its backup, which goes on from there by itself: its rows are nobody's.
fn copy_of(ledger: &Ledger) -> OwnServer {
    let programs = ledger.server.programs();
    OwnServer::prepare(programs, &[("fsync", "off")], |copy| {
        let mut backup = programs.command("pg_basebackup")?;
        backup
            .args(["--checkpoint=fast", "-d", &ledger.server.url(SUPERUSER, SUPERUSER), "-D"])
            .arg(copy.data());
        run(&mut backup)
    })
    .unwrap()
}

#[test]
fn nothing_is_acknowledged_that_another_server_took() {
    let (ledger, gate) = started();
    let through = gate.target(&ledger.target);
    let opened = Arc::new(PgLedger::open(through.clone()).unwrap());
    let mut appender = PgAppender::new(Arc::clone(&opened));
    assert!(appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).is_ok());
    let copy = copy_of(&ledger);
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    gate.server.store(copy.port(), SeqCst);
    ledger.sql(cut).unwrap();
    // The first may find only that its connection is gone.
    let error =
        (0..2).map(|_| appender.append(&[&[row(2, 1, "COIN", 5)]], soon()).unwrap_err()).last().unwrap();
    assert_eq!(error.trouble, Trouble::Unavailable, "{error}");
    assert!(error.reason.contains("this is not the server that is followed"), "{error}");
    // A commit that the followed server took, while the writer is led elsewhere: what the other one knows of it is no answer.
    gate.server.store(ledger.server.port(), SeqCst);
    assert!(appender.append(&[&[row(3, 1, "COIN", 5)]], soon()).is_ok());
    gate.next_commit_is(Fate::Unanswered);
    let error = thread::scope(|scope| {
        let appending = scope.spawn(|| appender.append(&[&[row(4, 1, "COIN", 5)]], soon()));
        let deadline = soon();
        while *gate.fate.lock().unwrap() != Fate::Passed {
            assert!(Instant::now() < deadline, "a commit is sent");
        }
        gate.server.store(copy.port(), SeqCst);
        appending.join().unwrap()
    });
    // Where it was found out before the way was changed, it is known.
    if let Err(error) = error {
        assert_eq!(error.trouble, Trouble::Uncertain, "{error}");
    }
    // Once the other one is followed, it takes rows.
    let mut source = PgSource::open(&opened).unwrap();
    source.load(None).unwrap();
    let deadline = soon();
    while let Err(error) = appender.append(&[&[row(5, 1, "COIN", 5)]], soon()) {
        assert!(Instant::now() < deadline, "{error}");
    }
    let at_copy = Ledger { target: Ledger::at(&copy, SUPERUSER, ""), server: copy };
    let all = "SELECT string_agg(right(transaction_id, 1), ',' ORDER BY version) FROM transactions";
    assert_eq!(at_copy.sql(all).unwrap(), "1,5");
    assert_eq!(ledger.sql(all).unwrap(), "1,3,4");
}
