//! One shard and what its tasks share: the turn, the slots, the end. No task holds the borrow while it waits.

use std::{
    cell::{RefCell, RefMut},
    io, mem,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{TaskSizes, acceptor::Acceptor, connections::Connections};
use crate::{
    drivers::{DriverError, ShardContext, ShardWaker, peer::Peer, scarcity::Scarcity, shutdown::Drain},
    shard::{
        Listener, Park,
        life::{AfterSend, Arrival, Operation, Received, Sent, Stage},
    },
    threads::Vital,
};

/// What the turn task does after a turn.
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
pub(super) struct Shared {
    wakers: Arc<[ShardWaker]>,
    own_shard: usize,
    state: RefCell<State>,
}

struct State {
    context: ShardContext,
    connections: Connections,
    /// Connections that the driver, not the shard, has a reason to look at before the turn ends.
    touched: Vec<u32>,
    turn: Turn,
    monotonic_us: u64,
    turn_task: Option<Waker>,
    /// Tasks of acceptors, which wait for room, for their turn, or for the end.
    waiting: Vec<Waker>,
    /// Tasks that have not ended, but for the turn task.
    tasks: usize,
    scarcity: Scarcity,
    acceptors: usize,
    drain: Drain,
    over: bool,
    outcome: Result<(), DriverError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Ended,
    Begun,
}

impl Shared {
    pub(super) fn new(context: ShardContext, sizes: TaskSizes) -> Shared {
        let state = State {
            connections: Connections::new(sizes.connections),
            touched: Vec::new(),
            turn: Turn::Ended,
            monotonic_us: context.clock.monotonic_us(),
            turn_task: None,
            waiting: Vec::new(),
            tasks: 0,
            scarcity: Scarcity::default(),
            acceptors: 0,
            drain: Drain::default(),
            over: false,
            outcome: Ok(()),
            context,
        };
        let (wakers, own_shard) = (Arc::clone(&state.context.wakers), state.context.own_shard);
        Shared { wakers, own_shard, state: RefCell::new(state) }
    }

    /// The shard's, in a turn that has begun.
    fn in_turn(&self) -> RefMut<'_, State> {
        let mut state = self.state.borrow_mut();
        if state.begin_turn() == Turn::Ended
            && let Some(turn_task) = &state.turn_task
        {
            turn_task.wake_by_ref();
        }
        state
    }

    /// One turn, from where the tasks have brought it to its end.
    pub(super) fn turn(&self) -> Next {
        let mut state = self.state.borrow_mut();
        if state.outcome.is_err() || state.is_finished() {
            return Next::End;
        }
        state.begin_turn();
        state.context.shard.work();
        state.keep_time();
        state.serve_touched();
        state.wake_neighbours();
        let ended_us = state.context.clock.monotonic_us();
        state.context.shard.end_turn(ended_us);
        state.turn = Turn::Ended;
        state.how_long(ended_us)
    }

    /// Whether a task has begun a turn since the last ended; `turn_task` is woken when one does.
    pub(super) fn is_turn_begun(&self, turn_task: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        state.know_turn_task(turn_task);
        state.turn == Turn::Begun
    }

    /// Begins the end: of every acceptor, every connection, and the waker's watch.
    pub(super) fn end(&self) {
        let mut state = self.state.borrow_mut();
        state.over = true;
        state.wake_waiting();
        for slot in state.connections.taken() {
            state.give_up(slot);
        }
        state.serve_touched();
        self.wakers[self.own_shard].wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.borrow().over
    }

    /// How the serving went.
    pub(super) fn outcome(&self) -> Result<(), DriverError> {
        mem::replace(&mut self.state.borrow_mut().outcome, Ok(()))
    }

    /// Without this the shard cannot go on.
    pub(super) fn fail(&self, operation: &'static str, source: io::Error) {
        self.in_turn().outcome = Err(DriverError::Operation { operation, source });
    }

    pub(super) fn begin_task(&self) {
        self.state.borrow_mut().tasks += 1;
    }

    pub(super) fn end_task(&self) {
        let mut state = self.state.borrow_mut();
        state.tasks -= 1;
        if let Some(turn_task) = &state.turn_task {
            turn_task.wake_by_ref();
        }
    }

    /// Tasks that have not ended; `turn_task` is woken when one does.
    pub(super) fn tasks(&self, turn_task: &Waker) -> usize {
        let mut state = self.state.borrow_mut();
        state.know_turn_task(turn_task);
        state.tasks
    }
}

/// For the waker and the acceptors.
impl Shared {
    pub(super) fn own_waker(&self) -> BorrowedFd<'_> {
        self.wakers[self.own_shard].as_fd()
    }

    /// Somebody has woken the shard.
    pub(super) fn woken(&self) {
        Vital::Shard(self.own_shard).at_work();
        let state = &mut *self.in_turn();
        if state.drain.begins(&state.context.shutdown, state.monotonic_us) {
            state.context.shard.drain();
        }
        state.wake_waiting();
    }

    /// The acceptors, which are given out once.
    pub(super) fn acceptors(&self) -> Vec<Acceptor> {
        let mut state = self.state.borrow_mut();
        let acceptors: Vec<_> =
            mem::take(&mut state.context.listening).into_iter().map(Acceptor::new).collect();
        state.acceptors = acceptors.len();
        acceptors
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_closed(&self) -> bool {
        let state = self.state.borrow();
        state.over || state.drain.has_begun()
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.borrow().connections.has_room()
    }

    /// Ready once `condition` holds: looked at again when somebody wakes the shard, when a connection closes, and at the end.
    pub(super) fn poll_until(&self, waker: &Waker, condition: impl FnOnce(&Shared) -> bool) -> Poll<()> {
        if condition(self) {
            return Poll::Ready(());
        }
        let waiting = &mut self.state.borrow_mut().waiting;
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        Poll::Pending
    }

    /// Lets the next shard accept, where all accept on one socket.
    pub(super) fn pass_on(&self, acceptor: &Acceptor) {
        if let Some(next) = acceptor.pass_on(self.own_shard) {
            self.wakers[next].wake();
        }
    }

    pub(super) fn has_turn(&self, acceptor: &Acceptor) -> bool {
        acceptor.is_on_turn(self.own_shard)
    }

    /// The host has run out of something.
    pub(super) fn note_scarcity(&self, error: &io::Error) {
        let state = &mut *self.state.borrow_mut();
        state.context.shard.note_accept_refused();
        state.scarcity.refused(state.context.clock.monotonic_us(), error);
    }

    /// Whether callers have to prove who they are.
    pub(super) fn knows_callers(&self) -> bool {
        self.state.borrow().context.shard.knows_callers()
    }

    /// A connection has come by `listener`: its slot. The other end is known where callers have to prove who they are.
    pub(super) fn admit(&self, listener: Listener, peer: Option<Peer>) -> u32 {
        let mut state = self.in_turn();
        let slot = state.connections.occupy();
        state.tasks += 1;
        let shard = &mut state.context.shard;
        match peer {
            Some(peer) => peer.open(shard, slot, listener),
            None => shard.open(slot, listener),
        }
        if !state.connections.has_room() {
            state.note_full();
        }
        slot
    }

    /// An acceptor's task ends.
    pub(super) fn end_accepting(&self) {
        self.in_turn().acceptors -= 1;
        self.end_task();
    }
}

/// For the connections.
impl Shared {
    /// `task` is `slot`'s: it is woken when there is something to do.
    pub(super) fn set_task(&self, slot: u32, task: &Waker) {
        let mut state = self.state.borrow_mut();
        let connection = state.connections.at(slot);
        if !connection.waker.as_ref().is_some_and(|known| known.will_wake(task)) {
            connection.waker = Some(task.clone());
        }
    }

    /// Whether whatever is out is to be ended; said once.
    pub(super) fn must_cancel(&self, slot: u32) -> bool {
        mem::take(&mut self.state.borrow_mut().connections.at(slot).to_begin.cancel)
    }

    /// Whether there is something that its task has not begun.
    pub(super) fn has_more_to_begin(&self, slot: u32) -> bool {
        !self.state.borrow_mut().connections.at(slot).to_begin.is_empty()
    }

    /// Ready once input is wanted, or none will be any more; the task is woken then.
    pub(super) fn poll_incoming(&self, slot: u32) -> Poll<Incoming> {
        let state = &mut *self.state.borrow_mut();
        state.advance(slot);
        let connection = state.connections.at(slot);
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
        let state = &mut *self.in_turn();
        let received = if bytes.is_empty() { Received::End } else { Received::Bytes };
        let life = &mut state.connections.at(slot).life;
        if received == Received::Bytes && !life.is_open() {
            return Input::ThrownAway;
        }
        state.touched.push(slot);
        match life.received(received, false) {
            Arrival::Take => {
                // The turn may have begun before they came.
                state.context.shard.input_came_by(state.context.clock.monotonic_us());
                state.context.shard.receive(slot, bytes);
            }
            Arrival::TellEnd => state.context.shard.end_of_input(slot),
            Arrival::Drop => {}
        }
        Input::Taken
    }

    /// A receive has ended, and brought nothing that anybody takes.
    pub(super) fn received_nothing(&self, slot: u32, what: Received) {
        let state = &mut *self.in_turn();
        state.touched.push(slot);
        state.connections.at(slot).life.received(what, false);
    }

    /// What to send, once there is something; the task is woken then.
    pub(super) fn poll_outgoing(&self, slot: u32) -> Poll<Outgoing> {
        let state = &mut *self.state.borrow_mut();
        state.advance(slot);
        let connection = state.connections.at(slot);
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
        let state = &mut *self.in_turn();
        let life = &mut state.connections.at(slot).life;
        if bytes > 0 && life.is_open() {
            state.context.shard.sent(slot, bytes);
        }
        life.sent(outcome)
    }

    /// Nothing more of `output` goes out.
    pub(super) fn recycle(&self, slot: u32, output: Vec<u8>) {
        let state = &mut *self.in_turn();
        state.touched.push(slot);
        state.context.shard.recycle(output);
    }

    /// Our half has been shut.
    pub(super) fn shut(&self, slot: u32) {
        let state = &mut *self.in_turn();
        state.touched.push(slot);
        state.connections.at(slot).life.shut();
    }

    /// The connection has been closed and its task ends.
    pub(super) fn closed(&self, slot: u32) {
        let mut state = self.in_turn();
        state.connections.vacate(slot);
        state.wake_waiting();
        drop(state);
        self.end_task();
    }
}

impl State {
    /// Begins a turn, where none is under way. What there was before.
    fn begin_turn(&mut self) -> Turn {
        let before = mem::replace(&mut self.turn, Turn::Begun);
        if before == Turn::Ended {
            let now = self.context.clock.now();
            self.monotonic_us = now.monotonic_us;
            self.context.shard.begin_turn(now);
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
        while let Some(slot) = self.context.shard.next_touched() {
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
        let shard = &mut self.context.shard;
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
        while let Some(shard) = self.context.shard.next_to_wake() {
            self.context.wakers[usize::from(shard.0)].wake();
        }
    }

    /// How long the turn task may sleep.
    fn how_long(&mut self, monotonic_us: u64) -> Next {
        let shard_us = match self.context.shard.park() {
            Park::Busy => return Next::Poll,
            Park::Until(until_us) => Some(until_us),
            Park::Idle => None,
        };
        let deadlines = [shard_us, self.connections.next_linger_end_us(), self.drain.until_us()];
        let first_us = deadlines.into_iter().flatten().min();
        Next::Sleep(first_us.map(|until_us| Duration::from_micros(until_us.saturating_sub(monotonic_us))))
    }

    /// Whether a drain has come to its end.
    fn is_finished(&mut self) -> bool {
        let is_idle = self.acceptors == 0 && self.connections.is_empty();
        let ShardContext { shard, shutdown, wakers, .. } = &self.context;
        self.drain.is_over(shutdown, wakers, self.monotonic_us, || is_idle && shard.drained())
    }

    /// A connection has taken the last slot.
    fn note_full(&mut self) {
        self.context.shard.note_connections_full();
        self.scarcity.full(self.monotonic_us, self.connections.most());
    }

    fn wake_waiting(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn know_turn_task(&mut self, turn_task: &Waker) {
        if !self.turn_task.as_ref().is_some_and(|known| known.will_wake(turn_task)) {
            self.turn_task = Some(turn_task.clone());
        }
    }
}
