//! Keeping a connection: its writer, its reader, and what happens between one connection and the next.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::dial::{self, Dialled, Reading, Writing};
use super::read::{RawReply, ReadBuffer};
use super::table::Waiter;
use super::{Shared, State};
use crate::counters::add;
use crate::{Disconnect, Error, ProtocolError};

/// What the writer's buffer may keep between two writes.
const OUTPUT_BYTES_KEPT: usize = 256 * 1024;

/// Connects, serves until the connection ends, waits, and begins again.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut failures: u32 = 0;
    loop {
        let error = match dial::dial(&shared).await {
            Ok(dialled) => {
                failures = 0;
                serve(&shared, dialled).await
            }
            Err(error) => error,
        };
        shared.go_down(&error);
        let pause = shared.settings.backoff.pause(failures, &mut rand::rng());
        sleep(pause).await;
        failures = failures.saturating_add(1);
    }
}

/// Runs writer and reader until either ends, and answers why.
async fn serve(shared: &Arc<Shared>, dialled: Dialled) -> Error {
    let Dialled { reading, writing, buffer, map } = dialled;
    shared.table().go_up();
    add(&shared.tally.connects, 1);
    shared.state.send_replace(State::Up(map));
    let mut both = JoinSet::new();
    both.spawn(write(Arc::clone(shared), writing));
    both.spawn(read(Arc::clone(shared), reading, buffer));
    let ended = both.join_next().await.expect("two were spawned");
    both.shutdown().await;
    ended.unwrap_or_else(|error| shared.failed(io::Error::other(error)))
}

/// Writes what callers have queued, all of it in one write.
async fn write(shared: Arc<Shared>, mut writing: Writing) -> Error {
    let mut output = Vec::new();
    loop {
        shared.work.notified().await;
        // Whoever is ready to run now may add its request before the buffer is taken.
        yield_now().await;
        if shared.table().take_output(&mut output) == 0 {
            continue;
        }
        add(&shared.tally.writes, 1);
        if let Err(error) = writing.write_all(&output).await {
            return shared.failed(error);
        }
        output.clear();
        output.shrink_to(OUTPUT_BYTES_KEPT);
    }
}

/// Hands each reply to whoever waits for it.
async fn read(shared: Arc<Shared>, mut reading: Reading, mut buffer: ReadBuffer) -> Error {
    let silence_max = shared.settings.silence_max;
    let mut replies = Vec::new();
    let mut answered = Vec::new();
    loop {
        let unanswered = shared.table().unanswered();
        match timeout(silence_max, reading.read_buf(buffer.room())).await {
            Ok(Ok(0)) => return shared.disconnected(Disconnect::Closed),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return shared.failed(error),
            Err(_) if unanswered == 0 => continue,
            Err(_) => return shared.disconnected(Disconnect::Silent(silence_max)),
        }
        let taken = buffer.take(&mut replies);
        shared.deliver(&mut replies, &mut answered);
        if let Err(error) = taken {
            return shared.garbage(error);
        }
    }
}

impl Shared {
    /// Gives the replies to their callers: found under one lock, told without it. Leaves both lists empty.
    fn deliver(&self, replies: &mut Vec<RawReply>, answered: &mut Vec<(Waiter, RawReply)>) {
        let come = replies.len();
        {
            let mut table = self.table();
            let waited_for = replies
                .drain(..)
                .filter_map(|reply| Some((table.answered(reply.header.request_id.get())?, reply)));
            answered.extend(waited_for);
        }
        add(&self.tally.replies, answered.len());
        add(&self.tally.late_replies, come - answered.len());
        for (waiter, reply) in answered.drain(..) {
            // The caller may have left since.
            let _ = waiter.send(Ok(reply));
        }
    }

    /// Tells everyone who waits, and closes for new requests.
    fn go_down(&self, error: &Error) {
        let waiters = self.table().go_down(error.clone());
        add(&self.tally.disconnects, 1);
        self.state.send_replace(State::Down(error.clone()));
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    pub(super) fn disconnected(&self, cause: Disconnect) -> Error {
        Error::Disconnected { address: self.address.clone(), cause }
    }

    pub(super) fn failed(&self, error: io::Error) -> Error {
        self.disconnected(Disconnect::Io(Arc::new(error)))
    }

    pub(super) fn garbage(&self, error: ProtocolError) -> Error {
        Error::Protocol { address: self.address.clone(), error }
    }
}
