//! The one writer of the ledger in this process: a thread that commits what waits together. A commit waits for the
//! disk, so the more callers wait, the more of them one commit serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;
use tracing::error;

use crate::limits::{APPLY_QUEUE_MAX, APPLY_TRANSACTIONS_MAX};
use crate::store::{Appended, NewTransaction, StoreError, Writer};
use crate::threads::spawn_vital;

/// What enters the ledger wholly or not at all, and who waits for it.
struct Request {
    transactions: Vec<NewTransaction>,
    reply: oneshot::Sender<Outcome>,
}

/// Hands transactions to the writer's thread; the thread ends when the last of these is dropped.
#[derive(Clone)]
pub struct LedgerWriter {
    queue: SyncSender<Request>,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// So many wait already that one more would only wait longer.
    #[error("{APPLY_QUEUE_MAX} requests wait for the ledger already: try again in a moment")]
    Busy,
    /// The writer's thread is gone.
    #[error("the ledger's writer has ended: the log says why; restart florin")]
    Ended,
    /// The ledger refused; one refusal may concern all that waited.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for AppendError {
    fn from(error: StoreError) -> AppendError {
        AppendError::Store(Arc::new(error))
    }
}

type Outcome = Result<Vec<Appended>, AppendError>;

impl LedgerWriter {
    /// Starts the thread. The ledger is opened with the first request, so that a node can serve a ledger that it may
    /// not write to.
    pub fn start(ledger: PathBuf) -> std::io::Result<LedgerWriter> {
        let (queue, requests) = sync_channel(APPLY_QUEUE_MAX);
        let run = move || run(&ledger, &requests);
        spawn_vital("florin-writer", run)?;
        Ok(LedgerWriter { queue })
    }

    /// Appends all of them or none, and answers once they are durable.
    pub async fn append(&self, transactions: Vec<NewTransaction>) -> Outcome {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Request { transactions, reply }).map_err(|error| match error {
            TrySendError::Full(_) => AppendError::Busy,
            TrySendError::Disconnected(_) => AppendError::Ended,
        })?;
        answer.await.map_err(|_| AppendError::Ended)?
    }
}

fn run(ledger: &Path, requests: &Receiver<Request>) {
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
        let opened = match writer.take() {
            Some(writer) => Ok(writer),
            None => Writer::open(ledger),
        };
        match opened {
            Ok(opened) => append_group(writer.insert(opened), &mut group),
            Err(error) => {
                error!(%error, "the ledger cannot be written to");
                let why = Arc::new(error);
                for Request { reply, .. } in group.drain(..) {
                    answer(reply, Err(AppendError::Store(Arc::clone(&why))));
                }
            }
        }
    }
}

/// Commits the group at once. One that the ledger refuses must not take the others with it, and must not leave half of
/// itself behind: then each is committed by itself.
fn append_group(writer: &mut Writer, group: &mut Vec<Request>) {
    if let Ok(answers) = append_together(writer, group) {
        for (Request { reply, .. }, appended) in group.drain(..).zip(answers) {
            answer(reply, Ok(appended));
        }
    } else {
        for Request { transactions, reply } in group.drain(..) {
            answer(reply, writer.append(&transactions).map_err(AppendError::from));
        }
    }
}

fn append_together(writer: &mut Writer, group: &[Request]) -> Result<Vec<Vec<Appended>>, StoreError> {
    let mut batch = writer.begin()?;
    let mut answers = Vec::with_capacity(group.len());
    for request in group {
        let mut appended = Vec::with_capacity(request.transactions.len());
        for (index, transaction) in request.transactions.iter().enumerate() {
            let outcome = batch.append(transaction)?;
            appended.push(outcome.map_err(|rejection| StoreError::Rejected { index, rejection })?);
        }
        answers.push(appended);
    }
    batch.commit()?;
    Ok(answers)
}

/// A caller that has gone away has been served all the same: it will ask again with the same ids.
fn answer(reply: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _ = reply.send(outcome);
}
