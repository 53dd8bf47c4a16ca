//! The judge: takes what two services answered and says whether they say the same. Pure: no I/O, no clock, no chance.
//!
//! | module | holds |
//! | --- | --- |
//! | `case` | one request from its first two answers to the verdict |
//! | `pair` | one account: versions, catching up, contradictions |
//! | `compare`, `path` | differences field by field, and where they are |
//! | `windows` | boundaries of hours and days between two answers |
//! | `history` | what the primary has shown before |
//! | `rules` | agreed differences |
//! | `noise` | the primary against itself |
//! | `sides` | who is compared with whom |
//! | `verdict` | what is said in the end |

mod case;
mod compare;
mod history;
mod noise;
mod pair;
mod path;
mod rules;
mod sides;
mod verdict;
mod windows;

pub use case::{Ask, Case, Failure, JudgeSettings, Step, What};
pub use compare::{Comparison, Difference, DifferenceKind, compare};
pub use history::History;
pub use noise::Noise;
pub use pair::Limits;
pub use path::{Path, PathStep, Pattern};
pub use rules::{Action, Rule, RuleIndex, Rules};
pub use sides::{Side, Sides};
pub use verdict::{ByteComparison, Reason, Ruling, Verdict};

#[cfg(test)]
mod tests;
