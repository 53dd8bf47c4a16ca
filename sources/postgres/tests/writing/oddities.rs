//! `florin ledger init` where something is odd: names, roles that are there, and whoever runs it may not do everything. What the
//! server refused was once repeated as "the connection to PostgreSQL: permission denied", and a role that still could not read was
//! said to be able to.

use florin_postgres::admin;
use florin_postgres::schema::Roles;
use florin_postgres::server::{Programs, SUPERUSER};
use florin_record::Weight;

use crate::support::Ledger;

fn empty() -> Ledger {
    Ledger::empty(&Programs::find().unwrap())
}

fn reader(role: &str) -> Roles {
    Roles { reader: Some(role.to_owned()), writer: None }
}

impl Ledger {
    /// Runs it as `user`: what was done, or why nothing was.
    fn init_as(&self, user: &str, query: &str, roles: &Roles) -> Result<String, String> {
        let done = admin::init(&Ledger::at(&self.server, user, query), roles);
        done.map(|done| done.join("\n")).map_err(|error| error.reason)
    }

    #[track_caller]
    fn refused(&self, user: &str, query: &str, roles: &Roles, parts: &[&str]) {
        let error = self.init_as(user, query, roles).expect_err("it is refused");
        for part in parts {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[track_caller]
    fn done(&self, user: &str, query: &str, roles: &Roles, parts: &[&str]) {
        let done = self.init_as(user, query, roles).unwrap();
        for part in parts {
            assert!(done.contains(part), "{part} is missing in: {done}");
        }
    }
}

#[test]
fn any_name_that_a_role_can_have_is_taken_and_no_other() {
    let ledger = empty();
    for (name, why) in [
        ("", "it has no letters"),
        ("public", "everybody or nobody"),
        ("none", "everybody or nobody"),
        ("pg_node", "keeps names with pg_ for itself"),
        (&"n".repeat(64), "cuts names after 63 bytes"),
    ] {
        ledger.refused(SUPERUSER, "", &reader(name), &[why, "name another"]);
    }
    assert_eq!(
        ledger.sql("SELECT to_regclass('public.transactions') IS NULL").unwrap(),
        "t",
        "nothing was made"
    );
    for name in ["Node", "a node", "q\"uote'd; DROP ROLE x; --", "größe", "current_user", &"n".repeat(63)] {
        let both = Roles { reader: Some(name.to_owned()), writer: Some(name.to_owned()) };
        ledger.done(SUPERUSER, "", &both, &["made the role", "may read and add to public.transactions"]);
        let role = name.replace('\'', "''");
        let may = format!(
            "SELECT rolreplication AND has_table_privilege(rolname, 'transactions', 'INSERT') FROM pg_roles WHERE rolname = '{role}'"
        );
        assert_eq!(ledger.sql(&may).unwrap(), "t", "{name}");
    }
}

#[test]
fn roles_that_are_there_get_what_they_lack_or_are_told() {
    let ledger = empty();
    ledger.sql("CREATE ROLE plain LOGIN; CREATE ROLE group_of_nodes REPLICATION; CREATE ROLE boss SUPERUSER LOGIN").unwrap();
    ledger.done(SUPERUSER, "", &reader("plain"), &["let the role plain replicate", "plain may read"]);
    ledger.done(
        SUPERUSER,
        "",
        &reader("group_of_nodes"),
        &["may not log in: ALTER ROLE \"group_of_nodes\" LOGIN"],
    );
    ledger.done(SUPERUSER, "", &reader("boss"), &["boss is a superuser"]);
    let again = ledger.init_as(SUPERUSER, "", &reader("plain")).unwrap();
    assert!(!again.contains("let the role"), "{again}");
    let found = admin::check(&Ledger::at(&ledger.server, "plain", "")).unwrap();
    assert!(found.iter().all(|finding| finding.weight == Weight::Right), "{found:#?}");
}

#[test]
fn whoever_may_not_do_all_of_it_is_told_who_can() {
    let ledger = empty();
    ledger.sql("CREATE ROLE clerk LOGIN; CREATE ROLE node LOGIN REPLICATION").unwrap();
    let none = Roles::default();
    ledger.refused(
        "clerk",
        "",
        &none,
        &[
            "cannot make the table public.transactions",
            "GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"clerk\"",
        ],
    );
    ledger.refused(
        "clerk",
        "?table=bank.rows",
        &none,
        &["cannot make the schema bank", "GRANT CREATE ON DATABASE \"postgres\" TO \"clerk\""],
    );
    ledger.sql("GRANT USAGE, CREATE ON SCHEMA public TO clerk").unwrap();
    ledger.refused(
        "clerk",
        "",
        &none,
        &["cannot make the publication florin", "GRANT CREATE ON DATABASE \"postgres\" TO \"clerk\""],
    );
    assert_eq!(
        ledger.sql("SELECT to_regclass('public.transactions') IS NULL").unwrap(),
        "t",
        "all or nothing"
    );
    ledger.sql("GRANT CREATE ON DATABASE postgres TO clerk").unwrap();
    ledger.done("clerk", "", &none, &["made the table", "made the publication"]);
    // Making roles is another matter, and the role of one that is there.
    ledger.refused(
        "clerk",
        "",
        &reader("another"),
        &["cannot make the role another", "CREATE ROLE \"another\" LOGIN REPLICATION"],
    );
    ledger.done("clerk", "", &reader("node"), &["node may read"]);
    // A grant that is not ours to make is only warned of by the server.
    ledger.sql("CREATE SCHEMA vault; GRANT USAGE, CREATE ON SCHEMA vault TO clerk").unwrap();
    ledger.refused(
        "clerk",
        "?table=vault.rows&publication=vault",
        &reader("node"),
        &["may still not read vault.rows", "GRANT USAGE ON SCHEMA \"vault\" TO \"node\""],
    );
    // What it made is its own: others cannot change it.
    ledger.sql("CREATE ROLE other LOGIN; GRANT USAGE, CREATE ON SCHEMA public TO other").unwrap();
    ledger.refused(
        "other",
        "",
        &none,
        &["the table public.transactions is there and cannot be made florin's", "have its owner run this"],
    );
}

/// As on a managed PostgreSQL: whoever owns the database is no superuser, and roles replicate by being members of one that is the
/// provider's.
#[test]
fn a_managed_server_lets_members_of_its_own_role_replicate() {
    let ledger = empty();
    ledger
        .sql("CREATE ROLE rds_replication; CREATE ROLE master LOGIN CREATEROLE; GRANT rds_replication TO master WITH ADMIN OPTION; ALTER DATABASE postgres OWNER TO master")
        .unwrap();
    ledger.done(
        "master",
        "",
        &reader("node"),
        &["made the role node (LOGIN)", "let the role node replicate", "node may read"],
    );
    ledger.done("master", "", &reader("node"), &["the publication florin was there", "node may read"]);
    let found = admin::check(&Ledger::at(&ledger.server, "node", "")).unwrap();
    assert!(found.iter().all(|finding| finding.weight == Weight::Right), "{found:#?}");
    ledger.sql("REVOKE rds_replication FROM node").unwrap();
    let found = admin::check(&Ledger::at(&ledger.server, "node", "")).unwrap();
    assert!(found.iter().any(|finding| finding.sentence.contains("node may not replicate")), "{found:#?}");
}

#[test]
fn what_is_there_and_is_not_florins_is_left_and_told() {
    let ledger = empty();
    ledger
        .sql("CREATE TABLE transactions (id int); CREATE VIEW looked AS SELECT 1 AS id; CREATE SCHEMA bank")
        .unwrap();
    let none = Roles::default();
    for query in ["", "?table=looked"] {
        ledger.refused(
            SUPERUSER,
            query,
            &none,
            &["cannot be made florin's, so it was left as it was", "[ledger.columns]"],
        );
    }
    assert_eq!(ledger.sql("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").unwrap(), "0");
    // A publication that somebody has narrowed is not widened, and not called good.
    ledger.done(SUPERUSER, "?table=bank.rows", &none, &["made the publication florin"]);
    ledger.sql("ALTER PUBLICATION florin SET (publish = 'insert'); ALTER PUBLICATION florin SET TABLE bank.rows WHERE (user_id > 5)").unwrap();
    ledger.done(
        SUPERUSER,
        "?table=bank.rows",
        &none,
        &["publishes only some of the rows", "leaves out some kinds of changes"],
    );
    ledger.sql("ALTER PUBLICATION florin DROP TABLE bank.rows").unwrap();
    ledger.done(
        SUPERUSER,
        "?table=bank.rows",
        &none,
        &["added the table to the publication florin", "leaves out some kinds"],
    );
}
