//! Why a command has failed.

use crate::{
    callgrind::CallgrindError,
    report::ReportError,
    targets::{TargetError, fixed::FixedError},
    trial::TrialError,
};

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A measurement, or a wrong answer in it.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// Others' load beside trouble.
    #[error(transparent)]
    Isolation(#[from] crate::isolation::IsolationError),
    /// Counting instructions.
    #[error(transparent)]
    Callgrind(#[from] CallgrindError),
    /// A comparison.
    #[error(transparent)]
    Compare(#[from] crate::compare::run::RunError),
    /// A comparison's money.
    #[error(transparent)]
    Cost(#[from] crate::cost::CostError),
    /// What a comparison cannot begin without.
    #[error("{0}")]
    Usage(String),
    /// The results' files.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The fixed server.
    #[error(transparent)]
    Fixed(#[from] FixedError),
}
