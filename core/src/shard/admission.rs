//! Who may not ask, or not so often, is refused: here, where requests are read, before anything is looked up, waits or is
//! passed on.

use florin_schema::{Opcode, Status};

use super::Shard;
use super::holdings::Share;
use super::planted::Planted;
use super::principal::{self, Principal};
use super::quota;
use super::responder::Via;
use crate::wire::{Query, Request};

impl Shard {
    /// Whether none of a connection's requests has to be looked at for who makes it.
    #[inline(always)]
    fn may_ask_all(&self, connection: u32) -> bool {
        let principal = self.connections[connection].principal();
        principal.is_some_and(Principal::may_ask_all) || Planted::IgnoresPrincipal.is(self.planted)
    }

    /// How many plain balances may be read at one go, of `allowed` and of the `here` that have come, without looking at each for who
    /// makes it.
    #[inline(always)]
    pub(super) fn swift_frames(&mut self, connection: u32, allowed: usize, here: usize) -> usize {
        if !matches!(self.responder.share, Share::All) {
            // Each is looked at for whom it is about.
            return 0;
        }
        let principal = self.connections[connection].principal();
        if principal.is_some_and(Principal::is_swift) || Planted::IgnoresPrincipal.is(self.planted) {
            return allowed;
        }
        self.metered_frames(connection, allowed.min(here))
    }

    /// The same of a caller that is counted: so many as there is credit for, which is drawn.
    #[cold]
    #[inline(never)]
    fn metered_frames(&mut self, connection: u32, wanted: usize) -> usize {
        let may_ask = |principal: Principal| principal.refusal(Opcode::GetBalance).is_none();
        if !self.connections[connection].principal().is_some_and(may_ask) {
            return 0;
        }
        let (Some(number), Some(callers)) = (self.metered(connection), &mut self.callers) else { return 0 };
        if callers.bounds_flight(number) {
            return 0;
        }
        callers.draw_some(number, wanted as u32, self.now.monotonic_us) as usize
    }

    /// So many frames that might have been read at one go were not, for others came between.
    #[cold]
    #[inline(never)]
    pub(super) fn give_back(&mut self, connection: u32, unused: usize) {
        if let (Some(number), Some(callers)) = (self.metered(connection), &mut self.callers) {
            callers.give_back(number, unused as u32);
        }
    }

    /// Whose quota a connection's requests are counted against.
    fn metered(&self, connection: u32) -> Option<u16> {
        self.connections[connection].principal().filter(|principal| principal.is_metered())?.number()
    }

    /// Answers a request that its connection's principal may not make, or not now, or not here. Whether it was one.
    #[inline(always)]
    pub(super) fn is_turned_away(&mut self, connection: u32, request: &Request<'_>) -> bool {
        (!self.may_ask_all(connection) && self.turns_away(connection, request))
            || self.is_elsewhere(connection, request)
    }

    #[cold]
    #[inline(never)]
    fn turns_away(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let principal = self.connections[connection].principal().expect("nothing is read before it is known");
        let opcode = request.reply_to.opcode;
        if let Some(status) = principal.refusal(opcode) {
            self.refuse_caller(connection, request, status, principal::message(status, opcode));
            return true;
        }
        if opcode == Opcode::Hello {
            return false;
        }
        let Some(number) = self.metered(connection) else { return false };
        if !self.may_begin(connection, number) {
            self.connections.put_back(connection);
            let out = self.connections.out(connection);
            self.responder.error(
                out,
                &request.reply_to,
                Via::Connection,
                Status::Overloaded,
                quota::TOO_MANY_WAIT,
            );
            return true;
        }
        let Some(callers) = &mut self.callers else { return false };
        let needed = cost(request, self.users.len());
        let Err(again_us) = callers.draw(number, needed, self.now.monotonic_us) else { return false };
        self.connections.put_back(connection);
        let message = quota::too_often(again_us, self.now.monotonic_us);
        let out = self.connections.out(connection);
        self.responder.error(out, &request.reply_to, Via::Connection, Status::Overloaded, &message);
        true
    }

    /// Whether one more request may have to wait. Lookups of this turn are no others' to answer: they are answered before one is refused
    /// because of them.
    fn may_begin(&mut self, connection: u32, number: u16) -> bool {
        let begins = |shard: &mut Shard| {
            let owed = shard.connections[connection].owed();
            shard.callers.as_mut().is_none_or(|callers| callers.begin(connection, number, owed))
        };
        if begins(self) {
            return true;
        }
        self.finish_lookups();
        let may_begin = begins(self);
        if let Some(callers) = self.callers.as_ref().filter(|_| !may_begin) {
            callers.count_shed(number);
        }
        may_begin
    }

    fn refuse_caller(&mut self, connection: u32, request: &Request<'_>, status: Status, message: &str) {
        self.note_refusal(connection, request.reply_to.opcode, Some(&request.query), status);
        let out = self.connections.out(connection);
        self.responder.error(out, &request.reply_to, Via::Connection, status, message);
    }

    /// A request that was admitted will be read again: it was not made yet.
    #[cold]
    #[inline(never)]
    pub(super) fn take_back(&mut self, connection: u32, request: &Request<'_>) {
        if let (Some(number), Some(callers)) = (self.metered(connection), &mut self.callers) {
            callers.give_back(number, cost(request, self.users.len()));
        }
    }
}

/// As how many requests one counts.
fn cost(request: &Request<'_>, users: usize) -> u32 {
    match request.query {
        Query::Balances => users as u32,
        _ => 1,
    }
}
