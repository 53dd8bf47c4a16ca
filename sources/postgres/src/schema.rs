//! `florin ledger init`: the table with its triggers, the publication, and the roles of nodes and of writers. To run it again
//! changes nothing.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::address::TableName;
use crate::answer;
use crate::beside::Beside;
use crate::facts::{self, TableRef};
use crate::failure::{Failure, refused};
use crate::publication::{self, Fault};
use crate::target::{Purpose, Target};
use crate::wire::Wire;

const SCHEMA: &str = include_str!("schema.sql");

pub use crate::roles::Roles;

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
    roles.check()?;
    let mut wire = target.connect(Purpose::Questions).await?;
    wire.query("BEGIN").await?;
    let done = make(&mut wire, target, roles).await?;
    wire.query("COMMIT").await?;
    Ok(done)
}

async fn make(wire: &mut Wire, target: &Target, roles: &Roles) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    let table = &target.address.table;
    let (schema, user) = (&table.schema, escape_identifier(&target.address.user));
    let known = format!("SELECT 1 FROM pg_namespace WHERE nspname = {}", escape_literal(schema));
    let on_database =
        format!("GRANT CREATE ON DATABASE {} TO {user}", escape_identifier(&target.address.database));
    if !answer::is_some(wire, &known).await? {
        let make = format!("CREATE SCHEMA {}", escape_identifier(schema));
        let what = format!("cannot make the schema {schema}");
        wire.query(&make)
            .await
            .map_err(refused(what, format!("have the database's owner run: {on_database}")))?;
        done.push(format!("made the schema {schema}"));
    }
    let known = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", escape_literal(&table.quoted()));
    let was_there = answer::is_some(wire, &known).await?;
    let (what, help) = if was_there {
        (
            format!("the table {table} is there and cannot be made florin's, so it was left as it was"),
            "have its owner run this; a table of others is mapped ([ledger.columns]), or name another with table=".to_owned(),
        )
    } else {
        let grant = format!("GRANT USAGE, CREATE ON SCHEMA {} TO {user}", escape_identifier(schema));
        (format!("cannot make the table {table}"), format!("have the schema's owner run: {grant}"))
    };
    wire.query(&schema_of(table)).await.map_err(refused(what, help))?;
    done.push(match was_there {
        false => format!("made the table {table}, which numbers each account's rows and refuses changes"),
        true => format!("the table {table} was there; its triggers and its replica identity are set"),
    });
    done.extend(publish(wire, target, &on_database).await?);
    done.extend(roles.grant(wire, table).await?);
    Ok(done)
}

async fn publish(wire: &mut Wire, target: &Target, on_database: &str) -> Result<Vec<String>, Failure> {
    let publication = &target.address.publication;
    let table = facts::table(wire, TableRef::Name(&target.table())).await?;
    let faults = publication::faults(wire, publication, &table).await?;
    if faults.is_empty() {
        return Ok(vec![format!("the publication {publication} was there")]);
    }
    let mut done = Vec::new();
    for fault in faults {
        let sentence = fault.sentence(publication, &table);
        match fault {
            Fault::Missing => {
                let make = publication::statement(publication, &table.name);
                let what = format!("cannot make the publication {publication}");
                let help = format!("have the database's owner run: {on_database}");
                wire.query(&make).await.map_err(refused(what, help))?;
                done.push(format!("made the publication {publication}"));
            }
            Fault::NotTheTable => {
                let add =
                    format!("ALTER PUBLICATION {} ADD TABLE {}", escape_identifier(publication), table.name);
                let what = format!("cannot add the table to the publication {publication}");
                wire.query(&add).await.map_err(refused(what, format!("have its owner run: {add}")))?;
                done.push(format!("added the table to the publication {publication}"));
            }
            // Somebody wanted it so.
            Fault::SomeRows | Fault::SomeChanges | Fault::SomeColumns => done.push(sentence),
        }
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
