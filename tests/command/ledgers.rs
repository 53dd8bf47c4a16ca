//! One script, run against a ledger in a file and one in a PostgreSQL: every command and every caller is told the same, and
//! afterwards the ledgers hold the same rows. What a ledger is kept in is nobody's business but its own.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::postgres::Server as Postgres;
use crate::support::{Ended, Server, run, run_until_fresh, run_with_input, transaction, wait_for, write};

const ROWS: &str = "
    SELECT transaction_id, user_id, version, asset, kind, amount, occurred_at FROM transactions ORDER BY user_id, version";

/// Where a script is run: a folder, and a ledger that it names.
pub struct Place {
    folder: TempDir,
    postgres: Option<Postgres>,
}

impl Place {
    pub fn both() -> [Place; 2] {
        let place = |postgres| Place { folder: TempDir::new().unwrap(), postgres };
        [place(None), place(Some(Postgres::start()))]
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A ledger of this name: a file or a database.
    pub fn address(&self, name: &str) -> String {
        match &self.postgres {
            None => format!("sqlite:{name}.db"),
            Some(server) => {
                let exists = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
                if server.sql(&exists) == "0" {
                    server.sql(&format!("CREATE DATABASE {name}"));
                }
                format!("postgres://postgres@127.0.0.1:{}/{name}?slot={name}", server.port)
            }
        }
    }

    /// All rows, by account.
    fn rows(&self, name: &str) -> Vec<String> {
        match &self.postgres {
            None => {
                let connection =
                    rusqlite::Connection::open(self.folder().join(format!("{name}.db"))).unwrap();
                let mut statement = connection.prepare(ROWS).unwrap();
                let text = |row: &rusqlite::Row<'_>| {
                    let cells = (0..7).map(|at| {
                        Ok(match row.get_ref(at)? {
                            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                            other => other.as_str()?.to_owned(),
                        })
                    });
                    Ok(cells.collect::<rusqlite::Result<Vec<String>>>()?.join("|"))
                };
                statement.query_map([], text).unwrap().map(Result::unwrap).collect()
            }
            Some(server) => {
                let done = server.client("psql").args(["-XqAt", "-d", name, "-c", ROWS]).output().unwrap();
                assert!(done.status.success(), "{done:?}");
                String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
            }
        }
    }
}

/// What a command said and ended with, without what is of this ledger alone: its address, and how long it took.
fn told(place: &Place, ledger: &str, ended: Ended) -> String {
    let plain = |text: &str| {
        let text = text.replace(ledger, "LEDGER").replace(&place.folder().display().to_string(), "FOLDER");
        text.lines()
            .map(|line| line.split(" into LEDGER in ").next().unwrap().to_owned() + "\n")
            .collect::<String>()
    };
    format!("{:?}\n{}{}", ended.code, plain(&ended.out), plain(&ended.err))
}

/// Posts to a node's admin port: the status and the body.
pub fn post(admin: SocketAddr, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    write!(
        stream,
        "POST /v1/transactions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

fn json(id: u32, user: &str, asset: &str, kind: &str, amount: &str, at: &str) -> String {
    format!(
        r#"{{"transaction_id":"00000000-0000-4000-8000-{id:012}","user_id":"{user}","asset":"{asset}","kind":"{kind}","amount":"{amount}","occurred_at":"{at}"}}"#
    )
}

const AT: &str = "2026-11-21T10:00:00Z";

/// What callers send, one after the other.
fn requests() -> Vec<String> {
    let plain = |id, user: &str, amount: &str| json(id, user, "COIN", "recharge", amount, AT);
    let many = |ids: std::ops::Range<u32>| {
        let rows: Vec<String> = ids.map(|id| json(id, "5", &format!("A{id}"), "hold", "1", AT)).collect();
        format!("[{}]", rows.join(","))
    };
    let pair = |a: String, b: String| format!("[{a},{b}]");
    vec![
        plain(1, "1", "500"),
        plain(1, "1", "500"),
        // Another spelling of the same.
        plain(1, "1", "500").replace(AT, "2026-11-21T12:00:00.000000+02:00"),
        plain(0xA, "1", "7").replace("00000000-", "ABCDEF00-"),
        plain(0xA, "1", "7").replace("00000000-", "abcdef00-"),
        // The same id with other content, field by field.
        plain(1, "2", "500"),
        plain(1, "1", "501"),
        json(1, "1", "GEM", "recharge", "500", AT),
        json(1, "1", "COIN", "refund", "500", AT),
        json(1, "1", "COIN", "recharge", "500", "2026-11-21T10:00:00.000001Z"),
        // A gift, whole or not at all.
        pair(json(2, "1", "COIN", "gift_sent", "30", AT), json(3, "2", "COIN", "gift_received", "30", AT)),
        pair(plain(4, "3", "1"), plain(1, "1", "9")),
        pair(plain(4, "3", "1"), plain(4, "3", "1")),
        pair(plain(6, "3", "1"), plain(6, "3", "2")),
        format!("{{\"transactions\":[{}]}}", plain(7, "3", "2")),
        // Sixteen assets, and one more; then one of the sixteen.
        many(100..116),
        many(116..117),
        pair(plain(8, "6", "1"), json(117, "5", "B", "hold", "1", AT)),
        json(118, "5", "A100", "capture", "1", AT),
        // The ends of what there is.
        json(9, "0", "A_9Z0123", "adjustment_debit", "9223372036854775807", "0001-01-01T00:00:00Z"),
        json(10, "9223372036854775807", "0", "release", "1", "9999-12-31T23:59:59.999999Z"),
        json(11, "9223372036854775808", "COIN", "hold", "1", AT),
        json(11, "1", "COIN", "hold", "0", AT),
        json(11, "1", "COIN", "hold", "9223372036854775808", AT),
        json(11, "1", "coin", "hold", "1", AT),
        json(11, "1", "COIN", "gift", "1", AT),
        json(11, "1", "COIN", "hold", "1", "2026-11-21"),
        "[]".to_owned(),
        "nonsense".to_owned(),
        format!("[{}", plain(11, "1", "1")),
    ]
}

/// Each step of a script, and what came of it.
type Said = Vec<(String, String)>;

/// Callers of a running node, over HTTP and by `florin apply`.
fn callers(place: &Place) -> Said {
    let ledger = place.address("callers");
    run(place.folder(), &["ledger", "init", &ledger]).ok();
    let server = Server::start(
        place.folder(),
        &["--ledger", &ledger, "--now", "2026-11-22T00:00:00Z", "--shards", "1"],
    );
    let mut said = Said::new();
    for body in requests() {
        let (status, answer) = post(server.admin, &body).unwrap();
        said.push((body, format!("{status} {answer}")));
    }
    let admin = server.admin.to_string();
    let gift = format!("[{},{}]", transaction(3, 1, "3"), transaction(4, 2, "3"));
    let good = format!("{}\n\n{}\n{gift}\n", transaction(1, 1, "10"), transaction(2, 1, "\"5\""));
    let bad = format!(
        "{}\nnonsense\n{}\n[{},{}]\n",
        transaction(5, 1, "1"),
        transaction(8, 1, "0"),
        transaction(7, 2, "1"),
        transaction(1, 1, "11")
    );
    for input in [&good, &good, &bad] {
        let ended = run_with_input(place.folder(), &["apply", "-", "--admin", &admin], input);
        said.push((format!("apply {input}"), told(place, &ledger, ended)));
    }
    // Who wrote reads it back by its version.
    for (user, version) in
        [("1", "7"), ("2", "2"), ("5", "17"), ("0", "1"), ("9223372036854775807", "1"), ("77", "1")]
    {
        for what in ["balance", "statistics"] {
            let wait = ["--min-version", version, "--wait-ms", if user == "77" { "1" } else { "1000" }];
            let addr = server.addr();
            let arguments = [&["get", what, user, "--json", "--addr", &addr], &wait[..]].concat();
            // Of 77 there is no row.
            let ask = if user == "77" { run } else { run_until_fresh };
            let ended = ask(place.folder(), &arguments);
            said.push((format!("get {what} {user}"), told(place, &addr, ended)));
        }
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().0, Some(0));
    said.push(("rows".to_owned(), place.rows("callers").join("\n")));
    said
}

/// `florin import` and `florin generate`.
fn files(place: &Place) -> Said {
    let (folder, mut said) = (place.folder(), Said::new());
    let header = "transaction_id,user_id,asset,kind,amount,occurred_at\n";
    let line = |id: u32, user: u32, amount: i64| {
        format!("00000000-0000-4000-8000-{id:012},{user},COIN,recharge,{amount},{AT}\n")
    };
    let assets: String =
        (0..18).map(|n| format!("10000000-0000-4000-8000-{n:012},9,A{n},hold,1,{AT}\n")).collect();
    let good: String = (1..=30).map(|id| line(id, id % 4, i64::from(id))).collect();
    write(folder, "good.csv", &format!("{header}{good}"));
    // Among good ones: a bad amount, an id that is taken by another amount, in the ledger and in the file, and a full account.
    let mixed = format!(
        "{header}{}{}{}{}{}{assets}",
        line(40, 1, 4),
        line(41, 1, -5),
        line(3, 3, 99),
        line(42, 2, 1),
        line(42, 2, 2)
    );
    write(folder, "mixed.csv", &mixed);
    let ledger = place.address("files");
    let made = place.address("made");
    let make = &["generate", "--ledger", &made, "--users", "10", "--transactions", "500", "--until", AT][..];
    let steps: [&[&str]; 8] = [
        &["import", "good.csv", "--ledger", &ledger],
        &["import", "good.csv", "--ledger", &ledger],
        &["import", "mixed.csv", "--ledger", &ledger],
        &["import", "mixed.csv", "--ledger", &ledger, "--skip-bad", "aside.csv"],
        &["import", "nothing.csv", "--ledger", &ledger],
        &["generate", "--ledger", &ledger, "--users", "10", "--transactions", "100"],
        make,
        make,
    ];
    for step in steps {
        let ended = run(folder, step);
        let named = step.iter().find(|word| word.contains(':') && !word.starts_with("20")).unwrap();
        said.push((step[..2].join(" "), told(place, named, ended)));
    }
    // A row that is judged with all others is set aside as the ledger would have had it, and not as it was spelled.
    let aside = std::fs::read_to_string(folder.join("aside.csv")).unwrap().replace(".000000Z", "Z");
    said.push(("aside".to_owned(), aside));
    said.push(("rows of files".to_owned(), place.rows("files").join("\n")));
    said.push(("rows of made".to_owned(), place.rows("made").join("\n")));
    said
}

#[test]
fn every_ledger_answers_callers_and_commands_alike() {
    let [file, postgres] = Place::both();
    for script in [callers, files] {
        let (expected, found) = (script(&file), script(&postgres));
        for ((step, expected), (_, found)) in expected.iter().zip(&found) {
            assert_eq!(expected, found, "{step}");
        }
        assert_eq!(expected.len(), found.len());
    }
    let rows = postgres.rows("callers").len();
    assert!(rows > 25, "{rows} rows");
}

/// Versions by id, of what a node acknowledged.
fn receipt(body: &str) -> BTreeMap<String, (String, bool)> {
    let receipt: Value = serde_json::from_str(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = receipt["transactions"].as_array().unwrap().iter();
    entries
        .map(|one| {
            (text(&one["transaction_id"]), (text(&one["version"]), one["duplicate"].as_bool().unwrap()))
        })
        .collect()
}

/// Many callers send the same at once: it enters once, and all are told the same version.
#[test]
fn what_many_send_at_once_enters_once() {
    for place in Place::both() {
        let ledger = place.address("many");
        run(place.folder(), &["ledger", "init", &ledger]).ok();
        let server = Server::start(place.folder(), &["--ledger", &ledger, "--shards", "1"]);
        for round in 0..5 {
            let body = format!("[{},{}]", transaction(round * 2, 1, "5"), transaction(round * 2 + 1, 2, "5"));
            let receipts: Vec<_> = std::thread::scope(|scope| {
                let callers: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| post(server.admin, &body).unwrap())).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect()
            });
            let new = receipts.iter().filter(|(status, body)| {
                assert_eq!(*status, 200, "{body}");
                let told = receipt(body);
                assert!(told.values().all(|(version, _)| *version == (round + 1).to_string()), "{body}");
                told.values().all(|(_, duplicate)| !duplicate)
            });
            assert_eq!(new.count(), 1, "{ledger}: {receipts:?}");
        }
        assert_eq!(place.rows("many").len(), 10);
    }
}

/// Nodes are killed, and the server of a ledger is, in the midst of writes: what was acknowledged is there under its version, and
/// whatever was not can be sent again.
#[test]
fn what_was_acknowledged_survives_the_death_of_everybody() {
    for place in Place::both() {
        let ledger = place.address("kills");
        run(place.folder(), &["ledger", "init", &ledger]).ok();
        let next = AtomicU32::new(0);
        let mut acknowledged = BTreeMap::new();
        for round in 0..3 {
            let server = Server::start(place.folder(), &["--ledger", &ledger, "--shards", "1"]);
            let begun = acknowledged.len();
            // The last round ends the ledger's server instead, under a node that goes on.
            let ends_server = round == 2;
            std::thread::scope(|scope| {
                let writers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut told = BTreeMap::new();
                            while next.load(Relaxed) < (round + 1) * 200 {
                                let id = next.fetch_add(1, Relaxed);
                                match post(server.admin, &transaction(id, u64::from(id % 3), "5")) {
                                    Ok((200, body)) => told.extend(receipt(&body)),
                                    Ok((503, _)) => {}
                                    Ok(other) => panic!("{other:?}"),
                                    Err(_) => break,
                                }
                            }
                            told
                        })
                    })
                    .collect();
                wait_for("writes", || (next.load(Relaxed) >= round * 200 + 40).then_some(()));
                match &place.postgres {
                    Some(postgres) if ends_server => {
                        postgres.crash();
                        postgres.boot();
                    }
                    _ => server.signal(Signal::KILL),
                }
                writers.into_iter().for_each(|writer| acknowledged.extend(writer.join().unwrap()));
            });
            assert!(acknowledged.len() > begun, "some were acknowledged");
            next.store((round + 1) * 200, Relaxed);
        }
        let server = Server::start(place.folder(), &["--ledger", &ledger, "--shards", "1"]);
        for id in 0..600 {
            let (status, body) = post(server.admin, &transaction(id, u64::from(id % 3), "5")).unwrap();
            assert_eq!(status, 200, "{body}");
            for (id, (version, duplicate)) in receipt(&body) {
                if let Some((known, _)) = acknowledged.get(&id) {
                    assert_eq!((known, true), (&version, duplicate), "{ledger}: {id}");
                }
            }
        }
        let rows = place.rows("kills");
        assert_eq!(rows.len(), 600, "{ledger}");
        for user in 0..3 {
            let of = rows.iter().filter(|row| row.split('|').nth(1) == Some(&user.to_string()));
            let versions: Vec<usize> =
                of.map(|row| row.split('|').nth(2).unwrap().parse().unwrap()).collect();
            assert_eq!(versions, (1..=200).collect::<Vec<_>>(), "{ledger}");
        }
    }
}

#[test]
fn a_ledger_is_made_checked_and_asked_how_it_is() {
    let [file, postgres] = Place::both();
    for place in [&file, &postgres] {
        let (folder, ledger) = (place.folder(), place.address("kept"));
        let first = run(folder, &["ledger", "init", &ledger]).ok();
        assert!(first.contains("made"), "{first}");
        let again = run(folder, &["ledger", "init", &ledger]).ok();
        assert!(!again.contains("made") && again.contains("there"), "{again}");
        let found = run(folder, &["ledger", "check", &ledger]).ok();
        assert!(found.contains("right  "), "{found}");
        let found: Value =
            serde_json::from_str(&run(folder, &["ledger", "check", &ledger, "--json"]).ok()).unwrap();
        assert_eq!(found["ledger"], ledger);
        assert!(
            found["findings"].as_array().unwrap().iter().all(|finding| finding["weight"] != "WRONG"),
            "{found}"
        );
        let status = run(folder, &["ledger", "status", &ledger]).ok();
        assert!(!status.is_empty());
        write(folder, "florin.toml", &format!("[ledger]\naddress = \"{ledger}\"\n"));
        let configured = run(folder, &["ledger", "check", "--config", "florin.toml"]).ok();
        assert!(configured.contains("right  "), "{configured}");
    }
    let roles = run(file.folder(), &["ledger", "init", &file.address("kept"), "--reader", "node"]).refused(2);
    assert!(roles.contains("its mode"), "{roles}");
    let missing = run(file.folder(), &["ledger", "check", "sqlite:missing.db"]);
    assert_eq!(missing.code, Some(15), "{missing:?}");
}

#[test]
fn a_postgres_ledger_says_who_may_do_what_and_how_far_a_node_is() {
    let [_, place] = Place::both();
    let (folder, ledger) = (place.folder(), place.address("kept"));
    let made = run(folder, &["ledger", "init", &ledger, "--reader", "node", "--writer", "teller"]).ok();
    assert!(made.contains("made the role node") && made.contains("made the role teller"), "{made}");
    let check = |ledger: &str| run(folder, &["ledger", "check", ledger]);
    assert!(check(&ledger).ok().contains("note   postgres is a superuser"), "a superuser is told of");
    let node = ledger.replace("postgres@", "node@");
    let found = check(&node).ok();
    assert!(found.lines().all(|line| line.starts_with("right  ")), "{found}");
    assert!(run(folder, &["ledger", "status", &node]).ok().contains("no node has a slot kept yet"));
    let server = Server::start(folder, &["--ledger", &node, "--shards", "1"]);
    let status: Value =
        serde_json::from_str(&run(folder, &["ledger", "status", &node, "--json"]).ok()).unwrap();
    assert_eq!(status["status"]["active"], true, "{status}");
    let told = run(folder, &["ledger", "status", &node]).ok();
    assert!(told.contains("slot kept: in use") && told.contains("behind: "), "{told}");
    // Who may only read is refused by the server, in its words and with what to do; the node serves on.
    let (status, body) = post(server.admin, &transaction(1, 1, "5")).unwrap();
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("permission denied") && body.contains("florin ledger init --writer"), "{body}");
    drop(server);

    let wrong = check(&format!("{ledger}&table=elsewhere.rows"));
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.out.contains("WRONG  the database has no table"), "{wrong:?}");
    for command in ["init", "check", "status"] {
        let nobody = "postgres://postgres@127.0.0.1:1/none";
        let ended = run(folder, &["ledger", command, nobody]);
        assert!(ended.err.contains("cannot reach PostgreSQL at 127.0.0.1:1"), "{command}: {ended:?}");
        assert_eq!(ended.code, Some(21), "{command}: {ended:?}");
        let ended = run(folder, &["ledger", command, "postgres://postgres:secret@127.0.0.1:1/none"]);
        assert!(ended.err.contains("PGPASSFILE") && !ended.err.contains("secret"), "{command}: {ended:?}");
        assert_eq!(ended.code, Some(2), "{command}: {ended:?}");
    }
}
