//! One mismatch or error, as evidence shows it.

use std::path::Path;

use http::Method;
use serde::Serialize;

use super::redact::Redaction;
use crate::address::TargetAddress;
use crate::answer::{Answer, rfc3339};
use crate::judge::{Difference, Failure, Ruling, Sides};
use crate::limits::{EVIDENCE_BODY_BYTES_MAX, EVIDENCE_VALUE_BYTES_MAX, LATEST_DIFFERENCES_MAX};
use crate::request::{Question, Request};

/// What a verdict rests on.
pub struct Finding<'a> {
    /// What was asked.
    pub request: &'a Request,
    /// The verdict.
    pub ruling: &'a Ruling,
    /// The primary's last answer.
    pub primary: Option<&'a Answer>,
    /// The candidate's.
    pub candidate: Option<&'a Answer>,
    /// Why the candidate has none.
    pub failure: Option<&'a Failure>,
    /// When, µs since 1970 UTC.
    pub now_us: i64,
}

/// A line of `mismatches.jsonl`.
#[derive(Serialize)]
pub struct Line {
    at: String,
    endpoint: &'static str,
    verdict: &'static str,
    reason: Option<String>,
    says: Option<String>,
    request: RequestLine,
    differences: Vec<DifferenceLine>,
    #[serde(skip_serializing_if = "is_none")]
    more_differences: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    primary: Option<AnswerLine>,
    candidate: Option<AnswerLine>,
    reproduce: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<String>,
}

#[derive(Serialize)]
struct RequestLine {
    method: String,
    target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
}

#[derive(Serialize)]
struct AnswerLine {
    status: u16,
    version: Option<u64>,
    as_of: Option<String>,
    answered_at: String,
    body: String,
}

/// A place that differs, in words.
#[derive(Clone, Serialize, Debug)]
pub struct DifferenceLine {
    /// Where.
    pub path: String,
    /// How.
    pub kind: &'static str,
    /// What the primary has there.
    pub primary: Option<String>,
    /// What the candidate has there.
    pub candidate: Option<String>,
}

/// A finding on the page.
#[derive(Clone, Serialize, Debug)]
pub struct Latest {
    /// RFC 3339.
    pub at: String,
    /// The endpoint's name.
    pub endpoint: &'static str,
    /// The verdict's name.
    pub verdict: &'static str,
    /// The reason's name.
    pub reason: String,
    /// The same in a sentence.
    pub says: String,
    /// Method and target.
    pub request: String,
    /// The first of them.
    pub differences: Vec<DifferenceLine>,
    /// How many more there are.
    pub more: usize,
    /// The one-line command that asks both again.
    pub reproduce: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Finding<'_> {
    /// As a line of the evidence file.
    pub fn line(
        &self,
        redaction: &Redaction,
        sides: &Sides<TargetAddress>,
        recording: Option<&Path>,
    ) -> Line {
        let users = self.request.question.users();
        let ruling = self.ruling;
        Line {
            at: rfc3339(self.now_us),
            endpoint: self.request.question.endpoint().name(),
            verdict: ruling.verdict.name(),
            reason: ruling.reason.map(|reason| reason.name().into_owned()),
            says: ruling.reason.map(|reason| reason.sentence().into_owned()),
            request: RequestLine {
                method: self.request.method.to_string(),
                target: redaction.target(self.request),
                body: redaction.asked(self.request),
            },
            differences: self.differences(redaction, usize::MAX),
            more_differences: ruling.more,
            failure: self.failure.map(|failure| redaction.text(&failure.detail, users)),
            primary: self.primary.map(|answer| self.answer(answer, redaction)),
            candidate: self.candidate.map(|answer| self.answer(answer, redaction)),
            reproduce: self.reproduce(redaction, sides),
            recording: recording.map(|path| path.display().to_string()),
        }
    }

    /// For the page.
    pub fn latest(&self, redaction: &Redaction, sides: &Sides<TargetAddress>) -> Latest {
        let ruling = self.ruling;
        let users = self.request.question.users();
        let detail = self.failure.map(|failure| format!(": {}", redaction.text(&failure.detail, users)));
        let detail = detail.unwrap_or_default();
        let kept = ruling.differences.len().min(LATEST_DIFFERENCES_MAX);
        let target = redaction.target(self.request);
        Latest {
            at: rfc3339(self.now_us),
            endpoint: self.request.question.endpoint().name(),
            verdict: ruling.verdict.name(),
            reason: ruling.reason.map(|reason| reason.name().into_owned()).unwrap_or_default(),
            says: ruling.reason.map(|reason| format!("{}{detail}", reason.sentence())).unwrap_or_default(),
            request: format!("{} {target}", self.request.method),
            differences: self.differences(redaction, LATEST_DIFFERENCES_MAX),
            more: ruling.differences.len() - kept + ruling.more,
            reproduce: self.reproduce(redaction, sides),
        }
    }

    fn differences(&self, redaction: &Redaction, most: usize) -> Vec<DifferenceLine> {
        let users = self.request.question.users();
        let line = |difference: &Difference| {
            let side = |text: &Option<String>| {
                let text = redaction.fragment(difference, text.as_ref()?, users);
                Some(cut(text, EVIDENCE_VALUE_BYTES_MAX))
            };
            DifferenceLine {
                path: redaction.path(&difference.path, users),
                kind: difference.kind.name(),
                primary: side(&difference.primary),
                candidate: side(&difference.candidate),
            }
        };
        self.ruling.differences.iter().take(most).map(line).collect()
    }

    fn answer(&self, answer: &Answer, redaction: &Redaction) -> AnswerLine {
        AnswerLine {
            status: answer.status,
            version: answer.stated.version,
            as_of: answer.stated.as_of_us.map(rfc3339),
            answered_at: rfc3339(answer.at.answered_us),
            body: cut(redaction.body(&answer.body, self.request), EVIDENCE_BODY_BYTES_MAX),
        }
    }

    /// A command that asks both sides again and shows what differs.
    fn reproduce(&self, redaction: &Redaction, sides: &Sides<TargetAddress>) -> String {
        let ask = |side: &TargetAddress| command(self.request, side, redaction);
        format!("diff <({}) <({})", ask(&sides.primary), ask(&sides.candidate))
    }
}

/// The first `most` bytes of a text, and how many there were.
fn cut(mut text: String, most: usize) -> String {
    let bytes = text.len();
    if bytes > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str(&format!("… ({bytes} bytes in all)"));
    }
    text
}

fn command(request: &Request, side: &TargetAddress, redaction: &Redaction) -> String {
    match side {
        TargetAddress::Http(authority) => {
            let target = redaction.target(request);
            let url = quoted(&format!("http://{authority}{target}"));
            match request.method {
                Method::GET => format!("curl -sS {url}"),
                Method::HEAD => format!("curl -sSI {url}"),
                _ => {
                    let body = quoted(&redaction.asked(request));
                    format!(
                        "curl -sS -X {} -H 'Content-Type: application/json' -d {body} {url}",
                        request.method
                    )
                }
            }
        }
        TargetAddress::Rkyv(address) | TargetAddress::FlatBuffers(address) => {
            let name = |user: &florin_schema::UserId| redaction.user(*user);
            let question = match &request.question {
                Question::Balance(user) => format!("balance {}", name(user)),
                Question::Statistics(user, windows) => {
                    let windows: Vec<&str> = windows.iter().map(|window| window.name()).collect();
                    format!("statistics {} --window {}", name(user), windows.join(","))
                }
                Question::Balances(users) => {
                    format!("balances {}", users.iter().map(name).collect::<Vec<_>>().join(" "))
                }
                Question::Other => return "echo 'no native form'".to_owned(),
            };
            format!("florin get {question} --json --addr {}", quoted(&address.to_string()))
        }
    }
}

/// For a shell: nothing within single quotes has a meaning.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::judge::{Reason, Verdict};

    #[test]
    fn a_mismatch_can_be_asked_again_with_one_command() {
        let sides =
            Sides { primary: "http://go:1".parse().unwrap(), candidate: "florin://f:2".parse().unwrap() };
        let ruling = Ruling::plain(Verdict::Mismatch, Some(Reason::Content));
        let command = |method, target: &str, body: &'static str, redaction: &Redaction| {
            let body = Bytes::from_static(body.as_bytes());
            let request = Request::new(method, target.to_owned(), Arc::default(), body);
            let finding = Finding {
                request: &request,
                ruling: &ruling,
                primary: None,
                candidate: None,
                failure: None,
                now_us: 0,
            };
            finding.reproduce(redaction, &sides)
        };
        let shown = Redaction::Shown;
        assert_eq!(
            command(Method::GET, "/v1/users/42/statistics?window=24h", "", &shown),
            "diff <(curl -sS 'http://go:1/v1/users/42/statistics?window=24h') <(florin get statistics 42 --window 24h --json --addr 'f:2')"
        );
        assert_eq!(
            command(Method::POST, "/v1/balances:batchGet", r#"{"user_ids":["1"]}"#, &shown),
            r#"diff <(curl -sS -X POST -H 'Content-Type: application/json' -d '{"user_ids":["1"]}' 'http://go:1/v1/balances:batchGet') <(florin get balances 1 --json --addr 'f:2')"#
        );
        let hostile = command(Method::GET, "/x'; rm -rf /;'", "", &shown);
        assert!(hostile.starts_with(r"diff <(curl -sS 'http://go:1/x'\''; rm -rf /;'\''') <("), "{hostile}");
        let hidden = command(Method::GET, "/v1/users/4242/balance", "", &Redaction::Hashed([1; 16]));
        assert!(!hidden.contains("4242"), "{hidden}");
    }
}
