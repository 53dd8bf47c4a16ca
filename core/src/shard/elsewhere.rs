//! A request about a user whom another node has is answered with whose it is, where requests are read.

use alloc::string::String;
use alloc::sync::Arc;

use florin_schema::{Status, UserId};

use super::Shard;
use super::holdings::{Elsewhere, HoldingsLink, NO_MAP, NodesNews, Share};
use super::responder::Via;
use crate::wire::{Format, NotOwner, Query, Request};

impl Shard {
    /// A shard of a node that divides users with others: it answers nobody before it has been told of the map.
    #[must_use]
    pub fn with_holdings(mut self, link: HoldingsLink) -> Shard {
        self.holdings = Some(link);
        self.responder.share = Share::Unknown;
        self
    }

    /// Whether a new map waits.
    #[inline]
    pub(super) fn has_new_holdings(&self) -> bool {
        self.holdings.as_ref().is_some_and(|link| !link.orders.is_empty())
    }

    /// Takes over the latest map. Nothing, nearly always.
    #[inline]
    pub(super) fn take_holdings(&mut self) {
        while let Some(news) = self.holdings.as_mut().and_then(|link| link.orders.pop()) {
            match news {
                NodesNews::Holdings(holdings) => {
                    self.greeting.holdings = Some(Arc::clone(&holdings));
                    let before = core::mem::replace(&mut self.responder.share, Share::Some(holdings));
                    let share = &self.responder.share;
                    // Of whoever was not answered about the watermark did not speak, so it does not say when they were whole.
                    if share.has_gained(&before) {
                        let is_gained =
                            |user| before.refusal(user).is_some() && share.refusal(user).is_none();
                        self.responder.table.forget_when_whole(is_gained);
                    }
                }
                NodesNews::Told(told) => self.greeting.nodes = Some(told),
            }
            if let Some(link) = &mut self.holdings {
                link.answer(());
            }
        }
    }

    /// Answers a request about a user whom this node does not have; a frame also where it has not all of a batch's. Whether it was one.
    #[inline(always)]
    pub(super) fn is_elsewhere(&mut self, connection: u32, request: &Request<'_>) -> bool {
        !matches!(self.responder.share, Share::All) && self.tells_where(connection, request)
    }

    #[inline(never)]
    fn tells_where(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let to = request.reply_to;
        let share = &self.responder.share;
        let elsewhere = match request.query {
            Query::Balance(user) | Query::Statistics(user, _) => {
                share.elsewhere(user).map(|told| (user, told))
            }
            Query::Balances if matches!(to.format, Format::Rkyv | Format::FlatBuffers) => {
                let others = self.users.iter().find(|&&user| share.refusal(user) == Some(Status::NotOwner));
                others.and_then(|&user| share.elsewhere(user).map(|told| (user, told)))
            }
            Query::Hello { .. } if matches!(share, Share::Unknown) => {
                Some((UserId::default(), Elsewhere::Unavailable(String::from(NO_MAP))))
            }
            _ => None,
        };
        let Some((user, elsewhere)) = elsewhere else { return false };
        let out = self.connections.out(connection);
        match elsewhere {
            Elsewhere::Unavailable(message) => {
                self.responder.error(out, &to, Via::Connection, Status::Unavailable, &message);
            }
            Elsewhere::NotOwner(holdings, partition, owner) => {
                let owner = &holdings.map().nodes()[usize::from(owner)];
                let answer = NotOwner { epoch: holdings.map().epoch, user, partition, owner };
                self.responder.not_owner(out, &to, request, &answer);
            }
        }
        true
    }
}
