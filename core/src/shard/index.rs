//! Where each user's account lies: open addressing, a cache line at a time.
//!
//! | part | size | holds |
//! | --- | --- | --- |
//! | line | a cache line | eight tags, and the eight handles that they belong to; filled in order |
//! | tag | 4 bytes | the lower half of a user's hash: its lower bits say in which line it belongs, the others tell users of a line apart |
//!
//! A tag only guesses; whose account it is says its record. What finds its line full goes into the next. The lines double before
//! three quarters of them are full, which the tags are enough for; nothing is ever removed.

use alloc::vec::Vec;

use florin_schema::HashedUser;
use wide::u32x8;
use zerocopy::FromZeros;

use super::blocks::Handle;
use super::memory::{Pages, prefetch};
use crate::limits::INDEX_LINES_MIN;

/// Places of a line.
const PLACES: usize = 8;

#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
struct Line {
    tags: [u32; PLACES],
    handles: [Handle; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64 && INDEX_LINES_MIN.is_power_of_two());

/// From users to handles.
pub struct Index {
    lines: Pages<Line>,
    taken: usize,
}

/// A place that is taken, until the next insertion.
#[derive(Clone, Copy)]
pub struct Place {
    line: usize,
    place: usize,
}

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index { lines: Pages::zeroed(INDEX_LINES_MIN), taken: 0 }
    }

    /// An empty index with room for so many users.
    pub fn with_room(users: usize) -> Index {
        let lines = (users * 4).div_ceil(PLACES * 3).next_power_of_two();
        Index { lines: Pages::zeroed(lines.max(INDEX_LINES_MIN)), taken: 0 }
    }

    /// Users held.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// Asks for the user's line, to be read soon.
    #[inline]
    pub fn prefetch(&self, user: HashedUser) {
        prefetch(&self.lines[self.home(tag(user))]);
    }

    /// The first place with the user's tag whose handle is the user's, and that handle.
    #[inline(always)]
    pub fn find(&self, user: HashedUser, is_the_users: impl Fn(Handle) -> bool) -> Option<(Place, Handle)> {
        let tag = tag(user);
        let mut at = self.home(tag);
        loop {
            let line = &self.lines[at];
            let mut same = u32x8::new(line.tags).simd_eq(u32x8::splat(tag)).to_bitmask();
            while same != 0 {
                let place = same.trailing_zeros() as usize;
                let handle = line.handles[place];
                // Empty places stand behind all others, and have a tag of 0 as somebody may.
                if !handle.is_some() {
                    return None;
                }
                if is_the_users(handle) {
                    return Some((Place { line: at, place }, handle));
                }
                same &= same - 1;
            }
            if !line.handles[PLACES - 1].is_some() {
                return None;
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    /// Appends the handles of all users who belong into line `home`, wherever they lie.
    pub fn of_home(&self, home: usize, handles: &mut Vec<Handle>) {
        let mut at = home;
        loop {
            let line = &self.lines[at];
            let places = line.tags.iter().zip(&line.handles);
            let here = places.filter(|(tag, handle)| handle.is_some() && self.home(**tag) == home);
            handles.extend(here.map(|(_, &handle)| handle));
            if !line.handles[PLACES - 1].is_some() {
                return;
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    /// The line after `home` on a walk over all that began at line 0; `None` after the last.
    ///
    /// Lines come in the order of their reversed bits. Doubling makes two of each, next to each other in that order: so a walk
    /// that goes on after it has seen, and will see, each user who was there when it began exactly once.
    pub fn home_after(&self, home: usize) -> Option<usize> {
        let unused = usize::BITS - self.lines.len().trailing_zeros();
        let next = (home.reverse_bits() >> unused) + 1;
        (next < self.lines.len()).then(|| next.reverse_bits() >> unused)
    }

    /// Whether a walk over all that comes to line `next` next has passed by the user's line.
    pub fn is_before(&self, user: HashedUser, next: usize) -> bool {
        self.home(tag(user)).reverse_bits() < next.reverse_bits()
    }

    /// Replaces the handle at a place.
    pub fn set(&mut self, place: Place, handle: Handle) {
        self.lines[place.line].handles[place.place] = handle;
    }

    /// Adds a user, who must not have a place yet.
    pub fn insert(&mut self, user: HashedUser, handle: Handle) -> Place {
        if (self.taken + 1) * 4 > self.lines.len() * PLACES * 3 {
            self.double();
        }
        self.taken += 1;
        self.put(tag(user), handle)
    }

    fn double(&mut self) {
        let larger = Pages::zeroed(self.lines.len() * 2);
        let smaller = core::mem::replace(&mut self.lines, larger);
        let places = smaller.iter().flat_map(|line| line.tags.into_iter().zip(line.handles));
        for (tag, handle) in places.filter(|(_, handle)| handle.is_some()) {
            self.put(tag, handle);
        }
    }

    fn put(&mut self, tag: u32, handle: Handle) -> Place {
        let mut at = self.home(tag);
        loop {
            let line = &mut self.lines[at];
            if let Some(place) = line.handles.iter().position(|handle| !handle.is_some()) {
                (line.tags[place], line.handles[place]) = (tag, handle);
                return Place { line: at, place };
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.lines.len() - 1)
    }
}

/// Routing has used the hash's upper bits; its lower ones are as good as new.
#[inline]
fn tag(user: HashedUser) -> u32 {
    user.hash() as u32
}
