//! What of a request may prove who asks. Known headers are known to be harmless; whatever else there is may be a secret, by
//! whichever name.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderName;

use crate::request::{Question, Request};

/// Headers that say nothing of who the caller is, but may decide what it gets.
const HARMLESS: [&str; 29] = [
    "accept",
    "accept-charset",
    "accept-language",
    "cache-control",
    "content-encoding",
    "content-type",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "save-data",
    "sec-gpc",
    "te",
    "trailer",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
/// Those of a single request or connection: they decide nothing.
const PASSING: [&str; 14] = [
    "accept-encoding",
    "b3",
    "connection",
    "content-length",
    "date",
    "if-modified-since",
    "if-none-match",
    "keep-alive",
    "max-forwards",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "x-correlation-id",
    "x-request-id",
];
/// Browsers' own, of which there are ever more.
const HARMLESS_BEGINNINGS: [&str; 3] = ["sec-fetch-", "sec-ch-", "x-b3-"];
/// Query parameters whose values are known to be none: the contract's.
const KEPT_PARAMETERS: [&str; 4] = ["window", "min_version", "max_age_ms", "wait_ms"];
/// What stands in a secret's place.
const LEFT_OUT: &str = "LEFT-OUT";

/// Whether a header belongs to one request or connection alone.
pub fn is_passing(name: &HeaderName) -> bool {
    PASSING.contains(&name.as_str())
}

/// Whether a header may prove who the caller is.
pub fn may_be_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_known = HARMLESS.contains(&name) || PASSING.contains(&name);
    !is_known && !HARMLESS_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// Whether a request may carry a proof of who the caller is. Query parameters that the contract does not have make it another question.
pub fn are_carried(request: &Request) -> bool {
    request.headers.keys().any(may_be_secret) || login(&request.target).is_some()
}

/// The user's name and password in a target, if there are any.
fn login(target: &str) -> Option<&str> {
    let authority = target.strip_prefix("http://")?.split(['/', '?']).next()?;
    Some(authority.rsplit_once('@')?.0)
}

/// What of targets and bodies is written down. Whatever is not known to be harmless is left out: a secret may have any name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Query parameters whose values are kept, beside the contract's.
    pub parameters: Vec<String>,
    /// Paths whose bodies are kept, beside the contract's batch.
    pub bodies: Vec<String>,
}

impl Kept {
    /// A target without the values of parameters that are not known, and without a user's name and password.
    pub fn target<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let login = login(target);
        let is_kept = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default();
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            pair.is_empty()
                || KEPT_PARAMETERS.contains(&&*name)
                || self.parameters.iter().any(|kept| *kept == name)
        };
        if login.is_none() && query.is_none_or(|query| query.split('&').all(is_kept)) {
            return Cow::Borrowed(target);
        }
        let mut out = match login {
            Some(login) => path.replacen(login, LEFT_OUT, 1),
            None => path.to_owned(),
        };
        for (at, pair) in query.iter().flat_map(|query| query.split('&')).enumerate() {
            out.push(if at == 0 { '?' } else { '&' });
            match pair.split_once('=') {
                _ if is_kept(pair) => out.push_str(pair),
                Some((name, _)) => {
                    out.push_str(name);
                    out.push('=');
                    out.push_str(LEFT_OUT);
                }
                // Without a name it is all value.
                None => out.push_str(LEFT_OUT),
            }
        }
        Cow::Owned(out)
    }

    /// A request's body, if it is the contract's, which holds user ids and nothing else, or its path's are kept.
    pub fn body(&self, request: &Request) -> Bytes {
        let is_kept = request.body.is_empty()
            || matches!(request.question, Question::Balances(_))
            || self.bodies.iter().any(|path| path == request.path());
        if is_kept { request.body.clone() } else { Bytes::from_static(LEFT_OUT.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::request::BATCH_PATH;

    #[test]
    fn what_is_not_known_to_be_harmless_may_be_a_secret() {
        for name in ["authorization", "cookie", "x-api-key", "proxy-authorization", "x-shop-pass", "x-tenant"]
        {
            assert!(may_be_secret(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["accept", "user-agent", "sec-fetch-mode", "x-request-id", "host", "content-length"] {
            assert!(!may_be_secret(&HeaderName::from_static(name)), "{name}");
        }
    }

    /// Known names of secrets were once looked for, and `otp`, `pin`, `ticket`, `state` and a body's were none of them.
    #[test]
    fn what_is_not_known_to_be_harmless_is_left_out_of_targets() {
        let kept = Kept { parameters: vec!["page".to_owned()], bodies: Vec::new() };
        for (target, expected) in [
            ("/v1/x?window=24h&min_version=1&", "/v1/x?window=24h&min_version=1&"),
            ("/v1/x?%77indow=24h&page=2", "/v1/x?%77indow=24h&page=2"),
            ("/v1/x?otp=1&window=7d&b", "/v1/x?otp=LEFT-OUT&window=7d&LEFT-OUT"),
            ("/v1/x?pin=1&ticket=2&assertion=3", "/v1/x?pin=LEFT-OUT&ticket=LEFT-OUT&assertion=LEFT-OUT"),
            ("/v1/x?Window=1&a=b=c", "/v1/x?Window=LEFT-OUT&a=LEFT-OUT"),
            ("http://me:word@h/x?sig=1", "http://LEFT-OUT@h/x?sig=LEFT-OUT"),
        ] {
            assert_eq!(kept.target(target), expected);
        }
        assert_eq!(Kept::default().target("/x?page=2"), "/x?page=LEFT-OUT");
    }

    #[test]
    fn of_bodies_only_the_contracts_are_kept_and_those_that_somebody_names() {
        let kept = Kept { parameters: Vec::new(), bodies: vec!["/v1/search".to_owned()] };
        let post = |target: &str, body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            let headers = Arc::new(HeaderMap::new());
            kept.body(&Request::new(Method::POST, target.to_owned(), headers, body))
        };
        let batch = r#"{"user_ids":["1",2]}"#;
        assert_eq!(post(BATCH_PATH, batch), batch);
        for secret in [
            r#"{"user_ids":["1"],"pin":"1234"}"#,
            r#"{"user_ids":["1"],"user_ids":["2"]}"#,
            r#"{"user_ids":["1","x"]}"#,
            "otp=1",
        ] {
            assert_eq!(post(BATCH_PATH, secret), "LEFT-OUT", "{secret}");
        }
        assert_eq!(post("/v1/search?q=1", "anything"), "anything");
        assert_eq!((post("/v1/other", "anything"), post("/v1/other", "")), ("LEFT-OUT".into(), "".into()));
    }
}
