//! What is asked again, and what a later answer makes good.

use super::*;

#[test]
fn the_older_side_is_asked_for_the_newer_version_until_they_meet() {
    // The candidate is behind, says so once, and then has it.
    let play = Play::new(
        get(BALANCE),
        vec![balance(5, 100, NOON)],
        vec![balance(4, 90, NOON), stale(NOON + 50_000), balance(5, 100, NOON + 90_000)],
    );
    let (ruling, asked) = play.run();
    assert_eq!((ruling.verdict, ruling.asks), (Verdict::Unproven, 2));
    assert_eq!(asked, [(Side::Candidate, 5), (Side::Candidate, 5)]);
    // It overtakes: now the primary is asked; and that overtakes again.
    let play = Play::new(
        get(BALANCE),
        vec![balance(5, 100, NOON), balance(8, 130, NOON + 120_000)],
        vec![balance(4, 90, NOON), balance(7, 120, NOON + 60_000), balance(8, 130, NOON + 180_000)],
    );
    let (ruling, asked) = play.run();
    assert_eq!(ruling.verdict, Verdict::Unproven);
    assert_eq!(asked, [(Side::Candidate, 5), (Side::Primary, 7), (Side::Candidate, 8)]);
    // Met, and not the same: catching up hides nothing.
    let met = judged(
        BALANCE,
        vec![balance(5, 100, NOON)],
        vec![balance(4, 90, NOON), balance(5, 99, NOON + 50_000)],
    );
    assert_eq!(met, (Verdict::Mismatch, Some(Reason::Content)));
    // A user who is new to the candidate.
    let new = judged(BALANCE, vec![balance(1, 10, NOON)], vec![unknown(NOON), balance(1, 10, NOON + 50_000)]);
    assert_eq!(new, UNPROVEN);
    let new = judged(BALANCE, vec![unknown(NOON), balance(1, 10, NOON + 50_000)], vec![balance(1, 10, NOON)]);
    assert_eq!(new, LATER);
}

#[test]
fn who_is_honestly_behind_is_not_comparable() {
    let late = stale(NOON + 50_000);
    let late = Answer { stated: Stated { as_of_us: Some(NOON - SECOND), ..late.stated.clone() }, ..late };
    let behind = judged(BALANCE, vec![balance(5, 100, NOON)], vec![balance(4, 90, NOON), late.clone()]);
    assert_eq!(behind, (Verdict::NotComparable, Some(Reason::CandidateBehind)));
    let behind = judged(BALANCE, vec![balance(4, 90, NOON), late], vec![balance(5, 100, NOON)]);
    assert_eq!(behind, (Verdict::NotComparable, Some(Reason::PrimaryBehind)));
    let down = judged(BALANCE, vec![answer(503, None, "", NOON)], vec![balance(5, 100, NOON)]);
    assert_eq!(down, (Verdict::NotComparable, Some(Reason::PrimaryUnavailable)));
}

#[test]
fn who_claims_to_be_fresh_and_is_not_is_found() {
    let stale_claim = (Verdict::Mismatch, Some(Reason::StaleClaimsFresh));
    // As of a time after the primary showed more.
    let p = || balance(5, 100, NOON);
    assert_eq!(judged(BALANCE, vec![p()], vec![balance(4, 90, NOON + 200_000)]), stale_claim);
    let denied = judged(BALANCE, vec![p()], vec![unknown(NOON + 200_000)]);
    assert_eq!(denied, (Verdict::Mismatch, Some(Reason::Status)));
    // Within the clocks' tolerance nothing is held against it, and it may catch up.
    let within =
        judged(BALANCE, vec![p()], vec![balance(4, 90, NOON + 90_000), balance(5, 100, NOON + 150_000)]);
    assert_eq!(within, UNPROVEN);
    // Asked for version 5, it answers with 4.
    let below = judged(BALANCE, vec![p()], vec![balance(4, 90, NOON), balance(4, 90, NOON + 50_000)]);
    assert_eq!(below, (Verdict::Mismatch, Some(Reason::BelowMinVersion)));
    // It says STALE, as of a time when it must have had it.
    assert_eq!(judged(BALANCE, vec![p()], vec![balance(4, 90, NOON), stale(NOON + 300_000)]), stale_claim);
    // It denies a user until the budget has ended, and gives no time at all.
    let no_time =
        |answer: Answer| Answer { stated: Stated { as_of_us: None, ..answer.stated.clone() }, ..answer };
    let denied = judged(BALANCE, vec![p()], vec![no_time(unknown(NOON))]);
    assert_eq!(denied, (Verdict::Mismatch, Some(Reason::Status)));
    // A version that the ledger does not have.
    let nowhere = judged(BALANCE, vec![p(), stale(NOON + 300_000)], vec![balance(9, 100, NOON)]);
    assert_eq!(nowhere, (Verdict::Mismatch, Some(Reason::VersionFromNowhere)));
    // A version that the ledger has, and that the primary's own queries did not show for a while: it is waited for, and must be the same then.
    let late = |version, coins| vec![p(), stale(NOON + 300_000), balance(version, coins, NOON + 600_000)];
    assert_eq!(judged(BALANCE, late(9, 100), vec![balance(9, 100, NOON)]), LATER);
    let differs = judged(BALANCE, late(9, 101), vec![balance(9, 100, NOON)]);
    assert_eq!(differs, (Verdict::Mismatch, Some(Reason::Content)));
    // A fixed clock, ahead of ours on both sides, claims nothing; on one side it does, whatever else is right.
    let fixed = |answer: Answer| Answer {
        stated: Stated { as_of_us: Some(NOON + 999 * SECOND), ..answer.stated.clone() },
        ..answer
    };
    let behind = || vec![fixed(balance(4, 90, NOON)), fixed(balance(5, 100, NOON + 50_000))];
    assert_eq!(judged(BALANCE, vec![fixed(p())], behind()), UNPROVEN);
    let ahead = (Verdict::Mismatch, Some(Reason::AsOfAhead));
    assert_eq!(judged(BALANCE, vec![p()], behind()), ahead);
    assert_eq!(judged(BALANCE, vec![p()], vec![fixed(p())]), ahead);
    assert_eq!(judged(BALANCE, vec![p()], vec![native(fixed(p()))]), ahead);
    assert_eq!(judged(BALANCE, vec![fixed(p())], vec![p()]), (Verdict::Equal, None));
}

#[test]
fn what_the_primary_showed_long_before_is_remembered() {
    let mut history = History::default();
    history.note(user(42), 5, NOON - 10 * SECOND);
    // The primary is asked at once after a restart, and behind as well: equal, but both stale.
    let play =
        Play { history, ..Play::new(get(BALANCE), vec![balance(5, 100, NOON)], vec![balance(4, 90, NOON)]) };
    assert_eq!(play.run().0.reason, Some(Reason::StaleClaimsFresh));
    // Without the memory, this candidate would have caught up.
    let forgetful =
        judged(BALANCE, vec![balance(5, 100, NOON)], vec![balance(4, 90, NOON), balance(5, 100, NOON)]);
    assert_eq!(forgetful, UNPROVEN);
}

/// A candidate once answered every first question with version 1 and an invented amount, and the right thing when it was asked again:
/// all had "caught up", consistent and proven. What the primary has shown of a version decides; where it never did, nobody knows.
#[test]
fn what_was_said_at_first_is_held_against_what_the_primary_showed_of_that_version() {
    let shown = |version: u64, coins: i64| {
        let mut history = History::default();
        history.note(user(42), version, NOON);
        history.keep(user(42), Aspect::of(&get(BALANCE).question), version, || body(version, coins).into());
        history
    };
    let judge = |history: History, request: Request, primary: Vec<Answer>, candidate: Vec<Answer>| {
        let ruling = Play { history, ..Play::new(request, primary, candidate) }.run().0;
        (ruling.verdict, ruling.reason)
    };
    let behind = |coins: i64| vec![balance(4, coins, NOON + 100), balance(5, 100, NOON + 50_000)];
    let p = || vec![balance(5, 100, NOON)];
    assert_eq!(
        judge(shown(4, 90), get(BALANCE), p(), behind(90)),
        (Verdict::CaughtUp, Some(Reason::ShownBefore))
    );
    assert_eq!(
        judge(shown(4, 90), get(BALANCE), p(), behind(91)),
        (Verdict::Mismatch, Some(Reason::Content))
    );
    assert_eq!(judge(shown(3, 90), get(BALANCE), p(), behind(90)), UNPROVEN);
    let incomplete = |answer: Answer| Answer {
        stated: Stated { is_quarantined: true, ..answer.stated.clone() },
        ..answer
    };
    let flagged = vec![incomplete(balance(4, 91, NOON + 100)), balance(5, 100, NOON + 50_000)];
    assert_eq!(
        judge(shown(4, 90), get(BALANCE), p(), flagged),
        UNPROVEN,
        "it said itself that it lacks some"
    );
    // Of a batch, each account for itself.
    let other = |version, coins| body(version, coins).replace(r#",{"asset":"USD","available":"7"}"#, "");
    let shown = || {
        let mut history = History::default();
        history.keep(user(1), Aspect::of(&get(BALANCE).question), 4, || {
            other(4, 90).replace("\"42\"", "\"1\"").into()
        });
        history
    };
    let single = || answer(200, Some(5), &other(5, 100).replace("\"42\"", "\"1\""), NOON + 50_000);
    for (coins, expected) in [
        (90, (Verdict::CaughtUp, Some(Reason::ShownBefore))),
        (91, (Verdict::Mismatch, Some(Reason::Content))),
    ] {
        let candidate = vec![entries(&[entry(1, 4, coins)], NOON + 100), single()];
        let primary = vec![entries(&[entry(1, 5, 100)], NOON)];
        assert_eq!(judge(shown(), batch(&[1]), primary, candidate), expected);
    }
}

#[test]
fn statistics_of_an_older_version_may_differ_in_windows_that_have_moved_on() {
    let ruled = |day: i64, lifetime: i64| {
        let mut history = History::default();
        let question = get(STATISTICS).question;
        history.keep(user(42), Aspect::of(&question), 3, || statistics(3, 500, 900, NOON).body);
        let candidate =
            vec![statistics(3, day, lifetime, NOON + 100), statistics(4, 600, 1_000, NOON + 50_000)];
        let play = Play::new(get(STATISTICS), vec![statistics(4, 600, 1_000, NOON)], candidate);
        let ruling = Play { history, ..play }.run().0;
        (ruling.verdict, ruling.reason)
    };
    assert_eq!(ruled(200, 900), (Verdict::CaughtUp, Some(Reason::ShownBefore)));
    assert_eq!(ruled(500, 901), (Verdict::Mismatch, Some(Reason::Content)));
}

#[test]
fn a_callers_own_age_limit_is_no_contradiction() {
    let target = "/v1/users/42/balance?max_age_ms=5";
    let limited = judged(
        target,
        vec![balance(5, 100, NOON)],
        vec![stale(NOON + 300_000), balance(5, 100, NOON + 400_000)],
    );
    assert_eq!(limited, LATER);
}

#[test]
fn a_window_may_move_on_between_two_answers_but_not_twice() {
    // 10:00:00, ten milliseconds after the primary and ten before the candidate.
    let hour = NOON + 1_800 * SECOND;
    let p = statistics(3, 500, 900, hour - 10_000);
    let moved = statistics(3, 200, 900, hour + 10_000);
    let later = |answer: &Answer, at_us| Answer {
        at: Moment { asked_us: at_us - 500, answered_us: at_us },
        ..answer.clone()
    };
    let play = Play::new(
        get(STATISTICS),
        vec![p.clone(), later(&moved, hour + 200_000)],
        vec![moved.clone(), later(&moved, hour + 250_000)],
    );
    let (ruling, asked) = play.run();
    assert_eq!((ruling.verdict, ruling.reason), (Verdict::CaughtUp, Some(Reason::WindowBoundary)));
    assert_eq!(asked, [(Side::Primary, 0), (Side::Candidate, 0)]);
    // Off by one bucket: the boundary passes, and the difference stays.
    let wrong = statistics(3, 300, 900, hour + 10_000);
    let off = judged(
        STATISTICS,
        vec![p.clone(), later(&moved, hour + 200_000)],
        vec![wrong.clone(), later(&wrong, hour + 250_000)],
    );
    assert_eq!(off, (Verdict::Mismatch, Some(Reason::WindowContent)));
    // Far from a boundary, or in a window without one, nothing is asked again.
    let far = |day, lifetime| vec![statistics(3, day, lifetime, NOON)];
    assert_eq!(
        judged(STATISTICS, far(500, 900), far(200, 900)),
        (Verdict::Mismatch, Some(Reason::WindowContent))
    );
    let lifetime = judged(STATISTICS, vec![p], vec![statistics(3, 500, 901, hour + 10_000)]);
    assert_eq!(lifetime, (Verdict::Mismatch, Some(Reason::Content)));
}

#[test]
fn a_boundary_is_seen_however_many_windows_it_moves() {
    let hour = NOON + 1_800 * SECOND;
    let many = |day: i64, at_us| {
        let asset = |n: usize| {
            let fields: Vec<String> = (0..9).map(|field| format!(r#""f{field}":"{day}""#)).collect();
            format!(r#"{{"asset":"A{n}","windows":{{"24h":{{{}}}}}}}"#, fields.join(","))
        };
        let assets: Vec<String> = (0..16).map(asset).collect();
        let body = format!(r#"{{"version":"3","statistics":[{}]}}"#, assets.join(","));
        answer(200, Some(3), &body, at_us)
    };
    let passed = judged(
        STATISTICS,
        vec![many(5, hour - 10_000), many(4, hour + 200_000)],
        vec![many(4, hour + 10_000), many(4, hour + 250_000)],
    );
    assert_eq!(passed, (Verdict::CaughtUp, Some(Reason::WindowBoundary)));
}

#[test]
fn a_quarantined_side_is_asked_again_and_excuses_nothing_else() {
    let quarantined = |answer: Answer| Answer {
        stated: Stated { is_quarantined: true, ..answer.stated.clone() },
        ..answer
    };
    let p = || balance(5, 100, NOON);
    // The same content, and a flag on one side that stays: callers of one side would see it, and of the other would not.
    let flag = (Verdict::Mismatch, Some(Reason::Flag));
    assert_eq!(judged(BALANCE, vec![p()], vec![quarantined(p())]), flag);
    assert_eq!(judged(BALANCE, vec![quarantined(p())], vec![p()]), flag);
    assert_eq!(judged(BALANCE, vec![p()], vec![quarantined(p()), p()]), LATER);
    // Of an account that both call incomplete nobody knows anything.
    let unknown = (Verdict::Unproven, Some(Reason::Quarantined));
    assert_eq!(judged(BALANCE, vec![quarantined(p())], vec![quarantined(p())]), unknown);
    assert_eq!(judged(BALANCE, vec![quarantined(p())], vec![native(quarantined(p()))]), unknown);
    let repaired =
        judged(BALANCE, vec![p()], vec![quarantined(balance(5, 90, NOON)), balance(5, 100, NOON + 50_000)]);
    assert_eq!(repaired, UNPROVEN);
    let wrong =
        judged(BALANCE, vec![p()], vec![quarantined(balance(5, 90, NOON)), balance(5, 90, NOON + 50_000)]);
    assert_eq!(wrong, (Verdict::Mismatch, Some(Reason::Content)));
    let for_ever = judged(BALANCE, vec![p()], vec![quarantined(balance(5, 90, NOON))]);
    assert_eq!(for_ever, (Verdict::NotComparable, Some(Reason::Quarantined)));
}

/// A candidate once answered with another user's account, or with none of its transactions, always of a lower version: it
/// was asked again, said the right thing, and had "caught up".
#[test]
fn what_an_answer_is_no_version_excuses() {
    let p = || balance(5, 100, NOON);
    let again = || balance(5, 100, NOON + 50_000);
    let with = |version: u64, text: &str| answer(200, Some(version), text, NOON);
    let other_user = with(3, &body(3, 90).replace("\"42\"", "\"43\""));
    let newer_user = with(9, &body(9, 90).replace("\"42\"", "\"43\""));
    let empty = with(0, r#"{"user_id":"42","version":"0","balances":[]}"#);
    let lacks = with(3, r#"{"user_id":"42","version":"3","balances":[{"asset":"COIN"}]}"#);
    let bare = with(3, &body(3, 90).replace("\"90\"", "90"));
    let nobodys = with(3, r#"{"version":"3","balances":[]}"#);
    let kind = Answer {
        stated: Stated { content_type: Some("text/plain".to_owned()), ..balance(3, 90, NOON).stated },
        ..balance(3, 90, NOON)
    };
    for (first, reason) in [
        (other_user, Reason::User),
        (newer_user, Reason::User),
        (empty, Reason::Empty),
        (lacks, Reason::Missing),
        (bare, Reason::Type),
        (nobodys, Reason::Missing),
        (kind, Reason::Header),
        // Nobody has asked for a version yet.
        (stale(NOON), Reason::Status),
    ] {
        let ruled = judged(BALANCE, vec![p()], vec![first.clone(), again()]);
        assert_eq!(ruled, (Verdict::Mismatch, Some(reason)), "{first:?}");
    }
    // Somebody who has just come may be unknown for a moment; who has a past may not.
    let new = judged(BALANCE, vec![balance(1, 10, NOON)], vec![unknown(NOON), balance(1, 10, NOON + 50_000)]);
    assert_eq!(new, UNPROVEN);
    let denied = judged(BALANCE, vec![p()], vec![unknown(NOON), again()]);
    assert_eq!(denied, (Verdict::NotComparable, Some(Reason::UnknownAtFirst)));
    let mut history = History::default();
    history.note(user(42), 0, NOON - SECOND);
    let play = Play { history, ..Play::new(get(BALANCE), vec![p()], vec![unknown(NOON), again()]) };
    assert_eq!(play.run().0.verdict, Verdict::CaughtUp, "the primary did not know the user either, before");
    // Behind for longer than catching up may take, and no time that it could be held to.
    let no_time =
        |answer: Answer| Answer { stated: Stated { as_of_us: None, ..answer.stated.clone() }, ..answer };
    let mut history = History::default();
    history.note(user(42), 5, NOON - 5 * SECOND);
    let scripts = (vec![no_time(p())], vec![no_time(balance(4, 90, NOON)), no_time(again())]);
    let play = Play { history, ..Play::new(get(BALANCE), scripts.0, scripts.1) };
    assert_eq!(play.run().0.reason, Some(Reason::CandidateBehind));
}

#[test]
fn a_candidate_that_fails_while_it_is_asked_again_has_failed() {
    let mut case = Case::open(&get(BALANCE), balance(5, 100, NOON), balance(4, 90, NOON), &judge_settings());
    let mut history = History::default();
    assert!(matches!(case.step(&judge_settings(), &mut history, NOON), Step::Ask(_)));
    case.answered(Err(Failure { reason: Reason::Timeout, detail: "late".to_owned() }));
    let Step::Done(ruling) = case.step(&judge_settings(), &mut history, NOON) else {
        panic!("it is decided")
    };
    assert_eq!((ruling.verdict, ruling.reason), (Verdict::CandidateError, Some(Reason::Timeout)));
}
