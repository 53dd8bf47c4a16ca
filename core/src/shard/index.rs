//! Where each user's account lies: open addressing, a cache line at a time.
//!
//! | part | size | holds |
//! | --- | --- | --- |
//! | line | a cache line | eight tags, and the eight handles that they belong to; filled in order |
//! | tag | 4 bytes | the lower half of a user's hash: it says in which line it belongs, and tells users of a line apart |
//!
//! A tag only guesses; whose account it is says its record. Lines are in the order of the tags that belong into them. What finds its
//! line full goes into the next; nothing is ever removed.
//!
//! Lines that are full enough move to a quarter more of them, a bounded number at a time, from the last to the first:
//!
//! ```text
//!     lines   [ still here ······· | moved ······················ ]
//!     larger  [       untouched       | ·························· ]
//! ```
//!
//! Room for these is made a little before it is needed, so that the system has given it memory by then.
//!
//! A user who belongs before the boundary is found before it, any other behind it: the boundary lies behind a line with room, which
//! nobody who belongs before it has passed. So a look-up asks only what it has to ask of any array, whether its line is there.

use alloc::vec::Vec;

use florin_schema::HashedUser;
use wide::u32x8;
use zerocopy::FromZeros;

use super::blocks::{Growth, Handle};
use super::memory::{HUGE_PAGE_BYTES, Pages, prefetch};
use crate::limits::{INDEX_AHEAD_PART, INDEX_LINES_MIN, INDEX_LINES_PER_INSERTION};

/// Places of a line.
const PLACES: usize = 8;
/// Users for each line with whom they begin to move: so few that hardly any find their line full.
const USERS_PER_LINE: usize = 5;
/// One more line for each so many.
const LINES_PER_NEW: usize = 4;
/// Lines of a huge page. Fewer become four times as many, for a page is the least that a mapping takes.
const LINES_PER_PAGE: usize = HUGE_PAGE_BYTES / size_of::<Line>();
/// Tags there are.
const TAGS: u64 = 1 << 32;

/// See the module.
#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub struct Line {
    tags: [u32; PLACES],
    handles: [Handle; PLACES],
}

const _: () = assert!(size_of::<Line>() == 64 && USERS_PER_LINE < PLACES);
// They have moved long before they have to again.
const _: () = assert!(INDEX_LINES_PER_INSERTION * USERS_PER_LINE >= 2 * LINES_PER_NEW);

impl Line {
    /// Those who are in it.
    fn users(&self) -> impl Iterator<Item = (u32, Handle)> {
        self.tags.into_iter().zip(self.handles).filter(|(_, handle)| handle.is_some())
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.handles[PLACES - 1].is_some()
    }

    /// The places with this tag, a bit each. Among them may be the first empty one.
    #[inline(always)]
    fn alike(&self, tag: u32) -> u32 {
        u32x8::new(self.tags).simd_eq(u32x8::splat(tag)).to_bitmask()
    }
}

/// From users to handles.
pub struct Index {
    lines: Lines,
    /// Where they move to, if they do.
    larger: Option<Lines>,
    /// Where they will, and whether somebody was told of it.
    ahead: Option<Lines>,
    is_ahead_told: bool,
    /// Where they were.
    left: Option<Pages<Line>>,
    taken: usize,
    /// The page of `larger` that was touched last.
    page: usize,
    growth: Growth,
}

/// What somebody else may do for the index.
pub struct Chores<'a> {
    /// Pages to be filled.
    pub ahead: Option<&'a Pages<Line>>,
    /// Pages that nobody needs any more.
    pub left: Option<Pages<Line>>,
}

/// A place that is taken, until the next insertion or move.
#[derive(Clone, Copy)]
pub struct Place {
    is_moved: bool,
    line: usize,
    place: usize,
}

impl Index {
    /// An empty index.
    pub fn new() -> Index {
        Index::of(INDEX_LINES_MIN)
    }

    /// An empty index with room for so many users.
    pub fn with_room(users: usize) -> Index {
        Index::of(users.div_ceil(USERS_PER_LINE).max(INDEX_LINES_MIN))
    }

    fn of(lines: usize) -> Index {
        Index {
            lines: Lines::empty(lines),
            larger: None,
            ahead: None,
            is_ahead_told: false,
            left: None,
            taken: 0,
            page: 0,
            growth: Growth::default(),
        }
    }

    /// Users held.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        let all = [Some(&self.lines), self.larger.as_ref(), self.ahead.as_ref()];
        all.into_iter().flatten().map(|lines| lines.count * size_of::<Line>()).sum()
    }

    /// Asks for the user's line, to be read soon.
    #[inline]
    pub fn prefetch(&self, user: HashedUser) {
        let tag = tag(user);
        match self.lines.here.get(self.lines.home(tag)) {
            Some(line) => prefetch(line),
            None => self.prefetch_moved(tag),
        }
    }

    #[cold]
    fn prefetch_moved(&self, tag: u32) {
        let larger = self.moved();
        prefetch(&larger.here[larger.home(tag)]);
    }

    /// The handle of the first place with the user's tag: nearly always the user's. None, and the user has none.
    #[inline(always)]
    pub fn guess(&self, user: HashedUser) -> Handle {
        let tag = tag(user);
        match self.lines.here.get(self.lines.home(tag)) {
            Some(line) => match line.alike(tag) {
                0 if line.is_full() => self.guess_elsewhere(user),
                0 => Handle::NONE,
                alike => line.handles[alike.trailing_zeros() as usize],
            },
            None => self.guess_elsewhere(user),
        }
    }

    #[cold]
    #[inline(never)]
    fn guess_elsewhere(&self, user: HashedUser) -> Handle {
        self.find(user, |_| true).map_or(Handle::NONE, |(_, handle)| handle)
    }

    /// The first place with the user's tag whose handle is the user's, and that handle.
    pub fn find(&self, user: HashedUser, is_the_users: impl Fn(Handle) -> bool) -> Option<(Place, Handle)> {
        let tag = tag(user);
        let home = self.lines.home(tag);
        let is_moved = home >= self.lines.here.len();
        let (lines, home) =
            if is_moved { (self.moved(), self.moved().home(tag)) } else { (&self.lines, home) };
        let (line, place, handle) = lines.find(home, tag, is_the_users)?;
        Some((Place { is_moved, line, place }, handle))
    }

    fn moved(&self) -> &Lines {
        self.larger.as_ref().expect(MOVING)
    }

    /// Appends the handles of the next users on a walk over all, which begins with tag 0: those of one line who have this tag or a
    /// higher one. Where it goes on; `None` where it is over.
    ///
    /// It goes by tags, and not by where they lie: so whoever was there when it began is met exactly once, however lines move.
    pub fn walk(&self, from: u32, handles: &mut Vec<Handle>) -> Option<u32> {
        let is_here = self.lines.home(from) < self.lines.here.len();
        let lines = if is_here { &self.lines } else { self.moved() };
        let home = lines.home(from);
        lines.of_home(home, |tag, handle| {
            if tag >= from {
                handles.push(handle);
            }
        });
        u32::try_from(lines.first_tag(home + 1)).ok()
    }

    /// Whether a walk over all that goes on with tag `next` has passed by the user's.
    pub fn is_before(&self, user: HashedUser, next: u32) -> bool {
        tag(user) < next
    }

    /// Replaces the handle at a place.
    pub fn set(&mut self, place: Place, handle: Handle) {
        let lines = if place.is_moved { self.larger.as_mut().expect(MOVING) } else { &mut self.lines };
        lines.here[place.line].handles[place.place] = handle;
    }

    /// Adds a user, who must not have a place yet. Does a bounded share of what moving all takes, if they are moving.
    pub fn insert(&mut self, user: HashedUser, handle: Handle) -> Place {
        self.taken += 1;
        if self.larger.is_none() {
            let room = self.lines.here.len() * USERS_PER_LINE;
            if self.taken > room {
                self.begin_to_move(self.next_count());
            } else if self.taken > room - room / INDEX_AHEAD_PART && self.ahead.is_none() {
                self.ahead = Some(Lines::empty(self.next_count()));
                self.is_ahead_told = false;
                self.growth.add(Growth { has_worked: true, has_chores: true, ..Growth::default() });
            }
        }
        self.move_lines(INDEX_LINES_PER_INSERTION);
        let tag = tag(user);
        let home = self.lines.home(tag);
        if home < self.lines.here.len() {
            if let Some((line, place)) = self.lines.put(home, tag, handle) {
                return Place { is_moved: false, line, place };
            }
            // All lines from here to the boundary are full: they are the next to move.
            self.move_lines(self.lines.here.len() - home);
        }
        let is_moved = self.larger.is_some();
        let lines = match self.larger.as_mut() {
            Some(larger) => larger,
            None => &mut self.lines,
        };
        let (line, place) = lines.put(lines.home(tag), tag, handle).expect("somewhere is room");
        Place { is_moved, line, place }
    }

    /// What was done for growth.
    #[inline]
    pub fn growth(&mut self) -> &mut Growth {
        &mut self.growth
    }

    /// What is to be done now that somebody else may do.
    pub fn chores(&mut self) -> Chores<'_> {
        let is_told = core::mem::replace(&mut self.is_ahead_told, true);
        Chores {
            ahead: self.ahead.as_ref().filter(|_| !is_told).map(|lines| &lines.here),
            left: self.left.take(),
        }
    }

    /// How many lines these move to.
    fn next_count(&self) -> usize {
        match self.lines.count {
            few @ 0..LINES_PER_PAGE => LINES_PER_PAGE.min(few * 4),
            lines => lines + lines / LINES_PER_NEW,
        }
    }

    fn begin_to_move(&mut self, lines: usize) {
        let ahead = self.ahead.take().filter(|ahead| ahead.count == lines);
        self.larger = Some(ahead.unwrap_or_else(|| Lines::empty(lines)));
        self.page = usize::MAX;
        // The last of them has to, before anybody else is put in.
        self.move_lines(1);
    }

    /// Whether lines are moving.
    #[inline]
    pub fn is_moving(&self) -> bool {
        self.larger.is_some()
    }

    /// Moves so many lines, if they are moving, and the few before them that nobody's place can be told apart from.
    pub fn move_lines(&mut self, lines: usize) {
        let Some(larger) = &mut self.larger else { return };
        let end = self.lines.here.len();
        let mut from = end.saturating_sub(lines);
        // Nobody who belongs before a line with room lies behind it.
        while from > 0 && self.lines.here[from - 1].is_full() {
            from -= 1;
        }
        let page = larger.home(self.lines.first_tag(from) as u32) / LINES_PER_PAGE;
        let has_asked = page != self.page && larger.count > LINES_PER_PAGE;
        self.growth.add(Growth { has_worked: true, has_asked, ..Growth::default() });
        self.page = page;
        let mut take = |line: &Line, lines: &Lines| {
            for (tag, handle) in line.users().filter(|&(tag, _)| (from..end).contains(&lines.home(tag))) {
                larger.put(larger.home(tag), tag, handle).expect("what is larger has room");
            }
        };
        self.lines.here[from..].iter().for_each(|line| take(line, &self.lines));
        if end == self.lines.count && from > 0 {
            // The first to move. Whoever found the last of all lines full went on with the first.
            for line in self.lines.here.iter() {
                take(line, &self.lines);
                if !line.is_full() {
                    break;
                }
            }
        }
        self.lines.here.truncate(from);
        if from == 0 {
            let left = core::mem::replace(&mut self.lines, self.larger.take().expect(MOVING));
            self.left = Some(left.here);
            self.growth.add(Growth { has_worked: true, has_chores: true, ..Growth::default() });
        }
    }
}

const MOVING: &str = "what is not here has moved";

/// Lines, all of them or those that have not moved.
struct Lines {
    here: Pages<Line>,
    /// How many there are, or were before they began to move: what homes are found by.
    count: usize,
}

impl Lines {
    fn empty(count: usize) -> Lines {
        Lines { here: Pages::zeroed(count), count }
    }

    /// The line that a tag belongs into.
    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        (u64::from(tag) * self.count as u64 / TAGS) as usize
    }

    /// The first tag that belongs into a line, or into one behind it.
    fn first_tag(&self, home: usize) -> u64 {
        (home as u64 * TAGS).div_ceil(self.count as u64)
    }

    /// Where to go on from a full line: with the first behind the last, unless that has moved.
    fn after(&self, line: usize) -> Option<usize> {
        let next = line + 1;
        if next < self.here.len() {
            return Some(next);
        }
        (next == self.count).then_some(0)
    }

    fn find(
        &self,
        home: usize,
        tag: u32,
        is_the_users: impl Fn(Handle) -> bool,
    ) -> Option<(usize, usize, Handle)> {
        let mut at = home;
        loop {
            let line = &self.here[at];
            let mut alike = line.alike(tag);
            while alike != 0 {
                let place = alike.trailing_zeros() as usize;
                let handle = line.handles[place];
                // Empty places stand behind all others, and have a tag of 0 as somebody may.
                if !handle.is_some() {
                    return None;
                }
                if is_the_users(handle) {
                    return Some((at, place, handle));
                }
                alike &= alike - 1;
            }
            if !line.is_full() {
                return None;
            }
            at = self.after(at)?;
        }
    }

    /// All who belong into line `home`, wherever they lie.
    fn of_home(&self, home: usize, mut each: impl FnMut(u32, Handle)) {
        let mut next = Some(home);
        while let Some(at) = next {
            let line = &self.here[at];
            line.users()
                .filter(|&(tag, _)| self.home(tag) == home)
                .for_each(|(tag, handle)| each(tag, handle));
            next = if line.is_full() { self.after(at) } else { None };
        }
    }

    /// Line and place that were free; `None` where all lines up to the last are full, and those behind it have moved.
    fn put(&mut self, home: usize, tag: u32, handle: Handle) -> Option<(usize, usize)> {
        let mut at = home;
        loop {
            let line = &mut self.here[at];
            if let Some(place) = line.handles.iter().position(|handle| !handle.is_some()) {
                (line.tags[place], line.handles[place]) = (tag, handle);
                return Some((at, place));
            }
            at = self.after(at)?;
        }
    }
}

/// Routing has used the hash's upper bits; its lower ones are as good as new.
#[inline]
fn tag(user: HashedUser) -> u32 {
    user.hash() as u32
}

#[cfg(test)]
mod tests;
