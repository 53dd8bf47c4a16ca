//! User ids as keyed hashes, so that evidence can be passed on: equal ids stay equal, and without the key nobody learns
//! whose they are.

use std::hash::Hasher;

use florin_schema::UserId;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::answer::Value;

/// What is done to user ids in evidence.
#[derive(Clone, Debug)]
pub enum Redaction {
    /// They are shown.
    Shown,
    /// They are replaced by SipHash-2-4 with this key, 128 bits of it.
    Hashed([u8; 16]),
}

/// What stands in place of a body that is no JSON.
const WITHHELD: &str = "(withheld: no JSON)";

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

    /// A target or a message in which ids of `users` may stand as words of their own.
    pub fn text(&self, text: &str, users: &[UserId]) -> String {
        if !self.hides() {
            return text.to_owned();
        }
        let is_digit = |c: char| c.is_ascii_digit();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_digit) {
            let end = rest[start..].find(|c| !is_digit(c)).map_or(rest.len(), |length| start + length);
            let number = &rest[start..end];
            let is_user = number.parse().ok().and_then(UserId::new).is_some_and(|id| users.contains(&id));
            out.push_str(&rest[..start]);
            out.push_str(&if is_user { self.id(number) } else { number.to_owned() });
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }

    /// A request's target. Other paths than the contract's may name users in ways that nobody knows of, so numbers in
    /// them are hidden altogether.
    pub fn target(&self, target: &str, users: &[UserId]) -> String {
        if !self.hides() || !users.is_empty() {
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
            // Versions and ages in the query are no ids, though they may look like one.
            let path = self.text(path, users);
            return query.map_or(path.clone(), |query| format!("{path}?{query}"));
        }
        let hidden: String = target.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        hidden
    }

    /// A body: every `user_id`, every element of `user_ids`, and ids in the words of a refusal.
    pub fn body(&self, body: &[u8], users: &[UserId]) -> String {
        if !self.hides() || body.is_empty() {
            return String::from_utf8_lossy(body).into_owned();
        }
        match Value::parse(body) {
            Ok(mut value) => {
                self.value(&mut value, users);
                value.to_string()
            }
            Err(_) => WITHHELD.to_owned(),
        }
    }

    /// A value that stands in a difference.
    pub fn fragment(&self, place: &str, text: &str, users: &[UserId]) -> String {
        if !self.hides() {
            return text.to_owned();
        }
        match Value::parse(text.as_bytes()) {
            Ok(mut value) => {
                if place.ends_with("user_id") {
                    value = Value::Text(self.id(value.as_text().unwrap_or(text)));
                }
                self.value(&mut value, users);
                value.to_string()
            }
            Err(_) => self.text(text, users),
        }
    }

    fn value(&self, value: &mut Value, users: &[UserId]) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), &mut *value) {
                        ("user_id", Value::Text(_) | Value::Number(_)) => self.hide(value),
                        ("user_ids", Value::List(ids)) => ids.iter_mut().for_each(|id| self.hide(id)),
                        ("detail" | "title", Value::Text(words)) => *words = self.text(words, users),
                        _ => self.value(value, users),
                    }
                }
            }
            Value::List(elements) => elements.iter_mut().for_each(|element| self.value(element, users)),
            _ => {}
        }
    }

    fn hide(&self, value: &mut Value) {
        let id = value.as_text().map_or_else(|| value.to_string(), str::to_owned);
        *value = Value::Text(self.id(&id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(ids: &[u64]) -> Vec<UserId> {
        ids.iter().map(|&id| UserId::new(id).unwrap()).collect()
    }

    #[test]
    fn ids_are_hidden_wherever_the_contract_puts_them_and_amounts_are_not() {
        let redaction = Redaction::Hashed([7; 16]);
        let hidden = redaction.user(UserId::new(4242).unwrap());
        assert!(hidden.starts_with("user-") && hidden.len() == 5 + 32, "{hidden}");
        let ids = users(&[4242, 9]);
        assert_eq!(
            redaction.target("/v1/users/4242/balance?min_version=9", &ids),
            format!("/v1/users/{hidden}/balance?min_version=9")
        );
        let body =
            br#"{"user_id":"4242","balances":[{"available":"4242"}],"detail":"no user 4242, not 42421"}"#;
        let expected = format!(
            r#"{{"user_id":"{hidden}","balances":[{{"available":"4242"}}],"detail":"no user {hidden}, not 42421"}}"#
        );
        assert_eq!(redaction.body(body, &ids), expected);
        let asked = redaction.body(br#"{"user_ids":[4242,"9"]}"#, &ids);
        assert!(
            asked.starts_with(&format!(r#"{{"user_ids":["{hidden}","user-"#)) && !asked.contains("4242"),
            "{asked}"
        );
        assert_eq!(redaction.body(b"user 4242", &ids), WITHHELD);
        assert_eq!(redaction.target("/private/4242", &[]), "/private/####");
        assert_eq!(redaction.fragment("balances[0].user_id", "\"4242\"", &ids), format!("\"{hidden}\""));
    }

    #[test]
    fn the_key_decides_and_without_redaction_nothing_changes() {
        let user = UserId::new(42).unwrap();
        assert_eq!(Redaction::Hashed([1; 16]).user(user), Redaction::Hashed([1; 16]).user(user));
        assert_ne!(Redaction::Hashed([1; 16]).user(user), Redaction::Hashed([2; 16]).user(user));
        assert_ne!(Redaction::with_random_key().user(user), Redaction::with_random_key().user(user));
        assert_eq!(Redaction::Shown.target("/v1/users/42/balance?a=1", &[user]), "/v1/users/42/balance?a=1");
        assert_eq!(Redaction::Shown.body(b"x 42", &[user]), "x 42");
    }
}
