//! One thread's io_uring and the connections on it: the only place of this crate with `unsafe` code.
//!
//! Receives are multishot and fill buffers that are provided beforehand; a send owns its bytes until the kernel has
//! taken them all. What the kernel may still write to or read from is never freed: [`Sockets`] ends by cancelling every
//! operation and waiting for the last completion, and leaks its memory where that does not come.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    mem::{self, ManuallyDrop},
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
    time::Instant,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{BufRingEntry, CancelBuilder, Fixed, SubmitArgs, Timespec},
};

use crate::limits;
use crate::limits::CANCEL_TIME;

/// The only group of provided buffers.
const GROUP: u16 = 0;
/// The kernel wants a buffer ring to begin on a page.
const PAGE_BYTES: usize = 4_096;

/// Why a thread has no sockets.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// io_uring as a whole.
    #[error(
        "the generator needs io_uring (Linux 6.1 or newer), and the kernel refuses {operation}: {source}; look at \
         kernel.io_uring_disabled, a seccomp filter, and ulimit -l"
    )]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Bytes that the kernel has put into a provided buffer; given back with [`Sockets::give_back`].
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the kernel"]
pub struct Filled {
    buffer: u16,
    length: u32,
}

/// Something that has happened on a connection.
#[derive(Debug)]
pub enum Completion {
    /// Bytes have arrived.
    Received {
        /// Where.
        connection: u32,
        /// Them.
        filled: Filled,
        /// Whether more will come without asking.
        armed: bool,
    },
    /// All buffers were in use: ask again with [`Sockets::receive`].
    OutOfBuffers {
        /// Where.
        connection: u32,
    },
    /// Nothing will come any more.
    Closed {
        /// Where.
        connection: u32,
        /// `None` where the peer said so.
        error: Option<io::Error>,
    },
    /// A send was taken whole; its buffer comes back empty.
    Sent {
        /// Where.
        connection: u32,
        /// For the next one.
        buffer: Vec<u8>,
    },
    /// Of no interest.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Receive,
    Send,
    Cancel,
}

impl Operation {
    fn token(self, connection: u32) -> u64 {
        (self as u64) << 32 | u64::from(connection)
    }

    fn of(token: u64) -> (Operation, u32) {
        let operation = match token >> 32 {
            0 => Operation::Receive,
            1 => Operation::Send,
            _ => Operation::Cancel,
        };
        (operation, token as u32)
    }
}

/// One thread's connections. Fields end in this order: the ring before what it points to.
pub struct Sockets {
    ring: IoUring,
    buffers: Buffers,
    /// The bytes of each connection's send in flight.
    sending: ManuallyDrop<Vec<Option<Vec<u8>>>>,
    /// Receives and sends whose last completion has not come.
    in_flight: usize,
    /// Sends submitted since the last wait that will complete while they are submitted.
    inline_sends: usize,
    _files: Vec<OwnedFd>,
}

impl Sockets {
    /// Takes over `files`, connected stream sockets; connection n is the nth. Belongs to the calling thread.
    pub fn new(files: Vec<OwnedFd>) -> Result<Sockets, SocketsError> {
        let refused = |operation| move |source| SocketsError::Refused { operation, source };
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_cqsize(limits::COMPLETIONS)
            .build(limits::SUBMISSIONS)
            .map_err(refused("io_uring_setup"))?;
        let descriptors: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&descriptors).map_err(refused("registering the connections"))?;
        let count = files.len().next_power_of_two().clamp(limits::BUFFERS_MIN, limits::BUFFERS_MAX) as u16;
        let buffers = Buffers::new(count);
        // SAFETY: `entries` points to `count` zeroed entries that begin on a page; `buffers` owns them and is dropped
        // after the ring (field order), or leaked where operations are left.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.memory.as_ptr() as u64, count, GROUP, 0)
        }
        .map_err(refused("registering the buffers"))?;
        buffers.publish();
        let sending = ManuallyDrop::new(files.iter().map(|_| None).collect());
        Ok(Sockets { ring, buffers, sending, in_flight: 0, inline_sends: 0, _files: files })
    }

    /// Asks for whatever arrives on a connection, until a completion says otherwise.
    pub fn receive(&mut self, connection: u32) {
        let entry = opcode::RecvMulti::new(Fixed(connection), GROUP)
            .build()
            .user_data(Operation::Receive.token(connection));
        self.in_flight += 1;
        // SAFETY: the entry points to no memory of its own; the provided buffers outlive the ring's operations.
        unsafe { self.push(&entry) };
    }

    /// Sends all of `bytes`. A connection has one send in flight; `inline` says that the socket's buffer surely has
    /// room for it.
    #[inline]
    pub fn send(&mut self, connection: u32, bytes: Vec<u8>, inline: Inline) {
        let place = &mut self.sending[connection as usize];
        assert!(place.is_none(), "connection {connection} is sending already");
        let bytes = place.insert(bytes);
        let length = u32::try_from(bytes.len()).expect("a burst of requests is far below 4 GiB");
        let entry = opcode::Send::new(Fixed(connection), bytes.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(Operation::Send.token(connection));
        self.in_flight += 1;
        self.inline_sends += usize::from(inline == Inline::Surely);
        // SAFETY: the entry points into a vector that `sending` holds, unchanged, until the send's only completion has
        // been seen; moving the vector's handle does not move its bytes.
        unsafe { self.push(&entry) };
    }

    /// Submits what was asked, and waits until something has arrived (not only sends have ended) or the time is up.
    #[inline]
    pub fn wait(&mut self, at_most_ns: u64) -> io::Result<()> {
        self.buffers.publish();
        // Sends into sockets with room complete while they are submitted; waiting for one completion would return for
        // them alone, and cost a second system call for every turn.
        let want = 1 + mem::take(&mut self.inline_sends);
        self.enter(want, at_most_ns)
    }

    fn enter(&mut self, want: usize, at_most_ns: u64) -> io::Result<()> {
        let time = Timespec::new().sec(at_most_ns / 1_000_000_000).nsec((at_most_ns % 1_000_000_000) as u32);
        match self.ring.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&time)) {
            Ok(_) => Ok(()),
            Err(error) if passes(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next thing that has happened.
    #[inline]
    pub fn reap(&mut self) -> Option<Completion> {
        let completion = self.ring.completion().next()?;
        let (operation, connection) = Operation::of(completion.user_data());
        let more = cqueue::more(completion.flags());
        if operation != Operation::Cancel && !more {
            self.in_flight -= 1;
        }
        Some(match operation {
            Operation::Receive => received(connection, &completion, more),
            Operation::Send => self.sent(connection, completion.result()),
            Operation::Cancel => Completion::Nothing,
        })
    }

    fn sent(&mut self, connection: u32, result: i32) -> Completion {
        let mut buffer = self.sending[connection as usize].take().expect("a send holds its bytes");
        if usize::try_from(result) == Ok(buffer.len()) {
            buffer.clear();
            return Completion::Sent { connection, buffer };
        }
        let error = match result {
            ..0 => io::Error::from_raw_os_error(-result),
            _ => io::ErrorKind::WriteZero.into(),
        };
        Completion::Closed { connection, error: Some(error) }
    }

    /// What has arrived.
    #[inline]
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.filled(filled)
    }

    /// Lets the kernel fill a buffer again, from the next wait on.
    #[inline]
    pub fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled.buffer);
    }

    /// # Safety
    /// What the entry points to must live until its last completion.
    #[inline]
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if passes(&error) => {}
                Err(error) => panic!("io_uring_enter refuses to take submissions: {error}"),
            }
        }
    }

    /// Ends every operation; false where some would not end.
    fn cancel_everything(&mut self) -> bool {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the entry points to no memory.
        unsafe { self.push(&entry.user_data(Operation::Cancel.token(0))) };
        let until = Instant::now() + CANCEL_TIME;
        while self.in_flight > 0 && Instant::now() < until {
            if self.enter(1, 10_000_000).is_err() {
                return false;
            }
            while let Some(completion) = self.reap() {
                if let Completion::Received { filled, .. } = completion {
                    self.give_back(filled);
                }
            }
        }
        self.in_flight == 0
    }
}

/// Whether a send completes while it is submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inline {
    /// The socket's buffer has room for everything that can be unanswered.
    Surely,
    /// It may have to wait for the peer.
    Perhaps,
}

fn received(connection: u32, completion: &cqueue::Entry, armed: bool) -> Completion {
    match (completion.result(), cqueue::buffer_select(completion.flags())) {
        (length @ 1.., Some(buffer)) => {
            Completion::Received { connection, filled: Filled { buffer, length: length as u32 }, armed }
        }
        (error, _) if error == -libc::ENOBUFS => Completion::OutOfBuffers { connection },
        (error, _) => {
            let error = (error < 0).then(|| io::Error::from_raw_os_error(-error));
            Completion::Closed { connection, error }
        }
    }
}

/// Whether to go on as if nothing had been said: interrupted, time up, or the kernel wants completions read first.
fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN))
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if self.cancel_everything() {
            // SAFETY: dropped once, here; nothing uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.sending) };
        } else {
            self.buffers.leaked = true;
        }
    }
}

/// The provided buffers: a ring of entries, and behind it the buffers that these name, in one piece of memory.
struct Buffers {
    memory: NonNull<u8>,
    count: u16,
    tail: u16,
    leaked: bool,
}

impl Buffers {
    fn new(count: u16) -> Buffers {
        let layout = Buffers::layout(count);
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        let mut buffers = Buffers { memory, count, tail: 0, leaked: false };
        (0..count).for_each(|buffer| buffers.give_back(buffer));
        buffers
    }

    fn layout(count: u16) -> Layout {
        let each = size_of::<BufRingEntry>() + limits::BUFFER_BYTES as usize;
        Layout::from_size_align(usize::from(count) * each, PAGE_BYTES).expect("a few MiB")
    }

    fn offset(&self, buffer: u16) -> usize {
        assert!(buffer < self.count, "there is no buffer {buffer}");
        usize::from(self.count) * size_of::<BufRingEntry>()
            + usize::from(buffer) * limits::BUFFER_BYTES as usize
    }

    #[inline]
    fn filled(&self, filled: &Filled) -> &[u8] {
        assert!(filled.length <= limits::BUFFER_BYTES, "the kernel filled more than the buffer");
        // SAFETY: offset and length lie inside the allocation (asserted), which was zeroed, so it is initialised. A
        // buffer named by a `Filled` is ours until that is given back, which needs `&mut`, so nobody writes meanwhile.
        unsafe {
            std::slice::from_raw_parts(
                self.memory.as_ptr().add(self.offset(filled.buffer)),
                filled.length as usize,
            )
        }
    }

    #[inline]
    fn give_back(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, a power of two. The kernel reads entries only before the published tail, and
        // at most `count` buffers exist, so this entry is ours; its address is that of a buffer of `BUFFER_BYTES`.
        unsafe {
            let entry = &mut *self.memory.as_ptr().cast::<BufRingEntry>().add(place);
            entry.set_addr(self.memory.as_ptr().add(self.offset(buffer)) as u64);
            entry.set_len(limits::BUFFER_BYTES);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn publish(&self) {
        // SAFETY: the tail is an aligned u16 inside the first entry; the kernel only reads it, and all our writes to it
        // are these atomic ones. The release orders the entries' fields before it.
        unsafe {
            let tail = BufRingEntry::tail(self.memory.as_ptr().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated with this very layout; the ring, which ended before, has no operation left.
            unsafe { dealloc(self.memory.as_ptr(), Buffers::layout(self.count)) };
        }
    }
}

const _: () = {
    assert!(limits::BUFFERS_MIN.is_power_of_two() && limits::BUFFERS_MAX.is_power_of_two());
    assert!(limits::BUFFERS_MAX <= 1 << 15, "the kernel has at most 32,768 buffers in a group");
    assert!((limits::BUFFERS_MIN * size_of::<BufRingEntry>()).is_multiple_of(PAGE_BYTES));
};
