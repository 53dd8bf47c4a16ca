//! What a node's threads are given for the audit.

use std::sync::Arc;

use super::{Control, StartError};
use crate::{
    auditor::{Audited, Auditor, Share},
    clock::Clock,
    orders::Port,
    shard::{AuditLink, ShardSetup, audit_link},
    sources::Ledger,
};

/// Starts the audit's thread, and links it to each shard; in their order, each shard's side.
pub(super) fn wire_up(
    share: Share,
    ledger: &Ledger,
    setups: &[ShardSetup],
    clock: Clock,
    control: &Control,
) -> Result<(Auditor, Vec<AuditLink>), StartError> {
    let link = |setup: &ShardSetup| {
        let (port, link) = audit_link();
        let port = Port::new(port, Arc::clone(&setup.parking), control.waking(setup.index));
        (Audited { port, watermark: Arc::clone(&setup.feed.watermark) }, link)
    };
    let (audited, links) = setups.iter().map(link).unzip();
    let auditor = Auditor::start(share, ledger.scan(), audited, clock);
    Ok((auditor.map_err(|source| StartError::Thread { source })?, links))
}
