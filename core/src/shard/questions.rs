//! Questions that are no plain local lookup: admitted, answered or kept waiting; and their answers' way back.

use alloc::vec::Vec;

use florin_schema::{ShardIndex, Status};

use super::gather::push_status;
use super::peers::{Answer, Ask, Destination, Message, Question, Ticket};
use super::responder::Via;
use super::session::Stop;
use super::waiting::Waiter;
use super::{PeerLink, Shard};
use crate::limits::MESH_RING_SLOTS;
use crate::wire::{Freshness, Protocol, ReplyTo};

/// What the waiting room says to one more.
const WAITING_ROOM_FULL: &str =
    "too many requests wait for their freshness here: ask again later, or without wait_ms";

/// How a question is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// As the table and its freshness have it.
    Answer,
    /// It would have to wait, and the waiting room is full.
    Shed,
}

/// Whether answers have come, so that neighbours may be asked more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    AsBefore,
    Made,
}

impl Shard {
    /// Answers a question, or lets it wait if its freshness does not hold. `out` is the connection's, where the
    /// destination is one of this shard's.
    pub(super) fn take_in(&mut self, destination: Destination, ask: Ask, out: &mut Vec<u8>) {
        let wait_us = u64::from(ask.freshness.wait_ms) * 1_000;
        if wait_us == 0 {
            return self.settle(destination, ask, Verdict::Answer, out);
        }
        match self.responder.unmet(&ask.freshness, &ask.question, 0) {
            None => self.settle(destination, ask, Verdict::Answer, out),
            Some(unmet) if ask.ticket.may_wait && self.waiting.has_room() => {
                let deadline_us = self.now.monotonic_us + wait_us;
                self.wait(Waiter { deadline_us, destination, ask, unmet });
            }
            Some(_) => self.settle(destination, ask, Verdict::Shed, out),
        }
    }

    /// Lets a question wait. The buffer for its answer serves others meanwhile.
    fn wait(&mut self, mut waiter: Waiter) {
        let buffer = core::mem::take(&mut waiter.ask.buffer);
        self.recycle(buffer);
        self.waiting.push(waiter);
    }

    /// What waits for a connection that is gone leaves at once, here and where it was passed on to.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.dismiss(Destination::Here(ticket));
        self.peers.iter_mut().flatten().for_each(|peer| peer.leave(ticket));
    }

    /// Takes out of the waiting room whatever waits for a connection.
    fn dismiss(&mut self, gone: Destination) {
        let mut due = core::mem::take(&mut self.due);
        self.waiting.take(|waiter| waiter.destination.is_same(gone), &mut due);
        for Waiter { destination, ask, .. } in due.drain(..) {
            self.forget(destination, ask);
        }
        self.due = due;
    }

    fn settle(&mut self, destination: Destination, ask: Ask, verdict: Verdict, out: &mut Vec<u8>) {
        let Ask { ticket, reply_to, freshness, question, mut buffer } = ask;
        if buffer.capacity() == 0
            && (question.single().is_none() || matches!(destination, Destination::Peer(..)))
        {
            buffer = self.spare_buffer();
        }
        let via = match destination {
            Destination::Here(_) => Via::Connection,
            Destination::Peer(..) => Via::Mesh,
        };
        match (question, destination) {
            (Question::Part { gather, users }, _) => {
                let as_of_us = match verdict {
                    Verdict::Answer => self.responder.part(&mut buffer, &freshness, &users),
                    Verdict::Shed => {
                        users.iter().for_each(|_| push_status(&mut buffer, Status::Overloaded));
                        self.responder.as_of_us
                    }
                };
                let answer = Answer::Part { ticket, gather, entries: buffer, as_of_us };
                match destination {
                    Destination::Here(_) => self.deliver(self.responder.index, answer, out),
                    Destination::Peer(peer, _) => self.peer(peer).answer(answer),
                }
            }
            (question, Destination::Here(_)) => {
                self.settle_single(&question, reply_to, &freshness, via, verdict, out);
                self.sessions[ticket.connection as usize].pay(ticket);
            }
            (question, Destination::Peer(peer, _)) => {
                self.settle_single(&question, reply_to, &freshness, via, verdict, &mut buffer);
                self.responder.metrics.answered_for_others.add(1);
                self.peer(peer).answer(Answer::Whole { ticket, reply: buffer });
            }
        }
    }

    fn settle_single(
        &mut self,
        question: &Question,
        to: ReplyTo,
        freshness: &Freshness,
        via: Via,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) {
        let (user, aspect) = question.single().expect("a part was treated by itself");
        match verdict {
            Verdict::Answer => self.responder.answer(out, to, via, freshness, user, aspect),
            Verdict::Shed => self.responder.error(out, &to, via, Status::Overloaded, WAITING_ROOM_FULL),
        }
    }

    fn peer(&mut self, shard: ShardIndex) -> &mut PeerLink {
        self.peers[usize::from(shard.0)].as_mut().expect("a link to every other shard")
    }

    /// An answer has come, from `shard`, for a connection that may be gone. Writes it to `out`, the connection's.
    fn deliver(&mut self, shard: ShardIndex, answer: Answer, out: &mut Vec<u8>) {
        match answer {
            Answer::Whole { ticket, reply } => {
                out.extend_from_slice(&reply);
                if self.sessions[ticket.connection as usize].protocol == Some(Protocol::Native) {
                    // What is longer than others are statistics.
                    let longest = &mut self.responder.statistics_bytes;
                    *longest = reply.len().max(*longest);
                }
                self.recycle(reply);
                self.sessions[ticket.connection as usize].pay(ticket);
            }
            Answer::Part { ticket, gather: index, entries, as_of_us } => {
                let gather = &mut self.gathers[index as usize];
                gather.parts[usize::from(shard.0)] = entries;
                gather.as_of_us = gather.as_of_us.min(as_of_us);
                gather.missing -= 1;
                if gather.missing == 0 {
                    let gather = self.gathers.remove(index as usize);
                    self.responder.batch(out, &gather);
                    gather.parts.into_iter().for_each(|part| self.recycle(part));
                    self.sessions[ticket.connection as usize].pay(ticket);
                }
            }
        }
    }

    /// Lets `write` answer on a connection, which may have waited for this before it could read on.
    fn answer_late(&mut self, ticket: Ticket, write: impl FnOnce(&mut Shard, &mut Vec<u8>)) {
        self.with_out(ticket.connection, write);
        let session = &mut self.sessions[ticket.connection as usize];
        let may_go_on = match session.stop {
            Stop::Await => true,
            Stop::Unsent => session.has_room(),
            _ => false,
        };
        if may_go_on && !core::mem::replace(&mut session.ready, true) {
            self.ready.push_back(ticket.connection);
        }
        self.touch(ticket.connection);
    }

    fn is_here(&self, ticket: Ticket) -> bool {
        let session = &self.sessions[ticket.connection as usize];
        session.open && session.generation == ticket.generation
    }

    /// Takes in what the other shards have sent, at most a ring's worth from each.
    pub(super) fn drain_mesh(&mut self) -> Room {
        let mut room = Room::AsBefore;
        for index in 0..self.responder.shards {
            let shard = ShardIndex(index);
            if shard == self.responder.index {
                continue;
            }
            for _ in 0..MESH_RING_SLOTS {
                match self.peer(shard).pop() {
                    None => break,
                    Some(Message::Ask(ask)) => {
                        let destination = Destination::Peer(shard, ask.ticket);
                        // A peer's answers go into its own buffer; nothing is written here.
                        self.take_in(destination, ask, &mut Vec::new());
                    }
                    Some(Message::Answer(answer)) => {
                        room = Room::Made;
                        self.answered(shard, answer);
                    }
                    Some(Message::Leave(ticket)) => {
                        self.dismiss(Destination::Peer(shard, ticket));
                        self.peer(shard).left();
                    }
                    Some(Message::Left) => room = Room::Made,
                }
            }
        }
        room
    }

    fn answered(&mut self, shard: ShardIndex, answer: Answer) {
        let ticket = answer.ticket();
        if self.is_here(ticket) {
            self.answer_late(ticket, |this, out| this.deliver(shard, answer, out));
            return;
        }
        match answer {
            Answer::Whole { reply, .. } => self.recycle(reply),
            Answer::Part { gather, entries, .. } => {
                self.recycle(entries);
                self.gathers[gather as usize].missing -= 1;
                if self.gathers[gather as usize].missing == 0 {
                    self.gathers.remove(gather as usize);
                }
            }
        }
    }

    /// Answers those in the waiting room whose freshness holds now, or whose time is up.
    pub(super) fn look_through_waiting_room(&mut self) {
        let now_us = self.now.monotonic_us;
        let is_late = self.waiting.earliest_us().is_some_and(|us| us <= now_us);
        if self.waiting.len() == 0 || !(is_late || self.moved) {
            return;
        }
        let mut due = core::mem::take(&mut self.due);
        let responder = &self.responder;
        let is_due = |waiter: &mut Waiter| {
            match responder.unmet(&waiter.ask.freshness, &waiter.ask.question, waiter.unmet) {
                Some(unmet) => waiter.unmet = unmet,
                None => return true,
            }
            waiter.deadline_us <= now_us
        };
        self.waiting.take(is_due, &mut due);
        for Waiter { destination, ask, .. } in due.drain(..) {
            match destination {
                Destination::Peer(..) => self.settle(destination, ask, Verdict::Answer, &mut Vec::new()),
                Destination::Here(ticket) if self.is_here(ticket) => {
                    self.answer_late(ticket, |shard, out| {
                        shard.settle(destination, ask, Verdict::Answer, out)
                    });
                }
                Destination::Here(_) => self.forget(destination, ask),
            }
        }
        self.due = due;
    }

    /// A question whose connection has gone while it waited.
    fn forget(&mut self, destination: Destination, ask: Ask) {
        let Ask { ticket, question, buffer, .. } = ask;
        let answer = match question {
            Question::Part { gather, .. } => Answer::Part { ticket, gather, entries: buffer, as_of_us: 0 },
            _ => Answer::Whole { ticket, reply: buffer },
        };
        match destination {
            Destination::Here(_) => self.answered(self.responder.index, answer),
            Destination::Peer(peer, _) => self.peer(peer).answer(answer),
        }
    }
}
