//! One connection's life, from its first byte to the close of its descriptor: which operations a driver is to begin, and
//! when the connection is over. Pure: a driver reports what has completed, and asks [`Life::next`] until there is nothing
//! to begin.
//!
//! ```text
//!     Free ──begin──▶ Open ──nothing left to say──▶ Lingering ──the peer is done, or time is up──▶ Closing ──▶ Closed ──▶ Free
//!                       └───────────────the socket failed, or the shard cut it───────────────────────▲
//! ```
//!
//! At most one receive, one send (or shutdown) and one wait for the peer's end are out at a time, and the descriptor is closed only when none is: the
//! kernel never works on what has been given to somebody else.

use super::Wants;

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Stage {
    /// There is no connection.
    #[default]
    Free,
    /// The shard has a session for it.
    Open,
    /// Our half is to be shut, or is, and what still comes is thrown away: a close with unread bytes would reset the
    /// connection and could take the last answer with it.
    Lingering,
    /// Its operations are being cancelled and awaited; then its descriptor is closed.
    Closing,
    /// The close itself is out.
    Closed,
}

/// How a driver receives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reception {
    /// One operation brings whatever comes, until it is cancelled.
    #[default]
    Many,
    /// The same, but the peer's end may be lost under it. So an operation of its own waits for that end; then the receive
    /// is begun anew, for one that begins looks at the socket.
    Watched,
    /// Each operation brings one piece. One that is out when the shard has enough is left to bring its piece.
    Once,
    /// As [`Reception::Many`], and what comes is sealed: our half ends with a word of its own, which a peer that has sent all it
    /// will waits for too. Else it could not tell the end of the answers from somebody's having cut them off.
    Sealed,
}

/// What a driver is to begin. Whatever it is, [`Life`] counts it as begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Take the shard's output and send it; report to [`Life::sent`].
    Send,
    /// Receive; report to [`Life::received`].
    Receive,
    /// Wait for the peer's end; report to [`Life::saw_end`].
    WatchEnd,
    /// Cancel the receive, which reports its own end.
    CancelReceive,
    /// Tell the shard that the connection is closed: at once, it reports nothing.
    Forget,
    /// Shut our half, and see to [`Life::give_up`] when the peer has had its time; report to [`Life::shut`].
    Shutdown,
    /// Cancel whatever is out, each of which reports its own end.
    CancelAll,
    /// Close the descriptor; report to [`Life::closed`].
    Close,
}

/// What a receive has brought.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Received {
    /// Bytes.
    Bytes,
    /// The peer has sent all it will.
    End,
    /// No buffer was left to receive into.
    NoBuffer,
    /// Nothing: it was cancelled or interrupted.
    Nothing,
    /// The socket has failed.
    Failure,
}

/// What to do with what a receive has brought.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arrival {
    /// Give the bytes to the shard.
    Take,
    /// Tell the shard that nothing more will come.
    TellEnd,
    /// Nothing: it came too late to mean anything.
    Drop,
}

/// How a send has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// All of it went.
    All,
    /// Some of it went, or none for no reason of the socket's.
    Short,
    /// The socket has failed.
    Failure,
}

/// What follows a send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AfterSend {
    /// Send the rest, at once.
    Rest,
    /// Nothing: the buffer is free.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Receiving {
    #[default]
    Off,
    Out,
    Cancelling,
    /// It ended because no buffer was left; it is begun again when its turn comes.
    Starved,
}

/// The operation that waits for the peer's end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Watch {
    #[default]
    Off,
    Due,
    Out,
    /// It has come; a receive that is out may not know.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Sending {
    #[default]
    Nothing,
    Output,
    Shutdown,
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Life {
    stage: Stage,
    reception: Reception,
    receiving: Receiving,
    sending: Sending,
    watch: Watch,
    /// The peer has sent all it will.
    input_ended: bool,
    /// The shard knows of the connection.
    has_session: bool,
    /// What the stage begins with, a shutdown or a cancellation, has been begun.
    has_begun_stage: bool,
}

impl Life {
    /// A connection has come, and the shard has been told.
    ///
    /// # Panics
    /// Where the one before is not over.
    pub fn begin(&mut self, reception: Reception) {
        assert_eq!(self.stage, Stage::Free, "a connection came to a slot that is taken: {self:?}");
        let watch = if reception == Reception::Watched { Watch::Due } else { Watch::Off };
        *self = Life { stage: Stage::Open, reception, watch, has_session: true, ..Life::default() };
    }

    /// Where it is.
    #[inline]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether the shard may be told of what completes.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether no operation is out.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        matches!(self.receiving, Receiving::Off | Receiving::Starved)
            && self.sending == Sending::Nothing
            && self.watch != Watch::Out
    }

    /// The next operation to begin, until there is none. `wants` is the shard's, asked while it knows the connection.
    #[inline]
    pub fn next(&mut self, wants: impl FnOnce() -> Wants) -> Option<Operation> {
        if self.stage != Stage::Open {
            return self.end();
        }
        let wants = wants();
        if wants.cut {
            self.give_up();
            return self.end();
        }
        if self.sending == Sending::Nothing {
            if wants.output {
                self.sending = Sending::Output;
                return Some(Operation::Send);
            }
            if wants.close {
                self.stage = Stage::Lingering;
                return self.end();
            }
        }
        self.steer_input(wants.intake)
    }

    /// Receives where that is wanted; else leaves the peer's bytes in the kernel, which in time tells the peer to wait.
    #[inline]
    fn steer_input(&mut self, is_wanted: bool) -> Option<Operation> {
        match self.receiving {
            Receiving::Off if is_wanted && !self.input_ended => {
                if self.watch == Watch::Due {
                    self.watch = Watch::Out;
                    return Some(Operation::WatchEnd);
                }
                self.receiving = Receiving::Out;
                Some(Operation::Receive)
            }
            Receiving::Out if self.must_cancel(is_wanted) => {
                if self.watch == Watch::Ended {
                    self.watch = Watch::Off;
                }
                self.receiving = Receiving::Cancelling;
                Some(Operation::CancelReceive)
            }
            _ => None,
        }
    }

    /// Whether the receive that is out is to end: it is not wanted, or may have missed the peer's end.
    #[inline]
    fn must_cancel(&self, is_wanted: bool) -> bool {
        self.watch == Watch::Ended || (!is_wanted && self.reception != Reception::Once)
    }

    /// What is to be begun once the shard has nothing left to say.
    #[cold]
    fn end(&mut self) -> Option<Operation> {
        if core::mem::take(&mut self.has_session) {
            return Some(Operation::Forget);
        }
        if self.input_ended && !self.owes_last_word() {
            self.give_up();
        }
        match self.stage {
            Stage::Lingering if !core::mem::replace(&mut self.has_begun_stage, true) => {
                self.sending = Sending::Shutdown;
                Some(Operation::Shutdown)
            }
            Stage::Lingering => self.steer_input(true),
            Stage::Closing if self.is_quiet() => {
                self.stage = Stage::Closed;
                Some(Operation::Close)
            }
            Stage::Closing if !core::mem::replace(&mut self.has_begun_stage, true) => {
                Some(Operation::CancelAll)
            }
            _ => None,
        }
    }

    /// Whether the peer has yet to be told that our half has ended.
    fn owes_last_word(&self) -> bool {
        let is_said = self.has_begun_stage && self.sending == Sending::Nothing;
        self.reception == Reception::Sealed && self.stage == Stage::Lingering && !is_said
    }

    /// A receive has brought something; `goes_on` where the same operation will bring more.
    #[inline]
    pub fn received(&mut self, what: Received, goes_on: bool) -> Arrival {
        if !goes_on {
            self.receiving = Receiving::Off;
        }
        match what {
            Received::Bytes if self.is_open() => return Arrival::Take,
            Received::Bytes | Received::Nothing => {}
            Received::End => {
                self.input_ended = true;
                if self.is_open() {
                    return Arrival::TellEnd;
                }
            }
            Received::NoBuffer => self.receiving = Receiving::Starved,
            Received::Failure => self.give_up(),
        }
        Arrival::Drop
    }

    /// There are buffers again: a receive that found none may be begun again. Whether there is one.
    pub fn feed(&mut self) -> bool {
        let is_starved = self.receiving == Receiving::Starved;
        if is_starved {
            self.receiving = Receiving::Off;
        }
        is_starved
    }

    /// A send has ended. The shard is told how much went while [`Life::is_open`], before this.
    #[inline]
    pub fn sent(&mut self, outcome: Sent) -> AfterSend {
        match outcome {
            Sent::Short if self.is_open() => return AfterSend::Rest,
            Sent::All | Sent::Short => {}
            Sent::Failure => self.give_up(),
        }
        self.sending = Sending::Nothing;
        AfterSend::Done
    }

    /// Our half has been shut. A failure means that the peer has reset the connection, which the receive is told too.
    pub fn shut(&mut self) {
        self.sending = Sending::Nothing;
    }

    /// Ends it without waiting for the peer any more: the socket has failed, or the time is up.
    pub fn give_up(&mut self) {
        if matches!(self.stage, Stage::Open | Stage::Lingering) {
            self.stage = Stage::Closing;
            self.has_begun_stage = false;
        }
    }

    /// The wait for the peer's end is over: it has come, or the wait was cancelled or has failed. What it means is looked
    /// up by the next receive to begin.
    pub fn saw_end(&mut self) {
        self.watch = Watch::Ended;
    }

    /// Its descriptor is closed.
    ///
    /// # Panics
    /// Where something is still out.
    pub fn closed(&mut self) {
        assert!(self.is_quiet() && !self.has_session, "closed under an operation: {self:?}");
        *self = Life::default();
    }
}

#[cfg(test)]
mod tests;
