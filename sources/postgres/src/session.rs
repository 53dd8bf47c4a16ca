//! From a position to a stream: connects, looks which ledger and which history this is, and whether the slot still has what
//! comes after the position. Where it has, the stream goes on from there; else a snapshot is taken, and the stream begins where
//! the snapshot ends.
//!
//! The snapshot is the server's own: exported by the making of a slot, it holds exactly what was committed before the place where
//! that slot begins. (A snapshot of any other making may lack a commit that was confirmed already: one is in the log before it
//! is visible, and with synchronous standbys long before.) Where a slot is there already, a second one that lasts a moment
//! gives the snapshot, so that the first keeps what it has.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio::time::timeout;

use crate::facts::{self, Slot, Table, TableRef};
use crate::failure::Failure;
use crate::instance::Instance;
use crate::limits::{SLOT_SILENCE, SLOT_TIMEOUT};
use crate::look::{self, Look};
use crate::mapping::Field;
use crate::position::{Anchor, Lsn, PgIdentity, PgPosition};
use crate::publication;
use crate::row::Shape;
use crate::target::{Purpose, Target};
use crate::wire::Wire;

/// What is known from before.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Of the ledger that was opened first.
    pub identity: Option<PgIdentity>,
    /// The history of the server that was followed last; 0 = none was.
    pub timeline: u32,
    /// From where to go on; none = from a snapshot.
    pub position: Option<PgPosition>,
    /// Up to where the ledger was read, where that lies behind the position: a checkpoint's accounts are not all of one moment.
    pub end: Option<PgPosition>,
    /// The row that was delivered last, where that is not the position's.
    pub anchor: Option<Anchor>,
    /// How the table looked last.
    pub look: Option<Look>,
    /// Rows that had been changed or removed when everything was read up to some place; none = nothing was loaded yet.
    pub changes: Option<u64>,
}

/// What a stream begins with.
pub struct Session {
    /// The replication session.
    pub stream: Wire,
    /// For questions.
    pub questions: Wire,
    /// Which ledger this is.
    pub identity: PgIdentity,
    /// At which server.
    pub instance: Instance,
    /// How the table looks.
    pub look: Look,
    /// The table.
    pub table: Table,
    /// Where its columns are.
    pub shape: Shape,
    /// From where the stream is to come, and what a snapshot holds, if there is one.
    pub start: PgPosition,
    /// To be loaded before the stream begins.
    pub snapshot: Option<Snapshot>,
}

/// Everything that was committed before [`Session::start`].
pub struct Snapshot {
    /// As the server names it.
    pub name: String,
    /// The slot that gave it, where it is to be removed again.
    temporary_slot: Option<String>,
}

/// Who the server says it is.
struct System {
    id: u64,
    timeline: u32,
    end: Lsn,
    database: String,
}

/// Asks which ledger this is, and at which server.
///
/// # Errors
/// Where it cannot be asked.
pub async fn identify(target: &Target) -> Result<(PgIdentity, Instance), Failure> {
    let mut stream = target.connect(Purpose::Replication).await?;
    let system = identify_system(&mut stream).await?;
    let mut questions = target.connect(Purpose::Questions).await?;
    let instance = one_server(&mut stream, &mut questions).await?;
    let table = facts::table(&mut questions, TableRef::Name(&target.table())).await?;
    Shape::of(&table.columns, &table.types, &target.mapping)?;
    let is_unique = format!("SELECT {}", look::is_unique(table.oid, &target.mapping));
    if questions.query(&is_unique).await?.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
        return Err(Failure::Unavailable(look::not_unique(&table.name, &target.mapping)));
    }
    Ok((identity_of(&system, &table), instance))
}

/// The server that both connections lead to: with several hosts, or something between, they may lead to two.
async fn one_server(stream: &mut Wire, questions: &mut Wire) -> Result<Instance, Failure> {
    let (streaming, asked) = (Instance::at(stream).await?, Instance::at(questions).await?);
    if streaming == asked {
        return Ok(asked);
    }
    Err(Failure::Unavailable(format!(
        "two connections led to two servers ({streaming}; {asked}), of which one was promoted or restarted meanwhile"
    )))
}

/// A primary whose place a standby took, and that has come back. What it has since then is no commit of the ledger's, and what the ledger
/// has since then it does not hear of: loaded on top it would be answered as if it were fresh.
fn replaced_primary(found: u32, followed: u32) -> Failure {
    Failure::Unavailable(format!(
        "the server goes on with an older history (timeline {found}) than the one that was followed (timeline {followed}): it is a primary \
         that was replaced, and is not followed. End it, and the promoted one is found by itself; or restart florin to load this one"
    ))
}

fn identity_of(system: &System, table: &Table) -> PgIdentity {
    PgIdentity {
        system: system.id,
        database: system.database.clone(),
        table_oid: table.oid,
        table: table.name.clone(),
    }
}

impl Session {
    /// Opens a session that goes on from where `before` says, or begins with a snapshot.
    ///
    /// # Errors
    /// [`Failure::Lost`] where it cannot go on from there.
    pub async fn open(target: &Target, before: &Before) -> Result<Session, Failure> {
        let mut stream = target.connect(Purpose::Replication).await?;
        let system = identify_system(&mut stream).await?;
        if system.timeline < before.timeline {
            return Err(replaced_primary(system.timeline, before.timeline));
        }
        let mut questions = target.connect(Purpose::Questions).await?;
        let instance = one_server(&mut stream, &mut questions).await?;
        let name = target.table();
        let which = before.identity.as_ref().map_or(TableRef::Name(&name), |id| TableRef::Oid(id.table_oid));
        let table = match facts::table(&mut questions, which).await {
            // Another one bears its name now, or none.
            Err(Failure::Unavailable(gone)) if before.identity.is_some() => {
                facts::table(&mut questions, TableRef::Name(&target.table()))
                    .await
                    .map_err(|_| Failure::Unavailable(gone))?
            }
            found => found?,
        };
        let identity = identity_of(&system, &table);
        if let Some(followed) = before.identity.as_ref().filter(|followed| **followed != identity) {
            return Err(Failure::Replaced(format!(
                "this is not the ledger that was loaded, which was {followed}, and this is {identity}: put that one back, or \
                 restart florin to load this one"
            )));
        }
        let shape = Shape::of(&table.columns, &table.types, &target.mapping)?;
        publication::followable(&mut questions, &target.address.publication, &table).await?;
        let statement = look::statement(&target.address.publication, table.oid, &target.mapping);
        let look = Look::take(&mut questions, &statement).await?;
        let judged = match &before.look {
            Some(known) => known.judge(&look, &mut questions, &table, &target.mapping).await,
            None => look.judge(&look, &mut questions, &table, &target.mapping).await,
        };
        match judged {
            // Everything is loaded anyhow.
            Err(Failure::Lost(_)) if before.position.is_none() => {}
            judged => judged?,
        }
        let slot = usable_slot(&mut questions, target, &system).await?;
        let mut session = Session {
            stream,
            questions,
            start: PgPosition {
                system: system.id,
                table_oid: table.oid,
                timeline: system.timeline,
                publication: look.publication_digest(),
                look: look.digest(),
                lsn: Lsn::default(),
                anchor: None,
            },
            identity,
            instance,
            look,
            table,
            shape,
            snapshot: None,
        };
        match before.position {
            Some(position) => session.go_on(target, &system, before, position, slot).await?,
            None => session.begin(target, slot, before.changes).await?,
        }
        Ok(session)
    }

    /// Begins the stream. What a snapshot holds was loaded.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn start(&mut self, target: &Target) -> Result<(), Failure> {
        if let Some(slot) = self.snapshot.take().and_then(|snapshot| snapshot.temporary_slot) {
            self.stream.query(&format!("DROP_REPLICATION_SLOT {}", escape_identifier(&slot))).await?;
        }
        self.look.check_standbys()?;
        let sql = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', binary 'true', publication_names {})",
            escape_identifier(&target.address.slot),
            self.start.lsn,
            escape_literal(&escape_identifier(&target.address.publication)),
        );
        self.stream.begin_copy(&sql).await?;
        Ok(())
    }

    /// Whether the slot has everything after the position, and the server the history that led to it.
    async fn go_on(
        &mut self,
        target: &Target,
        system: &System,
        before: &Before,
        position: PgPosition,
        slot: Option<Slot>,
    ) -> Result<(), Failure> {
        let lost = |reason: String| Err(Failure::Lost(reason));
        let read = before.end.unwrap_or(position);
        let Some(confirmed) = slot.and_then(|slot| slot.confirmed) else {
            return lost(format!("the replication slot {} is gone", target.address.slot));
        };
        if confirmed > position.lsn {
            return lost(format!(
                "the replication slot {} begins at {confirmed}, behind {}, up to where the ledger was read",
                target.address.slot, position.lsn
            ));
        }
        if system.end < read.lsn {
            return lost(format!(
                "the server's log ends at {}, before {}, up to where it was read: it was restored, or lost what it had \
                 acknowledged",
                system.end, read.lsn
            ));
        }
        if system.timeline != read.timeline {
            let fork = self.fork(read.timeline, system.timeline).await?;
            if fork.is_none_or(|fork| fork < read.lsn) {
                return lost(format!(
                    "the server has begun another history (timeline {}, before {}) before {}, up to where it was read",
                    system.timeline, read.timeline, read.lsn
                ));
            }
        }
        if [position, read].iter().any(|known| known.publication != self.start.publication) {
            return lost(format!("the publication {} was altered", target.address.publication));
        }
        if before.look.is_none() && read.look != self.start.look {
            return lost("the table's columns or partitions were altered, or it was rewritten".to_owned());
        }
        if let Some(anchor) = before.anchor.or(read.anchor)
            && !self.holds(target, &anchor).await?
        {
            return lost(
                "the row that was read last is not in the table, or another one is in its place".to_owned(),
            );
        }
        self.start = PgPosition { timeline: system.timeline, look: self.start.look, ..position };
        Ok(())
    }

    /// Where a timeline was left on the way to another one.
    async fn fork(&mut self, left: u32, now: u32) -> Result<Option<Lsn>, Failure> {
        if now == 1 {
            return Ok(None);
        }
        let answer = self.stream.query(&format!("TIMELINE_HISTORY {now}")).await?;
        let history = answer.first().and_then(|row| row.get(1)?.clone()).unwrap_or_default();
        Ok(fork_in(&history, left))
    }

    /// Whether the table has this row as it was delivered.
    async fn holds(&mut self, target: &Target, row: &Anchor) -> Result<bool, Failure> {
        let mapping = &target.mapping;
        let (Some(user), Some(version), Some(amount)) =
            (mapping.column(Field::UserId), mapping.column(Field::Version), mapping.column(Field::Amount))
        else {
            return Ok(true);
        };
        let sql = format!(
            "SELECT abs({}) = {} FROM {} WHERE {} = {} AND {} = {}",
            escape_identifier(amount),
            row.amount,
            self.table.name,
            escape_identifier(user),
            row.user.get(),
            escape_identifier(version),
            row.version.0
        );
        let found = self.questions.query(&sql).await?;
        Ok(found.len() == 1 && found[0].first() == Some(&Some("t".to_owned())))
    }

    /// Takes a snapshot; makes the slot where there is none. On top of what is there it is of use only where rows were added and none were
    /// changed meanwhile.
    async fn begin(
        &mut self,
        target: &Target,
        slot: Option<Slot>,
        changes: Option<u64>,
    ) -> Result<(), Failure> {
        self.look.check_standbys()?;
        if let Some(before) = changes {
            // The server counts from its last crash on: whatever it has counted since is news then.
            self.look.check_changes(if self.look.changes < before { 0 } else { before })?;
        }
        let usable = slot.as_ref().is_some_and(|slot| slot.confirmed.is_some());
        if slot.is_some() && !usable {
            tracing::warn!(
                "the replication slot {} has lost what it kept: it is made anew",
                target.address.slot
            );
            let drop = format!("SELECT pg_drop_replication_slot({})", escape_literal(&target.address.slot));
            self.questions.query(&drop).await?;
        }
        let (name, temporary) = if usable {
            (format!("{}_snapshot_{}", target.address.slot, std::process::id()), "TEMPORARY ")
        } else {
            (target.address.slot.clone(), "")
        };
        // One that standbys keep a copy of, where servers can do that.
        let failover = if !usable && self.knows_failover().await? { ", FAILOVER true" } else { "" };
        let sql = format!(
            "CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput (SNAPSHOT 'export'{failover})",
            escape_identifier(&name)
        );
        let made = self.make_slot(&sql).await?;
        let text = |at: usize| made.get(at).and_then(|cell| cell.clone()).unwrap_or_default();
        let point: Lsn = text(1)
            .parse()
            .map_err(|error| Failure::Unavailable(format!("a new slot begins nowhere: {error}")))?;
        self.start.lsn = point;
        self.snapshot = Some(Snapshot { name: text(2), temporary_slot: usable.then_some(name) });
        Ok(())
    }

    async fn knows_failover(&mut self) -> Result<bool, Failure> {
        let answer =
            self.questions.query("SELECT current_setting('server_version_num')::int >= 170000").await?;
        Ok(answer.first().is_some_and(|row| row.first() == Some(&Some("t".to_owned()))))
    }

    async fn make_slot(&mut self, sql: &str) -> Result<Vec<Option<String>>, Failure> {
        let Session { stream, questions, .. } = self;
        let making = stream.query_within(sql, SLOT_TIMEOUT);
        tokio::pin!(making);
        let made = match timeout(SLOT_SILENCE, &mut making).await {
            Ok(made) => made,
            Err(_) => {
                say_who_is_waited_for(questions).await;
                making.await
            }
        };
        let made = made.map_err(|error| match error {
            error if error.is_code("42501") => Failure::Unavailable(format!(
                "this role may not replicate: {error}; ALTER ROLE … REPLICATION, or run `florin ledger init`"
            )),
            error if error.is_code("53400") => Failure::Unavailable(format!(
                "the server has no room for a replication slot: {error}; raise max_replication_slots"
            )),
            error => error.into(),
        })?;
        made.into_iter()
            .next()
            .ok_or_else(|| Failure::Unavailable("a slot was made without an answer".to_owned()))
    }
}

async fn identify_system(stream: &mut Wire) -> Result<System, Failure> {
    let answer = stream.query("IDENTIFY_SYSTEM").await?;
    let text = |at: usize| answer.first().and_then(|row| row.get(at)?.clone()).unwrap_or_default();
    let unknown = || Failure::Unavailable("the server does not say who it is (IDENTIFY_SYSTEM)".to_owned());
    Ok(System {
        id: text(0).parse().map_err(|_| unknown())?,
        timeline: text(1).parse().map_err(|_| unknown())?,
        end: text(2).parse().map_err(|_| unknown())?,
        database: text(3),
    })
}

/// The slot, if it is one that may be used. One that this very program uses still, on a connection that broke, is freed.
async fn usable_slot(wire: &mut Wire, target: &Target, system: &System) -> Result<Option<Slot>, Failure> {
    let name = &target.address.slot;
    let Some(slot) = facts::slot(wire, name).await? else { return Ok(None) };
    if slot.plugin != "pgoutput" || slot.database != system.database {
        return Err(Failure::Unavailable(format!(
            "the replication slot {name} is not florin's: expected the plugin pgoutput in database {}, found {} in {}; name \
             another with slot=",
            system.database,
            if slot.plugin.is_empty() { "a physical one" } else { &slot.plugin },
            slot.database
        )));
    }
    if let Some(pid) = slot.active_pid {
        let ours = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND application_name = {}",
            escape_literal(&target.application)
        );
        let freed = wire.query(&ours).await.is_ok_and(|rows| !rows.is_empty());
        return Err(Failure::Unavailable(if freed {
            format!("the server still held the last connection to the replication slot {name}; it was ended")
        } else {
            format!(
                "the replication slot {name} is in use by process {pid} of the server: each node has a slot of its own \
                 (slot=)"
            )
        }));
    }
    Ok(Some(slot))
}

async fn say_who_is_waited_for(questions: &mut Wire) {
    let sql = "SELECT pid, application_name, xact_start FROM pg_stat_activity \
               WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 3";
    let open = questions.query(sql).await.unwrap_or_default();
    let whom: Vec<String> = open
        .iter()
        .map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("?")).collect::<Vec<_>>().join(" "))
        .collect();
    tracing::warn!(
        "the snapshot waits until every transaction that writes and is open has ended (process, application, since): {}",
        if whom.is_empty() { "prepared ones (pg_prepared_xacts)".to_owned() } else { whom.join("; ") }
    );
}

/// Where a timeline's history says that another one was left.
fn fork_in(history: &str, left: u32) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()?.parse::<u32>().ok()? == left).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_says_where_a_timeline_was_left() {
        let history =
            "1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n";
        assert_eq!(fork_in(history, 1), Some(Lsn(0x300_0158)));
        assert_eq!(fork_in(history, 2), Some(Lsn(0x500_0000)));
        assert_eq!(fork_in(history, 3), None);
        assert_eq!(fork_in("", 1), None);
    }
}
