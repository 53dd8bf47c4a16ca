//! Questions that are no plain lookup: admitted, answered, passed on or kept waiting; and their answers' way back.

use alloc::vec::Vec;

use florin_schema::{ShardIndex, Status};

use super::Shard;
use super::forwarding::gather::push_status;
use super::forwarding::peers::Message;
use super::forwarding::question::{Answer, Ask, Destination, Question, Ticket};
use super::forwarding::waiting::Waiter;
use super::responder::{Responder, Via};
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
    /// Answers a question, or lets it wait if its freshness does not hold.
    pub(super) fn take_in(&mut self, destination: Destination, ask: Ask) {
        let wait_us = u64::from(ask.freshness.wait_ms) * 1_000;
        if wait_us == 0 {
            return self.settle(destination, ask, Verdict::Answer);
        }
        match self.responder.unmet(&ask.freshness, &ask.question, 0) {
            None => self.settle(destination, ask, Verdict::Answer),
            Some(unmet) if ask.ticket.may_wait && self.forwarding.waiting.has_room() => {
                let deadline_us = self.follow.asked_by_us + wait_us;
                self.wait(Waiter { deadline_us, destination, ask, unmet });
            }
            Some(_) => self.settle(destination, ask, Verdict::Shed),
        }
    }

    /// Lets a question wait. The buffer for its answer serves others meanwhile.
    fn wait(&mut self, mut waiter: Waiter) {
        let buffer = core::mem::take(&mut waiter.ask.buffer);
        self.recycle(buffer);
        self.forwarding.waiting.push(waiter);
    }

    /// What waits for a connection that is gone leaves at once, here and where it was passed on to.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.dismiss(Destination::Here(ticket));
        self.forwarding.leave(ticket);
    }

    /// Takes out of the waiting room whatever waits for a connection.
    fn dismiss(&mut self, gone: Destination) {
        let mut due = core::mem::take(&mut self.forwarding.due);
        self.forwarding.waiting.take(|waiter| waiter.destination.is_same(gone), &mut due);
        for Waiter { destination, ask, .. } in due.drain(..) {
            self.forget(destination, ask);
        }
        self.forwarding.due = due;
    }

    fn settle(&mut self, destination: Destination, ask: Ask, verdict: Verdict) {
        let Ask { ticket, reply_to, freshness, question, mut buffer, .. } = ask;
        match (question, destination) {
            (Question::Part { gather, users }, _) => {
                if buffer.capacity() == 0 {
                    buffer = self.spare_buffer();
                }
                let as_of_us = match verdict {
                    Verdict::Answer => self.responder.part(&mut buffer, &freshness, &users),
                    Verdict::Shed => {
                        users.iter().for_each(|_| push_status(&mut buffer, Status::Overloaded));
                        self.responder.as_of_us
                    }
                };
                let answer = Answer::Part { ticket, gather, entries: buffer, as_of_us };
                match destination {
                    Destination::Here(_) => self.deliver(self.responder.index, answer),
                    Destination::Peer(peer, _) => self.forwarding.answer(peer, answer),
                }
            }
            (question, Destination::Here(_)) => {
                let out = self.connections.out(ticket.connection);
                let whole = Whole { question, reply_to, freshness, verdict };
                whole.write(&mut self.responder, Via::Connection, out);
                self.connections[ticket.connection].pay(ticket);
            }
            (question, Destination::Peer(peer, _)) => {
                if buffer.capacity() == 0 {
                    buffer = self.spare_buffer();
                }
                let whole = Whole { question, reply_to, freshness, verdict };
                whole.write(&mut self.responder, Via::Mesh, &mut buffer);
                self.responder.metrics.answered_for_others.add(1);
                self.forwarding.answer(peer, Answer::Whole { ticket, reply: buffer });
            }
        }
    }

    /// An answer has come, from `shard`, for a connection that is there.
    fn deliver(&mut self, shard: ShardIndex, answer: Answer) {
        match answer {
            Answer::Whole { ticket, reply } => {
                self.connections.out(ticket.connection).extend_from_slice(&reply);
                let session = &mut self.connections[ticket.connection];
                session.pay(ticket);
                if session.protocol == Some(Protocol::Native) {
                    // What is longer than others are statistics.
                    let longest = &mut self.responder.statistics_bytes;
                    *longest = reply.len().max(*longest);
                }
                self.recycle(reply);
            }
            Answer::Part { ticket, gather, entries, as_of_us } => {
                if let Some(gather) = self.forwarding.part_came(gather, shard, entries, as_of_us) {
                    self.responder.batch(self.connections.out(ticket.connection), &gather);
                    gather.parts.into_iter().for_each(|part| self.recycle(part));
                    self.connections[ticket.connection].pay(ticket);
                }
            }
        }
    }

    /// An answer has come, from `shard`, for a connection that may be gone, or may have waited for this before it could
    /// be read on.
    fn answered(&mut self, shard: ShardIndex, answer: Answer) {
        let ticket = answer.ticket();
        if self.connections.holds(ticket) {
            self.deliver(shard, answer);
            return self.connections.answered(ticket.connection);
        }
        match answer {
            Answer::Whole { reply, .. } => self.recycle(reply),
            Answer::Part { gather, entries, as_of_us, .. } => {
                if let Some(gather) = self.forwarding.part_came(gather, shard, entries, as_of_us) {
                    gather.parts.into_iter().for_each(|part| self.recycle(part));
                }
            }
        }
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
                match self.forwarding.pop(shard) {
                    None => break,
                    Some(Message::Lookups(bundle)) => {
                        self.input_came_by(bundle.asked_by_us);
                        self.look_up_foreign(shard, bundle);
                    }
                    Some(Message::Found(bundle)) => {
                        room = Room::Made;
                        self.note_forwarded(shard, bundle.first_asked_by_us, bundle.len());
                        self.take_replies(bundle);
                    }
                    Some(Message::Ask(ask)) => {
                        self.input_came_by(ask.asked_by_us);
                        self.take_in(Destination::Peer(shard, ask.ticket), ask);
                    }
                    Some(Message::Answer(answer)) => {
                        room = Room::Made;
                        self.answered(shard, answer);
                    }
                    Some(Message::Leave(ticket)) => {
                        self.dismiss(Destination::Peer(shard, ticket));
                        self.forwarding.left(shard);
                    }
                    Some(Message::Left) => room = Room::Made,
                }
            }
        }
        self.finish_foreign();
        if room == Room::Made {
            // Lookups that found as many bundles out as may be go with those that have come back.
            self.forwarding.flush();
        }
        room
    }

    /// Answers those in the waiting room whose freshness holds now, or whose time is up.
    pub(super) fn look_through_waiting_room(&mut self) {
        let now_us = self.now.monotonic_us;
        let waiting = &self.forwarding.waiting;
        let is_late = waiting.earliest_us().is_some_and(|us| us <= now_us);
        if waiting.len() == 0 || !(is_late || self.follow.moved) {
            return;
        }
        let mut due = core::mem::take(&mut self.forwarding.due);
        let responder = &self.responder;
        let is_due = |waiter: &mut Waiter| {
            match responder.unmet(&waiter.ask.freshness, &waiter.ask.question, waiter.unmet) {
                Some(unmet) => waiter.unmet = unmet,
                None => return true,
            }
            waiter.deadline_us <= now_us
        };
        self.forwarding.waiting.take(is_due, &mut due);
        for waiter in due.drain(..) {
            self.note_waited(&waiter);
            let Waiter { destination, ask, .. } = waiter;
            match destination {
                Destination::Peer(..) => self.settle(destination, ask, Verdict::Answer),
                Destination::Here(ticket) if self.connections.holds(ticket) => {
                    self.settle(destination, ask, Verdict::Answer);
                    self.connections.answered(ticket.connection);
                }
                Destination::Here(_) => self.forget(destination, ask),
            }
        }
        self.forwarding.due = due;
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
            Destination::Peer(peer, _) => self.forwarding.answer(peer, answer),
        }
    }
}

/// A question about one user, whose answer is a whole reply.
struct Whole {
    question: Question,
    reply_to: ReplyTo,
    freshness: Freshness,
    verdict: Verdict,
}

impl Whole {
    fn write(&self, responder: &mut Responder, via: Via, out: &mut Vec<u8>) {
        let Whole { question, reply_to, freshness, verdict } = self;
        let (user, aspect) = question.single().expect("a part was treated by itself");
        match verdict {
            Verdict::Answer => responder.answer(out, *reply_to, via, freshness, user, aspect),
            Verdict::Shed => responder.error(out, reply_to, via, Status::Overloaded, WAITING_ROOM_FULL),
        }
    }
}
