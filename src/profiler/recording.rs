//! Stacks, and how often each was seen.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::PROFILE_STACKS_MAX;

/// Where a thread was.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stack {
    /// The thread's name.
    pub(super) thread: Arc<str>,
    /// Addresses, innermost first.
    pub(super) addresses: Vec<u64>,
}

/// What has been seen.
#[derive(Default)]
pub(super) struct Recording {
    stacks: HashMap<Stack, u64>,
    /// Samples that are not in it: there was no room.
    pub(super) lost: u64,
}

impl Recording {
    /// Counts a sample. Where there are too many different stacks, a new one is counted as its thread's alone.
    pub(super) fn count(&mut self, thread: &Arc<str>, addresses: Vec<u64>) {
        let mut stack = Stack { thread: Arc::clone(thread), addresses };
        if self.stacks.len() >= PROFILE_STACKS_MAX && !self.stacks.contains_key(&stack) {
            stack.addresses.clear();
        }
        *self.stacks.entry(stack).or_default() += 1;
    }

    /// The stacks, and how often each was seen; the same recording always in the same order.
    pub(super) fn stacks(&self) -> Vec<(&Stack, u64)> {
        let mut stacks: Vec<_> = self.stacks.iter().map(|(stack, &count)| (stack, count)).collect();
        stacks.sort_by_key(|(stack, _)| (&stack.thread, &stack.addresses));
        stacks
    }

    /// Samples in it.
    pub(super) fn samples(&self) -> u64 {
        self.stacks.values().sum()
    }
}
