//! Whole cases: what must be said of two answers, and what is asked on the way there.

mod batches;
mod catching_up;
mod right_services;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use florin_schema::UserId;
use http::Method;

use super::{
    Action, ByteComparison, Case, Failure, History, JudgeSettings, Limits, Pattern, Reason, Rule, RuleIndex,
    Rules, Ruling, Side, Step, Verdict,
};
use crate::answer::{Answer, Form, Moment, Stated};
use crate::judge::history::Aspect;
use crate::request::Request;

const SECOND: i64 = 1_000_000;
/// 2026-11-22T10:30:00Z: half an hour from any boundary.
const NOON: i64 = 1_795_343_400 * SECOND;
const LIMITS: Limits = Limits { clock_skew_us: 100_000, budget_us: SECOND, asks_max: 50 };

fn judge_settings() -> JudgeSettings {
    JudgeSettings { rules: Rules::default(), limits: LIMITS }
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
    judge_settings: JudgeSettings,
    history: History,
    primary: VecDeque<Answer>,
    candidate: VecDeque<Answer>,
}

impl Play {
    fn new(request: Request, primary: Vec<Answer>, candidate: Vec<Answer>) -> Play {
        Play {
            request,
            judge_settings: judge_settings(),
            history: History::default(),
            primary: primary.into(),
            candidate: candidate.into(),
        }
    }

    fn run(mut self) -> (Ruling, Vec<(Side, u64)>) {
        let (p, c) = (self.primary.pop_front().unwrap(), self.candidate.pop_front().unwrap());
        let mut last = [p.clone(), c.clone()];
        let mut now_us = p.at.answered_us.max(c.at.answered_us);
        let mut case = Case::open(&self.request, p, c, &self.judge_settings);
        let mut asked = Vec::new();
        loop {
            match case.step(&self.judge_settings, &mut self.history, now_us) {
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

fn entry(id: u64, version: u64, coins: i64) -> String {
    format!(
        r#"{{"user_id":"{id}","status":"OK","balance":{{"user_id":"{id}","version":"{version}","balances":[{{"asset":"COIN","available":"{coins}"}}]}}}}"#
    )
}

fn entries(list: &[String], at_us: i64) -> Answer {
    answer(200, None, &format!(r#"{{"balances":[{}]}}"#, list.join(",")), at_us)
}

#[test]
fn a_native_answer_with_the_primarys_very_words_is_equal_without_being_read() {
    // What cannot be read shows that it was not.
    let words = |at_us| answer(200, Some(5), "{not JSON", at_us);
    let play = Play::new(get(BALANCE), vec![words(NOON)], vec![native(words(NOON + 1))]);
    let (ruling, asked) = play.run();
    assert_eq!(
        (ruling.verdict, ruling.bytes, ruling.versions()),
        (Verdict::Equal, ByteComparison::Native, Some((5, 5)))
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
    assert_eq!(empty.run().0.bytes, ByteComparison::Native);
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
    assert_eq!(ruling(&body(5, 100)).bytes, ByteComparison::Identical);
    assert_eq!(ruling(reordered).bytes, ByteComparison::KeyOrder);
    assert_eq!(ruling(&body(5, 100).replace(',', " , ")).bytes, ByteComparison::Spelling);
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
    assert_eq!(
        ruled(packed(p(), b"a"), packed(p(), b"a")),
        (Verdict::Equal, None, ByteComparison::Identical)
    );
    assert_eq!(ruled(packed(p(), b"a"), packed(p(), b"b")), (Verdict::Equal, None, ByteComparison::Coding));
    assert_eq!(ruled(p(), packed(p(), b"b")), (Verdict::Equal, None, ByteComparison::Coding));
    let spaced = packed(with(&body(5, 100).replace(',', " ,")), b"b");
    assert_eq!(ruled(packed(p(), b"a"), spaced), (Verdict::Equal, None, ByteComparison::Spelling));
    let wrong = packed(balance(5, 101, NOON), b"a");
    assert_eq!(
        ruled(packed(p(), b"a"), wrong),
        (Verdict::Mismatch, Some(Reason::Content), ByteComparison::Different)
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
        play.judge_settings.rules = Rules::new(rules);
        play.run().0
    };
    let explained = ruled(vec![rule("nothing"), rule("balances[COIN].available")]);
    assert_eq!((explained.verdict, explained.rules), (Verdict::Explained, vec![RuleIndex(1)]));
    assert_eq!(ruled(vec![rule("balances[USD]")]).verdict, Verdict::Mismatch);
}
