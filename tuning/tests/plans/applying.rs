//! Applying, verifying and undoing, on recorded trees: what is written, what is kept, and what every refusal is called.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use florin_tune::TuneError;
use florin_tune::host::Facts;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::golden::{Tree, tune};
use crate::machines;

const SYN: &str = "proc/sys/net/ipv4/tcp_max_syn_backlog";

/// A tree, and a journal beside it.
struct Bed {
    tree: Tree,
    other: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        Bed { tree: Tree::of(&machines::two_sockets()), other: tempfile::tempdir().unwrap() }
    }

    fn journal(&self) -> String {
        self.other.path().join("journal").to_str().unwrap().to_owned()
    }

    fn run(&self, command: &str, words: &[&str]) -> (String, Result<(), TuneError>) {
        let journal = self.journal();
        let words: Vec<&str> = [command, "--journal", &journal].iter().chain(words).copied().collect();
        self.tree.tune(&words)
    }

    fn facts(&self) -> Facts {
        Facts::gather(self.tree.path()).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.tree.path().join(path), text).unwrap();
    }
}

#[test]
fn what_is_applied_holds_and_what_is_reverted_is_as_it_was() {
    let bed = Bed::new();
    let before = bed.facts();
    let (text, outcome) = bed.run("apply", &["--shards", "8"]);
    outcome.unwrap();
    assert!(text.lines().count() > 50 && text.lines().all(|line| line.starts_with("changed: /")), "{text}");
    let after = bed.facts();
    assert_eq!(after.get(SYN), Some("4096"));
    assert_eq!(after.get("proc/irq/101/smp_affinity_list"), Some("2"));
    assert_eq!(after.get("proc/irq/181/smp_affinity_list"), Some("0,5-20,25-40,45-60,65-79"));
    let (text, outcome) = bed.run("verify", &[]);
    outcome.unwrap();
    assert!(text.ends_with("settings still as applied\n"), "{text}");
    // The plan of a host that has it all is empty.
    let (text, _) = bed.tree.tune(&["plan", "--shards", "8"]);
    assert!(text.contains("settings: none to change"), "{text}");
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts(), before);
    assert!(matches!(bed.run("verify", &[]).1, Err(TuneError::Journal(_))), "the journal is gone");
}

#[test]
fn the_first_old_value_is_kept_when_more_is_applied() {
    let bed = Bed::new();
    let before = bed.facts();
    bed.run("apply", &["--shards", "8"]).1.unwrap();
    bed.run("apply", &["--shards", "4", "--with", "busy-poll,c-states"]).1.unwrap();
    bed.run("verify", &[]).1.unwrap();
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts(), before);
}

#[test]
fn a_rehearsal_touches_nothing() {
    let bed = Bed::new();
    let before = bed.facts();
    let (text, outcome) = bed.run("apply", &["--dry-run"]);
    outcome.unwrap();
    assert!(text.lines().all(|line| line.starts_with("would change: /")), "{text}");
    assert_eq!(bed.facts(), before);
    assert!(!fs::exists(bed.journal()).unwrap());
    bed.run("apply", &[]).1.unwrap();
    let applied = bed.facts();
    let (text, outcome) = bed.run("revert", &["--dry-run"]);
    outcome.unwrap();
    assert!(text.contains("would change") && !text.contains("\nchanged"), "{text}");
    assert_eq!(bed.facts(), applied);
    bed.run("verify", &[]).1.unwrap();
}

#[test]
fn what_something_else_has_changed_is_named_and_nothing_else_is() {
    let bed = Bed::new();
    bed.run("apply", &[]).1.unwrap();
    bed.write("proc/irq/101/smp_affinity_list", "0-79\n");
    // The same set of CPUs in other words is no drift.
    bed.write("proc/irq/102/smp_affinity_list", "3,3\n");
    for command in [&["verify"][..], &["watch", "--times", "1"]] {
        let (text, outcome) = bed.run(command[0], &command[1..]);
        assert!(matches!(outcome, Err(TuneError::Drifted { drifted: 1 })), "{text}");
        assert!(text.contains("drift: /proc/irq/101/smp_affinity_list: wanted 2, found 0-79"), "{text}");
        assert!(!text.contains("/102/"), "{text}");
    }
    let (text, _) = bed.run("verify", &["--json"]);
    let drifts: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(drifts[0]["found"], "0-79");
    bed.run("apply", &[]).1.unwrap();
    bed.run("verify", &[]).1.unwrap();
}

#[test]
fn every_refusal_has_its_name_and_the_rest_is_done() {
    let bed = Bed::new();
    let plan = bed.other.path().join("plan.json");
    let (text, _) = bed.tree.tune(&["plan", "--with", "isolation", "--json"]);
    fs::write(&plan, text).unwrap();
    let root = bed.tree.path();
    fs::remove_file(root.join(SYN)).unwrap();
    let kept = root.join("proc/sys/kernel/nmi_watchdog");
    fs::remove_file(&kept).unwrap();
    symlink("/dev/null", &kept).unwrap();
    let odd = root.join("proc/sys/kernel/timer_migration");
    fs::remove_file(&odd).unwrap();
    fs::create_dir(&odd).unwrap();
    let (text, outcome) = bed.run("apply", &["--plan", plan.to_str().unwrap()]);
    assert!(matches!(outcome, Err(TuneError::NotAllApplied { failed: 1 })), "{text}");
    let line = |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("tcp_max_syn_backlog").starts_with("not changeable: this host has no such file"));
    assert!(line("nmi_watchdog").starts_with("refused: the kernel took 0 and holds "));
    assert!(line("timer_migration").starts_with("not changeable: the kernel says: "));
    assert!(line("isolcpus").starts_with("needs reboot: "));
    assert!(line("tcp_slow_start").starts_with("changed: "));
    // What was not written is in no journal.
    bed.run("verify", &[]).1.unwrap();
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts().get("proc/sys/net/ipv4/tcp_slow_start_after_idle"), Some("1"));
}

#[test]
fn a_crash_between_the_journal_and_the_write_is_undone_like_any_other() {
    let bed = Bed::new();
    let before = bed.facts();
    bed.run("apply", &[]).1.unwrap();
    // As if the last file had never been written.
    let text = fs::read_to_string(bed.journal()).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let path = last["set"]["path"].as_str().unwrap().trim_start_matches('/');
    bed.write(path, &format!("{}\n", last["set"]["was"].as_str().unwrap()));
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts(), before);
}

#[test]
fn after_a_reboot_nothing_old_is_written() {
    let bed = Bed::new();
    bed.run("apply", &[]).1.unwrap();
    bed.write("proc/sys/kernel/random/boot_id", "another\n");
    let (_, outcome) = bed.run("revert", &[]);
    assert!(outcome.unwrap_err().to_string().contains("before this host's last start"));
}

#[test]
fn what_is_no_plan_is_refused_by_name() {
    let (_, outcome) = tune(&["apply", "--plan", "/dev/null"]);
    let refusal = outcome.unwrap_err().to_string();
    assert!(refusal.contains("/dev/null is no plan"), "{refusal}");
}

#[test]
fn a_saved_plan_finds_its_interrupts_again_and_leaves_out_only_what_is_gone() {
    // One interrupt that a boot had renumbered was once enough to reject a whole saved plan; and had the number gone to
    // another device, it would have been that one's interrupt that was moved.
    let bed = Bed::new();
    let (plan, _) = bed.tree.tune(&["plan", "--shards", "8", "--json"]);
    let saved = bed.other.path().join("plan.json");
    fs::write(&saved, &plan).unwrap();
    // Number 101 is eth1's now, the second queue of eth0 has number 301, and nvme0q1 (181) is gone.
    let table = fs::read_to_string(bed.tree.path().join("proc/interrupts")).unwrap();
    let table = table.replace("\n101:", "\n301:").replace("\n141:", "\n101:").replace("nvme0q1", "other");
    bed.write("proc/interrupts", &table);
    fs::create_dir(bed.tree.path().join("proc/irq/301")).unwrap();
    bed.write("proc/irq/301/smp_affinity_list", "0-79\n");
    let (text, outcome) = bed.run("apply", &["--plan", saved.to_str().unwrap()]);
    outcome.unwrap();
    let after = bed.facts();
    assert_eq!(after.get("proc/irq/301/smp_affinity_list"), Some("2"), "{text}");
    assert_ne!(after.get("proc/irq/101/smp_affinity_list"), Some("2"), "{text}");
    assert_eq!(after.get("proc/irq/181/smp_affinity_list"), Some("0-79"));
    let line = text.lines().find(|line| line.contains("/181/")).unwrap();
    assert!(line.starts_with("not changeable: this host has no interrupt nvme0q1 now: plan again"), "{line}");
    bed.run("verify", &[]).1.unwrap();

    // The journal looks for them as well: the NIC has got new queues, and 301 is somebody else's.
    bed.write("proc/interrupts", &table.replace("\n301:", "\n302:"));
    fs::create_dir(bed.tree.path().join("proc/irq/302")).unwrap();
    bed.write("proc/irq/302/smp_affinity_list", "2\n");
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts().get("proc/irq/302/smp_affinity_list"), Some("0-79"));
    assert_eq!(fs::read_to_string(bed.tree.path().join("proc/irq/301/smp_affinity_list")).unwrap(), "2\n");
}

/// A file that takes no write, not even from root, as the affinity of a managed interrupt.
fn unwritable(content: &str) -> fs::File {
    let file = memfd_create("managed", MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = fs::File::from(file);
    file.write_all(content.as_bytes()).unwrap();
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file
}

#[test]
fn an_interrupt_that_the_kernel_places_itself_is_an_answer_and_no_failure() {
    // NVMe's interrupts are managed, and to move one is EPERM. That failed `apply`, and with it florin-tune.service at each
    // boot; a failed unit's ExecStop= never runs, so that nothing was reverted either.
    let bed = Bed::new();
    let before = bed.facts();
    let managed = unwritable("0-79\n");
    let path = bed.tree.path().join("proc/irq/181/smp_affinity_list");
    fs::remove_file(&path).unwrap();
    symlink(format!("/proc/{}/fd/{}", std::process::id(), managed.as_raw_fd()), &path).unwrap();
    let (text, outcome) = bed.run("apply", &["--shards", "8"]);
    outcome.unwrap();
    let line = text.lines().find(|line| line.contains("/181/")).unwrap();
    assert!(line.starts_with("not changeable: the kernel places this interrupt itself: "), "{line}");
    bed.run("verify", &[]).1.unwrap();
    bed.run("revert", &[]).1.unwrap();
    assert_eq!(bed.facts(), before);
    // There is nothing to take back twice, and that is no failure either.
    let (text, outcome) = bed.run("revert", &[]);
    outcome.unwrap();
    assert!(text.contains("nothing was applied, or it was reverted"), "{text}");
}

#[test]
fn in_a_container_nothing_is_written_unless_it_is_said_twice() {
    // /proc/irq has no namespace: root in a container moved its host's interrupts.
    for (mark, content) in [
        ("run/systemd/container", "docker\n"),
        (".dockerenv", ""),
        ("sys/fs/cgroup/cgroup.events", "populated 1\n"),
        ("proc/1/environ", "PATH=/bin\0container=lxc\0"),
        ("proc/self/ns/pid", "pid:[4026532201]"),
    ] {
        let bed = Bed::new();
        let path = bed.tree.path().join(mark);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A namespace is a link to its name.
        let made = if mark.contains("/ns/") { symlink(content, path) } else { fs::write(path, content) };
        made.unwrap();
        let before = bed.facts();
        let (text, outcome) = bed.run("apply", &[]);
        let refusal = outcome.unwrap_err().to_string();
        assert!(refusal.contains(mark) && refusal.contains("--allow-container"), "{refusal}");
        assert!(text.is_empty() && !fs::exists(bed.journal()).unwrap());
        assert_eq!(bed.facts(), before, "{mark}");
        bed.run("apply", &["--dry-run"]).1.unwrap();
        bed.run("apply", &["--allow-container"]).1.unwrap();
        bed.run("revert", &[]).1.unwrap();
        assert_eq!(bed.facts(), before, "{mark}");
    }
}
