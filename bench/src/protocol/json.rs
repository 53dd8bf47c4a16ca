//! The bodies of wire.md, read from left to right: the order of their keys is fixed, and there are no spaces. What a later version
//! adds to an object follows its known keys, and is passed over.

use florin_schema::{Asset, decimal};

use super::Said;
use crate::truth::Digest;

/// What is left of a body. Each method takes what it names from its beginning; none where something else stands there.
pub(super) struct Json<'a> {
    rest: &'a [u8],
}

impl<'a> Json<'a> {
    pub(super) fn new(body: &'a [u8]) -> Json<'a> {
        Json { rest: body }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// What stands before the next quote; takes that too.
    #[inline]
    fn text(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'"', self.rest)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(text)
    }

    /// Digits, and the quote behind them. One spelling for each number: no zero before another digit.
    #[inline]
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        // Up to here no number overflows; longer ones are rare.
        const DIGITS: usize = u64::MAX.ilog10() as usize;
        let (mut number, mut count) = (0_u64, 0);
        while let Some(digit) = self.rest.get(count).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            count += 1;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest.strip_prefix(b"\"")?;
        match digits {
            [] | [b'0', _, ..] => None,
            _ if count <= DIGITS => Some(number),
            _ => decimal(digits),
        }
    }

    /// The same, with a minus before negative ones; as it lies in memory.
    #[inline]
    fn signed(&mut self) -> Option<u64> {
        if self.literal(b"-").is_some() {
            let number = self.unsigned().filter(|number| (1..=1 << 63).contains(number))?;
            return Some(number.wrapping_neg());
        }
        self.unsigned().filter(|number| *number <= i64::MAX as u64)
    }

    /// `{"asset":"…"`, as the wire's number.
    #[inline]
    fn asset(&mut self) -> Option<u64> {
        self.literal(b"{\"asset\":\"")?;
        // A code is too short to be looked through for its end in steps of a register.
        let end = self.rest.iter().position(|byte| *byte == b'"')?;
        let (code, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(Asset::parse(code).ok()?.to_wire())
    }

    /// `{"user_id":"…","version":"…"`.
    fn head(&mut self) -> Option<(u64, u64)> {
        self.literal(b"{\"user_id\":\"")?;
        let user = self.unsigned()?;
        self.literal(b",\"version\":\"")?;
        Some((user, self.unsigned()?))
    }

    /// The end of an object, and before it whatever a later version has added: keys with a text, a number or a flag.
    pub(super) fn end_object(&mut self) -> Option<()> {
        while self.literal(b",\"").is_some() {
            self.text()?;
            self.literal(b":")?;
            if self.literal(b"\"").is_some() {
                self.text()?;
            } else {
                let end = memchr::memchr2(b',', b'}', self.rest).filter(|end| *end > 0)?;
                self.rest = &self.rest[end..];
            }
        }
        self.literal(b"}")
    }

    /// A list of assets, each read by `row` from behind its code; how many there are.
    fn assets(&mut self, mut row: impl FnMut(&mut Self, u64) -> Option<()>) -> Option<usize> {
        let mut count = 0;
        while self.literal(b"]").is_none() {
            if count > 0 {
                self.literal(b",")?;
            }
            let asset = self.asset()?;
            row(self, asset)?;
            self.end_object()?;
            count += 1;
        }
        Some(count)
    }

    pub(super) fn balance(&mut self) -> Option<Said> {
        let (user, version) = self.head()?;
        self.literal(b",\"updated_at\":\"")?;
        self.text()?;
        self.literal(b",\"balances\":[")?;
        let mut digest = Digest::at(version);
        let assets = self.assets(|json, asset| {
            json.literal(b",\"available\":\"")?;
            let available = json.signed()?;
            json.literal(b",\"held\":\"")?;
            digest.add(asset, [available, json.signed()?]);
            Some(())
        })?;
        self.end_object()?;
        Some(Said { user, version, assets, digest })
    }

    pub(super) fn statistics(&mut self) -> Option<Said> {
        let (user, version) = self.head()?;
        self.literal(b",\"statistics\":[")?;
        let mut digest = Digest::at(version);
        let assets = self.assets(|json, asset| {
            json.literal(b",\"windows\":{\"24h\":")?;
            json.totals()?;
            json.literal(b",\"7d\":")?;
            json.totals()?;
            json.literal(b",\"30d\":")?;
            json.totals()?;
            json.literal(b",\"lifetime\":")?;
            digest.add(asset, json.totals()?);
            json.end_object()
        })?;
        self.end_object()?;
        Some(Said { user, version, assets, digest })
    }

    /// A window: how many credits and their sum, how many debits, their sum and the largest.
    fn totals(&mut self) -> Option<[u64; 5]> {
        self.literal(b"{\"credit_count\":\"")?;
        let credits = self.unsigned()?;
        self.literal(b",\"credit_sum\":\"")?;
        let credit_sum = self.signed()?;
        self.literal(b",\"debit_count\":\"")?;
        let debits = self.unsigned()?;
        self.literal(b",\"debit_sum\":\"")?;
        let debit_sum = self.signed()?;
        self.literal(b",\"largest_debit\":\"")?;
        let largest = self.signed()?;
        self.end_object()?;
        Some([credits, credit_sum, debits, debit_sum, largest])
    }
}
