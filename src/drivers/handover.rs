//! The way of a connection that has shaken hands to the shard that will serve it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::ShardWaker;
use crate::limits::HANDED_OVER_MAX;
use crate::tls::tally::Outcome;
use crate::tls::{CertificateNames, Session, TlsTally};

/// A connection that is done with its handshake.
#[derive(Debug)]
pub struct Secured {
    /// Blocking, as the ring wants it.
    pub socket: OwnedFd,
    /// Its encryption, and what came with the handshake's last bytes.
    pub session: Box<dyn Session>,
    /// From where.
    pub from: IpAddr,
    /// What it has proved to be called; `None` where it was not asked.
    pub names: Option<CertificateNames>,
}

/// A shard's end: what it is to take.
#[derive(Debug)]
pub struct Arrivals {
    queue: Receiver<Secured>,
    /// Where failures are counted.
    pub tally: Arc<TlsTally>,
}

impl Arrivals {
    /// The next connection.
    pub(super) fn next(&self) -> Option<Secured> {
        self.queue.try_recv().ok()
    }
}

/// The other end.
#[derive(Clone, Debug)]
pub struct Door {
    queue: SyncSender<Secured>,
    wakers: Arc<[ShardWaker]>,
    shard: usize,
    tally: Arc<TlsTally>,
}

impl Door {
    /// Hands a connection to the shard, or closes it where too many wait.
    pub fn hand_over(&self, secured: Secured) {
        match self.queue.try_send(secured) {
            Ok(()) => self.wakers[self.shard].wake(),
            Err(_) => self.tally.add(Outcome::NoPlace),
        }
    }
}

/// The way to `shard`.
pub fn way(shard: usize, wakers: &Arc<[ShardWaker]>, tally: &Arc<TlsTally>) -> (Door, Arrivals) {
    let (sender, receiver) = sync_channel(HANDED_OVER_MAX);
    let door = Door { queue: sender, wakers: Arc::clone(wakers), shard, tally: Arc::clone(tally) };
    (door, Arrivals { queue: receiver, tally: Arc::clone(tally) })
}
