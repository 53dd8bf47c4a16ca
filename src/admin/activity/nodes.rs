//! The nodes that divide the users, as this one knows them.

use florin_schema::nodes::node_authority;
use florin_schema::{MapNode, NodeMap};

use super::{Partition, Peer};
use crate::nodes::NodesStatus;

/// Each of them by the map, and each partition that this one follows, those furthest behind first.
pub(super) fn look(status: &NodesStatus) -> (Vec<Peer>, Vec<Partition>) {
    let standing = status.standing();
    let peer = |map: &NodeMap, place: u16| {
        let MapNode { id, host, port, tls_port } = &map.nodes()[usize::from(place)];
        let all = 0..map.partitions();
        Peer {
            address: node_authority(host, *port, *tls_port),
            is_this: *id == status.id,
            owns: map.owned_by(place).count(),
            stands_by: all.filter(|&partition| map.standbys(partition).any(|of| of == place)).count(),
        }
    };
    let peers = standing
        .map
        .as_deref()
        .map(|map| (0..map.nodes().len() as u16).map(|place| peer(map, place)).collect());
    let partition = |(partition, role): (u32, &str)| Partition {
        partition,
        role: role.to_owned(),
        lag_records: standing.lags.get(&partition).copied(),
    };
    let mut partitions: Vec<Partition> = standing.roles(status.id).map(partition).collect();
    partitions.sort_by_key(|of| std::cmp::Reverse(of.lag_records));
    (peers.unwrap_or_default(), partitions)
}
