//! Real servers of every version that is here: a ledger is made, checked, written to by nodes and by commands, and asked how it is.

mod fetched;
mod lost;
mod oddities;
mod support;

use std::time::{Duration, Instant};

use florin_postgres::mapping::{Columns, Kinds, Mapping};
use florin_postgres::schema::Roles;
use florin_postgres::server::{OwnServer, Programs, SUPERUSER};
use florin_postgres::{PgBulkWriter, PgExport, Target, admin};
use florin_record::{Added, Appender, BulkWriter, Export, Field, NewTransaction, Rejection, Trouble, Weight};
use florin_schema::UserId;
use support::{Ledger, row, soon, told, versions};

#[test]
fn a_ledger_is_made_once_and_keeps_its_rules() {
    for programs in versions() {
        let ledger = Ledger::empty(&programs);
        let roles = Roles { reader: Some("node".to_owned()), writer: Some("teller".to_owned()) };
        let first = admin::init(&ledger.target, &roles).unwrap();
        assert!(first.iter().any(|done| done.contains("made the table public.transactions")), "{first:?}");
        let again = admin::init(&ledger.target, &roles).unwrap();
        assert!(!again.iter().any(|done| done.starts_with("made")), "{again:?}");
        let insert =
            "INSERT INTO transactions (transaction_id, user_id, asset, kind, amount, occurred_at) VALUES";
        let id = |n| format!("'00000000-0000-0000-0000-00000000000{n}'");
        // The trigger numbers, also within one statement; what ON CONFLICT leaves out takes no number with it.
        ledger
            .sql(&format!("{insert} ({}, 7, 'COIN', 1, 5, 0), ({}, 7, 'COIN', 1, 5, 0)", id(1), id(2)))
            .unwrap();
        ledger.sql(&format!("{insert} ({}, 7, 'COIN', 1, 5, 0) ON CONFLICT DO NOTHING", id(1))).unwrap();
        ledger.sql(&format!("SET ROLE teller; {insert} ({}, 7, 'COIN', 1, 5, 0)", id(3))).unwrap();
        let versions =
            "SELECT string_agg(version::text, ',' ORDER BY seq) FROM transactions WHERE user_id = 7";
        assert_eq!(ledger.sql(versions).unwrap(), "1,2,3");
        // Whoever copies them elsewhere has them in that order, with their ids.
        let mut copied = Vec::new();
        let mut export = PgExport::new(&ledger.target).unwrap();
        export.next(&mut copied).unwrap();
        let told: Vec<_> = copied.iter().map(|row| (row.transaction, row.version.0)).collect();
        let expected = |id| NewTransaction { occurred_at_us: 0, ..row(id, 7, "COIN", 5) };
        assert_eq!(told, [(expected(1), 1), (expected(2), 2), (expected(3), 3)]);
        export.next(&mut copied).unwrap();
        assert_eq!(copied.len(), 3, "that was all");
        for refused in [
            "UPDATE transactions SET amount = 1",
            "DELETE FROM transactions",
            "TRUNCATE transactions",
            &format!("{insert} (upper('0000000A-0000-0000-0000-000000000009'), 7, 'COIN', 1, 5, 0)"),
            &format!("{insert} ({}, 7, 'coin', 1, 5, 0)", id(4)),
            &format!("{insert} ({}, 7, 'COIN', 11, 5, 0)", id(4)),
            &format!("{insert} ({}, -7, 'COIN', 1, 5, 0)", id(4)),
            &format!("SET ROLE node; {insert} ({}, 7, 'COIN', 1, 5, 0)", id(4)),
        ] {
            assert!(ledger.sql(refused).is_err(), "{refused}");
        }
        // What a node needs is there, and the node's role is told from one that could do more.
        let node = Ledger::at(&ledger.server, "node", "");
        let found = admin::check(&node).unwrap();
        assert!(found.iter().all(|finding| finding.weight == Weight::Right), "{found:#?}");
        let found = admin::check(&ledger.target).unwrap();
        assert!(found.iter().any(|finding| finding.sentence.contains("superuser")), "{found:#?}");
        let standing = admin::standing(&node).unwrap();
        assert_eq!(standing.at, None);
        ledger.sql("SELECT pg_create_logical_replication_slot('florin', 'pgoutput')").unwrap();
        let at = admin::standing(&node).unwrap().at.unwrap();
        assert_eq!((at.is_active, at.wal_status.as_str(), at.lag_ms), (false, "reserved", None));
    }
}

#[test]
fn what_a_node_would_miss_is_said_with_what_to_do() {
    let programs = Programs::find().unwrap();
    let server =
        OwnServer::start(&programs, &[("wal_level", "replica"), ("max_replication_slots", "0")]).unwrap();
    let target = Ledger::at(&server, SUPERUSER, "?table=bank.rows");
    let mut ledger = Ledger { server, target };
    let wrong = |target: &Target| {
        let found =
            admin::check(target).unwrap().into_iter().filter(|finding| finding.weight == Weight::Wrong);
        found.map(|finding| finding.sentence).collect::<Vec<_>>().join("\n")
    };
    let told = wrong(&ledger.target);
    for part in ["wal_level", "max_replication_slots", "no table \"bank\".\"rows\""] {
        assert!(told.contains(part), "{part}: {told}");
    }
    ledger
        .sql(
            "CREATE SCHEMA bank; CREATE TABLE bank.rows (id uuid, owner int, no int, currency text, what text, cents numeric, at timestamptz); \
             INSERT INTO bank.rows SELECT gen_random_uuid(), i % 3, i / 3 + 1, 'EUR', CASE WHEN i % 2 = 0 THEN 'in' ELSE 'out' END, \
             CASE WHEN i % 2 = 0 THEN 5 ELSE -5 END, now() FROM generate_series(0, 29) i; \
             CREATE PUBLICATION florin FOR TABLE bank.rows WHERE (owner > 1) WITH (publish = 'insert'); CREATE ROLE poor LOGIN; \
             GRANT USAGE ON SCHEMA bank TO poor",
        )
        .unwrap();
    let told = wrong(&ledger.target);
    assert!(told.contains("[ledger.columns]"), "{told}");
    let columns: Columns =
        "transaction_id=id,user_id=owner,version=no,asset=currency,kind=what,amount=cents,occurred_at=at"
            .parse()
            .unwrap();
    let map = |kinds: &str| Mapping::new(&columns, &kinds.parse::<Kinds>().unwrap()).unwrap();
    ledger.target.mapping = map("in=recharge,out=withdrawal");
    let told = wrong(&ledger.target);
    for part in [
        "\"out\" with amounts below 0 (15 rows)",
        "leaves out some kinds of changes",
        "only some of the rows",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    ledger.target.mapping = map("in=recharge,out=-withdrawal");
    assert!(!wrong(&ledger.target).contains("not mapped"));
    ledger.sql("DELETE FROM bank.rows WHERE no = 4 AND owner = 1").unwrap();
    assert!(wrong(&ledger.target).contains("1 of the 3 accounts"), "{}", wrong(&ledger.target));
    let mut poor = Ledger::at(&ledger.server, "poor", "?table=bank.rows");
    poor.mapping = ledger.target.mapping.clone();
    let told = wrong(&poor);
    assert!(told.contains("may not replicate") && told.contains("GRANT SELECT"), "{told}");
    // A table of others is read, and nothing else.
    assert!(admin::init(&ledger.target, &Roles::default()).is_err());
    assert!(PgBulkWriter::open(&ledger.target).is_err());
    assert!(PgExport::new(&ledger.target).is_err());
}

#[test]
fn a_node_appends_as_to_any_ledger() {
    for programs in versions() {
        let ledger = Ledger::made(&programs);
        let mut appender = ledger.appender();
        let gift = [row(1, 1, "COIN", 5), row(2, 2, "COIN", 5)];
        let (other, bad) = (NewTransaction { amount: 6, ..gift[0] }, row(3, 1, "COIN", 0));
        let outcomes = appender
            .append(
                &[
                    &gift,
                    &[row(4, 1, "COIN", 1), other],
                    &gift,
                    &[bad],
                    &[row(5, 1, "COIN", 1), row(5, 1, "COIN", 1)],
                ],
                soon(),
            )
            .unwrap();
        assert_eq!(told(&outcomes[0]), [(1, false), (1, false)]);
        let refused = outcomes[1].as_ref().unwrap_err();
        assert_eq!(refused.index, 1);
        assert!(
            matches!(refused.rejection, Rejection::Conflict { field: Field::Amount, version, .. } if version.0 == 1),
            "{refused}"
        );
        assert_eq!(told(&outcomes[2]), [(1, true), (1, true)]);
        assert!(matches!(outcomes[3].as_ref().unwrap_err().rejection, Rejection::Field(_)));
        assert_eq!(told(&outcomes[4]), [(2, false), (2, true)]);
        // The same once more, by another node and after the first one's connection was cut.
        ledger.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'").unwrap();
        let mut second = ledger.appender();
        for appender in [&mut second, &mut appender] {
            let again = (0..3).find_map(|_| appender.append(&[&gift], soon()).ok()).unwrap();
            assert_eq!(told(&again[0]), [(1, true), (1, true)]);
        }
        // One asset more than an account can hold; the request's other rows go with it.
        let many: Vec<_> = (0..16).map(|n| row(100 + n, 9, &format!("A{n}"), 1)).collect();
        assert!(appender.append(&[&many], soon()).unwrap()[0].is_ok());
        let outcomes = second
            .append(&[&[row(200, 9, "A0", 1), row(201, 9, "B", 1)], &[row(202, 9, "A1", 1)]], soon())
            .unwrap();
        assert!(matches!(outcomes[0].as_ref().unwrap_err().rejection, Rejection::TooManyAssets { .. }));
        assert_eq!(told(&outcomes[1]), [(17, false)]);
        let gaps = "SELECT count(*) FROM (SELECT 1 FROM transactions GROUP BY user_id HAVING max(version) <> count(*)) g";
        assert_eq!(ledger.sql(gaps).unwrap(), "0");
    }
}

/// A session that holds an account keeps its writers waiting, and no longer than they may.
#[test]
fn writers_wait_for_an_account_and_no_longer_than_they_may() {
    let ledger = Ledger::made(&Programs::find().unwrap());
    let mut appender = ledger.appender();
    appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).unwrap();
    let url = ledger.server.url(SUPERUSER, SUPERUSER);
    let mut psql = ledger.server.programs().command("psql").unwrap();
    psql.args([
        "-XqAt",
        "-c",
        "BEGIN; UPDATE transactions_accounts SET user_id = user_id; SELECT pg_sleep(3600)",
    ])
    .arg(url);
    let mut holder = psql.spawn().unwrap();
    let deadline = soon();
    while ledger.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").unwrap() != "1" {
        assert!(Instant::now() < deadline);
    }
    // The account is held for an hour.
    let until = Instant::now() + Duration::from_millis(300);
    let error = appender.append(&[&[row(2, 1, "COIN", 5)]], until).unwrap_err();
    assert_eq!(error.trouble, Trouble::Unavailable, "{error}");
    // Others' accounts are not concerned.
    assert!(appender.append(&[&[row(3, 2, "COIN", 5)]], soon()).is_ok());
    ledger
        .sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        .unwrap();
    holder.wait().unwrap();
    assert_eq!(told(&appender.append(&[&[row(2, 1, "COIN", 5)]], soon()).unwrap()[0]), [(2, false)]);
}

/// A synchronous standby does not answer. What the primary alone has is not acknowledged, for a failover could lose it; the batch's
/// time-out in the server does not cut that wait short.
#[test]
fn what_a_synchronous_standby_does_not_have_is_not_acknowledged() {
    let ledger = Ledger::made(&Programs::find().unwrap());
    let mut appender = ledger.appender();
    appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).unwrap();
    // One statement each: ALTER SYSTEM takes no transaction around it.
    ledger.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    ledger.sql("SELECT pg_reload_conf()").unwrap();
    let deadline = soon();
    while ledger.sql("SHOW synchronous_standby_names").unwrap() != "nobody" {
        assert!(Instant::now() < deadline);
    }
    let deadline = soon();
    loop {
        let until = Instant::now() + Duration::from_millis(500);
        let error =
            appender.append(&[&[row(2, 1, "COIN", 5)]], until).expect_err("nobody but the primary has it");
        // A busy machine may not come to the commit in that time.
        if error.trouble != Trouble::Unavailable || Instant::now() > deadline {
            assert_eq!(error.trouble, Trouble::Uncertain, "{error}");
            break;
        }
    }
    ledger.sql("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    ledger.sql("SELECT pg_reload_conf()").unwrap();
    // To send it again is how its writer learns what became of it.
    let outcomes = appender.append(&[&[row(2, 1, "COIN", 5)]], soon()).unwrap();
    assert_eq!(told(&outcomes[0]), [(2, true)]);
}

/// A table of the same name that was put in the followed one's place took what was appended.
#[test]
fn nothing_is_appended_to_another_ledger() {
    let ledger = Ledger::made(&Programs::find().unwrap());
    let mut appender = ledger.appender();
    appender.append(&[&[row(1, 1, "COIN", 5)]], soon()).unwrap();
    ledger.sql("ALTER TABLE transactions RENAME TO old; ALTER TABLE transactions_accounts RENAME TO old_accounts; ALTER INDEX transactions_user_version RENAME TO old_user_version").unwrap();
    admin::init(&ledger.target, &Roles::default()).unwrap();
    let error = appender.append(&[&[row(2, 1, "COIN", 5)]], soon()).unwrap_err();
    assert_eq!(error.trouble, Trouble::OtherLedger, "{error}");
    assert_eq!(ledger.sql("SELECT count(*) FROM transactions").unwrap(), "0");
}

/// Many writers at once, direct SQL among them: every account's versions stay dense, and nothing acknowledged is lost or twice.
#[test]
fn versions_are_dense_whoever_writes() {
    let ledger = Ledger::made(&Programs::find().unwrap());
    std::thread::scope(|scope| {
        for writer in 0_u32..3 {
            let mut appender = ledger.appender();
            scope.spawn(move || {
                for n in 0..40_u32 {
                    // Each id is sent by two writers, with the same content.
                    let id = u128::from(n * 2 + (writer + n) % 2);
                    let rows = [
                        row(id * 2, u64::from(n % 5), "COIN", 5),
                        row(id * 2 + 1, u64::from(n % 3), "COIN", 5),
                    ];
                    let sent = (0..20).find_map(|_| appender.append(&[&rows], soon()).ok());
                    assert!(sent.expect("it gets in")[0].is_ok());
                }
            });
        }
        scope.spawn(|| {
            for n in 0..10 {
                let sql = format!(
                    "INSERT INTO transactions (transaction_id, user_id, asset, kind, amount, occurred_at) SELECT gen_random_uuid()::text, \
                     {n} % 5, 'COIN', 1, 1, 0 FROM generate_series(1, 20)"
                );
                (0..20).find_map(|_| ledger.sql(&sql).ok()).expect("it gets in");
            }
        });
    });
    let dense = "SELECT bool_and(dense) FROM (SELECT max(version) = count(*) AS dense FROM transactions GROUP BY user_id) a";
    assert_eq!(ledger.sql(dense).unwrap(), "t");
    assert_eq!(ledger.sql("SELECT count(*) FROM transactions").unwrap(), (80 * 2 + 200).to_string());
}

#[test]
fn many_rows_enter_with_one_commit_or_not_at_all() {
    for programs in versions() {
        let ledger = Ledger::empty(&programs);
        let mut writer = PgBulkWriter::open(&ledger.target).unwrap();
        assert!(BulkWriter::is_empty(&mut writer).unwrap());
        let put = |writer: &mut PgBulkWriter, rows: &[NewTransaction], keep: bool| {
            let mut bulk = writer.begin().unwrap();
            for (number, row) in (1..).zip(rows) {
                assert_eq!(bulk.add(number, row).unwrap(), Added::Later);
            }
            let mut rejected = Vec::new();
            let judged = bulk.judge(&mut |number, _, rejection| rejected.push((number, rejection))).unwrap();
            if keep {
                bulk.commit().unwrap();
            }
            (judged.new, judged.duplicates, rejected)
        };
        let many: Vec<_> = (0..5_000).map(|n| row(n, u64::try_from(n % 7).unwrap(), "COIN", 5)).collect();
        assert_eq!(put(&mut writer, &many, false).0, 5_000);
        assert!(BulkWriter::is_empty(&mut writer).unwrap(), "nothing was committed");
        assert_eq!(put(&mut writer, &many, true).0, 5_000);
        assert_eq!(
            ledger.sql("SELECT count(*) = 5000 AND max(version) = 715 FROM transactions").unwrap(),
            "t"
        );
        let mut next = vec![
            row(0, 0, "COIN", 5),
            row(1, 1, "COIN", 6),
            row(9_000, 0, "COIN", 5),
            row(9_000, 0, "COIN", 5),
            row(9_000, 0, "GEM", 5),
        ];
        next.extend((0..17).map(|n| row(9_100 + n, 50, &format!("A{n}"), 1)));
        let (new, duplicates, rejected) = put(&mut writer, &next, true);
        assert_eq!((new, duplicates), (17, 2));
        let conflict = |id, field, version| {
            let transaction_id = row(id, 0, "COIN", 1).transaction_id;
            Rejection::Conflict { transaction_id, field, version: florin_schema::Version(version) }
        };
        let too_many = Rejection::TooManyAssets { user_id: UserId::new(50).unwrap(), asset: next[21].asset };
        assert_eq!(
            rejected,
            [(2, conflict(1, Field::Amount, 1)), (5, conflict(9_000, Field::Asset, 716)), (22, too_many)]
        );
        // What a node appends afterwards goes on from there.
        let outcomes = ledger.appender().append(&[&[row(20_000, 0, "COIN", 5)]], soon()).unwrap();
        assert_eq!(told(&outcomes[0]), [(717, false)]);
        Box::new(writer).close();
    }
}
