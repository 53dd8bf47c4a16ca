//! What the drivers on an asynchronous runtime share: everything but the runtime.
//!
//! ```text
//!     accepting ──admit──▶ connection (a task for each) ──bytes──▶ shared: the shard ◀──one turn for all── turn task: serve
//!     watch_waker ─────────────────────────────────────────────wakes───────────────────────────────────────────▲
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `shared` | the shard, and what all tasks have in common: the turn, the slots, the end |
//! | `connections` | what is kept of each connection |
//! | `connection` | a connection's task |
//! | `acceptor`, `accepting` | a listener, and its task |
//!
//! The first task that has something for the shard begins a turn and wakes the turn task. Runtimes run tasks in the order
//! in which they were woken, so the turn task ends the turn after all whose completions came with the first: the mesh, the
//! feed, the neighbours' wake-ups and the sleep are seen to once for all of them.
//!
//! Nothing here is dropped while the kernel works on it. What waits is ended by ending what it waits for, and then awaited:
//! an acceptor by shutting its listener down, the waker's watch by waking the shard, a connection by `CancelAll::cancel_all`.

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use rustix::net::SocketFlags;

use self::{
    accepting::is_scarcity,
    shared::{Next, Shared},
};
use super::{DriverError, ShardContext, ring::RingSizes};
use crate::limits;

mod accepting;
mod acceptor;
mod connection;
mod connections;
mod shared;

/// What a driver on a runtime can be made smaller in, to reach its ends in tests.
#[derive(Clone, Copy, Debug)]
pub struct TaskSizes {
    /// Connections that are served at once; more wait to be accepted.
    pub connections: u32,
    /// Bytes of the first buffer that a connection receives into.
    pub receive_bytes: usize,
}

impl From<RingSizes> for TaskSizes {
    fn from(sizes: RingSizes) -> TaskSizes {
        TaskSizes { connections: sizes.connections, receive_bytes: sizes.buffer_bytes as usize }
    }
}

/// One asynchronous runtime, from inside.
pub(super) trait Runtime: Clone + 'static {
    type Timer: Timer;
    type Watch: Watch;
    type Receiver: Receiver;
    type Sender: Sender;
    type Canceller: CancelAll;

    /// Runs `task` beside the others of this thread.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Lets the kernel and every task that is ready have their turn.
    fn pause(&self) -> impl Future<Output = ()>;

    /// A timer that fires after `wait`.
    fn timer(&self, wait: Duration) -> Self::Timer;

    /// Makes ready to wait until there is something to read from `descriptor`.
    fn watch(&self, descriptor: OwnedFd) -> io::Result<Self::Watch>;

    /// What the runtime wants of a socket that it is to serve.
    fn socket_flags(&self) -> SocketFlags;

    /// Takes over an accepted socket, of whichever family.
    fn adopt(&self, socket: OwnedFd) -> io::Result<(Self::Receiver, Self::Sender, Self::Canceller)>;
}

/// Fires once for each time that it is set.
pub(super) trait Timer: Future<Output = ()> {
    /// Fires after `wait` from now, and not when it would have.
    fn set(self: Pin<&mut Self>, wait: Duration);
}

/// Waits for a descriptor that is no stream of the runtime's: a listener, an eventfd.
pub(super) trait Watch: 'static {
    /// Completes once there is something to read.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>>;
}

/// The receiving half of a connection.
pub(super) trait Receiver: 'static {
    /// Receives once, and shows what came; no bytes are the stream's end.
    fn receive<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> impl Future<Output = io::Result<T>>;
}

/// The sending half of a connection.
pub(super) trait Sender: 'static {
    /// Sends once from what lies in `bytes` after `from`: how many went, and the buffer back.
    fn send(&mut self, bytes: Vec<u8>, from: usize) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;

    /// Ends our half of the stream.
    fn shut(&mut self);
}

/// What makes a connection's operations complete.
pub(super) trait CancelAll: 'static {
    /// Whatever is being received or sent completes soon, and whatever is begun later completes at once.
    fn cancel_all(self);
}

/// Whether the kernel still holds something of a driver's that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leftovers {
    None,
    /// The runtime must not be dropped: the kernel may still write to what it owns.
    InTheKernel,
}

/// The turn task: serves a shard from its first turn to its last.
pub(super) async fn serve<R: Runtime>(
    runtime: R,
    context: ShardContext,
    sizes: TaskSizes,
) -> (Result<(), DriverError>, Leftovers) {
    let shared = Rc::new(Shared::new(context, sizes));
    let began = open(&runtime, &shared);
    if let Err(source) = began {
        shared.fail("watching the listeners and the waker", source);
    }
    let mut timer = Box::pin(runtime.timer(Duration::ZERO));
    loop {
        match shared.turn() {
            Next::Poll => runtime.pause().await,
            Next::Sleep(wait) => sleep(&shared, timer.as_mut(), wait).await,
            Next::End => break,
        }
    }
    shared.end();
    let leftovers = all_tasks_ended(&shared, timer.as_mut()).await;
    // Descriptors that were closed by the last tasks are submitted for closing with this.
    runtime.pause().await;
    (shared.outcome(), leftovers)
}

fn open<R: Runtime>(runtime: &R, shared: &Rc<Shared>) -> io::Result<()> {
    let waker = shared.own_waker().try_clone_to_owned()?;
    let watch = runtime.watch(waker)?;
    shared.begin_task();
    runtime.spawn(watch_waker(runtime.clone(), Rc::clone(shared), watch));
    for acceptor in shared.acceptors() {
        // Whoever waits for a listener and then accepts must not be kept by one who went away meanwhile.
        rustix::io::ioctl_fionbio(&acceptor.socket, true)?;
        let watch = runtime.watch(acceptor.socket.as_fd().try_clone_to_owned()?)?;
        shared.begin_task();
        runtime.spawn(accepting::run(runtime.clone(), Rc::clone(shared), acceptor, watch));
    }
    Ok(())
}

/// Begins a turn for whoever wakes the shard: a neighbour, whose messages the turn finds, or the control plane.
async fn watch_waker<R: Runtime>(runtime: R, shared: Rc<Shared>, mut watch: impl Watch) {
    while !shared.is_over() {
        match watch.readable().await {
            Ok(()) => {}
            // Without a descriptor to watch with, the waker is looked at every now and then.
            Err(error) if is_scarcity(&error) => {
                shared.note_scarcity(&error);
                runtime.timer(Duration::from_micros(limits::ACCEPT_RETRY_US)).await;
            }
            Err(source) => {
                shared.fail("watching the waker", source);
                break;
            }
        }
        let mut wakes = [0; 8];
        // Somebody else cannot have read them, and if so there is nothing lost: the turn looks at everything.
        let _ = rustix::io::read(shared.own_waker(), &mut wakes);
        shared.woken();
    }
    drop(watch);
    shared.end_task();
}

/// Sleeps until somebody begins a turn, or until the time is up.
async fn sleep<T: Timer>(shared: &Shared, mut timer: Pin<&mut T>, wait: Option<Duration>) {
    if let Some(wait) = wait {
        timer.as_mut().set(wait);
    }
    poll_fn(|cx| {
        if shared.is_turn_begun(cx.waker()) || (wait.is_some() && timer.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

async fn all_tasks_ended<T: Timer>(shared: &Shared, mut timer: Pin<&mut T>) -> Leftovers {
    timer.as_mut().set(Duration::from_micros(limits::CLOSE_DOWN_US));
    poll_fn(|cx| match shared.tasks(cx.waker()) {
        0 => Poll::Ready(Leftovers::None),
        tasks => timer.as_mut().poll(cx).map(|_| {
            tracing::error!(tasks, "the runtime could not be emptied; leaking it");
            Leftovers::InTheKernel
        }),
    })
    .await
}

/// Whether an operation may simply be tried again.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}
