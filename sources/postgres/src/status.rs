//! What a node tells of its server: the metrics and the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use florin_record::Figure;

use crate::facts::Slot;
use crate::limits::RETAINED_WARN_BYTES;
use crate::position::Lsn;

/// Written by the source, read by whoever asks.
#[derive(Debug, Default)]
pub struct PgStatus {
    connections: AtomicU64,
    loads: AtomicU64,
    on_top: AtomicU64,
    retained: AtomicU64,
    position: AtomicU64,
    end: AtomicU64,
    endangered: AtomicU64,
}

impl PgStatus {
    /// Everything, for the metrics.
    pub fn figures(&self) -> [Figure; 6] {
        let figure = |name, help, is_counter, value| Figure { name, help, is_counter, value };
        [
            figure(
                "florin_postgres_connections_total",
                "Times that the replication stream was begun.",
                true,
                self.connections(),
            ),
            figure("florin_postgres_loads_total", "Times that a snapshot was loaded.", true, self.loads()),
            figure(
                "florin_postgres_loads_on_top_total",
                "Of them those on top of what was there, for the slot had lost the position.",
                true,
                self.loads_on_top(),
            ),
            figure(
                "florin_postgres_lag_bytes",
                "Bytes of the server's log that are still to be read.",
                false,
                self.lag_bytes(),
            ),
            figure(
                "florin_postgres_retained_bytes",
                "Bytes of its log that the server keeps for this node's slot.",
                false,
                self.retained_bytes(),
            ),
            figure(
                "florin_postgres_slot_endangered",
                "1 while the server may remove what the slot still needs (wal_status unreserved or lost).",
                false,
                self.is_slot_endangered().into(),
            ),
        ]
    }

    /// Times that the stream was begun.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Times that a snapshot was loaded.
    pub fn loads(&self) -> u64 {
        self.loads.load(Relaxed)
    }

    /// Of them those on top of what was there, because the slot had lost the position.
    pub fn loads_on_top(&self) -> u64 {
        self.on_top.load(Relaxed)
    }

    /// Bytes of the server's log that are kept for this node's slot.
    pub fn retained_bytes(&self) -> u64 {
        self.retained.load(Relaxed)
    }

    /// Bytes of the server's log that this node has still to read.
    pub fn lag_bytes(&self) -> u64 {
        self.end.load(Relaxed).saturating_sub(self.position.load(Relaxed))
    }

    /// Whether the server may remove what the slot still needs.
    pub fn is_slot_endangered(&self) -> bool {
        self.endangered.load(Relaxed) != 0
    }

    pub(crate) fn note_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_load(&self, is_on_top: bool) {
        self.loads.fetch_add(1, Relaxed);
        self.on_top.fetch_add(is_on_top.into(), Relaxed);
    }

    pub(crate) fn note_position(&self, position: Lsn) {
        self.position.store(position.0, Relaxed);
    }

    pub(crate) fn note_end(&self, end: Lsn) {
        self.end.fetch_max(end.0, Relaxed);
    }

    pub(crate) fn watch(&self, slot: Option<&Slot>, end: Lsn) {
        self.note_end(end);
        let Some(slot) = slot else { return };
        let before = self.retained.swap(slot.retained, Relaxed);
        if before < RETAINED_WARN_BYTES && slot.retained >= RETAINED_WARN_BYTES {
            tracing::warn!("the server keeps {} MiB of its log for this node's slot", slot.retained >> 20);
        }
        let is_endangered = !["reserved", "extended"].contains(&slot.wal_status.as_str());
        if self.endangered.swap(is_endangered.into(), Relaxed) == 0 && is_endangered {
            tracing::error!(
                "the server may remove what this node's slot still needs (wal_status {}): raise max_slot_wal_keep_size",
                slot.wal_status
            );
        }
    }
}
