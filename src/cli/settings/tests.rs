//! What is read, what wins, and what is refused.

use clap::CommandFactory;

use super::*;

const FULL: &str = r#"
    # A comment.
    ledger = "sqlite:/tmp/l.db"
    listen = "0.0.0.0:1"
    shard-listen = "[::]:2"
    unix = "/run/florin.sock"
    unix-mode = "0600"
    unix-group = "root"
    tls-listen = "0.0.0.0:3"
    tls-shard-listen = "off"
    tls-admin = "[::1]:4"
    tls-cert = "/etc/florin/node.crt"
    tls-key = "/etc/florin/node.key"
    tls-client-ca = "/etc/florin/ca.crt"
    admin = "off"
    admin-host = "ledger.example.com, Ledger-2"
    ledger-columns = "user_id=account"
    ledger-kinds = "7=gift_received|-gift_sent"
    shards = 4
    cpus = "0-3,8,2"
    shards-per-cpu = 2
    housekeeping-cpus = "4-5"
    numa = 1
    driver = "ring"
    spin-us = 50
    now = 1994-03-31T23:59:59Z
    group = "ledger-nodes"
    advertise = "node-1.example.com:7400,tls=7500"
    standbys = 2
    group-token-file = "/etc/florin/group.token"
    group-tls-ca = "/etc/florin/nodes-ca.crt"
    max-staleness-ms = 1000
    checkpoint = "/var/lib/florin/checkpoints"
    checkpoint-every-s = "off"
    checkpoint-every-rows = 1000
    checkpoint-at-exit = "on"
    principals = "/etc/florin/principals.toml"
audit-log = "/var/log/florin/audit.jsonl"
insecure-listen = "on"
audit = "0.5%"
log = "warn"
log-format = "json"
slow-us = 5000
"#;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

#[test]
fn every_flag_is_a_key_and_every_key_a_flag() {
    let command = Flags::command();
    let flags: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    assert_eq!(flags, KEYS);
    let read = Settings::parse(FULL).unwrap();
    let set = Settings {
        ledger: Some(LedgerAddress::Sqlite("/tmp/l.db".into())),
        ledger_columns: Some("user_id=account".parse().unwrap()),
        ledger_kinds: Some("7=gift_received|-gift_sent".parse().unwrap()),
        listen: Some(Listen::At("0.0.0.0:1".parse().unwrap())),
        shard_listen: Some(Listen::At("[::]:2".parse().unwrap())),
        unix: Some("/run/florin.sock".into()),
        unix_mode: Some(UnixMode(0o600)),
        unix_group: Some(UnixGroup("root".to_owned())),
        tls_listen: Some(Listen::At("0.0.0.0:3".parse().unwrap())),
        tls_shard_listen: Some(Listen::Off),
        tls_admin: Some(Listen::At("[::1]:4".parse().unwrap())),
        tls_cert: Some("/etc/florin/node.crt".into()),
        tls_key: Some("/etc/florin/node.key".into()),
        tls_client_ca: Some("/etc/florin/ca.crt".into()),
        admin: Some(Listen::Off),
        admin_host: Some(HostNames(vec!["ledger.example.com".to_owned(), "Ledger-2".to_owned()])),
        shards: Some(Shards::Count(4)),
        cpus: Some(Cpus(vec![0, 1, 2, 3, 8])),
        shards_per_cpu: Some(ShardsPerCpu(2)),
        housekeeping_cpus: Some(Cpus(vec![4, 5])),
        numa: Some(Nodes(vec![1])),
        driver: Some(Driver(DriverChoice::Ring)),
        spin_us: Some(Spin::For(50)),
        now: Some(Instant(765_158_399_000_000)),
        group: Some(GroupName("ledger-nodes".to_owned())),
        advertise: Some("node-1.example.com:7400,tls=7500".parse().unwrap()),
        standbys: Some(Standbys(2)),
        group_token_file: Some("/etc/florin/group.token".into()),
        group_tls_ca: Some("/etc/florin/nodes-ca.crt".into()),
        max_staleness_ms: Some(Staleness(1_000)),
        checkpoint: Some("/var/lib/florin/checkpoints".into()),
        checkpoint_every_s: Some(Every::Off),
        checkpoint_every_rows: Some(Every::Every(1_000)),
        checkpoint_at_exit: Some(Switch::On),
        principals: Some("/etc/florin/principals.toml".into()),
        audit_log: Some("/var/log/florin/audit.jsonl".into()),
        insecure_listen: Some(Switch::On),
        audit: Some("0.5%".parse().unwrap()),
        log: Some(LogFilter("warn".to_owned())),
        log_format: Some(LogFormat::Json),
        slow_us: Some(Every::Every(5_000)),
    };
    assert_eq!(read, set);
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = Settings::parse(FULL).unwrap();
    let flags = Settings::parse("shards = \"auto\"\nadmin = \"127.0.0.1:9\"").unwrap();
    let merged = flags.clone().or(file.clone());
    assert_eq!(merged, Settings { shards: flags.shards, admin: flags.admin, ..file });
}

/// `shards = 01` was answered twice, the second time with "found \"\"".
#[test]
fn a_line_that_is_no_toml_is_named_once_and_leading_zeros_are_told() {
    let defects = Settings::parse("shards = 01\nspin-us = \"05\"").unwrap_err();
    assert_eq!(defects.len(), 2, "{defects:?}");
    assert!(defects[0].message.contains("TOML") && defects[0].message.contains("zero"), "{defects:?}");
    assert!(defects[1].message.ends_with("found \"05\": leading zeros are not allowed"), "{defects:?}");
}

#[test]
fn each_defect_is_named_with_its_line() {
    let text = "shards = 0\nlisen = \"x\"\ncpus = \"3-1\"\n\nledger = \"mysql://x\"\nunix = [1]\nlisten = \"localhost\"";
    let defects = Settings::parse(text).unwrap_err();
    let expected = [
        (1, "shards: expected a number from 1 to 256, or auto, found \"0\""),
        (2, "unknown key \"lisen\"; the keys are ledger, ledger-columns,"),
        (3, "cpus: expected a list of CPU numbers and ranges, like 0-3,8, found \"3-1\""),
        (5, "ledger: expected sqlite:PATH, for example sqlite:/var/lib/florin/ledger.db, or postgres://"),
        (6, "unix: expected a string or a whole number, found a value of type array"),
        (7, "listen: expected an IP address and a port"),
    ];
    assert_eq!(defects.len(), expected.len(), "{defects:?}");
    for (defect, (line, message)) in defects.iter().zip(expected) {
        assert_eq!(defect.line, line, "{defect:?}");
        assert!(defect.message.starts_with(message), "{defect:?}");
    }
}

#[test]
fn what_is_not_set_has_a_default_and_somebody_must_listen() {
    let effective = Settings::default().effective().unwrap();
    let (admin, effective) = (effective.admin, effective.node);
    assert_eq!(effective.ledger, LedgerAddress::Sqlite("florin.db".into()));
    assert_eq!(effective.listen.unwrap().to_string(), "127.0.0.1:7400");
    assert_eq!(effective.shard_listen.unwrap().to_string(), "127.0.0.1:7401");
    assert_eq!(admin.unwrap().to_string(), "127.0.0.1:7300");
    assert_eq!((effective.shards, effective.max_staleness_ms), (None, 30_000));
    let silent = Settings::parse("listen = \"off\"\nshard-listen = \"off\"").unwrap();
    assert!(matches!(silent.clone().effective(), Err(SettingsError::NoListener)));
    assert!(Settings { unix: Some("s".into()), ..silent }.effective().is_ok());
}

#[test]
fn tls_takes_a_certificate_and_a_certificate_takes_tls() {
    let effective =
        |text: &str| Settings::parse(text).unwrap().effective().map(|effective| effective.node.tls);
    let pair = "tls-cert = \"c\"\ntls-key = \"k\"\n";
    let tls = effective(&format!("{pair}tls-listen = \"127.0.0.1:7500\"")).unwrap().unwrap();
    assert_eq!(tls.shard_listen.unwrap().to_string(), "127.0.0.1:7501");
    let any = effective(&format!("{pair}tls-listen = \"127.0.0.1:0\"")).unwrap().unwrap();
    assert_eq!(any.shard_listen.unwrap().port(), 0);
    let last = effective(&format!("{pair}tls-listen = \"127.0.0.1:65535\"")).unwrap().unwrap();
    assert_eq!(last.shard_listen, None);
    let alone = "listen = \"off\"\nshard-listen = \"off\"\ntls-shard-listen = \"127.0.0.1:1\"";
    assert!(effective(&format!("{pair}{alone}")).is_ok());
    assert!(effective(&format!("{pair}tls-admin = \"127.0.0.1:7301\"")).unwrap().is_some());
    let open = "tls-listen = \"0.0.0.0:7500\"";
    assert!(matches!(
        effective(&format!("{pair}{open}")),
        Err(SettingsError::Open { flag: "--tls-listen", .. })
    ));
    assert!(effective(&format!("{pair}tls-client-ca = \"a\"\n{open}")).is_ok(), "callers show certificates");
    for half in ["tls-cert = \"c\"", "tls-key = \"k\"", ""] {
        let refusal = effective(&format!("{half}\ntls-listen = \"127.0.0.1:7500\""));
        assert!(matches!(refusal, Err(SettingsError::NoCertificate)));
    }
    for unused in [pair, "tls-client-ca = \"a\""] {
        assert!(matches!(effective(unused), Err(SettingsError::CertificateForNothing)));
    }
}

/// `listen = "0.0.0.0:7400"` alone once told callers of other hosts to go to ports on loopback.
#[test]
fn shard_ports_are_where_callers_reach_them() {
    let effective = |text: &str| Settings::parse(text).unwrap().effective();
    for (listen, shard_listen) in [
        ("0.0.0.0:1", "0.0.0.0:7401"),
        ("[::]:1", "[::]:7401"),
        ("10.0.0.5:1", "10.0.0.5:7401"),
        ("off", "127.0.0.1:7401"),
    ] {
        let effective = effective(&format!("insecure-listen = \"on\"\nlisten = \"{listen}\"")).unwrap();
        assert_eq!(effective.node.shard_listen.unwrap().to_string(), shard_listen);
    }
    let refusal =
        effective("listen = \"0.0.0.0:1\"\nshard-listen = \"127.0.0.1:2\"").unwrap_err().to_string();
    assert!(refusal.contains("0.0.0.0:1") && refusal.contains("127.0.0.1:2"), "{refusal}");
    effective("insecure-listen = \"on\"\nlisten = \"0.0.0.0:1\"\nshard-listen = \"off\"").unwrap();
    effective("insecure-listen = \"on\"\nlisten = \"127.0.0.1:1\"\nshard-listen = \"0.0.0.0:2\"").unwrap();
}

/// Whoever reached the port read every balance, and whoever reached the admin port wrote to the ledger.
#[test]
fn who_listens_for_other_hosts_says_who_may_ask() {
    let effective = |text: &str| Settings::parse(text).unwrap().effective();
    for listens in [
        "listen = \"0.0.0.0:1\"",
        "listen = \"off\"\nshard-listen = \"[::]:1\"",
        "listen = \"[::ffff:192.0.2.1]:1\"\nshard-listen = \"off\"",
        "admin = \"192.0.2.1:1\"",
    ] {
        let refusal = effective(listens).unwrap_err();
        assert_eq!(refusal.exit_code(), 23, "{listens}");
        let said = refusal.to_string();
        assert!(said.contains("--principals FILE") && said.contains("--insecure-listen on"), "{said}");
        assert!(effective(&format!("{listens}\ninsecure-listen = \"on\"")).is_ok());
        assert!(effective(&format!("{listens}\nprincipals = \"p.toml\"")).is_ok());
    }
    for listens in ["listen = \"[::1]:1\"", "listen = \"127.8.9.1:1\"", "unix = \"s\"", "admin = \"off\""] {
        assert!(effective(listens).is_ok(), "{listens}");
    }
}

/// Whichever was bound last was told that another process had its port.
#[test]
fn no_port_is_given_twice() {
    let effective = |text: &str| Settings::parse(text).unwrap().effective();
    for (text, one, other, taken) in [
        ("listen = \"127.0.0.1:8000\"\nadmin = \"127.0.0.1:8000\"", "--listen", "--admin", 8000),
        ("listen = \"127.0.0.1:7401\"", "--listen", "--shard-listen", 7401),
        // Shard ports are one behind the other, and these reach the admin port.
        ("shards = 4\nadmin = \"127.0.0.1:7404\"", "--shard-listen", "--admin", 7404),
        (
            "listen = \"[::]:8000\"\nadmin = \"127.0.0.1:8000\"\ninsecure-listen = \"on\"",
            "--listen",
            "--admin",
            8000,
        ),
        (
            "tls-cert = \"c\"\ntls-key = \"k\"\ntls-listen = \"127.0.0.1:7400\"",
            "--listen",
            "--tls-listen",
            7400,
        ),
    ] {
        match effective(text).unwrap_err() {
            SettingsError::SamePort { one: first, other: second, port } => {
                assert_eq!((first, second, port), (one, other, taken), "{text}");
            }
            other => panic!("{text}: {other}"),
        }
    }
    for apart in [
        "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nshard-listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:8000\"\nadmin = \"127.0.0.2:8000\"",
        "shards = 3\nadmin = \"127.0.0.1:7404\"",
    ] {
        effective(apart).unwrap();
    }
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    let defects = Settings::parse("shards = 1\n\nlisten = = 3\n").unwrap_err();
    assert!(defects.iter().all(|defect| defect.line == 3), "{defects:?}");
    let twice = Settings::parse("shards = 1\nshards = 2\n").unwrap_err();
    assert_eq!(twice[0].line, 2, "{twice:?}");
}

#[test]
fn values_out_of_range_are_refused() {
    for shards in ["-1", "257", "", "two", "+2", "02"] {
        assert!(shards.parse::<Shards>().is_err(), "{shards}");
    }
    for cpus in ["", "a", "1-", "-1", "0,,1", "0-8192", "18446744073709551616"] {
        assert!(cpus.parse::<Cpus>().is_err(), "{cpus}");
    }
    for now in ["yesterday", "1994-03-31", "10000-01-01T00:00:00Z"] {
        assert!(now.parse::<Instant>().is_err(), "{now}");
    }
    for ms in ["0", "-1", "4294967296"] {
        assert!(ms.parse::<Staleness>().is_err(), "{ms}");
    }
    for ledger in ["", "sqlite:", "mysql:x"] {
        assert!(ledger.parse::<LedgerAddress>().is_err(), "{ledger}");
    }
}

#[test]
fn a_default_is_shown_and_is_a_value() {
    let help = Flags::command().render_long_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in
        ["[default: sqlite:florin.db]", "[default: 127.0.0.1:7400]", "[default: 30000]", "[default: info]"]
    {
        assert!(help.contains(expected), "{expected} is missing in {help}");
    }
    let filled = Settings::default().filled();
    assert_eq!((filled.listen, filled.ledger), (Some(Listen::At(LISTEN)), Some(LedgerAddress::default())));
    assert_eq!(RELOADABLE, ["admin-host", "log"]);
}

#[test]
fn a_key_that_has_changed_is_named_and_no_other() {
    let value = |key: &str| match key {
        "ledger" => "sqlite:/other.db",
        "ledger-columns" => "user_id=account",
        "ledger-kinds" => "in=recharge,out=-withdrawal",
        "admin-host" => "ledger.example",
        "unix-mode" => "0600",
        "driver" => "ring",
        "now" => "2026-01-01T00:00:00Z",
        "checkpoint-at-exit" | "insecure-listen" => "on",
        "standbys" => "0",
        "log" => "debug",
        "log-format" => "json",
        "audit" => "7%",
        "cpus" | "housekeeping-cpus" | "numa" => "0",
        key if key.ends_with("listen") || key.ends_with("admin") => "127.0.0.1:1",
        key if ["unix", "unix-group", "checkpoint", "principals", "audit-log"].contains(&key) => "other",
        key if key.starts_with("tls-") => "other",
        _ => "7",
    };
    let filled = |text: &str| Settings::parse(text).unwrap().filled();
    let usual = filled("");
    assert!(usual.changed_keys(&usual).is_empty());
    for &key in KEYS {
        let changed = filled(&format!("{key} = \"{}\"", value(key))).changed_keys(&usual);
        // The shards' ports by TLS follow the other, where nothing is said of them.
        let follows = changed.strip_suffix(&["tls-shard-listen"]).filter(|_| key == "tls-listen");
        assert_eq!(follows.unwrap_or(&changed), [key]);
    }
}

/// `florin config check` said that such a file can be used.
#[cfg(feature = "postgres")]
#[test]
fn a_password_in_an_address_cannot_be_used_and_is_not_repeated() {
    let settings = Settings::parse("ledger = \"postgres://florin:geheim@db/pay\"").unwrap();
    let error = settings.effective().unwrap_err().to_string();
    assert!(error.contains("PGPASSFILE") && !error.contains("geheim"), "{error}");
}

/// A table that is there already is mapped by tables of the file.
#[cfg(feature = "postgres")]
#[test]
fn a_ledger_that_is_mapped_has_a_table_of_its_own() {
    use florin_postgres::mapping::{Columns, Kinds, Mapping};
    let text = "[ledger]\naddress = \"postgres://florin@db/pay\"\n[ledger.columns]\nuser_id = \"account no\"\nversion = \"derived\"\n\
                [ledger.kinds]\n\"a,b=c\" = \"gift_received|-gift_sent\"\n7 = \"-hold\"";
    let LedgerAddress::Postgres(config) = Settings::parse(text).unwrap().effective().unwrap().node.ledger
    else {
        panic!("another kind of ledger");
    };
    let (columns, kinds): (Columns, Kinds) = (
        "user_id=account no,version=derived".parse().unwrap(),
        "a%2Cb%3Dc=gift_received|-gift_sent,7=-hold".parse().unwrap(),
    );
    assert_eq!(config.mapping, Mapping::new(&columns, &kinds).unwrap());
    for (text, message) in [
        ("[ledger]\nurl = 1", "ledger.url: expected address, columns or kinds"),
        ("[ledger.columns]\nseq = \"x\"", "ledger-columns: expected names of a transaction's columns"),
        ("[ledger.kinds]\na = \"b\"", "ledger-kinds: expected a kind for \"a\""),
    ] {
        let defects = Settings::parse(text).unwrap_err();
        assert!(defects[0].message.starts_with(message), "{defects:?}");
    }
    let sqlite = Settings::parse("ledger-kinds = \"a=hold\"").unwrap();
    assert!(matches!(sqlite.effective(), Err(SettingsError::Mapping(_))));
}

/// Nodes that divide the users: what has to be there for it, and what is of no use without it.
#[test]
fn a_group_takes_a_topic_and_a_port_and_nothing_of_it_is_said_in_vain() {
    let effective = |text: &str| Settings::parse(text).unwrap().effective();
    let refused = |text: &str| effective(text).unwrap_err().to_string();
    assert!(refused("group = \"g\"").contains("a ledger in a Kafka topic"));
    assert!(refused("advertise = \"a\"").starts_with("--advertise is of no use without --group"));
    assert!(refused("group-token-file = \"a\"").starts_with("--group-token-file is of no use"));
    assert!(refused("group-tls-ca = \"a\"").starts_with("--group-tls-ca is of no use"));
    for wrong in ["group = \"\"", "group = \"a b\"", "standbys = 4", "standbys = -1", "advertise = \"a:b\""] {
        assert!(Settings::parse(wrong).is_err(), "{wrong}");
    }
    #[cfg(feature = "kafka")]
    {
        let topic = "ledger = \"kafka://127.0.0.1:9092/l\"\ngroup = \"g\"\n";
        let node = effective(topic).unwrap();
        assert!(node.node.divides_users);
        let group = node.group.unwrap();
        assert_eq!((group.name.as_str(), group.standbys, group.advertise), ("g", 1, None));
        let token = format!("{topic}group-token-file = \"t\"\nprincipals = \"p.toml\"\n");
        let by_tls = "tls-listen = \"0.0.0.0:2\"\ntls-cert = \"c\"\ntls-key = \"k\"\n";
        for (listens, is_kept) in [
            ("", true),
            ("listen = \"0.0.0.0:1\"\n", false),
            ("listen = \"0.0.0.0:1\"\ninsecure-listen = \"on\"\n", true),
            (by_tls, false),
            (&format!("{by_tls}tls-client-ca = \"a\"\n"), true),
            (&format!("{by_tls}group-tls-ca = \"a\"\n"), true),
        ] {
            match effective(&format!("{token}{listens}")) {
                Ok(_) => assert!(is_kept, "{listens}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(!is_kept && said.contains("--group-tls-ca FILE"), "{listens}: {said}");
                }
            }
        }
        let unheard = format!("{topic}listen = \"off\"\nshard-listen = \"off\"\nunix = \"s\"");
        assert!(refused(&unheard).starts_with("--group: expected --listen or --tls-listen"));
        assert!(effective("ledger = \"kafka://127.0.0.1:9092/l\"").unwrap().group.is_none());
    }
}
