//! The task of one listener: accepts, and begins a task for each connection.

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::AsFd,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, accept_with, shutdown},
};

use super::{Runtime, Watch, acceptor::Acceptor, connection, shared::Shared};
use crate::{drivers::peer::Peer, limits};

/// Accepts until the drain begins; then those who have come by then, and nobody any more.
pub(super) async fn run<R: Runtime>(runtime: R, shared: Rc<Shared>, acceptor: Acceptor, mut watch: R::Watch) {
    while may_accept(&runtime, &shared, &acceptor).await {
        let mut coming = pin!(watch.readable());
        let came = poll_fn(|cx| match coming.as_mut().poll(cx) {
            Poll::Ready(came) => Poll::Ready(Some(came)),
            Poll::Pending => shared.poll_until(cx.waker(), Shared::is_closed).map(|()| None),
        });
        match came.await {
            Some(Ok(())) => accept_some(&runtime, &shared, &acceptor).await,
            // The runtime wanted a descriptor of its own to watch with.
            Some(Err(error)) if is_scarcity(&error) => {
                shared.note_scarcity(&error);
                runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
            }
            Some(Err(source)) => {
                shared.fail("watching a listener", source);
                break;
            }
            None => {
                close(&runtime, &shared, &acceptor);
                // The listener's end has completed this.
                let _ = coming.await;
            }
        }
    }
    close(&runtime, &shared, &acceptor);
    drop((watch, acceptor));
    shared.end_accepting();
}

/// Waits until there is room and it is this shard's turn. False once the drain has begun.
async fn may_accept<R: Runtime>(runtime: &R, shared: &Shared, acceptor: &Acceptor) -> bool {
    let is_shared = acceptor.is_shared();
    loop {
        let goes_on = |shared: &Shared| {
            shared.is_closed() || (shared.has_turn(acceptor) && (shared.has_room() || is_shared))
        };
        poll_fn(|cx| shared.poll_until(cx.waker(), goes_on)).await;
        if shared.is_closed() || shared.has_room() {
            return !shared.is_closed();
        }
        // The others may have room; were all of them full, each would keep the turn for a while, and none would spin.
        runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
        if !shared.has_room() {
            shared.pass_on(acceptor);
        }
    }
}

/// Accepts some of those who wait; where the shards take turns, one.
async fn accept_some<R: Runtime>(runtime: &R, shared: &Rc<Shared>, acceptor: &Acceptor) {
    let most = if acceptor.is_shared() { 1 } else { limits::ACCEPTED_AT_ONCE };
    match accept(runtime, shared, acceptor, most) {
        Ok(0) => {}
        Ok(_) => shared.pass_on(acceptor),
        // To ask again at once would spin.
        Err(OutOfMeans(error)) => {
            shared.note_scarcity(&error);
            runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
        }
    }
    runtime.pause().await;
}

/// Accepts those whose handshakes are done, for they count as arrived and would be reset, and then nobody any more.
fn close<R: Runtime>(runtime: &R, shared: &Rc<Shared>, acceptor: &Acceptor) {
    // Where there are no means or no room, they are reset.
    let _ = accept(runtime, shared, acceptor, usize::MAX);
    // A listener that all shards share has been shut by the first of them.
    let _ = shutdown(&acceptor.socket, Shutdown::Both);
}

/// The host has run out of something that a connection needs.
struct OutOfMeans(io::Error);

/// Accepts at most so many, and says how many.
fn accept<R: Runtime>(
    runtime: &R,
    shared: &Rc<Shared>,
    acceptor: &Acceptor,
    most: usize,
) -> Result<usize, OutOfMeans> {
    let mut accepted = 0;
    while accepted < most && shared.has_room() && !shared.is_over() {
        let socket = match accept_with(&acceptor.socket, runtime.socket_flags() | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::WOULDBLOCK) => break,
            // The caller has gone away already.
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(errno) => return Err(OutOfMeans(errno.into())),
        };
        let peer = match shared.knows_callers().then(|| Peer::of(socket.as_fd(), acceptor.listener)) {
            // The caller has gone away already.
            Some(Err(_)) => continue,
            Some(Ok(peer)) => Some(peer),
            None => None,
        };
        let halves = runtime.adopt(socket).map_err(OutOfMeans)?;
        let slot = shared.admit(acceptor.listener, peer);
        runtime.spawn(connection::serve(runtime.clone(), Rc::clone(shared), slot, halves));
        accepted += 1;
    }
    Ok(accepted)
}

/// Whether the host has run out of something that it may have again.
pub(super) fn is_scarcity(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}
