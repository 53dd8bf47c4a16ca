//! The host gives a node little, or takes from a running one what it had: CPUs, all but a piece of their time, files, memory. Where CPUs are
//! short, answers take longer, and no promise is broken; where memory is, the node ends and says so, for a table that cannot grow would be a
//! guess.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::*;
use crate::support::{PATIENCE, SERVE, end, florin, get, run};

/// A control group of this test's own; given back when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this host lends none: to who is not root, or through the one hierarchy of version 2, which others divide.
    fn new(controller: &str) -> Option<Group> {
        let path =
            Path::new("/sys/fs/cgroup").join(controller).join(format!("florin-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Group(path);
        group.0.join("tasks").exists().then_some(group)
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.join(name), value).unwrap_or_else(|error| panic!("{name} = {value}: {error}"));
    }

    /// Periods in which it had no CPU left.
    fn held_up(&self) -> u64 {
        let statistics = fs::read_to_string(self.0.join("cpu.stat")).expect("a group has statistics");
        let count = statistics.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.expect("of what is limited").parse().expect("a number")
    }

    fn take_in(&self, server: &Server) {
        self.set("cgroup.procs", &server.id().to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty once the node is gone; at worst it stays behind.
        let _ = fs::remove_dir(&self.0);
    }
}

fn ledger_of(folder: &Path) -> PathBuf {
    folder.join("florin.db")
}

/// A node whose shards each have a CPU of their own is left one for all of them, then the other, then both.
#[test]
fn no_promise_is_broken_while_cpus_are_taken_away() {
    let Some(group) = Group::new("cpuset") else {
        println!("skipped: this host lends no cpuset");
        return;
    };
    let all = fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.cpus").unwrap();
    let all = all.trim();
    let (first, last) = (all.split(['-', ',']).next().unwrap(), all.rsplit(['-', ',']).next().unwrap());
    group.set("cpuset.mems", fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.mems").unwrap().trim());
    group.set("cpuset.cpus", all);
    let folder = folder_with_ledger();
    let server = start(folder.path(), 2, &[]);
    group.take_in(&server);
    with_callers(into_file(&ledger_of(folder.path())), (server.any, server.admin), |scene| {
        for cpus in [first, last, all] {
            group.set("cpuset.cpus", cpus);
            scene.go_on();
        }
    });
    drop(server);
}

/// A container's limit: a fifth of one CPU for all of a node, so that each of its threads stands still for most of each tenth of a second.
#[test]
fn no_promise_is_broken_on_a_fifth_of_a_cpu() {
    let Some(group) = Group::new("cpu").filter(|group| group.0.join("cpu.cfs_quota_us").exists()) else {
        println!("skipped: this host limits no CPU time");
        return;
    };
    let folder = folder_with_ledger();
    let server = start(folder.path(), 2, &[]);
    group.set("cpu.cfs_period_us", "100000");
    group.set("cpu.cfs_quota_us", "20000");
    group.take_in(&server);
    with_callers(into_file(&ledger_of(folder.path())), (server.any, server.admin), |scene| {
        for _ in 0..variable("FLORIN_ENDS", 2) {
            scene.go_on();
        }
        wait_for("a period in which the node was held up", || (group.held_up() > 0).then_some(()));
    });
    println!("held up in {} periods", group.held_up());
    drop(server);
}

/// Where IPv6 is off, whatever needs none of it is served, `[::]` too, and an address of its own is refused with what to do.
#[test]
fn where_ipv6_is_off_all_else_is_served() {
    let folder = folder_with_ledger();
    let within = |program: &str| {
        let off = "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", off, "sh", program]);
        command
    };
    let without = |listen: &str| {
        let mut command = within(env!("CARGO_BIN_EXE_florin"));
        command.arg("serve");
        command.args(["--listen", listen, "--shard-listen", listen, "--insecure-listen", "on"]);
        command.args(["--admin", "127.0.0.1:0", "--shards", "1"]).current_dir(folder.path());
        command
    };
    if !within("true").output().is_ok_and(|ended| ended.status.success()) {
        return println!(
            "skipped: a network of its own without IPv6 takes unshare, `ip`, root, and a host that has IPv6"
        );
    }
    let refusal = end(without("[::1]:0"), "").refused(18);
    assert!(refusal.contains("no interface of this host has that address"), "{refusal}");
    for listen in ["127.0.0.1:0", "[::]:0"] {
        let server = Server::spawn(without(listen));
        let mut inside = Command::new("nsenter");
        inside.args([&format!("--net=/proc/{}/ns/net", server.id()), env!("CARGO_BIN_EXE_florin"), "get"]);
        inside.args(["balance", "1", "--addr", &format!("127.0.0.1:{}", server.any.port())]);
        let balance = end(inside, "").ok();
        assert!(balance.contains("COIN"), "{listen}: {balance}");
    }
}

/// Ticks of the CPUs that a process has had.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    // After its name come its state and ten numbers, and then these two, of the user's time and the system's.
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// 500 callers come to a node that may have 64 files open. Whoever it has no room for waits, at no cost to it, and is answered once others
/// leave; who asks how it is does so all along.
#[test]
fn a_node_of_few_files_lets_callers_wait_and_costs_little_meanwhile() {
    const CALLERS: usize = 500;
    for driver in ["ring", "monoio", "monoio-epoll", "glommio"] {
        let folder = folder_with_ledger();
        let mut command = Command::new("prlimit");
        command.args(["--nofile=64:64", env!("CARGO_BIN_EXE_florin")]).args(SERVE);
        command.args(["--shards", "1", "--driver", driver]).current_dir(folder.path());
        let server = Server::spawn(command);
        let ask = |mut caller: TcpStream| {
            caller.set_read_timeout(Some(PATIENCE)).unwrap();
            caller.write_all(b"GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\n\r\n").expect("it is open");
            caller
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| ask(TcpStream::connect(server.any).unwrap())).collect();
        let metric = "florin_connections_full_total";
        wait_for("callers who wait", || {
            let metrics = get(server.admin, "/metrics");
            metrics.lines().any(|line| line.starts_with(metric) && !line.ends_with(" 0")).then_some(())
        });
        let (before, began) = (ticks(server.id()), Instant::now());
        while began.elapsed() < Duration::from_secs(1) {
            let healthy = get(server.admin, "/healthz");
            assert!(healthy.starts_with("HTTP/1.1 200"), "{driver}: {healthy}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        // Some hundredths of a CPU, and not all of it for trying to let somebody in.
        let (spent_ms, passed_ms) = (10 * (ticks(server.id()) - before), began.elapsed().as_millis() as u64);
        assert!(spent_ms < passed_ms / 2, "{driver}: {spent_ms} ms on a CPU within {passed_ms}");
        // Each leaves once it has its answer.
        for mut caller in callers {
            let mut head = [0; 12];
            caller.read_exact(&mut head).unwrap_or_else(|error| panic!("{driver}: {error}"));
            assert_eq!(&head, b"HTTP/1.1 200", "{driver}");
        }
    }
}

/// What may be locked, a user's nodes may together: another is refused with what it takes, those that serve do so as before, and where one
/// has ended there is room for one again.
#[test]
fn nodes_of_one_user_share_what_it_may_lock() {
    const NO_MEMORY: i32 = 12;
    let folder = folder_with_ledger();
    // A number that nobody has, so that nothing else of this host counts; and it may enter the folders that the tests were built in.
    let user = 50_000 + std::process::id() % 10_000;
    let limited = |bytes: u64| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups", "--inh-caps=+dac_override"]);
        command.args(["--ambient-caps=+dac_override", "prlimit", &format!("--memlock={bytes}:{bytes}")]);
        command.arg(env!("CARGO_BIN_EXE_florin")).args(SERVE).args(["--shards", "1"]);
        command.current_dir(folder.path());
        command
    };
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let owned = files.chain([folder.path().to_owned()]).all(|path| chown(path, Some(user), None).is_ok());
    if !owned || Command::new("setpriv").arg("--version").output().is_err() {
        return println!("skipped: another user's nodes take root, and setpriv");
    }
    let refusal = end(limited(64 << 10), "").refused(NO_MEMORY);
    let locks = refusal.split("each shard locks about ").nth(1).expect("how much it takes");
    let locks: u64 = locks.split(' ').next().unwrap().parse().unwrap();

    let serves = |server: &Server| {
        let balance = run(folder.path(), &["get", "balance", "1", "--addr", &server.addr()]).ok();
        assert!(balance.contains("COIN"), "{balance}");
    };
    let room = locks * 5 / 2;
    let (first, second) = (Server::spawn(limited(room)), Server::spawn(limited(room)));
    let refusal = end(limited(room), "").refused(NO_MEMORY);
    assert!(refusal.contains("for all of this user's processes"), "{refusal}");
    [&first, &second].into_iter().for_each(serves);
    first.signal(Signal::TERM);
    first.ended();
    // The kernel gives back what was locked a moment after the process is gone.
    let third = wait_for("room for another", || match Server::try_spawn(&mut limited(room)) {
        Ok(server) => Some(server),
        Err(status) if status.code() == Some(NO_MEMORY) => None,
        Err(status) => panic!("it ended before it was ready: {status:?}"),
    });
    [&second, &third].into_iter().for_each(serves);
}

/// A node that may have next to no more address space is given more accounts than fit. It ends, says why, and the next one, which has the
/// room, has everything.
#[test]
fn a_table_that_cannot_grow_ends_its_node_aloud() {
    const ACCOUNTS: u64 = 40_000;
    let folder = folder_with_ledger();
    let said = folder.path().join("said");
    let mut command = florin(folder.path(), &[&SERVE[..], &["--shards", "1"]].concat());
    command.stderr(fs::File::create(&said).unwrap());
    let server = Server::spawn(command);
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = Some(size * 1_024 + (1 << 20));
    let process = Pid::from_raw(server.id().try_into().unwrap()).unwrap();
    prlimit(Some(process), Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();

    let mut rows = "transaction_id,user_id,asset,kind,amount,occurred_at\n".to_owned();
    for user in 0..ACCOUNTS {
        let user = 10 + user;
        rows += &format!("00000000-0000-4000-b000-{user:012},{user},COIN,recharge,1,2026-11-20T10:00:00Z\n");
    }
    fs::write(folder.path().join("more.csv"), rows).unwrap();
    run(folder.path(), &["import", "more.csv"]).ok();
    let (code, _) = server.ended();
    let said = fs::read_to_string(said).unwrap();
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("memory"), "{code:?}: {said}");
    let server = Server::start(folder.path(), &["--shards", "1"]);
    for user in [10, 9 + ACCOUNTS] {
        let user = user.to_string();
        let balance = run(folder.path(), &["get", "balance", &user, "--addr", &server.addr()]).ok();
        assert!(balance.contains("COIN"), "{balance}");
    }
}
