//! Nodes that follow one ledger, at their own pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use florin_client::records::{AssetBalance, Balance, Balances};
use florin_schema::{Opcode, Status};

use super::{Answer, Asked, Fake, Map, coin, entry_of};

/// What nodes of one ledger say of themselves.
pub fn map(node_id: u64) -> Map {
    Map { node_id, ledger_id: 7, ..Map::one_shard() }
}

/// What a client of all of them is given.
pub fn together(nodes: &[&Fake]) -> String {
    format!("florin://{}", nodes.iter().map(|node| &*node.address).collect::<Vec<_>>().join(","))
}

/// A node that follows: every user is at the same version, which the test moves; 0 is that of a user that it has not seen.
pub struct Follower {
    pub fake: Fake,
    pub version: Arc<AtomicU64>,
    /// Its answers wait until they are resumed.
    pub is_held: Arc<AtomicBool>,
}

impl Follower {
    pub async fn new(node_id: u64, version: u64) -> Follower {
        let (version, is_held) = (Arc::new(AtomicU64::new(version)), Arc::new(AtomicBool::new(false)));
        let (at, held) = (Arc::clone(&version), Arc::clone(&is_held));
        let script = move |asked: &Asked| {
            let answer = follow(asked, at.load(SeqCst));
            if held.load(SeqCst) { Answer::Held(answer) } else { Answer::Bytes(answer) }
        };
        Follower { fake: Fake::tcp(map(node_id), script).await, version, is_held }
    }
}

fn follow(asked: &Asked, version: u64) -> Vec<u8> {
    let balance = |user_id| {
        let coins = AssetBalance { asset: coin().to_wire(), available: version as i64, held: 0 };
        Balance { user_id, version, updated_at_us: 1, balances: vec![coins] }
    };
    if asked.opcode() == Opcode::GetBalances {
        let entry = |user_id| match version {
            0 => entry_of(user_id, None),
            _ => entry_of(user_id, Some(balance(user_id))),
        };
        return asked.rkyv(&Balances { entries: asked.ids().into_iter().map(entry).collect() });
    }
    let wanted = asked.freshness.map_or(0, |options| options.min_version.get());
    match (version < wanted, version) {
        (true, _) => asked.reply(Status::Stale, 0, b"min_version: not yet"),
        (false, 0) => asked.reply(Status::NotFound, 0, b"user_id: never named"),
        (false, _) => asked.rkyv(&balance(asked.user_id())),
    }
}
