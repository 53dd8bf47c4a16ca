//! Defects that the simulation plants in a follower, to see that it finds each. A release build has none of them: there
//! [`Planted::is`] is a constant.

/// Something that a follower could do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Publishes the watermark before the shards have applied its rows.
    EarlyWatermark,
    /// Publishes the time of a read that did not reach the end.
    PartialWatermark,
    /// Publishes what the wall clock shows, wherever it stood before.
    WatermarkGoesBack,
    /// Drops a row that finds a ring full.
    DropsWhenFull,
    /// Counts rows as routed when they are read.
    MovesPositionEarly,
    /// Does not look whether the ledger is still the same.
    IgnoresIdentity,
    /// Skips what no transaction can be made of, and says nothing to the account's shard.
    SkipsUnreadable,
    /// Never wakes a shard that sleeps.
    NeverWakes,
    /// Does not hear what shards ask for.
    IgnoresRequests,
    /// Ends a re-read although newer rows of the account went by meanwhile.
    ForgetsLiveRows,
    /// Ends a re-read with its first page.
    EndsWithFirstPage,
    /// Answers before the accounts that loading found incomplete were read again.
    ReadyBeforeRepair,
    /// Reads an account with a hole again each time that it is asked to.
    NeverBacksOff,
    /// Sends a whole history at once.
    IgnoresBudget,
    /// Shows each row as it comes, whatever else its commit has for the account.
    ShowsHalfCommits,
    /// Does not say that a commit has ended which came in several pieces.
    ForgetsCommitEnd,
    /// Shows what came of a commit that broke off as soon as another one ends.
    ShowsBrokenCommits,
}

impl Planted {
    /// All of them.
    pub const ALL: [Planted; 17] = [
        Planted::EarlyWatermark,
        Planted::PartialWatermark,
        Planted::WatermarkGoesBack,
        Planted::DropsWhenFull,
        Planted::MovesPositionEarly,
        Planted::IgnoresIdentity,
        Planted::SkipsUnreadable,
        Planted::NeverWakes,
        Planted::IgnoresRequests,
        Planted::ForgetsLiveRows,
        Planted::EndsWithFirstPage,
        Planted::ReadyBeforeRepair,
        Planted::NeverBacksOff,
        Planted::IgnoresBudget,
        Planted::ShowsHalfCommits,
        Planted::ForgetsCommitEnd,
        Planted::ShowsBrokenCommits,
    ];

    /// Whether `planted` is this one.
    #[inline]
    pub(super) fn is(self, planted: Option<Planted>) -> bool {
        cfg!(debug_assertions) && planted == Some(self)
    }
}
