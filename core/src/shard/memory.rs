//! The one place above the drivers with `unsafe`: prefetching, and memory in huge pages.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use zerocopy::FromZeros;

/// What a huge page of x86-64 and of most arm64 kernels holds.
pub const HUGE_PAGE_BYTES: usize = 2 * 1_024 * 1_024;
const CACHE_LINE_BYTES: usize = 64;

const GIVES: &str = "the system gives memory for the table";
const NOT_AT_0: &str = "a mapping is not at 0";
const WHOLE: &str = "a whole mapping can be given back";

/// `T`s, all zero at first, in a mapping of their own, aligned to huge pages and made of them where the system gives any: a lookup at
/// random touches two places, and with small pages each costs a walk through the page tables besides.
pub struct Pages<T> {
    start: NonNull<T>,
    length: usize,
    /// Bytes of the mapping, and to how many of them it may grow.
    mapped: usize,
    room: usize,
}

// SAFETY: the mapping belongs to this value alone, like a boxed slice's memory.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above; shared references only read.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: FromZeros> Pages<T> {
    /// # Panics
    /// Where the system has no more memory to give: serving on would be a guess.
    pub fn zeroed(length: usize) -> Pages<T> {
        let start = Pages::map(mapped_bytes::<T>(length), ProtFlags::READ | ProtFlags::WRITE);
        Pages { start, length, mapped: mapped_bytes::<T>(length), room: 0 }
    }

    /// The same, with addresses for `most`. They are no memory, and count as none, before it grows into them.
    ///
    /// # Panics
    /// As [`Pages::zeroed`], and where `most` are fewer.
    pub fn with_room(length: usize, most: usize) -> Pages<T> {
        let room = mapped_bytes::<T>(most);
        let mut pages = Pages { start: Pages::map(room, ProtFlags::empty()), length: 0, mapped: room, room };
        pages.grow(length);
        pages
    }

    fn map(bytes: usize, protection: ProtFlags) -> NonNull<T> {
        const { assert!(align_of::<T>() <= HUGE_PAGE_BYTES && !core::mem::needs_drop::<T>()) };
        NonNull::new(map(bytes, protection).cast()).expect(NOT_AT_0)
    }

    /// Makes them more, whose new ones are zero. Nothing moves.
    ///
    /// # Panics
    /// As [`Pages::zeroed`], and where there would be fewer, or more than there is room for.
    pub fn grow(&mut self, length: usize) {
        let after = mapped_bytes::<T>(length);
        assert!(length >= self.length && after <= self.room, "pages only grow, and into their room");
        // SAFETY: all of it is this value's own mapping. What could be read and written goes on to be; the rest nobody has referred to,
        // and it is zeroed by the kernel once it is touched.
        unsafe { mprotect(self.start.as_ptr().cast(), after, MprotectFlags::READ | MprotectFlags::WRITE) }
            .expect(GIVES);
        self.length = length;
    }

    /// Forgets all behind the first `length`, and grows no more. Their memory stays: to give it back has to wait for whoever fills pages,
    /// who may have lost his CPU.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn truncate(&mut self, length: usize) {
        assert!(length <= self.length, "what is cut off is there");
        (self.length, self.room) = (length, 0);
    }
}

impl<T> Pages<T> {
    /// Where the huge page lies that holds an element; `None` where there is no such element.
    pub fn page_of(&self, element: usize) -> Option<PageAddress> {
        let at = self.start.addr().get() + element * size_of::<T>();
        (element < self.length).then_some(PageAddress(at - at % HUGE_PAGE_BYTES))
    }

    /// Where the first huge page lies, and where the one behind the last would.
    fn span(&self) -> (usize, usize) {
        let start = self.start.addr().get();
        (start, start + self.mapped)
    }
}

/// Where a huge page lies, or lay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageAddress(usize);

/// What somebody who has time does for a shard whose table grows: pages that it touches next are filled with zeroes, and what it is
/// done with goes back to the system. A page takes 0.1 ms, but some ms in a virtual machine whose host has no memory at hand; what
/// goes back waits for that. Meanwhile the shard would answer nobody.
#[derive(Default, Debug)]
pub struct Housekeeping {
    /// Of the records: a page, or 0.
    next: AtomicUsize,
    /// The next page of those that the index moves to; and the end of them.
    ahead: (AtomicUsize, AtomicUsize),
    /// A mapping, or 0; and its bytes.
    done_with: (AtomicUsize, AtomicUsize),
}

impl Housekeeping {
    /// From the shard: this page of the records is next.
    pub fn fill(&self, page: Option<PageAddress>) {
        self.next.store(page.map_or(0, |page| page.0), Relaxed);
    }

    /// From the shard: all of these are next.
    pub fn fill_all<T>(&self, pages: &Pages<T>) {
        let (start, end) = pages.span();
        self.ahead.0.store(0, Relaxed);
        self.ahead.1.store(end, Release);
        self.ahead.0.store(start, Release);
    }

    /// From the shard: nobody needs these any more. Where others wait to go back, they go at once.
    pub fn give_back<T>(&self, pages: Pages<T>) {
        if self.done_with.0.load(Acquire) == 0 {
            let pages = ManuallyDrop::new(pages);
            self.done_with.1.store(pages.mapped, Relaxed);
            self.done_with.0.store(pages.start.as_ptr().expose_provenance(), Release);
        }
    }

    /// Does what it was told, of the index one page.
    pub fn work(&self) {
        if self.next.load(Relaxed) != 0 {
            populate(self.next.swap(0, Relaxed));
        }
        let page = self.ahead.0.load(Acquire);
        if page != 0 {
            let rest = page + HUGE_PAGE_BYTES;
            populate(page);
            let rest = if rest < self.ahead.1.load(Acquire) { rest } else { 0 };
            // It fails where others have been told meanwhile, which begin at the first.
            let _ = self.ahead.0.compare_exchange(page, rest, AcqRel, Relaxed);
        }
        if self.done_with.0.load(Relaxed) != 0 {
            self.unmap();
        }
    }

    fn unmap(&self) {
        let start = self.done_with.0.load(Acquire);
        if start != 0 {
            let bytes = self.done_with.1.load(Relaxed);
            // SAFETY: it was a whole mapping of the shard's, which has forgotten it and tells of no other until this word is 0.
            unsafe { munmap(core::ptr::with_exposed_provenance_mut(start), bytes) }.expect(WHOLE);
            self.done_with.0.store(0, Release);
        }
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// Has the system fill a huge page.
fn populate(at: usize) {
    let at = core::ptr::without_provenance_mut(at);
    // SAFETY: this gives memory to pages that have none yet, and changes no byte of any other. Where the table has moved
    // meanwhile, nothing lies here, which the system says, or something else does, to which it does no more either.
    let _ = unsafe { madvise(at, HUGE_PAGE_BYTES, Advice::LinuxPopulateWrite) };
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
        // SAFETY: the mapping is this value's own, and nobody can name it any more.
        unsafe { munmap(self.start.as_ptr().cast(), self.mapped) }.expect(WHOLE);
    }
}

/// A new private mapping of so many bytes, aligned to huge pages, and made of them where the system gives any.
///
/// # Panics
/// Where the system has no more memory to give: serving on would be a guess.
fn map(bytes: usize, protection: ProtFlags) -> *mut c_void {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new private mapping, at an address of the kernel's choice, overlaps nothing.
    let mapped = unsafe { mmap_anonymous(core::ptr::null_mut(), bytes + HUGE_PAGE_BYTES, protection, flags) }
        .expect(GIVES);
    let before = mapped.addr().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr();
    // SAFETY: `before` is less than what was mapped beyond `bytes`, so all three parts lie within the
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
        start
    }
}

/// Asks for the cache line that holds `value`, to be read soon.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_line(core::ptr::from_ref(value).cast());
}

/// Into the second-level cache, which has more lines under way at once than the first: that has 10 to 24, and a group of lookups asks for 48.
#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing into the program and faults on no address. SSE, which it needs,
    // is part of x86-64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
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
        let housekeeping = Housekeeping::default();
        housekeeping.fill(Some(fourth));
        housekeeping.work();
        assert!(is_there(fourth) && !is_there(second));
        assert_eq!((pages[0], pages[last], pages.page_of(last + 1)), (7, 0, None));

        // Told, and gone before anybody had time.
        housekeeping.fill(Some(second));
        drop(pages);
        housekeeping.work();
    }

    /// Once a shard gave them back itself, and waited for 4 to 12 ms for the one who filled others, and who had lost his CPU.
    #[test]
    fn whole_arrays_are_filled_a_page_at_a_time_and_given_back_by_somebody_else() {
        let four = || Pages::<u64>::zeroed(4 * HUGE_PAGE_BYTES / size_of::<u64>());
        let pages_of = |pages: &Pages<u64>| {
            let (start, end) = pages.span();
            (start..end).step_by(HUGE_PAGE_BYTES).map(PageAddress).collect::<Vec<_>>()
        };
        let housekeeping = Housekeeping::default();
        let (first, second) = (four(), four());
        housekeeping.fill_all(&first);
        housekeeping.work();
        housekeeping.fill_all(&second);
        for filled in 1..=5 {
            housekeeping.work();
            let there = pages_of(&second).into_iter().filter(|&page| is_there(page)).count();
            assert_eq!(there, filled.min(4));
        }
        assert!(is_there(pages_of(&first)[0]) && !is_there(pages_of(&first)[1]));

        // The second goes at once, for the first has not gone yet.
        let (of_first, of_second) = (pages_of(&first), pages_of(&second));
        housekeeping.give_back(first);
        housekeeping.give_back(second);
        assert!(is_there(of_first[0]) && !is_there(of_second[0]));
        housekeeping.work();
        assert!(!is_there(of_first[0]));
        let last = four();
        let of_last = pages_of(&last);
        housekeeping.fill_all(&last);
        housekeeping.work();
        housekeeping.give_back(last);
        drop(housekeeping);
        assert!(!is_there(of_last[0]));
    }

    #[test]
    fn what_grows_keeps_its_content_and_the_rest_is_zero() {
        let mut pages = Pages::<u64>::with_room(1_000, 2_000_000);
        let first = pages.as_ptr();
        pages[0] = 1;
        pages[999] = 2;
        for length in [1_000, 1_001, 300_000, 2_000_000] {
            let before = pages.to_vec();
            pages.grow(length);
            assert_eq!(pages[..before.len()], before);
            assert!(pages.len() == length && pages[before.len()..].iter().all(|&number| number == 0));
            pages[length - 1] = length as u64;
        }
        assert_eq!(pages.as_ptr(), first);
        for length in [2_000_000, 1_999_999, 300_000, 1_000, 0] {
            pages.truncate(length);
            assert_eq!(pages.len(), length);
            assert_eq!(pages.first().copied().unwrap_or(1), 1);
        }
    }
}
