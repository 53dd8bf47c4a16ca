//! A ledger in two PostgreSQL servers: the primary dies and its standby is promoted, again and again, each time with a standby that was
//! made anew of the other. A row is acknowledged once both have it, so none of those is lost. Where the standby keeps the node's slot
//! (from version 17 on) the node goes on where it was; where it does not, it loads the ledger on top of what it answers.
//! `FLORIN_ENDS=20` promotes so often, and `FLORIN_POSTGRES_BIN` names the programs of another version.

use std::process::{Command, Stdio};
use std::sync::RwLock;

use florin_postgres::server::{self, OwnServer, Programs, SUPERUSER};

use super::*;

/// The primary's slot for its standby.
const PHYSICAL_SLOT: &str = "standby";
/// The primary's slot for the node.
const LOGICAL_SLOT: &str = "hostile";

fn copy(from: &Path, to: &Path) {
    server::run(Command::new("cp").arg("-a").args([from, to])).expect("a copy");
}

fn psql(server: &OwnServer, sql: &str) -> Command {
    let mut psql = Programs::find().expect("a client").command("psql").unwrap();
    psql.arg("-h").arg(server.socket_folder()).args(["-p", &server.port().to_string(), "-U", SUPERUSER]);
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", sql]);
    psql
}

fn sql(server: &OwnServer, sql: &str) -> String {
    let done = psql(server, sql).output().unwrap();
    assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

struct Servers {
    both: [OwnServer; 2],
    primary: usize,
    keeps_slots: bool,
}

impl Servers {
    fn start() -> Servers {
        let named = std::env::var_os("FLORIN_POSTGRES_BIN");
        let programs =
            named.map_or_else(Programs::find, |folder| Ok(Programs::at(folder).expect("a server"))).unwrap();
        let version = programs.command("postgres").unwrap().arg("-V").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let major = version.split([' ', '.']).find_map(|word| word.trim().parse::<u32>().ok());
        let keeps_slots = major.expect("a version") >= 17;
        let mut settings = vec![
            ("fsync", "off"),
            ("wal_sender_timeout", "10s"),
            ("hot_standby_feedback", "on"),
            ("wal_receiver_status_interval", "1s"),
        ];
        if keeps_slots {
            settings.push(("sync_replication_slots", "on"));
        }
        let both = [(), ()].map(|()| OwnServer::start(&programs, &settings).expect("a server"));
        Servers { both, primary: 0, keeps_slots }
    }

    /// The address of both, of which a node finds the primary by itself.
    fn url(&self) -> String {
        let [first, second] = self.both.each_ref().map(|server| format!("127.0.0.1:{}", server.port()));
        format!("postgres://{SUPERUSER}@{first},{second}/postgres?slot={LOGICAL_SLOT}")
    }

    /// Makes the other one a standby of the primary, which rows are told to from now on before they are acknowledged.
    fn make_standby(&mut self) {
        let [first, second] = &mut self.both;
        let (primary, standby) = if self.primary == 0 { (first, second) } else { (second, first) };
        primary.end();
        standby.end();
        let (data, copied) = (primary.data(), standby.data());
        std::fs::remove_dir_all(&copied).unwrap();
        copy(&data, &copied);
        // The primary's slots are none of its own.
        for slot in std::fs::read_dir(copied.join("pg_replslot")).unwrap() {
            std::fs::remove_dir_all(slot.unwrap().path()).unwrap();
        }
        let from = format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user={SUPERUSER} dbname=postgres'\nprimary_slot_name = '{PHYSICAL_SLOT}'\n",
            primary.port()
        );
        std::fs::write(copied.join("postgresql.auto.conf"), from).unwrap();
        copy(&copied.join("PG_VERSION"), &copied.join("standby.signal"));
        primary.resume().unwrap();
        sql(primary, &format!("SELECT pg_create_physical_replication_slot('{PHYSICAL_SLOT}', true)"));
        standby.resume().unwrap();
        sql(primary, "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'");
        if self.keeps_slots {
            // A node hears of a commit once the standby has it.
            sql(primary, &format!("ALTER SYSTEM SET synchronized_standby_slots = '{PHYSICAL_SLOT}'"));
        }
        sql(primary, "SELECT pg_reload_conf()");
    }

    /// Whether the standby has all that it needs to take the primary's place, its slot for the node too where it keeps one.
    fn is_ready(&self) -> bool {
        let (primary, standby) = (&self.both[self.primary], &self.both[1 - self.primary]);
        let synced = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{LOGICAL_SLOT}' AND synced AND NOT temporary"
        );
        sql(primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
            && (!self.keeps_slots || sql(standby, &synced) == "1")
    }

    /// The primary dies, whatever is being written.
    fn crash(&self) {
        let pid = std::fs::read_to_string(self.both[self.primary].data().join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).expect("it runs");
        kill_process(pid, Signal::QUIT).unwrap();
    }

    /// Its standby takes its place.
    fn promote(&mut self) {
        self.both[self.primary].crash();
        self.primary = 1 - self.primary;
        sql(&self.both[self.primary], "SELECT pg_promote()");
    }
}

#[test]
fn no_promise_is_broken_while_standbys_take_their_primarys_place() {
    let servers = RwLock::new(Servers::start());
    let url = servers.read().unwrap().url();
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["ledger", "init", &url]).ok();
    let node = start(folder.path(), 2, &["--ledger", &url]);
    // While a standby is made, whoever writes waits.
    let commit = |row: Row| {
        let servers = servers.read().unwrap();
        let mut psql = psql(&servers.both[servers.primary], &insertion(row));
        let mut psql = psql.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match psql.try_wait().unwrap() {
                Some(ended) => return ended.success(),
                None if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(1)),
                // Its standby does not come, which is told below.
                None => psql.kill().unwrap(),
            }
        }
    };
    with_callers(commit, (node.any, node.admin), |scene| {
        for _ in 0..variable("FLORIN_ENDS", 1) {
            servers.write().unwrap().make_standby();
            // A standby takes a slot over once it decodes from where that slot is, for which it looks every half a minute.
            let deadline = Instant::now() + 4 * PATIENCE;
            while !servers.read().unwrap().is_ready() {
                assert!(Instant::now() < deadline, "the standby does not come to the primary's place");
                scene.go_on();
            }
            scene.go_on();
            servers.read().unwrap().crash();
            servers.write().unwrap().promote();
            scene.go_on();
        }
    });
}
