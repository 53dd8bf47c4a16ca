//! What an answer says of itself in HTTP's headers, and times as the contract writes them.

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

/// Of the headers, what a judge looks at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stated {
    /// `Florin-As-Of`, µs since 1970 UTC.
    pub as_of_us: Option<i64>,
    /// `Florin-Version`.
    pub version: Option<u64>,
    /// `Florin-Quarantined`.
    pub is_quarantined: bool,
    /// `Content-Type` without its parameters, in small letters.
    pub content_type: Option<String>,
    /// `Content-Encoding`, in small letters; nothing where it says `identity`.
    pub content_encoding: Option<String>,
    /// Headers that callers go by, by their names.
    pub compared: Vec<(HeaderName, String)>,
    /// The names of all others, which nobody compares.
    pub others: Vec<HeaderName>,
}

impl Stated {
    /// Reads an answer's headers.
    pub fn of(headers: &HeaderMap) -> Stated {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let codings: Vec<_> = headers.get_all("content-encoding").iter().map(HeaderValue::as_bytes).collect();
        let codings = String::from_utf8_lossy(&codings.join(&b","[..])).trim().to_ascii_lowercase();
        Stated {
            as_of_us: text("florin-as-of").and_then(time_us),
            version: text("florin-version").and_then(|version| version.parse().ok()),
            is_quarantined: text("florin-quarantined") == Some("true"),
            content_type: text("content-type")
                .map(|value| value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase()),
            content_encoding: Some(codings).filter(|codings| !matches!(codings.as_str(), "" | "identity")),
            compared: compared(headers),
            others: headers.keys().filter(|name| !is_read(name) && !is_compared(name)).cloned().collect(),
        }
    }
}

/// Headers that are compared word for word: what caches, browsers and clients go by.
pub const COMPARED: [&str; 9] = [
    "access-control-* (cross-origin rules)",
    "cache-control",
    "content-disposition",
    "content-language",
    "etag",
    "link",
    "location",
    "vary",
    "www-authenticate",
];

fn is_compared(name: &HeaderName) -> bool {
    COMPARED.contains(&name.as_str()) || name.as_str().starts_with("access-control-")
}

/// Headers that are looked at in a way of their own, or belong to the connection.
fn is_read(name: &HeaderName) -> bool {
    const READ: [&str; 11] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "florin-as-of",
        "florin-quarantined",
        "florin-version",
        "keep-alive",
        "trailer",
        "transfer-encoding",
    ];
    READ.contains(&name.as_str())
}

fn compared(headers: &HeaderMap) -> Vec<(HeaderName, String)> {
    let mut compared: Vec<(HeaderName, String)> = Vec::new();
    for name in headers.keys().filter(|name| is_compared(name)) {
        let values: Vec<_> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        compared.push((name.clone(), String::from_utf8_lossy(&values.join(&b", "[..])).into_owned()));
    }
    compared.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    compared
}

/// An RFC 3339 time, µs since 1970 UTC.
pub fn time_us(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// µs since 1970 UTC as RFC 3339 with microseconds.
pub fn rfc3339(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} µs"), |time| format!("{time:.6}"))
}
