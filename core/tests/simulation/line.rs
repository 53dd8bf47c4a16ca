//! One connection as its driver has it: the server's own `Life` says what is to be begun, and this is the kernel, which
//! completes it in pieces, late, or cut short.

use std::collections::VecDeque;

use florin_core::shard::life::{AfterSend, Life, Operation, Received, Reception, Sent, Stage};
use florin_core::shard::{Listener, Shard};

use super::node::{Completion, Event, What, fnv};
use super::random::Random;

/// The driver's side of one connection, and the kernel's.
pub struct Line {
    pub client: usize,
    pub life: Life,
    reception: Reception,
    /// The kernel takes what the client sends.
    pub intake: bool,
    /// The client has sent all it will, and that waits to be received.
    ended: bool,
    /// Somebody waits for that end.
    watched: bool,
    /// On its way, and how many bytes of it have been read by the client, and reported to the shard.
    pub in_flight: Vec<u8>,
    pub read: usize,
    reported: usize,
}

impl Line {
    pub fn new(client: usize, listener: Listener) -> Line {
        let mut life = Life::default();
        let reception = if listener == Listener::Unix { Reception::Watched } else { Reception::Many };
        life.begin(reception);
        Line {
            client,
            life,
            reception,
            intake: false,
            ended: false,
            watched: false,
            in_flight: Vec::new(),
            read: 0,
            reported: 0,
        }
    }

    /// The client sends a piece: whether the receive that brings it goes on.
    pub fn takes_piece(&mut self, random: &mut Random) -> bool {
        self.intake = self.reception != Reception::Once && !random.one_in(10);
        self.intake
    }

    /// The client has sent all it will: whether a receive says so now. One that is watched may lose it.
    pub fn end_input(&mut self, random: &mut Random) -> bool {
        let is_lost = self.reception == Reception::Watched && random.percent(30);
        self.ended = !self.intake || is_lost;
        !is_lost && std::mem::take(&mut self.intake)
    }

    /// Whether somebody waited for the client's end, who is told now.
    pub fn end_watch(&mut self) -> bool {
        std::mem::take(&mut self.watched)
    }

    /// `bytes` of a send have gone: how many of them the shard was told of.
    pub fn sent(&mut self, connection: u32, bytes: usize, shard: &mut Shard) -> u64 {
        if self.in_flight.is_empty() {
            return 0;
        }
        let is_reported = self.life.is_open();
        self.reported += bytes;
        if is_reported {
            shard.sent(connection, bytes);
        }
        let is_all = self.reported == self.in_flight.len();
        if self.life.sent(if is_all { Sent::All } else { Sent::Short }) == AfterSend::Done {
            self.drop_output(shard);
        }
        if is_reported { bytes as u64 } else { 0 }
    }

    /// A send has failed, if one is out.
    pub fn send_failed(&mut self, shard: &mut Shard) {
        if !self.in_flight.is_empty() {
            assert_eq!(self.life.sent(Sent::Failure), AfterSend::Done);
            self.drop_output(shard);
        }
    }

    fn drop_output(&mut self, shard: &mut Shard) {
        (self.read, self.reported) = (0, 0);
        shard.recycle(std::mem::take(&mut self.in_flight));
    }
}

/// What a line's driver and its kernel work with.
pub struct Driver<'a> {
    pub shard: &'a mut Shard,
    pub completions: &'a mut VecDeque<Completion>,
    pub random: &'a mut Random,
    pub events: &'a mut Vec<Event>,
}

impl Line {
    /// Begins whatever is to be begun; whether it lingers from now on.
    pub fn serve(&mut self, slot: usize, driver: &mut Driver<'_>) -> bool {
        let connection = slot as u32;
        let mut lingers = false;
        while let Some(operation) = self.life.next(|| driver.shard.wants(connection)) {
            match operation {
                Operation::Send => self.send(connection, driver),
                Operation::Receive => self.receive(slot, driver),
                Operation::CancelReceive => self.end_receive(slot, driver),
                Operation::WatchEnd => {
                    self.watched = true;
                    self.tell_watch(slot, driver, self.ended);
                }
                Operation::Forget => self.forget(slot, driver),
                Operation::Shutdown => {
                    lingers = true;
                    self.complete(slot, What::Shut, driver);
                }
                Operation::CancelAll => {
                    self.end_receive(slot, driver);
                    self.tell_watch(slot, driver, true);
                    self.complete(slot, What::SendFailed, driver);
                }
                Operation::Close => self.complete(slot, What::Closed, driver),
            }
        }
        lingers
    }

    fn complete(&self, slot: usize, what: What, driver: &mut Driver<'_>) {
        driver.completions.push_back(Completion { slot, client: self.client, what });
    }

    fn send(&mut self, connection: u32, driver: &mut Driver<'_>) {
        assert!(self.in_flight.is_empty(), "two sends at once");
        let spare = if driver.random.percent(80) { driver.shard.spare_buffer() } else { Vec::new() };
        self.in_flight = driver.shard.take_output(connection, spare);
        let (bytes, hash) = (self.in_flight.len(), fnv(0, &self.in_flight));
        driver.events.push(Event::Taken { client: self.client, bytes, hash });
    }

    fn receive(&mut self, slot: usize, driver: &mut Driver<'_>) {
        assert!(!self.intake, "two receives at once");
        self.intake = true;
        if std::mem::take(&mut self.ended) {
            self.intake = false;
            self.complete(slot, What::ReceiveEnded(Received::End), driver);
        } else if !self.life.is_open() {
            self.peer_may_end(slot, driver);
        }
    }

    fn tell_watch(&mut self, slot: usize, driver: &mut Driver<'_>, is_over: bool) {
        if is_over && self.end_watch() {
            self.complete(slot, What::PeerEnded, driver);
        }
    }

    /// A cancelled receive ends, where its last completion is not under way already.
    fn end_receive(&mut self, slot: usize, driver: &mut Driver<'_>) {
        if std::mem::take(&mut self.intake) {
            self.complete(slot, What::ReceiveEnded(Received::Nothing), driver);
        }
    }

    /// The shard has nothing more to say, or nothing more to hear.
    fn forget(&mut self, slot: usize, driver: &mut Driver<'_>) {
        let is_cut = driver.shard.wants(slot as u32).cut;
        let is_orderly = self.life.stage() == Stage::Lingering;
        assert!(
            !is_orderly || self.in_flight.is_empty(),
            "a connection ends in order only once its answers are sent"
        );
        let client = self.client;
        driver.events.push(if is_cut { Event::Cut { client } } else { Event::Closed { client } });
        driver.shard.closed(slot as u32);
        self.peer_may_end(slot, driver);
    }

    /// The peer sees our end, and ends too; or it does not, and its time will be up.
    fn peer_may_end(&mut self, slot: usize, driver: &mut Driver<'_>) {
        if self.intake && driver.random.percent(70) {
            self.intake = false;
            self.complete(slot, What::ReceiveEnded(Received::End), driver);
            self.tell_watch(slot, driver, true);
        }
    }
}
