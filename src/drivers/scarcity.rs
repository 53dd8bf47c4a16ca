//! What the log says when a connection cannot be accepted, because files, memory or slots have run out: often enough to be
//! seen, seldom enough to be read.

use std::io;

use crate::limits;

/// When it was said last.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    said_us: Option<u64>,
}

impl Scarcity {
    /// A connection could not be accepted.
    pub(super) fn refused(&mut self, now_us: u64, error: &io::Error) {
        if self.is_due(now_us) {
            tracing::warn!(
                %error,
                "callers wait, for a connection could not be accepted: raise the number of open files (ulimit -n, \
                 LimitNOFILE= in the systemd unit; for the host fs.file-max), or connect less; \
                 florin_accepts_refused_total counts"
            );
        }
    }

    /// Every slot for connections is taken.
    pub(super) fn full(&mut self, now_us: u64, connections: u32) {
        if self.is_due(now_us) {
            tracing::warn!(
                connections,
                "callers wait, for every slot of this shard is taken: connect less, run more shards, or raise the number of \
                 open files where the start has warned of it; florin_connections_full_total counts"
            );
        }
    }

    fn is_due(&mut self, now_us: u64) -> bool {
        let is_due = self.said_us.is_none_or(|said_us| now_us >= said_us + limits::SCARCITY_LOG_US);
        if is_due {
            self.said_us = Some(now_us);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_in_a_while() {
        let mut scarcity = Scarcity::default();
        assert!(scarcity.is_due(5));
        assert!(!scarcity.is_due(5 + limits::SCARCITY_LOG_US - 1));
        assert!(scarcity.is_due(5 + limits::SCARCITY_LOG_US));
    }
}
