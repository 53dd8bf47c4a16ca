//! What the server's catalogues say of the table, its publication and the slot.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::answer::{is, maybe, number, text};
use crate::decoder::Column;
use crate::decoder::value::Type;
use crate::failure::Failure;
use crate::position::Lsn;
use crate::row::OwnTypes;
use crate::wire::Wire;

/// The ledger's table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its object id.
    pub oid: u32,
    /// Its name as SQL has it, with its schema.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// How the types of its columns are read that are this database's own.
    pub types: OwnTypes,
    /// Of its largest part.
    pub pages: u64,
}

/// A replication slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// What was confirmed to it; none = it was lost.
    pub confirmed: Option<Lsn>,
    /// `pgoutput`, or somebody else's.
    pub plugin: String,
    /// Its database.
    pub database: String,
    /// Who uses it.
    pub active_pid: Option<i32>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Bytes of the log that are kept for it.
    pub retained: u64,
}

/// How a table is looked for.
#[derive(Clone, Copy, Debug)]
pub enum TableRef<'a> {
    /// As SQL would name it.
    Name(&'a str),
    /// By what stays when it is renamed.
    Oid(u32),
}

/// Looks at the table.
///
/// # Errors
/// Where it is not there, or the server does not answer.
pub async fn table(wire: &mut Wire, which: TableRef<'_>) -> Result<Table, Failure> {
    let oid = match which {
        TableRef::Name(name) => format!("to_regclass({})", escape_literal(name)),
        TableRef::Oid(oid) => oid.to_string(),
    };
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, \
         c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid), row_security_active(c.oid), current_user, \
         (SELECT coalesce(max(pg_relation_size(relid)), 0) / current_setting('block_size')::bigint FROM (SELECT relid FROM pg_partition_tree(c.oid) UNION SELECT c.oid) parts) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}"
    );
    let found = wire.query(&sql).await?;
    let Some(row) = found.first() else {
        let reason = match which {
            TableRef::Name(name) => format!(
                "the database has no table {name}, or this role may not see it: name it with table=, or make it with \
                 `florin ledger init`"
            ),
            TableRef::Oid(oid) => {
                format!("the ledger's table (object id {oid}) was removed from the database")
            }
        };
        return Err(Failure::Unavailable(reason));
    };
    if !["r", "p"].contains(&text(row, 3)?) {
        return Err(Failure::Unavailable(format!(
            "{} is no table: only tables are replicated",
            text(row, 2)?
        )));
    }
    let name = format!("{}.{}", escape_identifier(text(row, 1)?), escape_identifier(text(row, 2)?));
    if is(row, 4)? {
        return Err(Failure::Unavailable(format!(
            "other tables inherit from {name}: their rows would be among the loaded ones and not among the followed ones; use \
             partitions instead (PARTITION BY), or ALTER TABLE … NO INHERIT"
        )));
    }
    if is(row, 5)? {
        return Err(Failure::Unavailable(format!(
            "row-level security may hide rows of {name} from the role {role}, and balances would be wrong: ALTER ROLE {role} BYPASSRLS",
            role = text(row, 6)?
        )));
    }
    let (oid, pages) = (number(row, 0)?, number(row, 7)?);
    // What is generated is not replicated.
    let sql = format!(
        "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped AND attgenerated = '' \
         ORDER BY attnum"
    );
    let mut columns = Vec::new();
    for row in wire.query(&sql).await? {
        columns.push(Column { is_key: false, name: text(&row, 0)?.to_owned(), type_oid: number(&row, 1)? });
    }
    let types = own_types(wire, &columns).await?;
    Ok(Table { oid, name, columns, types, pages })
}

/// How the types of these columns are read that are this database's own.
///
/// # Errors
/// Where the server does not answer.
pub async fn own_types(wire: &mut Wire, columns: &[Column]) -> Result<OwnTypes, Failure> {
    let own = columns.iter().map(|column| column.type_oid).filter(|&oid| Type::of_oid(oid).is_none());
    let own: Vec<String> = own.map(|oid| oid.to_string()).collect();
    if own.is_empty() {
        return Ok(OwnTypes::new());
    }
    let sql = format!(
        "WITH RECURSIVE base (own, oid, typtype, typbasetype) AS (\
             SELECT t.oid, t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid IN ({}) \
             UNION ALL SELECT b.own, t.oid, t.typtype, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typbasetype \
             WHERE b.typtype = 'd') \
         SELECT own, oid, typtype FROM base WHERE typtype <> 'd'",
        own.join(", ")
    );
    let mut types = OwnTypes::new();
    for row in wire.query(&sql).await? {
        let of = if text(&row, 2)? == "e" { Some(Type::Text) } else { Type::of_oid(number(&row, 1)?) };
        if let Some(of) = of {
            types.insert(number(&row, 0)?, of);
        }
    }
    Ok(types)
}

/// Whether a table is a part of the ledger's.
///
/// # Errors
/// Where the server does not answer.
pub async fn is_part(wire: &mut Wire, part: u32, table: u32) -> Result<bool, Failure> {
    let sql = format!("SELECT 1 FROM pg_partition_ancestors({part}) WHERE relid = {table}");
    Ok(!wire.query(&sql).await?.is_empty())
}

/// Looks at a slot.
///
/// # Errors
/// Where the server does not answer.
pub async fn slot(wire: &mut Wire, name: &str) -> Result<Option<Slot>, Failure> {
    let sql = format!(
        "SELECT coalesce(plugin, ''), coalesce(database, ''), active_pid, confirmed_flush_lsn, coalesce(wal_status, 'lost'), \
             coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint \
         FROM pg_replication_slots WHERE slot_name = {}",
        escape_literal(name)
    );
    let found = wire.query(&sql).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let wal_status = text(row, 4)?.to_owned();
    let confirmed = maybe(row, 3).and_then(|text| text.parse().ok());
    Ok(Some(Slot {
        confirmed: confirmed.filter(|_| wal_status != "lost"),
        plugin: text(row, 0)?.to_owned(),
        database: text(row, 1)?.to_owned(),
        active_pid: maybe(row, 2).and_then(|text| text.parse().ok()),
        wal_status,
        retained: number::<i64>(row, 5)?.max(0).unsigned_abs(),
    }))
}
