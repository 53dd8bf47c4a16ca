//! The thread that speaks with the server: one load at a time, and pages of accounts beside it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use florin_core::clock::Now;
use florin_record::threads::{EndsProcess, Vital};
use postgres_protocol::escape::escape_literal;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::asker::{Asker, Late};
use crate::facts;
use crate::failure::Failure;
use crate::instance::Followed;
use crate::journal::Comparison;
use crate::limits::{
    COUNTED_WITHIN, DROP_PAUSE, DROP_TIMEOUT, PAUSE_MAX, PAUSE_MIN, RESUME_PAUSE, RESUME_TIMEOUT,
};
use crate::look::Look;
use crate::outbox::{Batch, Event, Outbox};
use crate::reread::{Asked, Rereader};
use crate::session::{Before, Session};
use crate::snapshot::Loading;
use crate::status::PgStatus;
use crate::stream::Stream;
use crate::target::{Purpose, Target};

/// What the follower's thread orders.
pub enum Order {
    /// To follow from here on, instead of whatever was followed before.
    Load(Box<Load>),
    /// A page of an account.
    Reread(Asked),
    /// To say whether it can be gone on from here.
    Resume(Box<Before>, SyncSender<Result<(), Failure>>),
    /// To follow nothing.
    Rest,
    /// To follow nothing, and to give the slot back.
    DropSlot,
}

/// See [`Order::Load`].
pub struct Load {
    /// What is known.
    pub before: Before,
    /// What was delivered last.
    pub comparison: Comparison,
    /// Whether there is something already on top of which a snapshot is loaded.
    pub is_on_top: bool,
    /// Times, for the asker.
    pub asked: mpsc::Receiver<Now>,
    /// Up to where every shard has applied what came.
    pub applied: Arc<AtomicU64>,
    /// How the table looks, for positions.
    pub look: Arc<AtomicU64>,
    /// Where to deliver.
    pub outbox: Outbox,
}

/// The thread.
pub struct Following {
    /// Where the ledger is.
    pub target: Target,
    /// What is told of it.
    pub status: Arc<PgStatus>,
    /// At which server.
    pub followed: Followed,
    /// How the table looked last.
    known: Arc<std::sync::Mutex<Option<Look>>>,
}

impl Following {
    /// Of nothing yet.
    pub fn new(target: Target, status: Arc<PgStatus>, followed: Followed) -> Following {
        Following { target, status, followed, known: Arc::default() }
    }

    /// The thread's life: until nobody orders anything any more.
    pub fn run(self, runtime: &Runtime, mut orders: mpsc::UnboundedReceiver<Order>) {
        runtime.block_on(async move {
            // Here, so that its panic is not taken for that of a task, all of which end with the runtime.
            let _end = EndsProcess::of(Vital::Postgres);
            let this = Arc::new(self);
            let rereader = Rereader::new(this.target.clone(), this.followed.clone());
            let mut current: Option<JoinHandle<bool>> = None;
            let mut pause = Duration::ZERO;
            while let Some(order) = orders.recv().await {
                Vital::Postgres.at_work();
                match order {
                    Order::Load(load) => {
                        // One that had reached the stream was no vain attempt.
                        let was_vain = end(current.take()).await != Some(true);
                        pause =
                            if was_vain { (2 * pause).clamp(PAUSE_MIN, PAUSE_MAX) } else { Duration::ZERO };
                        let (this, pause) = (Arc::clone(&this), pause);
                        let end = EndsProcess::of(Vital::PostgresStream);
                        current = Some(tokio::spawn(async move {
                            let _end = end;
                            this.follow(*load, pause).await
                        }));
                    }
                    Order::Reread(asked) => rereader.ask(asked),
                    Order::Resume(before, answer) => {
                        // Where nobody waits for it any more, it takes no part in anything.
                        let _ = answer.send(this.can_resume(&before).await);
                    }
                    Order::Rest => {
                        end(current.take()).await;
                    }
                    Order::DropSlot => {
                        end(current.take()).await;
                        this.drop_slot().await;
                    }
                }
            }
        });
    }

    /// Gives the slot back, as soon as the server has noticed that its connection is closed.
    async fn drop_slot(&self) {
        let name = &self.target.address.slot;
        let sql = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {} AND NOT active",
            escape_literal(name)
        );
        let until = Instant::now() + DROP_TIMEOUT;
        let dropped = async {
            let mut wire = self.target.connect(Purpose::Questions).await?;
            while facts::slot(&mut wire, name).await?.is_some() {
                if Instant::now() > until {
                    return Err(Failure::Unavailable("it is in use".to_owned()));
                }
                wire.query(&sql).await?;
                sleep(DROP_PAUSE).await;
            }
            Ok(())
        };
        match dropped.await {
            Ok(()) => tracing::warn!("dropped the replication slot {name}: nothing of it is read any more"),
            Err(failure) => tracing::error!(
                "cannot drop the replication slot {name}, for which the server keeps its log: {failure}; drop it by hand, or restart \
                 florin"
            ),
        }
    }

    /// Whether it can be gone on with. What passes by itself is waited for: the server may still hold the connection of a process that
    /// was killed, or be about to start.
    async fn can_resume(&self, before: &Before) -> Result<(), Failure> {
        let until = Instant::now() + RESUME_TIMEOUT;
        loop {
            match Session::open(&self.target, before).await.map(drop) {
                Err(Failure::Unavailable(reason)) if Instant::now() < until => {
                    tracing::warn!("whether a checkpoint can be gone on from is asked again: {reason}");
                    sleep(RESUME_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Follows until it fails, and tells why. Whether it had come to the stream.
    async fn follow(&self, mut load: Load, pause: Duration) -> bool {
        sleep(pause).await;
        Vital::PostgresStream.at_work();
        let mut has_begun = false;
        let failure = match self.try_follow(&mut load, &mut has_begun).await {
            Ok(never) => never,
            Err(failure) => failure,
        };
        // Where nobody takes it, another load has begun.
        let _ = load.outbox.send(Event::Failed(failure)).await;
        has_begun
    }

    async fn try_follow(&self, load: &mut Load, has_begun: &mut bool) -> Result<Failure, Failure> {
        let target = &self.target;
        load.before.look = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        load.before.timeline = self.followed.get().timeline;
        let mut session = Session::open(target, &load.before).await?;
        load.look.store(session.start.look, Relaxed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.look.clone());
        self.followed.set(session.instance);
        if let Some(snapshot) = &session.snapshot {
            self.status.note_load(load.is_on_top);
            tracing::info!("loading the snapshot at {} of {}", session.start.lsn, session.identity);
            let loading = Loading {
                target,
                snapshot: &snapshot.name,
                table: &session.table,
                reader: session.shape.reader(),
            };
            loading.run(&load.outbox, &mut load.comparison).await?;
            let compared = std::mem::take(&mut load.comparison).end();
            load.outbox.send(Event::Compared(compared)).await?;
            let reached = Batch { reached: Some(session.start), whole: Some(0), ..Batch::default() };
            load.outbox.send(reached.into()).await?;
        }
        session.start(target).await?;
        let late = load.before.changes.filter(|_| load.before.position.is_none());
        let late = late.map(|before| Late {
            before: before.min(session.look.changes),
            until: Instant::now() + COUNTED_WITHIN,
        });
        tracing::info!("following {} from {}", session.identity, session.start.lsn);
        self.status.note_connection();
        *has_begun = true;
        load.outbox.send(Event::Following).await?;
        let Session { stream, questions, start, table, .. } = session;
        let questions = Arc::new(Mutex::new(questions));
        let mut stream = Stream::new(
            stream,
            Arc::clone(&questions),
            target.mapping.clone(),
            start,
            Arc::clone(&load.applied),
        );
        let asker = Asker {
            questions,
            table,
            publication: target.address.publication.clone(),
            mapping: target.mapping.clone(),
            known: Arc::clone(&self.known),
            digest: Arc::clone(&load.look),
            changed: Arc::clone(&stream.changes),
            late,
            looked: Arc::clone(&stream.looked),
            slot: target.address.slot.clone(),
            status: Arc::clone(&self.status),
        };
        tokio::select! {
            failure = stream.run(&load.outbox) => Err(failure),
            failure = asker.run(&mut load.asked, &load.outbox) => Err(failure),
        }
    }
}

/// Ends what was followed; its connections are closed once this returns.
async fn end(current: Option<JoinHandle<bool>>) -> Option<bool> {
    let current = current?;
    current.abort();
    match current.await {
        Ok(has_begun) => Some(has_begun),
        // It was given up while it went well. (One that panics ends the process.)
        Err(_) => Some(true),
    }
}
