//! What lies between a connection's bytes and the shard's where it comes by TLS. The shard sees plain bytes, and does not know.

use crate::tls::Session;

/// One connection's.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) session: Box<dyn Session>,
    /// Bytes that the shard has given and has not been told to be sent.
    unreported: usize,
    /// Which record was half there when the watch began; none = nobody watches.
    watched: Option<u64>,
}

impl Sealed {
    pub(super) fn new(session: Box<dyn Session>) -> Sealed {
        Sealed { session, unreported: 0, watched: None }
    }

    /// What the shard has given, as records.
    pub(super) fn seal(&mut self, plain: &[u8], into: &mut Vec<u8>) {
        // It can fail only after it has failed to open something, and then it is asked nothing more.
        self.session.seal(plain, into).expect("a session that has not failed seals");
        self.unreported += plain.len();
    }

    /// `bytes` of records have been sent: for how many of the shard's they count. Records are longer than what they hold, so each
    /// byte counts for one until all have been.
    pub(super) fn report(&mut self, bytes: usize) -> usize {
        let reported = bytes.min(self.unreported);
        self.unreported -= reported;
        reported
    }

    /// Whether a half record has come that nobody watches; from now on somebody does.
    pub(super) fn begins_watch(&mut self) -> bool {
        let half = self.session.half().filter(|_| self.watched.is_none());
        self.watched = half.or(self.watched);
        half.is_some()
    }

    /// Whether the record that was half there when the watch began still is.
    pub(super) fn ends_watch(&mut self) -> bool {
        let watched = self.watched.take();
        watched.is_some() && self.session.half() == watched
    }
}
