//! Who may do what with a ledger: the roles of nodes and of writers. Each is made where it is not there; what the server does not
//! let us do is said, with who can.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::address::TableName;
use crate::answer::{self, is};
use crate::beside::Beside;
use crate::failure::{Failure, refused};
use crate::limits::NAME_BYTES_MAX;
use crate::wire::Wire;

/// Of a managed PostgreSQL where nobody is a superuser and no role has REPLICATION: whoever is a member of this may replicate.
pub(crate) const MANAGED: &str = "rds_replication";

/// Who may do what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// Follows the ledger: reads the table and the stream of its changes.
    pub reader: Option<String>,
    /// Adds to it, too.
    pub writer: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Follow,
    Write,
}

impl Roles {
    /// # Errors
    /// A name that no role can have.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for role in [&self.reader, &self.writer].into_iter().flatten() {
            let why = match role.as_str() {
                "" => "it has no letters".to_owned(),
                "public" | "none" => "PostgreSQL means everybody or nobody by it".to_owned(),
                name if name.starts_with("pg_") => "PostgreSQL keeps names with pg_ for itself".to_owned(),
                name if name.len() > NAME_BYTES_MAX => {
                    format!(
                        "PostgreSQL cuts names after {NAME_BYTES_MAX} bytes, and this one has {}",
                        name.len()
                    )
                }
                _ => continue,
            };
            return Err(Failure::Replaced(format!("no role can be called {role:?}: {why}; name another")));
        }
        Ok(())
    }

    /// Lets them do what they are for, and says what it did.
    pub(crate) async fn grant(&self, wire: &mut Wire, table: &TableName) -> Result<Vec<String>, Failure> {
        let mut done = Vec::new();
        for (role, purpose) in [(&self.reader, Purpose::Follow), (&self.writer, Purpose::Write)] {
            let Some(role) = role else { continue };
            have(wire, role, purpose, &mut done).await?;
            let may = privileges(wire, table, role, purpose).await?;
            done.push(format!("the role {role} may {may} {table}"));
        }
        Ok(done)
    }
}

/// Sees to it that there is such a role, that may log in, and replicate where it follows.
async fn have(wire: &mut Wire, role: &str, purpose: Purpose, done: &mut Vec<String>) -> Result<(), Failure> {
    let (name, literal) = (escape_identifier(role), escape_literal(role));
    let is_managed =
        answer::is_some(wire, &format!("SELECT 1 FROM pg_roles WHERE rolname = '{MANAGED}'")).await?;
    let follows = purpose == Purpose::Follow;
    let known = format!(
        "SELECT rolsuper, rolcanlogin, rolreplication OR EXISTS (SELECT 1 FROM pg_roles m WHERE m.rolname = '{MANAGED}' AND \
         pg_has_role(r.oid, m.oid, 'member')) FROM pg_roles r WHERE rolname = {literal}"
    );
    let (may_replicate, join) =
        (format!("ALTER ROLE {name} REPLICATION"), format!("GRANT {MANAGED} TO {name}"));
    let allow = if is_managed { &join } else { &may_replicate };
    let Some(row) = wire.query(&known).await?.into_iter().next() else {
        let attributes = if follows && !is_managed { "LOGIN REPLICATION" } else { "LOGIN" };
        let make = format!("CREATE ROLE {name} {attributes}");
        wire.query(&make).await.map_err(refused(
            format!("cannot make the role {role}"),
            format!("have somebody who may run: {make}; then run this again"),
        ))?;
        done.push(format!(
            "made the role {role} ({attributes}); it has no password yet (psql: \\password {role})"
        ));
        return if follows && is_managed { replicate(wire, role, allow, done).await } else { Ok(()) };
    };
    if is(&row, 0)? {
        done.push(format!(
            "the role {role} is a superuser, who may do everything: a node needs a role of its own"
        ));
        return Ok(());
    }
    if !is(&row, 1)? {
        done.push(format!(
            "the role {role} was there, and may not log in: ALTER ROLE {name} LOGIN, or name another"
        ));
    }
    if follows && !is(&row, 2)? {
        replicate(wire, role, allow, done).await?;
    }
    Ok(())
}

async fn replicate(wire: &mut Wire, role: &str, allow: &str, done: &mut Vec<String>) -> Result<(), Failure> {
    wire.query(allow).await.map_err(refused(
        format!("cannot let the role {role} replicate"),
        format!("have somebody who may run: {allow}; then run this again"),
    ))?;
    done.push(format!("let the role {role} replicate"));
    Ok(())
}

/// Grants what is needed, and looks whether it is there: a server only warns where a grant is not ours to make.
async fn privileges(
    wire: &mut Wire,
    table: &TableName,
    role: &str,
    purpose: Purpose,
) -> Result<&'static str, Failure> {
    let (name, accounts) = (escape_identifier(role), Beside::of(table).accounts.quoted());
    let (schema, of) = (escape_identifier(&table.schema), table.quoted());
    let (may, grants) = match purpose {
        Purpose::Follow => ("read", vec![format!("SELECT ON {of}")]),
        Purpose::Write => (
            "read and add to",
            vec![format!("SELECT, INSERT ON {of}"), format!("SELECT, INSERT, UPDATE ON {accounts}")],
        ),
    };
    let grants: Vec<String> = [format!("USAGE ON SCHEMA {schema}")].into_iter().chain(grants).collect();
    for grant in &grants {
        let sql = format!("GRANT {grant} TO {name}");
        let help = format!("have its owner run: {sql}; then run this again");
        wire.query(&sql).await.map_err(refused(format!("cannot let the role {role} {may} {table}"), help))?;
    }
    let literal = escape_literal(role);
    let has = |privileges: &[&str], of: &str| {
        let each = privileges
            .iter()
            .map(|one| format!("has_table_privilege({literal}, {}, '{one}')", escape_literal(of)));
        each.collect::<Vec<_>>().join(" AND ")
    };
    let tables = match purpose {
        Purpose::Follow => has(&["SELECT"], &of),
        Purpose::Write => {
            format!(
                "{} AND {}",
                has(&["SELECT", "INSERT"], &of),
                has(&["SELECT", "INSERT", "UPDATE"], &accounts)
            )
        }
    };
    let sql = format!(
        "SELECT has_schema_privilege({literal}, {}, 'USAGE') AND {tables}",
        escape_literal(&table.schema)
    );
    if is(&answer::row(wire, &sql).await?, 0)? {
        return Ok(may);
    }
    let grants: Vec<String> = grants.iter().map(|grant| format!("GRANT {grant} TO {name}")).collect();
    Err(Failure::Unavailable(format!(
        "the role {role} may still not {may} {table}, for some of it is not ours to grant: have the owner of schema and table run: {}; then run this again",
        grants.join("; ")
    )))
}
