//! The two that are compared.

use serde::Serialize;

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Whose answers callers get.
    Primary,
    /// Who is to take over.
    Candidate,
}

impl Side {
    /// In reports.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Primary => "primary",
            Side::Candidate => "candidate",
        }
    }
}

/// Something of each.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug, Default)]
pub struct Sides<T> {
    /// The primary's.
    pub primary: T,
    /// The candidate's.
    pub candidate: T,
}

impl<T> Sides<T> {
    /// One side's.
    pub const fn of(&self, side: Side) -> &T {
        match side {
            Side::Primary => &self.primary,
            Side::Candidate => &self.candidate,
        }
    }

    /// The same, to be changed.
    pub const fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Primary => &mut self.primary,
            Side::Candidate => &mut self.candidate,
        }
    }

    /// Something else of each.
    pub fn map<U>(&self, other: impl Fn(&T) -> U) -> Sides<U> {
        Sides { primary: other(&self.primary), candidate: other(&self.candidate) }
    }

    /// Both, by name, in the order in which reports list them.
    pub fn each(&self) -> [(&'static str, &T); 2] {
        [Side::Primary, Side::Candidate].map(|side| (side.name(), self.of(side)))
    }
}
