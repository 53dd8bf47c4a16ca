//! How a node stands among those that divide the users.

use super::{Kind, head, line};
use crate::admin::View;

/// All of them; without a value where the users are not divided.
pub(super) fn render(page: &mut String, view: &View) {
    let standing = view.nodes.as_ref().map(|nodes| (nodes.id, nodes.standing()));
    let map = standing.as_ref().and_then(|(_, standing)| standing.map.as_deref());
    let standbys = view.nodes.as_ref().map_or(0, |nodes| nodes.standbys);
    let gauges: [(&str, &str, Option<u64>); 4] = [
        (
            "florin_nodes",
            "Nodes that divide the users, as this one knows them.",
            map.map(|map| map.nodes().len() as u64),
        ),
        (
            "florin_nodes_epoch",
            "Of the map of nodes that callers are told: it rises with every change.",
            map.map(|map| map.epoch),
        ),
        (
            "florin_partitions_without_owner",
            "Partitions whose users nobody answers about, as this node knows it.",
            map.map(|map| map.without_owner() as u64),
        ),
        (
            "florin_partitions_without_standby",
            "Partitions that fewer nodes follow beside their owner than --standbys says, as this node knows it.",
            map.map(|map| map.without_standby(standbys) as u64),
        ),
    ];
    for (name, help, value) in gauges {
        head(page, name, Kind::Gauge, help);
        if let Some(value) = value {
            line(page, name, value);
        }
    }
    let (held, lag) = ("florin_partition_held", "florin_partition_lag_records");
    head(
        page,
        held,
        Kind::Gauge,
        "1 for each partition that this node follows: as its owner, as a standby, or loading.",
    );
    let Some((id, standing)) = &standing else {
        return head(page, lag, Kind::Gauge, LAG);
    };
    for (partition, role) in standing.roles(*id) {
        line(page, format_args!("{held}{{partition=\"{partition}\",as=\"{role}\"}}"), 1);
    }
    head(page, lag, Kind::Gauge, LAG);
    for (partition, records) in &standing.lags {
        line(page, format_args!("{lag}{{partition=\"{partition}\"}}"), records);
    }
}

const LAG: &str = "Offsets between what was read of a partition that this node follows and its end.";
