//! A standby of a PostgreSQL 18 keeps a copy of a node's slot: when the primary dies and the standby is promoted, the node goes on where it
//! was, and nothing is loaded.

use std::path::Path;
use std::process::Command;

use florin_postgres::address::Host;
use florin_postgres::server::{OwnServer, Programs, SUPERUSER, run};
use florin_postgres::{Target, server};

use crate::fetched::fetched;
use crate::mirror::{Mirror, eventually};
use crate::{ALL, SCHEMA, rows};

fn sql(server: &OwnServer, sql: &str) -> String {
    let mut psql = Programs::find().expect("a client").command("psql").unwrap();
    psql.arg("-h").arg(server.socket_folder()).args(["-p", &server.port().to_string(), "-U", SUPERUSER]);
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", sql]);
    let done = psql.output().unwrap();
    assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn copy(from: &Path, to: &Path) -> Result<(), server::ServerError> {
    run(Command::new("cp").arg("-a").args([from, to]))
}

#[test]
fn a_standby_that_keeps_the_slot_is_gone_on_with_and_nothing_is_loaded() {
    let Some((programs, _)) = fetched().find(|(_, version)| version.contains(" 18.")) else {
        println!("skipped: no PostgreSQL 18 here that another user may run");
        return;
    };
    // A node hears of a commit once the standby has it.
    let settings = [("fsync", "off"), ("synchronized_standby_slots", "db2")];
    let mut primary = OwnServer::start(&programs, &settings).unwrap();
    sql(&primary, SCHEMA);
    sql(&primary, &rows(0, 999, 10));
    sql(&primary, "SELECT pg_create_physical_replication_slot('db2', true)");
    primary.end();
    let backup = primary.socket_folder().join("backup");
    copy(&primary.data(), &backup).unwrap();
    primary.resume().unwrap();
    let (host, port) = (primary.socket_folder().display().to_string(), primary.port());
    let from = format!("host={host} port={port} user={SUPERUSER} dbname=postgres");
    let settings = [
        ("fsync", "off"),
        ("primary_conninfo", &from),
        ("primary_slot_name", "db2"),
        ("hot_standby_feedback", "on"),
        ("sync_replication_slots", "on"),
        // So that the test need not wait for the usual ten seconds.
        ("wal_receiver_status_interval", "1s"),
    ];
    let standby = OwnServer::prepare(&programs, &settings, |standby| {
        copy(&backup, &standby.data())?;
        // The primary's slots are none of its own.
        run(Command::new("rm").arg("-rf").arg(standby.data().join("pg_replslot/db2")))?;
        copy(&backup.join("PG_VERSION"), &standby.data().join("standby.signal"))
    })
    .unwrap();

    let address = format!("postgres://{SUPERUSER}@127.0.0.1:{port}/postgres?slot=florin_test");
    let mut target = Target::new(address.parse().unwrap(), Default::default());
    let tcp = |port| Host::Tcp("127.0.0.1".to_owned(), port);
    target.address.hosts = vec![tcp(port), tcp(standby.port())];
    let mirror = Mirror::follow(target);
    mirror.catch_up();
    let mut next = 1_000;
    let mut add = |server: &OwnServer| {
        sql(server, &rows(next, next + 9, 10));
        next += 10;
    };
    // A copy begins where the standby has what the slot needs, and the slot moves with what is committed.
    eventually("the standby keeps the slot", || {
        add(&primary);
        let slot =
            "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = 'florin_test'";
        sql(&standby, slot) == "t"
    });
    add(&primary);
    mirror.catch_up();
    assert_eq!(mirror.told(), sql(&primary, ALL));

    primary.crash();
    sql(&standby, "SELECT pg_promote()");
    add(&standby);
    mirror.catch_up();
    assert_eq!(mirror.told(), sql(&standby, ALL));
    assert_eq!((mirror.status.loads(), mirror.status.loads_on_top()), (1, 0), "the slot had everything");
    let view = mirror.view.lock().unwrap();
    assert!(view.quarantined.is_empty() && !view.went_back);
}
