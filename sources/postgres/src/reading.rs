//! The table's rows by users, on a connection that nobody who follows it waits for.

use florin_core::follower::Row;
use postgres_protocol::escape::escape_identifier;

use crate::facts::{self, Table, TableRef};
use crate::failure::Failure;
use crate::instance::{Followed, Instance};
use crate::mapping::Field;
use crate::row::Shape;
use crate::snapshot::{CopyOut, select};
use crate::target::{Purpose, Target};
use crate::wire::Wire;

/// A connection, and what it has found.
pub struct Reading {
    pub wire: Wire,
    instance: Instance,
    table: Table,
    shape: Shape,
}

impl Reading {
    /// Connects.
    pub async fn begin(target: &Target) -> Result<Reading, Failure> {
        let mut wire = target.connect(Purpose::Questions).await?;
        let instance = Instance::at(&mut wire).await?;
        let table = facts::table(&mut wire, TableRef::Name(&target.table())).await?;
        let shape = Shape::of(&table.columns, &table.types, &target.mapping)?;
        Ok(Reading { wire, instance, table, shape })
    }

    /// Whether it leads to the server that is followed.
    pub fn check(&self, followed: &Followed) -> Result<(), Failure> {
        followed.check(self.instance).map_err(Failure::Unavailable)
    }

    /// Adds to `rows` those of which `which` is true, by the names of the columns of users and versions; in that order, at most
    /// `limit`. Rows without a version come first.
    pub async fn rows(
        &mut self,
        target: &Target,
        which: impl FnOnce(&str, &str) -> String,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), Failure> {
        let column = |field| target.mapping.column(field).map(escape_identifier).unwrap_or_default();
        let (user, version) = (column(Field::UserId), column(Field::Version));
        let sql = format!(
            "{} WHERE {} ORDER BY {user}, {version} NULLS FIRST LIMIT {limit}",
            select(&target.mapping, &self.table.name),
            which(&user, &version),
        );
        let mut copying = CopyOut::begin(&mut self.wire, &sql, &self.table.name).await?;
        while copying.read(self.shape.reader(), rows).await? {}
        Ok(())
    }
}
