//! Which users the candidate serves.

use std::fmt;
use std::str::FromStr;

use florin_schema::UserId;
use florin_schema::ids::mix;

/// A share of the users, in hundredths of a percent: 0 to 10,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Share(u32);

/// Why a text is no share.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a percentage from 0% to 100% with at most two decimals, like 5% or 0.25%, got {0:?}")]
pub struct ShareError(String);

/// Keeps the choice independent of the one that routes users to shards, which uses the same mixing.
const SALT: u64 = 0x5AD0_3F10_0000_0001;

impl Share {
    /// Nobody.
    pub const NONE: Share = Share(0);
    /// Everybody.
    pub const ALL: Share = Share(10_000);

    /// In hundredths of a percent; more than all is all.
    pub fn from_parts(parts: u32) -> Share {
        Share(parts.min(Share::ALL.0))
    }

    /// In hundredths of a percent.
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// In percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether a user belongs to it. A larger share holds everybody whom a smaller one holds.
    pub fn holds(self, user: UserId) -> bool {
        mix(mix(user.get()) ^ SALT) % u64::from(Share::ALL.0) < u64::from(self.0)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Share, ShareError> {
        let wrong = || ShareError(text.to_owned());
        let (whole, fraction) =
            text.strip_suffix('%').map(|n| n.split_once('.').unwrap_or((n, ""))).ok_or_else(wrong)?;
        let is_number = !whole.is_empty() && whole.len() <= 3 && fraction.len() <= 2;
        if !is_number || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let parts: u32 = format!("{whole}{fraction:0<2}").parse().map_err(|_| wrong())?;
        // One spelling for each share: `050%` may be meant for 50 %, or for 5 %.
        let share = Share(parts);
        if share <= Share::ALL && share.to_string() == text { Ok(share) } else { Err(wrong()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, rest) if rest % 10 == 0 => write!(f, "{whole}.{}%", rest / 10),
            (whole, rest) => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written() {
        for (text, parts) in
            [("0%", 0), ("5%", 500), ("0.25%", 25), ("0.05%", 5), ("12.5%", 1_250), ("100%", 10_000)]
        {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.parts(), share.to_string().as_str()), (parts, text));
        }
        for text in [
            "", "5", "%", "101%", "-1%", "1.234%", ".5%", "5%%", "1e1%", "100.01%", "050%", "00%", "5.%",
            "5.0%", "12.50%", " 5%", "5 %", "+5%", "٥%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_stays_on_its_side_while_the_share_grows_and_shares_are_as_large_as_they_say() {
        let users: Vec<UserId> = (0..100_000).map(|id| UserId::new(id).unwrap()).collect();
        let mut before = vec![false; users.len()];
        for parts in [0, 25, 500, 5_000, 10_000] {
            let share = Share::from_parts(parts);
            let now: Vec<bool> = users.iter().map(|user| share.holds(*user)).collect();
            assert!(before.iter().zip(&now).all(|(before, now)| *now || !before), "{share}");
            let held = now.iter().filter(|held| **held).count();
            assert!(held.abs_diff(parts as usize * 10) <= 600, "{share}: {held}");
            before = now;
        }
        // Independent of where shards lie: half of each shard's users.
        let half = Share::from_parts(5_000);
        for shard in 0..4 {
            let of_shard: Vec<_> = users.iter().filter(|user| user.shard(4).0 == shard).collect();
            let held = of_shard.iter().filter(|user| half.holds(***user)).count();
            assert!((held * 100 / of_shard.len()).abs_diff(50) <= 2, "shard {shard}: {held}");
        }
    }
}
