//! Every order in which operations can complete, be cut short, fail and be cancelled, tried by going through all states
//! that a connection, its shard, its peer and the kernel can be in together. A mutation check plants defects between the
//! life and its driver: each must be found.

use std::collections::{HashSet, VecDeque};

use super::*;

/// What is made to go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    None,
    /// The descriptor is closed instead of what is out being cancelled.
    ClosesUnderOperations,
    /// What is out is never cancelled.
    NeverCancels,
    /// The shard is not told of the end.
    NeverForgets,
    /// The shard is told twice.
    ForgetsTwice,
    /// Bytes that come after the session's end are given to the shard.
    TakesTooLate,
    /// The peer's end is taken for nothing.
    LosesTheEnd,
    /// The rest of a short send is forgotten.
    LosesTheRest,
    /// A receive that found no buffer is never begun again.
    StarvesForEver,
    /// Our half is not shut.
    NeverShuts,
    /// The time is up, and nothing happens.
    LingersForEver,
    /// A failed receive is taken for nothing.
    IgnoresFailure,
    /// A cancelled receive is begun again before its end has come.
    ReceivesTwice,
    /// Nobody waits for an end that the receive may have lost.
    NeverWatches,
    /// The end that was waited for is taken for nothing.
    IgnoresTheWatch,
}

const DEFECTS: [Defect; 14] = [
    Defect::ClosesUnderOperations,
    Defect::NeverCancels,
    Defect::NeverForgets,
    Defect::ForgetsTwice,
    Defect::TakesTooLate,
    Defect::LosesTheEnd,
    Defect::LosesTheRest,
    Defect::StarvesForEver,
    Defect::NeverShuts,
    Defect::LingersForEver,
    Defect::IgnoresFailure,
    Defect::ReceivesTwice,
    Defect::NeverWatches,
    Defect::IgnoresTheWatch,
];

const RECEPTIONS: [Reception; 4] = [Reception::Many, Reception::Watched, Reception::Once, Reception::Sealed];

/// An operation that the kernel works on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Out {
    #[default]
    No,
    Yes,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Peer {
    #[default]
    Sends,
    Ended,
    Reset,
}

/// Everything that matters of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct State {
    life: Life,
    peer: Peer,
    receive: Out,
    send: Out,
    shutdown: Out,
    close: Out,
    watch: Out,
    /// The receive that is out does not know that the peer has ended, and never will.
    has_lost_end: bool,
    /// Of the send that is out, some was left to send once already.
    was_short: bool,
    /// What the shard wants, while it knows the connection.
    is_known: bool,
    output: bool,
    intake: bool,
    ends: bool,
    cut: bool,
    /// What has happened.
    end_seen: bool,
    has_failed: bool,
    is_late: bool,
    has_shut: bool,
}

type Verdict = Result<(), &'static str>;

fn ensure(holds: bool, what: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(what) }
}

impl State {
    fn new(reception: Reception) -> State {
        let mut life = Life::default();
        life.begin(reception);
        State { life, is_known: true, intake: true, ..State::default() }
    }

    /// The driver brings the kernel's operations in line.
    fn serve(&mut self, defect: Defect) -> Verdict {
        for _ in 0..16 {
            let close = self.ends && !self.output && self.send == Out::No;
            let wants = Wants { output: self.output, intake: self.intake, close, cut: self.cut };
            let next = self.life.next(|| wants);
            let Some(operation) = next else { return self.check_served() };
            self.begin(operation, defect)?;
        }
        Err("the driver is never done")
    }

    fn begin(&mut self, operation: Operation, defect: Defect) -> Verdict {
        match (operation, defect) {
            (Operation::CancelAll, Defect::ClosesUnderOperations) => {
                self.begin(Operation::Close, Defect::None)
            }
            (Operation::CancelAll, Defect::NeverCancels) | (Operation::Forget, Defect::NeverForgets) => {
                Ok(())
            }
            (Operation::Shutdown, Defect::NeverShuts) => {
                self.life.shut();
                Ok(())
            }
            (Operation::Forget, Defect::ForgetsTwice) => {
                self.begin(operation, Defect::None)?;
                self.begin(operation, Defect::None)
            }
            (Operation::WatchEnd, Defect::NeverWatches) => Ok(()),
            (Operation::CancelReceive, Defect::ReceivesTwice) => self.begin(Operation::Receive, Defect::None),
            (operation, _) => self.perform(operation),
        }
    }

    fn perform(&mut self, operation: Operation) -> Verdict {
        match operation {
            Operation::Send => {
                ensure(self.is_known && self.output, "a send of nothing")?;
                ensure(self.send == Out::No && !self.has_shut, "a send beside another, or behind the end")?;
                (self.output, self.was_short, self.send) = (false, false, Out::Yes);
            }
            Operation::Receive => {
                ensure(self.receive == Out::No, "two receives at once")?;
                (self.receive, self.has_lost_end) = (Out::Yes, false);
            }
            Operation::WatchEnd => {
                ensure(self.watch == Out::No && !self.end_seen, "a second wait for the end")?;
                self.watch = Out::Yes;
            }
            Operation::CancelReceive => {
                ensure(self.receive == Out::Yes, "a cancellation of nothing")?;
                self.receive = Out::Cancelled;
            }
            Operation::Forget => ensure(std::mem::take(&mut self.is_known), "the shard is told twice")?,
            Operation::Shutdown => {
                ensure(self.send == Out::No, "the end overtakes an answer")?;
                self.shutdown = Out::Yes;
                self.has_shut = true;
            }
            Operation::CancelAll => {
                for out in [&mut self.receive, &mut self.send, &mut self.shutdown, &mut self.watch] {
                    if *out == Out::Yes {
                        *out = Out::Cancelled;
                    }
                }
            }
            Operation::Close => {
                let outs = [self.receive, self.send, self.shutdown, self.close, self.watch];
                ensure(outs == [Out::No; 5], "closed under an operation, or twice")?;
                ensure(!self.is_known, "closed before the shard was told")?;
                let had_reason = self.end_seen || self.has_failed || self.cut || self.is_late;
                ensure(had_reason, "closed before the peer could read its last answer")?;
                let was_told = self.has_shut || self.end_seen || self.has_failed || self.cut;
                ensure(was_told, "closed without an end")?;
                let must_tell = self.life.reception == Reception::Sealed && !self.has_failed && !self.cut;
                ensure(!must_tell || self.has_shut, "closed without the last word")?;
                self.close = Out::Yes;
            }
        }
        Ok(())
    }

    /// Nothing is left undone: whatever is waited for will come.
    fn check_served(&self) -> Verdict {
        let is_out = |out: Out| out != Out::No;
        let is_starved = self.life.receiving == Receiving::Starved;
        if self.life.is_open() {
            let receives = !self.intake || self.end_seen || is_out(self.receive) || is_starved;
            ensure(receives, "input is wanted, and not received")?;
            let will_learn = !self.has_lost_end || self.receive != Out::Yes || is_out(self.watch);
            ensure(will_learn, "the peer's end is lost")?;
            ensure(!self.output || is_out(self.send), "output is there, and not sent")?;
            ensure(!self.cut, "cut off, and still open")?;
            return ensure(!self.ends || is_out(self.send), "owes nothing, and stays open");
        }
        ensure(!self.is_known || self.life.stage() == Stage::Free, "over, and the shard does not know")?;
        let is_told = self.life.stage() != Stage::Lingering || self.has_shut;
        ensure(is_told, "waits for a peer that was not told of the end")?;
        let is_failing = self.has_failed || self.is_late;
        ensure(!is_failing || self.life.stage() != Stage::Lingering, "waits for a peer that is given up")?;
        let outs = [self.receive, self.send, self.shutdown, self.close, self.watch];
        let comes = outs.into_iter().any(is_out);
        ensure(comes || is_starved || self.life.stage() == Stage::Free, "nothing will ever happen")?;
        let may_wait = outs[..3].iter().all(|&out| out != Out::Yes) && self.watch != Out::Yes;
        ensure(self.life.stage() != Stage::Closing || may_wait, "waits for what nobody has cancelled")
    }

    /// All that may happen next.
    fn followers(&self, defect: Defect) -> Result<Vec<State>, &'static str> {
        let mut followers = Vec::new();
        let mut served = *self;
        served.serve(defect)?;
        followers.push(served);
        self.shard_acts(&mut followers);
        self.peer_acts(&mut followers);
        self.receive_completes(defect, &mut followers)?;
        self.send_completes(defect, &mut followers)?;
        if self.watch == Out::Cancelled || (self.watch == Out::Yes && self.peer != Peer::Sends) {
            let mut next = *self;
            next.watch = Out::No;
            if defect != Defect::IgnoresTheWatch {
                next.life.saw_end();
            }
            followers.push(next);
        }
        if self.shutdown != Out::No {
            let mut next = *self;
            next.shutdown = Out::No;
            next.life.shut();
            followers.push(next);
        }
        if self.life.stage() == Stage::Lingering && self.has_shut {
            let mut next = *self;
            next.is_late = true;
            if defect != Defect::LingersForEver {
                next.life.give_up();
            }
            followers.push(next);
        }
        if self.life.receiving == Receiving::Starved {
            let mut next = *self;
            let is_fed = defect != Defect::StarvesForEver && next.life.feed();
            ensure(is_fed && next.life.receiving == Receiving::Off, "there are buffers, and it starves")?;
            followers.push(next);
        }
        if self.close == Out::Yes {
            let mut next = *self;
            next.close = Out::No;
            next.life.closed();
        }
        Ok(followers)
    }

    fn shard_acts(&self, followers: &mut Vec<State>) {
        if !self.is_known {
            return;
        }
        let open = !self.ends && !self.cut;
        let changes = [
            State { output: true, ..*self },
            State { intake: !self.intake && !self.end_seen, ..*self },
            State { ends: true, intake: false, output: self.output, ..*self },
            State { cut: true, intake: false, ..*self },
        ];
        followers.extend(changes.into_iter().filter(|_| open));
    }

    fn peer_acts(&self, followers: &mut Vec<State>) {
        if self.peer == Peer::Sends {
            followers.push(State { peer: Peer::Ended, ..*self });
            let may_be_lost = self.life.reception == Reception::Watched && self.receive == Out::Yes;
            followers.extend(may_be_lost.then_some(State { peer: Peer::Ended, has_lost_end: true, ..*self }));
        }
        if self.peer != Peer::Reset {
            followers.push(State { peer: Peer::Reset, ..*self });
        }
    }

    fn receive_completes(&self, defect: Defect, followers: &mut Vec<State>) -> Verdict {
        if self.receive == Out::No {
            return Ok(());
        }
        let is_many = self.life.reception != Reception::Once;
        let hears_end = self.peer == Peer::Ended && !self.has_lost_end;
        let mut outcomes = vec![(Received::Bytes, false), (Received::NoBuffer, false)];
        outcomes.extend(is_many.then_some((Received::Bytes, true)));
        outcomes.extend(hears_end.then_some((Received::End, false)));
        outcomes.extend((self.peer == Peer::Reset).then_some((Received::Failure, false)));
        outcomes.extend((self.receive == Out::Cancelled).then_some((Received::Nothing, false)));
        for (what, goes_on) in outcomes {
            let mut next = *self;
            if !goes_on {
                next.receive = Out::No;
            }
            next.end_seen |= what == Received::End;
            next.has_failed |= what == Received::Failure;
            let told = match (what, defect) {
                (Received::End, Defect::LosesTheEnd) | (Received::Failure, Defect::IgnoresFailure) => {
                    Received::Nothing
                }
                _ => what,
            };
            let mut arrival = next.life.received(told, goes_on);
            if defect == Defect::TakesTooLate && what == Received::Bytes {
                arrival = Arrival::Take;
            }
            match arrival {
                Arrival::Take => ensure(next.is_known, "bytes for a session that is over")?,
                Arrival::TellEnd => ensure(next.is_known, "an end for a session that is over")?,
                Arrival::Drop => {
                    let is_lost = what == Received::End && next.is_known && next.life.is_open();
                    ensure(!is_lost, "the shard is not told of the end")?;
                }
            }
            followers.push(next);
        }
        Ok(())
    }

    fn send_completes(&self, defect: Defect, followers: &mut Vec<State>) -> Verdict {
        if self.send == Out::No {
            return Ok(());
        }
        let mut outcomes = vec![Sent::All];
        outcomes.extend((!self.was_short).then_some(Sent::Short));
        outcomes.extend((self.peer == Peer::Reset || self.send == Out::Cancelled).then_some(Sent::Failure));
        for outcome in outcomes {
            let mut next = *self;
            let told = if defect == Defect::LosesTheRest { Sent::All } else { outcome };
            next.has_failed |= outcome == Sent::Failure;
            match next.life.sent(told) {
                AfterSend::Rest => {
                    ensure(next.is_known, "an answer for nobody")?;
                    next.was_short = true;
                }
                AfterSend::Done => {
                    ensure(outcome != Sent::Short || !next.life.is_open(), "half an answer")?;
                    next.send = Out::No;
                }
            }
            followers.push(next);
        }
        Ok(())
    }
}

/// Goes through all states; how many there are.
fn explore(reception: Reception, defect: Defect) -> Result<usize, String> {
    let mut seen = HashSet::from([State::new(reception)]);
    let mut next = VecDeque::from_iter(seen.iter().copied());
    while let Some(state) = next.pop_front() {
        let followers = state.followers(defect).map_err(|why| format!("{why}: {state:?}"))?;
        next.extend(followers.into_iter().filter(|follower| seen.insert(*follower)));
    }
    Ok(seen.len())
}

#[test]
fn whatever_completes_in_whatever_order_a_connection_ends_once_and_nothing_is_lost() {
    for reception in RECEPTIONS {
        let states = explore(reception, Defect::None).unwrap();
        println!("{reception:?}: {states} states");
        assert!(states > 500, "{reception:?}: only {states} states");
    }
}

#[test]
fn every_planted_defect_is_found() {
    for defect in DEFECTS {
        let found = RECEPTIONS.map(|reception| explore(reception, defect).is_err());
        // Only a receive of many pieces is ever cancelled by itself, and only some are watched.
        let expected = match defect {
            Defect::ReceivesTwice => [true, true, false, true],
            Defect::NeverWatches | Defect::IgnoresTheWatch => [false, true, false, false],
            _ => [true; 4],
        };
        assert_eq!(found, expected, "{defect:?}");
    }
}
