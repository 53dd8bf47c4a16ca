//! The one place above the drivers with `unsafe`: prefetching, and memory in huge pages.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use zerocopy::FromZeros;

/// What a huge page of x86-64 and of most arm64 kernels holds.
pub const HUGE_PAGE_BYTES: usize = 2 * 1_024 * 1_024;

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
        let bytes = mapped_bytes::<T>(length);
        // SAFETY: a new private mapping, at an address of the kernel's choice, overlaps nothing.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                bytes + HUGE_PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let mapped = mapped.expect("the system gives memory for the table");
        let before = mapped.addr().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr();
        // SAFETY: `before` is less than the page that was reserved beyond `bytes`, so all three parts lie within the
        // mapping; the outer two are given back and never named again. The advice changes no content; a system
        // without huge pages refuses it, and is served from small ones.
        unsafe {
            let start = mapped.byte_add(before);
            if before > 0 {
                munmap(mapped, before).expect("the front of a mapping can be given back");
            }
            munmap(start.byte_add(bytes), HUGE_PAGE_BYTES - before)
                .expect("the end of a mapping can be given back");
            let _ = madvise(start, bytes, Advice::LinuxHugepage);
            Pages { start: NonNull::new(start.cast()).expect("a mapping is not at 0"), length }
        }
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
        let bytes = mapped_bytes::<T>(self.length);
        // SAFETY: the mapping is this value's own, and nobody can name it any more.
        unsafe { munmap(self.start.as_ptr().cast(), bytes).expect("a whole mapping can be given back") };
    }
}

/// One huge page of bytes, zero at first.
pub struct HugePage(Pages<u8>);

impl HugePage {
    /// # Panics
    /// As [`Pages::zeroed`].
    pub fn zeroed() -> HugePage {
        HugePage(Pages::zeroed(HUGE_PAGE_BYTES))
    }
}

impl Deref for HugePage {
    type Target = [u8; HUGE_PAGE_BYTES];
    #[inline]
    fn deref(&self) -> &[u8; HUGE_PAGE_BYTES] {
        // SAFETY: so many bytes from `start` on are mapped and this value's own.
        unsafe { self.0.start.cast().as_ref() }
    }
}

impl DerefMut for HugePage {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8; HUGE_PAGE_BYTES] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { self.0.start.cast().as_mut() }
    }
}

/// Asks for the cache line that holds `value`, to be read soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing into the program and faults on no address. SSE, which it needs,
    // is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
