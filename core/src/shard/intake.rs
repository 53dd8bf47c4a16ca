//! From a connection's bytes to answers.
//!
//! Frames are parsed where the kernel put them; only what must wait is copied. Requests for an account of this shard's
//! go on the belt; they are answered there, or at the latest when all of the turn's input has been read.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use florin_schema::frame::RequestHeader;
use florin_schema::{HashedUser, UserId};

use super::belt::{Lookup, Step};
use super::peers::{Ask, Destination, Question};
use super::responder::{Aspect, Via};
use super::session::{Ending, Listener, Stop};
use super::table::Guess;
use super::{Gather, Shard};
use crate::limits::{
    ANSWER_BYTES, CONNECTION_WAITS_MAX, FRAMES_PER_TURN, PARTIAL_REQUEST_US, UNSENT_BYTES_MAX,
};
use crate::wire::{self, Freshness, HelloAnswer, Parsed, Protocol, Query, Rejection, ReplyTo, Request};

impl Shard {
    /// Input has come: answers what is whole and may be answered now, keeps the rest.
    pub fn receive(&mut self, connection: u32, bytes: &[u8]) {
        self.responder.metrics.bytes_in.add(bytes.len() as u64);
        let session = &mut self.sessions[connection as usize];
        if !session.open || session.is_closing() {
            return;
        }
        session.active_us = self.now.monotonic_us;
        let skipped = session.skip.min(bytes.len());
        session.skip -= skipped;
        if skipped > 0 && session.skip == 0 {
            // A refused request has ended: the time of the next begins anew.
            session.partial_since_us = None;
        }
        let bytes = &bytes[skipped..];
        if session.waiting_input() > 0 {
            // Without the doubling of a vector's growth: it is input that nobody has paid for.
            session.carry.reserve_exact(bytes.len());
            session.carry.extend_from_slice(bytes);
            if matches!(session.stop, Stop::Incomplete) {
                self.resume(connection);
            }
        } else {
            let read = self.read(connection, bytes);
            let session = &mut self.sessions[connection as usize];
            if read < bytes.len() && !session.is_closing() {
                let mut carry = core::mem::take(&mut session.carry);
                if carry.capacity() == 0 {
                    carry = self.buffers.pop().unwrap_or_default();
                }
                carry.extend_from_slice(&bytes[read..]);
                let session = &mut self.sessions[connection as usize];
                (session.carry, session.carry_from) = (carry, 0);
            }
        }
        self.after_reading(connection);
    }

    /// Reads on in what a connection has waiting.
    pub(super) fn resume(&mut self, connection: u32) {
        let session = &mut self.sessions[connection as usize];
        let carry = core::mem::take(&mut session.carry);
        let from = core::mem::take(&mut session.carry_from);
        let read = self.read(connection, &carry[from..]);
        let session = &mut self.sessions[connection as usize];
        session.carry = carry;
        session.carry_from = from + read;
        if session.waiting_input() == 0 || session.is_closing() {
            let mut carry = core::mem::take(&mut session.carry);
            session.carry_from = 0;
            carry.clear();
            self.recycle(carry);
        } else if session.carry_from > session.carry.len() / 2 {
            let from = core::mem::take(&mut session.carry_from);
            session.carry.drain(..from);
        }
        self.after_reading(connection);
    }

    fn after_reading(&mut self, connection: u32) {
        let now_us = self.now.monotonic_us;
        let session = &mut self.sessions[connection as usize];
        let is_partial =
            session.stop == Stop::Incomplete && (session.waiting_input() > 0 || session.skip > 0);
        if !is_partial {
            session.partial_since_us = None;
        } else if session.partial_since_us.is_none() {
            session.partial_since_us = Some(now_us);
            if !core::mem::replace(&mut session.timed, true) {
                self.timeouts.push(Reverse((now_us + PARTIAL_REQUEST_US, connection)));
            }
        }
        if session.stop == Stop::Turn && !core::mem::replace(&mut session.ready, true) {
            self.ready.push_back(connection);
        }
        if session.stop == Stop::Unsent {
            self.responder.metrics.paused.add(1);
        }
        self.touch(connection);
    }

    /// Answers what it may of `input`; how many bytes of it are done with. Leaves in the session why it stopped.
    fn read(&mut self, connection: u32, input: &[u8]) -> usize {
        let session = &mut self.sessions[connection as usize];
        if session.turn != self.turn {
            (session.turn, session.frames) = (self.turn, 0);
        }
        let protocol = match session.protocol.or_else(|| wire::detect(input)) {
            Some(protocol) => protocol,
            None => {
                session.stop = Stop::Incomplete;
                return 0;
            }
        };
        session.protocol = Some(protocol);
        if session.out.capacity() == 0 {
            session.out = self.buffers.pop().unwrap_or_default();
        }
        let (read, stop) = match protocol {
            Protocol::Native => self.read_frames(connection, input),
            Protocol::Http => self.with_out(connection, |shard, out| shard.read_http(connection, input, out)),
        };
        let session = &mut self.sessions[connection as usize];
        session.stop = stop;
        if read > 0 {
            // A request was read to its end: the time of the next begins anew.
            session.partial_since_us = None;
        }
        read
    }

    /// Lends a connection's output to `work`. What is answered on it otherwise meanwhile follows.
    pub(super) fn with_out<T>(
        &mut self,
        connection: u32,
        work: impl FnOnce(&mut Shard, &mut Vec<u8>) -> T,
    ) -> T {
        let mut out = core::mem::take(&mut self.sessions[connection as usize].out);
        if out.capacity() == 0 {
            out = self.buffers.pop().unwrap_or_default();
        }
        let result = work(self, &mut out);
        let late = core::mem::replace(&mut self.sessions[connection as usize].out, out);
        if !late.is_empty() {
            self.sessions[connection as usize].out.extend_from_slice(&late);
        }
        self.recycle(late);
        result
    }

    fn read_frames(&mut self, connection: u32, input: &[u8]) -> (usize, Stop) {
        let mut read = 0;
        loop {
            let allowed = match self.frames_allowed(connection) {
                Ok(frames) => frames,
                Err(stop) => return (read, stop),
            };
            // Some of them may be answered before the last is read, so all of them are owed at first.
            self.sessions[connection as usize].owed += allowed as u32;
            let (headers, _) = input[read..].as_chunks::<{ size_of::<RequestHeader>() }>();
            let mut plain = 0;
            for header in headers.iter().take(allowed) {
                let Some((to, user)) = self.plain_lookup(header) else { break };
                plain += 1;
                self.look_up(Lookup { connection, to, user, aspect: Aspect::Balance, guess: Guess::NOBODY });
            }
            read += plain * size_of::<RequestHeader>();
            let session = &mut self.sessions[connection as usize];
            session.owed -= (allowed - plain) as u32;
            session.frames += plain;
            if plain < allowed
                && let Some(stop) = self.read_frame(connection, input, &mut read)
            {
                return (read, stop);
            }
        }
    }

    /// How many frames may be read before this has to be asked again; or why none may.
    fn frames_allowed(&mut self, connection: u32) -> Result<usize, Stop> {
        let room = |shard: &Shard| {
            let session = &shard.sessions[connection as usize];
            UNSENT_BYTES_MAX.saturating_sub(session.committed())
        };
        let session = &self.sessions[connection as usize];
        let frames = FRAMES_PER_TURN.saturating_sub(session.frames);
        if frames == 0 {
            return Err(Stop::Turn);
        }
        let mut answers = room(self) / ANSWER_BYTES;
        if answers == 0 {
            // What the answers under way really need is known once they are written.
            self.finish_lookups();
            match room(self) {
                0 => return Err(Stop::Unsent),
                bytes => answers = (bytes / ANSWER_BYTES).max(1),
            }
        }
        Ok(frames.min(answers))
    }

    /// A GetBalance of any age for an account of this shard's.
    #[inline(always)]
    fn plain_lookup(&self, header: &[u8; size_of::<RequestHeader>()]) -> Option<(ReplyTo, HashedUser)> {
        let (to, user) = wire::frame::plain_balance(header)?;
        let user = user.hashed();
        (user.shard(self.responder.shards) == self.responder.index).then_some((to, user))
    }

    /// Reads one frame of any kind. `None` = go on.
    fn read_frame(&mut self, connection: u32, input: &[u8], read: &mut usize) -> Option<Stop> {
        let (request, bytes) = match wire::frame::parse(&input[*read..], &mut self.users) {
            Parsed::Request(request, bytes) => (request, bytes),
            Parsed::Incomplete | Parsed::Continue => return Some(Stop::Incomplete),
            Parsed::Rejected(rejection) => {
                return self.with_out(connection, |shard, out| {
                    shard.refuse(connection, &rejection, input.len(), read, out)
                });
            }
        };
        match self.local_lookup(connection, &request) {
            Some(lookup) => {
                self.make_room_for(&lookup);
                self.sessions[connection as usize].owed += 1;
                self.look_up(lookup);
            }
            None => {
                if !self.with_out(connection, |shard, out| shard.handle(connection, &request, out)) {
                    return Some(Stop::Await);
                }
            }
        }
        self.sessions[connection as usize].frames += 1;
        *read += bytes;
        None
    }

    #[inline]
    fn local_lookup(&self, connection: u32, request: &Request<'_>) -> Option<Lookup> {
        let (user, aspect) = match request.query {
            Query::Balance(user) => (user, Aspect::Balance),
            Query::Statistics(user, windows) => (user, Aspect::Statistics(windows)),
            _ => return None,
        };
        let user = user.hashed();
        let is_local = user.shard(self.responder.shards) == self.responder.index;
        (is_local && request.freshness == Freshness::default()).then_some(Lookup {
            connection,
            to: request.reply_to,
            user,
            aspect,
            guess: Guess::NOBODY,
        })
    }

    /// Statistics may need more than was kept for them: where all that are under way might overshoot, those are written first.
    fn make_room_for(&mut self, lookup: &Lookup) {
        if let Aspect::Statistics(_) = lookup.aspect {
            let session = &self.sessions[lookup.connection as usize];
            let owed = (session.owed as usize + 1) * self.responder.statistics_bytes;
            if session.unsent() + session.promised + owed > UNSENT_BYTES_MAX {
                self.finish_lookups();
            }
        }
    }

    /// Puts a lookup on the belt, which moves on when a group is whole.
    #[inline(always)]
    fn look_up(&mut self, lookup: Lookup) {
        if self.belt.push(lookup) {
            self.move_belt();
        }
    }

    /// Answers all lookups that are under way.
    pub(super) fn finish_lookups(&mut self) {
        while !self.belt.is_empty() {
            self.move_belt();
        }
        self.belt.rewind();
    }

    /// All lookups that are under way go through their next pass.
    fn move_belt(&mut self) {
        let Step { fetch, probe, answer } = self.belt.step();
        let table = &self.responder.table;
        for lookup in self.belt.at(fetch) {
            table.prefetch(lookup.user);
        }
        for lookup in self.belt.at(probe) {
            lookup.guess = table.guess(lookup.user);
        }
        for lookup in self.belt.at(answer.clone()) {
            if let Aspect::Statistics(_) = lookup.aspect {
                table.prefetch_statistics(lookup.guess);
            }
        }
        for of_one in self.belt.at(answer).chunk_by(|one, next| one.connection == next.connection) {
            let session = &mut self.sessions[of_one[0].connection as usize];
            session.owed -= of_one.len() as u32;
            for Lookup { to, user, aspect, guess, .. } in of_one {
                self.responder.account(&mut session.out, to, Via::Connection, *user, *aspect, *guess);
            }
        }
    }

    /// HTTP answers in order: a request is read only once the one before it has been answered.
    fn read_http(&mut self, connection: u32, input: &[u8], out: &mut Vec<u8>) -> (usize, Stop) {
        let mut read = 0;
        loop {
            let session = &mut self.sessions[connection as usize];
            if session.owed > 0 {
                return (read, Stop::Await);
            }
            if session.is_closing() {
                return (input.len(), Stop::Ended);
            }
            if session.frames >= FRAMES_PER_TURN {
                return (read, Stop::Turn);
            }
            if out.len() + session.in_flight >= UNSENT_BYTES_MAX {
                return (read, Stop::Unsent);
            }
            session.frames += 1;
            match wire::http::parse(&input[read..], &mut self.users) {
                Parsed::Request(mut request, bytes) => {
                    if self.is_draining() && read + bytes == input.len() {
                        // The last that has come: its answer announces the end (RFC 9112, section 9.6).
                        request.reply_to = request.reply_to.closing();
                    }
                    if !self.handle(connection, &request, out) {
                        return (read, Stop::Await);
                    }
                    self.responder.metrics.http_requests.add(1);
                    read += bytes;
                    if request.reply_to.closes() {
                        self.sessions[connection as usize].ending = Ending::Closing;
                    }
                }
                Parsed::Incomplete => return (read, Stop::Incomplete),
                Parsed::Continue => {
                    out.extend_from_slice(wire::http::CONTINUE);
                    return (read, Stop::Incomplete);
                }
                Parsed::Rejected(mut rejection) => {
                    if self.is_draining()
                        && rejection.consumed.is_none_or(|bytes| read + bytes >= input.len())
                    {
                        rejection.reply_to = rejection.reply_to.closing();
                    }
                    if let Some(stop) = self.refuse(connection, &rejection, input.len(), &mut read, out) {
                        return (read, stop);
                    }
                }
            }
        }
    }

    fn refuse(
        &mut self,
        connection: u32,
        rejection: &Rejection,
        here: usize,
        read: &mut usize,
        out: &mut Vec<u8>,
    ) -> Option<Stop> {
        self.responder.rejection(out, rejection);
        let session = &mut self.sessions[connection as usize];
        session.frames += 1;
        match rejection.consumed {
            Some(bytes) => {
                session.skip = (*read + bytes).saturating_sub(here);
                *read = (*read + bytes).min(here);
                if rejection.reply_to.closes() {
                    session.ending = Ending::Closing;
                }
                (session.skip > 0).then_some(Stop::Incomplete)
            }
            None => {
                session.ending = Ending::Closing;
                *read = here;
                Some(Stop::Ended)
            }
        }
    }

    /// Answers, passes on or lets wait a request that is no plain local lookup. `false` where a neighbour's ring has
    /// no room: it must be read again later.
    fn handle(&mut self, connection: u32, request: &Request<'_>, out: &mut Vec<u8>) -> bool {
        let (to, freshness) = (request.reply_to, request.freshness);
        match request.query {
            Query::Ping(payload) => self.responder.ping(out, to, payload),
            Query::Hello { .. } => {
                let on_unix = self.sessions[connection as usize].listener == Listener::Unix;
                let ports = if on_unix { &[][..] } else { &self.ports };
                let (shards, identity) = (self.responder.shards, self.identity);
                let answer = HelloAnswer { server: &self.server, shards, ports, identity };
                self.responder.hello(out, to, &answer);
            }
            Query::Balance(user) => {
                return self.ask(connection, to, freshness, user, Question::Balance(user), out);
            }
            Query::Statistics(user, windows) => {
                return self.ask(connection, to, freshness, user, Question::Statistics(user, windows), out);
            }
            Query::Balances => return self.gather(connection, to, freshness, out),
        }
        true
    }

    fn ask(
        &mut self,
        connection: u32,
        to: ReplyTo,
        freshness: Freshness,
        user: UserId,
        question: Question,
        out: &mut Vec<u8>,
    ) -> bool {
        let owner = user.shard(self.responder.shards);
        let bytes = match question {
            Question::Statistics(..) => self.responder.statistics_bytes - ANSWER_BYTES,
            _ => 0,
        };
        let may_wait = self.may_wait(connection, &freshness);
        let Some(peer) = &mut self.peers[usize::from(owner.0)] else {
            let ticket = self.sessions[connection as usize].owe(connection, bytes, may_wait);
            let ask = Ask { ticket, reply_to: to, freshness, question, buffer: Vec::new() };
            self.take_in(Destination::Here(ticket), ask, out);
            return true;
        };
        let may_wait = may_wait && peer.may_wait();
        if !may_wait && !peer.may_ask() {
            self.blocked.push(connection);
            return false;
        }
        let buffer = self.buffers.pop().unwrap_or_default();
        let ticket = self.sessions[connection as usize].owe(connection, bytes, may_wait);
        peer.ask(Ask { ticket, reply_to: to, freshness, question, buffer });
        self.responder.metrics.forwarded.add(1);
        true
    }

    /// Whether one more question of a connection's may wait for its freshness.
    fn may_wait(&self, connection: u32, freshness: &Freshness) -> bool {
        freshness.wait_ms > 0 && self.sessions[connection as usize].waits < CONNECTION_WAITS_MAX
    }

    /// Splits the batch in `self.users` by owner.
    fn gather(&mut self, connection: u32, to: ReplyTo, freshness: Freshness, out: &mut Vec<u8>) -> bool {
        let shards = self.responder.shards;
        let mut by_owner: Vec<Vec<UserId>> = vec![Vec::new(); usize::from(shards)];
        for &user in &self.users {
            by_owner[usize::from(user.shard(shards).0)].push(user);
        }
        let asked = || self.peers.iter().zip(&by_owner).filter(|(_, users)| !users.is_empty());
        let may_wait = self.may_wait(connection, &freshness)
            && asked().all(|(peer, _)| peer.as_ref().is_none_or(super::PeerLink::may_wait));
        if !may_wait && !asked().all(|(peer, _)| peer.as_ref().is_none_or(super::PeerLink::may_ask)) {
            self.blocked.push(connection);
            return false;
        }
        let bytes = self.users.len() * ANSWER_BYTES;
        let ticket = self.sessions[connection as usize].owe(connection, bytes, may_wait);
        let gather = self.gathers.insert(Gather {
            reply_to: to,
            users: self.users.clone(),
            parts: vec![Vec::new(); usize::from(shards)],
            missing: by_owner.iter().filter(|users| !users.is_empty()).count(),
            as_of_us: i64::MAX,
        }) as u32;
        for (owner, users) in by_owner.into_iter().enumerate().filter(|(_, users)| !users.is_empty()) {
            let buffer = self.buffers.pop().unwrap_or_default();
            let question = Question::Part { gather, users };
            match &mut self.peers[owner] {
                Some(peer) => {
                    peer.ask(Ask { ticket, reply_to: to, freshness, question, buffer });
                    self.responder.metrics.forwarded.add(1);
                }
                None => {
                    let ask = Ask { ticket, reply_to: to, freshness, question, buffer };
                    self.take_in(Destination::Here(ticket), ask, out);
                }
            }
        }
        true
    }
}

impl Question {
    /// The user and aspect of a question about one user.
    pub(super) fn single(&self) -> Option<(UserId, Aspect)> {
        match *self {
            Question::Balance(user) => Some((user, Aspect::Balance)),
            Question::Statistics(user, windows) => Some((user, Aspect::Statistics(windows))),
            Question::Part { .. } => None,
        }
    }
}
