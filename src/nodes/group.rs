//! The thread that is a member of the group: it lets the client library do what it has to, and asks who else is there. The brokers may
//! let it wait for seconds, so that it decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use florin_core::nodes::Described;
use florin_kafka::group::{Member, Membership};
use florin_record::LedgerError;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

use crate::limits::GROUP_TURN;
use crate::threads::Vital;

/// What the thread is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Ask who is there.
    Describe,
    /// Leave.
    Leave,
}

/// What it tells.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer to an order to describe; `None` while members are being added or removed.
    Described(Result<Option<Described>, LedgerError>),
    /// It is a member no more.
    Out(LedgerError),
}

/// The thread's life.
pub(super) fn run(
    membership: &Membership,
    mut orders: UnboundedReceiver<Order>,
    heard: &Sender<Heard>,
    stop: &Arc<AtomicBool>,
) {
    while !stop.load(Relaxed) {
        Vital::Group.at_work();
        if let Err(error) = membership.turn(GROUP_TURN) {
            // Whoever should hear it may have ended.
            let _ = heard.blocking_send(Heard::Out(error));
            return;
        }
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Leave => membership.leave(),
                Order::Describe => {
                    let described = membership.described().map(|members| members.map(by_place));
                    if heard.blocking_send(Heard::Described(described)).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn by_place(members: Vec<Member>) -> Described {
    members.into_iter().map(|Member { place, assigned }| (place, assigned)).collect()
}
