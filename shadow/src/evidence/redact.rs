//! User ids as keyed hashes, so that evidence can be passed on: equal ids stay equal, and without the key nobody learns
//! whose they are.

use std::hash::Hasher;

use florin_schema::{UserId, Window};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::answer::time_us;
use crate::credentials::Kept;
use crate::json::Value;
use crate::judge::{Difference, DifferenceKind, Path, PathStep};
use crate::request::{BATCH_PATH, Question, Request};

/// What is done to user ids in evidence.
#[derive(Clone, Debug)]
pub enum Redaction {
    /// They are shown.
    Shown,
    /// They are replaced by SipHash-2-4 with this key, 128 bits of it.
    Hashed([u8; 16]),
}

/// What stands in place of a body that cannot be looked through.
const WITHHELD: &str = "(withheld: nobody knows where in it a user may be named)";

/// The contract's fields that hold whole numbers which are nobody's id.
const NUMBERS: [&str; 9] = [
    "version",
    "available",
    "held",
    "credit_count",
    "credit_sum",
    "debit_count",
    "debit_sum",
    "largest_debit",
    "status",
];

impl Redaction {
    /// A key that nobody knows, and that ends with this process.
    pub fn with_random_key() -> Redaction {
        Redaction::Hashed(rand::random())
    }

    /// Whether ids are hidden.
    pub const fn hides(&self) -> bool {
        matches!(self, Redaction::Hashed(_))
    }

    /// A user, as evidence names it.
    pub fn user(&self, user: UserId) -> String {
        self.id(&user.to_string())
    }

    fn id(&self, id: &str) -> String {
        match self {
            Redaction::Shown => id.to_owned(),
            Redaction::Hashed(key) => {
                let mut hasher = SipHasher24::new_with_key(key);
                hasher.write(id.as_bytes());
                format!("user-{:032x}", hasher.finish128().as_u128())
            }
        }
    }

    /// Our own words, in which ids of `users` may stand.
    pub fn text(&self, text: &str, users: &[UserId]) -> String {
        self.numbers(text, |number| self.known(number, users).unwrap_or_else(|| number.to_owned()))
    }

    /// Somebody else's words: whatever number stands in them may be somebody's.
    fn words(&self, text: &str, users: &[UserId]) -> String {
        self.numbers(text, |number| self.known(number, users).unwrap_or_else(|| HIDDEN.to_owned()))
    }

    fn known(&self, number: &str, users: &[UserId]) -> Option<String> {
        let user = UserId::new(number.parse().ok()?)?;
        users.contains(&user).then(|| self.user(user))
    }

    fn numbers(&self, text: &str, replaced: impl Fn(&str) -> String) -> String {
        if !self.hides() {
            return text.to_owned();
        }
        let is_digit = |c: char| c.is_ascii_digit();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_digit) {
            let end = rest[start..].find(|c| !is_digit(c)).map_or(rest.len(), |length| start + length);
            out.push_str(&rest[..start]);
            out.push_str(&replaced(&rest[start..end]));
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }

    /// A request's target. Of the contract's questions it is written anew, however it was spelled; other paths may name
    /// users in ways that nobody knows of, so numbers in them are hidden altogether.
    pub fn target(&self, request: &Request) -> String {
        let path = match (self.hides(), &request.question) {
            (false, _) => return Kept::default().target(&request.target).into_owned(),
            (true, Question::Other) => return self.words(&Kept::default().target(&request.target), &[]),
            (true, Question::Balance(user)) => format!("/v1/users/{}/balance", self.user(*user)),
            (true, Question::Statistics(user, _)) => format!("/v1/users/{}/statistics", self.user(*user)),
            (true, Question::Balances(_)) => BATCH_PATH.to_owned(),
        };
        // Windows, versions and ages: a question with anything else is not the contract's.
        request.target.split_once('?').map_or(path.clone(), |(_, query)| format!("{path}?{query}"))
    }

    /// What `request` was asked with.
    pub fn asked(&self, request: &Request) -> String {
        self.body(&Kept::default().body(request), request)
    }

    /// A body of `request` or of an answer to it.
    pub fn body(&self, body: &[u8], request: &Request) -> String {
        if !self.hides() || body.is_empty() {
            return String::from_utf8_lossy(body).into_owned();
        }
        match (Value::parse(body), &request.question) {
            (Err(_), _) | (_, Question::Other) => WITHHELD.to_owned(),
            (Ok(mut value), question) => {
                self.value("", &mut value, question.users());
                value.to_string()
            }
        }
    }

    /// Where two answers differ.
    pub fn path(&self, path: &Path, users: &[UserId]) -> String {
        if !self.hides() {
            return path.to_string();
        }
        let step = |path: Path, step: &PathStep| match step {
            PathStep::Key(key) => path.key(&self.key(key, users)),
            PathStep::Index(index) => path.index(*index),
            PathStep::Named(name) => path.named(&self.words(name, users)),
        };
        path.steps().iter().fold(Path::ROOT, step).to_string()
    }

    /// What one side has where they differ.
    pub fn fragment(&self, difference: &Difference, text: &str, users: &[UserId]) -> String {
        // Statuses, versions and times, in our own words.
        let is_ours = matches!(difference.kind, DifferenceKind::Status | DifferenceKind::Version);
        if !self.hides() || is_ours {
            return text.to_owned();
        }
        match Value::parse(text.as_bytes()) {
            Ok(mut value) if difference.kind != DifferenceKind::Header => {
                let mut keys = difference.path.steps().iter().filter_map(|step| match step {
                    PathStep::Key(key) => Some(key.as_str()),
                    _ => None,
                });
                self.value(keys.next_back().unwrap_or_default(), &mut value, users);
                value.to_string()
            }
            _ => self.words(text, users),
        }
    }

    /// Hides what a value under `key` may say of anybody.
    fn value(&self, key: &str, value: &mut Value, users: &[UserId]) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.value(key, value, users);
                    *key = self.key(key, users);
                }
            }
            Value::List(elements) => elements.iter_mut().for_each(|element| self.value(key, element, users)),
            Value::Null | Value::Bool(_) => {}
            Value::Text(_) | Value::Number(_) if matches!(key, "user_id" | "user_ids") => {
                let id = value.as_whole().and_then(UserId::new).map(|user| self.user(user));
                *value = Value::Text(id.unwrap_or_else(|| HIDDEN.to_owned()));
            }
            Value::Text(_) | Value::Number(_)
                if NUMBERS.contains(&key) && value.as_whole::<i128>().is_some() => {}
            Value::Text(text) if key.ends_with("_at") && time_us(text).is_some() => {}
            Value::Text(text) => *text = self.words(text, users),
            Value::Number(number) => *value = Value::Text(self.words(number.text(), users)),
        }
    }

    /// A key: a number in it may be somebody's, unless the key is a window's name.
    fn key(&self, key: &str, users: &[UserId]) -> String {
        let is_window = Window::ALL.iter().any(|window| window.name() == key);
        if is_window { key.to_owned() } else { self.words(key, users) }
    }
}

/// What stands in place of a number that may be somebody's.
const HIDDEN: &str = "#";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Method;

    use super::*;

    fn get(target: &str) -> Request {
        Request::new(Method::GET, target.to_owned(), Arc::default(), Bytes::new())
    }

    #[test]
    fn ids_are_hidden_wherever_they_stand_and_amounts_are_not() {
        let redaction = Redaction::Hashed([7; 16]);
        let hidden = redaction.user(UserId::new(4242).unwrap());
        assert!(hidden.starts_with("user-") && hidden.len() == 5 + 32, "{hidden}");
        for spelled in ["4242", "%34242", "004242"] {
            let request = get(&format!("/v1/users/{spelled}/balance?min_version=9"));
            assert_eq!(
                redaction.target(&request),
                format!("/v1/users/{hidden}/balance?min_version=9"),
                "{spelled}"
            );
        }
        let request = get("/v1/users/4242/balance");
        let body = |body: &str| redaction.body(body.as_bytes(), &request);
        assert_eq!(
            body(
                r#"{"user_id":"4242","balances":[{"available":"4242"}],"updated_at":"2026-11-22T04:05:06Z","detail":"no user 4242, not 42421"}"#
            ),
            format!(
                r#"{{"user_id":"{hidden}","balances":[{{"available":"4242"}}],"updated_at":"2026-11-22T04:05:06Z","detail":"no user {hidden}, not #"}}"#
            )
        );
        // Fields that the contract does not have, as keys and as values.
        assert_eq!(
            body(r#"{"owner":"4242","by":77,"4242":{"x":"of 4242"},"77":1,"available":"x77"}"#),
            format!(
                r##"{{"owner":"{hidden}","by":"#","{hidden}":{{"x":"of {hidden}"}},"#":"#","available":"x#"}}"##
            )
        );
        // A key that has the number in its midst, and windows, which have one as well.
        assert_eq!(
            body(r#"{"user_918273645":1,"u4242":{"windows":{"24h":null}}}"#),
            format!(r##"{{"user_#":"#","u{hidden}":{{"windows":{{"24h":null}}}}}}"##)
        );
        assert_eq!(redaction.path(&Path::ROOT.key("user_918273645"), &[]), "user_#");
        // Somebody else's balance, under this user's question.
        assert!(!body(r#"{"user_id":"777"}"#).contains("777"));
        assert_eq!(body("user 4242"), WITHHELD);
        let batch = Request::new(
            Method::POST,
            BATCH_PATH.to_owned(),
            Arc::default(),
            Bytes::from_static(br#"{"user_ids":[4242,"9"]}"#),
        );
        let asked = redaction.body(&batch.body, &batch);
        assert!(
            asked.starts_with(&format!(r#"{{"user_ids":["{hidden}","user-"#)) && !asked.contains("4242"),
            "{asked}"
        );
    }

    #[test]
    fn what_is_not_the_contracts_is_not_trusted() {
        let redaction = Redaction::Hashed([7; 16]);
        let request = get("/private/4242?of=4242");
        assert_eq!(redaction.target(&request), "/private/#?of=LEFT-OUT");
        assert_eq!(redaction.body(br#"{"a":"4242"}"#, &request), WITHHELD);
        assert_eq!(redaction.body(b"", &request), "");
        assert_eq!(redaction.path(&Path::ROOT.key("accounts").key("4242").key("24h"), &[]), "accounts.#.24h");
    }

    #[test]
    fn differences_name_nobody() {
        let redaction = Redaction::Hashed([7; 16]);
        let users = [UserId::new(4242).unwrap()];
        let hidden = redaction.user(users[0]);
        let said = |path: Path, kind, text: &str| {
            redaction.fragment(&Difference { path, kind, primary: None, candidate: None }, text, &users)
        };
        let root = || Path::ROOT.key("balances").index(0);
        assert_eq!(said(root().key("user_id"), DifferenceKind::Value, "\"4242\""), format!("\"{hidden}\""));
        assert_eq!(said(root().key("available"), DifferenceKind::Value, "\"4242\""), "\"4242\"");
        assert_eq!(said(root().key("owner"), DifferenceKind::Added, "4242"), format!("\"{hidden}\""));
        assert_eq!(
            said(root(), DifferenceKind::Missing, r#"{"user_id":"4242"}"#),
            format!(r#"{{"user_id":"{hidden}"}}"#)
        );
        assert_eq!(
            said(root().key("version"), DifferenceKind::Version, "4242 as of 10:00"),
            "4242 as of 10:00"
        );
        assert_eq!(
            said(root(), DifferenceKind::Type, "expected JSON: at 4242 and 77"),
            format!("expected JSON: at {hidden} and #")
        );
    }

    #[test]
    fn the_key_decides_and_without_redaction_nothing_changes() {
        let user = UserId::new(42).unwrap();
        assert_eq!(Redaction::Hashed([1; 16]).user(user), Redaction::Hashed([1; 16]).user(user));
        assert_ne!(Redaction::Hashed([1; 16]).user(user), Redaction::Hashed([2; 16]).user(user));
        assert_ne!(Redaction::with_random_key().user(user), Redaction::with_random_key().user(user));
        assert_eq!(
            Redaction::Shown.target(&get("/v1/users/%342/balance?wait_ms=1")),
            "/v1/users/%342/balance?wait_ms=1"
        );
        assert_eq!(Redaction::Shown.body(b"x 42", &get("/")), "x 42");
        // Secrets are nobody's business, redacted or not.
        assert_eq!(Redaction::Shown.target(&get("/x?otp=abc&window=1")), "/x?otp=LEFT-OUT&window=1");
    }
}
