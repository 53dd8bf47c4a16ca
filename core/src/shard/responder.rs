//! The part of a shard that answers: it knows the table and the time, and nothing of connections or neighbours.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};
use florin_schema::{HashedUser, Opcode, ShardIndex, Status, UserId, Version, Window, WindowMask};

use super::forwarding::gather::{Gather, push_balance, push_status, push_without_beginning};
use super::forwarding::question::{Aspect, Question};
use super::forwarding::waiting::first_unmet;
use super::holdings::{NO_MAP, NO_NODES, Share};
use super::metrics::ShardMetrics;
use super::pipeline::Lookup;
use super::table::{Found, Guess, Table, Trust};
use crate::clock::Now;
use crate::ledger::Horizon;
use crate::limits::{ANSWER_BYTES, LOOKUPS_PER_GROUP, WAIT_MS_MAX};
use crate::wire::resp::Chat;
use crate::wire::{
    AssetTotals, Encoder, Format, Freshness, HelloAnswer, NotOwner, Origin, Rejection, ReplyTo, Request,
    RespReply, RespShape, StatisticsAnswer,
};

/// How a question reached the shard that answers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Via {
    /// From a connection of its own.
    Connection,
    /// From another shard.
    Mesh,
}

/// What somebody is told who has waited, while the user's partition has moved.
const NOT_HAD: &str = "user_id: this node is giving this user up or taking it over: ask again";
/// The window that no clock moves.
const LIFETIME: WindowMask = WindowMask::new(1 << Window::Lifetime as u8).expect("a window");

/// Why an account is not shown that lacks its first transaction: nothing and 1970 would be a guess.
const WITHOUT_BEGINNING: &str = "this account's history is not complete yet: the ledger names the user, but the account's first transaction is \
     missing or cannot be applied; ask again in a moment";
/// The same, once that is known to be of no use.
const WITHOUT_BEGINNING_LASTING: &str = "this account's history is not complete: the ledger names the user, but lacks the account's first \
     transaction, or it cannot be applied; to ask again is of no use until the ledger is mended";

pub(super) struct Responder {
    pub index: ShardIndex,
    pub shards: u16,
    pub table: Table,
    pub metrics: Arc<ShardMetrics>,
    pub horizon: Horizon,
    /// The watermark, and how long ago it was taken.
    pub as_of_us: i64,
    pub age_us: u64,
    /// Why no data may be answered at the moment.
    pub unavailable: Option<&'static str>,
    /// What every reply says of the node: REPLY_DRAINING, once it is ending.
    pub announces: u16,
    /// Accounts that the feed is to be asked for, each once.
    pub rereads: Vec<UserId>,
    /// Answers of this turn, by opcode and status.
    counts: [[u64; Status::ALL.len()]; Opcode::ALL.len()],
    /// Whose users are answered about.
    pub share: Share,
    pub encoder: Encoder,
    /// The most that a frame with one user's statistics has needed yet, and no less than any other answer about one user.
    pub statistics_bytes: usize,
    pub totals: Vec<AssetTotals>,
}

impl Responder {
    pub fn new(index: ShardIndex, shards: u16, metrics: Arc<ShardMetrics>) -> Responder {
        Responder {
            index,
            shards,
            table: Table::new(),
            metrics,
            horizon: Horizon::at(0),
            as_of_us: 0,
            age_us: 0,
            unavailable: None,
            announces: 0,
            rereads: Vec::new(),
            counts: [[0; Status::ALL.len()]; Opcode::ALL.len()],
            share: Share::default(),
            encoder: Encoder::new(),
            statistics_bytes: ANSWER_BYTES,
            totals: Vec::new(),
        }
    }

    fn origin(&self, via: Via, trust: Trust) -> Origin {
        let forwarded = if via == Via::Mesh { REPLY_FORWARDED } else { 0 };
        let quarantined = if trust == Trust::Quarantined { REPLY_QUARANTINED } else { 0 };
        Origin {
            as_of_us: self.as_of_us,
            shard: self.index.0,
            flags: forwarded | quarantined | self.announces,
        }
    }

    /// An answer about one account: one that is incomplete holds what had been committed when it was last whole, and no more.
    #[inline(always)]
    fn origin_of(&self, via: Via, user: UserId, trust: Trust) -> Origin {
        let origin = self.origin(via, trust);
        if trust == Trust::Whole {
            return origin;
        }
        let (as_of_us, flags) = self.of_incomplete(user);
        Origin { as_of_us, flags: origin.flags | flags, ..origin }
    }

    /// The time of which an incomplete account tells, and its flags: two numbers, for a struct would go through memory, and that of whole
    /// accounts with it.
    #[cold]
    #[inline(never)]
    fn of_incomplete(&self, user: UserId) -> (i64, u16) {
        let whole_at = self.table.whole_at(user);
        let as_of_us = whole_at.map_or(self.as_of_us, |whole_at| whole_at.wall_us);
        (as_of_us, self.lasting(user.hashed()))
    }

    /// The flag of a quarantined account that stays so.
    fn lasting(&self, user: HashedUser) -> u16 {
        if self.table.is_lasting(user) { REPLY_LASTING } else { 0 }
    }

    #[inline]
    fn count(&mut self, opcode: Opcode, status: Status) {
        self.counts[opcode as usize][status as usize] += 1;
    }

    /// Whether something was answered in this turn.
    pub fn has_answered(&self) -> bool {
        self.counts.iter().flatten().any(|&count| count > 0)
    }

    /// How much was answered in this turn.
    pub fn answers(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Publishes what was answered in a turn that took so long; whether there was anything.
    pub fn publish_counts(&mut self, took_us: u64) -> bool {
        let mut has_answered = false;
        for (counts, metrics) in self.counts.iter_mut().zip(&self.metrics.opcodes) {
            let all: u64 = counts.iter().sum();
            if all > 0 {
                has_answered = true;
                metrics.service_time.record(took_us, all);
                for (count, answers) in counts.iter_mut().zip(&metrics.answers) {
                    answers.add(core::mem::take(count));
                }
            }
        }
        has_answered
    }

    /// The last pass of a lookup. Copies of `to` and of the origin are made where they are needed: what the rare paths pass on in memory
    /// would be written for all.
    #[inline(always)]
    pub fn account(
        &mut self,
        out: &mut Vec<u8>,
        to: &ReplyTo,
        via: Via,
        user: HashedUser,
        aspect: Aspect,
        guess: Guess,
    ) {
        if let Some(reason) = self.unavailable {
            return self.error(out, to, via, Status::Unavailable, reason);
        }
        let Some(found) = self.table.confirm(user, guess) else {
            return self.error(out, to, via, Status::NotFound, "the ledger has never named this user");
        };
        if found.has_no_beginning() {
            return self.without_beginning(out, to, via, user);
        }
        match aspect {
            Aspect::Balance => {
                let origin = self.origin_of(via, user.id, found.trust);
                self.encoder.balance(out, *to, origin, found.balance);
            }
            Aspect::Statistics(windows) => {
                let (first, last) = self.table.statistics(found, &self.horizon, &mut self.totals);
                let answer = StatisticsAnswer {
                    user_id: user.id,
                    version: Version(found.balance.root.version.get()),
                    windows,
                    first_transaction_at_us: first,
                    last_transaction_at_us: last,
                    assets: &self.totals,
                };
                let exact = self.table.exact(found);
                let is_exact = self.horizon.is_within(exact) || windows == LIFETIME;
                let trust = if is_exact { found.trust } else { Trust::Quarantined };
                let origin = self.origin_of(via, user.id, trust);
                let from = out.len();
                self.encoder.statistics(out, *to, origin, &answer);
                if matches!(to.format, Format::Rkyv | Format::FlatBuffers) {
                    self.statistics_bytes = self.statistics_bytes.max(out.len() - from);
                }
                if !is_exact || self.horizon.nears_end_of(exact) {
                    self.ask_again(user);
                }
            }
        }
        self.count(to.opcode, Status::Ok);
    }

    /// The same for those of one connection over RESP. Out of line, in a loop of their own: what JSON needs in its registers, frames would
    /// do without.
    #[inline(never)]
    pub fn values(&mut self, out: &mut Vec<u8>, lookups: &[Lookup]) {
        for Lookup { to, user, aspect, guess, .. } in lookups {
            // A GET of an account of which nothing is to be said but what it holds.
            if let Format::Resp(RespReply { shape: RespShape::Value, .. }) = to.format
                && *aspect == Aspect::Balance
                && self.unavailable.is_none()
                && let Some(Found { balance, trust: Trust::Whole, .. }) = self.table.confirm(*user, *guess)
            {
                self.encoder.whole_value(out, balance);
                self.count(to.opcode, Status::Ok);
            } else {
                self.account_apart(out, to, *user, *aspect, *guess);
            }
        }
    }

    #[inline(never)]
    fn account_apart(
        &mut self,
        out: &mut Vec<u8>,
        to: &ReplyTo,
        user: HashedUser,
        aspect: Aspect,
        guess: Guess,
    ) {
        self.account(out, to, Via::Connection, user, aspect, guess);
    }

    /// The clock has left, or will soon leave, the time for which the account's windows are held.
    #[cold]
    pub fn ask_again(&mut self, user: HashedUser) {
        if self.table.ask_again(user) {
            self.rereads.push(user.id);
        }
    }

    /// The place, in its question, of a user of whom an answer given now would not satisfy `freshness`; looked for from `from` on.
    pub fn unmet(&self, freshness: &Freshness, question: &Question, from: usize) -> Option<usize> {
        let is_fresh = |user: UserId| self.is_fresh(freshness, user);
        match question {
            Question::Balance(user) | Question::Statistics(user, _) => (!is_fresh(*user)).then_some(0),
            Question::Part { users, .. } => first_unmet(users, from, is_fresh),
        }
    }

    fn is_fresh(&self, freshness: &Freshness, user: UserId) -> bool {
        self.is_young_enough(freshness, user) && self.has_version(freshness, user)
    }

    fn is_young_enough(&self, freshness: &Freshness, user: UserId) -> bool {
        freshness.max_age_ms == 0
            || (self.unavailable.is_none() && self.age_us(user) <= u64::from(freshness.max_age_ms) * 1_000)
    }

    /// Age of what an answer about the user would hold; that of an account which never was whole is beyond all bounds.
    fn age_us(&self, user: UserId) -> u64 {
        match self.table.whole_at(user) {
            None => self.age_us,
            Some(Now { monotonic_us: 0, .. }) => u64::MAX,
            Some(whole_at) => {
                let since_us = self.table.watermark.monotonic_us.saturating_sub(whole_at.monotonic_us);
                self.age_us.saturating_add(since_us)
            }
        }
    }

    fn has_version(&self, freshness: &Freshness, user: UserId) -> bool {
        freshness.min_version == Version(0) || self.table.version(user) >= freshness.min_version
    }

    /// Answers a question about one user: with data where `freshness` holds, else with STALE.
    pub fn answer(
        &mut self,
        out: &mut Vec<u8>,
        to: ReplyTo,
        via: Via,
        freshness: &Freshness,
        user: UserId,
        aspect: Aspect,
    ) {
        if self.share.refusal(user).is_some() {
            return self.not_had(out, &to, via);
        }
        if self.unavailable.is_none() && !self.is_young_enough(freshness, user) {
            let message = format!(
                "max_age_ms {} was asked, and this view is {} ms old{}: allow more{}",
                freshness.max_age_ms,
                self.age_us(user) / 1_000,
                after(freshness.wait_ms),
                or_wait(freshness.wait_ms)
            );
            return self.error(out, &to, via, Status::Stale, &message);
        }
        if self.unavailable.is_none() && !self.has_version(freshness, user) {
            let (asked, held) = (freshness.min_version, self.table.version(user));
            let message = format!(
                "min_version {asked} was asked, and the account is at {held} here{}: ask again{}",
                after(freshness.wait_ms),
                or_wait(freshness.wait_ms)
            );
            return self.error(out, &to, via, Status::Stale, &message);
        }
        let user = user.hashed();
        let guess = self.table.guess(user);
        self.account(out, &to, via, user, aspect, guess);
    }

    /// It was this node's by what the shard goes by that was asked, and is not by what this one does: whoever asks again is told whose it is.
    #[cold]
    pub fn not_had(&mut self, out: &mut Vec<u8>, to: &ReplyTo, via: Via) {
        self.error(out, to, via, Status::Unavailable, NOT_HAD);
    }

    #[cold]
    #[inline(never)]
    fn without_beginning(&mut self, out: &mut Vec<u8>, to: &ReplyTo, via: Via, user: HashedUser) {
        let origin = self.origin(via, Trust::Quarantined);
        let (lasting, message) = match self.lasting(user) {
            0 => (0, WITHOUT_BEGINNING),
            lasting => (lasting, WITHOUT_BEGINNING_LASTING),
        };
        let origin = Origin { flags: origin.flags | lasting, ..origin };
        self.encoder.error(out, *to, origin, Status::Unavailable, message);
        self.count(to.opcode, Status::Unavailable);
    }

    /// Appends the entries of a part of a batch; the oldest time of which one of them tells.
    pub fn part(&self, part: &mut Vec<u8>, freshness: &Freshness, users: &[UserId]) -> i64 {
        let mut as_of_us = self.as_of_us;
        // In groups, as in the pipeline, so that their cache misses overlap.
        for group in users.chunks(LOOKUPS_PER_GROUP) {
            let mut guesses = [Guess::NOBODY; LOOKUPS_PER_GROUP];
            group.iter().for_each(|user| self.table.prefetch(user.hashed()));
            for (guess, user) in guesses.iter_mut().zip(group) {
                *guess = self.table.guess(user.hashed());
            }
            for (&user, &guess) in group.iter().zip(&guesses) {
                as_of_us = as_of_us.min(self.entry(part, freshness, user, guess));
            }
        }
        as_of_us
    }

    /// Appends the entry of one user of a batch; the time of which it tells.
    fn entry(&self, part: &mut Vec<u8>, freshness: &Freshness, user: UserId, guess: Guess) -> i64 {
        let refusal = self.share.refusal(user);
        match self.table.confirm(user.hashed(), guess) {
            _ if refusal.is_some() => push_status(part, refusal.unwrap_or(Status::Unavailable)),
            _ if self.unavailable.is_some() => push_status(part, Status::Unavailable),
            _ if !self.is_fresh(freshness, user) => push_status(part, Status::Stale),
            None => push_status(part, Status::NotFound),
            Some(found) if found.has_no_beginning() => push_without_beginning(part),
            Some(found) => {
                push_balance(part, found.balance, found.trust);
                return self.origin_of(Via::Connection, user, found.trust).as_of_us;
            }
        }
        self.as_of_us
    }

    /// Answers a batch whose parts have all come.
    pub fn batch(&mut self, out: &mut Vec<u8>, gather: &Gather) {
        let (entries, trust) = gather.join(self.shards);
        // Where no shard can answer, the whole batch says so; where one cannot, or one account has nothing to show, its entries do.
        let are_apart = gather.reply_to.opcode == Opcode::GetBalance;
        if !are_apart && entries.iter().all(|entry| entry.status == Status::Unavailable && !entry.quarantined)
        {
            let reason =
                self.unavailable.unwrap_or("no shard that owns one of these users can answer at the moment");
            return self.error(out, &gather.reply_to, Via::Connection, Status::Unavailable, reason);
        }
        let elsewhere = gather.users.iter().any(|user| user.shard(self.shards) != self.index);
        let via = if elsewhere { Via::Mesh } else { Via::Connection };
        let origin = Origin { as_of_us: gather.as_of_us, ..self.origin(via, trust) };
        self.encoder.balances(out, gather.reply_to, origin, &entries);
        match are_apart {
            true => entries.iter().for_each(|entry| self.count(Opcode::GetBalance, entry.status)),
            false => self.count(gather.reply_to.opcode, Status::Ok),
        }
    }

    pub fn hello(&mut self, out: &mut Vec<u8>, to: ReplyTo, answer: &HelloAnswer<'_>) {
        let origin = self.origin(Via::Connection, Trust::Whole);
        self.encoder.hello(out, to, origin, answer);
        self.count(to.opcode, Status::Ok);
    }

    pub fn chat(&mut self, out: &mut Vec<u8>, to: ReplyTo, chat: Chat<'_>, answer: &HelloAnswer<'_>) {
        let origin = self.origin(Via::Connection, Trust::Whole);
        let Format::Resp(RespReply { version, .. }) = to.format else { unreachable!("RESP alone chats") };
        self.encoder.chat(out, version, chat, answer, origin, self.unavailable);
        self.count(to.opcode, Status::Ok);
    }

    /// What is told of the nodes that divide the users with this one.
    pub fn nodes(&mut self, out: &mut Vec<u8>, to: &ReplyTo, told: Option<[&[u8]; 2]>) {
        let Some(told) = told else {
            let (status, message) = match self.share {
                Share::All => (Status::NotFound, NO_NODES),
                Share::Unknown | Share::Some(_) => (Status::Unavailable, NO_MAP),
            };
            return self.error(out, to, Via::Connection, status, message);
        };
        let origin = self.origin(Via::Connection, Trust::Whole);
        self.encoder.nodes(out, *to, origin, told);
        self.count(to.opcode, Status::Ok);
    }

    #[inline]
    pub fn ping(&mut self, out: &mut Vec<u8>, to: ReplyTo, payload: &[u8]) {
        let origin = self.origin(Via::Connection, Trust::Whole);
        self.encoder.ping(out, to, origin, payload);
        self.count(to.opcode, Status::Ok);
    }

    #[cold]
    #[inline(never)]
    pub fn error(&mut self, out: &mut Vec<u8>, to: &ReplyTo, via: Via, status: Status, message: &str) {
        let origin = self.origin(via, Trust::Whole);
        self.encoder.error(out, *to, origin, status, message);
        self.count(to.opcode, status);
    }

    #[cold]
    #[inline(never)]
    pub fn not_owner(
        &mut self,
        out: &mut Vec<u8>,
        to: &ReplyTo,
        request: &Request<'_>,
        answer: &NotOwner<'_>,
    ) {
        let origin = self.origin(Via::Connection, Trust::Whole);
        self.encoder.not_owner(out, *to, origin, request, answer);
        self.count(to.opcode, Status::NotOwner);
    }

    pub fn rejection(&mut self, out: &mut Vec<u8>, rejection: &Rejection) {
        let origin = self.origin(Via::Connection, Trust::Whole);
        self.encoder.rejection(out, origin, rejection);
        self.metrics.rejected.add(1);
    }
}

/// How long a request had waited in vain.
fn after(wait_ms: u32) -> String {
    if wait_ms == 0 { String::new() } else { format!(" after {wait_ms} ms") }
}

/// What else somebody might do who has not waited, or not for as long as one may.
fn or_wait(wait_ms: u32) -> String {
    match wait_ms {
        0 => ", or give a wait_ms".to_owned(),
        WAIT_MS_MAX.. => String::new(),
        _ => format!(", or wait longer: wait_ms may be {WAIT_MS_MAX}"),
    }
}
