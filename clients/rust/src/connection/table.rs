//! What one connection has been asked and has not yet answered, and the bytes that still have to be written.

use tokio::sync::oneshot;

use super::read::RawReply;
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

/// The state that callers, writer and reader share, under one lock that nobody holds across an await.
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Encoded and not yet taken by the writer.
    output: Vec<u8>,
    /// Requests in `output`.
    output_requests: usize,
    /// Requests handed out for writing whose reply has not come, whether or not anyone still waits for it.
    unanswered: usize,
    /// Why nothing can be asked now.
    down: Option<Error>,
}

impl Table {
    /// Down, for the reason given.
    pub fn new(reason: Error) -> Table {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
            output: Vec::new(),
            output_requests: 0,
            unanswered: 0,
            down: Some(reason),
        }
    }

    /// Queues a request; answers its id and where its reply will come.
    pub fn ask(
        &mut self,
        request: &Request<'_>,
    ) -> Result<(u64, oneshot::Receiver<Result<RawReply, Error>>), Error> {
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
        request.encode(request_id, &mut self.output);
        self.output_requests += 1;
        Ok((request_id, reply))
    }

    /// Swaps what is to be written with `empty`, whose capacity is used again; answers how many requests it holds.
    pub fn take_output(&mut self, empty: &mut Vec<u8>) -> usize {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.output, empty);
        self.unanswered += self.output_requests;
        std::mem::take(&mut self.output_requests)
    }

    /// A reply has come: who waits for it, if anyone still does.
    pub fn answered(&mut self, request_id: u64) -> Option<Waiter> {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.remove(request_id)
    }

    /// The caller has left. Its request may still be written, and its reply will be discarded.
    pub fn forget(&mut self, request_id: u64) {
        self.remove(request_id);
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

    /// Requests written whose reply has not come.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Opens for requests.
    pub fn go_up(&mut self) {
        self.down = None;
    }

    /// Closes for requests; answers everyone who waits, to be told so.
    pub fn go_down(&mut self, reason: Error) -> Vec<Waiter> {
        self.down = Some(reason);
        self.output.clear();
        self.output_requests = 0;
        self.unanswered = 0;
        let generations = self.slots.iter().map(|slot| u64::from(slot.generation) << 32);
        let ids: Vec<u64> = generations.zip(0u64..).map(|(generation, index)| generation | index).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::Opcode;

    use super::*;
    use crate::{Address, Disconnect, Freshness};

    const PING: Request<'static> =
        Request { opcode: Opcode::Ping, user_id: 0, freshness: Freshness::NONE, body: &[] };

    fn down() -> Error {
        Error::Disconnected { address: Address::Unix("/nowhere".into()), cause: Disconnect::Closed }
    }

    #[test]
    fn a_slot_is_used_again_under_another_id() {
        let mut table = Table::new(down());
        assert!(matches!(table.ask(&PING), Err(Error::Disconnected { .. })));
        table.go_up();
        let (first, _reply) = table.ask(&PING).unwrap();
        let (second, _reply) = table.ask(&PING).unwrap();
        assert_ne!(first, second);
        table.forget(first);
        let (third, _reply) = table.ask(&PING).unwrap();
        assert_eq!(third as u32, first as u32);
        assert_ne!(third, first);
        assert!(table.answered(first).is_none(), "its caller has left");
        assert!(table.answered(third).is_some());
        assert!(table.answered(third).is_none(), "a reply comes once");
        assert!(table.answered(u64::MAX).is_none());
        let mut output = Vec::new();
        assert_eq!(table.take_output(&mut output), 3);
        assert_eq!(output.len(), 3 * 24);
    }

    #[test]
    fn going_down_tells_everyone_and_keeps_no_bytes() {
        let mut table = Table::new(down());
        table.go_up();
        let (left, _reply) = table.ask(&PING).unwrap();
        let (_, mut reply) = table.ask(&PING).unwrap();
        table.forget(left);
        let waiters = table.go_down(down());
        assert_eq!(waiters.len(), 1);
        waiters.into_iter().for_each(|waiter| waiter.send(Err(down())).unwrap());
        assert!(matches!(reply.try_recv(), Ok(Err(Error::Disconnected { .. }))));
        assert_eq!(table.take_output(&mut Vec::new()), 0);
        assert!(table.ask(&PING).is_err());
    }
}
