//! `florin tune prove` with a load generator that answers to one file of the host, as a real one would: it is faster
//! with the file set than without, or it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use florin_tune::TuneError;
use florin_tune::host::Facts;

use crate::golden::Tree;
use crate::machines;

struct Bed {
    tree: Tree,
    other: tempfile::TempDir,
}

impl Bed {
    /// Where `rate` is a shell word of what the file holds, in `$held`.
    fn new(rate: &str) -> Bed {
        let bed = Bed { tree: Tree::of(&machines::vm()), other: tempfile::tempdir().unwrap() };
        let file = bed.tree.path().join("proc/sys/net/ipv4/tcp_slow_start_after_idle");
        let script = format!(
            "#!/bin/sh\nset -eu\nheld=$(cat '{}')\necho \"$held $*\" >>'{}'\nrate={rate}\nfor out in \"$@\"; do :; done\n\
             echo '{{\"trials\":[{{\"rate\":'$rate',\"latency\":{{\"p99_ns\":90000}}}}]}}' >\"$out/report.json\"\n",
            file.display(),
            bed.calls().display()
        );
        fs::write(bed.bench(), script).unwrap();
        fs::set_permissions(bed.bench(), fs::Permissions::from_mode(0o755)).unwrap();
        bed
    }

    fn bench(&self) -> PathBuf {
        self.other.path().join("bench")
    }

    fn calls(&self) -> PathBuf {
        self.other.path().join("calls")
    }

    fn journal(&self) -> PathBuf {
        self.other.path().join("journal")
    }

    fn prove(&self, words: &[&str]) -> (String, Result<(), TuneError>) {
        let (bench, journal) = (self.bench(), self.journal());
        let own = ["prove", "--bench", bench.to_str().unwrap(), "--journal", journal.to_str().unwrap()];
        let words: Vec<&str> = own.iter().chain(words).copied().collect();
        self.tree.tune(&words)
    }
}

#[test]
fn a_knob_that_helps_is_kept_and_the_host_is_as_it_was() {
    let bed = Bed::new("$((2000 - held * 500))");
    let before = Facts::gather(bed.tree.path()).unwrap();
    let (text, outcome) = bed.prove(&["tcp", "--rounds", "3", "--", "--load", "8x1"]);
    outcome.unwrap();
    assert!(text.contains("tcp: keep: throughput +33.3 %, p99 +0.0 %"), "{text}");
    assert_eq!(Facts::gather(bed.tree.path()).unwrap(), before);
    assert!(!bed.journal().exists());
    let calls = fs::read_to_string(bed.calls()).unwrap();
    let held: Vec<&str> = calls.lines().map(|line| &line[..1]).collect();
    assert_eq!(held, ["1", "0", "0", "1", "1", "0"], "the sides are interleaved: {calls}");
    assert!(calls.lines().all(|line| line.contains(" run --load 8x1 --out ")), "{calls}");
}

#[test]
fn a_knob_that_does_nothing_is_reverted() {
    let bed = Bed::new("1000");
    let (text, outcome) = bed.prove(&["tcp", "--rounds", "3"]);
    outcome.unwrap();
    assert!(text.contains("tcp: revert: throughput +0.0 %"), "{text}");
}

#[test]
fn a_bench_that_fails_leaves_the_host_as_it_was() {
    let bed = Bed::new("$([ $held = 1 ] && echo 5)");
    let before = Facts::gather(bed.tree.path()).unwrap();
    let (_, outcome) = bed.prove(&["tcp"]);
    assert!(outcome.unwrap_err().to_string().contains("florin-bench has failed"));
    assert_eq!(Facts::gather(bed.tree.path()).unwrap(), before);
    assert!(!bed.journal().exists());
}

#[test]
fn what_cannot_be_turned_now_is_not_measured() {
    let bed = Bed::new("1000");
    let (_, outcome) = bed.prove(&["isolation"]);
    assert!(outcome.unwrap_err().to_string().contains("takes a reboot"));
    let (_, outcome) = bed.prove(&["huge-pages"]);
    assert!(outcome.unwrap_err().to_string().contains("changes nothing on this host"));
    fs::write(bed.journal(), "{\"boot\":\"x\"}\n").unwrap();
    let (_, outcome) = bed.prove(&["tcp"]);
    assert!(outcome.unwrap_err().to_string().contains("florin tune revert --journal"));
    assert!(!bed.calls().exists());
}
