//! The submission and completion queues: one method for each operation that the loop uses, and the one system call.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    ptr,
    time::Duration,
};

use io_uring::{
    EnterFlags, IoUring, cqueue, opcode, squeue,
    types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec},
};

use super::{
    buffers,
    token::{Operation, Token},
};
use crate::drivers::{DriverError, ShardWaker};
use crate::limits::COMPLETIONS_COPIED_MAX;

/// How long a turn may wait in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Not at all: let the kernel do what it has put off, and come back.
    Poll,
    /// Until something completes, or this many µs have passed.
    AtMostUs(u64),
    /// Until something completes.
    Forever,
}

/// The ring and what is out in it.
pub(super) struct Queue {
    ring: IoUring,
    enter_flags: EnterFlags,
    connections_max: u32,
    /// Operations whose last completion has not been seen.
    in_flight: u32,
}

/// The completions of one copy.
pub(super) struct Copied {
    entries: [MaybeUninit<cqueue::Entry>; COMPLETIONS_COPIED_MAX],
}

impl Copied {
    pub(super) fn new() -> Copied {
        Copied { entries: [const { MaybeUninit::uninit() }; COMPLETIONS_COPIED_MAX] }
    }
}

impl Queue {
    pub(super) fn new(ring: IoUring, connections_max: u32) -> Queue {
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if ring.params().is_feature_no_iowait() {
            // A sleeping shard is idle; without this it would be counted as waiting for a disk.
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        Queue { ring, enter_flags, connections_max, in_flight: 0 }
    }

    /// The ring itself, to try what it forbids.
    #[cfg(test)]
    pub(super) fn into_ring(self) -> IoUring {
        self.ring
    }

    /// Slots for connections.
    pub(super) fn connections_max(&self) -> u32 {
        self.connections_max
    }

    /// Operations that the kernel still holds.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether completions lie there unread.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Submits what is queued, runs what the kernel has put off, flushes completions that did not fit, and waits: the
    /// one system call of a shard's thread.
    pub(super) fn enter(&mut self, wait: Wait) -> Result<(), DriverError> {
        let queued = u32::try_from(self.ring.submission().len()).expect("the queue's length came as a u32");
        let timespec = match wait {
            Wait::AtMostUs(us) => Some(Timespec::from(Duration::from_micros(us))),
            Wait::Poll | Wait::Forever => None,
        };
        let args = timespec.as_ref().map_or(SubmitArgs::new(), |most| SubmitArgs::new().timespec(most));
        let at_least = u32::from(wait != Wait::Poll);
        // GETEVENTS is there even when nothing is awaited: with DEFER_TASKRUN a plain submission runs no task work.
        // SAFETY: EXT_ARG says that the argument is an `io_uring_getevents_arg`, which `SubmitArgs` transparently is, and
        // it and the timespec it points to live until the call returns. What the queued entries point to is the business
        // of the methods that queued them.
        let entered =
            unsafe { self.ring.submitter().enter(queued, at_least, self.enter_flags.bits(), Some(&args)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if passes(&error) => Ok(()),
            Err(source) => Err(DriverError::Operation { operation: "io_uring_enter", source }),
        }
    }

    /// Copies some completions out, in order; empty when there are none.
    pub(super) fn reap<'a>(&mut self, copied: &'a mut Copied) -> &'a [cqueue::Entry] {
        self.ring.completion().fill(&mut copied.entries)
    }

    /// Notes that an operation's last completion has been seen.
    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
    }

    /// Accepts everything that comes, into free slots, until told otherwise.
    pub(super) fn accept_many(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true).build();
        // SAFETY: the entry points to no memory.
        unsafe { self.push_awaited(entry, token) };
    }

    /// Accepts a connection as a descriptor of the process's, which a system call can ask about.
    pub(super) fn accept_descriptor(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), ptr::null_mut(), ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: the entry asks for no address, so it points to no memory.
        unsafe { self.push_awaited(entry, token) };
    }

    /// Accepts one connection into a free slot.
    pub(super) fn accept_once(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), ptr::null_mut(), ptr::null_mut())
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        // SAFETY: the entry asks for no address, so it points to no memory.
        unsafe { self.push_awaited(entry, token) };
    }

    /// Receives into provided buffers until told otherwise.
    pub(super) fn receive_many(&mut self, token: Token) {
        // SAFETY: the entry points to no memory; the buffers' lifetime is that of `ProvidedBuffers`.
        unsafe {
            self.push_awaited(opcode::RecvMulti::new(Fixed(token.slot), buffers::GROUP).build(), token)
        };
    }

    /// Waits until the peer has sent all it will, or is gone. Bytes that come do not wake it.
    pub(super) fn watch_end(&mut self, token: Token) {
        let flags = u32::try_from(libc::POLLRDHUP).expect("a small constant");
        // SAFETY: the entry points to no memory.
        unsafe { self.push_awaited(opcode::PollAdd::new(Fixed(token.slot), flags).build(), token) };
    }

    /// Sends.
    ///
    /// # Safety
    /// The bytes must stay where and what they are until the operation has completed.
    pub(super) unsafe fn send(&mut self, bytes: &[u8], token: Token) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry =
            opcode::Send::new(Fixed(token.slot), bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
        // SAFETY: the caller keeps the bytes until completion.
        unsafe { self.push_awaited(entry, token) };
    }

    /// Closes our half of a connection.
    pub(super) fn shutdown(&mut self, token: Token) {
        // SAFETY: the entry points to no memory.
        unsafe { self.push_awaited(opcode::Shutdown::new(Fixed(token.slot), libc::SHUT_WR).build(), token) };
    }

    /// Sends `last_word`, and then closes our half of a connection. What has failed to send it cancels the second.
    ///
    /// # Safety
    /// The bytes must stay where and what they are until the operation has completed.
    pub(super) unsafe fn shutdown_after(&mut self, last_word: &[u8], token: Token) {
        // A chain must not be cut by the queue's end.
        let submissions = self.ring.submission();
        let room = submissions.capacity() - submissions.len();
        drop(submissions);
        if room < 2 {
            self.submit();
        }
        let length = u32::try_from(last_word.len()).expect("an alert");
        let send = opcode::Send::new(Fixed(token.slot), last_word.as_ptr(), length).flags(libc::MSG_NOSIGNAL);
        let flags = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
        let aside = Token::of(Operation::Aside, 0);
        let send = send.build().flags(flags).user_data(aside.to_user_data());
        // SAFETY: the caller keeps the bytes until the shutdown has completed, which is after the send has.
        unsafe { self.push(&send) };
        self.shutdown(token);
    }

    /// Puts a descriptor into a free slot: `place` holds the one, and then the other.
    ///
    /// # Safety
    /// It must stay where it is, and be touched by nobody, until the operation has completed.
    pub(super) unsafe fn install(&mut self, place: &mut RawFd, token: Token) {
        // IORING_FILE_INDEX_ALLOC: any free slot.
        let entry = opcode::FilesUpdate::new(ptr::from_mut(place).cast_const(), 1).offset(-1).build();
        // SAFETY: the caller keeps the place until completion.
        unsafe { self.push_awaited(entry, token) };
    }

    /// Closes a descriptor of the process's.
    pub(super) fn close_descriptor(&mut self, descriptor: RawFd) {
        // SAFETY: the entry points to no memory.
        unsafe { self.push_aside(opcode::Close::new(Fd(descriptor)).build()) };
    }

    /// Closes a connection's descriptor and frees its slot.
    pub(super) fn close(&mut self, token: Token) {
        // SAFETY: the entry points to no memory.
        unsafe { self.push_awaited(opcode::Close::new(Fixed(token.slot)).build(), token) };
    }

    /// Watches for this shard's being woken until told otherwise.
    pub(super) fn watch(&mut self, waker: &ShardWaker, token: Token) {
        let fd = Fd(waker.as_fd().as_raw_fd());
        let flags = u32::try_from(libc::POLLIN).expect("a small constant");
        // SAFETY: the entry points to no memory.
        unsafe { self.push_awaited(opcode::PollAdd::new(fd, flags).multi(true).build(), token) };
    }

    /// Wakes a neighbour.
    pub(super) fn wake(&mut self, waker: &ShardWaker) {
        static WAKE: [u8; 8] = ShardWaker::WAKE;
        let fd = Fd(waker.as_fd().as_raw_fd());
        let length = u32::try_from(WAKE.len()).expect("eight");
        // SAFETY: the bytes are a static.
        unsafe { self.push_aside(opcode::Write::new(fd, WAKE.as_ptr(), length).build()) };
    }

    /// Cancels the operation that carries this token; its own last completion says so.
    pub(super) fn cancel(&mut self, token: Token) {
        // SAFETY: the entry points to no memory.
        unsafe { self.push_aside(opcode::AsyncCancel::new(token.to_user_data()).build()) };
    }

    /// Cancels every operation on a connection.
    pub(super) fn cancel_connection(&mut self, slot: u32) {
        let what = CancelBuilder::fd(Fixed(slot)).all();
        // SAFETY: the entry points to no memory.
        unsafe { self.push_aside(opcode::AsyncCancel2::new(what).build()) };
    }

    /// Cancels every operation of the ring.
    pub(super) fn cancel_everything(&mut self) {
        // SAFETY: the entry points to no memory.
        unsafe { self.push_aside(opcode::AsyncCancel2::new(CancelBuilder::any()).build()) };
    }

    /// # Safety
    /// What the entry points to must live until its last completion.
    unsafe fn push_awaited(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        // SAFETY: passed on.
        unsafe { self.push(&entry.user_data(token.to_user_data())) };
    }

    /// # Safety
    /// What the entry points to must live until its completion, which is seen only if it fails.
    unsafe fn push_aside(&mut self, entry: squeue::Entry) {
        let token = Token::of(Operation::Aside, 0);
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(token.to_user_data());
        // SAFETY: passed on.
        unsafe { self.push(&entry) };
    }

    /// # Safety
    /// What the entry points to must live until its last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: passed on.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit();
        }
    }

    /// Full in the middle of a turn: hands over what is there. This runs no task work, so it adds no completions but those of
    /// what ends at once, and the kernel keeps those that do not fit.
    fn submit(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            Err(error) if passes(&error) => {}
            Err(error) => panic!("io_uring_enter refuses to take submissions: {error}"),
        }
    }
}

/// Whether the next turn may simply try again: interrupted, the time is up, or the kernel wants completions read or
/// memory freed first.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("in_flight", &self.in_flight)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}
