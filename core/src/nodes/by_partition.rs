//! What a node says of partitions. Each word that is heard is compared with the last one of its node, entry by entry, and each node hears
//! those of all others: so the entries lie side by side, in the partitions' order.

use alloc::vec::Vec;

/// By partition, what is read far more often than it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByPartition<T>(Vec<(u32, T)>);

impl<T> Default for ByPartition<T> {
    fn default() -> ByPartition<T> {
        ByPartition(Vec::new())
    }
}

impl<T> ByPartition<T> {
    /// What it has of one.
    pub fn get(&self, partition: u32) -> Option<&T> {
        let at = self.0.binary_search_by_key(&partition, |(partition, _)| *partition).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether it has something of one.
    pub fn has(&self, partition: u32) -> bool {
        self.get(partition).is_some()
    }

    /// All that it has, in the partitions' order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.0.iter().map(|(partition, of)| (*partition, of))
    }

    /// The partitions, in their order.
    pub fn partitions(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(partition, _)| *partition)
    }

    /// As [`ByPartition::iter`], of what may be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.0.iter_mut().map(|(partition, of)| (*partition, of))
    }

    /// Of how many it has something.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: PartialEq> ByPartition<T> {
    /// Adds the partitions of which another has something else, or nothing, or alone has something.
    pub(super) fn differing(&self, other: &ByPartition<T>, changed: &mut Vec<u32>) {
        let (mut one, mut two) = (&self.0[..], &other.0[..]);
        loop {
            let alike = one.iter().zip(two).take_while(|(one, two)| one == two).count();
            (one, two) = (&one[alike..], &two[alike..]);
            let (first, second) = (one.first().map(|(at, _)| *at), two.first().map(|(at, _)| *at));
            let Some(least) = first.into_iter().chain(second).min() else { return };
            changed.push(least);
            one = &one[usize::from(first == Some(least))..];
            two = &two[usize::from(second == Some(least))..];
        }
    }
}

/// Of two of one partition the last.
impl<T> FromIterator<(u32, T)> for ByPartition<T> {
    fn from_iter<I: IntoIterator<Item = (u32, T)>>(all: I) -> ByPartition<T> {
        let mut all: Vec<(u32, T)> = all.into_iter().collect();
        all.sort_by_key(|(partition, _)| *partition);
        all.dedup_by(|later, earlier| {
            let is_twice = later.0 == earlier.0;
            if is_twice {
                core::mem::swap(later, earlier);
            }
            is_twice
        });
        ByPartition(all)
    }
}

impl<T, const N: usize> From<[(u32, T); N]> for ByPartition<T> {
    fn from(all: [(u32, T); N]) -> ByPartition<T> {
        all.into_iter().collect()
    }
}

impl FromIterator<u32> for ByPartition<()> {
    fn from_iter<I: IntoIterator<Item = u32>>(all: I) -> ByPartition<()> {
        all.into_iter().map(|partition| (partition, ())).collect()
    }
}
