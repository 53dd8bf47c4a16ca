//! What florin makes beside its table.

use crate::address::TableName;

/// Names of what stands beside the table.
pub(crate) struct Beside {
    pub accounts: TableName,
    pub assign: TableName,
    pub refuse: TableName,
    pub identity: String,
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
