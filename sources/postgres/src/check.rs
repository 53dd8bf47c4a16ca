//! `florin ledger check`: what a node would miss, in sentences that say what to do. It changes nothing, and a table of any size is
//! looked at in samples.

use florin_record::{Finding, Findings};
use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::answer::{self, is, maybe, number, text};
use crate::facts::{self, Table, TableRef};
use crate::failure::Failure;
use crate::limits::{ACCOUNTS_LOOKED_AT, LOOK_TIMEOUT, ROWS_LOOKED_AT};
use crate::look;
use crate::mapping::{Field, Mapping};
use crate::publication;
use crate::roles::MANAGED;
use crate::row::Shape;
use crate::target::{Purpose, Target};
use crate::wire::Wire;

/// Looks at the server, the role, the table, the publication and the slot.
///
/// # Errors
/// Where the server does not answer.
pub async fn check(target: &Target) -> Result<Vec<Finding>, Failure> {
    let mut wire = target.connect(Purpose::Questions).await?;
    let mut found = Findings::default();
    server(&mut wire, target, &mut found).await?;
    match facts::table(&mut wire, TableRef::Name(&target.table())).await {
        Ok(table) => {
            let may_read = role(&mut wire, target, &table, &mut found).await?;
            shape(&mut wire, target, &table, &mut found).await?;
            if may_read && Shape::of(&table.columns, &table.types, &target.mapping).is_ok() {
                content(&mut wire, &target.mapping, &table, &mut found).await?;
            }
            publication(&mut wire, target, &table, &mut found).await?;
        }
        Err(Failure::Unavailable(reason)) => found.wrong(reason),
        Err(failure) => return Err(failure),
    }
    Ok(found.into_vec())
}

async fn server(wire: &mut Wire, target: &Target, found: &mut Findings) -> Result<(), Failure> {
    let sql = format!(
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'), \
         current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots), \
         current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication), {}",
        look::COUNTS_NODES
    );
    let row = answer::row(wire, &sql).await?;
    let version: u32 = number(&row, 0)?;
    match version {
        15..=18 => found.right(format!("PostgreSQL {version}")),
        19.. => {
            found.notable(format!("PostgreSQL {version} is newer than what florin was tried with (15 to 18)"))
        }
        _ => found.wrong(format!("PostgreSQL {version} is too old: florin follows 15 to 18")),
    }
    match text(&row, 1)? {
        "logical" => found.right("wal_level is logical"),
        level => found.wrong(format!(
            "wal_level is {level}, so nothing can be followed: ALTER SYSTEM SET wal_level = 'logical', and restart PostgreSQL"
        )),
    }
    let (free_slots, free_senders): (i64, i64) = (number(&row, 2)?, number(&row, 3)?);
    let slot = facts::slot(wire, &target.address.slot).await?;
    let name = &target.address.slot;
    match &slot {
        Some(slot) if slot.plugin != "pgoutput" || slot.database != target.address.database => found.wrong(format!(
            "the replication slot {name} is somebody else's (plugin {}, database {}): name another with slot=",
            slot.plugin, slot.database
        )),
        Some(slot) if slot.confirmed.is_none() => found.notable(format!(
            "the replication slot {name} has lost its place (wal_status {}): the node will load everything again; raise \
             max_slot_wal_keep_size",
            slot.wal_status
        )),
        Some(_) => found.right(format!("the replication slot {name} is there")),
        None if free_slots < 1 => found.wrong(
            "no replication slot is free: raise max_replication_slots, and restart PostgreSQL, or drop one that nobody uses",
        ),
        None => found.right(format!("a replication slot is free; the node will make {name}")),
    }
    if free_senders < 2 {
        found.wrong("fewer than two WAL senders are free: raise max_wal_senders, and restart PostgreSQL");
    }
    if is(&row, 4)? {
        found.wrong(look::NODES_ARE_COUNTED);
    }
    Ok(())
}

/// Whether the table may be read.
async fn role(
    wire: &mut Wire,
    target: &Target,
    table: &Table,
    found: &mut Findings,
) -> Result<bool, Failure> {
    let privilege = |kind| format!("has_table_privilege({}, '{kind}')", table.oid);
    let sql = format!(
        "SELECT rolsuper, rolreplication OR rolsuper OR EXISTS (SELECT 1 FROM pg_roles m WHERE m.rolname = '{MANAGED}' AND \
         pg_has_role(r.oid, m.oid, 'member')), {}, {}, {} OR {} OR {} FROM pg_roles r WHERE rolname = current_user",
        privilege("SELECT"),
        privilege("INSERT"),
        privilege("UPDATE"),
        privilege("DELETE"),
        privilege("TRUNCATE")
    );
    let row = answer::row(wire, &sql).await?;
    let user = &target.address.user;
    let [is_super, may_replicate, may_read, may_add, may_change] =
        [is(&row, 0)?, is(&row, 1)?, is(&row, 2)?, is(&row, 3)?, is(&row, 4)?];
    if !may_replicate {
        found.wrong(format!(
            "the role {user} may not replicate: ALTER ROLE {} REPLICATION",
            escape_identifier(user)
        ));
    }
    if !may_read {
        found.wrong(format!(
            "the role {user} may not read the table: GRANT SELECT ON {} TO {}",
            table.name,
            escape_identifier(user)
        ));
    }
    if is_super {
        found.notable(format!(
            "{user} is a superuser, and a node needs no more than REPLICATION and SELECT: `florin ledger init --reader ROLE` makes \
             such a role"
        ));
    } else if may_change {
        found.notable(format!(
            "the role {user} could change and remove rows, which no node does: REVOKE that"
        ));
    } else if may_add {
        found.notable(format!("the role {user} may add rows: POST /v1/transactions works"));
    } else if may_replicate && may_read {
        found.right(format!("the role {user} may read and replicate, and no more"));
    }
    Ok(may_read)
}

async fn shape(wire: &mut Wire, target: &Target, table: &Table, found: &mut Findings) -> Result<(), Failure> {
    let mapping = &target.mapping;
    if let Err(error) = Shape::of(&table.columns, &table.types, mapping) {
        found.wrong(error.to_string());
        return Ok(());
    }
    found.right(format!("the table {} has every column, of types that are read", table.name));
    if let Some(persistence) =
        answer::row(wire, &format!("SELECT relpersistence FROM pg_class WHERE oid = {}", table.oid))
            .await?
            .first()
        && persistence.as_deref() != Some("p")
    {
        found.wrong(
            "the table is unlogged or temporary: nothing of it is replicated (ALTER TABLE … SET LOGGED)",
        );
    }
    let sql = format!(
        "SELECT c.relreplident = 'f' OR EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = \
         ANY (i.indkey) WHERE i.indrelid = c.oid AND (c.relreplident = 'i' AND i.indisreplident OR c.relreplident = 'd' AND \
         i.indisprimary) AND a.attname = {}) FROM pg_class c WHERE c.oid = {}",
        escape_literal(mapping.column(Field::UserId).unwrap_or_default()),
        table.oid
    );
    if is(&answer::row(wire, &sql).await?, 0)? {
        found.right("the replica identity says whose a removed row was");
    } else {
        found.notable(format!(
            "the replica identity does not say whose a changed or removed row was, so a node would have to stop: ALTER TABLE {} REPLICA \
             IDENTITY FULL, or USING a unique INDEX that has the user in it",
            table.name
        ));
    }
    Ok(())
}

async fn content(
    wire: &mut Wire,
    mapping: &Mapping,
    table: &Table,
    found: &mut Findings,
) -> Result<(), Failure> {
    kinds(wire, mapping, table, found).await?;
    let column = |field| mapping.column(field).map(escape_identifier);
    match (column(Field::UserId), column(Field::Version)) {
        (Some(user), Some(version)) => {
            let unique = format!("SELECT {}", look::is_unique(table.oid, mapping));
            if is(&answer::row(wire, &unique).await?, 0)? {
                found.right("no account can have two rows of one version");
            } else {
                found.wrong(look::not_unique(&table.name, mapping));
            }
            gaps(wire, table, &user, &version, found).await?;
        }
        _ => found.notable(
            "versions are derived: a node cannot notice a gap, cannot read an account again, and after a lost slot it has to be \
             restarted; readers of their own writes ask with max_age_ms and wait_ms",
        ),
    }
    Ok(())
}

/// Words that are not mapped, and amounts with another sign than they are mapped with.
async fn kinds(
    wire: &mut Wire,
    mapping: &Mapping,
    table: &Table,
    found: &mut Findings,
) -> Result<(), Failure> {
    let name = |field| mapping.column(field).map(escape_identifier).unwrap_or_default();
    let sql = format!(
        "SELECT k::text, sign(a)::int, count(*) FROM (SELECT {} AS k, {} AS a FROM {} LIMIT {ROWS_LOOKED_AT}) looked GROUP BY 1, 2 \
         ORDER BY 3 DESC LIMIT 200",
        name(Field::Kind),
        name(Field::Amount),
        table.name
    );
    let (mut rows, mut bad) = (0_u64, Vec::new());
    for row in wire.query_within(&sql, LOOK_TIMEOUT).await? {
        let count: u64 = number(&row, 2)?;
        rows += count;
        // Both may be NULL, which is no kind and no amount.
        let sign = maybe(&row, 1).and_then(|sign| sign.parse::<i64>().ok()).unwrap_or_default();
        let word = maybe(&row, 0).unwrap_or_default();
        match mapping.kind_of_word(word, sign) {
            Ok(_) => {}
            Err(Field::Amount) => bad.push(format!(
                "{word:?} with amounts {} 0 ({count} rows)",
                ["below", "of", "above"][usize::try_from(sign + 1).unwrap_or(1).min(2)]
            )),
            Err(_) => bad.push(format!("{word:?} ({count} rows)")),
        }
    }
    if bad.is_empty() {
        found.right(format!("the kinds of the {rows} rows that were looked at are known"));
    } else {
        found.wrong(format!(
            "among {rows} rows that were looked at are kinds that are not mapped, whose accounts would be quarantined: {}; map them in \
             [ledger.kinds]",
            bad.join(", ")
        ));
    }
    Ok(())
}

async fn gaps(
    wire: &mut Wire,
    table: &Table,
    user: &str,
    version: &str,
    found: &mut Findings,
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE NOT is_dense), min(u) FILTER (WHERE NOT is_dense) FROM (SELECT u, (SELECT count(*) = \
         max(t.{version}) AND min(t.{version}) = 1 AND count(DISTINCT t.{version}) = count(*) FROM {table} t WHERE t.{user} = u) AS \
         is_dense FROM (SELECT DISTINCT {user} AS u FROM (SELECT {user} FROM {table} LIMIT {ROWS_LOOKED_AT}) few LIMIT \
         {ACCOUNTS_LOOKED_AT}) accounts) judged",
        table = table.name
    );
    let row = wire.query_within(&sql, LOOK_TIMEOUT).await?.into_iter().next().unwrap_or_default();
    let (accounts, bad): (u64, u64) = (number(&row, 0)?, number(&row, 1)?);
    if bad == 0 {
        found.right(format!("the versions of the {accounts} accounts that were looked at have no gap"));
    } else {
        found.wrong(format!(
            "{bad} of the {accounts} accounts that were looked at have versions with a gap, or twice, or not from 1 (user {} is one): \
             they would be quarantined",
            maybe(&row, 2).unwrap_or("NULL")
        ));
    }
    Ok(())
}

async fn publication(
    wire: &mut Wire,
    target: &Target,
    table: &Table,
    found: &mut Findings,
) -> Result<(), Failure> {
    let name = &target.address.publication;
    let faults = publication::faults(wire, name, table).await?;
    for fault in &faults {
        let sentence = fault.sentence(name, table);
        if fault.is_fatal() { found.wrong(sentence) } else { found.notable(sentence) }
    }
    if faults.is_empty() {
        found.right(format!("the publication {name} publishes every change of the table"));
    }
    Ok(())
}
