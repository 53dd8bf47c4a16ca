//! Nodes that divide a ledger's users among them by its partitions.
//!
//! Who is in the group, and what each member is assigned, Kafka decides. What each node holds of it, and how far, that node says.
//! From both, every node derives the same map by the same pure function, and none of them leads.
//!
//! ```text
//!     the group: its members ──────────▶┐
//!     this node: what it was assigned,  │         plan                  epoch
//!                what it holds ─────────▶ View ─────────▶ who owns, ─────────────▶ NodeMap ─▶ callers
//!     other nodes: what they know ─────▶┘                 who keeps ─▶ this node
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`view`] | what is known of the nodes, so that two who know different things know the same once they have met |
//! | [`plan`] | who owns, stands by and keeps a partition: nobody lets go of one before somebody else has it |
//! | [`agreement`] | the map, and its epoch, which never falls |
//! | [`member`] | one node: what it says of itself, follows, and tells callers |
//! | [`by_partition`] | what is said of partitions, side by side |
//! | `planted` | defects for the simulation to find |

pub mod agreement;
pub mod by_partition;
pub mod member;
pub mod plan;
mod planted;
pub mod view;

pub use agreement::{Agreement, Mark};
pub use by_partition::ByPartition;
pub use member::{Departure, Described, Hold, Member, News, Place};
pub use plan::{Plan, Topic};
pub use planted::Planted;
pub use view::{Report, Standing, View, Word};

#[cfg(test)]
mod tests;
