//! Whole cases: what must be said of two answers, and what is asked on the way there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use florin_schema::UserId;
use http::Method;
use proptest::prelude::*;

use super::Bytes as Bytes_;
use super::{
    Action, Aspect, Case, Failure, History, Law, Limits, Pattern, Reason, Rule, RuleIndex, Rules, Ruling,
    Side, Step, Verdict,
};
use crate::answer::{Answer, Form, Moment, Stated};
use crate::request::Request;

const SECOND: i64 = 1_000_000;
/// 2026-11-22T10:30:00Z: half an hour from any boundary.
const NOON: i64 = 1_795_343_400 * SECOND;
const LIMITS: Limits = Limits { clock_skew_us: 100_000, budget_us: SECOND, asks_max: 50 };

fn law() -> Law {
    Law { rules: Rules::default(), limits: LIMITS }
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn get(target: &str) -> Request {
    Request::new(Method::GET, target.to_owned(), Arc::default(), Bytes::new())
}

fn batch(users: &[u64]) -> Request {
    let ids: Vec<String> = users.iter().map(|id| format!("\"{id}\"")).collect();
    let body = Bytes::from(format!("{{\"user_ids\":[{}]}}", ids.join(",")));
    Request::new(Method::POST, "/v1/balances:batchGet".to_owned(), Arc::default(), body)
}

/// An answer that was asked and given at `at_us`, as of a millisecond before.
fn answer(status: u16, version: Option<u64>, body: &str, at_us: i64) -> Answer {
    let kind = if status < 300 { "application/json" } else { "application/problem+json" };
    Answer {
        status,
        form: Form::Http,
        stated: Stated {
            as_of_us: Some(at_us - 1_000),
            version,
            is_quarantined: false,
            content_type: Some(kind.to_owned()),
            ..Stated::default()
        },
        body: Bytes::from(body.to_owned()),
        packed: None,
        at: Moment { asked_us: at_us - 500, answered_us: at_us },
    }
}

fn body(version: u64, coins: i64) -> String {
    format!(
        r#"{{"user_id":"42","version":"{version}","balances":[{{"asset":"COIN","available":"{coins}"}},{{"asset":"USD","available":"7"}}]}}"#
    )
}

fn balance(version: u64, coins: i64, at_us: i64) -> Answer {
    answer(200, Some(version), &body(version, coins), at_us)
}

fn unknown(at_us: i64) -> Answer {
    answer(404, None, r#"{"status":404,"detail":"never named"}"#, at_us)
}

fn stale(at_us: i64) -> Answer {
    answer(412, None, r#"{"status":412}"#, at_us)
}

fn statistics(version: u64, day: i64, lifetime: i64, at_us: i64) -> Answer {
    let body = format!(
        r#"{{"version":"{version}","statistics":[{{"asset":"COIN","windows":{{"24h":{{"debit_sum":"{day}"}},"lifetime":{{"debit_sum":"{lifetime}"}}}}}}]}}"#
    );
    answer(200, Some(version), &body, at_us)
}

/// Runs a case whose questions are answered from a script; a side whose script has ended gives its last answer again,
/// as of later. Returns the ruling, and what was asked.
struct Play {
    request: Request,
    law: Law,
    history: History,
    primary: VecDeque<Answer>,
    candidate: VecDeque<Answer>,
}

impl Play {
    fn new(request: Request, primary: Vec<Answer>, candidate: Vec<Answer>) -> Play {
        Play {
            request,
            law: law(),
            history: History::default(),
            primary: primary.into(),
            candidate: candidate.into(),
        }
    }

    fn run(mut self) -> (Ruling, Vec<(Side, u64)>) {
        let (p, c) = (self.primary.pop_front().unwrap(), self.candidate.pop_front().unwrap());
        let mut last = [p.clone(), c.clone()];
        let mut now_us = p.at.answered_us.max(c.at.answered_us);
        let mut case = Case::open(&self.request, p, c, &self.law);
        let mut asked = Vec::new();
        loop {
            match case.step(&self.law, &mut self.history, now_us) {
                Step::Done(ruling) => return (ruling, asked),
                Step::Ask(ask) => {
                    assert!(asked.len() < 1_000, "the judge does not end: {asked:?}");
                    asked.push((ask.side, ask.min_version));
                    let script = match ask.side {
                        Side::Primary => &mut self.primary,
                        Side::Candidate => &mut self.candidate,
                    };
                    now_us += 50_000;
                    let answer = script.pop_front().unwrap_or_else(|| {
                        let mut again = last[ask.side as usize].clone();
                        // Nobody's view moves on by itself: it says the same, as of the same time.
                        again.at = Moment { asked_us: now_us - 500, answered_us: now_us };
                        again
                    });
                    now_us = now_us.max(answer.at.answered_us);
                    last[ask.side as usize] = answer.clone();
                    case.answered(Ok(answer));
                }
            }
        }
    }
}

#[track_caller]
fn judged(request: &str, primary: Vec<Answer>, candidate: Vec<Answer>) -> (Verdict, Option<Reason>) {
    let (ruling, _) = Play::new(get(request), primary, candidate).run();
    (ruling.verdict, ruling.reason)
}

/// Both say the same in the end, and nobody has seen whether what the candidate said at first was ever true.
const UNPROVEN: (Verdict, Option<Reason>) = (Verdict::Unproven, Some(Reason::NeverShown));
/// What the candidate said at once, the primary said later.
const LATER: (Verdict, Option<Reason>) = (Verdict::CaughtUp, Some(Reason::LaterAnswer));

const BALANCE: &str = "/v1/users/42/balance";
const STATISTICS: &str = "/v1/users/42/statistics";

/// The same content from a florin node asked in its own protocol.
fn native(answer: Answer) -> Answer {
    let Stated { as_of_us, version, is_quarantined, .. } = answer.stated;
    Answer {
        form: Form::Native,
        stated: Stated { as_of_us, version, is_quarantined, ..Stated::default() },
        ..answer
    }
}

#[test]
fn a_native_answer_with_the_primarys_very_words_is_equal_without_being_read() {
    // What cannot be read shows that it was not.
    let words = |at_us| answer(200, Some(5), "{not JSON", at_us);
    let play = Play::new(get(BALANCE), vec![words(NOON)], vec![native(words(NOON + 1))]);
    let (ruling, asked) = play.run();
    assert_eq!(
        (ruling.verdict, ruling.bytes, ruling.versions()),
        (Verdict::Equal, Bytes_::Native, Some((5, 5)))
    );
    assert!(asked.is_empty());
    let unstated = Answer { stated: Stated { version: None, ..words(NOON).stated }, ..words(NOON) };
    let play = Play::new(get(BALANCE), vec![unstated], vec![native(words(NOON + 1))]);
    assert_eq!(play.run().0.versions(), Some((5, 5)), "the candidate says the version");
}

#[test]
fn a_native_answer_that_says_something_else_beside_its_body_is_read() {
    let p = || balance(5, 100, NOON);
    let with = |change: fn(&mut Answer)| {
        let mut candidate = native(balance(5, 100, NOON + 1));
        change(&mut candidate);
        Play::new(get(BALANCE), vec![p()], vec![candidate]).run().0
    };
    assert_eq!(with(|_| {}).verdict, Verdict::Equal);
    assert_eq!(with(|candidate| candidate.status = 404).verdict, Verdict::Mismatch);
    assert_eq!(with(|candidate| candidate.body = Bytes::from(body(5, 101))).verdict, Verdict::Mismatch);
    // Nobody but the judge of contents may say what a body without words is worth.
    let empty =
        Play::new(get(BALANCE), vec![answer(200, None, "", NOON)], vec![native(answer(200, None, "", NOON))]);
    assert_eq!(empty.run().0.bytes, Bytes_::Native);
}

#[test]
fn the_same_words_are_read_where_a_newer_version_has_been_shown() {
    let mut play = Play::new(
        get(BALANCE),
        vec![balance(4, 90, NOON + 400_000)],
        vec![native(balance(4, 90, NOON + 400_001))],
    );
    play.history.note(user(42), 5, NOON);
    assert_eq!(play.run().0.reason, Some(Reason::StaleClaimsFresh));
}

#[test]
fn two_first_answers_of_one_version_are_ruled_at_once() {
    let p = || balance(5, 100, NOON);
    let with = |text: &str| answer(200, Some(5), text, NOON);
    let reordered = r#"{"version":"5","user_id":"42","balances":[{"asset":"COIN","available":"100"},{"asset":"USD","available":"7"}]}"#;
    let swapped = r#"{"user_id":"42","version":"5","balances":[{"asset":"USD","available":"7"},{"asset":"COIN","available":"100"}]}"#;
    let without = r#"{"user_id":"42","version":"5","balances":[{"asset":"COIN","available":"100"}]}"#;
    let numbers = body(5, 100).replace("\"100\"", "100");
    let other_kind =
        Answer { stated: Stated { content_type: Some("text/plain".to_owned()), ..p().stated }, ..p() };
    let no_version = Answer { stated: Stated { version: None, ..p().stated }, ..p() };
    let no_age = Answer { stated: Stated { as_of_us: None, ..p().stated }, ..p() };
    let other_header = Answer { stated: Stated { version: Some(6), ..p().stated }, ..p() };
    let failed = |status| answer(status, None, "", NOON);
    let cases = [
        (p(), (Verdict::Equal, None)),
        (with(&body(5, 100).replace(',', " , ")), (Verdict::Equal, None)),
        (with(reordered), (Verdict::Equal, None)),
        (with(&body(5, 101)), (Verdict::Mismatch, Some(Reason::Content))),
        (with(&numbers), (Verdict::Mismatch, Some(Reason::Type))),
        (with(swapped), (Verdict::Mismatch, Some(Reason::Order))),
        (with(without), (Verdict::Mismatch, Some(Reason::Missing))),
        (with("{"), (Verdict::Mismatch, Some(Reason::Type))),
        (other_kind, (Verdict::Mismatch, Some(Reason::Header))),
        (other_header, (Verdict::Mismatch, Some(Reason::Header))),
        (no_version, (Verdict::Mismatch, Some(Reason::Header))),
        (no_age, (Verdict::Mismatch, Some(Reason::Header))),
        (with(""), (Verdict::Mismatch, Some(Reason::Type))),
        (answer(400, None, "{}", NOON), (Verdict::Mismatch, Some(Reason::Status))),
        (failed(500), (Verdict::CandidateError, Some(Reason::CandidateStatus(500)))),
        (failed(503), (Verdict::CandidateError, Some(Reason::CandidateStatus(503)))),
        (failed(429), (Verdict::CandidateError, Some(Reason::CandidateStatus(429)))),
    ];
    for (candidate, expected) in cases {
        let (ruling, asked) = Play::new(get(BALANCE), vec![p()], vec![candidate.clone()]).run();
        assert_eq!((ruling.verdict, ruling.reason), expected, "{candidate:?}");
        assert_eq!(asked, [], "{candidate:?}");
    }
    let ruling = |text: &str| Play::new(get(BALANCE), vec![p()], vec![with(text)]).run().0;
    assert_eq!(ruling(&body(5, 100)).bytes, Bytes_::Identical);
    assert_eq!(ruling(reordered).bytes, Bytes_::KeyOrder);
    assert_eq!(ruling(&body(5, 100).replace(',', " , ")).bytes, Bytes_::Spelling);
    let differences = ruling(without).differences;
    assert_eq!((differences.len(), differences[0].path.to_string().as_str()), (1, "balances[USD]"));
}

/// An answer that came in these bytes.
fn packed(answer: Answer, bytes: &'static [u8]) -> Answer {
    let stated = Stated { content_encoding: Some("gzip".to_owned()), ..answer.stated.clone() };
    Answer { stated, packed: Some(Bytes::from_static(bytes)), ..answer }
}

#[test]
fn packed_bodies_are_compared_by_what_they_say_and_bytes_are_told_apart() {
    let p = || balance(5, 100, NOON);
    let with = |text: &str| answer(200, Some(5), text, NOON);
    let ruled = |p: Answer, c: Answer| {
        let ruling = Play::new(get(BALANCE), vec![p], vec![c]).run().0;
        (ruling.verdict, ruling.reason, ruling.bytes)
    };
    assert_eq!(ruled(packed(p(), b"a"), packed(p(), b"a")), (Verdict::Equal, None, Bytes_::Identical));
    assert_eq!(ruled(packed(p(), b"a"), packed(p(), b"b")), (Verdict::Equal, None, Bytes_::Coding));
    assert_eq!(ruled(p(), packed(p(), b"b")), (Verdict::Equal, None, Bytes_::Coding));
    let spaced = packed(with(&body(5, 100).replace(',', " ,")), b"b");
    assert_eq!(ruled(packed(p(), b"a"), spaced), (Verdict::Equal, None, Bytes_::Spelling));
    let wrong = packed(balance(5, 101, NOON), b"a");
    assert_eq!(
        ruled(packed(p(), b"a"), wrong),
        (Verdict::Mismatch, Some(Reason::Content), Bytes_::Different)
    );
}

#[test]
fn headers_that_callers_go_by_are_compared() {
    let with = |headers: &[(&'static str, &str)]| {
        let answer = balance(5, 100, NOON);
        let compared =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), (*value).to_owned()));
        Answer { stated: Stated { compared: compared.collect(), ..answer.stated.clone() }, ..answer }
    };
    let cached = || with(&[("cache-control", "no-store")]);
    assert_eq!(judged(BALANCE, vec![cached()], vec![cached()]), (Verdict::Equal, None));
    for other in [with(&[]), with(&[("cache-control", "max-age=9")])] {
        for (p, c) in [(cached(), other.clone()), (other.clone(), cached())] {
            assert_eq!(judged(BALANCE, vec![p], vec![c]), (Verdict::Mismatch, Some(Reason::Header)));
        }
    }
}

#[test]
fn empty_bodies_and_such_as_are_no_json_are_compared_by_their_bytes() {
    let with = |text: &str| answer(200, Some(5), text, NOON);
    let ruled = |p: &str, c: &str| judged(BALANCE, vec![with(p)], vec![with(c)]);
    assert_eq!(ruled("", ""), (Verdict::Equal, None));
    assert_eq!(ruled("no json", "no json"), (Verdict::Equal, None));
    assert_eq!(ruled("no json", "none"), (Verdict::Mismatch, Some(Reason::Type)));
    assert_eq!(ruled("", "null"), (Verdict::Mismatch, Some(Reason::Type)));
    // The same bytes, under another header.
    let other = Answer { stated: Stated { content_type: None, ..with("x").stated }, ..with("x") };
    assert_eq!(judged(BALANCE, vec![with("x")], vec![other]), (Verdict::Mismatch, Some(Reason::Header)));
}

#[test]
fn refusals_are_compared_too() {
    assert_eq!(judged(BALANCE, vec![unknown(NOON)], vec![unknown(NOON)]), (Verdict::Equal, None));
    let other = answer(404, None, r#"{"status":404,"detail":"gone"}"#, NOON);
    assert_eq!(judged(BALANCE, vec![unknown(NOON)], vec![other]), (Verdict::Mismatch, Some(Reason::Content)));
    // What a refusal says about the moment is no difference.
    let busy = |words: &str| answer(503, None, words, NOON);
    assert_eq!(judged(BALANCE, vec![busy("a")], vec![busy("b")]), (Verdict::Equal, None));
    let old = |words: &str| answer(412, None, words, NOON);
    assert_eq!(judged(BALANCE, vec![old("at 3")], vec![old("at 4")]), (Verdict::Equal, None));
}

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
fn refusals_are_no_content_and_accounts_are_counted() {
    let ruled =
        |request: Request, answer: Answer| Play::new(request, vec![answer.clone()], vec![answer]).run().0;
    let one = ruled(get(BALANCE), balance(5, 100, NOON));
    assert_eq!((one.has_content, one.accounts), (true, vec![(user(42), Some(5))]));
    for refusal in [unknown(NOON), stale(NOON), answer(503, None, "", NOON), answer(200, None, "", NOON)] {
        let none = ruled(get(BALANCE), refusal);
        assert_eq!((none.verdict, none.has_content, none.accounts), (Verdict::Equal, false, vec![]));
    }
    let two = ruled(batch(&[1, 2]), entries(&[entry(1, 5, 10), entry(2, 8, 20)], NOON));
    assert_eq!(two.accounts, vec![(user(1), None), (user(2), None)]);
}

#[test]
fn rules_explain_and_say_which() {
    let rule = |path: &str| Rule {
        name: path.to_owned(),
        reason: "agreed".to_owned(),
        endpoint: None,
        action: Action::Ignore(Pattern::parse(path).unwrap()),
    };
    let ruled = |rules: Vec<Rule>| {
        let mut play = Play::new(get(BALANCE), vec![balance(5, 100, NOON)], vec![balance(5, 101, NOON)]);
        play.law.rules = Rules::new(rules);
        play.run().0
    };
    let explained = ruled(vec![rule("nothing"), rule("balances[COIN].available")]);
    assert_eq!((explained.verdict, explained.rules), (Verdict::Explained, vec![RuleIndex(1)]));
    assert_eq!(ruled(vec![rule("balances[USD]")]).verdict, Verdict::Mismatch);
}

fn entry(id: u64, version: u64, coins: i64) -> String {
    format!(
        r#"{{"user_id":"{id}","status":"OK","balance":{{"user_id":"{id}","version":"{version}","balances":[{{"asset":"COIN","available":"{coins}"}}]}}}}"#
    )
}

fn entries(list: &[String], at_us: i64) -> Answer {
    answer(200, None, &format!(r#"{{"balances":[{}]}}"#, list.join(",")), at_us)
}

/// Whose history is incomplete is part of what an entry says: a batch that flags the wrong account was once equal to one that flags
/// the right one, for both had one flag for all.
#[test]
fn an_entrys_flag_is_its_own() {
    let single = |user: u64, is_quarantined| {
        let body = format!(
            r#"{{"user_id":"{user}","version":"5","balances":[{{"asset":"COIN","available":"10"}}]}}"#
        );
        let answer = answer(200, Some(5), &body, NOON + 50_000);
        Answer { stated: Stated { is_quarantined, ..answer.stated.clone() }, ..answer }
    };
    let flagged = |which: [bool; 2]| {
        let entry = |(user, is_flagged)| {
            let entry: String = entry(user, 5, 10);
            if is_flagged { entry.replacen(r#""OK""#, r#""OK","quarantined":true"#, 1) } else { entry }
        };
        let answer = entries(&[1, 2].into_iter().zip(which).map(entry).collect::<Vec<_>>(), NOON);
        Answer { stated: Stated { is_quarantined: true, ..answer.stated.clone() }, ..answer }
    };
    let run = |c: Answer, p_again: Vec<Answer>, c_again: Vec<Answer>| {
        let primary = std::iter::once(flagged([true, false])).chain(p_again).collect();
        let candidate = std::iter::once(c).chain(c_again).collect();
        Play::new(batch(&[1, 2]), primary, candidate).run().0
    };
    let alike = run(flagged([true, false]), vec![], vec![]);
    assert_eq!((alike.verdict, alike.reason), (Verdict::Unproven, Some(Reason::Quarantined)));
    assert_eq!(alike.accounts, [(user(2), Some(5))]);
    // Neither side is asked in vain: what it goes on saying of one account by itself decides.
    let wrong = run(flagged([true, true]), vec![], vec![single(2, true)]);
    assert_eq!((wrong.verdict, wrong.reason), (Verdict::Mismatch, Some(Reason::Flag)));
    let passing = run(flagged([true, true]), vec![], vec![single(2, false)]);
    assert_eq!(passing.accounts, [(user(2), Some(5))]);
    // An older server's flag is for all.
    let older = entries(&[entry(1, 5, 10), entry(2, 5, 10)], NOON);
    let older = Answer { stated: Stated { is_quarantined: true, ..older.stated.clone() }, ..older };
    assert_eq!(run(older, vec![], vec![single(2, false)]).accounts, [(user(2), Some(5))]);
}

#[test]
fn each_account_of_a_batch_is_judged_by_its_own_version() {
    let p = entries(&[entry(1, 5, 10), entry(2, 8, 20), entry(1, 5, 10)], NOON);
    let single = |version, coins, at_us| {
        let body = format!(
            r#"{{"user_id":"2","version":"{version}","balances":[{{"asset":"COIN","available":"{coins}"}}]}}"#
        );
        answer(200, Some(version), &body, at_us)
    };
    let run = |c: Answer, again: Vec<Answer>| {
        let candidate = std::iter::once(c).chain(again).collect();
        Play::new(batch(&[1, 2, 1]), vec![p.clone()], candidate).run()
    };
    assert_eq!(run(p.clone(), vec![]).0.bytes, Bytes_::Identical);
    // One account is behind, and is asked by itself.
    let behind = entries(&[entry(1, 5, 10), entry(2, 7, 15), entry(1, 5, 10)], NOON);
    let (ruling, asked) = run(behind.clone(), vec![single(8, 20, NOON + 50_000)]);
    assert_eq!((ruling.verdict, ruling.versions()), (Verdict::Unproven, Some((5, 5))));
    assert_eq!(ruling.bytes, Bytes_::Different);
    assert_eq!(asked, [(Side::Candidate, 8)]);
    let (ruling, _) = run(behind, vec![single(8, 21, NOON + 50_000)]);
    assert_eq!(ruling.verdict, Verdict::Mismatch);
    assert_eq!(ruling.differences[0].path.to_string(), "balances[1].balance.balances[COIN].available");
    // Somebody else's entry, one too few, and one unknown.
    let swapped = entries(&[entry(1, 5, 10), entry(3, 8, 20), entry(1, 5, 10)], NOON);
    assert!(run(swapped, vec![]).0.differences.iter().any(|d| d.path.to_string() == "balances[1].user_id"));
    let short = entries(&[entry(1, 5, 10), entry(2, 8, 20)], NOON);
    assert_eq!(run(short, vec![]).0.reason, Some(Reason::Missing));
    let unknown_entry = r#"{"user_id":"2","status":"NOT_FOUND"}"#.to_owned();
    let denied = entries(&[entry(1, 5, 10), unknown_entry, entry(1, 5, 10)], NOON + 300_000);
    assert_eq!(run(denied, vec![]).0.reason, Some(Reason::Status));
}

#[test]
fn a_candidate_that_fails_while_it_is_asked_again_has_failed() {
    let mut case = Case::open(&get(BALANCE), balance(5, 100, NOON), balance(4, 90, NOON), &law());
    let mut history = History::default();
    assert!(matches!(case.step(&law(), &mut history, NOON), Step::Ask(_)));
    case.answered(Err(Failure { reason: Reason::Timeout, detail: "late".to_owned() }));
    let Step::Done(ruling) = case.step(&law(), &mut history, NOON) else { panic!("it is decided") };
    assert_eq!((ruling.verdict, ruling.reason), (Verdict::CandidateError, Some(Reason::Timeout)));
}

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
        let law = law();
        let mut history = History::default();
        // Each is judged by what the primary has shown before.
        for _ in 0..5 {
        let first = p.answer(&commits, now_us, 0);
        now_us += 1_000;
        let second = twist(c.answer(&commits, now_us, 0));
        let mut case = Case::open(&get(BALANCE), first, second, &law);
        let ruling = loop {
            match case.step(&law, &mut history, now_us) {
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
