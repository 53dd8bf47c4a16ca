//! Making a shard's ring, and the sentences for a kernel that refuses.

use std::io;

use io_uring::{IoUring, opcode, register::Restriction, squeue};
use rustix::process::{Resource, getrlimit};

use super::{buffers::ProvidedBuffers, queue::Queue, spinning::Spin};
use crate::{
    drivers::{DriverError, refusal},
    limits,
};

/// How large a ring's parts are, and when its loop polls. The default is [`crate::limits`], and never; tests take less,
/// to reach the ends.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Operations that can be queued before one more has to submit them.
    pub submissions: u32,
    /// Completions that fit; more wait in the kernel, which is slow but loses nothing.
    pub completions: u32,
    /// Provided buffers, a power of two.
    pub buffers: u16,
    /// Bytes of one.
    pub buffer_bytes: u32,
    /// Direct descriptors, one a connection.
    pub connections: u32,
    /// When the loop polls before it sleeps.
    pub spin: Spin,
}

impl Default for RingSizes {
    fn default() -> RingSizes {
        RingSizes {
            submissions: limits::RING_SUBMISSIONS,
            completions: limits::RING_COMPLETIONS,
            buffers: limits::PROVIDED_BUFFERS,
            buffer_bytes: u32::try_from(limits::PROVIDED_BUFFER_BYTES).expect("a buffer is far below 4 GiB"),
            connections: limits::CONNECTIONS_MAX,
            spin: Spin::default(),
        }
    }
}

impl RingSizes {
    /// Bytes that the kernel locks for one ring: 64 for a submission and 4 for its place, 16 for a completion, 16 for a
    /// provided buffer's entry, and a page for the rings' heads.
    pub fn locked_bytes(&self) -> u64 {
        u64::from(self.submissions) * (64 + 4)
            + u64::from(self.completions) * 16
            + u64::from(self.buffers) * 16
            + 4_096
    }
}

/// Makes the ring of the calling thread, which alone may use it from then on.
pub(super) fn make(sizes: &RingSizes) -> Result<(Queue, ProvidedBuffers), DriverError> {
    let refused = |operation| move |source| refusal::explain(operation, source, sizes.locked_bytes());
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_r_disabled()
        .setup_cqsize(sizes.completions)
        .build(sizes.submissions)
        .map_err(refused("io_uring_setup"))?;
    let submitter = ring.submitter();
    // A direct descriptor counts against no limit, but their table may have no more places than RLIMIT_NOFILE says.
    let connections = sizes.connections.min(open_files_max());
    submitter.register_files_sparse(connections).map_err(refused("registering the connections' table"))?;
    // Shutting down is the one operation that the kernel hands to a worker thread of its own; one is enough for it.
    submitter.register_iowq_max_workers(&mut [1, 1]).map_err(refused("limiting the ring's workers"))?;
    let buffers = ProvidedBuffers::register(&submitter, sizes.buffers, sizes.buffer_bytes)
        .map_err(refused("registering the provided buffers"))?;
    submitter.register_restrictions(&mut restrictions()).map_err(refused("restricting the ring"))?;
    submitter.register_enable_rings().map_err(refused("enabling the ring"))?;
    if !(ring.params().is_feature_nodrop() && ring.params().is_feature_ext_arg()) {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        return Err(DriverError::KernelTooOld { operation: "io_uring's features", source });
    }
    Ok((Queue::new(ring, connections), buffers))
}

/// Only what the loop does; everything else is forbidden to this ring, whoever gets hold of it.
fn restrictions() -> [Restriction; 10] {
    let flags = squeue::Flags::FIXED_FILE
        | squeue::Flags::BUFFER_SELECT
        | squeue::Flags::SKIP_SUCCESS
        | squeue::Flags::IO_LINK;
    [
        Restriction::sqe_op(opcode::AcceptMulti::CODE),
        Restriction::sqe_op(opcode::RecvMulti::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_op(opcode::Shutdown::CODE),
        Restriction::sqe_op(opcode::Close::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_op(opcode::Write::CODE),
        Restriction::sqe_op(opcode::FilesUpdate::CODE),
        Restriction::sqe_flags_allowed(flags.bits()),
    ]
}

fn open_files_max() -> u32 {
    getrlimit(Resource::Nofile).current.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

/// Whether this host permits such rings: makes the smallest, and gives it up again.
pub(super) fn probe() -> Result<(), DriverError> {
    let smallest = RingSizes {
        submissions: 1,
        completions: 2,
        buffers: 1,
        buffer_bytes: 64,
        connections: 1,
        spin: Spin::default(),
    };
    // The queue goes before the buffers that it writes into.
    let (queue, buffers) = make(&smallest)?;
    drop(queue);
    drop(buffers);
    Ok(())
}

#[cfg(test)]
mod tests {
    use io_uring::types;

    use super::*;

    fn message(errno: i32) -> String {
        let locked_bytes = RingSizes::default().locked_bytes();
        refusal::explain("io_uring_setup", io::Error::from_raw_os_error(errno), locked_bytes).to_string()
    }

    /// Whoever had found a way to write to the ring could have opened files with it, or connected to anywhere.
    #[test]
    fn the_ring_does_what_its_loop_does_and_nothing_else() {
        let sizes = RingSizes {
            submissions: 8,
            completions: 16,
            buffers: 1,
            buffer_bytes: 64,
            ..RingSizes::default()
        };
        let (queue, buffers) = make(&sizes).unwrap();
        let mut ring = queue.into_ring();
        let mut outcome = |entry: squeue::Entry| {
            // SAFETY: nothing that these point to is touched, for each is refused, or has no bytes.
            unsafe { ring.submission().push(&entry).unwrap() };
            ring.submit_and_wait(1).unwrap();
            ring.completion().next().unwrap().result()
        };
        let path = c"/etc/passwd".as_ptr();
        let at = types::Fd(libc::AT_FDCWD);
        let forbidden = [
            opcode::OpenAt::new(at, path).build(),
            opcode::Connect::new(at, std::ptr::null(), 0).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
            opcode::Read::new(types::Fd(0), std::ptr::null_mut(), 0).build(),
            opcode::SendMsg::new(types::Fd(0), std::ptr::null()).build(),
            opcode::UnlinkAt::new(at, path).build(),
            opcode::Nop::new().build(),
            opcode::Write::new(types::Fd(2), std::ptr::null(), 0).build().flags(squeue::Flags::IO_DRAIN),
        ];
        for entry in forbidden {
            assert_eq!(outcome(entry.clone()), -libc::EACCES, "{entry:?}");
        }
        let allowed = opcode::AsyncCancel::new(7).build();
        assert_eq!(outcome(allowed), -libc::ENOENT, "there is nothing to cancel, and it may be tried");
        // Nor can it be changed any more.
        let refusal = ring.submitter().register_files_sparse(1).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(libc::EACCES));
        drop((ring, buffers));
    }

    #[test]
    fn a_refusal_says_what_to_change() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
            let message = message(errno);
            assert!(
                message.contains("kernel.io_uring_disabled") && message.contains("forbidden"),
                "{message}"
            );
        }
        assert!(message(libc::EPERM).contains("seccomp"));
        let memlock = message(libc::ENOMEM);
        assert!(memlock.contains("ulimit -l") && memlock.contains("LimitMEMLOCK"), "{memlock}");
        assert!(memlock.contains(&RingSizes::default().locked_bytes().to_string()), "{memlock}");
        assert!(message(libc::EINVAL).contains("6.1"));
        assert!(message(libc::EMFILE).starts_with("io_uring_setup: "));
    }

    #[test]
    fn a_setting_that_forbids_is_named_with_its_value() {
        let source = io::Error::from_raw_os_error(libc::EPERM);
        let message = DriverError::Forbidden { sysctl: Some(2), source }.to_string();
        assert!(
            message.contains("kernel.io_uring_disabled = 2") && !message.contains("seccomp"),
            "{message}"
        );
    }
}
