//! `florin ledger status`: how far a node's slot is behind, and what it costs the server.

use postgres_protocol::escape::escape_literal;

use crate::answer::{self, is, maybe, number, text};
use crate::failure::Failure;
use crate::session::identify;
use crate::target::{Purpose, Target};
use crate::wire::Answer;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which ledger it is.
    pub ledger: String,
    /// Rows, as the server's planner guesses them.
    pub rows_about: i64,
    /// Where the server's log ends.
    pub end: String,
    /// The slot's name.
    pub slot: String,
    /// How it is; none = there is no such slot.
    pub at: Option<SlotStanding>,
}

/// How a slot is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotStanding {
    /// Whether a node uses it now.
    pub is_active: bool,
    /// What the node has confirmed.
    pub confirmed: String,
    /// Bytes from there to the end of the log.
    pub lag_bytes: u64,
    /// Milliseconds between a write to the log and its confirmation; none = nothing was lately to be confirmed.
    pub lag_ms: Option<u64>,
    /// Bytes of the log that are kept for it.
    pub retained_bytes: u64,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes that may still be written before it is lost; none = without limit.
    pub safe_bytes: Option<u64>,
}

/// Asks the server.
///
/// # Errors
/// Where it does not answer, or has no such table.
pub async fn standing(target: &Target) -> Result<Standing, Failure> {
    let (identity, _) = identify(target).await?;
    let mut wire = target.connect(Purpose::Questions).await?;
    let sql = format!(
        "SELECT pg_current_wal_insert_lsn(), (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = {})",
        identity.table_oid
    );
    let row = answer::row(&mut wire, &sql).await?;
    let sql = format!(
        "SELECT s.active, s.confirmed_flush_lsn, greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), s.confirmed_flush_lsn), 0)::bigint, \
         (extract(epoch FROM r.flush_lag) * 1000)::bigint, greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint, \
         coalesce(s.wal_status, 'lost'), s.safe_wal_size FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = \
         s.active_pid WHERE s.slot_name = {}",
        escape_literal(&target.address.slot)
    );
    let at = wire.query(&sql).await?.first().map(slot).transpose()?;
    Ok(Standing {
        ledger: identity.to_string(),
        rows_about: number(&row, 1)?,
        end: text(&row, 0)?.to_owned(),
        slot: target.address.slot.clone(),
        at,
    })
}

fn slot(row: &Answer) -> Result<SlotStanding, Failure> {
    let some = |at: usize| {
        maybe(row, at).and_then(|text| text.parse::<i64>().ok()).map(|number| number.max(0).unsigned_abs())
    };
    Ok(SlotStanding {
        is_active: is(row, 0)?,
        // One that is lost has none of these.
        confirmed: maybe(row, 1).unwrap_or_default().to_owned(),
        lag_bytes: some(2).unwrap_or_default(),
        lag_ms: some(3),
        retained_bytes: some(4).unwrap_or_default(),
        wal_status: text(row, 5)?.to_owned(),
        safe_bytes: some(6),
    })
}
