//! One generator thread. [`Worker::run`] is its loop.

use std::{collections::BTreeMap, fs, sync::Arc, sync::atomic::Ordering, time::Instant};

use florin_schema::Status;
use hdrhistogram::Histogram;

use super::{
    GeneratorError, Shared, Waiting, Window,
    backlog::Backlog,
    connection::Connection,
    pending::Asked,
    recorder::{self, Recorder},
    sealing::Sealing,
    sockets::{Completion, Filled, Inline, Sockets},
};
use crate::{
    limits,
    protocol::{Fate, Protocol, Step, Wrong},
    work::{Draws, Kind, Schedule},
};

/// What a worker needs to know of the plan.
pub(super) struct Setup {
    pub(super) thread: usize,
    pub(super) depth: usize,
    pub(super) lanes: usize,
    pub(super) window: Window,
    pub(super) requests_max: u64,
    pub(super) waiting: Waiting,
    pub(super) inline: Inline,
    /// The open loop's; none in a closed one.
    pub(super) schedule: Option<Schedule>,
    /// Each connection's encryption, by TLS.
    pub(super) sealings: Vec<Option<Sealing>>,
}

/// What a worker has found.
pub(super) struct Report {
    pub(super) intervals: Vec<Histogram<u64>>,
    pub(super) lags: Option<Histogram<u64>>,
    pub(super) asked: u64,
    pub(super) served: u64,
    pub(super) by_lane: Vec<u64>,
    pub(super) shed: BTreeMap<Status, u64>,
    pub(super) unsent: u64,
    pub(super) lost: u64,
    pub(super) backlog_max: usize,
    pub(super) busy_share: f64,
}

/// The open loop of a thread.
struct Open {
    schedule: Schedule,
    backlog: Backlog,
    lags: Histogram<u64>,
    /// Each lane's connections, and which of them is next.
    lanes: Vec<(Vec<u32>, usize)>,
    /// Free slots on each lane's connections, all together.
    free: Vec<usize>,
}

/// One thread's connections and everything it needs to load them.
pub(super) struct Worker<P> {
    setup: Setup,
    sockets: Sockets,
    protocol: P,
    connections: Vec<Connection>,
    draws: Draws,
    kinds: Box<[Kind]>,
    next_kind: usize,
    open: Option<Open>,
    /// Connections to look at before the turn ends.
    touched: Vec<u32>,
    recorder: Recorder,
    usage: Usage,
    shared: Arc<Shared>,
    epoch: Instant,
    now_ns: u64,
    asked: u64,
    served: u64,
    /// In the window, of each lane.
    by_lane: Vec<u64>,
    shed: BTreeMap<Status, u64>,
}

impl<P: Protocol> Worker<P> {
    pub(super) fn new(
        mut setup: Setup,
        sockets: Sockets,
        protocol: P,
        draws: Draws,
        kinds: Box<[Kind]>,
        shared: Arc<Shared>,
    ) -> Worker<P> {
        let sealings = std::mem::take(&mut setup.sealings).into_iter();
        let connections: Vec<Connection> = sealings
            .enumerate()
            .map(|(index, sealing)| Connection::new(index % setup.lanes, setup.depth, P::ORDERING, sealing))
            .collect();
        let open = setup.schedule.take().map(|schedule| Open::new(schedule, &connections, &setup));
        let recorder = Recorder::new(setup.window);
        let usage = Usage::default();
        let by_lane = vec![0; setup.lanes];
        Worker {
            setup,
            sockets,
            protocol,
            connections,
            draws,
            kinds,
            next_kind: 0,
            open,
            touched: Vec::new(),
            recorder,
            usage,
            shared,
            epoch: Instant::now(),
            now_ns: 0,
            asked: 0,
            served: 0,
            by_lane,
            shed: BTreeMap::new(),
        }
    }

    /// The loop: ask what is due, send it, wait, read answers.
    pub(super) fn run(mut self) -> Result<Report, GeneratorError> {
        self.epoch = *self.shared.epoch.wait();
        for index in 0..self.connections.len() as u32 {
            self.sockets.receive(index);
            self.touch(index);
        }
        loop {
            self.keep_time();
            self.issue();
            self.flush()?;
            if self.is_over() {
                return Ok(self.report());
            }
            let wait_ns = self.how_long();
            let before_ns = self.now_ns;
            self.sockets.wait(wait_ns).map_err(GeneratorError::Enter)?;
            self.keep_time();
            if self.reap()? == 0 {
                self.usage.idle(before_ns, self.now_ns);
            }
        }
    }

    fn keep_time(&mut self) {
        self.now_ns = self.epoch.elapsed().as_nanos() as u64;
        self.recorder.keep_time(self.now_ns);
        self.usage.keep_time(self.now_ns, self.setup.window);
    }

    fn is_asking(&self) -> bool {
        self.now_ns < self.setup.window.ends
            && self.asked < self.setup.requests_max
            && !self.shared.stop.load(Ordering::Relaxed)
    }

    /// Open loop: whether what was due just before the window's end still gets a while to be sent, as all before it had.
    fn is_catching_up(&self, open: &Open) -> bool {
        !open.backlog.is_empty()
            && self.now_ns < self.setup.window.ends + limits::CATCH_UP_NS
            && self.asked < self.setup.requests_max
            && !self.shared.stop.load(Ordering::Relaxed)
    }

    fn is_over(&mut self) -> bool {
        if self.is_asking() || self.open.as_ref().is_some_and(|open| self.is_catching_up(open)) {
            return false;
        }
        self.connections.iter().all(|connection| connection.pending.waiting() == 0)
            || self.now_ns > self.setup.window.ends + limits::DRAIN_NS
            || self.shared.stop.load(Ordering::Relaxed)
    }

    fn how_long(&self) -> u64 {
        if self.setup.waiting == Waiting::Spinning {
            return 0;
        }
        match &self.open {
            Some(open) if self.is_asking() => {
                open.schedule.peek().saturating_sub(self.now_ns).min(limits::TICK_NS)
            }
            _ => limits::TICK_NS,
        }
    }

    /// Writes the questions whose time has come.
    fn issue(&mut self) {
        let Some(mut open) = self.open.take() else {
            if self.is_asking() {
                self.refill();
            }
            return;
        };
        // What was due until the window's end counts even where this turn comes after it.
        if self.asked < self.setup.requests_max {
            self.admit(&mut open);
        }
        if self.is_asking() || self.is_catching_up(&open) {
            self.dispatch(&mut open);
        } else if self.now_ns >= self.setup.window.ends {
            open.backlog.give_up(self.setup.window);
        }
        self.open = Some(open);
    }

    /// Closed loop: each answer makes room for a question on its connection.
    fn refill(&mut self) {
        for at in 0..self.touched.len() {
            let index = self.touched[at];
            while self.asked < self.setup.requests_max && self.ask(index, self.now_ns) {}
        }
    }

    /// Open loop: arrivals that are due join the backlog, even where they cannot be sent.
    fn admit(&mut self, open: &mut Open) {
        while open.schedule.peek() <= self.now_ns && open.schedule.peek() < self.setup.window.ends {
            let due_ns = open.schedule.peek();
            open.schedule.advance();
            if self.setup.window.holds(due_ns) {
                open.lags.saturating_record(self.now_ns - due_ns);
            }
            open.backlog.push(self.draws.next_lane(), due_ns, self.setup.window);
        }
    }

    /// Open loop: the backlog goes to connections with free slots, in turn.
    fn dispatch(&mut self, open: &mut Open) {
        if open.backlog.is_empty() {
            return;
        }
        for lane in 0..open.lanes.len() {
            while open.free[lane] > 0 {
                if self.asked == self.setup.requests_max {
                    return;
                }
                let Some(due_ns) = open.backlog.pop(lane) else { break };
                let (members, next) = &mut open.lanes[lane];
                // Some connection has a free slot, so this ends.
                loop {
                    let index = members[*next];
                    *next = if *next + 1 == members.len() { 0 } else { *next + 1 };
                    if self.ask(index, due_ns) {
                        self.touch(index);
                        break;
                    }
                }
                open.free[lane] -= 1;
            }
        }
    }

    /// Writes one question to a connection; false where it has no free slot.
    #[inline]
    fn ask(&mut self, index: u32, since_ns: u64) -> bool {
        let connection = &mut self.connections[index as usize];
        if connection.pending.is_full() {
            return false;
        }
        let kind = self.kinds[self.next_kind];
        self.next_kind = if self.next_kind + 1 == self.kinds.len() { 0 } else { self.next_kind + 1 };
        let user = self.draws.next_user(connection.lane);
        let asked = Asked { kind, user, since_ns };
        let (slot, id) = connection.pending.ask(asked).expect("a slot is free");
        if let Kind::Batch(users) = kind {
            let batch = connection.pending.batch_mut(slot);
            batch.clear();
            batch.push(user);
            batch.extend((1..users).map(|_| self.draws.next_user(connection.lane)));
        }
        self.protocol.request(&mut connection.out, id, slot, &mut connection.pending);
        self.asked += 1;
        true
    }

    /// One send for each connection that has something to say and none in flight.
    fn flush(&mut self) -> Result<(), Wrong> {
        while let Some(index) = self.touched.pop() {
            let connection = &mut self.connections[index as usize];
            connection.touched = false;
            if connection.out.is_empty() {
                continue;
            }
            let Some(spare) = connection.spare.take() else { continue };
            self.protocol.finish(&mut connection.out, &mut connection.pending);
            let bytes = connection.take_out(spare)?;
            self.sockets.send(index, bytes, self.setup.inline);
        }
        Ok(())
    }

    /// Handles what has completed, up to a bound, and checks what was said; returns how much that was.
    fn reap(&mut self) -> Result<usize, GeneratorError> {
        let handled = self.read_completed()?;
        self.protocol.settle()?;
        self.shared.publish(self.setup.thread, self.served);
        Ok(handled)
    }

    fn read_completed(&mut self) -> Result<usize, GeneratorError> {
        for handled in 0..limits::COMPLETIONS_PER_TURN {
            let Some(completion) = self.sockets.reap() else { return Ok(handled) };
            match completion {
                Completion::Received { connection, filled, armed } => {
                    self.receive(connection, filled)?;
                    if !armed {
                        self.sockets.receive(connection);
                    }
                }
                Completion::Sent { connection, buffer } => {
                    self.connections[connection as usize].spare = Some(buffer);
                    if !self.connections[connection as usize].out.is_empty() {
                        self.touch(connection);
                    }
                }
                Completion::OutOfBuffers { connection } => self.sockets.receive(connection),
                Completion::Closed { connection, error } => {
                    let connection = &self.connections[connection as usize];
                    return Err(GeneratorError::Wrong(Wrong::Closed {
                        waiting: connection.pending.waiting(),
                        partial_bytes: connection.carried.len(),
                        error: error.map(|error| error.to_string()),
                    }));
                }
                Completion::Nothing => {}
            }
        }
        Ok(limits::COMPLETIONS_PER_TURN)
    }

    /// Reads answers where the kernel has put them; only one that is cut is copied, and what was sealed.
    fn receive(&mut self, index: u32, filled: Filled) -> Result<(), Wrong> {
        self.touch(index);
        let connection = &mut self.connections[index as usize];
        let mut carried = std::mem::take(&mut connection.carried);
        if connection.sealing.is_none() && carried.is_empty() {
            let consumed = self.read(index, &filled, None)?;
            carried.extend_from_slice(&self.sockets.bytes(&filled)[consumed..]);
        } else {
            match &mut connection.sealing {
                Some(sealing) => sealing.open(self.sockets.bytes(&filled), &mut carried)?,
                None => carried.extend_from_slice(self.sockets.bytes(&filled)),
            }
            let consumed = self.read(index, &filled, Some(&carried))?;
            carried.drain(..consumed);
        }
        self.connections[index as usize].carried = carried;
        self.sockets.give_back(filled);
        Ok(())
    }

    /// Reads all whole answers of `carried`, or of `filled` where nothing was carried; returns how many bytes they take.
    fn read(&mut self, index: u32, filled: &Filled, carried: Option<&[u8]>) -> Result<usize, Wrong> {
        let bytes = carried.unwrap_or_else(|| self.sockets.bytes(filled));
        let connection = &mut self.connections[index as usize];
        let mut at = 0;
        while at < bytes.len() {
            match self.protocol.reply(&bytes[at..], &mut connection.pending)? {
                Step::Partial => break,
                Step::Skip(consumed) => at += consumed,
                Step::Answered { consumed, since_ns, fate } => {
                    at += consumed;
                    let counted_at = match &mut self.open {
                        None => self.now_ns,
                        Some(open) => {
                            open.free[connection.lane] += 1;
                            since_ns
                        }
                    };
                    match fate {
                        Fate::Served => {
                            self.served += 1;
                            self.by_lane[connection.lane] += u64::from(self.setup.window.holds(counted_at));
                            self.recorder.record(self.now_ns.saturating_sub(since_ns), counted_at);
                        }
                        Fate::Shed(status) if self.setup.window.holds(counted_at) => {
                            *self.shed.entry(status).or_default() += 1;
                        }
                        Fate::Shed(_) => {}
                    }
                }
            }
        }
        Ok(at)
    }

    fn touch(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.touched {
            connection.touched = true;
            self.touched.push(index);
        }
    }

    fn report(self) -> Report {
        self.shared.publish(self.setup.thread, self.served);
        let (unsent, backlog_max) =
            self.open.as_ref().map_or((0, 0), |open| (open.backlog.unsent, open.backlog.waiting_max));
        Report {
            intervals: self.recorder.finish(),
            lags: self.open.map(|open| open.lags),
            asked: self.asked,
            served: self.served,
            by_lane: self.by_lane,
            shed: self.shed,
            unsent,
            lost: self.connections.iter().map(|connection| connection.pending.waiting() as u64).sum(),
            backlog_max,
            busy_share: self.usage.busy_share(self.setup.waiting),
        }
    }
}

impl Open {
    fn new(schedule: Schedule, connections: &[Connection], setup: &Setup) -> Open {
        let mut lanes = vec![(Vec::new(), 0); setup.lanes];
        for (index, connection) in connections.iter().enumerate() {
            lanes[connection.lane].0.push(index as u32);
        }
        let free = lanes.iter().map(|(members, _)| members.len() * setup.depth).collect();
        Open { schedule, backlog: Backlog::new(setup.lanes), lags: recorder::histogram(), lanes, free }
    }
}

/// How much of the window a thread worked.
#[derive(Default)]
struct Usage {
    /// [`wanted_cpu_ns`] and time at the window's first turn.
    begun: Option<(u64, u64)>,
    /// The same at its end.
    ended: Option<(u64, u64)>,
    /// Time in turns in which nothing had happened.
    idle_ns: u64,
}

impl Usage {
    #[inline]
    fn keep_time(&mut self, now_ns: u64, window: Window) {
        if self.ended.is_some() || now_ns < window.begins {
            return;
        }
        if self.begun.is_none() {
            self.begun = Some((wanted_cpu_ns(), now_ns));
        } else if now_ns >= window.ends {
            self.ended = Some((wanted_cpu_ns(), now_ns));
        }
    }

    #[inline]
    fn idle(&mut self, from_ns: u64, to_ns: u64) {
        if self.begun.is_some() && self.ended.is_none() {
            self.idle_ns += to_ns - from_ns;
        }
    }

    fn busy_share(&self, waiting: Waiting) -> f64 {
        let (Some((cpu_from, from)), Some((cpu_to, to))) = (self.begun, self.ended) else { return 0.0 };
        let window_ns = (to - from).max(1) as f64;
        match waiting {
            Waiting::Parked => cpu_to.saturating_sub(cpu_from) as f64 / window_ns,
            // On its CPU all the time; but it worked only in the turns in which something had happened.
            Waiting::Spinning => 1.0 - self.idle_ns as f64 / window_ns,
        }
    }
}

/// How long this thread has been on a CPU or has waited for one that something else was on, ns; the first two numbers of
/// its schedstat.
fn wanted_cpu_ns() -> u64 {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedule.split_whitespace().take(2).filter_map(|number| number.parse::<u64>().ok()).sum()
}
