//! What one connection has been asked and has not yet answered, and the bytes that still have to be written.

use std::time::Instant;

use tokio::sync::oneshot;

use super::read::RawReply;
use super::silence::{Silence, Verdict};
use crate::Error;
use crate::request::Request;

/// Who waits for a reply.
pub(super) type Waiter = oneshot::Sender<Result<RawReply, Error>>;

/// A request id is a slot and how often the slot has been used: so a reply that comes after its caller has left finds
/// another generation there, or nobody, and is discarded.
#[derive(Default)]
struct Slot {
    generation: u32,
    waiter: Option<Waiter>,
}

/// A request whose frame has not been taken by the writer.
struct Queued {
    request_id: u64,
    bytes: usize,
    /// Its caller has left: the frame is never written.
    has_left: bool,
}

/// What a caller has got by asking.
pub(super) struct Asked {
    pub request_id: u64,
    pub reply: oneshot::Receiver<Result<RawReply, Error>>,
    /// Nobody looks whether the server is heard: somebody should now.
    pub is_first: bool,
}

/// The state that callers, writer and reader share, under one lock that nobody holds across an await.
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Frames that are not yet taken by the writer, one behind the other, and whose they are.
    output: Vec<u8>,
    queued: Vec<Queued>,
    /// Bytes of `output` whose callers have left.
    left_bytes: usize,
    silence: Silence,
    /// The reader looks at the silence by itself.
    is_watched: bool,
    /// Why nothing can be asked any more.
    down: Option<Error>,
}

impl Table {
    pub fn new(silence: Silence) -> Table {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            output: Vec::new(),
            queued: Vec::new(),
            left_bytes: 0,
            silence,
            is_watched: false,
            down: None,
        }
    }

    /// Queues a request.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Asked, Error> {
        if let Some(reason) = &self.down {
            return Err(reason.clone());
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("requests in flight are bounded")
        });
        let (waiter, reply) = oneshot::channel();
        let slot = &mut self.slots[index as usize];
        slot.waiter = Some(waiter);
        let request_id = u64::from(slot.generation) << 32 | u64::from(index);
        let before = self.output.len();
        request.encode(request_id, &mut self.output);
        self.queued.push(Queued { request_id, bytes: self.output.len() - before, has_left: false });
        self.silence.asked(request.freshness.held());
        let is_first = !std::mem::replace(&mut self.is_watched, true);
        Ok(Asked { request_id, reply, is_first })
    }

    /// Swaps what is to be written with `empty`, whose capacity is used again; answers how many bytes of callers have
    /// left the queue.
    pub fn take_output(&mut self, empty: &mut Vec<u8>) -> usize {
        debug_assert!(empty.is_empty());
        self.compact();
        self.queued.clear();
        std::mem::swap(&mut self.output, empty);
        empty.len()
    }

    /// Whether a request of this id was ever made, however long ago.
    pub fn was_asked(&self, request_id: u64) -> bool {
        let Some(slot) = self.slots.get(request_id as u32 as usize) else { return false };
        // Generations go round after 4 billion: what is less than half of that ahead is still to come.
        let ahead = ((request_id >> 32) as u32).wrapping_sub(slot.generation).cast_signed();
        ahead < 0 || (ahead == 0 && slot.waiter.is_some())
    }

    /// A reply has come: who waits for it, if anyone still does.
    pub fn answered(&mut self, request_id: u64) -> Option<Waiter> {
        let waiter = self.remove(request_id);
        // A reply that comes twice answers nobody else's request.
        self.silence.answered(self.in_flight());
        waiter
    }

    /// The caller has left; answers how many bytes leave the queue with it. Where they have been written, the reply will
    /// be discarded.
    pub fn forget(&mut self, request_id: u64) -> usize {
        if self.remove(request_id).is_none() {
            return 0;
        }
        // From the end: those who leave soon after they came are there.
        let Some(queued) = self.queued.iter_mut().rev().find(|queued| queued.request_id == request_id) else {
            return 0;
        };
        queued.has_left = true;
        let bytes = queued.bytes;
        self.left_bytes += bytes;
        self.silence.withdrawn();
        if self.left_bytes > self.output.len() / 2 {
            self.compact();
        }
        bytes
    }

    /// Takes the frames of callers who have left out of the output.
    fn compact(&mut self) {
        if self.left_bytes == 0 {
            return;
        }
        let (mut from, mut to) = (0, 0);
        for queued in &self.queued {
            if !queued.has_left {
                self.output.copy_within(from..from + queued.bytes, to);
                to += queued.bytes;
            }
            from += queued.bytes;
        }
        self.output.truncate(to);
        self.queued.retain(|queued| !queued.has_left);
        self.left_bytes = 0;
    }

    fn remove(&mut self, request_id: u64) -> Option<Waiter> {
        let index = request_id as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != (request_id >> 32) as u32 {
            return None;
        }
        let waiter = slot.waiter.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(waiter)
    }

    /// Bytes have come.
    pub fn heard(&mut self, now: Instant) {
        self.silence.heard(now);
    }

    /// What the silence so far means. After [`Verdict::Idle`] the next to ask is told that it is the first.
    pub fn judge(&mut self, now: Instant) -> Verdict {
        let verdict = self.silence.judge(now);
        self.is_watched = verdict != Verdict::Idle;
        verdict
    }

    /// How many wait for a reply.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many bytes wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.output.len() - self.left_bytes
    }

    /// Whether nobody waits for a reply.
    pub fn is_empty(&self) -> bool {
        self.in_flight() == 0
    }

    /// Everyone who waits, to be told to ask elsewhere. What they have asked may still be answered, to nobody.
    pub fn evict(&mut self) -> Vec<Waiter> {
        let generations = self.slots.iter().map(|slot| u64::from(slot.generation) << 32);
        let ids: Vec<u64> = generations.zip(0u64..).map(|(generation, index)| generation | index).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Closes for requests; answers everyone who waits, to be told so.
    pub fn go_down(&mut self, reason: Error) -> Vec<Waiter> {
        self.down = Some(reason);
        self.output = Vec::new();
        self.queued = Vec::new();
        self.left_bytes = 0;
        self.evict()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use florin_schema::Opcode;

    use super::*;
    use crate::{Address, Disconnect, Freshness};

    const PING: Request<'static> =
        Request { opcode: Opcode::Ping, user_id: 0, freshness: Freshness::NONE, body: &[] };

    fn down() -> Error {
        Error::Disconnected { address: Address::Unix("/nowhere".into()), cause: Disconnect::Closed }
    }

    fn table() -> Table {
        Table::new(Silence::new(Duration::from_secs(1), Duration::from_secs(10)))
    }

    #[test]
    fn a_slot_is_used_again_under_another_id() {
        let mut table = table();
        let first = table.ask(&PING).unwrap();
        let second = table.ask(&PING).unwrap();
        assert_ne!(first.request_id, second.request_id);
        assert!(first.is_first && !second.is_first);
        let mut output = Vec::new();
        assert_eq!(table.take_output(&mut output), 2 * 24);
        table.forget(first.request_id);
        let third = table.ask(&PING).unwrap();
        assert_eq!(third.request_id as u32, first.request_id as u32);
        assert_ne!(third.request_id, first.request_id);
        assert!(table.answered(first.request_id).is_none(), "its caller has left");
        assert!(table.answered(third.request_id).is_some());
        assert!(table.answered(third.request_id).is_none(), "a reply comes once");
        assert!(table.answered(u64::MAX).is_none());
        assert!(table.was_asked(first.request_id) && table.was_asked(second.request_id));
        let never = [u64::MAX, third.request_id + (1 << 32), third.request_id + 2];
        assert!(never.iter().all(|&id| !table.was_asked(id)));
    }

    #[test]
    fn going_down_tells_everyone_and_keeps_no_bytes() {
        let mut table = table();
        let left = table.ask(&PING).unwrap();
        let mut stays = table.ask(&PING).unwrap();
        assert_eq!(table.forget(left.request_id), 24);
        let waiters = table.go_down(down());
        assert_eq!(waiters.len(), 1);
        waiters.into_iter().for_each(|waiter| waiter.send(Err(down())).unwrap());
        assert!(matches!(stays.reply.try_recv(), Ok(Err(Error::Disconnected { .. }))));
        assert_eq!(table.take_output(&mut Vec::new()), 0);
        assert!(table.ask(&PING).is_err());
    }

    /// A server that answered one request twice was taken to have answered all: the silence about another went unnoticed.
    #[test]
    fn a_reply_that_comes_twice_answers_nobody_else() {
        let mut table = table();
        let (twice, never) = (table.ask(&PING).unwrap(), table.ask(&PING).unwrap());
        for _ in 0..3 {
            drop(table.answered(twice.request_id));
        }
        let later = Instant::now() + Duration::from_secs(11);
        assert_eq!(table.judge(later), Verdict::Lost);
        drop(table.answered(never.request_id));
        assert_eq!(table.judge(later), Verdict::Idle);
    }

    /// The bytes of calls that were given up stayed in the queue of a server that reads nothing: 3,000 callers of batches
    /// had taken 5 GB.
    #[test]
    fn what_was_given_up_leaves_the_queue() {
        let mut table = table();
        let payload = vec![7; 8 * 1_024];
        let batch = Request { opcode: Opcode::GetBalances, body: &payload, ..PING };
        let kept: Vec<Asked> = (0..3).map(|_| table.ask(&batch).unwrap()).collect();
        for _ in 0..10_000 {
            let asked = table.ask(&batch).unwrap();
            assert_eq!(table.forget(asked.request_id), 24 + payload.len());
            assert!(table.output.len() <= 8 * (24 + payload.len()), "{} bytes", table.output.len());
            assert!(table.queued.len() <= 8);
        }
        assert_eq!(table.forget(kept[1].request_id), 24 + payload.len());
        let mut output = Vec::new();
        assert_eq!(table.take_output(&mut output), 2 * (24 + payload.len()));
        let id = |at: usize| u64::from_le_bytes(output[at + 8..at + 16].try_into().unwrap());
        assert_eq!([id(0), id(24 + payload.len())], [kept[0].request_id, kept[2].request_id]);
    }
}
