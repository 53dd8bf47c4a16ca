//! The buffers that a shard provides to the kernel, which picks one for each arrival.
//!
//! ```text
//!     give_back ──▶ entries (a ring that the kernel reads) ──▶ the kernel fills one ──▶ completion ──▶ filled ──┐
//!         ▲                                                                                                    │
//!         └────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{Submitter, types::BufRingEntry};

/// The only group of a ring.
pub(super) const GROUP: u16 = 0;
/// The kernel wants the entries to begin on a page.
const PAGE_BYTES: usize = 4_096;

/// All provided buffers of one ring. Must outlive the ring: the kernel writes into it.
#[derive(Debug)]
pub(super) struct ProvidedBuffers {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    count: u16,
    each_bytes: u32,
    /// How many were ever given to the kernel, modulo 2^16; published by [`ProvidedBuffers::publish`].
    tail: u16,
    leaked: bool,
}

impl ProvidedBuffers {
    /// Allocates `count` buffers, a power of two, and gives them all.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        each_bytes: u32,
    ) -> io::Result<ProvidedBuffers> {
        assert!(count.is_power_of_two(), "the kernel wants a power of two of buffers, not {count}");
        let mut buffers = ProvidedBuffers {
            entries: allocate(entries_layout(count)).cast(),
            bytes: allocate(bytes_layout(count, each_bytes)),
            count,
            each_bytes,
            tail: 0,
            leaked: false,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: `entries` points to `count` zeroed entries on a page boundary, owned by `buffers`, which the driver
        // drops only after its ring (field order), or leaks where the ring could not be emptied.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// What the kernel wrote into buffer `id`, which a completion has just named and nobody has given back since.
    #[inline]
    pub(super) fn filled(&self, id: u16, length: usize) -> &[u8] {
        assert!(
            id < self.count && length <= self.each_bytes as usize,
            "buffer {id} cannot hold {length} bytes"
        );
        // SAFETY: the range lies inside the allocation (asserted), which was zeroed and so is initialised. A buffer that
        // a completion has named belongs to us until `give_back` publishes it, so the kernel does not write to it; the
        // borrow of `self` ends before that, because `give_back` takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().add(self.offset(id)), length) }
    }

    /// Returns buffer `id`. The kernel sees it after the next [`ProvidedBuffers::publish`].
    #[inline]
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "there is no buffer {id}");
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`. The kernel reads entries only before the published tail, and never more than
        // `count` are out, so this one is ours. The address is that of a buffer of `each_bytes` inside `bytes`.
        // The entries' field that doubles as the tail is not among those set here.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.bytes.as_ptr().add(self.offset(id)) as u64);
            entry.set_len(self.each_bytes);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel everything that was given back.
    #[inline]
    pub(super) fn publish(&self) {
        // SAFETY: the tail is a u16 inside the first entry, aligned as such; the kernel only reads it, and we only write
        // it here, atomically. The release store orders the entries' fields before it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the memory up for good, because the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }

    fn offset(&self, id: u16) -> usize {
        usize::from(id) * self.each_bytes as usize
    }
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: both were allocated with these very layouts, and the ring, dropped before, no longer writes to them.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.bytes.as_ptr(), bytes_layout(self.count, self.each_bytes));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    let bytes = usize::from(count) * size_of::<BufRingEntry>();
    Layout::from_size_align(bytes, PAGE_BYTES).expect("at most 32,768 entries of 16 bytes")
}

fn bytes_layout(count: u16, each_bytes: u32) -> Layout {
    let bytes = usize::from(count) * each_bytes as usize;
    Layout::from_size_align(bytes, PAGE_BYTES).expect("at most 32,768 buffers of less than 4 GiB")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    assert!(layout.size() > 0);
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
