//! What a node's threads are given for looks at users from the control plane.

use std::sync::Arc;

use super::Control;
use crate::{
    orders::Port,
    shard::{LookLink, LookOrder, ShardSetup, look_link},
};

/// The way to one shard's users. An answer is a whole HTTP response.
pub type LookPort = Port<LookOrder, Vec<u8>>;

/// Links the control plane to each shard; in their order, each side.
pub(super) fn wire_up(setups: &[ShardSetup], control: &Control) -> (Vec<LookPort>, Vec<LookLink>) {
    let link = |setup: &ShardSetup| {
        let (port, link) = look_link();
        (Port::new(port, Arc::clone(&setup.parking), control.waking(setup.index)), link)
    };
    setups.iter().map(link).unzip()
}
