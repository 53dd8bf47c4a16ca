//! A map that forgets whom nobody has spoken of for long. It keeps two generations: when the newer is full, it becomes the older,
//! and what the older held is gone.

use std::collections::HashMap;
use std::hash::Hash;

/// What is known, within bounds.
#[derive(Debug)]
pub struct Generations<K, V> {
    recent: HashMap<K, Weighed<V>>,
    older: HashMap<K, Weighed<V>>,
    /// Of all that is in `recent`.
    weight: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct Weighed<V> {
    value: V,
    weight: usize,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// Nothing is known. Each of the two generations weighs no more than `weight_max`, unless a single value does.
    pub fn new(weight_max: usize) -> Generations<K, V> {
        Generations { recent: HashMap::new(), older: HashMap::new(), weight: 0, weight_max }
    }

    /// What is known of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.recent.get(key).or_else(|| self.older.get(key)).map(|weighed| &weighed.value)
    }

    /// Puts a value in the place of what was known.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        let replaced = self.recent.get(&key).map_or(0, |weighed| weighed.weight);
        if self.weight - replaced + weight > self.weight_max && !self.recent.is_empty() {
            self.older = std::mem::take(&mut self.recent);
            self.weight = weight;
        } else {
            self.weight = self.weight - replaced + weight;
        }
        self.recent.insert(key, Weighed { value, weight });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_of_stays_and_the_rest_goes_within_bounds() {
        let mut known = Generations::new(10);
        for key in 0..100 {
            known.insert(key, key, 1 + key % 3);
            known.insert(7, 7, 2);
            let held = |map: &HashMap<_, Weighed<_>>| map.values().map(|w| w.weight).sum::<usize>();
            assert_eq!(held(&known.recent), known.weight);
            assert!(known.weight <= 10 && held(&known.older) <= 10, "{known:?}");
            assert_eq!((known.get(&7), known.get(&key)), (Some(&7), Some(&key)));
        }
        assert_eq!(known.get(&8), None);
        known.insert(200, 200, 99);
        assert_eq!(known.get(&200), Some(&200), "one that is too heavy is kept by itself");
    }
}
