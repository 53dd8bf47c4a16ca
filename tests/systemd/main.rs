//! The units and the package under a real systemd: each test boots a Debian of its own and is its operator.

mod callers;
mod machine;
mod supplies;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use callers::{Door, Mishap, Restart, while_calling};
use machine::{Machine, wait_for};

/// The program that makes the man pages and completions.
#[path = "../../examples/pages.rs"]
#[allow(dead_code)]
mod pages;

const VERSION: &str = "1.0.0";
const NEXT_VERSION: &str = "1.0.1";
const INSTALL: &str = "apt-get install --quiet --yes /root/florin.deb";
const ASK: &str = "florin get balance 1";
/// Restarts under load: so many, or `FLORIN_RESTARTS`.
const RESTARTS: usize = 20;
/// Upgrades under load: so many, or `FLORIN_UPGRADES`.
const UPGRADES: usize = 1;
/// Answers between two of them.
const ANSWERS_PER_RESTART: u64 = 50;

/// How often, where this variable does not say otherwise.
fn times(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |times| times.parse().expect("a number"))
}

/// A machine with the package, and with a ledger.
fn machine(test: &str) -> Option<Machine> {
    let machine = bare_machine(test)?;
    machine.ok(INSTALL);
    machine.ok("runuser -u florin -- florin generate --users 100 --transactions 2000 --ledger sqlite:/var/lib/florin/ledger.db");
    Some(machine)
}

/// A machine on which the package lies, not yet installed.
fn bare_machine(test: &str) -> Option<Machine> {
    if let Some(needed) = supplies::missing() {
        eprintln!("skipped: {test} needs {needed}");
        return None;
    }
    let package = supplies::package(VERSION);
    let machine = Machine::boot(&supplies::debian());
    machine.put(&package, "/root/florin.deb");
    Some(machine)
}

#[test]
fn the_package_starts_nothing_by_itself_and_serves_once_it_is_started() {
    let Some(machine) = bare_machine("the_package_starts_nothing_by_itself_and_serves_once_it_is_started")
    else {
        return;
    };
    machine.ok(INSTALL);
    for unit in ["florin.service", "florin.socket", "florin-shadow.service", "florin-tune.service"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(machine.property(unit, "UnitFileState"), "disabled", "{unit}");
    }
    machine.ok("runuser -u florin -- florin generate --users 100 --transactions 2000 --ledger sqlite:/var/lib/florin/ledger.db");
    machine.ok("systemctl start florin");
    let answer = machine.ok(ASK);
    assert!(answer.contains("user 1, version"), "{answer}");
    assert!(machine.property("florin", "StatusText").starts_with("serving "));
    // Each shard's thread has one CPU, although the unit forbids nearly everything else.
    let (shards, _) = cpus_of_threads(&machine);
    let distinct: BTreeSet<&String> = shards.iter().collect();
    assert!(!shards.is_empty() && distinct.len() == shards.len(), "{shards:?}");
    assert!(shards.iter().all(|list| list.parse::<u16>().is_ok()), "{shards:?}");
    machine.ok("grep -q '^Seccomp:.*2$' /proc/$(systemctl show --value --property=MainPID florin)/status");
    machine.ok("systemctl stop florin");
    assert_eq!(machine.property("florin", "Result"), "success");
}

/// Where the kernel lets florin's threads run: each shard's, and each other's.
fn cpus_of_threads(machine: &Machine) -> (Vec<String>, Vec<String>) {
    let main = machine.property("florin", "MainPID");
    let threads = machine.ok(&format!(
        "for task in /proc/{main}/task/*; do echo $(cat $task/comm) $(grep Cpus_allowed_list $task/status); done"
    ));
    let (shards, others): (Vec<&str>, Vec<&str>) =
        threads.lines().partition(|line| line.starts_with("florin-shard"));
    let list = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    (shards.into_iter().map(list).collect(), others.into_iter().map(list).collect())
}

#[test]
fn a_plans_drop_ins_put_every_thread_where_the_plan_has_it() {
    let Some(machine) = machine("a_plans_drop_ins_put_every_thread_where_the_plan_has_it") else { return };
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("skipped: a_plans_drop_ins_put_every_thread_where_the_plan_has_it needs two CPUs");
        return;
    }
    machine.ok("florin tune plan --shards 1 --systemd --out /etc/systemd/system");
    machine.ok("systemctl daemon-reload");
    let plan: serde_json::Value =
        serde_json::from_str(&machine.ok("florin tune plan --shards 1 --json")).unwrap();
    let shard = plan["shards"][0]["cpu"].to_string();
    let kept = plan["housekeeping"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    machine.ok(&format!(
        "printf 'cpus = \"{shard}\"\\nhousekeeping-cpus = \"{kept}\"\\n' >> /etc/florin/florin.toml"
    ));
    machine.ok("systemctl start florin");
    machine.ok(ASK);
    assert_ne!(machine.property("florin", "CPUAffinity"), "");
    let (shards, others) = cpus_of_threads(&machine);
    assert_eq!(shards, [shard]);
    assert!(!others.is_empty() && others.iter().all(|list| *list == kept), "{others:?}, not {kept}");
}

/// Changes a unit as an operator does.
fn drop_in(machine: &Machine, unit: &str, text: &str) {
    let folder = machine.path(&format!("/etc/systemd/system/{unit}.d"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("test.conf"), text).unwrap();
    machine.ok("systemctl daemon-reload");
}

/// What the node listens on; systemd holds all of it, the shard ports too.
fn hold_all_doors(machine: &Machine) -> Vec<Door> {
    let shards = std::thread::available_parallelism().unwrap().get() as u16;
    let ports =
        (1..=shards).map(|shard| format!("ListenStream=127.0.0.1:{}\n", 7400 + shard)).collect::<String>();
    drop_in(machine, "florin.socket", &format!("[Socket]\n{ports}"));
    machine.ok("systemctl enable --now florin.socket");
    machine.ok("systemctl enable --now florin.service");
    let mut doors = vec![Door::Unix(machine.path("/run/florin/florin.sock"))];
    doors.extend((7400..=7400 + shards).map(|port| Door::Tcp(([127, 0, 0, 1], port).into())));
    doors
}

#[track_caller]
fn assert_nothing_is_lost(mishaps: &[Mishap], restarts: &[Restart]) {
    let lost: Vec<String> =
        mishaps.iter().filter(|mishap| mishap.is_loss(restarts)).map(Mishap::to_string).collect();
    assert!(lost.is_empty(), "{} lost, the first: {:#?}", lost.len(), &lost[..lost.len().min(5)]);
}

/// Waits until callers have had some answers more: what happens next happens under load.
fn wait_for_answers(answered: &AtomicU64) {
    let before = answered.load(Ordering::Relaxed);
    wait_for("answers", || (answered.load(Ordering::Relaxed) > before + ANSWERS_PER_RESTART).then_some(()));
}

#[test]
fn restarts_under_load_lose_no_connection_and_no_request() {
    let Some(machine) = machine("restarts_under_load_lose_no_connection_and_no_request") else { return };
    let (doors, asked) = (hold_all_doors(&machine), times("FLORIN_RESTARTS", RESTARTS));
    let (restarts, answered, mishaps) = while_calling(&machine, &doors, |answered| {
        let restart = |_| {
            wait_for_answers(answered);
            machine.ok("systemctl restart florin");
            Restart::last(&machine)
        };
        (0..asked).map(restart).collect::<Vec<_>>()
    });
    eprintln!("{asked} restarts, {answered} answers, {} connections closed by a drain", mishaps.len());
    assert!(answered > asked as u64 * ANSWERS_PER_RESTART);
    assert_nothing_is_lost(&mishaps, &restarts);
}

#[test]
fn an_upgrade_under_load_loses_no_request() {
    let Some(machine) = machine("an_upgrade_under_load_loses_no_request") else { return };
    let doors = hold_all_doors(&machine);
    let runs = || machine.ok("readlink /proc/$(systemctl show --value --property=MainPID florin)/exe");
    let (versions, asked) = ([NEXT_VERSION, VERSION].into_iter().cycle(), times("FLORIN_UPGRADES", UPGRADES));
    let (restarts, answered, mishaps) = while_calling(&machine, &doors, |answered| {
        let upgrade = |version| {
            machine.put(&supplies::package(version), "/root/florin.deb");
            let main = machine.property("florin", "MainPID");
            machine.ok(&format!("{INSTALL} --allow-downgrades"));
            let installed = machine.ok("dpkg-query --show --showformat='${Version}' florin");
            assert_eq!(installed, version);
            // What runs is restarted on purpose only.
            assert_eq!(machine.property("florin", "MainPID"), main);
            assert!(runs().ends_with("(deleted)"), "{}", runs());
            wait_for_answers(answered);
            machine.ok("systemctl restart florin");
            assert_eq!(runs(), "/usr/bin/florin");
            Restart::last(&machine)
        };
        versions.take(asked).map(upgrade).collect::<Vec<_>>()
    });
    eprintln!("{asked} upgrades, {answered} answers, {} connections closed by a drain", mishaps.len());
    assert!(answered > asked as u64 * ANSWERS_PER_RESTART);
    assert_nothing_is_lost(&mishaps, &restarts);
    machine.ok(ASK);
}

#[test]
fn a_shard_that_hangs_is_killed_by_the_watchdog_and_comes_back() {
    let Some(machine) = machine("a_shard_that_hangs_is_killed_by_the_watchdog_and_comes_back") else {
        return;
    };
    drop_in(&machine, "florin.service", "[Service]\nWatchdogSec=2s\n");
    machine.ok("systemctl start florin");
    let main = machine.property("florin", "MainPID");
    let mut tracer = machine.stop_thread(&main, "florin-shard-0");
    machine.wait_for_property("florin", "NRestarts", "1");
    machine.wait_for_property("florin", "ActiveState", "active");
    assert_ne!(machine.property("florin", "MainPID"), main);
    machine.ok(ASK);
    let log = machine.ok("journalctl --no-pager --unit=florin");
    assert!(log.contains("have not turned for") && log.contains("Watchdog timeout"), "{log}");
    assert!(tracer.wait().unwrap().success(), "the thread was not held until it died");
}

#[test]
fn a_reload_takes_over_what_is_logged_and_a_mistake_changes_nothing() {
    let Some(machine) = machine("a_reload_takes_over_what_is_logged_and_a_mistake_changes_nothing") else {
        return;
    };
    machine.ok("systemctl start florin");
    let main = machine.property("florin", "MainPID");
    let log = || machine.ok("journalctl --no-pager --unit=florin");

    machine.ok("printf 'log = \"debug\"\\nspin-us = 50\\n' >> /etc/florin/florin.toml");
    machine.ok("systemctl reload florin");
    wait_for("the reload", || log().contains("SIGHUP: reloaded log=\"debug\"").then_some(()));
    assert!(log().contains("these have changed and take a restart: spin-us"), "{}", log());

    machine.ok("echo 'shards = \"many\"' >> /etc/florin/florin.toml");
    machine.refused("systemctl reload florin");
    assert!(log().contains("shards: "), "{}", log());
    machine.ok(ASK);
    assert_eq!(machine.property("florin", "MainPID"), main);

    machine.ok("sed -i /many/d /etc/florin/florin.toml");
    machine.ok("systemctl restart florin");
    machine.ok(ASK);
    assert_ne!(machine.property("florin", "MainPID"), main);
}

#[test]
fn a_saved_plan_holds_while_its_unit_is_active_and_is_taken_back_when_it_stops() {
    let Some(machine) =
        machine("a_saved_plan_holds_while_its_unit_is_active_and_is_taken_back_when_it_stops")
    else {
        return;
    };
    // nspawn lays a boot_id of the machine's over procfs, which a procfs of the unit's own would not have.
    drop_in(&machine, "florin-tune.service", "[Service]\nProtectProc=default\nProtectControlGroups=no\n");
    // Of this network's own.
    const BACKLOG: &str = "/proc/sys/net/core/somaxconn";
    let log = || machine.ok("journalctl --no-pager --unit=florin-tune");
    machine.ok("systemctl start florin-tune");
    assert_eq!(machine.property("florin-tune", "ConditionResult"), "no", "there is no plan yet");
    machine.ok(&format!("echo 128 > {BACKLOG}"));
    machine.ok("florin tune plan --only backlog --json > /etc/florin/tune.json");

    // This machine is a container, whose /proc may be its host's: unasked, nothing is written.
    machine.refused("systemctl start florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "128");
    assert!(log().contains("--allow-container"), "{}", log());
    machine.ok(
        "sed -i 's/tune apply/tune apply --allow-container/' /usr/lib/systemd/system/florin-tune.service",
    );
    machine.ok("systemctl daemon-reload");

    machine.ok("systemctl start florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "4096");
    machine.ok("florin tune verify");
    machine.ok(&format!("echo 129 > {BACKLOG}"));
    machine.refused("florin tune verify");
    machine.ok("systemctl reload florin-tune");
    machine.ok("florin tune verify");

    machine.ok("systemctl stop florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "128");

    // What a host does not have is named, and the rest holds. That failed the unit, at each boot, and a failed unit's ExecStop= is
    // never run.
    machine.ok("florin tune plan --only backlog,tcp --json > /etc/florin/tune.json");
    machine.ok("sed -i s/tcp_max_syn_backlog/there_is_no_such/ /etc/florin/tune.json");
    machine.ok("systemctl start florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "4096");
    assert!(
        log().contains("not changeable: this host has no such file: /proc/sys/net/ipv4/there_is_no_such"),
        "{}",
        log()
    );
    machine.ok("systemctl stop florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "128");

    // A host that refuses a setting is one that the unit does not call tuned: it fails, and leaves nothing half done.
    machine.ok("sed -i 's/\"value\": \"0\"/\"value\": \"many\"/' /etc/florin/tune.json");
    machine.refused("systemctl start florin-tune");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "128");
    assert!(log().contains("refused: the kernel does not take this value"), "{}", log());
    machine.ok("test ! -e /run/florin-tune/journal");

    // Whoever removes the package gets the host back as it was, also where it was tuned by hand.
    machine.ok("florin tune apply --only backlog --allow-container");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "4096");
    machine.ok("apt-get remove --quiet --yes florin");
    assert_eq!(machine.ok(&format!("cat {BACKLOG}")), "128");
}

#[test]
fn what_comes_late_is_waited_for_and_what_no_retry_mends_is_not() {
    // Five attempts in three seconds were all: an address or a disk that came five seconds late ended the service for good.
    let Some(machine) = machine("what_comes_late_is_waited_for_and_what_no_retry_mends_is_not") else {
        return;
    };
    machine.ok("mv /var/lib/florin/ledger.db /var/lib/florin/away.db");
    machine.ok("systemctl start --no-block florin");
    machine.wait_for_property("florin", "NRestarts", "6");
    machine.ok("mv /var/lib/florin/away.db /var/lib/florin/ledger.db");
    machine.wait_for_property("florin", "ActiveState", "active");
    machine.ok(ASK);
    machine.ok("systemctl stop florin");

    // An address as a network brings it that is slow to come.
    let late = r#"listen = "10.77.0.1:7400"\ninsecure-listen = "on"\n"#;
    machine.ok(&format!("printf '{late}' >> /etc/florin/florin.toml"));
    machine.ok("systemctl start --no-block florin");
    machine.wait_for_property("florin", "NRestarts", "2");
    machine.add_address("10.77.0.1/32");
    machine.wait_for_property("florin", "ActiveState", "active");
    machine.ok("florin get balance 1 --addr 10.77.0.1:7400");
    machine.ok("systemctl stop florin");

    machine.ok("echo 'shards = \"many\"' >> /etc/florin/florin.toml");
    machine.refused("systemctl start florin");
    machine.wait_for_property("florin", "ActiveState", "failed");
    assert_eq!(machine.property("florin", "NRestarts"), "0");
}

#[test]
fn the_shadow_runs_and_ends_with_its_verdict() {
    let Some(machine) = machine("the_shadow_runs_and_ends_with_its_verdict") else { return };
    machine.ok("systemctl start florin");
    machine.ok("sed -i s/^PRIMARY=.*/PRIMARY=http:\\\\/\\\\/127.0.0.1:7400/ /etc/florin/shadow.env");
    // Whoever has started it may call at once. The unit was once called active before it took callers, and this test's were
    // refused and gave up, or were stopped before they had asked: it waited in vain for an answer.
    machine.ok("systemctl start florin-shadow");
    let through = [Door::Tcp(([127, 0, 0, 1], 7600).into())];
    let (_, _, mishaps) = while_calling(&machine, &through, wait_for_answers);
    assert_nothing_is_lost(&mishaps, &[]);
    machine.ok("systemctl stop florin-shadow");
    assert_eq!(machine.property("florin-shadow", "Result"), "success");
    assert!(!machine.ok("ls /var/lib/florin-shadow").is_empty());
}

/// Everything on the machine's disk but what packages and the system write about themselves.
fn files(machine: &Machine) -> BTreeSet<String> {
    let list = machine.ok(
        "find / -xdev -path /var/lib/dpkg -prune -o -path /var/lib/apt -prune -o -path /var/cache -prune -o -path /var/log \
         -prune -o -path /tmp -prune -o -path /var/tmp -prune -o -path /var/lib/systemd -prune -o -print",
    );
    let run = machine.ok("find /run -name '*florin*'");
    list.lines().chain(run.lines()).map(str::to_owned).collect()
}

#[test]
fn a_removal_stops_the_node_and_a_purge_leaves_the_ledger_and_nothing_else() {
    let Some(machine) =
        bare_machine("a_removal_stops_the_node_and_a_purge_leaves_the_ledger_and_nothing_else")
    else {
        return;
    };
    let (before, users) = (files(&machine), machine.ok("cat /etc/passwd /etc/group"));
    // To install changes nothing of the host: it once turned kernel.numa_balancing off, unasked.
    machine.ok("echo 128 > /proc/sys/net/core/somaxconn");
    let settings = "cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/tcp_* /proc/sys/kernel/numa_balancing 2>/dev/null || true";
    let sysctls = machine.ok(settings);
    machine.ok(INSTALL);
    assert_eq!(machine.ok(settings), sysctls);
    machine.ok("runuser -u florin -- florin generate --users 100 --transactions 2000 --ledger sqlite:/var/lib/florin/ledger.db");
    hold_all_doors(&machine);
    machine.ok(ASK);

    machine.ok("apt-get remove --quiet --yes florin");
    for unit in ["florin.service", "florin.socket"] {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    machine.ok("test -s /var/lib/florin/ledger.db");
    machine.ok("test -s /etc/florin/florin.toml");

    // A purge takes what the package has made; the ledger is its owner's, and so is the user whose it is.
    let said = machine.ok("apt-get purge --quiet --yes florin");
    assert!(said.contains("/var/lib/florin holds a ledger: it stays"), "{said}");
    machine.ok("test -s /var/lib/florin/ledger.db && getent passwd florin");

    // Old values that cannot be put back are all that says how this host was: a removal deleted them.
    machine.ok(INSTALL);
    let stuck = r#"{"boot":"another"}"#;
    machine.ok(&format!("mkdir -p /run/florin-tune && echo '{stuck}' > /run/florin-tune/journal"));
    let said = machine.ok("apt-get purge --quiet --yes florin");
    assert!(said.contains("The old values stay in /run/florin-tune/journal"), "{said}");
    machine.ok("test -s /run/florin-tune/journal && rm -r /run/florin-tune");

    // Here without a systemd that runs, as in an image that is being built: what was enabled is no longer.
    let without_systemd = |line: &str| {
        machine.ok(&format!("unshare --mount sh -c 'mount -t tmpfs tmpfs /run/systemd && {line}'"));
    };
    machine.ok(INSTALL);
    machine.ok("systemctl enable florin.socket florin.service florin-tune.service florin-shadow.service");
    without_systemd("apt-get remove --quiet --yes florin");
    assert_eq!(machine.ok("find /etc/systemd -lname \"*florin*\""), "");
    without_systemd("FLORIN_DELETE_LEDGER=yes apt-get purge --quiet --yes florin");
    machine.ok("systemctl daemon-reload");
    let left: Vec<_> = files(&machine).difference(&before).cloned().collect();
    // The copies that shadow-utils keep of the files they change.
    let left: Vec<_> =
        left.iter().filter(|file| !file.starts_with("/etc/") || !file.ends_with('-')).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(machine.ok("cat /etc/passwd /etc/group"), users);
    assert_eq!(machine.run("systemctl list-units --all --no-legend '*florin*'"), "");
}
