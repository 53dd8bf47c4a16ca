//! Where records lie: blocks of fixed sizes, cut from spans of one size each.
//!
//! | part | size | holds |
//! | --- | --- | --- |
//! | span | 256 KiB | blocks of one family and class; eight to a huge page; back to the pool, for any class, once its last block is freed |
//! | block | a class: multiples of 16 bytes, above 256 an eighth apart; up to 128 bytes in no more than two cache lines | one record |
//! | large block | what it needs | a record above [`SMALL_BYTES_MAX`]; few accounts have one |
//!
//! A record that outgrows its block moves to a larger one; there is one reference to it. Spans lie one behind the other, in a mapping
//! that has addresses for all there can be; nothing else is allocated from the system but large blocks.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::memory::{HUGE_PAGE_BYTES, PageAddress, Pages};

/// Bytes of a span.
const SPAN_BYTES: usize = 256 * 1_024;
/// What block sizes are multiples of, and handles count in.
const UNIT_BYTES: usize = 16;
const UNITS_PER_SPAN: u32 = (SPAN_BYTES / UNIT_BYTES) as u32;
/// The one size of up to two cache lines of which every other block would lie across three, the last of which nobody asks
/// for in time: these records get two whole lines.
const THREE_LINES_BYTES: usize = 112;
/// Up to here there is a class for each unit: most records are that small, and what a block has too much adds up.
const EVERY_UNIT_BYTES: usize = 256;
const _: () = assert!(HUGE_PAGE_BYTES.is_multiple_of(SPAN_BYTES));
/// Blocks up to here come from spans: large enough for all but a handful of accounts, small enough that a span's last
/// bytes, which fit no further block, are at most an eighth of it.
pub const SMALL_BYTES_MAX: usize = 32 * 1_024;
/// Handles above it name large blocks, whose place would be beyond all spans. Below it, 2^31 units are 32 GiB a shard.
const LARGE: u32 = 1 << 31;

/// Whose blocks lie in spans of their own. Statistics move from class to class as they grow: what they leave behind is given back
/// as whole spans, which a balance among them, that stays, would keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Balances.
    Balances,
    /// Statistics.
    Statistics,
}

/// Names a block; stable until it is freed. 0 names none.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct Handle(U32);

impl Handle {
    /// Names no block.
    pub const NONE: Handle = Handle(U32::ZERO);

    /// Whether it names a block.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0.get() != 0
    }
}

/// Blocks of all classes.
pub struct Blocks {
    /// All spans, one behind the other, and as many again at most: where a block lies takes no looking up.
    spans: Pages<u8>,
    states: Vec<SpanState>,
    free_spans: Vec<u32>,
    /// The bytes of each class's blocks, ascending.
    class_bytes: Vec<usize>,
    /// The first span of each family's each class that has a free block.
    partial: [Vec<Option<u32>>; 2],
    large: Vec<Option<Box<[u8]>>>,
    free_large: Vec<usize>,
    large_bytes: usize,
    /// Of blocks of all kinds that are in use.
    live_bytes: usize,
    /// What is in them; whoever writes to them counts it.
    pub used: Used,
    growth: Growth,
}

/// Bytes of blocks that hold something, by what.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Used {
    /// Balances, as they go over the wire, and what stands before them.
    pub balances: usize,
    /// What stands before statistics.
    pub headers: usize,
    /// Totals of lifetimes.
    pub lifetimes: usize,
    /// Hours and days.
    pub buckets: usize,
}

/// What was done for growth since that was last asked.
#[derive(Clone, Copy, Default, Debug)]
pub struct Growth {
    /// Anything.
    pub has_worked: bool,
    /// A page was touched for the first time, which the system fills with zeroes: 2 MiB where it is a huge one, in up to 0.3 ms.
    pub has_asked: bool,
    /// There is something that somebody else may do: see [`super::memory::Housekeeping`].
    pub has_chores: bool,
}

impl Growth {
    /// Notes what else was done.
    #[inline]
    pub fn add(&mut self, other: Growth) {
        self.has_worked |= other.has_worked;
        self.has_asked |= other.has_asked;
        self.has_chores |= other.has_chores;
    }
}

/// A span's books. Its free blocks form a list through their own first bytes.
#[derive(Clone, Copy)]
struct SpanState {
    family: Family,
    class: u8,
    live: u32,
    /// The unit at which the first freed block lies.
    free: Option<u32>,
    /// The unit behind the last block ever cut.
    cut: u32,
    next_partial: Option<u32>,
    previous_partial: Option<u32>,
    is_partial: bool,
}

impl Default for Blocks {
    fn default() -> Blocks {
        Blocks::new()
    }
}

impl Blocks {
    /// None; holds no memory yet.
    pub fn new() -> Blocks {
        let class_bytes: Vec<usize> = core::iter::successors(Some(UNIT_BYTES), |&bytes| {
            let step = if bytes < EVERY_UNIT_BYTES { 1 } else { bytes / 8 + 1 };
            Some((bytes + step).next_multiple_of(UNIT_BYTES))
        })
        .take_while(|&bytes| bytes < SMALL_BYTES_MAX)
        .filter(|&bytes| bytes != THREE_LINES_BYTES)
        .chain([SMALL_BYTES_MAX])
        .collect();
        let partial = [(); 2].map(|()| vec![None; class_bytes.len()]);
        Blocks {
            spans: Pages::with_room(2 * HUGE_PAGE_BYTES, place(LARGE)),
            // Of addresses; what is not used takes no memory. A list that grew would be copied in one go.
            states: Vec::with_capacity((LARGE / UNITS_PER_SPAN) as usize),
            free_spans: Vec::with_capacity((LARGE / UNITS_PER_SPAN) as usize),
            class_bytes,
            partial,
            large: Vec::new(),
            free_large: Vec::new(),
            large_bytes: 0,
            live_bytes: 0,
            used: Used::default(),
            growth: Growth::default(),
        }
    }

    /// What was done for growth.
    #[inline]
    pub fn growth(&mut self) -> &mut Growth {
        &mut self.growth
    }

    /// The page that is touched next.
    pub fn next_page(&self) -> Option<PageAddress> {
        self.spans.page_of((self.states.len() * SPAN_BYTES).next_multiple_of(HUGE_PAGE_BYTES))
    }

    /// How many bytes a block for `bytes` has.
    #[inline]
    pub fn capacity_for(&self, bytes: usize) -> usize {
        match self.class_for(bytes) {
            Some(class) => self.class_bytes[class],
            // An eighth more, as between classes, so that a growing large record does not move at each step.
            None => (bytes + bytes / 8).next_multiple_of(UNIT_BYTES),
        }
    }

    #[inline]
    fn class_for(&self, bytes: usize) -> Option<usize> {
        (bytes <= SMALL_BYTES_MAX).then(|| self.class_bytes.partition_point(|&block| block < bytes))
    }

    /// A zeroed block of at least `bytes`.
    ///
    /// # Panics
    /// Where a shard's 32 GiB are used up: the host is too small, and serving on would be a guess.
    pub fn allocate(&mut self, family: Family, bytes: usize) -> Handle {
        self.live_bytes += self.capacity_for(bytes);
        let Some(class) = self.class_for(bytes) else { return self.allocate_large(bytes) };
        let span = self.partial[family as usize][class].unwrap_or_else(|| self.open_span(family, class));
        let units = (self.class_bytes[class] / UNIT_BYTES) as u32;
        let state = &mut self.states[span as usize];
        let unit = match state.free {
            Some(unit) => {
                let at = place(span * UNITS_PER_SPAN + unit);
                let next = self.spans[at..at + 4].try_into().expect("four bytes");
                state.free = u32::from_le_bytes(next).checked_sub(1);
                unit
            }
            None => {
                state.cut += units;
                state.cut - units
            }
        };
        state.live += 1;
        if state.free.is_none() && state.cut + units > UNITS_PER_SPAN {
            self.unlink_partial(span);
        }
        let handle = Handle(U32::new(span * UNITS_PER_SPAN + unit));
        self.block_mut(handle, self.class_bytes[class]).fill(0);
        handle
    }

    fn allocate_large(&mut self, bytes: usize) -> Handle {
        let block = vec![0; self.capacity_for(bytes)].into_boxed_slice();
        self.large_bytes += block.len();
        let index = self.free_large.pop().unwrap_or_else(|| {
            self.large.push(None);
            self.large.len() - 1
        });
        self.large[index] = Some(block);
        Handle(U32::new(LARGE + 1 + index as u32))
    }

    /// Gives a block of at least `bytes`, as it was allocated, back.
    pub fn free(&mut self, handle: Handle, bytes: usize) {
        let Some(class) = self.class_for(bytes) else {
            let index = large_index(handle);
            let block = self.large[index].take().expect("a large block is freed once");
            self.large_bytes -= block.len();
            self.live_bytes -= block.len();
            self.free_large.push(index);
            return;
        };
        self.live_bytes -= self.class_bytes[class];
        let (span, unit) = (handle.0.get() / UNITS_PER_SPAN, handle.0.get() % UNITS_PER_SPAN);
        let state = &mut self.states[span as usize];
        assert_eq!(usize::from(state.class), class, "a block goes back with the size it was allocated with");
        let next = state.free.map_or(0, |unit| unit + 1);
        state.free = Some(unit);
        state.live -= 1;
        let (live, is_partial) = (state.live, state.is_partial);
        self.block_mut(handle, 4).copy_from_slice(&next.to_le_bytes());
        if !is_partial {
            self.link_partial(span);
        }
        if live == 0 {
            self.unlink_partial(span);
            self.free_spans.push(span);
        }
    }

    fn open_span(&mut self, family: Family, class: usize) -> u32 {
        let span = self.free_spans.pop().unwrap_or_else(|| {
            let span = self.states.len() as u32;
            assert!(
                span < LARGE / UNITS_PER_SPAN,
                "a shard's 32 GiB of records are used up: run more shards"
            );
            let at = place(span * UNITS_PER_SPAN);
            // One page ahead: see `next_page`.
            if at + HUGE_PAGE_BYTES >= self.spans.len() {
                self.spans.grow(2 * self.spans.len());
            }
            if at > 0 && at.is_multiple_of(HUGE_PAGE_BYTES) {
                self.growth.add(Growth { has_worked: true, has_asked: true, has_chores: true });
            }
            self.states.push(SpanState {
                family,
                class: 0,
                live: 0,
                free: None,
                cut: 0,
                next_partial: None,
                previous_partial: None,
                is_partial: false,
            });
            span
        });
        let units = (self.class_bytes[class] / UNIT_BYTES) as u32;
        let state = &mut self.states[span as usize];
        (state.family, state.class) = (family, class as u8);
        state.free = None;
        // The first block of span 0 is never given out, so that handle 0 is nobody's.
        state.cut = if span == 0 { units } else { 0 };
        self.link_partial(span);
        span
    }

    fn link_partial(&mut self, span: u32) {
        let SpanState { family, class, .. } = self.states[span as usize];
        let first = self.partial[family as usize][usize::from(class)].replace(span);
        if let Some(first) = first {
            self.states[first as usize].previous_partial = Some(span);
        }
        let state = &mut self.states[span as usize];
        (state.next_partial, state.previous_partial, state.is_partial) = (first, None, true);
    }

    fn unlink_partial(&mut self, span: u32) {
        let state = &mut self.states[span as usize];
        let SpanState { family, class, next_partial: next, previous_partial: previous, .. } = *state;
        state.is_partial = false;
        match previous {
            Some(previous) => self.states[previous as usize].next_partial = next,
            None => self.partial[family as usize][usize::from(class)] = next,
        }
        if let Some(next) = next {
            self.states[next as usize].previous_partial = previous;
        }
    }

    /// The first `bytes` of a block.
    #[inline]
    pub fn block(&self, handle: Handle, bytes: usize) -> &[u8] {
        &self.block_and_on(handle)[..bytes]
    }

    /// A block, and what happens to lie behind it: for a record that tells its own length.
    #[inline(always)]
    pub fn block_and_on(&self, handle: Handle) -> &[u8] {
        match self.spans.get(place(handle.0.get())..) {
            Some(block) => block,
            None => self.large[large_index(handle)].as_ref().expect(LIVE),
        }
    }

    /// The first `bytes` of a block.
    #[inline]
    pub fn block_mut(&mut self, handle: Handle, bytes: usize) -> &mut [u8] {
        match self.spans.get_mut(place(handle.0.get())..) {
            Some(block) => &mut block[..bytes],
            None => &mut self.large[large_index(handle)].as_mut().expect(LIVE)[..bytes],
        }
    }

    /// Copies the first `bytes` of one block to another.
    pub fn copy(&mut self, from: Handle, to: Handle, bytes: usize) {
        assert!(from != to, "a block is not copied onto itself");
        if from.0.get() > LARGE || to.0.get() > LARGE {
            // Rare and slow: a record that is growing large.
            let bytes = self.block(from, bytes).to_vec();
            self.block_mut(to, bytes.len()).copy_from_slice(&bytes);
            return;
        }
        let from = place(from.0.get());
        self.spans.copy_within(from..from + bytes, place(to.0.get()));
    }

    /// Asks for a small block's first two cache lines, to be read soon. Harmless for any other handle.
    #[inline(always)]
    pub fn prefetch(&self, handle: Handle) {
        self.spans.prefetch(place(handle.0.get()));
    }

    /// Bytes held from the system.
    pub fn bytes(&self) -> usize {
        self.states.len() * SPAN_BYTES + self.large_bytes
    }

    /// Bytes of blocks that are in use.
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }
}

const LIVE: &str = "a live large block";

/// The first byte of a unit.
#[inline(always)]
fn place(unit: u32) -> usize {
    unit as usize * UNIT_BYTES
}

fn large_index(handle: Handle) -> usize {
    (handle.0.get() - LARGE - 1) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_page_is_told_before_it_is_touched() {
        let mut blocks = Blocks::new();
        let mut touched = 0;
        for _ in 0..20 * HUGE_PAGE_BYTES / 4_096 {
            let next = blocks.next_page();
            let handle = blocks.allocate(Family::Balances, 4_000);
            if core::mem::take(&mut blocks.growth).has_asked {
                touched += 1;
                assert!(next.is_some());
                assert_eq!(blocks.spans.page_of(place(handle.0.get())), next);
            }
        }
        assert!(touched > 15, "{touched}");
    }

    proptest! {
        /// Against a plain map: blocks never overlap, keep what was written, and come back zeroed.
        #[test]
        fn blocks_keep_what_was_written(steps in prop::collection::vec((any::<u16>(), 1usize..3_000), 1..600)) {
            let mut blocks = Blocks::new();
            let mut model: HashMap<u32, (Handle, usize, u8)> = HashMap::new();
            for (step, (pick, bytes)) in steps.into_iter().enumerate() {
                let bytes = if pick % 50 == 0 { bytes * 30 } else { bytes };
                if pick % 3 == 0 && !model.is_empty() {
                    let key = *model.keys().min_by_key(|&&key| key ^ u32::from(pick)).unwrap();
                    let (handle, bytes, mark) = model.remove(&key).unwrap();
                    prop_assert!(blocks.block(handle, bytes).iter().all(|&byte| byte == mark));
                    blocks.free(handle, bytes);
                } else {
                    let family = [Family::Balances, Family::Statistics][step % 2];
                    let handle = blocks.allocate(family, bytes);
                    prop_assert!(handle.is_some());
                    prop_assert!(blocks.block(handle, blocks.capacity_for(bytes)).iter().all(|&byte| byte == 0));
                    let mark = (step % 255) as u8 + 1;
                    let capacity = blocks.capacity_for(bytes);
                    blocks.block_mut(handle, capacity).fill(mark);
                    model.insert(step as u32, (handle, bytes, mark));
                }
            }
            for (handle, bytes, mark) in model.into_values() {
                prop_assert!(blocks.block(handle, bytes).iter().all(|&byte| byte == mark));
                blocks.free(handle, bytes);
            }
            prop_assert_eq!(blocks.free_spans.len(), blocks.states.len());
            prop_assert_eq!((blocks.large_bytes, blocks.live_bytes()), (0, 0));
        }
    }

    #[test]
    fn records_that_all_grow_leave_no_old_spans_behind() {
        let mut blocks = Blocks::new();
        let mut handles: Vec<Handle> =
            (0..20_000).map(|_| blocks.allocate(Family::Statistics, 100)).collect();
        for bytes in (150..400).step_by(50) {
            for handle in &mut handles {
                let larger = blocks.allocate(Family::Statistics, bytes);
                blocks.free(*handle, bytes - 50);
                *handle = larger;
            }
        }
        let live = 20_000 * blocks.capacity_for(350);
        assert!(blocks.bytes() < live * 2, "{} bytes for {live}", blocks.bytes());
    }

    /// Two assets and ten transactions each, in the order of time: the statistics had been as large as balances for a while, and left
    /// 97 bytes an account behind among those.
    #[test]
    fn statistics_leave_no_holes_among_balances() {
        let mut blocks = Blocks::new();
        let grow = |blocks: &mut Blocks, family, all: &mut Vec<Handle>, from: usize, to: usize| {
            for handle in all {
                let larger = blocks.allocate(family, to);
                blocks.free(*handle, from);
                *handle = larger;
            }
        };
        let mut balances: Vec<Handle> = Vec::new();
        let mut statistics: Vec<Handle> = Vec::new();
        for _ in 0..20_000 {
            balances.push(blocks.allocate(Family::Balances, 64));
            statistics.push(blocks.allocate(Family::Statistics, 60));
        }
        grow(&mut blocks, Family::Balances, &mut balances, 64, 88);
        for bytes in (80..224).step_by(16) {
            let from = if bytes == 80 { 60 } else { bytes };
            grow(&mut blocks, Family::Statistics, &mut statistics, from, bytes + 16);
        }
        let (all, live) = (blocks.bytes(), blocks.live_bytes());
        assert_eq!(live, 20_000 * (96 + 224));
        assert!(all < live + live / 5, "{all} bytes for {live}");
    }
}
