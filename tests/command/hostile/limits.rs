//! The host takes from a running node what it had: CPUs, all but a piece of their time, memory. Where CPUs are short, answers take longer,
//! and no promise is broken; where memory is, the node ends and says so, for a table that cannot grow would be a guess.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::*;
use crate::support::{SERVE, end, florin, run};

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
        println!("this host lends no cpuset: not tried");
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
        println!("this host limits no CPU time: not tried");
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
    });
    drop(server);
}

/// Where IPv6 is off, whatever needs none of it is served, `[::]` too, and an address of its own is refused with what to do.
#[test]
fn where_ipv6_is_off_all_else_is_served() {
    let folder = folder_with_ledger();
    let without = |listen: &str| {
        let off = "ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", off, "sh", env!("CARGO_BIN_EXE_florin"), "serve"]);
        command.args(["--listen", listen, "--shard-listen", listen, "--insecure-listen", "on"]);
        command.args(["--admin", "127.0.0.1:0", "--shards", "1"]).current_dir(folder.path());
        command
    };
    let may = Command::new("unshare").args(["--net", "ip", "link"]).output();
    if !may.is_ok_and(|ended| ended.status.success()) {
        return println!("skipped: a network of its own takes unshare, `ip`, and root");
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
