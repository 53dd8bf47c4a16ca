//! Why the ledger is not followed at the moment, and what is to be done about it.

use florin_core::follower::SourceError;

use crate::decoder::DecodeError;
use crate::row::ShapeError;
use crate::wire::WireError;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// It may pass by itself: the same is tried again from the same position.
    #[error("{0}")]
    Unavailable(String),
    /// The position cannot be gone on from: everything is loaded again, on top of what is there.
    #[error("{0}; loading everything again, on top of what is there")]
    Lost(String),
    /// What is there is not what was followed. It takes a hand.
    #[error("{0}")]
    Replaced(String),
    /// It was changed in a way that nobody can follow, nor load on top of what is there: only a start from nothing is right.
    #[error("{0}; what is answered is what the ledger held before: restart florin to load what is there now")]
    Changed(String),
}

impl From<&Failure> for SourceError {
    fn from(failure: &Failure) -> SourceError {
        match failure {
            Failure::Unavailable(_) | Failure::Lost(_) => SourceError::Unavailable(failure.to_string()),
            Failure::Replaced(_) | Failure::Changed(_) => SourceError::Replaced(failure.to_string()),
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        Failure::Unavailable(format!("the connection to PostgreSQL: {error}"))
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        Failure::Unavailable(format!("what PostgreSQL sent cannot be read, and nothing is guessed: {error}"))
    }
}

impl From<ShapeError> for Failure {
    fn from(error: ShapeError) -> Failure {
        Failure::Unavailable(error.to_string())
    }
}

/// What the server refused to do, and, where somebody else could, what is to be done.
pub(crate) fn refused(what: String, help: String) -> impl FnOnce(WireError) -> Failure {
    move |error| match error {
        WireError::Server { .. } => Failure::Unavailable(format!("{what}: {error}; {help}")),
        error => error.into(),
    }
}
