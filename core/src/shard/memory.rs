//! The one place above the drivers with `unsafe`: prefetching, and memory in huge pages.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap_fixed, munmap};
use zerocopy::FromZeros;

/// What a huge page of x86-64 and of most arm64 kernels holds.
pub const HUGE_PAGE_BYTES: usize = 2 * 1_024 * 1_024;
/// What the upper level of a page table of x86-64 points to: of a mapping that begins at a multiple of it, so much moves at once.
const GIB: usize = 1_024 * 1_024 * 1_024;
const CACHE_LINE_BYTES: usize = 64;

const GIVES: &str = "the system gives memory for the table";
const NOT_AT_0: &str = "a mapping is not at 0";

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
        const { assert!(align_of::<T>() <= HUGE_PAGE_BYTES && !core::mem::needs_drop::<T>()) };
        let start = map(mapped_bytes::<T>(length));
        Pages { start: NonNull::new(start.cast()).expect(NOT_AT_0), length }
    }

    /// Makes them more, whose new ones are zero. The others keep their content and move with their pages, of which no byte is
    /// copied: some µs a GiB, and 0.2 ms where they are less than one.
    ///
    /// # Panics
    /// As [`Pages::zeroed`], and where there would be fewer.
    pub fn grow(&mut self, length: usize) {
        assert!(length >= self.length, "pages only grow");
        let (before, after) = (mapped_bytes::<T>(self.length), mapped_bytes::<T>(length));
        let target = map(after);
        // SAFETY: the old mapping is this value's own, borrowed exclusively, so that nothing refers into it; the new one, which
        // this replaces, is named by nobody else. What it gains is zeroed by the kernel.
        let moved =
            unsafe { mremap_fixed(self.start.as_ptr().cast(), before, after, MremapFlags::MAYMOVE, target) };
        self.start = NonNull::new(moved.expect(GIVES).cast()).expect(NOT_AT_0);
        self.length = length;
    }

    /// Forgets all behind the first `length`, and gives back what no page is needed for any more.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn truncate(&mut self, length: usize) {
        assert!(length <= self.length, "what is cut off is there");
        let (before, after) = (mapped_bytes::<T>(self.length), mapped_bytes::<T>(length));
        self.length = length;
        if after < before {
            // SAFETY: this end of the mapping is this value's own, borrowed exclusively, and lies behind all that it names from now on.
            unsafe { munmap(self.start.as_ptr().cast::<c_void>().byte_add(after), before - after) }
                .expect("the end of a mapping can be given back");
        }
    }
}

impl<T> Pages<T> {
    /// Where the huge page lies that holds an element; `None` where there is no such element.
    pub fn page_of(&self, element: usize) -> Option<PageAddress> {
        let at = self.start.addr().get() + element * size_of::<T>();
        (element < self.length).then_some(PageAddress(at - at % HUGE_PAGE_BYTES))
    }
}

/// Where a huge page lies, or lay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageAddress(usize);

/// The pages that a shard's table touches next, of its records and of its index, told to whoever has time to have the system fill
/// them with zeroes. That takes 0.1 ms for a huge page, but some ms in a virtual machine whose host has no memory at hand; and
/// meanwhile the shard would answer nobody.
#[derive(Default, Debug)]
pub struct NextPages([AtomicUsize; 2]);

impl NextPages {
    /// From the shard.
    pub fn tell(&self, next: [Option<PageAddress>; 2]) {
        for (place, next) in self.0.iter().zip(next) {
            place.store(next.map_or(0, |page| page.0), Relaxed);
        }
    }

    /// Has the pages filled that were told since the last call.
    pub fn fill(&self) {
        for place in &self.0 {
            if place.load(Relaxed) == 0 {
                continue;
            }
            let at = core::ptr::without_provenance_mut(place.swap(0, Relaxed));
            // SAFETY: this gives memory to pages that have none yet, and changes no byte of any other. Where the table has moved
            // meanwhile, nothing lies here, which the system says, or something else does, to which it does no more either.
            let _ = unsafe { madvise(at, HUGE_PAGE_BYTES, Advice::LinuxPopulateWrite) };
        }
    }
}

fn mapped_bytes<T>(length: usize) -> usize {
    (length * size_of::<T>()).max(1).next_multiple_of(HUGE_PAGE_BYTES)
}

impl Pages<u8> {
    /// Asks for the two cache lines from a byte on, to be read soon. Harmless where there is no such byte.
    #[inline(always)]
    pub fn prefetch(&self, at: usize) {
        let first = self.start.as_ptr().wrapping_add(at);
        prefetch_line(first);
        prefetch_line(first.wrapping_add(CACHE_LINE_BYTES));
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many `T`s from `start` on are mapped, aligned to a huge page, zeroed by the kernel, which makes
        // them `T`s, and this value's own.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        let bytes = mapped_bytes::<T>(self.length);
        // SAFETY: the mapping is this value's own, and nobody can name it any more.
        unsafe { munmap(self.start.as_ptr().cast(), bytes).expect("a whole mapping can be given back") };
    }
}

/// A new private mapping of so many bytes, aligned to huge pages and to GiBs if it holds any, and made of them where the system gives any.
///
/// # Panics
/// Where the system has no more memory to give: serving on would be a guess.
fn map(bytes: usize) -> *mut c_void {
    let alignment = if bytes < GIB { HUGE_PAGE_BYTES } else { GIB };
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
    // SAFETY: a new private mapping, at an address of the kernel's choice, overlaps nothing.
    let mapped =
        unsafe { mmap_anonymous(core::ptr::null_mut(), bytes + alignment, protection, flags) }.expect(GIVES);
    let before = mapped.addr().next_multiple_of(alignment) - mapped.addr();
    // SAFETY: `before` is less than what was mapped beyond `bytes`, so all three parts lie within the
    // mapping; the outer two are given back and never named again. The advice changes no content; a system
    // without huge pages refuses it, and is served from small ones.
    unsafe {
        let start = mapped.byte_add(before);
        if before > 0 {
            munmap(mapped, before).expect("the front of a mapping can be given back");
        }
        munmap(start.byte_add(bytes), alignment - before).expect("the end of a mapping can be given back");
        let _ = madvise(start, bytes, Advice::LinuxHugepage);
        start
    }
}

/// Asks for the cache line that holds `value`, to be read soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_line(core::ptr::from_ref(value).cast());
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing into the program and faults on no address. SSE, which it needs,
    // is part of x86-64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the system has given memory to a page (proc_pid_pagemap(5)).
    fn is_there(page: PageAddress) -> bool {
        use std::io::{Read, Seek, SeekFrom};
        let mut map = std::fs::File::open("/proc/self/pagemap").unwrap();
        map.seek(SeekFrom::Start((page.0 / rustix::param::page_size() * 8) as u64)).unwrap();
        let mut entry = [0; 8];
        map.read_exact(&mut entry).unwrap();
        u64::from_le_bytes(entry) >> 63 == 1
    }

    /// Once a shard that took its next page stood still while the system filled it with zeroes: up to 15 ms where a host gave the machine
    /// its memory only then.
    #[test]
    fn a_page_is_there_before_it_is_touched_and_nothing_else_changes() {
        let mut pages = Pages::<u64>::zeroed(4 * HUGE_PAGE_BYTES / size_of::<u64>());
        pages[0] = 7;
        let last = pages.len() - 1;
        let [first, second, fourth] = [0, last / 2, last].map(|element| pages.page_of(element).unwrap());
        assert!(is_there(first) && !is_there(fourth));
        let next = NextPages::default();
        next.tell([Some(first), Some(fourth)]);
        next.fill();
        assert!(is_there(fourth) && !is_there(second));
        assert_eq!((pages[0], pages[last], pages.page_of(last + 1)), (7, 0, None));

        // Told, and gone before anybody had time.
        next.tell([Some(second), None]);
        drop(pages);
        next.fill();
    }

    #[test]
    fn what_grows_keeps_its_content_and_the_rest_is_zero() {
        let mut pages = Pages::<u64>::zeroed(1_000);
        pages[0] = 1;
        pages[999] = 2;
        for length in [1_000, 1_001, 300_000, 2_000_000] {
            let before = pages.to_vec();
            pages.grow(length);
            assert_eq!(pages[..before.len()], before);
            assert!(pages.len() == length && pages[before.len()..].iter().all(|&number| number == 0));
            pages[length - 1] = length as u64;
        }
        for length in [2_000_000, 1_999_999, 300_000, 1_000, 0] {
            pages.truncate(length);
            assert_eq!(pages.len(), length);
            assert_eq!(pages.first().copied().unwrap_or(1), 1);
        }
    }
}
