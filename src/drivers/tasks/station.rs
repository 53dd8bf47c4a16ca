//! One shard and what its tasks share: the turn, the slots, the end.

use std::{
    cell::{RefCell, RefMut},
    io, mem,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{TaskSizes, connections::Connections, doors::Door};
use crate::{
    drivers::{DriverError, Seat, ShardWaker, scarcity::Scarcity},
    limits,
    shard::{
        Listener, Park,
        life::{AfterSend, Arrival, Operation, Received, Sent, Stage},
    },
};

/// What the clerk does after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another turn at once.
    Poll,
    /// Nothing, until somebody begins a turn or this has passed.
    Sleep(Option<Duration>),
    /// Nothing ever.
    End,
}

/// What came of a receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    Taken,
    /// Nobody takes it; the receive is still to be reported as ended.
    ThrownAway,
}

/// What the receiving half is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Incoming {
    Receive,
    /// Nothing more will be received.
    End,
}

/// What the sending half is to do.
#[derive(Debug)]
pub(super) enum Outgoing {
    Output(Vec<u8>),
    /// End our half of the stream.
    Shut,
    /// The connection is being closed.
    End,
}

/// Shared by all tasks of one shard. None holds the borrow while it waits.
pub(super) struct Station {
    wakers: Arc<[ShardWaker]>,
    own_shard: usize,
    desk: RefCell<Desk>,
}

struct Desk {
    seat: Seat,
    connections: Connections,
    /// Connections that the driver, not the shard, has a reason to look at before the turn ends.
    touched: Vec<u32>,
    turn: Turn,
    monotonic_us: u64,
    clerk: Option<Waker>,
    /// Tasks at the doors that wait for room, for their turn, or for the end.
    bystanders: Vec<Waker>,
    /// Tasks that have not ended, the clerk's aside.
    tasks: usize,
    scarcity: Scarcity,
    doors_kept: usize,
    /// Draining, until then at most.
    drain_until_us: Option<u64>,
    /// Nothing is left to do here; the neighbours may still need answers.
    has_drained: bool,
    over: bool,
    outcome: Result<(), DriverError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Ended,
    Begun,
}

impl Station {
    pub(super) fn new(seat: Seat, sizes: TaskSizes) -> Station {
        let desk = Desk {
            connections: Connections::new(sizes.connections),
            touched: Vec::new(),
            turn: Turn::Ended,
            monotonic_us: seat.clock.monotonic_us(),
            clerk: None,
            bystanders: Vec::new(),
            tasks: 0,
            scarcity: Scarcity::default(),
            doors_kept: 0,
            drain_until_us: None,
            has_drained: false,
            over: false,
            outcome: Ok(()),
            seat,
        };
        let (wakers, own_shard) = (Arc::clone(&desk.seat.wakers), desk.seat.own_shard);
        Station { wakers, own_shard, desk: RefCell::new(desk) }
    }

    /// The shard's, in a turn that has begun.
    fn in_turn(&self) -> RefMut<'_, Desk> {
        let mut desk = self.desk.borrow_mut();
        if desk.begin_turn() == Turn::Ended
            && let Some(clerk) = &desk.clerk
        {
            clerk.wake_by_ref();
        }
        desk
    }

    /// One turn, from where the tasks have brought it to its end.
    pub(super) fn turn(&self) -> Next {
        let mut desk = self.desk.borrow_mut();
        if desk.outcome.is_err() || desk.is_finished() {
            return Next::End;
        }
        desk.begin_turn();
        desk.seat.shard.work();
        desk.keep_time();
        desk.serve_touched();
        desk.wake_neighbours();
        let ended_us = desk.seat.clock.monotonic_us();
        desk.seat.shard.end_turn(ended_us);
        desk.turn = Turn::Ended;
        desk.how_long(ended_us)
    }

    /// Whether a task has begun a turn since the last ended; `clerk` is woken when one does.
    pub(super) fn is_turn_begun(&self, clerk: &Waker) -> bool {
        let mut desk = self.desk.borrow_mut();
        desk.know_clerk(clerk);
        desk.turn == Turn::Begun
    }

    /// Begins the end: of every door, every connection, and the waker's watch.
    pub(super) fn end(&self) {
        let mut desk = self.desk.borrow_mut();
        desk.over = true;
        desk.wake_bystanders();
        for slot in desk.connections.taken() {
            desk.give_up(slot);
        }
        desk.serve_touched();
        self.wakers[self.own_shard].wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.desk.borrow().over
    }

    /// How the serving went.
    pub(super) fn outcome(&self) -> Result<(), DriverError> {
        mem::replace(&mut self.desk.borrow_mut().outcome, Ok(()))
    }

    /// Without this the shard cannot go on.
    pub(super) fn fail(&self, operation: &'static str, source: io::Error) {
        self.in_turn().outcome = Err(DriverError::Operation { operation, source });
    }

    pub(super) fn begin_task(&self) {
        self.desk.borrow_mut().tasks += 1;
    }

    pub(super) fn end_task(&self) {
        let mut desk = self.desk.borrow_mut();
        desk.tasks -= 1;
        if let Some(clerk) = &desk.clerk {
            clerk.wake_by_ref();
        }
    }

    /// Tasks that have not ended; `clerk` is woken when one does.
    pub(super) fn tasks(&self, clerk: &Waker) -> usize {
        let mut desk = self.desk.borrow_mut();
        desk.know_clerk(clerk);
        desk.tasks
    }
}

/// For the waker and the doors.
impl Station {
    pub(super) fn own_waker(&self) -> BorrowedFd<'_> {
        self.wakers[self.own_shard].as_fd()
    }

    /// Somebody has woken the shard.
    pub(super) fn woken(&self) {
        let mut desk = self.in_turn();
        if desk.drain_until_us.is_none() && desk.seat.shutdown.has_begun() {
            desk.drain_until_us = Some(desk.monotonic_us + limits::DRAIN_US);
            desk.seat.shard.drain();
        }
        desk.wake_bystanders();
    }

    /// The doors to keep, which are given out once.
    pub(super) fn doors(&self) -> Vec<Door> {
        let mut desk = self.desk.borrow_mut();
        let doors: Vec<_> = mem::take(&mut desk.seat.listening).into_iter().map(Door::new).collect();
        desk.doors_kept = doors.len();
        doors
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_closed(&self) -> bool {
        let desk = self.desk.borrow();
        desk.over || desk.drain_until_us.is_some()
    }

    pub(super) fn has_room(&self) -> bool {
        self.desk.borrow().connections.has_room()
    }

    /// Ready once `condition` holds: looked at again when somebody wakes the shard, leaves, or ends the station.
    pub(super) fn poll_until(&self, waker: &Waker, condition: impl FnOnce(&Station) -> bool) -> Poll<()> {
        if condition(self) {
            return Poll::Ready(());
        }
        let bystanders = &mut self.desk.borrow_mut().bystanders;
        if !bystanders.iter().any(|known| known.will_wake(waker)) {
            bystanders.push(waker.clone());
        }
        Poll::Pending
    }

    /// Lets the next shard accept, where all accept on one socket.
    pub(super) fn pass_on(&self, door: &Door) {
        if let Some(next) = door.pass_on(self.own_shard) {
            self.wakers[next].wake();
        }
    }

    pub(super) fn is_at(&self, door: &Door) -> bool {
        door.is_open_for(self.own_shard)
    }

    /// The host has run out of something.
    pub(super) fn note_scarcity(&self, error: &io::Error) {
        let desk = &mut *self.desk.borrow_mut();
        desk.seat.shard.note_accept_refused();
        desk.scarcity.refused(desk.seat.clock.monotonic_us(), error);
    }

    /// A connection has come by `listener`: its slot.
    pub(super) fn admit(&self, listener: Listener) -> u32 {
        let mut desk = self.in_turn();
        let slot = desk.connections.occupy();
        desk.tasks += 1;
        desk.seat.shard.open(slot, listener);
        if !desk.connections.has_room() {
            desk.note_full();
        }
        slot
    }

    /// A door is kept no longer.
    pub(super) fn leave_door(&self) {
        self.in_turn().doors_kept -= 1;
        self.end_task();
    }
}

/// For the connections.
impl Station {
    /// `task` is `slot`'s: it is woken when there is something to do.
    pub(super) fn attend(&self, slot: u32, task: &Waker) {
        let mut desk = self.desk.borrow_mut();
        let connection = desk.connections.at(slot);
        if !connection.waker.as_ref().is_some_and(|known| known.will_wake(task)) {
            connection.waker = Some(task.clone());
        }
    }

    /// Whether whatever is out is to be ended; said once.
    pub(super) fn must_cancel(&self, slot: u32) -> bool {
        mem::take(&mut self.desk.borrow_mut().connections.at(slot).to_begin.cancel)
    }

    /// Whether there is something that its task has not begun.
    pub(super) fn has_more_to_begin(&self, slot: u32) -> bool {
        !self.desk.borrow_mut().connections.at(slot).to_begin.is_empty()
    }

    /// Ready once input is wanted, or none will be any more; the task is woken then.
    pub(super) fn poll_incoming(&self, slot: u32) -> Poll<Incoming> {
        let desk = &mut *self.desk.borrow_mut();
        desk.advance(slot);
        let connection = desk.connections.at(slot);
        let is_due = mem::take(&mut connection.to_begin.receive);
        match connection.life.stage() {
            Stage::Open | Stage::Lingering if is_due => Poll::Ready(Incoming::Receive),
            Stage::Open | Stage::Lingering => Poll::Pending,
            Stage::Closing | Stage::Closed | Stage::Free => {
                if is_due {
                    connection.life.received(Received::Nothing, false);
                }
                Poll::Ready(Incoming::End)
            }
        }
    }

    /// Bytes came, or the stream's end.
    pub(super) fn received(&self, slot: u32, bytes: &[u8]) -> Input {
        let desk = &mut *self.in_turn();
        let received = if bytes.is_empty() { Received::End } else { Received::Bytes };
        let life = &mut desk.connections.at(slot).life;
        if received == Received::Bytes && !life.is_open() {
            return Input::ThrownAway;
        }
        desk.touched.push(slot);
        match life.received(received, false) {
            Arrival::Take => desk.seat.shard.receive(slot, bytes),
            Arrival::TellEnd => desk.seat.shard.end_of_input(slot),
            Arrival::Drop => {}
        }
        Input::Taken
    }

    /// A receive has ended, and brought nothing that anybody takes.
    pub(super) fn received_nothing(&self, slot: u32, what: Received) {
        let desk = &mut *self.in_turn();
        desk.touched.push(slot);
        desk.connections.at(slot).life.received(what, false);
    }

    /// What to send, once there is something; the task is woken then.
    pub(super) fn poll_outgoing(&self, slot: u32) -> Poll<Outgoing> {
        let desk = &mut *self.desk.borrow_mut();
        desk.advance(slot);
        let connection = desk.connections.at(slot);
        if let Some(output) = connection.to_begin.send.take() {
            return Poll::Ready(Outgoing::Output(output));
        }
        match connection.life.stage() {
            _ if mem::take(&mut connection.to_begin.shut) => Poll::Ready(Outgoing::Shut),
            Stage::Open | Stage::Lingering => Poll::Pending,
            Stage::Closing | Stage::Closed | Stage::Free => Poll::Ready(Outgoing::End),
        }
    }

    /// A send has ended, of which `bytes` went.
    pub(super) fn sent(&self, slot: u32, outcome: Sent, bytes: usize) -> AfterSend {
        let desk = &mut *self.in_turn();
        let life = &mut desk.connections.at(slot).life;
        if bytes > 0 && life.is_open() {
            desk.seat.shard.sent(slot, bytes);
        }
        life.sent(outcome)
    }

    /// Nothing more of `output` goes out.
    pub(super) fn recycle(&self, slot: u32, output: Vec<u8>) {
        let desk = &mut *self.in_turn();
        desk.touched.push(slot);
        desk.seat.shard.recycle(output);
    }

    /// Our half has been shut.
    pub(super) fn shut(&self, slot: u32) {
        let desk = &mut *self.in_turn();
        desk.touched.push(slot);
        desk.connections.at(slot).life.shut();
    }

    /// The connection has been closed and its task ends.
    pub(super) fn leave(&self, slot: u32) {
        let mut desk = self.in_turn();
        desk.connections.vacate(slot);
        desk.wake_bystanders();
        drop(desk);
        self.end_task();
    }
}

impl Desk {
    /// Begins a turn, where none is under way. What there was before.
    fn begin_turn(&mut self) -> Turn {
        let before = mem::replace(&mut self.turn, Turn::Begun);
        if before == Turn::Ended {
            let now = self.seat.clock.now();
            self.monotonic_us = now.monotonic_us;
            self.seat.shard.begin_turn(now);
        }
        before
    }

    /// What is due because of the time.
    fn keep_time(&mut self) {
        while let Some(slot) = self.connections.overdue(self.monotonic_us) {
            self.give_up(slot);
        }
    }

    /// Wakes each connection that has something new to do.
    fn serve_touched(&mut self) {
        while let Some(slot) = self.seat.shard.next_touched() {
            self.serve(slot);
        }
        while let Some(slot) = self.touched.pop() {
            self.serve(slot);
        }
    }

    /// Wakes the task of a connection that has something new to do.
    fn serve(&mut self, slot: u32) {
        self.advance(slot);
        let connection = self.connections.at(slot);
        let is_over = matches!(connection.life.stage(), Stage::Closing | Stage::Closed);
        if is_over || !connection.to_begin.is_empty() {
            connection.wake();
        }
    }

    /// Notes what is to be begun for a connection.
    fn advance(&mut self, slot: u32) {
        let shard = &mut self.seat.shard;
        while let Some(operation) = self.connections.at(slot).life.next(|| shard.wants(slot)) {
            let to_begin = &mut self.connections.at(slot).to_begin;
            match operation {
                // Nothing is left in its place: an idle connection has no buffer. The shard lends one with its next answer.
                Operation::Send => to_begin.send = Some(shard.take_output(slot, Vec::new())),
                Operation::Receive => to_begin.receive = true,
                Operation::CancelReceive | Operation::WatchEnd => {
                    unreachable!("each receive here brings one piece")
                }
                Operation::Forget => shard.closed(slot),
                Operation::Shutdown => {
                    to_begin.shut = true;
                    self.connections.linger(slot, self.monotonic_us);
                }
                Operation::CancelAll => to_begin.cancel = true,
                // Done when its task has dropped both halves.
                Operation::Close => {}
            }
        }
    }

    /// Ends a connection without waiting for its peer: its task ends its operations, awaits them, and closes.
    fn give_up(&mut self, slot: u32) {
        self.connections.at(slot).life.give_up();
        self.touched.push(slot);
    }

    fn wake_neighbours(&mut self) {
        while let Some(shard) = self.seat.shard.next_bell() {
            self.seat.wakers[usize::from(shard.0)].wake();
        }
    }

    /// How long the clerk may sleep.
    fn how_long(&mut self, monotonic_us: u64) -> Next {
        let shard_us = match self.seat.shard.park() {
            Park::Busy => return Next::Poll,
            Park::Until(until_us) => Some(until_us),
            Park::Idle => None,
        };
        let deadlines = [shard_us, self.connections.next_linger_end_us(), self.drain_until_us];
        let first_us = deadlines.into_iter().flatten().min();
        Next::Sleep(first_us.map(|until_us| Duration::from_micros(until_us.saturating_sub(monotonic_us))))
    }

    /// Whether a drain has come to its end: on all shards, for one that still answers may need its neighbours.
    fn is_finished(&mut self) -> bool {
        let Some(until_us) = self.drain_until_us else { return false };
        if !self.has_drained && self.doors_kept == 0 && self.connections.is_empty() {
            self.has_drained = self.seat.shard.drained();
            if self.has_drained && self.seat.shutdown.note_drained() {
                self.seat.wakers.iter().for_each(ShardWaker::wake);
            }
        }
        self.seat.shutdown.all_drained() || self.monotonic_us >= until_us
    }

    /// A connection has taken the last slot.
    fn note_full(&mut self) {
        self.seat.shard.note_connections_full();
        self.scarcity.full(self.monotonic_us, self.connections.most());
    }

    fn wake_bystanders(&mut self) {
        self.bystanders.drain(..).for_each(Waker::wake);
    }

    fn know_clerk(&mut self, clerk: &Waker) {
        if !self.clerk.as_ref().is_some_and(|known| known.will_wake(clerk)) {
            self.clerk = Some(clerk.clone());
        }
    }
}
