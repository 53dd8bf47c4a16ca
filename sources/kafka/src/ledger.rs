//! A topic that was found, and can be followed.

use std::sync::Arc;

use florin_record::LedgerError;
use florin_schema::LedgerId;
use florin_schema::ids::mix;

use crate::address::Address;
use crate::client::{self, Asker, Edge, Sees};
use crate::failure::Failure;
use crate::position::KafkaIdentity;
use crate::share::Share;

/// See the module.
#[derive(Clone, Debug)]
pub struct KafkaLedger {
    address: Arc<Address>,
    identity: KafkaIdentity,
    share: Option<Arc<Share>>,
}

impl KafkaLedger {
    /// Asks the brokers what the topic is.
    ///
    /// # Errors
    /// Why it cannot be followed.
    pub fn open(address: Address) -> Result<KafkaLedger, LedgerError> {
        Ok(find(address)?)
    }

    /// The same, of which a node follows as much as its share says, instead of all partitions.
    #[must_use]
    pub fn divided(self, share: Arc<Share>) -> KafkaLedger {
        KafkaLedger { share: Some(share), ..self }
    }

    /// Which partitions are followed; none = all.
    pub fn share(&self) -> Option<&Arc<Share>> {
        self.share.as_ref()
    }

    /// Opens every file that an address names, and asks nobody.
    ///
    /// # Errors
    /// Which cannot be used, and why.
    pub fn check_files(address: &Address) -> Result<(), LedgerError> {
        client::check_files(address)
    }

    /// Where it is.
    pub fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// Which it is.
    pub fn identity(&self) -> &KafkaIdentity {
        &self.identity
    }

    /// Which it is, for clients to compare: the same for all nodes that follow it.
    pub fn id(&self) -> LedgerId {
        let hashed =
            |text: &str| text.bytes().fold(text.len() as u64, |hash, byte| mix(hash ^ u64::from(byte)));
        let KafkaIdentity { cluster, topic, .. } = &self.identity;
        LedgerId::of_first(u128::from(hashed(cluster)) << 64 | u128::from(hashed(topic)))
    }
}

fn find(address: Address) -> Result<KafkaLedger, Failure> {
    let asker = Asker::new(&address, Sees::All)?;
    let identity = asker.identity()?;
    check_first(&identity, (0..).zip(asker.edges(Edge::First, identity.partitions)?))?;
    Ok(KafkaLedger { address: Arc::new(address), identity, share: None })
}

/// What was removed cannot be answered from: an account of which no record is left would not be known.
pub fn check_first(
    identity: &KafkaIdentity,
    mut first: impl Iterator<Item = (u32, u64)>,
) -> Result<(), Failure> {
    match first.find(|&(_, first)| first > 0) {
        None => Ok(()),
        Some((partition, first)) => Err(Failure::Replaced(format!(
            "topic {} begins at offset {first} in partition {partition}: records before it were removed, and accounts would be answered \
             without them. A ledger's topic keeps all of its records (retention.ms=-1, retention.bytes=-1, cleanup.policy=delete): \
             write the ledger to a new topic",
            identity.topic
        ))),
    }
}
