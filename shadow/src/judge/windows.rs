//! Windows begin anew each hour or each day (UTC): two right answers may lie on either side of such a boundary.

use super::compare::Difference;
use super::path::PathStep;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// Whether every difference lies in a window that may have moved on between `from_us` and `to_us`, by the clock of
/// whoever answered. It *may* have: both sides are asked again then, and nothing is excused.
pub fn may_have_moved(differences: &[Difference], from_us: i64, to_us: i64) -> bool {
    let crosses = |bucket_us: i64| from_us.div_euclid(bucket_us) != to_us.div_euclid(bucket_us);
    !differences.is_empty()
        && differences.iter().all(|difference| match window(difference) {
            Some("24h") => crosses(HOUR_US),
            Some("7d" | "30d") => crosses(DAY_US),
            _ => false,
        })
}

/// Whether every difference lies in a window that has an end.
pub fn are_all_windowed(differences: &[Difference]) -> bool {
    !differences.is_empty() && differences.iter().all(|d| matches!(window(d), Some("24h" | "7d" | "30d")))
}

/// Which window a difference lies in.
fn window(difference: &Difference) -> Option<&str> {
    let steps = difference.path.steps();
    steps.windows(2).find_map(|pair| match pair {
        [PathStep::Key(windows), PathStep::Key(name)] if windows == "windows" => Some(name.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::DifferenceKind;
    use crate::judge::path::Path;

    fn difference(window: &str) -> Difference {
        let path = Path::ROOT.key("statistics").named("COIN").key("windows").key(window).key("debit_sum");
        Difference { path, kind: DifferenceKind::Value, primary: None, candidate: None }
    }

    #[test]
    fn only_a_boundary_of_the_windows_own_bucket_counts() {
        let hour = |h: i64| h * HOUR_US;
        for (window, from, to, moved) in [
            ("24h", hour(5) - 1, hour(5), true),
            ("24h", hour(5), hour(6) - 1, false),
            ("7d", hour(5) - 1, hour(5), false),
            ("7d", hour(24) - 1, hour(24), true),
            ("30d", hour(48) - 1, hour(48), true),
            ("lifetime", hour(24) - 1, hour(24), false),
            ("24h", -1, 0, true),
        ] {
            assert_eq!(may_have_moved(&[difference(window)], from, to), moved, "{window} {from} {to}");
        }
        let outside = Difference { path: Path::ROOT.key("version"), ..difference("24h") };
        assert!(!may_have_moved(&[difference("24h"), outside], -1, 0));
        assert!(!may_have_moved(&[], -1, 0));
        // At midnight the hour's window moves as well.
        assert!(may_have_moved(&[difference("24h"), difference("7d")], hour(24) - 1, hour(24)));
        assert!(!may_have_moved(&[difference("24h"), difference("7d")], hour(23) - 1, hour(23)));
    }
}
