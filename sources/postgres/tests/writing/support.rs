//! A ledger in a server of a test's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use florin_core::ledger::Kind;
use florin_postgres::address::Address;
use florin_postgres::mapping::Mapping;
use florin_postgres::schema::Roles;
use florin_postgres::server::{OwnServer, Programs, SUPERUSER};
use florin_postgres::{PgAppender, PgLedger, Target, admin};
use florin_record::{NewTransaction, Outcome, TransactionId};
use florin_schema::{Asset, UserId};

use crate::fetched::fetched;

/// Debian's, and what `scripts/postgresql-18` has fetched.
pub fn versions() -> Vec<Programs> {
    let fetched = fetched().map(|(programs, _)| programs);
    [Programs::find().expect("a PostgreSQL: scripts/needs test")].into_iter().chain(fetched).collect()
}

pub struct Ledger {
    pub server: OwnServer,
    pub target: Target,
}

impl Ledger {
    pub fn empty(programs: &Programs) -> Ledger {
        let server = OwnServer::start(programs, &[("fsync", "off")]).unwrap();
        let target = Ledger::at(&server, SUPERUSER, "");
        Ledger { server, target }
    }

    pub fn made(programs: &Programs) -> Ledger {
        let ledger = Ledger::empty(programs);
        admin::init(&ledger.target, &Roles::default()).unwrap();
        ledger
    }

    pub fn at(server: &OwnServer, user: &str, query: &str) -> Target {
        let address: Address = format!("{}{query}", server.url(user, SUPERUSER)).parse().unwrap();
        Target::new(address, Mapping::default())
    }

    pub fn appender(&self) -> PgAppender {
        PgAppender::new(Arc::new(PgLedger::open(self.target.clone()).unwrap()))
    }

    pub fn sql(&self, sql: &str) -> Result<String, String> {
        // The fetched build has a server and no psql.
        let mut psql = Programs::find().unwrap().command("psql").unwrap();
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(self.server.url(SUPERUSER, SUPERUSER));
        let done = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }
}

pub fn row(id: u128, user: u64, asset: &str, amount: i64) -> NewTransaction {
    let text = format!("{id:032x}");
    let id = format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
    NewTransaction {
        transaction_id: TransactionId::parse(&id).unwrap(),
        user_id: UserId::new(user).unwrap(),
        asset: Asset::parse(asset.as_bytes()).unwrap(),
        kind: Kind::Recharge,
        amount,
        occurred_at_us: 1_000_000,
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Version and whether it was there, of each.
pub fn told(outcome: &Outcome) -> Vec<(u64, bool)> {
    outcome.as_ref().unwrap().iter().map(|one| (one.version.0, one.duplicate)).collect()
}
