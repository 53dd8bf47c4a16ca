//! What the server's catalogues say of the ledger's table, as far as rows could come, go or change without a word in the stream: a
//! publication that was altered, partitions that were attached, detached or emptied, columns that were rewritten or bear another's name.
//! One query; what has moved between two looks is judged.
//!
//! | what has moved | what follows |
//! | --- | --- |
//! | the publication; a partition that came with rows | rows went by unpublished: everything is loaded on top |
//! | a partition that left, or was emptied; a name that is another column; values that were rewritten | what is held is not what the table holds: nobody can follow |
//! | no UNIQUE over account and version; a server that counts a node among its standbys | it is waited for |
//! | a partition that came empty; VACUUM FULL, CLUSTER; other columns; statistics | nothing |

use std::collections::BTreeMap;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::facts::Table;
use crate::failure::Failure;
use crate::mapping::{Field, Mapping};
use crate::wire::{Answer, Wire};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Look {
    publication: String,
    /// By field, where it has a column: the column's number, and which transaction altered it last. None = it is not there.
    columns: Vec<(Field, Option<(String, String)>)>,
    /// By object id: the tables that rows are in.
    parts: BTreeMap<u32, Part>,
    is_unique: bool,
    counts_nodes: bool,
    /// Rows of the table that were changed or removed, or were about to be, since the server counts them.
    pub changes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Part {
    name: String,
    /// The file that its rows are in.
    file: String,
    /// The transactions that altered it and that made it a part.
    altered: String,
    added: String,
    has_pages: bool,
    /// Nobody has counted its rows since it was made or emptied; VACUUM FULL and CLUSTER count them.
    is_new: bool,
}

/// Whether the server counts whoever follows its log among the standbys that a commit waits for, for any name will do. Without a
/// backslash, which means something else where `standard_conforming_strings` is off.
pub const COUNTS_NODES: &str =
    r#"current_setting('synchronous_standby_names') ~ '(^|[[:space:],("])[*]($|[[:space:],)"])'"#;

/// What is said of such a server. A node confirms what its checkpoints have: that is late, and no copy of the ledger.
pub const NODES_ARE_COUNTED: &str = "synchronous_standby_names has a *, by which a node that follows counts as a standby: commits would wait \
    for its checkpoints, and be taken for safe where no standby has them. Name the standbys: ALTER SYSTEM SET synchronous_standby_names \
    = 'db2', and SELECT pg_reload_conf()";

/// The statement that looks.
pub fn statement(publication: &str, table: u32, mapping: &Mapping) -> String {
    let column = |field| match mapping.column(field) {
        Some(name) => format!(
            "coalesce((SELECT a.attnum || ':' || a.xmin FROM pg_attribute a WHERE a.attrelid = {table} AND NOT a.attisdropped \
             AND a.attname = {}), '-')",
            escape_literal(name)
        ),
        None => "''".to_owned(),
    };
    format!(
        "SELECT (SELECT concat_ws(' ', p.oid, p.xmin, \
             (SELECT r.xmin FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = {table}), \
             (SELECT string_agg(s.oid || ':' || s.xmin, ' ' ORDER BY s.oid) FROM pg_publication_namespace s \
              WHERE s.pnpubid = p.oid)) FROM pg_publication p WHERE p.pubname = {}), \
         concat_ws(' ', {}), {}, {COUNTS_NODES}, sum(pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)), \
         string_agg(concat_ws(' ', c.oid, c.relfilenode, c.xmin, coalesce(i.xmin, '0'), (pg_relation_size(c.oid) > 0)::int, (c.reltuples < 0)::int, c.oid::regclass), \
             e'\\n' ORDER BY c.oid) \
         FROM (SELECT relid FROM pg_partition_tree({table}) WHERE isleaf UNION SELECT {table}) parts \
         JOIN pg_class c ON c.oid = parts.relid LEFT JOIN pg_inherits i ON i.inhrelid = c.oid",
        escape_literal(publication),
        Field::ALL.map(column).join(", "),
        is_unique(table, mapping),
    )
}

/// Whether the server refuses a second row of an account's version. Where partitions go by another column, that has to be in the index,
/// and two partitions could have one each.
pub fn is_unique(table: u32, mapping: &Mapping) -> String {
    let (Some(user), Some(version)) = (mapping.column(Field::UserId), mapping.column(Field::Version)) else {
        return "true".to_owned();
    };
    format!(
        "EXISTS (SELECT FROM pg_index x WHERE x.indrelid = {table} AND x.indisunique AND x.indisvalid AND x.indpred IS NULL \
             AND x.indexprs IS NULL AND NOT EXISTS (SELECT FROM unnest(x.indkey::int2[]) WITH ORDINALITY k (number, place) \
                 WHERE k.place <= x.indnkeyatts \
                 AND k.number NOT IN (SELECT attnum FROM pg_attribute WHERE attrelid = {table} AND attname IN ({}, {})) \
                 AND k.number <> ALL (coalesce((SELECT partattrs::int2[] FROM pg_partitioned_table WHERE partrelid = {table}), '{{}}'))))",
        escape_literal(user),
        escape_literal(version)
    )
}

/// What is said where the server would take a second row of an account's version.
pub fn not_unique(table: &str, mapping: &Mapping) -> String {
    let name = |field| mapping.column(field).map(escape_identifier).unwrap_or_default();
    format!(
        "nothing keeps {table} from having two rows of one account and version, and balances could be wrong: CREATE UNIQUE INDEX ON {table} \
         ({}, {})",
        name(Field::UserId),
        name(Field::Version)
    )
}

impl Look {
    /// Runs the statement.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn take(wire: &mut Wire, sql: &str) -> Result<Look, Failure> {
        let answer = wire.query(sql).await?;
        let strange = || Failure::Unavailable("PostgreSQL's catalogue does not tell of the table".to_owned());
        Look::read(answer.first().ok_or_else(strange)?).ok_or_else(strange)
    }

    fn read(row: &Answer) -> Option<Look> {
        let text = |at: usize| row.get(at)?.as_deref();
        let column = |(field, word): (Field, &str)| match word {
            // It has none.
            "" => None,
            word => Some((field, word.split_once(':').map(|(at, by)| (at.to_owned(), by.to_owned())))),
        };
        let part = |line: &str| {
            let mut words = line.splitn(7, ' ');
            let oid = words.next()?.parse().ok()?;
            let mut word = || words.next().map(str::to_owned);
            let (file, altered, added) = (word()?, word()?, word()?);
            Some((
                oid,
                Part {
                    has_pages: word()? == "1",
                    is_new: word()? == "1",
                    name: word()?,
                    file,
                    altered,
                    added,
                },
            ))
        };
        Some(Look {
            publication: text(0).unwrap_or_default().to_owned(),
            columns: Field::ALL.into_iter().zip(text(1)?.split(' ')).filter_map(column).collect(),
            is_unique: text(2)? == "t",
            counts_nodes: text(3)? == "t",
            changes: text(4).and_then(|count| count.parse().ok()).unwrap_or(0),
            parts: text(5)?.lines().map(part).collect::<Option<_>>()?,
        })
    }

    /// Of the publication alone.
    pub fn publication_digest(&self) -> u64 {
        digest(&self.publication)
    }

    /// Of everything that a process which was not there would have to see unmoved.
    pub fn digest(&self) -> u64 {
        let parts: Vec<_> = self.parts.iter().map(|(oid, part)| (oid, &part.file)).collect();
        digest(&format!("{:?} {parts:?}", self.columns))
    }

    /// Whether nothing has moved that is judged. Whether a table has pages moves with each first row.
    pub fn is_as(&self, now: &Look) -> bool {
        let of = |look: &Look| {
            let parts = look.parts.iter().map(|(&oid, part)| (oid, part.file.clone())).collect::<Vec<_>>();
            (look.publication.clone(), look.columns.clone(), parts, look.is_unique)
        };
        of(self) == of(now)
    }

    /// Whether a stream from this server would be no standby's.
    ///
    /// # Errors
    /// Where it would count as one.
    pub fn check_standbys(&self) -> Result<(), Failure> {
        if self.counts_nodes { Err(Failure::Unavailable(NODES_ARE_COUNTED.to_owned())) } else { Ok(()) }
    }

    /// Judges what has moved since this look.
    ///
    /// # Errors
    /// What follows from it.
    pub async fn judge(
        &self,
        now: &Look,
        wire: &mut Wire,
        table: &Table,
        mapping: &Mapping,
    ) -> Result<(), Failure> {
        if !now.is_unique {
            return Err(Failure::Unavailable(not_unique(&table.name, mapping)));
        }
        let name = |field| mapping.column(field).unwrap_or_default();
        let is_rewritten =
            self.parts.iter().any(|(oid, part)| now.parts.get(oid).is_some_and(|now| now.file != part.file));
        for ((field, before), (_, after)) in self.columns.iter().zip(&now.columns) {
            let (Some((at, by)), Some((now_at, now_by))) = (before, after) else { continue };
            if at != now_at {
                return Err(Failure::Changed(format!(
                    "the column {} is another one than it was",
                    name(*field)
                )));
            }
            if by != now_by && is_rewritten {
                return Err(Failure::Changed(format!(
                    "ALTER TABLE has rewritten the column {}",
                    name(*field)
                )));
            }
        }
        for (oid, part) in &self.parts {
            let Some(now) = now.parts.get(oid) else {
                return Err(Failure::Changed(format!("the partition {} was detached or removed", part.name)));
            };
            if now.file != part.file
                && part.has_pages
                && part.added != "0"
                && !has_rows(wire, now, ">", &now.altered).await?.unwrap_or(!now.is_new)
            {
                return Err(Failure::Changed(format!("the partition {} was emptied (TRUNCATE)", part.name)));
            }
        }
        if now.publication != self.publication {
            return Err(Failure::Lost("the publication was altered".to_owned()));
        }
        for (_, part) in now.parts.iter().filter(|(oid, _)| !self.parts.contains_key(oid)) {
            if has_rows(wire, part, ">=", &part.added).await?.unwrap_or(part.has_pages) {
                return Err(Failure::Lost(format!("the partition {} was attached, and has rows", part.name)));
            }
        }
        Ok(())
    }

    /// Judges what was changed while nobody followed: more than `before`.
    ///
    /// # Errors
    /// That rows were.
    pub fn check_changes(&self, before: u64) -> Result<(), Failure> {
        let since = self.changes.saturating_sub(before);
        if since == 0 {
            return Ok(());
        }
        Err(Failure::Changed(format!(
            "{since} rows were changed or removed while the ledger was not followed, and nobody says which"
        )))
    }

    /// Keeps in mind which files had pages. A TRUNCATE may be under way: the file is the old one by then, and its size the new one's.
    pub fn remember(&mut self, before: &Look) {
        for (oid, part) in &mut self.parts {
            let had_pages = |known: &&Part| known.file == part.file && known.has_pages;
            part.has_pages |= before.parts.get(oid).as_ref().is_some_and(had_pages);
        }
    }

    /// Whether a column is missing: whoever reads rows says so, and there may be one again.
    pub fn lacks_column(&self) -> bool {
        self.columns.iter().any(|(_, column)| column.is_none())
    }
}

/// Whether a table has rows that are older than a transaction, or of it; `None` where this role may read the whole table and not its parts.
async fn has_rows(wire: &mut Wire, part: &Part, older: &str, than: &str) -> Result<Option<bool>, Failure> {
    let sql =
        format!("SELECT EXISTS (SELECT FROM ONLY {} WHERE age(xmin) {older} age('{than}'::xid))", part.name);
    match wire.query(&sql).await {
        Ok(answer) => Ok(Some(answer.first().is_some_and(|row| row.first() == Some(&Some("t".to_owned()))))),
        Err(error) if error.is_code("42501") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn digest(text: &str) -> u64 {
    text.bytes().fold(0, |hash, byte| florin_schema::ids::mix(hash ^ u64::from(byte)))
}
