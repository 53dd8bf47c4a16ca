//! What a publication has to be, so that every change of a ledger's table is published by it: for who follows one, who checks one
//! and who makes one.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::answer::{self, is, number};
use crate::facts::Table;
use crate::failure::Failure;
use crate::wire::Wire;

/// What is wrong with a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// There is none of its name.
    Missing,
    /// It has other tables.
    NotTheTable,
    /// It has a WHERE.
    SomeRows,
    /// It leaves out updates, say.
    SomeChanges,
    /// It names columns. Whether those that are read are among them shows when the stream begins.
    SomeColumns,
}

impl Fault {
    /// Whether nobody can follow it.
    pub fn is_fatal(self) -> bool {
        self != Fault::SomeColumns
    }

    /// What it is, and what to do.
    pub fn sentence(self, name: &str, table: &Table) -> String {
        let (quoted, table) = (escape_identifier(name), &table.name);
        match self {
            Fault::Missing => format!(
                "the database has no publication {name}: as the table's owner run `florin ledger init`, or {}",
                statement(name, table)
            ),
            Fault::NotTheTable => format!(
                "the publication {name} does not publish the table: ALTER PUBLICATION {quoted} ADD TABLE {table}"
            ),
            Fault::SomeRows => format!(
                "the publication {name} publishes only some of the rows (it has a WHERE), and a node needs all of them: ALTER PUBLICATION \
                 {quoted} SET TABLE {table}"
            ),
            Fault::SomeChanges => format!(
                "the publication {name} leaves out some kinds of changes, and a node would not notice them: ALTER PUBLICATION {quoted} SET \
                 (publish = 'insert, update, delete, truncate')"
            ),
            Fault::SomeColumns => format!(
                "the publication {name} publishes only some of the columns: those that a node reads have to be among them"
            ),
        }
    }
}

/// The statement that makes one; `table` as SQL has it.
pub fn statement(name: &str, table: &str) -> String {
    format!(
        "CREATE PUBLICATION {} FOR TABLE {table} WITH (publish_via_partition_root = true)",
        escape_identifier(name)
    )
}

/// Looks what is wrong.
///
/// # Errors
/// Where the server does not answer.
pub async fn faults(wire: &mut Wire, name: &str, table: &Table) -> Result<Vec<Fault>, Failure> {
    let (literal, oid) = (escape_literal(name), table.oid);
    let known = format!(
        "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication WHERE pubname = {literal}"
    );
    // The function below refuses a name that it does not know.
    let Some(row) = wire.query(&known).await?.into_iter().next() else { return Ok(vec![Fault::Missing]) };
    let has_all_changes = is(&row, 0)?;
    // Of a partitioned table, the parts may be what is published. All columns are where none are named; servers differ in how
    // they say so.
    let tables = format!(
        "SELECT count(*), count(g.qual), count(*) FILTER (WHERE NOT (g.attrs IS NULL OR cardinality(g.attrs::int2[]) = \
         (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = g.relid AND a.attnum > 0 AND NOT a.attisdropped))) \
         FROM pg_get_publication_tables({literal}) g WHERE g.relid IN (SELECT relid FROM pg_partition_tree({oid}) UNION SELECT {oid})"
    );
    let row = answer::row(wire, &tables).await?;
    let (all, filtered, narrowed): (u64, u64, u64) = (number(&row, 0)?, number(&row, 1)?, number(&row, 2)?);
    let found = [
        (Fault::NotTheTable, all == 0),
        (Fault::SomeRows, filtered > 0),
        (Fault::SomeChanges, !has_all_changes),
        (Fault::SomeColumns, narrowed > 0),
    ];
    Ok(found.into_iter().filter_map(|(fault, holds)| holds.then_some(fault)).collect())
}

/// For who follows: makes it where it is not there, and refuses one that cannot be followed.
///
/// # Errors
/// What it does not publish, and how to mend that.
pub async fn followable(wire: &mut Wire, name: &str, table: &Table) -> Result<(), Failure> {
    let mut faults = faults(wire, name, table).await?;
    if faults == [Fault::Missing] {
        wire.query(&statement(name, &table.name)).await.map_err(|error| {
            Failure::Unavailable(format!(
                "this role may not make the publication ({error}), and {}",
                Fault::Missing.sentence(name, table)
            ))
        })?;
        tracing::info!("made the publication {name} of table {}", table.name);
        faults.clear();
    }
    match faults.into_iter().find(|fault| fault.is_fatal()) {
        Some(fault) => Err(Failure::Unavailable(fault.sentence(name, table))),
        None => Ok(()),
    }
}
