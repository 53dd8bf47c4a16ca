//! The one writer of the ledger in this process: a thread that commits what waits together. A commit waits for the
//! disk, so the more callers wait, the more of them one commit serves.
//!
//! Whatever is acknowledged is in the file that the ledger's path leads to: that is looked at before anything is written,
//! and once more after the commit.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;
use tracing::error;

use crate::limits::{APPLY_QUEUE_MAX, APPLY_TRANSACTIONS_MAX, APPLY_WAIT};
use crate::store::{Appended, IdentityError, LedgerFile, NewTransaction, StoreError, Writer};
use crate::threads::spawn_vital;

/// What enters the ledger wholly or not at all, and who waits for it.
struct Request {
    transactions: Vec<NewTransaction>,
    /// Until when its caller waits for other writers.
    deadline: Instant,
    reply: oneshot::Sender<Outcome>,
}

/// Hands transactions to the writer's thread.
#[derive(Clone)]
pub struct LedgerWriter {
    queue: SyncSender<Request>,
}

/// The writer's thread: it ends once the last [`LedgerWriter`] is dropped.
pub struct WriterThread(JoinHandle<()>);

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// So many wait already that one more would only wait longer.
    #[error("{APPLY_QUEUE_MAX} requests wait for the ledger already: try again in a moment")]
    Busy,
    /// The writer's thread is gone.
    #[error("the ledger's writer has ended: the log says why; restart florin")]
    Ended,
    /// What is at the ledger's path is not, or may not be, the ledger that this node follows.
    #[error("nothing was appended: {0}")]
    Identity(IdentityError),
    /// The same, found only after the commit.
    #[error(
        "it is not known whether it was appended: {0}; send the same again, with the same ids, when the ledger is back"
    )]
    Uncertain(IdentityError),
    /// The ledger refused; one refusal may concern all that waited.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

type Outcome = Result<Vec<Appended>, AppendError>;

impl LedgerWriter {
    /// Starts the thread. The ledger is opened for writing with the first request, so that a node can serve a ledger that
    /// it may not write to.
    pub fn start(ledger: Arc<LedgerFile>) -> std::io::Result<(LedgerWriter, WriterThread)> {
        let (queue, requests) = sync_channel(APPLY_QUEUE_MAX);
        let thread = spawn_vital("florin-writer", move || run(ledger, &requests))?;
        Ok((LedgerWriter { queue }, WriterThread(thread)))
    }

    /// Appends all of them or none, and answers once they are durable.
    pub async fn append(&self, transactions: Vec<NewTransaction>) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + APPLY_WAIT;
        self.queue.try_send(Request { transactions, deadline, reply }).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Busy,
            TrySendError::Disconnected(_) => AppendError::Ended,
        })?;
        answer.await.map_err(|_| AppendError::Ended)?
    }
}

impl WriterThread {
    /// Waits until what was handed over is answered, the log is in the ledger's file, and the file is closed. The last
    /// [`LedgerWriter`] has to be dropped before.
    pub fn join(self) {
        // One that panics ends the process.
        let _ = self.0.join();
    }
}

fn run(ledger: Arc<LedgerFile>, requests: &Receiver<Request>) {
    let mut writer = None;
    let mut group = Vec::new();
    while let Ok(first) = requests.recv() {
        let mut transactions = first.transactions.len();
        group.push(first);
        while transactions < APPLY_TRANSACTIONS_MAX
            && let Ok(next) = requests.try_recv()
        {
            transactions += next.transactions.len();
            group.push(next);
        }
        // Whoever has gone away is not served at the expense of those who have not: it will ask again with the same ids.
        group.retain(|request| !request.reply.is_closed());
        if group.is_empty() {
            continue;
        }
        match append_group(&ledger, &mut writer, &group) {
            Ok(outcomes) => {
                for (Request { reply, .. }, outcome) in group.drain(..).zip(outcomes) {
                    let _ = reply.send(outcome);
                }
            }
            Err(failure) => {
                error!(error = %failure.again(), "the ledger cannot be written to");
                if matches!(failure, Failure::Identity(_) | Failure::Uncertain(_))
                    && let Some(writer) = writer.take()
                {
                    writer.abandon();
                }
                for Request { reply, .. } in group.drain(..) {
                    let _ = reply.send(Err(failure.again()));
                }
            }
        }
    }
    close(ledger, writer);
}

/// Why a whole group was not served.
enum Failure {
    Identity(IdentityError),
    Uncertain(IdentityError),
    Store(Arc<StoreError>),
}

impl Failure {
    fn again(&self) -> AppendError {
        match self {
            Failure::Identity(error) => AppendError::Identity(error.clone()),
            Failure::Uncertain(error) => AppendError::Uncertain(error.clone()),
            Failure::Store(error) => AppendError::Store(Arc::clone(error)),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(Arc::new(error))
    }
}

/// Commits the group at once; a request that the ledger refuses takes no other with it. All of them wait together for
/// another writer, and no longer than the first of them may: whoever waited behind them finds its own time over.
fn append_group(
    ledger: &LedgerFile,
    writer: &mut Option<Writer>,
    group: &[Request],
) -> Result<Vec<Outcome>, Failure> {
    ledger.check().map_err(Failure::Identity)?;
    let writer = match writer {
        Some(writer) => writer,
        None => writer.insert(Writer::open(ledger.path())?),
    };
    let deadline = group.iter().map(|request| request.deadline).min().expect("a group has a first");
    let mut batch = writer.begin_until(deadline)?;
    ledger.check().map_err(Failure::Identity)?;
    let mut outcomes = Vec::with_capacity(group.len());
    for Request { transactions, .. } in group {
        outcomes.push(batch.append_all(transactions)?.map_err(|(index, rejection)| {
            AppendError::Store(Arc::new(StoreError::Rejected { index, rejection }))
        }));
    }
    ledger.check().map_err(Failure::Identity)?;
    batch.commit()?;
    ledger.check().map_err(Failure::Uncertain)?;
    Ok(outcomes)
}

/// Brings the log into the file and closes as the last one, so that the file alone is the whole ledger. Where that cannot
/// be done (another program has it open, this one may not write) nothing is wrong: the log stays beside the file.
fn close(ledger: Arc<LedgerFile>, writer: Option<Writer>) {
    if ledger.check().is_err() {
        if let Some(writer) = writer {
            writer.abandon();
        }
        return;
    }
    let writer = writer.map_or_else(|| Writer::open(ledger.path()), Ok);
    if let Ok(writer) = &writer {
        writer.checkpoint();
    }
    // It holds a connection too, and the writer's must be the last.
    drop(ledger);
    drop(writer);
}
