//! The driver of choice: one io_uring per shard, made so that its thread makes no system call but `io_uring_enter`.
//!
//! The loop is `RingDriver::turn`. What it calls lies beside it: `accepting` (listeners), `arriving` (connections that have shaken
//! hands elsewhere), `serving` (connections), `sealing` (those by TLS),
//! `queue` (the operations and the system call), `buffers` (where the kernel puts what arrives), `connections` (what is
//! kept of each), `token` (how a completion is recognised), `spinning` (when it polls instead of sleeping), `setup` (how the
//! ring is made, and refusals), `slices` (that it comes first where others are on its CPU).
//!
//! `cargo test --test node quiet` has strace watch a shard through 100,000 requests and finds nothing but
//! `io_uring_enter`. To see the same on a node that runs, under load:
//!
//! ```sh
//! strace -c $(for task in /proc/$(pidof florin)/task/*; do
//!     grep -q florin-shard $task/comm && echo "-p ${task##*/}"; done)
//! ```
#![allow(unsafe_code)]

mod accepting;
mod arriving;
mod buffers;
mod connections;
mod queue;
mod sealed;
mod sealing;
mod serving;
mod setup;
mod slices;
mod spinning;
mod token;

use std::{collections::VecDeque, mem};

use io_uring::cqueue;

pub use setup::RingSizes;
pub use spinning::Spin;

use self::{
    accepting::Acceptor,
    arriving::Arriving,
    buffers::ProvidedBuffers,
    connections::Connections,
    queue::{Copied, Queue, Wait},
    spinning::Spinning,
    token::{Operation, Token},
};
use super::{Driver, DriverError, Engine, ShardContext, scarcity::Scarcity, shutdown::Drain};
use crate::{
    limits,
    shard::{Park, Shard},
    threads::{EndsProcess, Vital},
};

/// Whether this host permits what the driver needs.
pub fn probe() -> Result<(), DriverError> {
    setup::probe()
}

/// One shard's loop and all that it owns. The order of the fields is that of their ends: the queues go before everything
/// that the kernel writes into or reads from; and before them what ends the process on a panic, for the buffers must not be
/// freed under the kernel's hands.
pub struct RingDriver<E = Shard> {
    end: EndsProcess,
    queue: Queue,
    buffers: ProvidedBuffers,
    connections: Connections,
    acceptors: Vec<Acceptor>,
    arriving: Arriving,
    context: ShardContext<E>,
    /// Connections that this driver, not the shard, has a reason to look at before the turn ends.
    touched: Vec<u32>,
    /// Connections whose receive found no buffer, in the order in which that happened.
    starved: VecDeque<u32>,
    /// When the turn began.
    monotonic_us: u64,
    spinning: Spinning,
    /// Before this nothing is accepted, for the host had run out of something.
    accept_again_us: u64,
    scarcity: Scarcity,
    /// There was no free slot when that was looked at last.
    is_full: bool,
    drain: Drain,
}

impl Driver for RingDriver {
    type Settings = RingSizes;

    fn set_up(context: ShardContext, sizes: RingSizes) -> Result<RingDriver, DriverError> {
        RingDriver::of(context, sizes)
    }

    fn run(self) -> Result<(), DriverError> {
        self.serve_all()
    }
}

impl<E: Engine> RingDriver<E> {
    /// See [`Driver::set_up`].
    pub fn of(mut context: ShardContext<E>, sizes: RingSizes) -> Result<RingDriver<E>, DriverError> {
        slices::take_short();
        let (queue, buffers) = setup::make(&sizes)?;
        let acceptors = mem::take(&mut context.listening).into_iter().map(Acceptor::new).collect();
        Ok(RingDriver {
            end: EndsProcess::of(Vital::Shard(context.own_shard)),
            queue,
            buffers,
            connections: Connections::new(),
            acceptors,
            arriving: Arriving::default(),
            touched: Vec::new(),
            starved: VecDeque::new(),
            monotonic_us: context.clock.monotonic_us(),
            spinning: Spinning::new(sizes.spin),
            accept_again_us: 0,
            scarcity: Scarcity::default(),
            is_full: false,
            drain: Drain::default(),
            context,
        })
    }

    /// See [`Driver::run`].
    pub fn serve_all(mut self) -> Result<(), DriverError> {
        self.watch_waker();
        let mut outcome = Ok(());
        while outcome.is_ok() && !self.is_finished() {
            outcome = self.turn();
        }
        self.close_down();
        outcome
    }

    /// One turn of the loop: everything that happens on a shard's thread, in the order in which it happens.
    fn turn(&mut self) -> Result<(), DriverError> {
        self.reap();
        self.context.shard.work();
        self.keep_time();
        self.feed_starved();
        self.steer_accepts();
        self.serve_touched();
        self.wake_neighbours();
        self.context.shard.end_turn(self.context.clock.monotonic_us());
        self.buffers.publish();
        let wait = self.how_long();
        self.queue.enter(wait)
    }

    /// Begins the shard's turn, and handles what has completed, up to a bound; the rest is there in the next turn. Whatever is handled has
    /// come before the clock was looked at.
    fn reap(&mut self) {
        let mut copied = Copied::new();
        let mut handled = 0;
        while handled < limits::COMPLETIONS_PER_TURN {
            let completions = self.queue.reap(&mut copied);
            if handled == 0 {
                let now = self.context.clock.now();
                self.monotonic_us = now.monotonic_us;
                self.context.shard.begin_turn(now);
            } else if !completions.is_empty() {
                self.context.shard.input_came_by(self.context.clock.monotonic_us());
            }
            if completions.is_empty() {
                return;
            }
            handled += completions.len();
            self.spinning.input(self.monotonic_us);
            completions.iter().for_each(|completion| self.handle(completion));
        }
        self.context.shard.input_waits();
    }

    fn handle(&mut self, completion: &cqueue::Entry) {
        let token = Token::from_user_data(completion.user_data());
        if token.operation != Operation::Aside && !cqueue::more(completion.flags()) {
            self.queue.ended();
        }
        match token.operation {
            Operation::Receive => self.on_receive(token, completion),
            Operation::Send => self.on_send(token, completion.result()),
            Operation::Accept => self.on_accept(token, completion),
            Operation::PeerEnd => self.on_peer_end(token),
            Operation::Shutdown => self.on_shutdown(token),
            Operation::Close => self.on_close(token, completion.result()),
            Operation::Wake => self.on_wake(completion),
            Operation::Arrive => self.on_arrival(token, completion.result()),
            // A cancellation that came too late, or a wake-up of a shard that has ended.
            Operation::Aside => {}
        }
    }

    /// Serves each connection whose wants may have changed: at most one send, one receive armed or cancelled, or its end.
    fn serve_touched(&mut self) {
        while let Some(slot) = self.context.shard.next_touched() {
            self.serve(slot);
        }
        while let Some(slot) = self.touched.pop() {
            self.serve(slot);
        }
    }

    fn wake_neighbours(&mut self) {
        while let Some(shard) = self.context.shard.next_to_wake() {
            self.queue.wake(&self.context.wakers[usize::from(shard.0)]);
        }
    }

    /// What is due because of the time.
    fn keep_time(&mut self) {
        while let Some(slot) = self.connections.overdue(self.monotonic_us) {
            self.give_up(slot);
        }
        self.give_up_halved();
    }

    /// How long the kernel may keep the thread.
    fn how_long(&mut self) -> Wait {
        let is_spinning = self.spinning.is_on(self.monotonic_us);
        if self.queue.has_completions() || !self.starved.is_empty() || is_spinning {
            return Wait::Poll;
        }
        let shard_us = match self.context.shard.park() {
            Park::Busy => return Wait::Poll,
            Park::Until(monotonic_us) => Some(monotonic_us),
            Park::Idle => None,
        };
        let accept_us = (self.accept_again_us > self.monotonic_us).then_some(self.accept_again_us);
        let turn_us = self.acceptors.iter().filter_map(Acceptor::keeps_turn_until_us).min();
        let linger_us = self.connections.next_end_us();
        let deadlines = [shard_us, accept_us, turn_us, linger_us, self.drain.until_us()];
        match deadlines.into_iter().flatten().min() {
            Some(deadline_us) => {
                Wait::AtMostUs(deadline_us.saturating_sub(self.context.clock.monotonic_us()))
            }
            None => Wait::Forever,
        }
    }

    fn watch_waker(&mut self) {
        self.queue.watch(&self.context.wakers[self.context.own_shard], Token::of(Operation::Wake, 0));
    }

    /// Somebody has woken this shard: a neighbour, whose messages `Shard::work` finds, or the control plane.
    fn on_wake(&mut self, completion: &cqueue::Entry) {
        if !cqueue::more(completion.flags()) && completion.result() != -libc::ECANCELED {
            self.watch_waker();
        }
        self.end.at_work();
        if self.drain.begins(&self.context.shutdown, self.monotonic_us) {
            self.context.shard.drain();
        }
        self.take_arrivals();
    }

    /// Whether a drain has come to its end.
    fn is_finished(&mut self) -> bool {
        let is_idle = self.acceptors.is_empty() && self.connections.live() == 0 && self.arriving.count() == 0;
        let ShardContext { shard, shutdown, wakers, .. } = &self.context;
        self.drain.is_over(shutdown, wakers, self.monotonic_us, || is_idle && shard.drained())
    }

    /// Ends every operation and closes every connection, and leaves nothing for the kernel to touch: a ring's own end
    /// is asynchronous, and until then its listeners would stay open and its buffers be written to.
    fn close_down(&mut self) {
        let until_us = self.context.clock.monotonic_us() + limits::CLOSE_DOWN_US;
        self.drain.force(until_us);
        self.queue.cancel_everything();
        loop {
            // Whoever was accepted just before the cancellation is among them in a later round.
            for slot in self.connections.live_slots() {
                self.give_up(slot);
            }
            while let Some(slot) = self.touched.pop() {
                self.serve(slot);
            }
            let left_us = until_us.saturating_sub(self.context.clock.monotonic_us());
            if self.queue.in_flight() == 0
                || left_us == 0
                || self.queue.enter(Wait::AtMostUs(left_us)).is_err()
            {
                break;
            }
            self.reap();
        }
        self.acceptors.clear();
        if self.queue.in_flight() > 0 {
            // The kernel has not let go of what it was given: better lost than written to after it was freed.
            tracing::error!(
                in_flight = self.queue.in_flight(),
                "the ring could not be emptied; leaking its buffers"
            );
            self.buffers.leak();
            self.leak_arrivals();
            mem::forget(mem::replace(&mut self.connections, Connections::new()));
        }
    }
}
