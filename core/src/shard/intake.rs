//! From a connection's bytes to answers.
//!
//! Frames are parsed where the kernel put them; only what must wait is copied. Lookups of an account of this shard's
//! go into the pipeline; they are answered there, or at the latest when all of the turn's input has been read. Those of an account
//! of another's are passed on. Whether its caller may make a request is decided here, before anything of that.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use florin_schema::frame::RequestHeader;
use florin_schema::{HashedUser, Opcode, ShardIndex, UserId};

use super::Shard;
use super::connections::{Ending, Stop};
use super::forwarding::peers::PeerLink;
use super::forwarding::question::{Ask, Aspect, Destination, Question, Ticket};
use super::pipeline::{Lookup, Step};
use super::planted::Planted;
use super::responder::Via;
use super::table::Guess;
use crate::limits::{ANSWER_BYTES, FRAMES_PER_TURN, PARTIAL_REQUEST_US, UNSENT_BYTES_MAX};
use crate::wire::{
    self, Format, Freshness, Parsed, Protocol, Query, Rejection, ReplyTo, Request, RespReply, RespShape,
};

impl Shard {
    /// Input has come: answers what is whole and may be answered now, keeps the rest.
    pub fn receive(&mut self, connection: u32, bytes: &[u8]) {
        self.responder.metrics.bytes_in.add(bytes.len() as u64);
        let session = &mut self.connections[connection];
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
        if !session.input.is_empty() {
            let goes_on =
                session.stop == Stop::Incomplete && session.input.len() + bytes.len() >= session.least_input;
            self.connections.keep(connection, bytes);
            if goes_on {
                self.resume(connection);
            }
        } else {
            let read = self.read(connection, bytes);
            if read < bytes.len() && !self.connections[connection].is_closing() {
                self.connections.keep(connection, &bytes[read..]);
            }
        }
        self.after_reading(connection);
    }

    /// Reads on in what a connection has waiting.
    pub(super) fn resume(&mut self, connection: u32) {
        let input = self.connections.lend_input(connection);
        let read = self.read(connection, input.waiting());
        self.connections.return_input(connection, input, read);
        self.after_reading(connection);
    }

    fn after_reading(&mut self, connection: u32) {
        let now_us = self.now.monotonic_us;
        let session = &mut self.connections[connection];
        let is_partial = session.stop == Stop::Incomplete && (!session.input.is_empty() || session.skip > 0);
        let stop = session.stop;
        if !is_partial {
            session.partial_since_us = None;
        } else if session.partial_since_us.is_none() {
            session.partial_since_us = Some(now_us);
            self.connections.look_at(connection, now_us + PARTIAL_REQUEST_US);
        }
        match stop {
            Stop::Turn => self.connections.make_ready(connection),
            Stop::Unsent => self.responder.metrics.paused.add(1),
            Stop::Incomplete | Stop::Await | Stop::Ended => {}
        }
        self.connections.touch(connection);
    }

    /// Answers what it may of `input`; how many bytes of it are done with. Leaves in the session why it stopped.
    fn read(&mut self, connection: u32, input: &[u8]) -> usize {
        let session = &mut self.connections[connection];
        if session.principal().is_none() && !Planted::ReadsTooEarly.is(self.planted) {
            session.stop = Stop::Await;
            return 0;
        }
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
        // Answers of the pipeline are written to where room was made for them.
        self.connections.out(connection);
        let (read, stop) = match protocol {
            Protocol::Native => self.read_frames(connection, input),
            Protocol::Http => self.read_http(connection, input),
            Protocol::Resp(_) => self.read_resp(connection, input),
        };
        let session = &mut self.connections[connection];
        session.stop = stop;
        if read > 0 {
            // A request was read to its end: the time of the next begins anew.
            session.partial_since_us = None;
        }
        read
    }

    fn read_frames(&mut self, connection: u32, input: &[u8]) -> (usize, Stop) {
        let mut read = 0;
        loop {
            let allowed = match self.frames_allowed(connection) {
                Ok(frames) => frames,
                Err(stop) => return (read, stop),
            };
            // Some of them may be answered before the last is read, so all of them are owed at first.
            self.connections[connection].owe_usual(allowed);
            let (headers, _) = input[read..].as_chunks::<{ size_of::<RequestHeader>() }>();
            let swift = self.swift_frames(connection, allowed, headers.len());
            let mut plain = 0;
            for header in headers.iter().take(swift) {
                let Some((to, user)) = wire::frame::plain_balance(header) else { break };
                let user = user.hashed();
                if user.shard(self.responder.shards) == self.responder.index {
                    let aspect = Aspect::Balance;
                    self.look_up(Lookup { asker: connection, to, user, aspect, guess: Guess::NOBODY });
                } else if !self.pass_on_balance(connection, to.request_id, to.format, user) {
                    break;
                }
                plain += 1;
            }
            read += plain * size_of::<RequestHeader>();
            let session = &mut self.connections[connection];
            session.pay_usual(allowed - plain);
            session.frames += plain;
            if plain < swift && self.callers.is_some() {
                self.give_back(connection, swift - plain);
            }
            if plain < allowed
                && let Some(stop) = self.read_frame(connection, input, &mut read)
            {
                return (read, stop);
            }
        }
    }

    /// Out of line, and without the `ReplyTo`: one that leaves the loop in memory would be written there for local lookups too.
    #[inline(never)]
    fn pass_on_balance(
        &mut self,
        connection: u32,
        request_id: u64,
        format: Format,
        user: HashedUser,
    ) -> bool {
        let to = ReplyTo { opcode: Opcode::GetBalance, request_id, format };
        self.pass_on(connection, to, user, Aspect::Balance, 0)
    }

    /// How many frames may be read before this has to be asked again; or why none may.
    #[inline]
    pub(super) fn frames_allowed(&mut self, connection: u32) -> Result<usize, Stop> {
        let room = |shard: &Shard| {
            let session = &shard.connections[connection];
            UNSENT_BYTES_MAX.saturating_sub(session.committed())
        };
        let session = &self.connections[connection];
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

    /// Reads one frame of any kind. `None` = go on.
    fn read_frame(&mut self, connection: u32, input: &[u8], read: &mut usize) -> Option<Stop> {
        let (request, bytes) = match wire::frame::parse(&input[*read..], &mut self.users) {
            Parsed::Request(request, bytes) => (request, bytes),
            Parsed::Incomplete | Parsed::Continue => return Some(Stop::Incomplete),
            Parsed::Rejected(rejection) => return self.refuse(connection, &rejection, input.len(), read),
        };
        if !self.is_turned_away(connection, &request) && !self.look_up_or_handle(connection, &request) {
            self.take_back(connection, &request);
            return Some(Stop::Await);
        }
        self.connections[connection].frames += 1;
        *read += bytes;
        None
    }

    /// Puts a plain lookup of this shard's into the pipeline, and handles everything else. `false` as of [`Shard::handle`].
    #[inline]
    fn look_up_or_handle(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let Some(lookup) = self.local_lookup(connection, request) else {
            return self.handle(connection, request);
        };
        self.make_room_for(&lookup);
        self.connections[connection].owe_usual(1);
        self.look_up(lookup);
        true
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
            asker: connection,
            to: request.reply_to,
            user,
            aspect,
            guess: Guess::NOBODY,
        })
    }

    /// Statistics may need more than was kept for them: where all that are under way might overshoot, those are written first.
    fn make_room_for(&mut self, lookup: &Lookup) {
        if let Aspect::Statistics(_) = lookup.aspect
            && self.connections[lookup.asker].may_overshoot(self.responder.statistics_bytes)
        {
            self.finish_lookups();
        }
    }

    /// Puts a lookup into the pipeline, which moves on when a group is whole.
    #[inline(always)]
    pub(super) fn look_up(&mut self, lookup: Lookup) {
        if self.begin(lookup) {
            self.move_pipeline();
        }
    }

    /// Asks for a lookup's line of the index, and puts it into the pipeline; whether that must move on.
    #[inline(always)]
    pub(super) fn begin(&mut self, lookup: Lookup) -> bool {
        self.responder.table.prefetch(lookup.user);
        self.pipeline.push(lookup)
    }

    /// Answers all lookups that are under way.
    pub(super) fn finish_lookups(&mut self) {
        while !self.pipeline.is_empty() {
            self.move_pipeline();
        }
        self.pipeline.rewind();
    }

    /// All lookups that are under way go through their next pass.
    fn move_pipeline(&mut self) {
        let answer = self.pass_pipeline();
        for of_one in self.pipeline.at(answer).chunk_by(|one, next| one.asker == next.asker) {
            let session = &mut self.connections[of_one[0].asker];
            session.pay_usual(of_one.len());
            if let Format::Resp(_) = of_one[0].to.format {
                self.responder.values(&mut session.out, of_one);
                continue;
            }
            for Lookup { to, user, aspect, guess, .. } in of_one {
                self.responder.account(&mut session.out, to, Via::Connection, *user, *aspect, *guess);
            }
        }
    }

    /// Asks for the memory that the lookups under way need next; which of them are to be answered now.
    #[inline(always)]
    pub(super) fn pass_pipeline(&mut self) -> Range<usize> {
        let Step { probe, answer } = self.pipeline.step();
        let table = &self.responder.table;
        for lookup in self.pipeline.at(probe) {
            lookup.guess = table.guess(lookup.user);
        }
        for lookup in self.pipeline.at(answer.clone()) {
            if let Aspect::Statistics(_) = lookup.aspect {
                table.prefetch_statistics(lookup.guess);
            }
        }
        answer
    }

    /// HTTP answers in order: a request is read only once the one before it has been answered. The last that has come goes into the
    /// pipeline, if it is a lookup, beside those of other connections.
    /// Out of line: its room on the stack is none of the frames' loop's.
    #[inline(never)]
    fn read_http(&mut self, connection: u32, input: &[u8]) -> (usize, Stop) {
        let way = self.connections[connection].listener.way();
        let mut read = 0;
        loop {
            if self.connections[connection].is_closing() {
                return (input.len(), Stop::Ended);
            }
            if read == input.len() {
                return (read, Stop::Incomplete);
            }
            if self.connections[connection].owed() > 0 {
                self.finish_lookups();
            }
            let session = &mut self.connections[connection];
            if session.owed() > 0 {
                return (read, Stop::Await);
            }
            if session.frames >= FRAMES_PER_TURN {
                return (read, Stop::Turn);
            }
            if session.unsent() >= UNSENT_BYTES_MAX {
                return (read, Stop::Unsent);
            }
            session.frames += 1;
            match wire::http::parse(&input[read..], &mut self.users) {
                Parsed::Request(mut request, bytes) => {
                    request.reply_to = request.reply_to.by(way);
                    if self.is_draining() && read + bytes == input.len() {
                        // The last that has come: its answer announces the end (RFC 9112, section 9.6).
                        request.reply_to = request.reply_to.closing();
                    }
                    if !self.is_unproved(connection, &request)
                        && !self.is_turned_away(connection, &request)
                        && !self.look_up_or_handle(connection, &request)
                    {
                        self.take_back(connection, &request);
                        return (read, Stop::Await);
                    }
                    self.responder.metrics.http_requests.add(1);
                    read += bytes;
                    if request.reply_to.closes() {
                        self.connections[connection].ending = Ending::Closing;
                    }
                }
                Parsed::Incomplete => return (read, Stop::Incomplete),
                Parsed::Continue => {
                    self.connections.out(connection).extend_from_slice(wire::http::CONTINUE);
                    return (read, Stop::Incomplete);
                }
                Parsed::Rejected(mut rejection) => {
                    if self.is_draining()
                        && rejection.consumed.is_none_or(|bytes| read + bytes >= input.len())
                    {
                        rejection.reply_to = rejection.reply_to.closing();
                    }
                    if let Some(stop) = self.refuse(connection, &rejection, input.len(), &mut read) {
                        return (read, stop);
                    }
                }
            }
        }
    }

    pub(super) fn refuse(
        &mut self,
        connection: u32,
        rejection: &Rejection,
        here: usize,
        read: &mut usize,
    ) -> Option<Stop> {
        self.responder.rejection(self.connections.out(connection), rejection);
        let session = &mut self.connections[connection];
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
    pub(super) fn handle(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let (to, freshness) = (request.reply_to, request.freshness);
        match request.query {
            Query::Ping(payload) => {
                self.responder.ping(self.connections.out(connection), to, payload);
                true
            }
            Query::Hello { token, .. } => {
                self.greet(connection, to, token);
                true
            }
            Query::Nodes { since } => {
                let told = self.greeting.nodes.as_ref().map(|nodes| nodes.answer(since));
                self.responder.nodes(self.connections.out(connection), &to, told);
                true
            }
            Query::Chat(chat) => {
                let answer = self.greeting.to(&self.connections[connection], connection, &self.responder);
                self.responder.chat(self.connections.out(connection), to, chat, &answer);
                true
            }
            Query::Balance(user) => self.ask(connection, to, freshness, Question::Balance(user)),
            Query::Statistics(user, windows) => {
                self.ask(connection, to, freshness, Question::Statistics(user, windows))
            }
            Query::Balances => self.gather(connection, to, freshness),
        }
    }

    /// Tells a caller of the node.
    pub(super) fn answer_hello(&mut self, connection: u32, to: ReplyTo) {
        let answer = self.greeting.to(&self.connections[connection], connection, &self.responder);
        self.responder.hello(self.connections.out(connection), to, &answer);
        if let Format::Resp(RespReply { version, shape: RespShape::Greeting }) = to.format {
            self.connections[connection].protocol = Some(Protocol::Resp(version));
        }
    }

    pub(super) fn ask(
        &mut self,
        connection: u32,
        to: ReplyTo,
        freshness: Freshness,
        question: Question,
    ) -> bool {
        let (user, aspect) = question.single().expect("a batch is split by owner instead");
        let user = user.hashed();
        let owner = user.shard(self.responder.shards);
        let bytes = match aspect {
            Aspect::Statistics(_) => self.responder.statistics_bytes - ANSWER_BYTES,
            Aspect::Balance => 0,
        };
        if self.forwarding.link(owner).is_some() && freshness == Freshness::default() {
            self.connections[connection].owe_usual(1);
            let is_passed = self.pass_on(connection, to, user, aspect, bytes);
            if !is_passed {
                self.connections[connection].pay_usual(1);
                self.wait_for_link(connection);
            }
            return is_passed;
        }
        let mut may_wait = self.may_wait(connection, &freshness);
        if let Some(peer) = self.forwarding.link(owner) {
            may_wait &= peer.may_wait();
            if !may_wait && !peer.may_ask() {
                self.wait_for_link(connection);
                return false;
            }
        }
        let ticket = self.connections[connection].owe(connection, bytes, may_wait);
        self.put_to(owner, ticket, to, freshness, question);
        true
    }

    /// The link that a connection's next question takes has no room.
    #[cold]
    fn wait_for_link(&mut self, connection: u32) {
        self.forwarding.block(connection);
        self.responder.metrics.links_full.add(1);
    }

    /// Puts a question to its owner, which may be this shard.
    fn put_to(
        &mut self,
        owner: ShardIndex,
        ticket: Ticket,
        reply_to: ReplyTo,
        freshness: Freshness,
        question: Question,
    ) {
        let asked_by_us = self.follow.asked_by_us;
        let is_here = self.forwarding.link(owner).is_none();
        let buffer = if is_here { Vec::new() } else { self.spare_buffer() };
        let ask = Ask { ticket, reply_to, freshness, asked_by_us, question, buffer };
        if is_here {
            self.take_in(Destination::Here(ticket), ask);
        } else {
            self.forwarding.ask(owner, ask);
            self.responder.metrics.forwarded.add(1);
        }
    }

    /// Whether one more question of a connection's may wait for its freshness.
    fn may_wait(&self, connection: u32, freshness: &Freshness) -> bool {
        freshness.wait_ms > 0 && self.connections[connection].may_wait()
    }

    /// Splits the batch in `self.users` by owner.
    pub(super) fn gather(&mut self, connection: u32, to: ReplyTo, freshness: Freshness) -> bool {
        let shards = self.responder.shards;
        let mut by_owner: Vec<Vec<UserId>> = vec![Vec::new(); usize::from(shards)];
        for &user in &self.users {
            by_owner[usize::from(user.shard(shards).0)].push(user);
        }
        let all = |allows: fn(&PeerLink) -> bool| {
            (0..shards)
                .map(ShardIndex)
                .filter(|owner| !by_owner[usize::from(owner.0)].is_empty())
                .all(|owner| self.forwarding.link(owner).is_none_or(allows))
        };
        let may_wait = self.may_wait(connection, &freshness) && all(PeerLink::may_wait);
        if !may_wait && !all(PeerLink::may_ask) {
            self.wait_for_link(connection);
            return false;
        }
        let bytes = self.users.len() * ANSWER_BYTES;
        let ticket = self.connections[connection].owe(connection, bytes, may_wait);
        let gather = self.forwarding.begin_gather(to, &self.users, &by_owner);
        for (owner, users) in (0..shards).map(ShardIndex).zip(by_owner).filter(|(_, users)| !users.is_empty())
        {
            self.put_to(owner, ticket, to, freshness, Question::Part { gather, users });
        }
        true
    }
}
