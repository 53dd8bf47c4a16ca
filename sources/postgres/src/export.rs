//! The table's rows with their ids, for whoever copies them elsewhere: accounts one after the other, each as it is when its turn comes.

use florin_core::ledger::Kind;
use florin_record::{Entered, Export, Field, LedgerError, NewTransaction, TransactionId, Trouble};
use florin_schema::{Asset, UserId, Version};
use tokio_postgres::Row;

use crate::limits::{EXPORT_ROWS, EXPORT_TIMEOUT};
use crate::sql::{Sql, unavailable};
use crate::target::Target;

/// See the module.
pub struct PgExport {
    sql: Sql,
    query: String,
    /// The last row that was given out, by user and version.
    after: (i64, i64),
}

impl PgExport {
    /// Begins with the first account.
    ///
    /// # Errors
    /// Where the server cannot be reached, or the table is not florin's own.
    pub fn new(target: &Target) -> Result<PgExport, LedgerError> {
        if !target.mapping.is_own() {
            return Err(LedgerError::new(
                Trouble::Failed,
                "florin publishes its own table, and no mapped one: Debezium does ([ledger.columns] are then the names of the topic's fields)",
            ));
        }
        let sql = Sql::connect(&target.address)?;
        let query = format!(
            "SELECT transaction_id, user_id, version, asset, kind, amount, occurred_at FROM {} \
             WHERE (user_id, version) > ($1, $2) ORDER BY user_id, version LIMIT {EXPORT_ROWS}",
            target.table()
        );
        Ok(PgExport { sql, query, after: (-1, 0) })
    }
}

impl Export for PgExport {
    fn next(&mut self, rows: &mut Vec<Entered>) -> Result<(), LedgerError> {
        let (user, version) = self.after;
        let asked = self.sql.wait(EXPORT_TIMEOUT, self.sql.client.query(&self.query, &[&user, &version]));
        for row in asked.map_err(|error| unavailable(format!("PostgreSQL: {}", error.reason())))? {
            let (entered, after) = read(&row).map_err(|field| unreadable(&row, field))?;
            rows.push(entered);
            self.after = after;
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        false
    }
}

/// A row, and where it lies.
fn read(row: &Row) -> Result<(Entered, (i64, i64)), Field> {
    let number = |column| row.try_get::<_, i64>(column);
    let text = |column| row.try_get::<_, &str>(column);
    let user = number(1).map_err(|_| Field::UserId)?;
    let version = number(2).map_err(|_| Field::UserId)?;
    let transaction = NewTransaction {
        transaction_id: text(0).ok().and_then(TransactionId::parse).ok_or(Field::TransactionId)?,
        user_id: UserId::new(user.cast_unsigned()).ok_or(Field::UserId)?,
        asset: text(3).ok().and_then(|text| Asset::parse(text.as_bytes()).ok()).ok_or(Field::Asset)?,
        kind: row
            .try_get::<_, i16>(4)
            .ok()
            .and_then(|kind| Kind::from_number(kind.into()))
            .ok_or(Field::Kind)?,
        amount: number(5).map_err(|_| Field::Amount)?,
        occurred_at_us: number(6).map_err(|_| Field::OccurredAt)?,
    };
    transaction.check().map_err(|error| error.field)?;
    Ok((Entered { transaction, version: Version(version.cast_unsigned()) }, (user, version)))
}

fn unreadable(row: &Row, field: Field) -> LedgerError {
    let number =
        |column| row.try_get::<_, i64>(column).map_or_else(|_| "?".to_owned(), |number| number.to_string());
    LedgerError::new(
        Trouble::Failed,
        format!(
            "version {} of user {} is no transaction: {field}: expected {}",
            number(2),
            number(1),
            field.expected()
        ),
    )
}
