//! Threads and tasks that a node cannot do without: one that panics ends the process, after its message. A node whose feed or
//! writer is gone must not go on as if it were there.

use std::fmt;
use std::io;
use std::process;
use std::thread::{self, JoinHandle};

/// Each of them. Nothing else can be given to what ends the process, and a test of the built command dies every one of these
/// deaths: it does not compile before it knows how to bring a new one about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// The process's first thread, on which the control plane runs.
    Control,
    /// A shard's thread, by its index.
    Shard(usize),
    /// The thread that follows the ledger.
    Feed,
    /// A thread that loads a ledger in a file.
    Loader,
    /// The thread that reads accounts of such a ledger again, or of a Kafka topic.
    Reread,
    /// The ledger's writer.
    Writer,
    /// The thread that makes checkpoints.
    Checkpoint,
    /// The thread that compares what is answered with the ledger.
    Audit,
    /// The thread that speaks with PostgreSQL.
    Postgres,
    /// The task on it that follows.
    PostgresStream,
    /// The task on it that reads accounts again.
    PostgresReread,
    /// The thread that reads a Kafka topic.
    Kafka,
    /// The thread that is a member of the group of nodes that divide the users.
    Group,
    /// The thread that keeps their map, and its tasks.
    Nodes,
    /// A thread that shakes hands by TLS, by its number, and its tasks.
    Handshakes(usize),
    /// The admin port's task.
    Admin,
    /// The thread that writes the audit log.
    AuditLog,
    /// The task that watches the shards' CPUs.
    Neighbours,
    /// The task that reloads.
    Reload,
    /// The task that reports readiness.
    Readiness,
    /// The task that tells systemd.
    Systemd,
}

/// As the log names it; threads bear the same name in the kernel.
impl fmt::Display for Vital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vital::Control => "the control plane's thread",
            Vital::Shard(index) => return write!(f, "florin-shard-{index}"),
            Vital::Feed => "florin-feed",
            Vital::Loader => "florin-loader",
            Vital::Reread => "florin-reread",
            Vital::Writer => "florin-writer",
            Vital::Checkpoint => "florin-checkpoint",
            Vital::Audit => "florin-audit",
            Vital::Postgres => "florin-postgres",
            Vital::PostgresStream => "the task that follows PostgreSQL",
            Vital::PostgresReread => "the task that reads accounts again",
            Vital::Kafka => "florin-kafka",
            Vital::Group => "florin-group",
            Vital::Nodes => "florin-nodes",
            Vital::Handshakes(number) => return write!(f, "florin-tls-{number}"),
            Vital::Admin => "the admin port's task",
            Vital::AuditLog => "florin-audit",
            Vital::Neighbours => "the task that watches the shards' CPUs",
            Vital::Reload => "the task that reloads",
            Vital::Readiness => "the task that reports readiness",
            Vital::Systemd => "the task that tells systemd",
        })
    }
}

impl Vital {
    /// All of them, with a shard for all shards.
    pub const ALL: [Vital; 21] = [
        Vital::Control,
        Vital::Shard(1),
        Vital::Feed,
        Vital::Loader,
        Vital::Reread,
        Vital::Writer,
        Vital::Checkpoint,
        Vital::Audit,
        Vital::Postgres,
        Vital::PostgresStream,
        Vital::PostgresReread,
        Vital::Kafka,
        Vital::Group,
        Vital::Nodes,
        Vital::Handshakes(0),
        Vital::Admin,
        Vital::AuditLog,
        Vital::Neighbours,
        Vital::Reload,
        Vital::Readiness,
        Vital::Systemd,
    ];

    /// Called where it is at its work: a build with debug assertions panics here, where the environment variable
    /// `FLORIN_TEST_PANIC` names it.
    ///
    /// # Panics
    /// If that was ordered.
    #[inline(always)]
    pub fn at_work(self) {
        #[cfg(debug_assertions)]
        fault::panic_if_ordered(self);
    }
}

/// Starts a thread whose panic ends the process.
///
/// # Errors
/// The system's, where it gives no thread (EAGAIN: `ulimit -u`, `TasksMax=`, memory).
pub fn spawn_vital<T: Send + 'static>(
    vital: Vital,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let end = EndsProcess::of(vital);
    thread::Builder::new().name(vital.to_string()).spawn(move || {
        let _end = end;
        run()
    })
}

/// Held by a thread or a task as long as it runs: a panic while it is held ends the process.
#[derive(Debug)]
pub struct EndsProcess {
    vital: Vital,
}

impl EndsProcess {
    /// For what bears this name in the log.
    pub fn of(vital: Vital) -> EndsProcess {
        EndsProcess { vital }
    }

    /// See [`Vital::at_work`].
    #[inline(always)]
    pub fn at_work(&self) {
        self.vital.at_work();
    }
}

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(
                "{} has panicked, and the node cannot do without it; the process ends",
                self.vital
            );
            process::abort();
        }
    }
}

/// A fault for tests, in no build that is released.
#[cfg(debug_assertions)]
mod fault {
    use std::sync::OnceLock;

    use super::Vital;

    /// Read once, so that who is at work makes no system call.
    static ORDERED: OnceLock<Option<String>> = OnceLock::new();

    pub fn panic_if_ordered(vital: Vital) {
        if let Some(name) = ORDERED.get_or_init(|| std::env::var("FLORIN_TEST_PANIC").ok())
            && *name == vital.to_string()
        {
            panic!("a test ordered {vital} to panic");
        }
    }
}
