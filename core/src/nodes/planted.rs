//! Defects that the simulation plants in a node, to see that it finds each. A release build has none of them: there [`Planted::is`] is
//! a constant.

/// Something that a node could do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Names an owner before it has caught up.
    NamesLoading,
    /// Lets go of a partition once others are ready, whoever has claimed it last.
    IgnoresClaims,
    /// Claims by the number that it has claimed by before.
    ClaimsAnew,
    /// Goes on holding whatever it has held.
    LetsGoOfNothing,
    /// Takes up nothing to stand by for.
    StandsByForNothing,
    /// Changes the map and leaves its epoch as it was.
    KeepsEpoch,
    /// Tells callers a map before it has heard of everybody.
    TellsTooEarly,
    /// Believes that whoever has been there is there.
    BuriesNobody,
    /// Believes that there is who has left the group, for ever.
    WaitsForTheSilent,
    /// Ends before others have what it has.
    EndsTooEarly,
    /// Believes that it is assigned whatever it has been.
    KeepsAssignments,
    /// Says that it is ready while it loads.
    SaysReadyEarly,
    /// Answers while it loads.
    AnswersEarly,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 13] = [
        Planted::NamesLoading,
        Planted::IgnoresClaims,
        Planted::ClaimsAnew,
        Planted::LetsGoOfNothing,
        Planted::StandsByForNothing,
        Planted::KeepsEpoch,
        Planted::TellsTooEarly,
        Planted::BuriesNobody,
        Planted::WaitsForTheSilent,
        Planted::EndsTooEarly,
        Planted::KeepsAssignments,
        Planted::SaysReadyEarly,
        Planted::AnswersEarly,
    ];

    /// Whether `planted` is this one.
    #[inline]
    pub(super) fn is(self, planted: Option<Planted>) -> bool {
        cfg!(debug_assertions) && planted == Some(self)
    }
}
