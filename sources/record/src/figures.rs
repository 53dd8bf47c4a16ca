//! What metrics tell of the server that has the ledger.

/// A number for whoever watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figure {
    /// Its name among the metrics.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// How much.
    pub value: u64,
}
