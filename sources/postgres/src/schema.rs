//! `florin ledger init`: the table with its triggers, the publication, and the roles of nodes and of writers. To run it again
//! changes nothing.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::address::TableName;
use crate::failure::Failure;
use crate::target::{Purpose, Target};
use crate::wire::Wire;

const SCHEMA: &str = include_str!("schema.sql");

/// Who may do what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// Follows the ledger: reads the table and the stream of its changes.
    pub reader: Option<String>,
    /// Adds to it, too.
    pub writer: Option<String>,
}

/// Names of what stands beside the table.
pub(crate) struct Beside {
    pub accounts: TableName,
    assign: TableName,
    refuse: TableName,
    identity: String,
}

impl Beside {
    pub(crate) fn of(table: &TableName) -> Beside {
        // PostgreSQL cuts names after 63 bytes; two that are cut alike would be one.
        let end = (0..=40.min(table.table.len())).rev().find(|&at| table.table.is_char_boundary(at));
        let stem = &table.table[..end.unwrap_or(0)];
        let beside = |suffix| TableName { schema: table.schema.clone(), table: format!("{stem}_{suffix}") };
        Beside {
            accounts: beside("accounts"),
            assign: beside("assign_version"),
            refuse: beside("refuse_change"),
            identity: format!("{stem}_user_version"),
        }
    }
}

/// Makes what is missing, and says what it did.
///
/// # Errors
/// What the server refuses; then nothing was made.
pub async fn init(target: &Target, roles: &Roles) -> Result<Vec<String>, Failure> {
    if !target.mapping.is_own() {
        return Err(Failure::Replaced(
            "a table that is mapped ([ledger.columns], [ledger.kinds]) is left as it is: `florin ledger check` says what it lacks"
                .to_owned(),
        ));
    }
    let mut wire = target.connect(Purpose::Questions).await?;
    wire.query("BEGIN").await?;
    let done = make(&mut wire, target, roles).await?;
    wire.query("COMMIT").await?;
    Ok(done)
}

async fn make(wire: &mut Wire, target: &Target, roles: &Roles) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    let table = &target.address.table;
    let schema = &table.schema;
    if is_none(wire, &format!("SELECT 1 FROM pg_namespace WHERE nspname = {}", escape_literal(schema)))
        .await?
    {
        wire.query(&format!("CREATE SCHEMA {}", escape_identifier(schema))).await?;
        done.push(format!("made the schema {schema}"));
    }
    let is_new = is_none(wire, &format!("SELECT to_regclass({})", escape_literal(&table.quoted()))).await?;
    wire.query(&schema_of(table)).await?;
    done.push(match is_new {
        true => format!("made the table {table}, which numbers each account's rows and refuses changes"),
        false => format!("the table {table} was there; its triggers and its replica identity are set"),
    });
    let publication = &target.address.publication;
    let known = format!("SELECT 1 FROM pg_publication WHERE pubname = {}", escape_literal(publication));
    let published = format!(
        "SELECT 1 FROM pg_publication_tables WHERE pubname = {} AND schemaname = {} AND tablename = {}",
        escape_literal(publication),
        escape_literal(schema),
        escape_literal(&table.table)
    );
    let (name, of) = (escape_identifier(publication), table.quoted());
    if is_none(wire, &known).await? {
        let make =
            format!("CREATE PUBLICATION {name} FOR TABLE {of} WITH (publish_via_partition_root = true)");
        wire.query(&make).await?;
        done.push(format!("made the publication {publication}"));
    } else if is_none(wire, &published).await? {
        wire.query(&format!("ALTER PUBLICATION {name} ADD TABLE {of}")).await?;
        done.push(format!("added the table to the publication {publication}"));
    } else {
        done.push(format!("the publication {publication} was there"));
    }
    if let Some(reader) = &roles.reader {
        done.extend(grant(wire, table, reader, true).await?);
    }
    if let Some(writer) = &roles.writer {
        done.extend(grant(wire, table, writer, false).await?);
    }
    Ok(done)
}

fn schema_of(table: &TableName) -> String {
    let beside = Beside::of(table);
    SCHEMA
        .replace("{table}", &table.quoted())
        .replace("{accounts}", &beside.accounts.quoted())
        .replace("{assign}", &beside.assign.quoted())
        .replace("{refuse}", &beside.refuse.quoted())
        .replace("{identity}", &escape_identifier(&beside.identity))
}

async fn grant(
    wire: &mut Wire,
    table: &TableName,
    role: &str,
    follows: bool,
) -> Result<Vec<String>, Failure> {
    let (name, mut done) = (escape_identifier(role), Vec::new());
    let attribute = if follows { "LOGIN REPLICATION" } else { "LOGIN" };
    let has = if follows { "rolreplication" } else { "true" };
    let sql = format!("SELECT {has} OR rolsuper FROM pg_roles WHERE rolname = {}", escape_literal(role));
    match wire.query(&sql).await?.first().and_then(|row| row.first()?.clone()).as_deref() {
        None => {
            wire.query(&format!("CREATE ROLE {name} {attribute}")).await?;
            done.push(format!(
                "made the role {role} ({attribute}); it has no password yet (psql: \\password {role})"
            ));
        }
        Some("t") => {}
        Some(_) => {
            wire.query(&format!("ALTER ROLE {name} REPLICATION")).await?;
            done.push(format!("let the role {role} replicate"));
        }
    }
    let beside = Beside::of(table);
    let (may, accounts) = match follows {
        true => ("SELECT", "SELECT"),
        false => ("SELECT, INSERT", "SELECT, INSERT, UPDATE"),
    };
    let mut sql = format!(
        "GRANT USAGE ON SCHEMA {} TO {name}; GRANT {may} ON {} TO {name};",
        escape_identifier(&table.schema),
        table.quoted()
    );
    if !follows {
        sql.push_str(&format!("GRANT {accounts} ON {} TO {name};", beside.accounts.quoted()));
    }
    wire.query(&sql).await?;
    done.push(format!("the role {role} may {} {table}", if follows { "read" } else { "read and add to" }));
    Ok(done)
}

async fn is_none(wire: &mut Wire, sql: &str) -> Result<bool, Failure> {
    let rows = wire.query(sql).await?;
    Ok(rows.first().and_then(|row| row.first()).is_none_or(Option::is_none))
}
