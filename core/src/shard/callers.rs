//! Callers that have to prove who they are: by a token, a certificate, or as a process of this host. Whoever keeps the
//! [`Directory`] of them decides who a proof belongs to; here is what follows from it for a connection, over all its life:
//! who it is (`caller.rs`), which directory holds, when its proof ends, how many wrong ones its address may show, and what it has of its
//! quota (`leases.rs`).
//!
//! Frames prove it once, with a Hello, which may come again. Over HTTP every request proves it by its own header; one that is, byte for
//! byte, that of the connection's last request is known without being looked at again.
//!
//! A node without a directory has none of this: everybody is anonymous and may ask everything.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use florin_schema::{Opcode, Status, UserId};

use super::Shard;
use super::principal::{self, Principal};
use super::quota::Quota;
use super::responder::Via;
use super::strikes::{Form, Strikes, Struck};
use crate::clock::Now;
use crate::limits::{DIRECTORIES_QUEUED_MAX, REFUSALS_QUEUED_MAX};
use crate::mesh::{self, Receiver, Sender};
use crate::wire::{Query, ReplyTo, Request};

mod caller;
mod leases;

use self::caller::Caller;
use self::leases::Leases;

/// What somebody shows to prove who it is.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// A Hello's, or an Authorization header's.
    Token(&'a [u8]),
    /// A client certificate that was verified.
    Certificate {
        /// Its URI and DNS names.
        names: &'a [&'a str],
        /// When it ends, µs since 1970 UTC.
        until_us: i64,
    },
    /// The process at the other end of a unix socket.
    Process {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Knows callers. It is asked on shards' threads, so it neither allocates, nor locks, nor makes a system call.
pub trait Directory: Send + Sync {
    /// Whose proof this is at `wall_us`, µs since 1970 UTC; `None` where it is nobody's.
    fn principal(&self, proof: Proof<'_>, wall_us: i64) -> Option<Principal>;

    /// What a token looks like, whosesoever it is.
    fn form(&self, _token: &[u8]) -> Form {
        Form::Any
    }

    /// What has become of one that this directory, or one before it, has named: it with what it may do now, or whoever has proved
    /// nothing where its proof holds no more.
    fn again(&self, principal: Principal, wall_us: i64) -> Principal;

    /// Whoever has proved nothing.
    fn anonymous(&self) -> Principal;

    /// How much of the node one with this number may use; `None` where it is not known.
    fn quota(&self, number: u16) -> Option<&Quota>;
}

/// A request that was refused for who made it: what an audit log has of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// When, µs since 1970 UTC.
    pub at_us: i64,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
    /// By whom, if it has proved that.
    pub principal: Option<u16>,
    /// What was asked.
    pub opcode: Opcode,
    /// Of whom; `None` where it was not about one user.
    pub user: Option<UserId>,
    /// How it was refused.
    pub status: Status,
}

/// A shard's side of the link to whoever keeps the directory.
pub struct CallersLink {
    directory: Arc<dyn Directory>,
    news: Receiver<Arc<dyn Directory>>,
    refusals: Sender<Refused>,
}

/// The other side.
pub struct CallersPort {
    /// Directories that take the place of the one before. The shard must be woken.
    pub news: Sender<Arc<dyn Directory>>,
    /// What was refused, in order.
    pub refusals: Receiver<Refused>,
}

/// Both sides of a link, on which `directory` holds at first.
pub fn callers_link(directory: Arc<dyn Directory>) -> (CallersPort, CallersLink) {
    let (news, shard_news) = mesh::ring(DIRECTORIES_QUEUED_MAX);
    let (shard_refusals, refusals) = mesh::ring(REFUSALS_QUEUED_MAX);
    (CallersPort { news, refusals }, CallersLink { directory, news: shard_news, refusals: shard_refusals })
}

/// Why nothing was proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unproved {
    /// There was nothing to look at.
    Missing,
    /// An Authorization header of another kind.
    Scheme,
    /// Nobody's, or one whose time is over.
    Wrong,
    /// Not looked at: the address has shown too many wrong ones.
    TooManyWrong,
    /// It has as many connections as it may.
    Connections,
}

impl Unproved {
    fn told(self) -> (Status, &'static str) {
        let missing = principal::message(Status::Unauthenticated, Opcode::Hello);
        match self {
            Unproved::Missing => (Status::Unauthenticated, missing),
            Unproved::Scheme => {
                (Status::Unauthenticated, "authorization: expected Bearer, one space and a token")
            }
            Unproved::Wrong => (
                Status::Unauthenticated,
                "token: expected one that this node knows and whose time is not over",
            ),
            Unproved::TooManyWrong => (
                Status::Overloaded,
                "token: too many wrong ones have come from this address; ask again in a second, with the right one",
            ),
            Unproved::Connections => (
                Status::Overloaded,
                "connections: this caller has as many open as it may; close one, or ask whoever runs this node for more",
            ),
        }
    }
}

/// See the module.
pub(super) struct Callers {
    directory: Arc<dyn Directory>,
    news: Receiver<Arc<dyn Directory>>,
    refusals: Sender<Refused>,
    /// By connection.
    callers: Vec<Caller>,
    leases: Leases,
    strikes: Strikes,
    /// When the first proof ends, µs since 1970 UTC.
    next_end_us: i64,
}

impl Callers {
    fn new(CallersLink { directory, news, refusals }: CallersLink) -> Callers {
        let strikes = Strikes::default();
        let (callers, leases) = (Vec::new(), Leases::default());
        Callers { directory, news, refusals, callers, leases, strikes, next_end_us: i64::MAX }
    }

    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    fn at(&mut self, connection: u32) -> &mut Caller {
        self.of(connection).1
    }

    /// What is known of a connection's caller, beside whom to ask about it.
    fn of(&mut self, connection: u32) -> (&dyn Directory, &mut Caller) {
        let Callers { directory, callers, .. } = self;
        let index = connection as usize;
        if index >= callers.len() {
            callers.resize_with(index + 1, Caller::default);
        }
        (&**directory, &mut callers[index])
    }

    /// Whose token this is, unless its address has shown too many wrong ones.
    fn by_token(&mut self, connection: u32, token: &[u8], now: Now) -> Result<Principal, Unproved> {
        let from = self.at(connection).from;
        let find = || self.directory.principal(Proof::Token(token), now.wall_us);
        let found = self.strikes.judge(from, now.monotonic_us, self.directory.form(token), find);
        found.map_err(|struck| match struck {
            Struck::Wrong => Unproved::Wrong,
            Struck::TooMany => Unproved::TooManyWrong,
        })
    }

    /// The connection itself is this one's from now on.
    fn own(&mut self, connection: u32, principal: Principal) -> Result<(), Unproved> {
        self.next_end_us = self.next_end_us.min(principal.until_us());
        let (directory, caller) = self.of(connection);
        let quota = principal.number().and_then(|number| directory.quota(number));
        let is_in = caller.own.set(principal, quota);
        if is_in { Ok(()) } else { Err(Unproved::Connections) }
    }

    /// Who makes a request with this header, on a connection that may have shown the same before.
    fn by_header(&mut self, connection: u32, header: Option<&[u8]>, now: Now) -> Result<Principal, Unproved> {
        let anonymous = self.directory.anonymous();
        let caller = self.at(connection);
        let Some(header) = header else { return Ok(caller.own.principal.unwrap_or(anonymous)) };
        if let Some(principal) = caller.by_header.principal
            && is_same(header, &caller.header)
        {
            return Ok(principal);
        }
        let token = bearer(header).ok_or(Unproved::Scheme)?;
        let principal = self.by_token(connection, token, now)?;
        self.next_end_us = self.next_end_us.min(principal.until_us());
        let (directory, caller) = self.of(connection);
        let quota = principal.number().and_then(|number| directory.quota(number));
        if !caller.by_header.set(principal, quota) {
            return Err(Unproved::Connections);
        }
        caller.header.clear();
        caller.header.extend_from_slice(header);
        Ok(principal)
    }

    /// Counts one more request of `number`'s that may have to wait, beside those that its connection is `owed`. `false` where it has
    /// as many as it may.
    pub fn begin(&mut self, connection: u32, number: u16, owed: u32) -> bool {
        let (directory, caller) = self.of(connection);
        let bounded = directory.quota(number).filter(|quota| quota.bounds().in_flight > 0);
        bounded.is_none_or(|quota| caller.flight.begin(quota, owed))
    }

    /// A request was refused because it came too fast, or too many wait.
    pub fn count_shed(&self, number: u16) {
        if let Some(quota) = self.directory.quota(number) {
            quota.count_shed();
        }
    }

    /// Whether requests in flight bound how much one may ask at one go.
    pub fn bounds_flight(&self, number: u16) -> bool {
        self.directory.quota(number).is_some_and(|quota| quota.bounds().in_flight > 0)
    }

    /// So many requests of a connection's wait now.
    pub fn settle(&mut self, connection: u32, owed: u32) {
        if let Some(caller) = self.callers.get_mut(connection as usize) {
            caller.flight.settle(owed);
        }
    }

    /// Takes credit for `needed` requests.
    ///
    /// # Errors
    /// When there may be enough, monotonic µs.
    pub fn draw(&mut self, number: u16, needed: u32, now_us: u64) -> Result<(), u64> {
        let drawn = self.leases.draw(number, self.directory.quota(number), needed, now_us);
        if drawn.is_err() {
            self.count_shed(number);
        }
        drawn
    }

    /// Takes credit for some of at most `wanted` requests, as much as there is at hand. Nothing is counted where there is none: the
    /// request has yet to be looked at by itself.
    pub fn draw_some(&mut self, number: u16, wanted: u32, now_us: u64) -> u32 {
        self.leases.draw_some(number, self.directory.quota(number), wanted, now_us)
    }

    /// What was drawn was not used.
    pub fn give_back(&mut self, number: u16, unused: u32) {
        self.leases.give_back(number, unused);
    }
}

/// For drivers, and for whoever authenticates connections.
impl Shard {
    /// A shard whose callers have to prove who they are.
    #[must_use]
    pub fn with_callers(mut self, link: CallersLink) -> Shard {
        self.callers = Some(Box::new(Callers::new(link)));
        self
    }

    /// Where a connection has come from.
    pub fn comes_from(&mut self, connection: u32, address: IpAddr) {
        if let Some(callers) = &mut self.callers {
            callers.at(connection).from = Some(address.to_canonical());
        }
    }

    /// Who a proof belongs to that somebody else has taken from a connection; who has proved nothing where it is nobody's.
    pub fn proved(&self, proof: Proof<'_>) -> Principal {
        let found = self.callers.as_ref().map(|callers| {
            let directory = &callers.directory;
            directory.principal(proof, self.now.wall_us).unwrap_or_else(|| directory.anonymous())
        });
        found.unwrap_or(Principal::ANONYMOUS)
    }

    /// Whether callers have to prove who they are.
    pub fn knows_callers(&self) -> bool {
        self.callers.is_some()
    }
}

impl Shard {
    /// Whoever has proved nothing yet.
    pub(super) fn anonymous(&self) -> Principal {
        self.callers.as_ref().map_or(Principal::ANONYMOUS, |callers| callers.directory.anonymous())
    }

    /// A connection itself is `principal`'s; one too many is closed.
    pub(super) fn owns(&mut self, connection: u32, principal: Principal) {
        let Some(callers) = &mut self.callers else { return };
        if let Err(unproved) = callers.own(connection, principal) {
            let (status, _) = unproved.told();
            self.note_refusal(connection, Opcode::Hello, None, status);
            self.connections[connection].close_unread();
            self.connections.touch(connection);
        } else if principal.may_nothing() {
            self.await_proof(connection);
        }
    }

    /// It is gone.
    pub(super) fn forget_caller(&mut self, connection: u32) {
        if let Some(callers) = &mut self.callers {
            callers.at(connection).end();
        }
    }

    /// Answers a Hello, with which a caller may prove who it is.
    pub(super) fn greet(&mut self, connection: u32, to: ReplyTo, token: &str) {
        match self.introduce(connection, token.as_bytes()) {
            Ok(()) => self.answer_hello(connection, to),
            Err(unproved) => self.refuse_proof(connection, &to, unproved),
        }
    }

    fn introduce(&mut self, connection: u32, token: &[u8]) -> Result<(), Unproved> {
        let Some(callers) = &mut self.callers else { return Ok(()) };
        if token.is_empty() {
            let principal = self.connections[connection].principal();
            let may_nothing = principal.is_some_and(Principal::may_nothing);
            return if may_nothing { Err(Unproved::Missing) } else { Ok(()) };
        }
        let principal = callers.by_token(connection, token, self.now)?;
        callers.own(connection, principal)?;
        self.connections[connection].become_of(principal);
        Ok(())
    }

    /// Finds out who makes an HTTP request. Answers it where that is not proved; whether it did.
    #[inline]
    pub(super) fn is_unproved(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let Some(callers) = &mut self.callers else { return false };
        match callers.by_header(connection, request.authorization, self.now) {
            Ok(principal) => {
                self.connections[connection].become_of(principal);
                false
            }
            Err(unproved) => {
                self.refuse_proof(connection, &request.reply_to, unproved);
                true
            }
        }
    }

    #[cold]
    fn refuse_proof(&mut self, connection: u32, to: &ReplyTo, unproved: Unproved) {
        let (status, message) = unproved.told();
        match unproved {
            Unproved::Wrong => self.responder.metrics.wrong_tokens.add(1),
            Unproved::TooManyWrong => self.responder.metrics.tokens_not_looked_at.add(1),
            Unproved::Missing | Unproved::Scheme | Unproved::Connections => {}
        }
        self.note_refusal(connection, to.opcode, None, status);
        let out = self.connections.out(connection);
        self.responder.error(out, to, Via::Connection, status, message);
    }

    /// Tells whoever keeps the audit log that a request was refused for who made it.
    pub(super) fn note_refusal(
        &mut self,
        connection: u32,
        opcode: Opcode,
        query: Option<&Query<'_>>,
        status: Status,
    ) {
        let principal = self.connections[connection].principal().and_then(Principal::number);
        let Some(callers) = &mut self.callers else { return };
        let user = match query {
            Some(Query::Balance(user) | Query::Statistics(user, _)) => Some(*user),
            _ => None,
        };
        let from = callers.at(connection).from;
        let refused = Refused { at_us: self.now.wall_us, from, principal, opcode, user, status };
        if callers.refusals.push(refused).is_err() {
            self.responder.metrics.refusals_untold.add(1);
        }
    }

    /// Takes over a new directory, and ends proofs whose time is over. Nothing, nearly always.
    #[inline]
    pub(super) fn look_after_callers(&mut self) {
        if let Some(callers) = &self.callers
            && (callers.has_news() || self.now.wall_us >= callers.next_end_us)
        {
            self.look_again_at_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_again_at_all(&mut self) {
        let Some(callers) = &mut self.callers else { return };
        while let Some(directory) = callers.news.pop() {
            callers.directory = directory;
        }
        callers.leases.clear();
        callers.next_end_us = i64::MAX;
        for connection in self.connections.indices() {
            let Some(callers) = &mut self.callers else { return };
            let session = &mut self.connections[connection];
            if let Some(principal) = session.principal().filter(|_| session.open) {
                let found = callers.directory.again(principal, self.now.wall_us);
                session.become_of(found);
                let directory = Arc::clone(&callers.directory);
                let end_us = callers.at(connection).look_again(&*directory, self.now.wall_us);
                callers.next_end_us = callers.next_end_us.min(end_us);
                if found.may_nothing() && session.unproved_since_us.is_none() {
                    self.await_proof(connection);
                }
            }
        }
    }
}

/// The token of an Authorization header.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.trim_ascii().split_at_checked(7)?;
    let token = token.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whether they are the same, in a time that depends on their lengths alone: over one connection a proxy may send several callers'.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && core::hint::black_box(differences) == 0
}
