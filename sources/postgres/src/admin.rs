//! What `florin ledger` does, for code that waits; one exit code says that the server cannot be reached or refuses.

use std::future::Future;

use florin_record::{Finding, LedgerError};
use tokio::runtime::Builder;

use crate::failure::Failure;
use crate::schema::Roles;
use crate::sql::unavailable;
use crate::standing::Standing;
use crate::target::Target;

/// See [`crate::schema::init`].
///
/// # Errors
/// Its own.
pub fn init(target: &Target, roles: &Roles) -> Result<Vec<String>, LedgerError> {
    wait(crate::schema::init(target, roles))
}

/// See [`crate::check::check`].
///
/// # Errors
/// Its own.
pub fn check(target: &Target) -> Result<Vec<Finding>, LedgerError> {
    wait(crate::check::check(target))
}

/// See [`crate::standing::standing`].
///
/// # Errors
/// Its own.
pub fn standing(target: &Target) -> Result<Standing, LedgerError> {
    wait(crate::standing::standing(target))
}

/// Waits on an event loop of its own.
///
/// # Errors
/// What was asked for fails with; that the system gives no event loop.
pub(crate) fn wait<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, LedgerError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unavailable(format!("the system gives no event loop: {error}")))?;
    runtime.block_on(asked).map_err(|failure| unavailable(failure.to_string()))
}
