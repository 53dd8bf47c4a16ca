//! The driver on glommio, for hosts that run it already.
//!
//! What it does with connections is in [`tasks`]; here is the runtime. glommio waits in io_uring until a socket is
//! ready and then receives and sends by system calls that do not block, so the kernel never holds a buffer of ours, and
//! all connections of a shard receive into the same one.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io, mem,
    net::TcpStream as StdTcpStream,
    os::fd::OwnedFd,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::glommio::{
    GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind, net::TcpStream, timer,
};
use futures_io::{AsyncRead, AsyncWrite};
use glommio_socket2::Socket;
use rustix::{
    net::SocketFlags,
    process::{Resource, getrlimit},
};

use super::{
    Driver, DriverError, ShardContext, refusal,
    tasks::{self, Leftovers, TaskSizes},
};
use crate::limits;

/// Long enough that a timer is not due when it is looked at next.
const NOT_DUE: Duration = Duration::from_secs(3600);

/// One shard on an executor of glommio's.
pub struct GlommioDriver {
    context: ShardContext,
    sizes: TaskSizes,
    executor: LocalExecutor,
}

impl Driver for GlommioDriver {
    type Settings = TaskSizes;

    fn set_up(context: ShardContext, sizes: TaskSizes) -> Result<GlommioDriver, DriverError> {
        check_memlock(getrlimit(Resource::Memlock).current)?;
        // glommio panics where it gets no ring.
        refusal::probe()?;
        // Unbound, because the node has pinned this thread already.
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .ring_depth(limits::GLOMMIO_RING_DEPTH)
            // For files, which there are none of.
            .io_memory(0)
            .make()
            .map_err(explain)?;
        Ok(GlommioDriver { context, sizes, executor })
    }

    fn run(self) -> Result<(), DriverError> {
        let GlommioDriver { context, sizes, executor } = self;
        let glommio = Glommio { buffer: Rc::new(RefCell::new(vec![0; limits::RECEIVE_BYTES_MAX])) };
        let (outcome, leftovers) = executor.run(tasks::serve(glommio, context, sizes));
        if leftovers == Leftovers::InTheKernel {
            mem::forget(executor);
        }
        outcome
    }
}

/// glommio makes the same check, but says so only where the executor's thread is joined.
fn check_memlock(limit_bytes: Option<u64>) -> Result<(), DriverError> {
    match limit_bytes {
        Some(limit_bytes) if limit_bytes < limits::GLOMMIO_LOCKED_BYTES_MIN => {
            Err(DriverError::Memlock { needed_bytes: limits::GLOMMIO_LOCKED_BYTES_MIN, limit_bytes })
        }
        _ => Ok(()),
    }
}

fn explain(error: GlommioError<()>) -> DriverError {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => {
            refusal::explain("starting glommio's executor", source, limits::GLOMMIO_LOCKED_BYTES_MIN)
        }
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit_bytes, needed_bytes)) => {
            DriverError::Memlock { needed_bytes, limit_bytes }
        }
        other => DriverError::Operation {
            operation: "starting glommio's executor",
            source: io::Error::other(other.to_string()),
        },
    }
}

/// The runtime, seen from its tasks.
#[derive(Clone)]
struct Glommio {
    /// Borrowed only while one receive copies into it and the shard reads from it.
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl tasks::Runtime for Glommio {
    type Timer = Timer;
    type Watch = Watch;
    type Receiver = Receiver;
    type Sender = Sender;
    type Canceller = Stream;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        ::glommio::spawn_local(task).detach();
    }

    async fn pause(&self) {
        // A task that yields is run again until the preemption timer goes off, 100 ms later.
        self.timer(Duration::ZERO).await;
    }

    fn timer(&self, wait: Duration) -> Timer {
        Timer { timer: timer::Timer::new(wait), has_waited: false }
    }

    fn watch(&self, descriptor: OwnedFd) -> io::Result<Watch> {
        Ok(Watch(descriptor))
    }

    fn socket_flags(&self) -> SocketFlags {
        SocketFlags::empty()
    }

    fn adopt(&self, socket: OwnedFd) -> io::Result<(Receiver, Sender, Stream)> {
        let stream = Stream(Rc::new(RefCell::new(stream(socket))));
        let receiver = Receiver { stream: stream.clone(), buffer: Rc::clone(&self.buffer) };
        Ok((receiver, Sender(stream.clone()), stream))
    }
}

/// A unix socket is received from and sent to in the same way as one of TCP, so one type serves for both.
fn stream(socket: OwnedFd) -> TcpStream {
    TcpStream::from(Socket::from(StdTcpStream::from(socket)))
}

/// Ready at its second look at the earliest, and so not before the kernel has been asked and whoever was woken by that has run.
/// glommio's own, where it is due, is ready at once: a shard that had more to do went on with it and heard nobody.
struct Timer {
    timer: timer::Timer,
    has_waited: bool,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Timer { timer, has_waited } = &mut *self;
        let is_due = Pin::new(&mut *timer).poll(cx).is_ready();
        if is_due && !*has_waited {
            // Only one that is not due takes the waker; it keeps it when it is set anew.
            timer.reset(NOT_DUE);
            let _pending = Pin::new(&mut *timer).poll(cx);
            timer.reset(Duration::ZERO);
        }
        if mem::replace(has_waited, true) && is_due { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl tasks::Timer for Timer {
    fn set(mut self: Pin<&mut Self>, wait: Duration) {
        self.timer.reset(wait);
        self.has_waited = false;
    }
}

struct Watch(OwnedFd);

impl tasks::Watch for Watch {
    async fn readable(&mut self) -> io::Result<()> {
        // glommio offers no waiting for a descriptor's readiness. But a stream begins to wait for it when it is made,
        // whatever its descriptor is; the receive that follows is refused, for this is no socket with a peer.
        let mut stream = stream(self.0.try_clone()?);
        let _refused = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [])).await;
        Ok(())
    }
}

/// Both halves of a connection: borrowed only while one of them is polled.
#[derive(Clone)]
struct Stream(Rc<RefCell<TcpStream>>);

impl tasks::CancelAll for Stream {
    fn cancel_all(self) {
        self.shut(std::net::Shutdown::Both);
    }
}

impl Stream {
    fn shut(&self, how: std::net::Shutdown) {
        let stream = self.0.borrow();
        // Done at the first poll. A failure means that the peer has reset the connection, which the receiving half is
        // told too.
        let _done = pin!(stream.shutdown(how)).poll(&mut Context::from_waker(Waker::noop()));
    }
}

struct Receiver {
    stream: Stream,
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl tasks::Receiver for Receiver {
    async fn receive<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut take = Some(take);
        poll_fn(|cx| {
            let buffer = &mut *self.buffer.borrow_mut();
            let mut stream = self.stream.0.borrow_mut();
            Pin::new(&mut *stream).poll_read(cx, buffer).map(|received| {
                let take = take.take().expect("a receive completes once");
                received.map(|length| take(&buffer[..length]))
            })
        })
        .await
    }
}

struct Sender(Stream);

impl tasks::Sender for Sender {
    async fn send(&mut self, bytes: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let sent = poll_fn(|cx| {
            let mut stream = self.0.0.borrow_mut();
            Pin::new(&mut *stream).poll_write(cx, &bytes[from..])
        });
        (sent.await, bytes)
    }

    fn shut(&mut self) {
        self.0.shut(std::net::Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io::Write, rc::Rc, time::Duration};

    use super::{
        Glommio, LocalExecutorBuilder, Placement, check_memlock, limits,
        tasks::{Runtime, Timer, Watch},
    };

    /// A pause, and a timer set to nothing, ended at once: who had come meanwhile was not heard, and was judged to be silent.
    #[test]
    fn what_has_come_is_seen_within_a_pause_and_a_timer_that_is_due() {
        let executor =
            LocalExecutorBuilder::new(Placement::Unbound).ring_depth(128).io_memory(0).make().unwrap();
        executor.run(async {
            let glommio = Glommio { buffer: Rc::default() };
            let mut timer = Box::pin(glommio.timer(Duration::ZERO));
            for pauses in [true, false] {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
                let has_seen = Rc::new(Cell::new(false));
                let mut watch = glommio.watch(theirs.into()).unwrap();
                let sees = Rc::clone(&has_seen);
                glommio.spawn(async move {
                    watch.readable().await.unwrap();
                    sees.set(true);
                });
                // The first lets the watch begin.
                glommio.pause().await;
                assert!(!has_seen.get());
                (&ours).write_all(b"here").unwrap();
                if pauses {
                    glommio.pause().await;
                } else {
                    timer.as_mut().set(Duration::ZERO);
                    timer.as_mut().await;
                }
                assert!(has_seen.get(), "pauses: {pauses}");
            }
        });
    }

    #[test]
    fn too_little_lockable_memory_is_explained_before_glommio_is_asked() {
        let message = check_memlock(Some(65_536)).unwrap_err().to_string();
        for part in ["524288", "65536", "ulimit -l", "LimitMEMLOCK"] {
            assert!(message.contains(part), "{part:?} is missing: {message}");
        }
        check_memlock(Some(limits::GLOMMIO_LOCKED_BYTES_MIN)).unwrap();
        check_memlock(None).unwrap();
    }
}
