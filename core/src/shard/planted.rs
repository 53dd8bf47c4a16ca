//! Defects that the simulation plants in a shard, to see that it finds each. A release build has none of them: there
//! [`Planted::is`] is a constant.

/// Something that a shard could do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Loses the lookups that a turn has gathered for a neighbour.
    LosesBundle,
    /// Sends them only when a bundle is full.
    KeepsBundle,
    /// Answers the lookups of a bundle in another order than it says.
    MixesUpAskers,
    /// Answers a bundle twice.
    AnswersTwice,
    /// Writes an answer to whoever has the asker's index now.
    AnswersSuccessor,
    /// Does not say that an answer came from another shard.
    DropsFlag,
    /// Does not count an answer as given: a caller's allowance is used up in time.
    ForgetsToPay,
    /// Wakes no neighbour.
    NeverWakes,
    /// Looks up whatever is asked, whoever asks.
    IgnoresPrincipal,
    /// Reads requests before it is known whose they are.
    ReadsTooEarly,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 10] = [
        Planted::LosesBundle,
        Planted::KeepsBundle,
        Planted::MixesUpAskers,
        Planted::AnswersTwice,
        Planted::AnswersSuccessor,
        Planted::DropsFlag,
        Planted::ForgetsToPay,
        Planted::NeverWakes,
        Planted::IgnoresPrincipal,
        Planted::ReadsTooEarly,
    ];

    /// Whether `planted` is this one.
    #[inline(always)]
    pub(super) fn is(self, planted: Option<Planted>) -> bool {
        cfg!(debug_assertions) && planted == Some(self)
    }
}
