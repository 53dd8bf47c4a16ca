//! A ledger in a PostgreSQL database.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ledger`](PgLedger) | a ledger that was found |
//! | [`source`](PgSource) | the table as a ledger to be followed: what the follower's thread has |
//! | `following` | the thread that speaks with the server: sessions, one after the other |
//! | `session` | from a position to a stream, or to a snapshot and a stream |
//! | `snapshot` | loading in parallel |
//! | `stream` | following |
//! | `asker` | the time before which everything is in |
//! | `reading` | rows by users |
//! | `reread` | accounts that are read again |
//! | [`export`](PgExport) | its rows with their ids, to be copied elsewhere |
//! | [`scan`](PgScan) | the table as a ledger to be compared with |
//! | `order` | copied rows in the order of their accounts |
//! | `journal` | what was delivered last, to tell another history from the same |
//! | `facts` | what the catalogues say; `answer` reads it |
//! | [`publication`] | what a publication has to be |
//! | [`target`](Target) | which ledger, with its columns |
//! | [`address`] | which ledger, as `--ledger postgres://…` names it |
//! | [`password`], [`tls`], [`connect`] | a connection to the server, and who logs in |
//! | [`schema`] (with `beside` and `roles`), [`mod@check`], [`standing`] | what `florin ledger init`, `check` and `status` do |
//! | [`admin`] | the same for code that waits |
//! | [`appender`](PgAppender) | what a node appends |
//! | [`bulk`](PgBulkWriter) | many rows with one commit |
//! | `sql` | a connection for SQL, from code that waits |
//! | [`decoder`] | what the output plugin and a binary COPY say; pure |
//! | `row` | from a table's row to a transaction |
//! | `instance` | which run of which server is followed, and who knows |
//! | `position` | which ledger it is, and how far it was read |
//! | `wire` | a connection for replication and COPY |
//! | [`server`] | a PostgreSQL of one's own, for the demonstration, the bench and tests |
//! | `limits` | every bound |
//! | [`status`](PgStatus) | what metrics and the log tell of the server |

pub mod address;
pub mod admin;
mod answer;
mod appender;
mod asker;
mod beside;
mod bulk;
pub mod check;
pub mod connect;
pub mod decoder;
mod export;
mod facts;
pub mod failure;
mod following;
mod instance;
mod journal;
mod ledger;
mod limits;
mod look;
pub mod mapping;
mod order;
mod outbox;
pub mod password;
mod position;
pub mod publication;
mod reading;
mod reread;
mod roles;
mod row;
mod scan;
pub mod schema;
pub mod server;
mod session;
mod snapshot;
mod source;
mod sql;
pub mod standing;
mod status;
mod stream;
mod target;
pub mod tls;
mod wire;

pub use appender::PgAppender;
pub use bulk::PgBulkWriter;
pub use export::PgExport;
pub use instance::Instance;
pub use ledger::PgLedger;
pub use position::{Lsn, LsnError, PgIdentity, PgPosition};
pub use scan::PgScan;
pub use source::PgSource;
pub use status::PgStatus;
pub use target::{PgConfig, Target};
pub use wire::WireError;
