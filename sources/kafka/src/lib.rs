//! A ledger in a Kafka topic. Records are read, and never written, by a node; `florin publish` writes another ledger's rows into one.
//!
//! ```text
//!     follower's thread            thread "florin-kafka"                 brokers
//!     load(position) ────────────▶ session: every partition from its offset ◀── records
//!     next(now)      ◀── events ── rows, offsets reached
//!                    ─── asks ───▶ where do the partitions end?  ◀────────────── offsets
//!     reread(user)   ────────────▶ thread "florin-reread": the account's partition, from its beginning
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`address`] | which ledger, as `--ledger kafka://…` names it |
//! | `password` | where a password comes from |
//! | [`decoder`] | from a record to what it says; pure, and fails closed |
//! | [`ledger`](KafkaLedger) | a topic that was found, and can be followed |
//! | [`share`](Share) | which partitions a node follows, where several divide them |
//! | [`source`](KafkaSource) | the topic as a ledger to be followed: what the follower's thread has |
//! | `session` | the thread that reads: from offsets to events |
//! | `partitions` | how far each partition is, and which of them the watermark speaks of |
//! | `client` | the brokers, asked with time-outs |
//! | `recent` | what was delivered last, to tell a duplicate from another record with its version |
//! | `reread` | accounts that are read again |
//! | `position` | which ledger it is, and how far it was read |
//! | [`group`] | which nodes there are, and which partitions each is to have |
//! | [`admin`] | making a topic, and how much there is of it |
//! | [`check`] | what a node would miss of it |
//! | `failure` | why nothing is read, and what is to be done about it |
//! | [`status`](KafkaStatus) | what metrics tell of it |
//! | [`publish`](Publisher) | another ledger's rows into a topic |
//! | `published` | what a topic has of them |
//! | `unwritten` | that it is not written to, and why it is not audited |
//! | `limits` | every bound |

pub mod address;
pub mod admin;
pub mod check;
mod client;
pub mod decoder;
mod failure;
pub mod group;
mod ledger;
mod limits;
mod partitions;
mod password;
mod position;
mod publish;
mod published;
mod recent;
mod reread;
mod session;
mod share;
mod source;
mod status;
mod unwritten;

pub use address::{Address, AddressError};
pub use ledger::KafkaLedger;
pub use position::{Anchor, KafkaIdentity, KafkaPosition, Reached};
pub use publish::Publisher;
pub use share::Share;
pub use source::KafkaSource;
pub use status::KafkaStatus;
pub use unwritten::{NO_SCAN, NoAppender, only_read};
