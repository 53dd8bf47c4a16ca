//! What a shard does for whoever looks at one user from the control plane: it answers as it would a caller over HTTP, to the byte. Who
//! may look has been decided before.

use alloc::vec::Vec;

use florin_schema::{Opcode, UserId, WindowMask};

use super::Shard;
use super::forwarding::question::Aspect;
use super::orders::{OrderLink, OrderPort, order_link};
use super::responder::Via;
use crate::limits::LOOK_ORDERS;
use crate::wire::{Format, Freshness, HttpReply, ReplyTo};

/// A look at one of the shard's users. At most [`LOOK_ORDERS`] are unanswered; the answer is a whole HTTP response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// What the user has.
    Balance(UserId),
    /// What happened to the user, in all windows.
    Statistics(UserId),
}

impl Look {
    /// Whose.
    pub const fn user(self) -> UserId {
        match self {
            Look::Balance(user) | Look::Statistics(user) => user,
        }
    }
}

/// A look that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookOrder {
    /// At what.
    pub look: Look,
    /// By when it had been asked for, monotonic µs: see [`Shard::input_came_by`].
    pub asked_by_us: u64,
}

/// The shard's side.
pub type LookLink = OrderLink<LookOrder, Vec<u8>>;

/// The other side.
pub type LookPort = OrderPort<LookOrder, Vec<u8>>;

/// Both sides of a link.
pub fn look_link() -> (LookPort, LookLink) {
    order_link(LOOK_ORDERS)
}

impl Shard {
    /// One whose users can be looked at.
    #[must_use]
    pub fn with_looks(mut self, link: LookLink) -> Shard {
        self.looks = Some(link);
        self
    }

    /// Whether somebody waits for a look.
    #[inline]
    pub(super) fn is_looked_at(&self) -> bool {
        self.looks.as_ref().is_some_and(|link| !link.orders.is_empty())
    }

    /// Answers what has been asked: at most [`LOOK_ORDERS`], for no more are unanswered.
    pub(super) fn serve_looks(&mut self) {
        while let Some(LookOrder { look, asked_by_us }) =
            self.looks.as_mut().and_then(|link| link.orders.pop())
        {
            self.input_came_by(asked_by_us);
            let (opcode, aspect) = match look {
                Look::Balance(_) => (Opcode::GetBalance, Aspect::Balance),
                Look::Statistics(_) => (Opcode::GetStatistics, Aspect::Statistics(WindowMask::ALL)),
            };
            let to = ReplyTo { opcode, request_id: 0, format: Format::Http(HttpReply::CLOSE) };
            let mut answer = Vec::new();
            let any = Freshness::default();
            self.responder.answer(&mut answer, to, Via::Connection, &any, look.user(), aspect);
            self.looks.as_mut().expect("it has asked").answer(answer);
        }
    }
}
