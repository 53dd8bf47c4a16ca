//! One client's connection: what it sends, in which pieces, how slowly it reads, and how it ends.

mod progress;

use std::collections::VecDeque;

use florin_core::shard::{Listener, Principal, Rights};

use super::Fault;
use super::auditor::{AtRest, Auditor, Case, Floors, Seen, Verdict};
use super::ledger::Ledger;
use super::node::{Completion, Node, What};
use super::random::Random;
use super::reply::{self, Outcome, Read, Reply};
use super::request::{self, Ask, Expects, Flood, Freshness, Invalid, Request};

/// As the shard has them: when silence in the middle of a request, and quiet while draining, end a connection.
const PARTIAL_REQUEST_US: u64 = 10_000_000;
const DRAIN_QUIET_US: u64 = 50_000;
/// When a draining shard waits no more for half a request, and for a caller that reads nothing.
const DRAIN_ANSWER_US: u64 = 1_000_000;
const DRAIN_STALL_US: u64 = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Waiting,
    Open,
    InputEnded,
    Gone,
}

/// How a client ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plan {
    /// It stays until the simulation ends.
    Stay,
    /// It shuts down its side once it has sent everything, whatever is still unanswered.
    HalfClose,
    /// It goes at any time.
    Vanish,
    /// It sends half a request and falls silent.
    FallSilent,
    /// It sends bytes that mean nothing.
    Babble,
}

/// A moment of the simulation.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub step: u64,
    pub monotonic_us: u64,
}

/// Where a request lies in the client's stream, and when its first and its last byte reached the shard.
#[derive(Debug)]
struct Segment {
    begins: usize,
    ends: usize,
    first: Option<Mark>,
    last: Option<Mark>,
}

struct Pending {
    request: Request,
    floors: Floors,
    segment: usize,
    /// Its `100 Continue` has come.
    continued: bool,
    at_rest: Option<AtRest>,
}

pub struct Client {
    pub id: usize,
    pub seat: usize,
    pub slot: usize,
    pub state: State,
    is_http: bool,
    listener: Listener,
    principal: Principal,
    /// The node knows who it is.
    is_known: bool,
    plan: Plan,
    /// Requests it may have unanswered, and those that it has still to make.
    depth: usize,
    pub quota: usize,
    /// Percent of its chances to read that it takes.
    eagerness: usize,
    /// The longest piece that it sends.
    piece: usize,
    stream: Vec<u8>,
    handed_over: usize,
    delivered: usize,
    barriers: VecDeque<usize>,
    segments: Vec<Segment>,
    pending: VecDeque<Pending>,
    received: Vec<u8>,
    /// Bytes of answers that were read out, and taken from the shard: at which step up to where.
    consumed: usize,
    taken: VecDeque<(usize, u64)>,
    taken_bytes: usize,
    /// It makes as many requests as it can, all of a kind.
    flood: Option<Flood>,
    /// It will make no further request.
    is_finished: bool,
    babbles: bool,
    /// An answer after which the server closes has come.
    was_told_to_close: bool,
    /// The request of which it sends only a part, and that it was answered 408 for it, or for one that came too slowly.
    fragment: Option<Request>,
    was_timed_out: bool,
}

/// What a client needs of the world to act.
pub struct Surroundings<'a> {
    pub node: &'a mut Node,
    pub ledger: &'a Ledger,
    pub auditor: &'a mut Auditor,
    pub random: &'a mut Random,
    pub fault: Fault,
    /// A tampered reply was read: the run must fail.
    pub tampered: &'a mut bool,
}

impl Client {
    pub fn new(id: usize, seat: usize, slot: usize, random: &mut Random) -> Client {
        let plan = match random.below(12) {
            0 | 1 => Plan::HalfClose,
            2 | 3 => Plan::Vanish,
            4 => Plan::FallSilent,
            5 => Plan::Babble,
            _ => Plan::Stay,
        };
        let quota = match random.below(15) {
            0 => random.between(100, 300),
            _ => random.between(1, 25),
        };
        Client {
            id,
            seat,
            slot,
            state: State::Waiting,
            is_http: random.percent(35),
            listener: random.pick(&[Listener::Any, Listener::Shard, Listener::Unix]),
            principal: match random.below(40) {
                0 => Principal::anonymous(Rights::NONE),
                1 => Principal::known(1, Rights::NONE),
                2 => Principal::known(2, random.pick(&[Rights::BALANCE, Rights::STATISTICS, Rights::BATCH])),
                3 => Principal::known(3, Rights::ALL),
                _ => Principal::ANONYMOUS,
            },
            is_known: random.percent(95),
            plan,
            depth: random.pick(&[1, 4, 20, 300]),
            quota: quota as usize,
            eagerness: random.pick(&[2, 30, 100, 100]),
            piece: random.pick(&[1, 7, 40, 1_024, 100_000]),
            stream: Vec::new(),
            handed_over: 0,
            delivered: 0,
            barriers: VecDeque::new(),
            segments: Vec::new(),
            pending: VecDeque::new(),
            received: Vec::new(),
            consumed: 0,
            taken: VecDeque::new(),
            taken_bytes: 0,
            flood: None,
            is_finished: false,
            babbles: false,
            was_told_to_close: false,
            fragment: None,
            was_timed_out: false,
        }
    }

    /// A well-behaved one, which asks shard `seat` about every user once the ledger has come to rest.
    pub fn last(id: usize, seat: usize, slot: usize, is_http: bool, random: &mut Random) -> Client {
        Client {
            is_http,
            listener: Listener::Any,
            principal: Principal::ANONYMOUS,
            is_known: true,
            plan: Plan::HalfClose,
            depth: 1_000,
            quota: 0,
            eagerness: 100,
            piece: 10_000,
            ..Client::new(id, seat, slot, random)
        }
    }

    /// One that asks faster than anyone can answer.
    pub fn flooding(id: usize, seat: usize, slot: usize, flood: Flood, random: &mut Random) -> Client {
        Client {
            is_http: false,
            principal: Principal::ANONYMOUS,
            is_known: true,
            plan: Plan::Stay,
            depth: usize::MAX,
            quota: random.between(300, 600) as usize,
            eagerness: 100,
            piece: 100_000,
            flood: Some(flood),
            ..Client::new(id, seat, slot, random)
        }
    }

    /// Does one thing, if there is any; whether it did.
    pub fn act(&mut self, around: &mut Surroundings<'_>) -> Result<bool, String> {
        match self.state {
            State::Gone => return Ok(false),
            State::Waiting => {
                self.state = State::Open;
                let principal = self.is_known.then_some(self.principal);
                self.complete(around.node, What::Opened(self.listener, principal));
                return Ok(true);
            }
            State::Open | State::InputEnded => {}
        }
        if !self.is_known && around.random.one_in(3) {
            self.identify(around.node);
            return Ok(true);
        }
        if self.plan == Plan::Vanish && around.random.one_in(40) {
            self.leave(around.node);
            return Ok(true);
        }
        let wants_to_read = around.random.percent(self.eagerness);
        if wants_to_read && self.read(around)? {
            return Ok(true);
        }
        if self.state == State::Open {
            if self.quota > 0 && self.pending.len() < self.depth && !self.is_finished {
                let requests = if self.flood.is_some() { self.quota.min(60) } else { 1 };
                (0..requests).for_each(|_| self.make_request(around));
                return Ok(true);
            }
            if self.send(around) {
                return Ok(true);
            }
            if self.plan == Plan::HalfClose && self.quota == 0 && self.handed_over == self.stream.len() {
                self.end_input(around.node);
                return Ok(true);
            }
        }
        self.read(around)
    }

    pub fn end_input(&mut self, node: &mut Node) {
        self.state = State::InputEnded;
        self.complete(node, What::InputEnded);
    }

    /// The handshake, which others carry out, ends: it is known who this is.
    pub fn identify(&mut self, node: &mut Node) {
        let is_there = matches!(self.state, State::Open | State::InputEnded);
        if is_there && !std::mem::replace(&mut self.is_known, true) {
            self.complete(node, What::Identified(self.principal));
        }
    }

    /// Goes without a word.
    pub fn leave(&mut self, node: &mut Node) {
        self.state = State::Gone;
        self.complete(node, What::Gone);
    }

    /// Makes no further request.
    pub fn finish(&mut self) {
        self.quota = 0;
        self.eagerness = 100;
        self.plan = if self.plan == Plan::Vanish { Plan::Stay } else { self.plan };
    }

    /// Whether nothing is owed to it any more.
    pub fn is_served(&self) -> bool {
        self.state == State::Gone
            || (self.pending.is_empty() && self.state == State::Open && !self.is_ending())
    }

    /// Whether its connection will be closed without its doing any more.
    fn is_ending(&self) -> bool {
        self.was_told_to_close
            || self.was_timed_out
            || self.segments.last().is_some_and(|segment| segment.last.is_none())
    }

    /// Whether it sent what may mean anything, so that nobody knows what will become of its connection.
    pub fn is_unpredictable(&self) -> bool {
        self.babbles
    }

    /// Whether it only waits for the shard to lose patience.
    pub fn is_silent(&self) -> bool {
        self.pending.is_empty() && self.is_ending()
    }

    fn complete(&self, node: &mut Node, what: What) {
        let completion = Completion { slot: self.slot, client: self.id, what };
        node.seats[self.seat].completions.push_back(completion);
    }

    fn make_request(&mut self, around: &mut Surroundings<'_>) {
        let id = around.random.next();
        self.quota -= 1;
        let (request, encoded) = match self.flood {
            Some(flood) => request::of_flood(around.random, around.ledger, id, flood),
            None => request::random(around.random, around.ledger, id, self.is_http),
        };
        if self.quota == 0 && self.plan == Plan::FallSilent {
            self.fragment = Some(request.clone());
            let cut = 1 + around.random.below(encoded.bytes.len() - 1);
            self.append(&encoded.bytes[..cut], usize::MAX);
            self.is_finished = true;
            // Half of these may already be answered.
            self.babbles = matches!(request.ask, Ask::Invalid(_)) || request.expects == Expects::Continue;
            return;
        }
        if self.quota == 0 && self.plan == Plan::Babble {
            let bytes: Vec<u8> =
                (0..around.random.between(1, 100)).map(|_| around.random.next() as u8).collect();
            self.append(&bytes, usize::MAX);
            (self.is_finished, self.babbles) = (true, true);
            return;
        }
        self.push(request, encoded, around.auditor, None);
    }

    /// Asks for the whole of a user's history once the ledger has come to rest.
    pub fn ask_at_rest(&mut self, ask: Ask, version: u64, at_rest: AtRest, around: &mut Surroundings<'_>) {
        let formats = [request::Format::Rkyv, request::Format::FlatBuffers];
        let request = Request {
            id: around.random.next(),
            ask,
            format: if self.is_http { request::Format::Json } else { around.random.pick(&formats) },
            freshness: Freshness { min_version: version, max_age_ms: 0, wait_ms: 1_000 },
            closes: false,
            expects: Expects::Nothing,
        };
        let encoded = request::encode(&request, around.random);
        self.push(request, encoded, around.auditor, Some(at_rest));
    }

    fn push(
        &mut self,
        request: Request,
        encoded: request::Encoded,
        auditor: &mut Auditor,
        at_rest: Option<AtRest>,
    ) {
        if let Some(barrier) = encoded.barrier {
            self.barriers.push_back(self.stream.len() + barrier);
        }
        // Nothing behind what ends the connection is answered.
        self.is_finished |= request.ends_connection();
        let segment = self.segments.len();
        self.append(&encoded.bytes, self.stream.len() + encoded.bytes.len());
        let floors = auditor.floors(&request);
        self.pending.push_back(Pending { request, floors, segment, continued: false, at_rest });
    }

    fn append(&mut self, bytes: &[u8], ends: usize) {
        self.segments.push(Segment { begins: self.stream.len(), ends, first: None, last: None });
        self.stream.extend_from_slice(bytes);
    }

    /// Hands a piece of its stream to the kernel, where the shard takes input.
    fn send(&mut self, around: &mut Surroundings<'_>) -> bool {
        let line = around.node.seats[self.seat].lines[self.slot].as_mut();
        let Some(line) = line.filter(|line| line.client == self.id && line.intake) else { return false };
        let end = self.barriers.front().copied().unwrap_or(self.stream.len());
        if self.handed_over >= end {
            return false;
        }
        let goes_on = line.takes_piece(around.random);
        let bytes = (1 + around.random.below(self.piece)).min(end - self.handed_over);
        let piece = self.stream[self.handed_over..self.handed_over + bytes].to_vec();
        self.handed_over += bytes;
        self.complete(around.node, What::Received(piece, goes_on));
        true
    }

    /// Reads some of what the shard has sent, and judges the answers that are whole.
    fn read(&mut self, around: &mut Surroundings<'_>) -> Result<bool, String> {
        let line = around.node.seats[self.seat].lines[self.slot].as_mut();
        let Some(line) = line.filter(|line| line.client == self.id && line.read < line.in_flight.len())
        else {
            return Ok(false);
        };
        let here = line.in_flight.len() - line.read;
        let bytes = if around.random.percent(60) { here } else { 1 + around.random.below(here) };
        self.received.extend_from_slice(&line.in_flight[line.read..line.read + bytes]);
        line.read += bytes;
        self.complete(around.node, What::Sent(bytes));
        while self.read_one(around)? {}
        Ok(true)
    }

    fn read_one(&mut self, around: &mut Surroundings<'_>) -> Result<bool, String> {
        if self.pending.is_empty() && self.babbles {
            // Whatever this answers, it was not a request.
            self.received.clear();
            return Ok(false);
        }
        let (reply, bytes, index) = if self.is_http {
            let Some(front) = self.pending.front_mut() else { return self.read_time_out() };
            match reply::http(&self.received, &front.request)? {
                Read::Incomplete => return Ok(false),
                Read::Continue(bytes) => {
                    if front.request.expects != Expects::Continue || front.continued {
                        return Err(format!("100 Continue, unasked or twice: {:?}", front.request));
                    }
                    front.continued = true;
                    around.auditor.seen.note("asked to continue", 1);
                    self.barriers.pop_front();
                    self.consume(bytes);
                    return Ok(true);
                }
                Read::Reply(reply, bytes) if reply.status == Outcome::Http(408) => {
                    return self.time_out(&reply, bytes);
                }
                Read::Reply(reply, bytes) => (*reply, bytes, 0),
            }
        } else {
            let Some(bytes) = reply::frame_bytes(&self.received) else { return Ok(false) };
            self.tamper(bytes, around);
            let reply = reply::frame(&self.received[..bytes])?;
            let is_for = |pending: &Pending| self.answers(pending, &reply);
            match self.pending.iter().position(is_for) {
                Some(index) => (reply, bytes, index),
                None if self.babbles => {
                    self.consume(bytes);
                    return Ok(true);
                }
                None => return Err(format!("an answer to no request, or a second one: {reply:?}")),
            }
        };
        let last = self.consume(bytes);
        let pending = self.pending.remove(index).expect("it was just found");
        if self.is_http && pending.request.expects == Expects::Continue && !pending.continued {
            self.barriers.pop_front();
        }
        self.judge(&pending, &reply, last, around)?;
        Ok(true)
    }

    /// What may be answered to a request of which only a part was sent.
    fn read_time_out(&mut self) -> Result<bool, String> {
        let Some(fragment) = self.fragment.as_ref().filter(|_| !self.received.is_empty()) else {
            return if self.received.is_empty() { Ok(false) } else { Err("an answer to nothing".to_owned()) };
        };
        match reply::http(&self.received, fragment)? {
            Read::Incomplete => Ok(false),
            Read::Continue(_) => Err("100 Continue for half a request".to_owned()),
            Read::Reply(reply, bytes) => self.time_out(&reply, bytes),
        }
    }

    /// It is told that the rest of its request has not come in time; the end of its connection says whether that is so.
    fn time_out(&mut self, reply: &Reply, bytes: usize) -> Result<bool, String> {
        if reply.status != Outcome::Http(408) || !reply.closes || self.was_timed_out {
            return Err(format!("no answer to a part of a request: {reply:?}"));
        }
        (self.was_timed_out, self.is_finished) = (true, true);
        self.consume(bytes);
        Ok(true)
    }

    fn answers(&self, pending: &Pending, reply: &Reply) -> bool {
        // Where a length is illegal the rest of the header need not have come.
        let is_closing = matches!(pending.request.ask, Ask::Invalid(Invalid { closes: true, .. }));
        reply.id == Some(pending.request.id) || is_closing && reply.id == Some(0)
    }

    fn judge(
        &mut self,
        pending: &Pending,
        reply: &Reply,
        last: u64,
        around: &mut Surroundings<'_>,
    ) -> Verdict {
        let segment = &self.segments[pending.segment];
        let is_refused = matches!(pending.request.ask, Ask::Invalid(_));
        // A refusal may come as soon as the beginning shows what is wrong.
        let Some(first) = segment.last.or(segment.first.filter(|_| is_refused)) else {
            return Err(format!("answered before it was asked: {:?}", pending.request));
        };
        self.was_told_to_close |= pending.request.ends_connection() || reply.closes;
        self.is_finished |= self.was_told_to_close;
        let case = Case {
            request: &pending.request,
            floors: &pending.floors,
            home: self.seat,
            on_unix: self.listener == Listener::Unix,
            principal: self.principal,
            first: first.step,
            last,
            at_rest: pending.at_rest,
        };
        around.auditor.check(&case, reply, around.node, around.ledger)
    }

    /// Changes one bit of a balance on its way, where the simulation is to find that out.
    fn tamper(&mut self, bytes: usize, around: &mut Surroundings<'_>) {
        let is_balance = self.received[5..8] == [1, 1, 0];
        if around.fault == Fault::TamperedReply && is_balance && !*around.tampered && !self.babbles {
            let bit = 32 + around.random.below(8 * bytes - 32);
            self.received[bit / 8] ^= 1 << (bit % 8);
            *around.tampered = true;
        }
    }

    /// Drops `bytes` of what was received; the step at which the last of them was taken from the shard.
    fn consume(&mut self, bytes: usize) -> u64 {
        self.received.drain(..bytes);
        self.consumed += bytes;
        while self.taken.front().is_some_and(|&(end, _)| end < self.consumed) {
            self.taken.pop_front();
        }
        self.taken.front().expect("what was received had been taken").1
    }

    /// What it waits for, for the message of a failure.
    pub fn describe(&self) -> String {
        let first = self.pending.front().map(|pending| (&pending.request, &self.segments[pending.segment]));
        format!(
            "client {} ({:?}, {:?}, http: {}) on shard {}: {} of {} bytes delivered, {} unanswered, first {first:?}",
            self.id,
            self.state,
            self.plan,
            self.is_http,
            self.seat,
            self.delivered,
            self.stream.len(),
            self.pending.len(),
        )
    }
}
