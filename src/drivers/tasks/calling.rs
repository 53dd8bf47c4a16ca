//! A connection's task, from its first byte to its close: bytes to the shard, answers to the kernel.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use super::{
    Ender, Receiver, Runtime, Sender,
    connections::Stage,
    passes,
    station::{Input, Outgoing, Station},
};

/// Serves one connection until it has been closed.
pub(super) async fn serve<R: Runtime>(
    runtime: R,
    station: Rc<Station>,
    slot: u32,
    (receiver, sender, ender): (R::Receiver, R::Sender, R::Ender),
) {
    {
        let mut receiving = pin!(receive(&runtime, &station, slot, receiver));
        let mut sending = pin!(send(&station, slot, sender));
        let (mut received, mut sent, mut ender) = (false, false, Some(ender));
        poll_fn(|cx| {
            if station.attend(slot, cx.waker()) == Stage::Closing
                && let Some(ender) = ender.take()
            {
                ender.end();
            }
            // Receiving first: then the answers to what came go out with this very poll.
            received = received || receiving.as_mut().poll(cx).is_ready();
            sent = sent || sending.as_mut().poll(cx).is_ready();
            if received && sent { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    // Both halves are gone, so the descriptor is closed.
    station.leave(slot);
}

/// Receives while the shard takes it, and after that, until the peer has sent all it will or the connection is ended.
async fn receive<R: Runtime>(runtime: &R, station: &Station, slot: u32, mut receiver: R::Receiver) {
    loop {
        poll_fn(|_| if station.takes_input(slot) { Poll::Ready(()) } else { Poll::Pending }).await;
        match receiver.receive(|bytes| station.received(slot, bytes)).await {
            Ok(Input::Taken) => {}
            // Who sends without end must not keep the thread for nothing.
            Ok(Input::ThrownAway) => runtime.pause().await,
            Ok(Input::Ended) => return,
            Err(error) if passes(&error) => {}
            Err(_) => return station.failed(slot),
        }
    }
}

/// Sends whatever the shard has for this connection, one buffer at a time, and in the end shuts our half.
async fn send(station: &Station, slot: u32, mut sender: impl Sender) {
    loop {
        match poll_fn(|_| station.poll_outgoing(slot)).await {
            Outgoing::Output(bytes) => send_out(station, slot, &mut sender, bytes).await,
            Outgoing::Shut => sender.shut(),
            Outgoing::End => return,
        }
    }
}

async fn send_out(station: &Station, slot: u32, sender: &mut impl Sender, mut bytes: Vec<u8>) {
    let mut from = 0;
    while from < bytes.len() {
        let (outcome, returned) = sender.send(bytes, from).await;
        bytes = returned;
        match outcome {
            Ok(sent @ 1..) => {
                from += sent;
                station.sent(slot, sent);
            }
            Err(error) if passes(&error) => {}
            Ok(0) | Err(_) => {
                station.failed(slot);
                break;
            }
        }
    }
    station.sent_all(slot, bytes);
}
