//! A connection's task, from its first byte to its close: bytes to the shard, answers to the kernel.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use super::{
    CancelAll, Receiver, Runtime, Sender, passes,
    shared::{Incoming, Input, Outgoing, Shared},
};
use crate::shard::life::{AfterSend, Received, Sent};

/// Serves one connection until it has been closed.
pub(super) async fn serve<R: Runtime>(
    runtime: R,
    shared: Rc<Shared>,
    slot: u32,
    (receiver, sender, canceller): (R::Receiver, R::Sender, R::Canceller),
) {
    {
        let mut receiving = pin!(receive(&runtime, &shared, slot, receiver));
        let mut sending = pin!(send(&shared, slot, sender));
        let (mut received, mut sent, mut canceller) = (false, false, Some(canceller));
        poll_fn(|cx| {
            shared.set_task(slot, cx.waker());
            loop {
                // Receiving first: then the answers to what came go out with this very poll.
                received = received || receiving.as_mut().poll(cx).is_ready();
                sent = sent || sending.as_mut().poll(cx).is_ready();
                if received && sent {
                    return Poll::Ready(());
                }
                if shared.must_cancel(slot)
                    && let Some(canceller) = canceller.take()
                {
                    canceller.cancel_all();
                } else if !shared.has_more_to_begin(slot) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
    // Both halves are gone, so the descriptor is closed.
    shared.closed(slot);
}

/// Receives while that is wanted, until the peer has sent all it will or the connection is ended.
async fn receive<R: Runtime>(runtime: &R, shared: &Shared, slot: u32, mut receiver: R::Receiver) {
    while poll_fn(|_| shared.poll_incoming(slot)).await == Incoming::Receive {
        match receiver.receive(|bytes| shared.received(slot, bytes)).await {
            Ok(Input::Taken) => {}
            Ok(Input::ThrownAway) => {
                // Who sends without end must not keep the thread for nothing.
                runtime.pause().await;
                shared.received_nothing(slot, Received::Bytes);
            }
            Err(error) if passes(&error) => shared.received_nothing(slot, Received::Nothing),
            Err(_) => shared.received_nothing(slot, Received::Failure),
        }
    }
}

/// Sends whatever the shard has for this connection, one buffer at a time, and in the end shuts our half.
async fn send(shared: &Shared, slot: u32, mut sender: impl Sender) {
    loop {
        match poll_fn(|_| shared.poll_outgoing(slot)).await {
            Outgoing::Output(bytes) => send_out(shared, slot, &mut sender, bytes).await,
            Outgoing::Shut => {
                sender.shut();
                shared.shut(slot);
            }
            Outgoing::End => return,
        }
    }
}

async fn send_out(shared: &Shared, slot: u32, sender: &mut impl Sender, mut bytes: Vec<u8>) {
    let mut from = 0;
    loop {
        let (outcome, returned) = sender.send(bytes, from).await;
        bytes = returned;
        let (sent, count) = match outcome {
            Ok(count @ 1..) if from + count == bytes.len() => (Sent::All, count),
            Ok(count @ 1..) => (Sent::Short, count),
            Err(error) if passes(&error) => (Sent::Short, 0),
            Ok(0) | Err(_) => (Sent::Failure, 0),
        };
        from += count;
        if shared.sent(slot, sent, count) == AfterSend::Done {
            return shared.recycle(slot, bytes);
        }
    }
}
