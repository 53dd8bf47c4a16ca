//! Answers that took long, and what they waited for: told to whoever logs them. It is looked for where it costs a plain lookup
//! nothing: once a turn, where something that waited is answered, and where a bundle comes back from a neighbour.
//!
//! What it can see begins when a request was read: how long it lay in a socket's buffer before is not known here.

use florin_schema::{Opcode, ShardIndex};

use super::Shard;
use super::forwarding::question::Destination;
use super::forwarding::waiting::Waiter;
use super::metrics::Work;
use crate::limits::SLOW_QUEUED_MAX;
use crate::mesh::{self, Receiver, Sender};

/// What an answer waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// For its turn's end: what else the turn did.
    Turn(Work),
    /// For what its caller asked of it: a version, an age.
    Freshness {
        /// What was asked.
        opcode: Opcode,
        /// It was to be no older than a version.
        min_version: bool,
        /// It was to be no older than so many milliseconds.
        max_age: bool,
        /// Its time was up before that was so.
        in_vain: bool,
        /// The shard whose caller asked, where that is another.
        asker: Option<ShardIndex>,
    },
    /// For another shard, which has the account.
    Neighbour(ShardIndex),
}

/// Answers that took long, all of them for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowAnswers {
    /// How many.
    pub count: u64,
    /// From where their requests were read, µs.
    pub took_us: u64,
    /// What for.
    pub waited: Waited,
}

/// A shard's side of the link to whoever logs them.
pub struct SlowLink {
    /// From where on they are slow, µs.
    from_us: u64,
    told: Sender<SlowAnswers>,
}

/// Both sides of a link; slow is what takes `from_us` or longer. What finds no room is counted in `ShardMetrics::slow_untold`.
pub fn slow_link(from_us: u64) -> (Receiver<SlowAnswers>, SlowLink) {
    let (told, heard) = mesh::ring(SLOW_QUEUED_MAX);
    (heard, SlowLink { from_us, told })
}

/// See the module. Without a link nothing is slow.
pub(super) struct Slow {
    from_us: u64,
    told: Option<Sender<SlowAnswers>>,
}

impl Slow {
    pub fn none() -> Slow {
        Slow { from_us: u64::MAX, told: None }
    }

    #[inline]
    pub fn is_slow(&self, took_us: u64) -> bool {
        took_us >= self.from_us
    }
}

impl Shard {
    /// Tells of answers that take long.
    pub fn with_slow(mut self, SlowLink { from_us, told }: SlowLink) -> Shard {
        self.slow = Slow { from_us, told: Some(told) };
        self
    }

    /// A turn in which something was answered took long.
    #[cold]
    pub(super) fn note_slow_turn(&mut self, took_us: u64, answers: u64, work: Work) {
        self.tell(SlowAnswers { count: answers, took_us, waited: Waited::Turn(work) });
    }

    /// A question leaves the waiting room.
    pub(super) fn note_waited(&mut self, waiter: &Waiter) {
        let Waiter { destination, ask, .. } = waiter;
        let took_us = self.now.monotonic_us.saturating_sub(ask.asked_by_us);
        if !self.slow.is_slow(took_us) {
            return;
        }
        let asker = match destination {
            Destination::Here(_) => None,
            Destination::Peer(shard, _) => Some(*shard),
        };
        let waited = Waited::Freshness {
            opcode: ask.reply_to.opcode,
            min_version: ask.freshness.min_version.0 > 0,
            max_age: ask.freshness.max_age_ms > 0,
            in_vain: self.responder.unmet(&ask.freshness, &ask.question, 0).is_some(),
            asker,
        };
        self.tell(SlowAnswers { count: 1, took_us, waited });
    }

    /// Lookups have come back from a neighbour.
    #[inline]
    pub(super) fn note_forwarded(&mut self, shard: ShardIndex, first_asked_by_us: u64, lookups: usize) {
        let took_us = self.now.monotonic_us.saturating_sub(first_asked_by_us);
        if self.slow.is_slow(took_us) {
            self.tell(SlowAnswers { count: lookups as u64, took_us, waited: Waited::Neighbour(shard) });
        }
    }

    #[cold]
    fn tell(&mut self, answers: SlowAnswers) {
        if let Some(told) = &mut self.slow.told
            && told.push(answers).is_err()
        {
            self.responder.metrics.slow_untold.add(answers.count);
        }
    }
}
