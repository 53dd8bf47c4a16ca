//! What a node tells of its topic: the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use florin_record::Figure;

/// Written by the source, read by whoever asks.
#[derive(Debug, Default)]
pub struct KafkaStatus {
    pub(crate) sessions: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) lag: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) oversize: AtomicU64,
    pub(crate) misplaced: AtomicU64,
    pub(crate) contradicting: AtomicU64,
    pub(crate) changes: AtomicU64,
}

impl KafkaStatus {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// Everything, for the metrics.
    pub fn figures(&self) -> [Figure; 8] {
        let figure = |name, help, is_counter, value: &AtomicU64| Figure {
            name,
            help,
            is_counter,
            value: value.load(Relaxed),
        };
        [
            figure(
                "florin_kafka_sessions_total",
                "Times that the reading of the topic was begun.",
                true,
                &self.sessions,
            ),
            figure("florin_kafka_records_total", "Records that were read.", true, &self.records),
            figure(
                "florin_kafka_lag_records",
                "Offsets between what was read and the partitions' ends, as they were asked for last.",
                false,
                &self.lag,
            ),
            figure(
                "florin_kafka_unreadable_total",
                "Records that no transaction could be made of.",
                true,
                &self.unreadable,
            ),
            figure(
                "florin_kafka_oversize_total",
                "Of them those whose value is longer than a transaction's can be.",
                true,
                &self.oversize,
            ),
            figure(
                "florin_kafka_misplaced_total",
                "Of them those in another partition than their key's: their producer partitions otherwise.",
                true,
                &self.misplaced,
            ),
            figure(
                "florin_kafka_contradicting_total",
                "Of them those with a version that another record of the account has.",
                true,
                &self.contradicting,
            ),
            figure(
                "florin_kafka_changes_total",
                "Records that change or remove what was there: tombstones, updates and deletes.",
                true,
                &self.changes,
            ),
        ]
    }
}
