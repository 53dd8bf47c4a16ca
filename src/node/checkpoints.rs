//! What a node's threads are given for checkpoints.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use super::{Control, StartError};
use crate::{
    checkpoints::{CheckpointConfig, CheckpointStatus, Cut, Doubts, Maker, Port, Restoring, Shared, Store},
    clock::Clock,
    feed::{FeedState, FeedStatus},
    shard::{CheckpointLink, ShardSetup, checkpoint_link},
};

/// What the maker's thread is started with, once the feed's runs.
pub(super) struct StartMaker {
    config: CheckpointConfig,
    shared: Shared,
    ports: Receiver<Vec<Port>>,
}

/// The two that make and load checkpoints, and each shard's side of its link to them.
type Wired = (Option<(Restoring, StartMaker)>, Vec<Option<CheckpointLink>>);

/// Takes the folder, and links whoever makes and loads checkpoints to each shard.
pub(super) fn wire_up(
    config: &CheckpointConfig,
    setups: &[ShardSetup],
    control: &Control,
) -> Result<Wired, StartError> {
    let store = Arc::new(Store::open(&config.folder)?);
    let (cut, status) = (Arc::new(Cut::default()), Arc::new(CheckpointStatus::default()));
    let doubts = Arc::new(Doubts::new(Arc::clone(&store), Arc::clone(&status)));
    let link = |setup: &ShardSetup| {
        let (port, link) = checkpoint_link();
        (Port::new(port, Arc::clone(&setup.parking), control.waking(setup.index)), link)
    };
    let (ports, links): (Vec<_>, Vec<_>) = setups.iter().map(link).unzip();
    let (maker, handed) = mpsc::channel();
    let restoring = Restoring {
        store: Arc::clone(&store),
        ports,
        cut: Arc::clone(&cut),
        status: Arc::clone(&status),
        maker,
    };
    let start =
        StartMaker { config: config.clone(), shared: Shared { store, cut, status, doubts }, ports: handed };
    Ok((Some((restoring, start)), links.into_iter().map(Some).collect()))
}

impl StartMaker {
    /// What the audit tells of what it finds.
    pub(super) fn doubts(&self) -> Arc<Doubts> {
        Arc::clone(&self.shared.doubts)
    }

    /// Starts the thread.
    pub(super) fn begin(self, clock: Clock, feed: &Arc<FeedStatus>) -> Result<Maker, StartError> {
        let StartMaker { config, shared, ports } = self;
        let feed = Arc::clone(feed);
        let following = move || (feed.state() == FeedState::Following).then(|| feed.rows());
        let maker = Maker::start(config, shared, clock, ports, following);
        maker.map_err(|source| StartError::Thread { source })
    }
}
