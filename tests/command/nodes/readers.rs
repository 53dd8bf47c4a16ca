//! Callers who go on reading while nodes come and go: a read that fails, or shows an older version than was shown, ends them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use florin_client::{Client, Status, UserId, Version};

use super::USERS;
use crate::support::{built_go, wait_for};

/// A busy host's: who waits for longer has been failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whoever reads all users again and again, one by one and as a batch.
pub struct Reader {
    is_over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    /// It ends with a panic where a read has failed.
    thread: Option<JoinHandle<()>>,
    /// A process that ends with this, if it is one.
    child: Option<Child>,
}

impl Reader {
    /// By the Rust client.
    pub fn in_rust(node: SocketAddr) -> Reader {
        Reader::begun(None, move |over, reads| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::builder().deadline(DEADLINE).connect(node).await.unwrap();
                let mut shown = Shown::default();
                while !over.load(SeqCst) {
                    shown.round(&client, reads).await;
                }
            });
        })
    }

    /// By the Go client, in a process of its own that is built in `folder`.
    pub fn in_go(folder: &Path, node: SocketAddr) -> Reader {
        let program = folder.join("reader");
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
        built_go(&module, "./internal/reader", &program);
        let mut command = Command::new(program);
        command.args(["--target", &format!("florin://{node}")]);
        command.args(["--first", &USERS.start.to_string(), "--last", &(USERS.end - 1).to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was just built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Reader::begun(Some(child), move |over, reads| {
            for line in lines.map_while(Result::ok) {
                reads.store(line.parse().expect("how many balances it has read"), SeqCst);
            }
            assert!(over.load(SeqCst), "it has said why");
        })
    }

    fn begun(child: Option<Child>, read: impl FnOnce(&AtomicBool, &AtomicUsize) + Send + 'static) -> Reader {
        let (is_over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&reads));
        let thread = Some(std::thread::spawn(move || read(&over, &count)));
        Reader { is_over, reads, thread, child }
    }

    /// Everybody has been read twice since.
    pub fn goes_on(&self) {
        let before = self.reads.load(SeqCst);
        wait_for("reads go on", || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "a read has failed");
            // Twice one by one and twice as a batch, and what was under way.
            (self.reads.load(SeqCst) > before + 5 * USERS.count()).then_some(())
        });
    }

    pub fn ends(mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
            assert!(child.wait().expect("our own child").success(), "it has said why");
        }
        self.thread.take().expect("it ends once").join().expect("no read has failed");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last version of each user that was shown.
#[derive(Default)]
struct Shown(BTreeMap<UserId, Version>);

impl Shown {
    async fn round(&mut self, client: &Client, reads: &AtomicUsize) {
        let users: Vec<UserId> = USERS.map(|id| UserId::new(id).unwrap()).collect();
        for &user in &users {
            let balance = client.get_balance(user).await.unwrap_or_else(|error| panic!("{user}: {error}"));
            self.note(user, balance.version());
            reads.fetch_add(1, SeqCst);
        }
        let batch = client.get_balances(&users).await.unwrap_or_else(|error| panic!("a batch: {error}"));
        assert_eq!(batch.iter().len(), users.len());
        for (entry, &user) in batch.iter().zip(&users) {
            assert_eq!((entry.user_id, entry.status), (user, Status::Ok), "of a batch");
            let version = entry.balance.expect("whoever is OK has one").version.to_native();
            self.note(user, Version(version));
            reads.fetch_add(1, SeqCst);
        }
    }

    fn note(&mut self, user: UserId, version: Version) {
        let before = self.0.insert(user, version);
        assert!(before <= Some(version), "{user} went back");
    }
}
