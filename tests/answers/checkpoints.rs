//! A node that starts from a checkpoint answers what a recomputation from the ledger's rows gives, whenever the checkpoint was
//! made, with whatever number of shards, and whatever has come since; and from one that is not wholly right it does not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use florin::checkpoints::{CheckpointConfig, Made, load, store};
use florin::drivers::DriverChoice;
use florin::node::{Node, NodeConfig};
use florin::sources::LedgerAddress;
use florin_schema::Encoding;
use florin_sqlite::Writer;

use super::callers::NativeCaller;
use super::recomputed::{self, Ledger};
use super::{NOW_US, generated};

pub fn start(ledger: impl Into<LedgerAddress>, folder: &Path, shards: u16) -> Node {
    let checkpoints =
        Some(CheckpointConfig { folder: folder.to_owned(), every: None, every_rows: None, at_end: false });
    let config = NodeConfig {
        shards: Some(shards),
        shards_per_cpu: 4,
        driver: DriverChoice::Auto,
        fixed_wall_us: Some(NOW_US),
        checkpoints,
        ..NodeConfig::local(ledger)
    };
    let node = Node::start(config).expect("a node");
    wait_until_ready(&node);
    node
}

fn wait_until_ready(node: &Node) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !node.obstacles().is_empty() {
        assert!(Instant::now() < deadline, "it is ready within a minute: {:?}", node.obstacles());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

pub fn end(node: Node) {
    node.drain();
    node.join().expect("a clean end");
}

pub fn make(node: &Node) -> Made {
    // A ledger that was away is followed again a moment after its rows are there; no checkpoint is made until then.
    wait_until_ready(node);
    let (told, heard) = mpsc::channel();
    node.checkpoints()
        .expect("it makes checkpoints")
        .make(move |made| told.send(made).expect("a test waits"));
    heard.recv_timeout(Duration::from_secs(60)).expect("an answer").expect("a checkpoint")
}

/// How many accounts came from a checkpoint, and why one was not loaded.
pub fn origin(node: &Node) -> (u64, Option<String>) {
    let status = node.checkpoints().expect("it makes checkpoints").status().clone();
    (status.restored(), status.refused())
}

fn assert_exact(node: &Node, ledger: &Path) {
    assert_holds(node, &Ledger::read(ledger));
}

pub fn assert_holds(node: &Node, ledger: &Ledger) {
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    for (&user, rows) in &ledger.accounts {
        let expected = recomputed::account(user, rows, NOW_US);
        assert_eq!(native.account(user, Encoding::Rkyv).account, expected);
    }
}

/// Waits until the node has applied what the ledger holds.
fn catch_up(node: &Node, ledger: &Path) {
    let ledger = Ledger::read(ledger);
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    for (&user, rows) in &ledger.accounts {
        native.balance_at_least(user, rows.len() as u64);
    }
}

fn append(path: &Path, users: &[u64], from: u64, count: u64) {
    let mut writer = Writer::open(path).expect("a writer");
    for n in from..from + count {
        // Some users are new.
        let user = if n % 5 == 0 { 900_000_000 + n } else { users[(n * 7) as usize % users.len()] };
        writer.append(&[recomputed::recharge(user, n, NOW_US)]).expect("an append");
    }
}

#[test]
fn a_restart_from_a_checkpoint_answers_what_a_recomputation_gives() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
    let mut shards = [1, 3, 2, 1, 4].into_iter();
    let mut node = start(path.clone(), &folder, shards.next().expect("a number"));
    assert_eq!(origin(&node), (0, None));
    let mut from = 0;
    for shards in shards {
        // Rows come while the checkpoint is made, after it, and while no node runs.
        let is_over = AtomicBool::new(false);
        let (made, next) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut next = from;
                while !is_over.load(Relaxed) {
                    append(&path, &users, next, 20);
                    next += 20;
                }
                next
            });
            let made = make(&node);
            is_over.store(true, Relaxed);
            (made, writer.join().expect("a writer"))
        });
        from = next;
        append(&path, &users, from, 100);
        end(node);
        append(&path, &users, from + 100, 100);
        from += 200;
        node = start(path.clone(), &folder, shards);
        let (restored, refused) = origin(&node);
        assert_eq!((restored, refused), (made.accounts, None), "{shards} shards");
        assert!(
            restored >= users.len() as u64 && node.feed().status().rows() < 20_000,
            "from the checkpoint"
        );
        assert_exact(&node, &path);
        append(&path, &users, from, 50);
        from += 50;
        catch_up(&node, &path);
        assert_exact(&node, &path);
    }
    assert_eq!(store::checkpoints(&folder).expect("a folder").len(), 2, "the newest two are kept");
    end(node);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// A checkpoint of two shards, and the ledger that it is of.
fn checkpoint(directory: &Path) -> (PathBuf, PathBuf) {
    let (path, folder) = (generated(directory), directory.join("made"));
    let node = start(path.clone(), &folder, 2);
    let made = make(&node);
    end(node);
    (path, made.path)
}

#[test]
fn a_flipped_bit_of_any_block_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, made) = checkpoint(directory.path());
    let manifest = load::read(&made, |_| {}).expect("it is whole");
    let mut flipped = 0;
    for (index, section) in manifest.sections.iter().enumerate() {
        let place = made.join(format!("section-{index}"));
        let mut bytes = fs::read(&place).expect("a file");
        let mut at = 0;
        for block in &section.blocks {
            // The first byte, the last, and one between.
            for within in [0, block.bytes as usize / 2, block.bytes as usize - 1] {
                bytes[at + within] ^= 1 << (flipped % 8);
                fs::write(&place, &bytes).expect("a write");
                let found = load::read(&made, |_| {}).expect_err("a flipped bit").to_string();
                assert!(found.contains(&format!("the block at byte {at} ")), "{found}");
                bytes[at + within] ^= 1 << (flipped % 8);
                flipped += 1;
            }
            at += block.bytes as usize;
        }
        fs::write(&place, &bytes).expect("a write");
    }
    assert!(flipped > 100, "{flipped} bits");
    load::read(&made, |_| {}).expect("it is whole again");
}

#[test]
fn what_is_cut_or_flipped_anywhere_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, made) = checkpoint(directory.path());
    let mut accounts = 0;
    load::read(&made, |_| accounts += 1).expect("it is whole");
    assert!(accounts >= 500, "{accounts}");
    for file in ["manifest", "section-0", "section-1"] {
        let place = made.join(file);
        let whole = fs::read(&place).expect("a file");
        assert!(!whole.is_empty());
        let is_found = || load::read(&made, |_| {}).is_err();
        for step in 0..60 {
            let at = step * (whole.len() - 1) / 59;
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (step % 8);
            fs::write(&place, &flipped).expect("a write");
            assert!(is_found(), "{file}: a bit of byte {at}");
            fs::write(&place, &whole[..at]).expect("a write");
            assert!(is_found(), "{file}: cut at {at}");
        }
        fs::write(&place, [&whole[..], b"x"].concat()).expect("a write");
        assert!(is_found(), "{file}: longer");
        fs::remove_file(&place).expect("a removal");
        assert!(is_found(), "{file}: gone");
        fs::write(&place, &whole).expect("a write");
    }
    load::read(&made, |_| {}).expect("it is whole again");
}

/// Once the shards were told to forget what a refused checkpoint had brought, and did so when the ledger's first rows had come.
#[test]
fn a_checkpoint_that_is_not_wholly_right_is_not_loaded_and_the_reason_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, made) = checkpoint(directory.path());
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
    let flip = |file: &'static str, at: usize| {
        move |folder: &Path| {
            let mut bytes = fs::read(folder.join(file)).expect("a file");
            bytes[at] ^= 4;
            fs::write(folder.join(file), bytes).expect("a write");
        }
    };
    let cut = |file: &'static str, bytes: u64| {
        move |folder: &Path| {
            let file = fs::File::options().write(true).open(folder.join(file)).expect("a file");
            file.set_len(bytes).expect("a cut");
        }
    };
    // What a disk can no longer read fails the same way: a folder cannot be read at all.
    let unreadable = |file: &'static str| {
        move |folder: &Path| {
            fs::remove_file(folder.join(file)).expect("a removal");
            fs::create_dir(folder.join(file)).expect("a folder");
        }
    };
    type Damage = Box<dyn Fn(&Path)>;
    let damages: [(&str, Damage); 10] = [
        ("damaged", Box::new(flip("section-1", 70_000))),
        ("damaged", Box::new(flip("manifest", 40))),
        ("format 6", Box::new(flip("manifest", 8))),
        ("cannot read", Box::new(|folder| fs::remove_file(folder.join("section-0")).expect("a removal"))),
        ("cannot read", Box::new(|folder| fs::remove_file(folder.join("manifest")).expect("a removal"))),
        ("cannot read", Box::new(unreadable("manifest"))),
        ("section-1 has", Box::new(unreadable("section-1"))),
        ("section-0 has 70000 bytes", Box::new(cut("section-0", 70_000))),
        ("manifest", Box::new(cut("manifest", 60))),
        ("manifest", Box::new(cut("manifest", 0))),
    ];
    for (index, (reason, damage)) in damages.iter().enumerate() {
        let folder = directory.path().join(format!("damaged-{index}"));
        copy(&made, &folder.join("checkpoint-2"));
        damage(&folder.join("checkpoint-2"));
        // With nothing else there: from the ledger.
        let node = start(path.clone(), &folder, 3);
        let (restored, refused) = origin(&node);
        assert!(
            restored == 0 && refused.as_ref().is_some_and(|refused| refused.contains(reason)),
            "{refused:?}"
        );
        assert_exact(&node, &path);
        end(node);
        fs::remove_dir_all(&folder).expect("a removal");
        // With an older one there: from that.
        copy(&made, &folder.join("checkpoint-1"));
        copy(&made, &folder.join("checkpoint-2"));
        damage(&folder.join("checkpoint-2"));
        let node = start(path.clone(), &folder, 2);
        let (restored, refused) = origin(&node);
        assert!(restored >= 500 && refused.is_some_and(|refused| refused.contains(reason)));
        assert_exact(&node, &path);
        end(node);
    }

    // Another ledger's.
    let folder = directory.path().join("foreign");
    copy(&made, &folder.join("checkpoint-1"));
    let other = directory.path().join("other");
    fs::create_dir(&other).expect("a folder");
    let mut writer = Writer::open_or_create(&other.join("ledger.db")).expect("a ledger");
    writer.append(&[recomputed::recharge(users[0], 7, NOW_US)]).expect("an append");
    drop(writer);
    let node = start(other.join("ledger.db"), &folder, 2);
    assert!(origin(&node).1.is_some_and(|refused| refused.contains("another ledger")));
    assert_exact(&node, &other.join("ledger.db"));
    end(node);
}

/// A backup was put back under a checkpoint: its accounts hold rows that the ledger has not.
#[test]
fn a_checkpoint_of_a_ledger_that_was_restored_since_is_not_loaded() {
    for rows_since in [0, 90] {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
        let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
        let backup = directory.path().join("backup.db");
        fs::copy(&path, &backup).expect("a copy");
        append(&path, &users, 5_000, 50);
        let node = start(path.clone(), &folder, 2);
        make(&node);
        end(node);
        for sidecar in ["ledger.db-wal", "ledger.db-shm"] {
            // There may be none.
            let _ = fs::remove_file(directory.path().join(sidecar));
        }
        fs::copy(&backup, &path).expect("a copy");
        append(&path, &users, 7_000, rows_since);
        let node = start(path.clone(), &folder, 2);
        let (restored, refused) = origin(&node);
        assert!(
            restored == 0 && refused.as_ref().is_some_and(|reason| reason.contains("restored")),
            "{refused:?}"
        );
        assert_exact(&node, &path);
        end(node);
    }
}

/// A disk that refuses costs a checkpoint, and nothing else.
#[test]
fn what_cannot_be_written_is_said_and_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let node = start(path.clone(), &folder, 2);
    make(&node);
    let (told, heard) = mpsc::channel();
    fs::rename(&folder, directory.path().join("elsewhere")).expect("a rename");
    node.checkpoints()
        .expect("it makes checkpoints")
        .make(move |made| told.send(made).expect("a test waits"));
    let refused =
        heard.recv_timeout(Duration::from_secs(60)).expect("an answer").expect_err("nowhere to write");
    assert!(refused.contains("cannot write to"), "{refused}");
    assert_exact(&node, &path);
    fs::rename(directory.path().join("elsewhere"), &folder).expect("a rename");
    load::read(&make(&node).path, |_| {}).expect("it is whole");
    end(node);
}

#[test]
fn a_folder_has_one_node() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let node = start(path.clone(), &folder, 1);
    let config = CheckpointConfig { folder, every: None, every_rows: None, at_end: false };
    let second = NodeConfig { shards: Some(1), checkpoints: Some(config), ..NodeConfig::local(path.clone()) };
    let refusal = Node::start(second).map(drop).expect_err("one node a folder");
    assert_eq!(refusal.exit_code(), 22, "{refusal}");
    end(node);
}
