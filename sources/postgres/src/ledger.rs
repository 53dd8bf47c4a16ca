//! A ledger that was found: who follows it and who writes to it have the same, and agree on which it is.

use std::thread;

use florin_record::LedgerError;
use florin_schema::{LedgerId, ids::mix};

use crate::admin;
use crate::instance::Followed;
use crate::position::PgIdentity;
use crate::session::identify;
use crate::target::Target;

/// See the module.
#[derive(Clone, Debug)]
pub struct PgLedger {
    target: Target,
    identity: PgIdentity,
    followed: Followed,
}

impl PgLedger {
    /// Asks the server which ledger this is.
    ///
    /// # Errors
    /// Where it does not say, or the table is none that can be followed.
    pub fn open(target: Target) -> Result<PgLedger, LedgerError> {
        // On a thread of its own: whoever calls this may be within an event loop.
        let asked = thread::scope(|scope| {
            scope.spawn(|| admin::wait(identify(&target))).join().expect("asking does not panic")
        });
        let (identity, found) = asked?;
        Ok(PgLedger { target, identity, followed: Followed::new(found) })
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Which it is.
    pub fn identity(&self) -> &PgIdentity {
        &self.identity
    }

    /// At which server.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// Which it is, for clients to compare: the same for all nodes that follow it, whichever server is its primary.
    pub fn id(&self) -> LedgerId {
        let PgIdentity { system, database, table_oid, .. } = &self.identity;
        let mixed = database.bytes().fold(u64::from(*table_oid), |hash, byte| mix(hash ^ u64::from(byte)));
        LedgerId::of_first(u128::from(*system) << 64 | u128::from(mixed))
    }
}
