//! What is asked: which kinds of question, about whom, and when.

pub mod arrivals;
pub mod keys;
mod mix;

pub use arrivals::{Arrivals, Schedule};
pub use keys::{Draws, KeyShape, Population};
pub use mix::{Kind, Mix, MixError};

/// Everything about the requests but their rate.
#[derive(Clone, Debug)]
pub struct Work {
    /// Which kinds, how often each.
    pub mix: Mix,
    /// How unequal the users are.
    pub keys: KeyShape,
    /// The same seed asks the same.
    pub seed: u64,
}
