//! What a node's threads are given for the audit.

use std::sync::Arc;

use super::{Control, StartError};
use crate::{
    auditor::{Audited, Auditor, Keeper, Share},
    checkpoints::Doubts,
    clock::Clock,
    orders::Port,
    shard::{AuditLink, ShardSetup, audit_link},
    sources::Ledger,
};

impl Keeper for Doubts {
    fn doubt(&self) {
        self.raise();
    }

    fn settle(&self) {
        Doubts::settle(self);
    }
}

/// Starts the audit's thread where there is to be one, and links it to each shard; in their order, each shard's side.
pub(super) fn wire_up(
    share: Option<Share>,
    ledger: &Ledger,
    setups: &[ShardSetup],
    clock: Clock,
    control: &Control,
    doubts: Option<Arc<Doubts>>,
) -> Result<(Option<Auditor>, Vec<Option<AuditLink>>), StartError> {
    let Some(share) = share else { return Ok((None, setups.iter().map(|_| None).collect())) };
    let link = |setup: &ShardSetup| {
        let (port, link) = audit_link();
        let port = Port::new(port, Arc::clone(&setup.parking), control.waking(setup.index));
        (Audited { port, watermark: Arc::clone(&setup.feed.watermark) }, Some(link))
    };
    let (audited, links) = setups.iter().map(link).unzip();
    let keeper = doubts.map(|doubts| doubts as Arc<dyn Keeper>);
    let auditor = Auditor::start(share, ledger.scan(), audited, clock, keeper);
    Ok((Some(auditor.map_err(|source| StartError::Thread { source })?), links))
}
