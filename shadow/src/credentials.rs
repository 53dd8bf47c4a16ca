//! What of a request may prove who asks. Known headers are known to be harmless; whatever else there is may be a secret, by
//! whichever name.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

/// Headers that say nothing of who the caller is, but may decide what it gets.
const HARMLESS: [&str; 27] = [
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
    "x-real-ip",
];
/// Those of a single request or connection: they decide nothing.
const PASSING: [&str; 16] = [
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
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];
/// Browsers' own, of which there are ever more.
const HARMLESS_BEGINNINGS: [&str; 3] = ["sec-fetch-", "sec-ch-", "x-b3-"];
/// Parts of a query parameter's name that make its value a secret.
const SECRET_PARTS: [&str; 13] = [
    "auth", "code", "cookie", "cred", "jwt", "key", "pass", "pwd", "secret", "session", "sig", "sid", "token",
];
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

/// Whether a request may carry a proof of who the caller is.
pub fn are_carried(headers: &HeaderMap) -> bool {
    headers.keys().any(may_be_secret)
}

/// A target without the values of parameters that sound like secrets, and without a user's name and password.
pub fn without_secrets(target: &str) -> Cow<'_, str> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let authority = path.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let login = authority.and_then(|authority| authority.rsplit_once('@')).map(|(login, _)| login);
    let is_secret = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
        SECRET_PARTS.iter().any(|part| name.contains(part))
    };
    if login.is_none() && !query.is_some_and(|query| query.split('&').any(is_secret)) {
        return Cow::Borrowed(target);
    }
    let mut out = match login {
        Some(login) => path.replacen(login, LEFT_OUT, 1),
        None => path.to_owned(),
    };
    for (at, pair) in query.iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if is_secret(pair) => {
                out.push_str(name);
                out.push('=');
                out.push_str(LEFT_OUT);
            }
            _ => out.push_str(pair),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn secrets_in_targets_are_left_out() {
        for (target, expected) in [
            ("/v1/x?window=24h", "/v1/x?window=24h"),
            ("/v1/x?a=1&access_token=abc&b", "/v1/x?a=1&access_token=LEFT-OUT&b"),
            ("/v1/x?api%5Fkey=abc", "/v1/x?api%5Fkey=LEFT-OUT"),
            ("http://me:word@h/x?sig=1", "http://LEFT-OUT@h/x?sig=LEFT-OUT"),
        ] {
            assert_eq!(without_secrets(target), expected);
        }
    }
}
