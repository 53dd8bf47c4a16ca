//! The listeners of a shard.

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, accept_with, shutdown},
};

use super::{Runtime, Watch, calling, station::Station};
use crate::{
    drivers::{
        Listening,
        accept_turn::{AcceptTurn, Sharing},
        scarcity::is_scarcity,
    },
    limits,
    shard::Listener,
};

/// Connections that are accepted before the clerk and the others get their turn.
const ACCEPTED_AT_ONCE: usize = 64;

/// One listener.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) socket: OwnedFd,
    listener: Listener,
    /// Where all shards accept on the same socket: whose turn it is.
    turn: Option<Arc<AcceptTurn>>,
}

impl Door {
    pub(super) fn new(Listening { listener, socket, sharing, .. }: Listening) -> Door {
        let turn = match sharing {
            Sharing::Own => None,
            Sharing::AllShards(turn) => Some(turn),
        };
        Door { socket, listener, turn }
    }

    /// Whether `shard` may accept now.
    pub(super) fn is_open_for(&self, shard: usize) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.is_on(shard))
    }

    /// Lets the next accept; whose waker is to be woken for that.
    pub(super) fn pass_on(&self, shard: usize) -> Option<usize> {
        let next = self.turn.as_ref()?.pass_on(shard);
        (next != shard).then_some(next)
    }
}

/// Lets callers in until the station closes; then those who have come by then, and nobody any more.
pub(super) async fn keep<R: Runtime>(runtime: R, station: Rc<Station>, door: Door, mut watch: R::Watch) {
    while may_accept(&runtime, &station, &door).await {
        let mut coming = pin!(watch.readable());
        let came = poll_fn(|cx| match coming.as_mut().poll(cx) {
            Poll::Ready(came) => Poll::Ready(Some(came)),
            Poll::Pending => station.poll_until(cx.waker(), Station::is_closed).map(|()| None),
        });
        match came.await {
            Some(Ok(())) => let_in(&runtime, &station, &door).await,
            // The runtime wanted a descriptor of its own to watch with.
            Some(Err(error)) if is_scarcity(&error) => {
                station.note_scarcity(&error);
                runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
            }
            Some(Err(source)) => {
                station.fail("watching a listener", source);
                break;
            }
            None => {
                close(&runtime, &station, &door);
                // The listener's end has completed this.
                let _ = coming.await;
            }
        }
    }
    close(&runtime, &station, &door);
    drop((watch, door));
    station.leave_door();
}

/// Waits until there is room and it is this shard's turn. False once the station is closed.
async fn may_accept<R: Runtime>(runtime: &R, station: &Station, door: &Door) -> bool {
    let is_shared = door.turn.is_some();
    loop {
        let goes_on = |station: &Station| {
            station.is_closed() || (station.is_at(door) && (station.has_room() || is_shared))
        };
        poll_fn(|cx| station.poll_until(cx.waker(), goes_on)).await;
        if station.is_closed() || station.has_room() {
            return !station.is_closed();
        }
        // The others may have room; were all of them full, each would keep the turn for a while, and none would spin.
        runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
        if !station.has_room() {
            station.pass_on(door);
        }
    }
}

/// Accepts some of those who wait; where the shards take turns, one.
async fn let_in<R: Runtime>(runtime: &R, station: &Rc<Station>, door: &Door) {
    let most = if door.turn.is_some() { 1 } else { ACCEPTED_AT_ONCE };
    match accept(runtime, station, door, most) {
        Ok(0) => {}
        Ok(_) => station.pass_on(door),
        // To ask again at once would spin.
        Err(OutOfMeans(error)) => {
            station.note_scarcity(&error);
            runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
        }
    }
    runtime.pause().await;
}

/// Accepts those whose handshakes are done, for they count as arrived and would be reset, and then nobody any more.
fn close<R: Runtime>(runtime: &R, station: &Rc<Station>, door: &Door) {
    // Where there are no means or no room, they are reset.
    let _ = accept(runtime, station, door, usize::MAX);
    // A listener that all shards share has been shut by the first of them.
    let _ = shutdown(&door.socket, Shutdown::Both);
}

/// The host has run out of something that a connection needs.
struct OutOfMeans(io::Error);

/// Accepts at most so many, and says how many.
fn accept<R: Runtime>(
    runtime: &R,
    station: &Rc<Station>,
    door: &Door,
    most: usize,
) -> Result<usize, OutOfMeans> {
    let mut accepted = 0;
    while accepted < most && station.has_room() && !station.is_over() {
        let socket = match accept_with(&door.socket, runtime.socket_flags() | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::WOULDBLOCK) => break,
            // The caller has gone away already.
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(errno) => return Err(OutOfMeans(errno.into())),
        };
        let halves = runtime.adopt(socket).map_err(OutOfMeans)?;
        let slot = station.admit(door.listener);
        runtime.spawn(calling::serve(runtime.clone(), Rc::clone(station), slot, halves));
        accepted += 1;
    }
    Ok(accepted)
}
