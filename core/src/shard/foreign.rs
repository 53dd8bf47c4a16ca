//! Lookups between shards: this one's callers' for accounts of others, and others' for accounts of this one's.
//!
//! The owner takes them through the same pipeline as its own callers' lookups, all that have come in a turn together, whichever
//! shards sent them: one by one, each would wait for its cache misses in turn.

use florin_schema::{HashedUser, ShardIndex};

use super::Shard;
use super::forwarding::Incoming;
use super::forwarding::bundle::{Bundle, ForeignLookup};
use super::forwarding::question::Aspect;
use super::holdings::Share;
use super::pipeline::Lookup;
use super::planted::Planted;
use super::responder::Via;
use super::table::Guess;
use crate::wire::{Protocol, ReplyTo};

impl Shard {
    /// Passes a connection's lookup on to its account's owner, where the link has room. The connection owes the answer already, and
    /// `bytes` more than usual are promised for it.
    #[inline]
    pub(super) fn pass_on(
        &mut self,
        connection: u32,
        to: ReplyTo,
        user: HashedUser,
        aspect: Aspect,
        bytes: usize,
    ) -> bool {
        let ticket = self.connections[connection].promise(connection, bytes);
        let owner = user.shard(self.responder.shards);
        let is_passed = self.forwarding.look_up(
            owner,
            ForeignLookup { ticket, to, user, aspect },
            self.follow.asked_by_us,
        );
        if is_passed {
            self.responder.metrics.forwarded.add(1);
        } else {
            self.connections[connection].take_back(ticket);
        }
        is_passed
    }

    /// Puts `shard`'s lookups into the pipeline. No lookup of a connection's may be in it.
    pub(super) fn look_up_foreign(&mut self, shard: ShardIndex, bundle: Bundle) {
        let (place, count) = (self.forwarding.incoming.len(), bundle.len());
        self.forwarding.incoming.push(Incoming { shard, bundle: Some(bundle) });
        for index in 0..count {
            let incoming = self.forwarding.incoming[place].bundle.as_ref();
            let ForeignLookup { to, user, aspect, .. } =
                incoming.expect("it leaves with its last answer").lookup(index);
            let lookup = Lookup { asker: place as u32, to, user, aspect, guess: Guess::NOBODY };
            if self.begin(lookup) {
                self.move_foreign();
            }
        }
    }

    /// Answers all of them.
    pub(super) fn finish_foreign(&mut self) {
        if self.forwarding.incoming.is_empty() {
            return;
        }
        while !self.pipeline.is_empty() {
            self.move_foreign();
        }
        self.pipeline.rewind();
        debug_assert!(self.forwarding.incoming.iter().all(|incoming| incoming.bundle.is_none()));
        self.forwarding.incoming.clear();
    }

    fn move_foreign(&mut self) {
        let answer = self.pass_pipeline();
        let via = if Planted::DropsFlag.is(self.planted) { Via::Connection } else { Via::Mesh };
        // Whoever has passed them on may have gone by another map than this shard goes by.
        let is_divided = !matches!(self.responder.share, Share::All);
        self.responder.metrics.answered_for_others.add(answer.len() as u64);
        for of_one in self.pipeline.at(answer).chunk_by(|one, next| one.asker == next.asker) {
            let incoming = &mut self.forwarding.incoming[of_one[0].asker as usize];
            let bundle = incoming.bundle.as_mut().expect("it leaves with its last answer");
            for Lookup { to, user, aspect, guess, .. } in of_one {
                bundle.reply(|out| match is_divided && self.responder.share.refusal(user.id).is_some() {
                    true => self.responder.not_had(out, to, via),
                    false => self.responder.account(out, to, via, *user, *aspect, *guess),
                });
            }
            if bundle.is_answered()
                && let (shard, Some(bundle)) = (incoming.shard, incoming.bundle.take())
            {
                self.forwarding.found(shard, bundle);
            }
        }
    }

    /// This shard's own lookups have come back, and each connection is given the replies to its own.
    pub(super) fn take_replies(&mut self, mut bundle: Bundle) {
        if Planted::MixesUpAskers.is(self.planted) {
            bundle.mix_up();
        }
        for run in bundle.runs() {
            let ticket = run.lookups[0].ticket;
            let is_there = self.connections.holds(ticket) || Planted::AnswersSuccessor.is(self.planted);
            if !is_there {
                continue;
            }
            let out = self.connections.out(ticket.connection);
            out.extend_from_slice(run.replies);
            if Planted::AnswersTwice.is(self.planted) {
                out.extend_from_slice(run.replies);
            }
            let session = &mut self.connections[ticket.connection];
            if session.protocol == Some(Protocol::Native) {
                // What is longer than others are statistics.
                let longest = &mut self.responder.statistics_bytes;
                *longest = run.longest.max(*longest);
            }
            if !Planted::ForgetsToPay.is(self.planted) {
                run.lookups.iter().for_each(|lookup| session.pay(lookup.ticket));
            }
            self.connections.answered(ticket.connection);
        }
        self.forwarding.recycle(bundle);
    }
}
