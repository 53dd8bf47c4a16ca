//! Which ledger this is, and how far it has been read.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use florin_core::follower::Position;
use florin_core::ledger::Transaction;
use florin_schema::{UserId, Version};

/// A place in the server's log: bytes since it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no place in a log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no place in a log: expected two hexadecimal numbers, like 16/B374D848")]
pub struct LsnError(String);

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Lsn, LsnError> {
        let half = |half: &str| match half.len() {
            1..=8 if half.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(half, 16).ok(),
            _ => None,
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| LsnError(text.to_owned()))
    }
}

impl Lsn {
    /// Bytes of a page of the log, as servers are built.
    const PAGE: u64 = 8_192;

    /// The least place that is known to hold all that lies before this one. The next record's place, which is what the server
    /// names, lies behind a page's header where the last record ended with the page; that end is enough.
    pub fn before_page_header(self) -> Lsn {
        // Of most pages, and of the first of a file.
        match self.0 % Self::PAGE {
            within @ (24 | 40) => Lsn(self.0 - within),
            _ => self,
        }
    }
}

/// Which ledger this is. A server that was promoted or restored keeps it; another server, database or table has another.
#[derive(Clone, Debug)]
pub struct PgIdentity {
    /// Of the server's data: what initdb drew, and what its standbys and backups share.
    pub system: u64,
    /// The database's name.
    pub database: String,
    /// The table's object id: one that was removed and made again has another.
    pub table_oid: u32,
    /// The table's name as SQL has it. It may change, so it is told and not compared.
    pub table: String,
}

impl PgIdentity {
    fn compared(&self) -> (u64, &str, u32) {
        (self.system, &self.database, self.table_oid)
    }
}

impl PartialEq for PgIdentity {
    fn eq(&self, other: &PgIdentity) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for PgIdentity {}

impl Hash for PgIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}

impl fmt::Display for PgIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PgIdentity { system, database, table_oid, table } = self;
        write!(
            f,
            "table {table} (object id {table_oid}) in database {database} of the PostgreSQL server {system}"
        )
    }
}

/// How far the ledger has been read: a whole commit's end, or a place up to which nothing more was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PgPosition {
    /// The server's; see [`PgIdentity::system`].
    pub system: u64,
    /// See [`PgIdentity::table_oid`].
    pub table_oid: u32,
    /// The server's history, which a promotion or a restore begins anew from some place on.
    pub timeline: u32,
    /// What published its rows, mixed from how that looked: rows that went by while it was another are not known.
    pub publication: u64,
    /// The table's columns and partitions, mixed from how they looked: who was not there cannot tell what has moved since.
    pub look: u64,
    /// Everything before it was read.
    pub lsn: Lsn,
    /// The row that was read last; none = none was, as far as is remembered.
    pub anchor: Option<Anchor>,
}

/// A row, as far as it takes to see that a table still has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Whose.
    pub user: UserId,
    /// Its place.
    pub version: Version,
    /// Without a sign.
    pub amount: i64,
}

impl From<&Transaction> for Anchor {
    fn from(row: &Transaction) -> Anchor {
        Anchor { user: row.user_id, version: row.version, amount: row.amount }
    }
}

impl PartialOrd for PgPosition {
    fn partial_cmp(&self, other: &PgPosition) -> Option<std::cmp::Ordering> {
        let same = self.system == other.system
            && self.table_oid == other.table_oid
            && self.timeline == other.timeline;
        same.then(|| self.lsn.cmp(&other.lsn))
    }
}

const MARK: [u8; 4] = *b"PG02";
const POSITION_BYTES: usize = 68;

impl Position for PgPosition {
    fn encode(&self) -> Vec<u8> {
        [
            &MARK[..],
            &self.system.to_le_bytes(),
            &self.table_oid.to_le_bytes(),
            &self.timeline.to_le_bytes(),
            &self.publication.to_le_bytes(),
            &self.lsn.0.to_le_bytes(),
            &self.look.to_le_bytes(),
            // No row has version 0.
            &self.anchor.map_or(0, |anchor| anchor.user.get()).to_le_bytes(),
            &self.anchor.map_or(0, |anchor| anchor.version.0).to_le_bytes(),
            &self.anchor.map_or(0, |anchor| anchor.amount).to_le_bytes(),
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<PgPosition> {
        let bytes: &[u8; POSITION_BYTES] = bytes.try_into().ok()?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let position = PgPosition {
            system: u64_at(4)?,
            table_oid: u32_at(12)?,
            timeline: u32_at(16)?,
            publication: u64_at(20)?,
            lsn: Lsn(u64_at(28)?),
            look: u64_at(36)?,
            anchor: match Version(u64_at(52)?) {
                Version(0) => None,
                version => Some(Anchor {
                    user: UserId::new(u64_at(44)?)?,
                    version,
                    amount: u64_at(60)?.cast_signed(),
                }),
            },
        };
        bytes.starts_with(&MARK).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for (text, lsn) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)] {
            assert_eq!((text.parse(), Lsn(lsn).to_string().as_str()), (Ok(Lsn(lsn)), text));
        }
        for text in ["", "/", "1", "1/", "/1", "1/G", "1/123456789", "+1/1", "1/1/1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn where_a_page_begins_its_header_is_not_waited_for() {
        for (insert, enough) in
            [(8_192 + 24, 8_192), (16_777_216 + 40, 16_777_216), (8_192 + 48, 8_240), (0, 0)]
        {
            assert_eq!(Lsn(insert).before_page_header(), Lsn(enough));
        }
    }

    #[test]
    fn a_position_survives_as_bytes_and_is_compared_within_one_history() {
        let anchor = UserId::new(5).map(|user| Anchor { user, version: Version(6), amount: 7 });
        let position =
            PgPosition { system: 7, table_oid: 1, timeline: 2, publication: 3, look: 9, lsn: Lsn(4), anchor };
        for position in [position, PgPosition { anchor: None, ..position }] {
            assert_eq!(PgPosition::decode(&position.encode()), Some(position));
        }
        assert_eq!(PgPosition::decode(&position.encode()[1..]), None);
        assert_eq!(PgPosition::decode(&[0; POSITION_BYTES]), None);
        assert!(position < PgPosition { lsn: Lsn(5), ..position });
        assert_eq!(position.partial_cmp(&PgPosition { timeline: 3, ..position }), None);
    }
}
