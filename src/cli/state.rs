//! One line of the log for each change of what `/readyz` says, in the same words.

use std::mem::{Discriminant, discriminant};
use std::time::Instant;

use tracing::{info, warn};

use crate::node::Obstacle;

/// What was said last.
#[derive(Default)]
pub(super) struct StateLog {
    /// Numbers in a reason change all the time: what was said is which reasons there are.
    told: Option<Vec<Discriminant<Obstacle>>>,
    has_been_ready: bool,
    not_ready_since: Option<Instant>,
}

impl StateLog {
    /// Says it, where it is another than before. That a node drains has been said by who told it to.
    pub(super) fn look(&mut self, obstacles: &[Obstacle]) {
        let mut kinds: Vec<_> = obstacles.iter().map(discriminant).collect();
        kinds.dedup();
        if obstacles.contains(&Obstacle::Draining) || self.told.as_ref() == Some(&kinds) {
            return;
        }
        self.told = Some(kinds);
        if obstacles.is_empty() {
            let after_s = self.not_ready_since.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
            self.has_been_ready = true;
            info!("ready: after {after_s:.1} s");
            return;
        }
        self.not_ready_since.get_or_insert_with(Instant::now);
        let reasons: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
        let reasons = reasons.join("; ");
        if self.has_been_ready {
            warn!("not ready: {reasons}");
        } else {
            info!("not ready: {reasons}");
        }
    }
}
