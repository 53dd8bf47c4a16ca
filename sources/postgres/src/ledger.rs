//! A ledger that was found: who follows it and who writes to it have the same, and agree on which it is.

use std::thread;

use florin_record::{LedgerError, Trouble};
use florin_schema::{LedgerId, ids::mix};
use tokio::runtime::Builder;

use crate::failure::Failure;
use crate::position::PgIdentity;
use crate::session::identify;
use crate::sql::EXIT_CODE;
use crate::target::Target;

/// See the module.
#[derive(Clone, Debug)]
pub struct PgLedger {
    target: Target,
    identity: PgIdentity,
}

impl PgLedger {
    /// Asks the server which ledger this is.
    ///
    /// # Errors
    /// Where it does not say, or the table is none that can be followed.
    pub fn open(target: Target) -> Result<PgLedger, LedgerError> {
        // On a thread of its own: whoever calls this may be within an event loop.
        let asked =
            thread::scope(|scope| scope.spawn(|| ask(&target)).join().expect("asking does not panic"));
        match asked {
            Ok(identity) => Ok(PgLedger { target, identity }),
            Err(failure) => Err(LedgerError {
                exit_code: EXIT_CODE,
                ..LedgerError::new(Trouble::Unavailable, failure.to_string())
            }),
        }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Which it is.
    pub fn identity(&self) -> &PgIdentity {
        &self.identity
    }

    /// Which it is, for clients to compare: the same for all nodes that follow it, whichever server is its primary.
    pub fn id(&self) -> LedgerId {
        let PgIdentity { system, database, table_oid, .. } = &self.identity;
        let mixed = database.bytes().fold(u64::from(*table_oid), |hash, byte| mix(hash ^ u64::from(byte)));
        LedgerId::of_first(u128::from(*system) << 64 | u128::from(mixed))
    }
}

fn ask(target: &Target) -> Result<PgIdentity, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Unavailable(format!("the system gives no event loop: {error}")))?;
    runtime.block_on(identify(target))
}
