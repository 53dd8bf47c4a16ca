//! The one writer of the ledger in this process: a thread that commits what waits together. A commit waits for the
//! disk, so the more callers wait, the more of them one commit serves. The ledger's [`Appender`] knows how it is written to.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use florin_record::{Appended, Appender, LedgerError, NewTransaction, Refused, Trouble};
use tokio::sync::oneshot;
use tracing::error;

use crate::limits::{APPLY_QUEUE_MAX, APPLY_TRANSACTIONS_MAX, APPLY_WAIT, SCARCITY_LOG_US};
use crate::threads::{Vital, spawn_vital};

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
    /// The ledger does not take one of the transactions.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The ledger failed; that concerns all that waited.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

type Outcome = Result<Vec<Appended>, AppendError>;

impl LedgerWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the system, where it gives none.
    pub fn start(ledger: Box<dyn Appender>) -> std::io::Result<(LedgerWriter, WriterThread)> {
        let (queue, requests) = sync_channel(APPLY_QUEUE_MAX);
        let thread = spawn_vital(Vital::Writer, move || run(ledger, &requests))?;
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
    /// Waits until what was handed over is answered, and the ledger is closed. The last
    /// [`LedgerWriter`] has to be dropped before.
    pub fn join(self) {
        // One that panics ends the process.
        let _ = self.0.join();
    }
}

fn run(mut ledger: Box<dyn Appender>, requests: &Receiver<Request>) {
    let mut group: Vec<Request> = Vec::new();
    let mut said = None;
    while let Ok(first) = requests.recv() {
        Vital::Writer.at_work();
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
        // All of them wait together for another writer, and no longer than the first of them may: whoever waited behind
        // them finds its own time over.
        let deadline = group.iter().map(|request| request.deadline).min().expect("a group has a first");
        let requests: Vec<&[NewTransaction]> =
            group.iter().map(|request| &request.transactions[..]).collect();
        match ledger.append(&requests, deadline) {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), group.len(), "a ledger answers each request");
                for (Request { reply, .. }, outcome) in group.drain(..).zip(outcomes) {
                    let _ = reply.send(outcome.map_err(AppendError::from));
                }
            }
            Err(error) => {
                // Callers repeat what fails, and each time would be a line.
                let every = Duration::from_micros(SCARCITY_LOG_US);
                let is_news = said.is_none_or(|said: Instant| said.elapsed() >= every);
                if is_news && error.trouble != Trouble::ReadOnly {
                    said = Some(Instant::now());
                    error!(%error, "the ledger cannot be written to; this is said every {every:?} at most");
                }
                for Request { reply, .. } in group.drain(..) {
                    let _ = reply.send(Err(error.clone().into()));
                }
            }
        }
    }
    ledger.close();
}
