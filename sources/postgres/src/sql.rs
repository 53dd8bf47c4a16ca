//! A connection for SQL from code that waits: a small event loop of its own, and an end to every wait.

use std::future::Future;
use std::time::Duration;

use florin_record::{LedgerError, Trouble};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::address::Address;
use crate::connect;

/// What an error begins with after which it is known that nothing was written.
const NOTHING: &str = "nothing was appended: ";
/// What one begins with after which it is not.
const UNKNOWN: &str = "it is not known whether it was appended: ";
/// What a process ends with that cannot reach its server, or is refused by it.
pub(crate) const EXIT_CODE: u8 = 21;

/// See the module.
pub(crate) struct Sql {
    runtime: Runtime,
    pub client: Client,
}

impl Sql {
    /// Connects to the primary.
    pub(crate) fn connect(address: &Address) -> Result<Sql, LedgerError> {
        let no_loop = |error| unavailable(format!("the system gives no event loop: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_loop)?;
        let (client, driven) = runtime
            .block_on(connect::client(address))
            .map_err(|error| unavailable(format!("{NOTHING}{error}")))?;
        // Its end shows in what is asked of the client.
        runtime.spawn(async move {
            let _ = driven.await;
        });
        Ok(Sql { runtime, client })
    }

    /// Waits for an answer, and no longer than `patience`.
    ///
    /// # Errors
    /// What the server says; that it says nothing.
    pub(crate) fn wait<T>(
        &self,
        patience: Duration,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        match self.runtime.block_on(async { timeout(patience, asked).await }) {
            Ok(answer) => answer.map_err(SqlError::Answer),
            Err(_) => Err(SqlError::Silence(patience)),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SqlError {
    /// The server refuses, or the connection is gone.
    Answer(tokio_postgres::Error),
    /// Nothing came for so long.
    Silence(Duration),
}

impl SqlError {
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            SqlError::Answer(error) => error.code(),
            SqlError::Silence(_) => None,
        }
    }

    /// Whether the server said so and goes on, so that what was refused is known not to have happened. One that ends the
    /// session meanwhile (class 57P, 08) may have done it.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| !code.code().starts_with("57P") && !code.code().starts_with("08"))
    }

    pub(crate) fn reason(&self) -> String {
        match self {
            SqlError::Answer(error) => connect::reason(error),
            SqlError::Silence(patience) => format!("no answer within {:.1} s", patience.as_secs_f64()),
        }
    }

    /// For whoever asked; nothing was written.
    pub(crate) fn into_ledger_error(self) -> LedgerError {
        let reason = format!("nothing was appended: PostgreSQL: {}", self.reason());
        let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_FUNCTION];
        match self.code() {
            Some(code) if missing.contains(code) => failed(format!(
                "{reason}; florin appends to the table that `florin ledger init` makes, and `florin ledger check` says what is missing"
            )),
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                failed(format!("{reason}; `florin ledger init --writer ROLE` lets a role append"))
            }
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => {
                unavailable(format!(
                    "nothing was appended: other writers kept the accounts for too long ({}); try again in a moment",
                    self.reason()
                ))
            }
            Some(code) if code.code().starts_with("57P") || code.code().starts_with("40") => {
                unavailable(reason)
            }
            Some(_) => failed(reason),
            None => unavailable(reason),
        }
    }

    /// After COMMIT was sent.
    pub(crate) fn into_commit_error(self) -> LedgerError {
        if self.is_refusal() {
            return self.into_ledger_error();
        }
        uncertain(&format!("PostgreSQL did not answer the commit ({})", self.reason()))
    }
}

/// Where a commit may have happened; `reason` is what was found last.
pub(crate) fn uncertain(reason: &str) -> LedgerError {
    let reason = reason.strip_prefix(NOTHING).unwrap_or(reason);
    let reason = match reason.strip_prefix(UNKNOWN) {
        Some(_) => reason.to_owned(),
        None => {
            format!("{UNKNOWN}{reason}; send the same again, with the same ids: what entered is told by them")
        }
    };
    LedgerError { exit_code: EXIT_CODE, ..LedgerError::new(Trouble::Uncertain, reason) }
}

pub(crate) fn unavailable(reason: String) -> LedgerError {
    LedgerError { exit_code: EXIT_CODE, ..LedgerError::new(Trouble::Unavailable, reason) }
}

pub(crate) fn failed(reason: String) -> LedgerError {
    LedgerError { exit_code: EXIT_CODE, ..LedgerError::new(Trouble::Failed, reason) }
}
