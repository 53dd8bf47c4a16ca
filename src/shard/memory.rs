//! The one place above the drivers with `unsafe`: prefetching, and memory in huge pages.

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use zerocopy::FromZeros;

/// What a huge page of x86-64 and of most arm64 kernels holds.
pub const HUGE_PAGE_BYTES: usize = 2 * 1_024 * 1_024;
const CACHE_LINE_BYTES: usize = 64;

/// `T`s, all zero at first, in a mapping of their own, aligned to huge pages and made of them where the system gives any: a lookup at
/// random touches two places, and with small pages each costs a walk through the page tables besides.
pub struct Pages<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, like a boxed slice's memory.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above; shared references only read.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: FromZeros> Pages<T> {
    /// # Panics
    /// Where the system has no more memory to give: serving on would be a guess.
    pub fn zeroed(length: usize) -> Pages<T> {
        const { assert!(align_of::<T>() <= HUGE_PAGE_BYTES && !std::mem::needs_drop::<T>()) };
        let start = map(mapped_bytes::<T>(length), ProtFlags::READ | ProtFlags::WRITE);
        Pages { start: start.expect("the system gives memory for the table").cast(), length }
    }
}

fn mapped_bytes<T>(length: usize) -> usize {
    (length * size_of::<T>()).max(1).next_multiple_of(HUGE_PAGE_BYTES)
}

impl<T> Deref for Pages<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many `T`s from `start` on are mapped, aligned to a huge page, zeroed by the kernel, which makes
        // them `T`s, and this value's own.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody can name it any more.
        unsafe { unmap(self.start.cast(), mapped_bytes::<T>(self.length)) };
    }
}

/// Bytes at addresses that stay: reserved all at once, which takes address space and no memory, and held from the front on, zero at first.
/// One slice, so that where a byte lies takes no looking up.
pub struct Region {
    start: NonNull<u8>,
    reserved: usize,
    held: usize,
}

// SAFETY: the mapping belongs to this value alone, like a boxed slice's memory.
unsafe impl Send for Region {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves room for at most so many bytes, a multiple of huge pages; holds none of them yet.
    ///
    /// # Panics
    /// Where the process may not have the address space.
    pub fn reserve(bytes: usize) -> Region {
        assert!(bytes > 0 && bytes.is_multiple_of(HUGE_PAGE_BYTES), "whole huge pages are reserved");
        let start = map(bytes, ProtFlags::empty()).unwrap_or_else(|error| {
            panic!(
                "{} GiB of address space (not of memory) for a shard's records: {error}: raise RLIMIT_AS (ulimit -v)",
                bytes >> 30
            )
        });
        Region { start, reserved: bytes, held: 0 }
    }

    /// Holds a huge page more.
    ///
    /// # Panics
    /// Where that goes beyond what was reserved, or the system has no more memory to give: serving on would be a guess.
    pub fn grow(&mut self) {
        assert!(self.held < self.reserved, "a region holds at most what it has reserved");
        // SAFETY: the page lies within the mapping, right behind what any slice of it covers, and nobody names it yet.
        let opened = unsafe {
            let end = self.start.as_ptr().add(self.held);
            mprotect(end.cast(), HUGE_PAGE_BYTES, MprotectFlags::READ | MprotectFlags::WRITE)
        };
        opened.expect("the system gives memory for the table");
        self.held += HUGE_PAGE_BYTES;
    }

    /// Asks for the two cache lines from a byte on, to be read soon. Harmless where there is no such byte.
    #[inline(always)]
    pub fn prefetch(&self, at: usize) {
        let first = self.start.as_ptr().wrapping_add(at);
        prefetch_line(first);
        prefetch_line(first.wrapping_add(CACHE_LINE_BYTES));
    }
}

impl Deref for Region {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes from `start` on may be read and written, were zeroed by the kernel, and are this value's own.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.held) }
    }
}

impl DerefMut for Region {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.held) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nobody can name it any more.
        unsafe { unmap(self.start, self.reserved) };
    }
}

/// A new private mapping of so many bytes, aligned to huge pages, and made of them where the system gives any.
fn map(bytes: usize, protection: ProtFlags) -> io::Result<NonNull<u8>> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new private mapping, at an address of the kernel's choice, overlaps nothing.
    let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes + HUGE_PAGE_BYTES, protection, flags)? };
    let before = mapped.addr().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr();
    // SAFETY: `before` is less than the page that was mapped beyond `bytes`, so all three parts lie within the
    // mapping; the outer two are given back and never named again. The advice changes no content; a system
    // without huge pages refuses it, and is served from small ones.
    unsafe {
        let start = mapped.byte_add(before);
        if before > 0 {
            munmap(mapped, before).expect("the front of a mapping can be given back");
        }
        munmap(start.byte_add(bytes), HUGE_PAGE_BYTES - before).expect("the end of a mapping can be given back");
        let _ = madvise(start, bytes, Advice::LinuxHugepage);
        Ok(NonNull::new(start.cast()).expect("a mapping is not at 0"))
    }
}

/// # Safety
/// The mapping was made by [`map`] with so many bytes, and nobody names it any more.
unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on.
    unsafe { munmap(start.as_ptr().cast(), bytes).expect("a whole mapping can be given back") };
}

/// Asks for the cache line that holds `value`, to be read soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_line(std::ptr::from_ref(value).cast());
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing into the program and faults on no address. SSE, which it needs,
    // is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
