//! What an answer says of itself in HTTP's headers, and times as the contract writes them.

use http::{HeaderMap, HeaderValue};
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
        }
    }
}

/// An RFC 3339 time, µs since 1970 UTC.
pub fn time_us(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// µs since 1970 UTC as RFC 3339 with microseconds.
pub fn rfc3339(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} µs"), |time| format!("{time:.6}"))
}
