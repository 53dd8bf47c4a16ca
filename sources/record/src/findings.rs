//! What `florin ledger check` has found, whatever kind of ledger it looked at.

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What it is, and what to do.
    pub sentence: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weight {
    /// As it should be.
    Right,
    /// A node follows the ledger all the same.
    Notable,
    /// A node cannot follow it, or not rightly.
    Wrong,
}

/// Findings, in the order in which they were made.
#[derive(Default, Debug)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Something is as it should be.
    pub fn right(&mut self, sentence: impl Into<String>) {
        self.add(Weight::Right, sentence.into());
    }

    /// Something should be known.
    pub fn notable(&mut self, sentence: impl Into<String>) {
        self.add(Weight::Notable, sentence.into());
    }

    /// Something is in the way.
    pub fn wrong(&mut self, sentence: impl Into<String>) {
        self.add(Weight::Wrong, sentence.into());
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }

    fn add(&mut self, weight: Weight, sentence: String) {
        self.0.push(Finding { weight, sentence });
    }
}
