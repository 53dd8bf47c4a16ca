//! The driver on monoio: on io_uring from Linux 5.6 on, and on epoll where io_uring is not to be had.
//!
//! What it does with connections is in [`tasks`]; here is the runtime. A connection receives into a buffer
//! of its own, which the kernel holds while nothing comes: it starts at a kilobyte and grows with what comes at once.

use std::{
    future::Future,
    io, mem,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    pin::Pin,
    time::Duration,
};

use ::monoio::{
    FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder,
    buf::IoBuf,
    io::{
        AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, CancelableAsyncWriteRent, Canceller,
        OwnedReadHalf, OwnedWriteHalf, Splitable,
    },
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep, TimeDriver},
};
use rustix::net::SocketFlags;

use super::{
    Driver, DriverError, ShardContext, refusal,
    tasks::{self, Leftovers, TaskSizes},
};
use crate::limits;

/// What monoio itself runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// io_uring.
    IoUring,
    /// epoll: monoio's legacy driver.
    Epoll,
}

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub struct MonoioSettings {
    /// What monoio runs on.
    pub backend: Backend,
    /// How much there is of everything.
    pub sizes: TaskSizes,
}

/// One shard on a runtime of monoio's.
pub struct MonoioDriver {
    context: ShardContext,
    settings: MonoioSettings,
    runtime: FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>,
}

impl Driver for MonoioDriver {
    type Settings = MonoioSettings;

    fn set_up(context: ShardContext, settings: MonoioSettings) -> Result<MonoioDriver, DriverError> {
        let entries = limits::RING_SUBMISSIONS;
        let runtime = match settings.backend {
            Backend::IoUring => RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(entries)
                .enable_timer()
                .build()
                .map(FusionRuntime::Uring)
                .map_err(|source| {
                    refusal::explain("io_uring_setup", source, refusal::locked_bytes(entries))
                })?,
            Backend::Epoll => RuntimeBuilder::<LegacyDriver>::new()
                .with_entries(entries)
                .enable_timer()
                .build()
                .map(FusionRuntime::Legacy)
                .map_err(|source| DriverError::Operation { operation: "epoll_create", source })?,
        };
        Ok(MonoioDriver { context, settings, runtime })
    }

    fn run(self) -> Result<(), DriverError> {
        let MonoioDriver { context, settings, mut runtime } = self;
        let (outcome, leftovers) = runtime.block_on(async move {
            let monoio = Monoio { receive_bytes: settings.sizes.receive_bytes };
            // A task like the others, so that it gets its turn after those that were woken before it: what is blocked on
            // itself would be looked at out of turn.
            ::monoio::spawn(tasks::serve(monoio, context, settings.sizes)).await
        });
        if leftovers == Leftovers::InTheKernel {
            mem::forget(runtime);
        }
        outcome
    }
}

/// Whether monoio can run on io_uring here.
pub fn probe() -> Result<(), DriverError> {
    refusal::probe()?;
    match ::monoio::utils::detect_uring() {
        true => Ok(()),
        false => Err(DriverError::Operation {
            operation: "io_uring's operations, of which monoio needs those of Linux 5.6",
            source: io::ErrorKind::Unsupported.into(),
        }),
    }
}

/// The runtime, seen from its tasks.
#[derive(Clone, Copy)]
struct Monoio {
    receive_bytes: usize,
}

impl tasks::Runtime for Monoio {
    type Timer = Sleep;
    type Watch = Watch;
    type Receiver = Receiver;
    type Sender = Sender;
    type Canceller = Canceller;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        ::monoio::spawn(task);
    }

    async fn pause(&self) {
        // A task that wakes itself while it runs is put before all others, and the kernel is not asked. One that awaits
        // another is put behind them.
        ::monoio::spawn(async {}).await;
    }

    fn timer(&self, wait: Duration) -> Sleep {
        ::monoio::time::sleep(wait)
    }

    fn watch(&self, descriptor: OwnedFd) -> io::Result<Watch> {
        // Only a stream's readiness can be waited for, and that of anything is waited for in the same way.
        UnixStream::from_std(StdUnixStream::from(descriptor)).map(Watch)
    }

    fn socket_flags(&self) -> SocketFlags {
        // io_uring waits by itself for a socket that blocks, and gives up on others.
        if ::monoio::utils::is_legacy() { SocketFlags::NONBLOCK } else { SocketFlags::empty() }
    }

    fn adopt(&self, socket: OwnedFd) -> io::Result<(Receiver, Sender, Canceller)> {
        // A unix socket is received from and sent to in the same way, so one type serves for both.
        let (receiving, sending) = TcpStream::from_std(socket.into())?.into_split();
        let canceller = Canceller::new();
        let buffer = Vec::with_capacity(self.receive_bytes);
        let receiver =
            Receiver { half: receiving, cancel: canceller.handle(), buffer, least_bytes: self.receive_bytes };
        let sender = Sender { half: sending, cancel: canceller.handle() };
        Ok((receiver, sender, canceller))
    }
}

impl tasks::Timer for Sleep {
    fn set(self: Pin<&mut Self>, wait: Duration) {
        self.reset(Instant::now() + wait);
    }
}

impl tasks::CancelAll for Canceller {
    fn cancel_all(self) {
        // Cancels what is under way, which then completes and gives its buffer back, and refuses what comes later.
        drop(self.cancel());
    }
}

struct Watch(UnixStream);

impl tasks::Watch for Watch {
    async fn readable(&mut self) -> io::Result<()> {
        UnixStream::readable(&self.0, false).await
    }
}

struct Receiver {
    half: OwnedReadHalf<TcpStream>,
    cancel: CancelHandle,
    /// Lent to the kernel while it receives.
    buffer: Vec<u8>,
    least_bytes: usize,
}

impl tasks::Receiver for Receiver {
    async fn receive<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let buffer = mem::take(&mut self.buffer);
        let (received, buffer) = self.half.cancelable_read(buffer, self.cancel.clone()).await;
        self.buffer = buffer;
        let length = received?;
        let taken = take(&self.buffer[..length]);
        self.fit(length);
        Ok(taken)
    }
}

impl Receiver {
    /// A caller that fills its buffer has more to say at once; one that hardly uses a large one had.
    fn fit(&mut self, length: usize) {
        let (capacity, least) = (self.buffer.capacity(), self.least_bytes);
        if length == capacity && capacity < limits::RECEIVE_BYTES_MAX {
            self.buffer = Vec::with_capacity((capacity * 4).min(limits::RECEIVE_BYTES_MAX));
        } else if length < least / 2 && capacity > least {
            self.buffer = Vec::with_capacity(least);
        }
    }
}

struct Sender {
    half: OwnedWriteHalf<TcpStream>,
    cancel: CancelHandle,
}

impl tasks::Sender for Sender {
    async fn send(&mut self, bytes: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let (sent, rest) = self.half.cancelable_write(bytes.slice(from..), self.cancel.clone()).await;
        (sent, rest.into_inner())
    }

    fn shut(&mut self) {
        // Done when this returns. A failure means that the peer has reset the connection, which the receiving half is
        // told too.
        drop(AsyncWriteRent::shutdown(&mut self.half));
    }
}
