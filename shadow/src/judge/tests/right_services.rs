//! Two right services that lag, and wrong ones, by chance.

use proptest::prelude::*;

use super::*;

/// A ledger of one account, and views of it that lag behind: what a right pair of services may answer.
#[derive(Clone, Debug)]
struct View {
    /// Of the commits' times, µs after noon; each adds 10 coins.
    lag_us: i64,
}

fn committed(commits: &[i64], by_us: i64) -> u64 {
    commits.iter().filter(|at| NOON + **at <= by_us).count() as u64
}

impl View {
    /// Answers at `now_us` as a server does that waits for nothing.
    fn answer(&self, commits: &[i64], now_us: i64, min_version: u64) -> Answer {
        let as_of_us = now_us - self.lag_us;
        let version = committed(commits, as_of_us);
        let mut answer = match version {
            v if v < min_version => stale(now_us),
            0 => unknown(now_us),
            v => balance(v, 10 * v as i64, now_us),
        };
        answer.stated.as_of_us = Some(as_of_us);
        answer
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two right services, however far apart, are never called different; and where one wrongs a single answer of a
    /// version that both show, it is never called equal.
    #[test]
    fn right_services_never_mismatch_and_wrong_amounts_always_do(
        mut commits in prop::collection::vec(0..3_000_000i64, 0..60),
        lags in (0..400_000i64, 0..400_000i64),
        start in 0..2_500_000i64,
        wrong: bool,
    ) {
        commits.sort_unstable();
        let (p, c) = (View { lag_us: lags.0 }, View { lag_us: lags.1 });
        let twist = |answer: Answer| {
            let is_wrong = wrong && answer.status == 200;
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            let body = if is_wrong { text.replace("\"available\":\"7\"", "\"available\":\"8\"") } else { text };
            Answer { body: Bytes::from(body), ..answer }
        };
        let mut now_us = NOON + start;
        let judge_settings = judge_settings();
        let mut history = History::default();
        // Each is judged by what the primary has shown before.
        for _ in 0..5 {
        let first = p.answer(&commits, now_us, 0);
        now_us += 1_000;
        let second = twist(c.answer(&commits, now_us, 0));
        let mut case = Case::open(&get(BALANCE), first, second, &judge_settings);
        let ruling = loop {
            match case.step(&judge_settings, &mut history, now_us) {
                Step::Done(ruling) => break ruling,
                Step::Ask(ask) => {
                    now_us += 40_000;
                    let answer = match ask.side {
                        Side::Primary => p.answer(&commits, now_us, ask.min_version),
                        Side::Candidate => twist(c.answer(&commits, now_us, ask.min_version)),
                    };
                    case.answered(Ok(answer));
                }
            }
        };
        let showed = case.primary.status == 200 && case.candidate.status == 200;
        if wrong && showed {
            prop_assert!(!matches!(ruling.verdict, Verdict::Equal | Verdict::CaughtUp), "{ruling:?}");
        } else {
            prop_assert_ne!(ruling.verdict, Verdict::Mismatch, "{:?}", ruling);
            prop_assert_ne!(ruling.verdict, Verdict::CandidateError);
        }
        now_us += 70_000;
        }
    }

    /// Whatever bytes come, a case ends, and bytes that differ in meaning are not equal.
    #[test]
    fn any_two_bodies_are_ruled(a in "\\PC{0,40}", b in "\\PC{0,40}", status_a in 200..600u16, status_b in 200..600u16) {
        let (p, c) = (answer(status_a, None, &a, NOON), answer(status_b, None, &b, NOON));
        let (ruling, _) = Play::new(get(BALANCE), vec![p], vec![c]).run();
        if ruling.verdict == Verdict::Equal {
            prop_assert_eq!(status_a, status_b);
        }
    }
}
