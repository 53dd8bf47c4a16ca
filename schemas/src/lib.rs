//! Florin's wire contract in types: what a frame, a record and an identifier look like in bytes.
//!
//! `wire.md` beside this crate is the normative text; `florin.fbs` the normative FlatBuffers schema. Everything here is
//! sans-I/O and shared by the server, the clients and the bench.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ids`] | [`UserId`], [`Version`], [`Asset`], and the routing function |
//! | [`decimal`](decimal()) | the one spelling of a number in text |
//! | [`printable`](printable()) | what may be shown of a stranger's text |
//! | [`frame`] | request and reply headers, opcodes, encodings, statuses, limits |
//! | [`records`] | the rkyv records: [`records::Balance`], [`records::Statistics`], [`records::Balances`] |
//! | [`layout`] | the same records' archived bytes as plain structs, for readers and writers of raw bytes |
//! | [`nodes`] | which partition a user belongs to, and the map of the nodes that hold it |
//! | [`media`] | JSON's media type |
//! | `stranger` | who speaks where something else was expected: [`Stranger`] |
//! | [`generated`] | the FlatBuffers code that `flatc` makes of `florin.fbs` |

// Not `forbid`: the generated code of `generated` needs an exception.
#![deny(unsafe_code)]

mod decimal;
pub mod frame;
pub mod generated;
pub mod ids;
pub mod layout;
pub mod media;
pub mod nodes;
mod printable;
pub mod records;
mod stranger;

pub use decimal::{decimal, misspelling};
pub use frame::{Encoding, Opcode, Status, Window, WindowMask};
pub use ids::{Asset, AssetError, HashedUser, LedgerId, NodeId, NodeIdentity, ShardIndex, UserId, Version};
pub use nodes::{MapNode, NodeMap, NodeMapError, Partitioner, UnknownPartitioner};
pub use printable::{printable, printable_lines};
pub use stranger::Stranger;

/// The ledger's SQL schema, `ledger.sql`: for an empty SQLite file, and, but for the line that it marks, for PostgreSQL.
pub const LEDGER_SQL: &str = include_str!("../ledger.sql");
/// The version of that schema, as SQLite keeps it (`PRAGMA user_version`). What was made before versions were kept says 0.
pub const LEDGER_VERSION: i64 = 2;
/// What a SQLite ledger without a version lacks: `ledger-upgrade.sql`, followed by `ledger.sql` from its line "SQLite only" on.
pub const LEDGER_UPGRADE_SQL: &str = include_str!("../ledger-upgrade.sql");
