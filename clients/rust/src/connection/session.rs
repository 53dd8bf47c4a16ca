//! One socket's life: its callers' table, its writer, its reader.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use florin_schema::frame::REPLY_DRAINING;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::task::{AbortHandle, JoinHandle, yield_now};
use tokio::time::timeout_at;

use super::dial::{Dialled, Reading, Writing, write_out};
use super::read::{RawReply, ReadBuffer};
use super::silence::{Silence, Verdict};
use super::table::{Table, Waiter};
use super::{ShardMap, Shared};
use crate::counters::add;
use crate::limits::{OUTPUT_BYTES_KEPT, PROGRESS_BYTES, QUEUED_BYTES_MAX, SECOND_LOOK};
use crate::request::Request;
use crate::{Disconnect, Error, ProtocolError, TlsFailure};

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is heard.
    Good,
    /// Answers are due, and it has been silent for a while: others are asked first.
    Stalled,
    /// The server has said that it ends the connection: nothing more is asked here.
    Leaving,
    /// It has ended.
    Over,
}

/// What callers, writer and reader of one socket share.
pub(crate) struct Session {
    shared: Arc<Shared>,
    pub map: Arc<ShardMap>,
    table: Mutex<Table>,
    /// There is something to write.
    work: Notify,
    /// A request is due where none was.
    due: Notify,
    /// One permit a request in flight, and one a byte that is queued: callers beyond them wait.
    room: Semaphore,
    queue_room: Semaphore,
    standing: watch::Sender<Standing>,
    /// How many of the client's sessions are good.
    good: Arc<AtomicUsize>,
}

impl Session {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under this lock halfway through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Changes the standing, for the worse or, from stalled, for the better.
    fn stand(&self, next: Standing) {
        self.standing.send_if_modified(|standing| {
            let before = *standing;
            if before == next
                || before == Standing::Over
                || (before == Standing::Leaving && next != Standing::Over)
            {
                return false;
            }
            if before == Standing::Good {
                self.good.fetch_sub(1, Relaxed);
            }
            if next == Standing::Good {
                self.good.fetch_add(1, Relaxed);
            }
            *standing = next;
            true
        });
    }

    /// Asks, and waits for the reply. Cancel safe: a dropped call's reply is discarded, and its frame, if it has not been
    /// written, is not.
    pub async fn call(&self, request: &Request<'_>) -> Result<RawReply, Error> {
        let _permit = self.admitted(&self.room, 1).await?;
        let bytes = u32::try_from(request.bytes()).expect("a body is at most 8 KiB");
        let queue = self.admitted(&self.queue_room, bytes).await?;
        let asked = self.table().ask(request)?;
        // Whoever takes the frame out of the queue gives its room back.
        queue.forget();
        let place = Place { session: self, request_id: asked.request_id };
        add(&self.shared.tally.requests, 1);
        self.work.notify_one();
        if asked.is_first {
            self.due.notify_one();
        }
        let answer = asked.reply.await.expect("whoever takes a waiter out of the table answers it");
        std::mem::forget(place);
        answer
    }

    /// Waits for room. Who has waited for it on a session that has fallen silent meanwhile asks elsewhere, if there is an
    /// elsewhere.
    async fn admitted<'a>(&self, room: &'a Semaphore, permits: u32) -> Result<SemaphorePermit<'a>, Error> {
        if let Ok(admitted) = room.try_acquire_many(permits) {
            return Ok(admitted);
        }
        let admitted = room.acquire_many(permits).await;
        let admitted = admitted.map_err(|_| self.shared.disconnected(Disconnect::Closed))?;
        if self.standing() == Standing::Stalled && self.good.load(Relaxed) > 0 {
            return Err(self.stalled());
        }
        Ok(admitted)
    }

    /// Requests that are unanswered, and bytes that wait to be written.
    pub fn load(&self) -> (usize, usize) {
        let table = self.table();
        (table.in_flight(), table.queued_bytes())
    }

    fn stalled(&self) -> Error {
        self.shared.disconnected(Disconnect::Stalled(self.shared.settings.stall_after))
    }

    /// Closes for requests, and tells everyone who waits.
    pub fn end(&self, error: &Error) {
        self.stand(Standing::Over);
        let waiters = self.table().go_down(error.clone());
        self.room.close();
        self.queue_room.close();
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Lets everyone who waits ask elsewhere, if there is an elsewhere.
    pub fn evict(&self) {
        if self.good.load(Relaxed) == 0 {
            return;
        }
        let error = self.stalled();
        let waiters = self.table().evict();
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Gives the replies to their callers: found under one lock, told without it. Leaves both lists empty.
    ///
    /// # Errors
    /// A reply to what was never asked: what comes behind it is nobody's either.
    fn deliver(
        &self,
        replies: &mut Vec<RawReply>,
        answered: &mut Vec<(Waiter, RawReply)>,
    ) -> Result<(), ProtocolError> {
        let come = replies.len();
        let (mut is_leaving, mut never_asked) = (false, None);
        {
            let mut table = self.table();
            table.heard(Instant::now());
            for reply in replies.drain(..) {
                let request_id = reply.header.request_id.get();
                if !table.was_asked(request_id) {
                    never_asked = Some(ProtocolError::RequestId(request_id));
                    break;
                }
                is_leaving |= reply.header.flags.get() & REPLY_DRAINING != 0;
                answered.extend(table.answered(request_id).map(|waiter| (waiter, reply)));
            }
        }
        if is_leaving {
            self.stand(Standing::Leaving);
        } else if self.standing() == Standing::Stalled {
            self.stand(Standing::Good);
        }
        let tally = &self.shared.tally;
        add(&tally.replies, answered.len());
        add(&tally.late_replies, come - answered.len());
        for (waiter, reply) in answered.drain(..) {
            // The caller may have left since.
            let _ = waiter.send(Ok(reply));
        }
        never_asked.map_or(Ok(()), Err)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stand(Standing::Over);
    }
}

/// A caller's place in the table, given back when it leaves without its reply.
struct Place<'a> {
    session: &'a Session,
    request_id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let bytes = self.session.table().forget(self.request_id);
        self.session.queue_room.add_permits(bytes);
    }
}

/// A session whose writer and reader run. Dropping it ends them.
pub(super) struct Running {
    pub session: Arc<Session>,
    reader: JoinHandle<Error>,
    writer: AbortHandle,
    standing: watch::Receiver<Standing>,
}

impl Running {
    pub fn start(shared: &Arc<Shared>, dialled: Dialled) -> Running {
        let Dialled { reading, writing, buffer, map } = dialled;
        let settings = &shared.settings;
        let good = Arc::clone(&shared.good);
        good.fetch_add(1, Relaxed);
        let session = Arc::new(Session {
            shared: Arc::clone(shared),
            map,
            table: Mutex::new(Table::new(Silence::new(settings.stall_after, settings.silence_max))),
            work: Notify::new(),
            due: Notify::new(),
            room: Semaphore::new(settings.in_flight_max),
            queue_room: Semaphore::new(QUEUED_BYTES_MAX),
            standing: watch::Sender::new(Standing::Good),
            good,
        });
        add(&shared.tally.connects, 1);
        let standing = session.standing.subscribe();
        let writer = tokio::spawn(write(Arc::clone(&session), writing));
        let abort = writer.abort_handle();
        let reader = tokio::spawn(converse(Arc::clone(&session), reading, buffer, writer));
        Running { session, reader, writer: abort, standing }
    }

    /// Waits until the session has ended (why), or stands otherwise than before.
    pub async fn changed(&mut self) -> Option<Error> {
        let changed = async { self.standing.changed().await.is_ok() };
        tokio::select! {
            ended = &mut self.reader => {
                Some(ended.unwrap_or_else(|error| self.session.shared.failed(io::Error::other(error))))
            }
            true = changed => None,
        }
    }

    /// Waits until the session has ended, and answers why.
    pub async fn ended(&mut self) -> Error {
        let ended = (&mut self.reader).await;
        ended.unwrap_or_else(|error| self.session.shared.failed(io::Error::other(error)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// Reads until reader or writer ends, and answers why.
async fn converse(
    session: Arc<Session>,
    reading: Reading,
    buffer: ReadBuffer,
    writer: JoinHandle<Error>,
) -> Error {
    tokio::select! {
        error = read(Arc::clone(&session), reading, buffer) => error,
        ended = writer => ended.unwrap_or_else(|error| session.shared.failed(io::Error::other(error))),
    }
}

/// Writes what callers have queued, all of it in one write.
async fn write(session: Arc<Session>, mut writing: Writing) -> Error {
    let mut output = Vec::new();
    loop {
        session.work.notified().await;
        // Whoever is ready to run now may add its request before the buffer is taken.
        yield_now().await;
        let bytes = session.table().take_output(&mut output);
        if bytes == 0 {
            continue;
        }
        session.queue_room.add_permits(bytes);
        add(&session.shared.tally.writes, 1);
        if let Err(error) = write_out(&mut writing, &output).await {
            return session.shared.failed(error);
        }
        output.clear();
        output.shrink_to(OUTPUT_BYTES_KEPT);
    }
}

/// Hands each reply to whoever waits for it.
async fn read(session: Arc<Session>, mut reading: Reading, mut buffer: ReadBuffer) -> Error {
    let shared = &session.shared;
    let mut replies = Vec::new();
    let mut answered = Vec::new();
    let mut look_at = None;
    // Bytes since something was heard that is worth the name.
    let mut unheard = 0;
    let mut is_overdue = false;
    loop {
        let read = tokio::select! {
            read = read_until(look_at, &mut reading, &mut buffer) => read,
            () = session.due.notified(), if look_at.is_none() => None,
        };
        match read {
            Some(Ok(0)) => return shared.disconnected(buffer.closed()),
            Some(Ok(bytes)) => {
                is_overdue = false;
                let taken = buffer.take(&mut replies);
                unheard += bytes;
                if !replies.is_empty() || unheard >= PROGRESS_BYTES {
                    unheard = 0;
                    if let Err(error) = session.deliver(&mut replies, &mut answered) {
                        return shared.garbage(error);
                    }
                }
                if let Err(error) = taken {
                    return shared.garbage(error);
                }
                if session.standing() == Standing::Leaving && session.table().is_empty() {
                    return shared.disconnected(Disconnect::Draining);
                }
                // Whatever was due is judged when the next look is: a busy connection pays for none of it.
                continue;
            }
            Some(Err(error)) => return shared.failed(error),
            None => {}
        }
        look_at = match session.table().judge(Instant::now()) {
            Verdict::Idle => None,
            Verdict::Fine(at) => Some(at),
            Verdict::Stalled(at) => {
                session.stand(Standing::Stalled);
                Some(at)
            }
            // A process that stood still finds the time over before the runtime has looked at what came meanwhile.
            Verdict::Lost if !is_overdue => {
                is_overdue = true;
                Some(Instant::now() + SECOND_LOOK)
            }
            Verdict::Lost => return shared.disconnected(buffer.silent(shared.settings.silence_max)),
        };
    }
}

/// Reads, until the time to look at the silence has come.
async fn read_until(
    look_at: Option<Instant>,
    reading: &mut Reading,
    buffer: &mut ReadBuffer,
) -> Option<io::Result<usize>> {
    let read = reading.read_buf(buffer.room());
    match look_at {
        None => Some(read.await),
        Some(at) => timeout_at(at.into(), read).await.ok(),
    }
}

impl Shared {
    pub(super) fn disconnected(&self, cause: Disconnect) -> Error {
        Error::Disconnected { address: self.address.clone(), cause }
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        self.disconnected(match TlsFailure::of(&error) {
            Some(failure) => Disconnect::Tls(Arc::new(failure)),
            None => Disconnect::Io(Arc::new(error)),
        })
    }

    pub(super) fn garbage(&self, error: ProtocolError) -> Error {
        Error::Protocol { address: self.address.clone(), error }
    }
}
