//! Requests, and what a caller may ask of an answer's age.

use std::time::Duration;

use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions, RequestHeader, VERSION, WAIT_MS_MAX};
use florin_schema::{Encoding, Opcode, Version};
use zerocopy::IntoBytes;

/// What an answer must satisfy. The default asks nothing.
///
/// ```
/// use std::time::Duration;
/// use florin_client::{Freshness, Version};
///
/// // Read your own write: it was given version 7.
/// let mine = Freshness::at_least(Version(7)).waiting(Duration::from_millis(200));
/// // Or be no older than a quarter of a second.
/// let recent = Freshness::no_older_than(Duration::from_millis(250));
/// # assert_ne!(mine, recent);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freshness {
    min_version: Version,
    max_age_ms: u32,
    wait_ms: u32,
}

impl Freshness {
    /// Nothing is asked.
    pub const NONE: Freshness = Freshness { min_version: Version(0), max_age_ms: 0, wait_ms: 0 };

    /// The user's view must hold this many transactions.
    pub fn at_least(version: Version) -> Freshness {
        Freshness { min_version: version, ..Freshness::default() }
    }

    /// The shard's watermark must be no older; rounded up to a millisecond.
    pub fn no_older_than(age: Duration) -> Freshness {
        Freshness::default().and_no_older_than(age)
    }

    /// Both: a version and an age.
    pub fn and_no_older_than(self, age: Duration) -> Freshness {
        // 0 would mean that any age will do.
        Freshness { max_age_ms: millis_up(age).max(1), ..self }
    }

    /// This, and at least `version`.
    pub(crate) fn raised_to(self, version: Version) -> Freshness {
        Freshness { min_version: self.min_version.max(version), ..self }
    }

    /// Whether it asks for a version.
    pub(crate) fn has_min_version(self, version: Version) -> bool {
        self.min_version >= version
    }

    /// How long the server may hold the request until it can satisfy it: at most a second. Without it, or after it, the
    /// answer is [`crate::Error::Stale`]. Keep it below the call's deadline.
    pub fn waiting(self, wait: Duration) -> Freshness {
        Freshness { wait_ms: millis_up(wait).min(WAIT_MS_MAX), ..self }
    }

    /// How long the server may hold the request.
    pub(crate) fn held(self) -> Duration {
        Duration::from_millis(self.wait_ms.into())
    }

    fn options(self) -> Option<FreshnessOptions> {
        (self != Freshness::default()).then(|| FreshnessOptions {
            min_version: self.min_version.0.into(),
            max_age_ms: self.max_age_ms.into(),
            wait_ms: self.wait_ms.into(),
        })
    }
}

fn millis_up(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// A request, all but its id: that is the connection's to give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub opcode: Opcode,
    /// 0 where the opcode has none.
    pub user_id: u64,
    pub freshness: Freshness,
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The encoding that is asked for, and so the answer's; 0 where a body has none.
    pub fn encoding_of(opcode: Opcode) -> u8 {
        match opcode {
            Opcode::GetBalance | Opcode::GetStatistics | Opcode::GetBalances => Encoding::Rkyv as u8,
            Opcode::Hello => Encoding::FlatBuffers as u8,
            Opcode::Ping => 0,
        }
    }

    /// The length of the frame.
    pub fn bytes(&self) -> usize {
        let options = if self.freshness == Freshness::NONE { 0 } else { size_of::<FreshnessOptions>() };
        size_of::<RequestHeader>() + options + self.body.len()
    }

    /// Appends the frame.
    pub fn encode(&self, request_id: u64, out: &mut Vec<u8>) {
        let options = self.freshness.options();
        let header = RequestHeader {
            length: u32::try_from(self.bytes()).expect("a body is at most 8 KiB").into(),
            version: VERSION,
            opcode: self.opcode as u8,
            encoding: Request::encoding_of(self.opcode),
            flags: if options.is_some() { FLAG_FRESHNESS } else { 0 },
            request_id: request_id.into(),
            user_id: self.user_id.into(),
        };
        out.extend_from_slice(header.as_bytes());
        if let Some(options) = options {
            out.extend_from_slice(options.as_bytes());
        }
        out.extend_from_slice(self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn requests_are_the_golden_ones() {
        let ids: Vec<u8> =
            [42, 9, i64::MAX as u64, 43, 42].iter().flat_map(|id: &u64| id.to_le_bytes()).collect();
        let fresh = Freshness::at_least(Version(7))
            .and_no_older_than(Duration::from_millis(250))
            .waiting(Duration::from_secs(1));
        let cases = [
            ("get-balance", Opcode::GetBalance, 4, 42, &[][..]),
            ("get-statistics", Opcode::GetStatistics, 6, 42, &[]),
            ("get-statistics-24h-30d", Opcode::GetStatistics, 7, 42, &[5]),
            ("get-balances", Opcode::GetBalances, 8, 0, &ids),
            ("ping", Opcode::Ping, 2, 0, b"ping"),
        ];
        for (name, opcode, request_id, user_id, body) in cases {
            let suffix = if opcode == Opcode::Ping { "" } else { "-rkyv" };
            for (freshness, fresh_suffix) in [(Freshness::default(), ""), (fresh, "-fresh")] {
                let mut out = Vec::new();
                Request { opcode, user_id, freshness, body }.encode(request_id, &mut out);
                assert_eq!(out, golden::frame(&format!("request-{name}{suffix}{fresh_suffix}")), "{name}");
            }
        }
    }

    #[test]
    fn durations_are_rounded_up_and_bounded() {
        let fresh = Freshness::no_older_than(Duration::ZERO).waiting(Duration::from_micros(1_001));
        assert_eq!((fresh.max_age_ms, fresh.wait_ms), (1, 2));
        let fresh = Freshness::no_older_than(Duration::MAX).waiting(Duration::MAX);
        assert_eq!((fresh.max_age_ms, fresh.wait_ms), (u32::MAX, WAIT_MS_MAX));
    }
}
