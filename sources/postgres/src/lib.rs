//! A ledger in a PostgreSQL database.
//!
//! | module | holds |
//! | --- | --- |
//! | [`decoder`] | what the output plugin and a binary COPY say; pure |
//! | [`position`] | which ledger it is, and how far it was read |
//! | [`row`] | from a table's row to a transaction |
//! | [`order`] | copied rows in the order of their accounts |
//! | [`journal`] | what was delivered last, to tell another history from the same |
//! | [`wire`] | a connection for replication and COPY |

pub mod decoder;
pub mod journal;
pub mod mapping;
pub mod order;
pub mod position;
pub mod row;
pub mod wire;
