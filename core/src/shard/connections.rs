//! A shard's connections: the session of each, which of them have something to do, and when they are to be looked at.
//!
//! Each list holds a connection at most once, and the session knows whether it does: so the lists are bounded by the
//! connections, and who comes twice is looked at once. A connection that was closed may still stand in one; it is passed over.

use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::{Index, IndexMut};

mod input;
mod session;

use input::Input;
pub(super) use session::{Ending, Session, Stop};
pub use session::{Listener, Wants};

use super::forwarding::question::Ticket;
use super::principal::Principal;
use crate::limits::{LATE_SERVED_PER_TURN, SPARE_BUFFER_BYTES, SPARE_BUFFERS};

/// Empty buffers with room, for whoever needs one next.
#[derive(Default)]
pub(super) struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// An empty one, with room if there is one.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps it for later, unless there are enough or it is too large.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=SPARE_BUFFER_BYTES).contains(&buffer.capacity());
        if fits && self.0.len() < SPARE_BUFFERS {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Connections {
    sessions: Vec<Session>,
    open: usize,
    /// Those whose wants may have changed.
    touched: Vec<u32>,
    /// Those of them that have asked too much, in the order in which they did; and how many of them were served in this turn.
    late: VecDeque<u32>,
    late_served: usize,
    /// Those with input that may be read on.
    ready: VecDeque<u32>,
    /// (when, connection).
    timeouts: BinaryHeap<Reverse<(u64, u32)>>,
    pub buffers: Buffers,
}

impl Index<u32> for Connections {
    type Output = Session;

    #[inline(always)]
    fn index(&self, connection: u32) -> &Session {
        &self.sessions[connection as usize]
    }
}

impl IndexMut<u32> for Connections {
    #[inline(always)]
    fn index_mut(&mut self, connection: u32) -> &mut Session {
        &mut self.sessions[connection as usize]
    }
}

impl Connections {
    /// Connections open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Indices that were ever used.
    pub fn indices(&self) -> core::ops::Range<u32> {
        0..self.sessions.len() as u32
    }

    /// Begins a session; `None` where it is not known yet who asks.
    pub fn begin(&mut self, connection: u32, listener: Listener, principal: Option<Principal>) {
        let index = connection as usize;
        if index >= self.sessions.len() {
            self.sessions.resize_with(index + 1, Session::new);
        }
        assert!(!self.sessions[index].open, "connection {connection} was opened twice");
        self.sessions[index].reopen(listener, principal);
        self.open += 1;
    }

    /// Ends a session; what names it, where questions of it may still wait somewhere.
    pub fn end(&mut self, connection: u32) -> Option<Ticket> {
        let session = &mut self.sessions[connection as usize];
        assert!(session.open, "connection {connection} was closed twice");
        session.open = false;
        let waiting = session.waits().then(|| session.ticket(connection));
        session.input.clear(&mut self.buffers);
        self.buffers.give_back(core::mem::take(&mut session.out));
        self.open -= 1;
        waiting
    }

    /// Keeps input that cannot be read yet.
    pub fn keep(&mut self, connection: u32, bytes: &[u8]) {
        self.sessions[connection as usize].input.push(bytes, &mut self.buffers);
    }

    /// Lends the input that waits, so that it can be read.
    pub fn lend_input(&mut self, connection: u32) -> Input {
        core::mem::take(&mut self[connection].input)
    }

    /// It comes back, and `read` bytes of it were read. Of a connection that is about to close nothing more will be.
    pub fn return_input(&mut self, connection: u32, mut input: Input, read: usize) {
        let session = &mut self.sessions[connection as usize];
        assert!(session.input.is_empty(), "nothing comes while a connection's input is read");
        input.consume(read, &mut self.buffers);
        if session.is_closing() {
            input.clear(&mut self.buffers);
        }
        session.input = input;
    }

    /// Whether the connection that the ticket names is still there.
    pub fn holds(&self, ticket: Ticket) -> bool {
        let session = &self[ticket.connection];
        session.open && session.generation == ticket.generation
    }

    /// Where a connection's answers are written.
    #[inline]
    pub fn out(&mut self, connection: u32) -> &mut Vec<u8> {
        let out = &mut self.sessions[connection as usize].out;
        if out.capacity() == 0 {
            *out = self.buffers.take();
        }
        out
    }

    /// Its wants may have changed.
    #[inline]
    pub fn touch(&mut self, connection: u32) {
        let session = &mut self.sessions[connection as usize];
        if core::mem::replace(&mut session.touched, true) {
            return;
        }
        if session.is_late {
            self.late.push_back(connection);
        } else {
            self.touched.push(connection);
        }
    }

    /// It has asked too much: what it is owed goes behind what all others are owed. To be said before it is touched.
    #[cold]
    pub fn put_back(&mut self, connection: u32) {
        let session = &mut self.sessions[connection as usize];
        session.is_late = !session.touched;
    }

    /// The next that was touched and is to be served in this turn; `None` ends it. Of those that asked too much a few come each turn: as
    /// many as there may be, everybody else would wait until all their refusals are sent.
    #[inline]
    pub fn next_touched(&mut self) -> Option<u32> {
        while let Some(connection) = self.touched.pop() {
            let session = &mut self.sessions[connection as usize];
            session.touched = false;
            if session.open {
                return Some(connection);
            }
        }
        if self.late.is_empty() && self.late_served == 0 { None } else { self.next_late() }
    }

    #[cold]
    fn next_late(&mut self) -> Option<u32> {
        while self.late_served < LATE_SERVED_PER_TURN
            && let Some(connection) = self.late.pop_front()
        {
            let session = &mut self.sessions[connection as usize];
            (session.touched, session.is_late) = (false, false);
            if session.open {
                self.late_served += 1;
                return Some(connection);
            }
        }
        self.late_served = 0;
        None
    }

    /// Its input may be read on.
    #[inline]
    pub fn make_ready(&mut self, connection: u32) {
        if !core::mem::replace(&mut self.sessions[connection as usize].ready, true) {
            self.ready.push_back(connection);
        }
    }

    /// Connections whose input may be read on.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The first of them, which may have been closed meanwhile.
    pub fn next_ready(&mut self) -> Option<u32> {
        let connection = self.ready.pop_front()?;
        self.sessions[connection as usize].ready = false;
        Some(connection)
    }

    /// An answer that was owed has been written; the connection may have waited for it before it could be read on.
    pub fn answered(&mut self, connection: u32) {
        let session = &self[connection];
        let may_go_on = match session.stop {
            Stop::Await => true,
            Stop::Unsent => session.has_room(),
            _ => false,
        };
        if may_go_on {
            self.make_ready(connection);
        }
        self.touch(connection);
    }

    /// Whether one of them has something to do now.
    pub fn have_work(&self) -> bool {
        !self.ready.is_empty() || !self.touched.is_empty() || !self.late.is_empty()
    }

    /// Looks at a connection at `at_us` (monotonic), or earlier if that was already to be.
    pub fn look_at(&mut self, connection: u32, at_us: u64) {
        if !core::mem::replace(&mut self.sessions[connection as usize].timed, true) {
            self.timeouts.push(Reverse((at_us, connection)));
        }
    }

    /// When the next is to be looked at.
    pub fn next_look_us(&self) -> Option<u64> {
        self.timeouts.peek().map(|Reverse((at_us, _))| *at_us)
    }

    /// The next that is to be looked at by `now_us`, and may have been closed meanwhile.
    pub fn next_due(&mut self, now_us: u64) -> Option<u32> {
        let Reverse((at_us, connection)) = *self.timeouts.peek()?;
        (at_us <= now_us).then(|| {
            self.timeouts.pop();
            self.sessions[connection as usize].timed = false;
            connection
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Connections {
        let mut connections = Connections::default();
        (0..4)
            .for_each(|connection| connections.begin(connection, Listener::Any, Some(Principal::ANONYMOUS)));
        connections
    }

    #[test]
    fn each_list_holds_a_connection_once() {
        let mut connections = some();
        for connection in [2, 1, 2, 2, 3] {
            connections.touch(connection);
            connections.make_ready(connection);
            connections.look_at(connection, u64::from(connection));
        }
        assert_eq!(connections.ready(), 3);
        assert_eq!(core::iter::from_fn(|| connections.next_ready()).collect::<Vec<_>>(), [2, 1, 3]);
        let mut touched: Vec<_> = core::iter::from_fn(|| connections.next_touched()).collect();
        touched.sort_unstable();
        assert_eq!(touched, [1, 2, 3]);
        assert_eq!(connections.next_look_us(), Some(1));
        assert_eq!(core::iter::from_fn(|| connections.next_due(2)).collect::<Vec<_>>(), [1, 2]);
        connections.look_at(1, 7);
        assert_eq!((connections.next_due(2), connections.next_look_us()), (None, Some(3)));
    }

    #[test]
    fn whoever_asked_too_much_is_served_behind_all_others_and_a_few_a_turn() {
        let mut connections = Connections::default();
        let greedy = 0..2 * LATE_SERVED_PER_TURN as u32 + 1;
        let other = greedy.end;
        for connection in greedy.start..=other {
            connections.begin(connection, Listener::Any, Some(Principal::ANONYMOUS));
        }
        for connection in greedy.clone() {
            connections.put_back(connection);
            connections.touch(connection);
        }
        connections.end(1);
        let mut turns = Vec::new();
        while connections.have_work() {
            connections.touch(other);
            turns.push(core::iter::from_fn(|| connections.next_touched()).collect::<Vec<_>>());
        }
        assert_eq!(
            turns.iter().map(Vec::len).collect::<Vec<_>>(),
            [1 + LATE_SERVED_PER_TURN; 2],
            "{turns:?}"
        );
        assert!(turns.iter().all(|turn| turn[0] == other), "{turns:?}");
        let late = turns.iter().flat_map(|turn| &turn[1..]).copied();
        assert!(late.eq(greedy.filter(|&connection| connection != 1)), "in their order: {turns:?}");
        // It was served, and is one like all others until it asks too much again.
        connections.touch(0);
        assert_eq!((connections.touched.len(), connections.late.len()), (1, 0));
        // Whoever has its index next stands where it stood, once.
        connections.put_back(2);
        connections.touch(2);
        connections.end(2);
        connections.begin(2, Listener::Any, None);
        connections.touch(2);
        let served: Vec<_> = core::iter::from_fn(|| connections.next_touched()).collect();
        assert_eq!(served, [0, 2]);
    }

    #[test]
    fn whoever_has_an_index_next_is_somebody_else() {
        let mut connections = some();
        let ticket = connections[1].owe(1, 0, true);
        connections.touch(1);
        connections.make_ready(1);
        assert!(connections.holds(ticket));
        assert!(connections.end(1).is_some(), "a question of it may wait");
        assert!(!connections.holds(ticket) && connections.open() == 3);
        assert_eq!(connections.next_touched(), None, "nobody asks what a closed connection wants");
        connections.begin(1, Listener::Unix, None);
        assert!(!connections.holds(ticket) && connections[1].owed() == 0);
        // It still stands among the ready, and is not put there twice.
        connections.make_ready(1);
        assert_eq!((connections.ready(), connections.end(1)), (1, None));
    }

    #[test]
    fn buffers_that_are_too_large_are_not_kept() {
        let mut buffers = Buffers::default();
        buffers.give_back(Vec::with_capacity(SPARE_BUFFER_BYTES + 1));
        buffers.give_back(Vec::new());
        assert_eq!(buffers.take().capacity(), 0);
        let mut used = Vec::with_capacity(100);
        used.push(1);
        buffers.give_back(used);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 100);
    }
}
