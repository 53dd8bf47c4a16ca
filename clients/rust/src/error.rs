//! What can go wrong, in types.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use florin_schema::{LedgerId, NodeId, NodeMapError, Opcode, ShardIndex, Status, UserId};
use thiserror::Error;

use crate::{Address, AddressError, TlsError, TlsFailure};

/// Why a call has no answer: one variant for each status of the server's, and those that the client finds itself.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The ledger has never named this user.
    #[error("not found: {0}")]
    NotFound(Refusal),
    /// The server did not accept the request.
    #[error("invalid request: {0}")]
    InvalidRequest(Refusal),
    /// The freshness that was asked for did not hold within the time that the server was to wait.
    #[error("stale: {0}")]
    Stale(Refusal),
    /// The server is warming up or draining, or its feed has been down for too long. Or this one account cannot be shown, for its first
    /// transaction is missing ([`Refusal::is_quarantined`]), which may last ([`Refusal::is_lasting`]).
    #[error("unavailable: {0}")]
    Unavailable(Refusal),
    /// The server shed the request.
    #[error("overloaded: {0}")]
    Overloaded(Refusal),
    /// The server wants a token, or another one; see [`crate::Builder::token`].
    #[error("unauthenticated: {0}")]
    Unauthenticated(Refusal),
    /// Not for this caller.
    #[error("permission denied: {0}")]
    PermissionDenied(Refusal),
    /// A defect of the server's.
    #[error("the server failed: {0}")]
    Internal(Refusal),
    /// None of the nodes that could be asked has this user at the moment: the client has asked them all.
    #[error("not here: {0}")]
    NotOwner(Refusal),
    /// The connection could not be made, or ended before the answer came.
    #[error("{address}: {cause}")]
    Disconnected {
        /// Of which connection.
        address: Address,
        /// What ended it.
        cause: Disconnect,
    },
    /// The deadline passed. An answer that comes later is discarded.
    #[error("no answer within {after:?}{}", last.as_ref().map(|last| format!("; last: {last}")).unwrap_or_default())]
    Deadline {
        /// The call's deadline.
        after: Duration,
        /// What an earlier attempt of this call ended with.
        last: Option<Arc<Error>>,
    },
    /// The server sent what version 1 of the protocol does not know.
    #[error("{address}: {error}")]
    Protocol {
        /// Who sent it.
        address: Address,
        /// Which field.
        error: ProtocolError,
    },
    /// The server's rkyv records are laid out otherwise than this build knows them: use a client of the server's version.
    #[error(
        "{address}: the rkyv layout is {server:#010x}, this client reads {client:#010x}: use a matching client"
    )]
    SchemaMismatch {
        /// Who answered.
        address: Address,
        /// The low half of the server's fingerprint.
        server: u32,
        /// The low half of ours.
        client: u32,
    },
    /// A shard's port leads to another node than the one whose shard map names it: its address is translated, or the node
    /// was started anew. Nothing is asked there; [`crate::Routing::ShardPorts`] asks the address that was given instead.
    #[error(
        "{address}: expected node {expected}, whose shard map names this port, got node {got}: the port leads to another \
         node (a translated address, or a node that was started anew)"
    )]
    OtherNode {
        /// Who was asked.
        address: Address,
        /// Who should have answered.
        expected: NodeId,
        /// Who did.
        got: NodeId,
    },
    /// The address leads to a node of another ledger than this client was told of first: its answers would be of other
    /// accounts. Nothing is asked there.
    #[error(
        "{address}: expected ledger {expected}, which this client was told of first, got ledger {got}: the address leads to \
         a node of another ledger. Correct it; a client for the other ledger is a new client"
    )]
    OtherLedger {
        /// Who was asked.
        address: Address,
        /// The first that a Hello told.
        expected: LedgerId,
        /// What this one told.
        got: LedgerId,
    },
    /// No address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// TLS cannot be tried: a file, or certificates for an address in plain.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A setting of the builder's that cannot be.
    #[error("{setting}: expected {expected}, got {got}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What it accepts.
        expected: &'static str,
        /// What it was given.
        got: usize,
    },
}

impl Error {
    /// Whether the same call may succeed if it is made again, here or on another node. It is always *safe* to make it
    /// again: calls only read.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::Unavailable(Refusal { is_lasting: false, .. })
                | Error::Stale(_)
                | Error::Overloaded(_)
                | Error::NotOwner(_)
                | Error::Disconnected { .. }
                | Error::OtherNode { .. }
                | Error::Deadline { .. }
        )
    }

    /// What an entry of a batch says where this is why it has no answer; `None` where somebody has to do something about it.
    pub(crate) fn entry_status(&self) -> Option<Status> {
        match self {
            error if error.is_final() => None,
            Error::Stale(_) => Some(Status::Stale),
            Error::Overloaded(_) => Some(Status::Overloaded),
            Error::NotOwner(_) => Some(Status::NotOwner),
            Error::Unavailable(_) | Error::Disconnected { .. } | Error::OtherNode { .. } => {
                Some(Status::Unavailable)
            }
            // Whoever had the user's partition and has lost it is nobody who can be told of.
            Error::Deadline { last, .. } => {
                let last = last.as_ref().and_then(|last| last.entry_status());
                Some(last.filter(|last| *last != Status::NotOwner).unwrap_or(Status::Unavailable))
            }
            _ => None,
        }
    }

    /// Whether somebody has to do something before a connection can be made.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Error::OtherLedger { .. }
                | Error::SchemaMismatch { .. }
                | Error::Unauthenticated(_)
                | Error::PermissionDenied(_)
        )
    }

    /// The server's status, where the server has answered.
    pub fn status(&self) -> Option<Status> {
        Some(match self {
            Error::NotFound(_) => Status::NotFound,
            Error::InvalidRequest(_) => Status::InvalidRequest,
            Error::Stale(_) => Status::Stale,
            Error::Unavailable(_) => Status::Unavailable,
            Error::Overloaded(_) => Status::Overloaded,
            Error::Unauthenticated(_) => Status::Unauthenticated,
            Error::PermissionDenied(_) => Status::PermissionDenied,
            Error::Internal(_) => Status::Internal,
            Error::NotOwner(_) => Status::NotOwner,
            _ => return None,
        })
    }

    /// A name for metrics and traces, one of few: the status's ([`Status::name`]), or what the client found itself.
    pub fn label(&self) -> &'static str {
        match self {
            Error::Deadline { .. } => "DEADLINE_EXCEEDED",
            Error::Disconnected { .. } => "DISCONNECTED",
            Error::Protocol { .. } => "PROTOCOL_ERROR",
            Error::SchemaMismatch { .. } => "SCHEMA_MISMATCH",
            Error::OtherNode { .. } => "OTHER_NODE",
            Error::OtherLedger { .. } => "OTHER_LEDGER",
            Error::Address(_) | Error::Tls(_) | Error::Setting { .. } => "INVALID_SETTING",
            answered => answered.status().map_or("DISCONNECTED", Status::name),
        }
    }

    /// The error of an answer whose status is not OK; `None` where it is.
    pub(crate) fn of_status(status: Status, refusal: impl FnOnce() -> Refusal) -> Option<Error> {
        Some(match status {
            Status::Ok => return None,
            Status::NotFound => Error::NotFound(refusal()),
            Status::InvalidRequest => Error::InvalidRequest(refusal()),
            Status::Stale => Error::Stale(refusal()),
            Status::Unavailable => Error::Unavailable(refusal()),
            Status::Overloaded => Error::Overloaded(refusal()),
            Status::Unauthenticated => Error::Unauthenticated(refusal()),
            Status::PermissionDenied => Error::PermissionDenied(refusal()),
            Status::Internal => Error::Internal(refusal()),
            Status::NotOwner => Error::NotOwner(refusal()),
        })
    }
}

/// What the server says with a status that is not OK.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{message} (shard {shard})")]
pub struct Refusal {
    /// In words.
    pub message: String,
    /// Which shard refused.
    pub shard: ShardIndex,
    /// The shard's watermark, µs since 1970 UTC; in [`Error::NotOwner`] the epoch of the map by which the node does not have the user.
    pub as_of_us: i64,
    /// Whether it is because the account's history is known to be incomplete.
    pub is_quarantined: bool,
    /// Whether that stays so until its rows are in the ledger, as far as the server knows: the client does not ask the server again.
    pub is_lasting: bool,
}

/// What ended a connection, or kept it from beginning.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// It was never made.
    #[error("cannot connect: {0}; is the node running, and with this address?")]
    Connect(Arc<io::Error>),
    /// TLS did not come about, or the node refused the caller's certificate.
    #[error(transparent)]
    Tls(Arc<TlsFailure>),
    /// It was not made in time.
    #[error("no connection within {0:?}; is the address right, and does a firewall let callers through?")]
    ConnectTimeout(Duration),
    /// It was made, and its Hello not answered in time: what listens there may be no node, or not turn.
    #[error("connected, but no answer to Hello within {0:?}: it is stopped, overloaded, or no florin")]
    NoHello(Duration),
    /// It is being made.
    #[error("not yet connected")]
    Connecting,
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// The server closed it in the middle of a reply.
    #[error("the server closed the connection in the middle of a reply, after {got} of {} bytes", bytes(*expected))]
    CutShort {
        /// Bytes that had come of it.
        got: usize,
        /// How long it was to be, where that had come.
        expected: Option<u32>,
    },
    /// The operating system ended it.
    #[error("the connection failed: {0}")]
    Io(Arc<io::Error>),
    /// Requests were unanswered and not one byte came for so long.
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    /// Requests were unanswered, and for so long a reply that had begun went on too slowly to be heard.
    #[error("the server has sent no more than {got} of a reply's {} bytes within {after:?}", bytes(*expected))]
    Dripped {
        /// The limit.
        after: Duration,
        /// Bytes that had come of it.
        got: usize,
        /// How long it was to be, where that had come.
        expected: Option<u32>,
    },
    /// Requests were unanswered and no whole reply came for so long, nor a good part of a long one: others are asked meanwhile.
    #[error("the server has sent no whole reply for {0:?}, others are asked")]
    Stalled(Duration),
    /// The server has said that it ends the connection.
    #[error("the server is ending its connections")]
    Draining,
}

fn bytes(expected: Option<u32>) -> String {
    expected.map_or_else(|| "at least 32".to_owned(), |bytes| bytes.to_string())
}

/// Which field of a reply is not as version 1 of the protocol has it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A port for TLS was asked in plain.
    #[error(
        "expected an answer in plain, got one by TLS: this port is for TLS, write florins:// before its address"
    )]
    Tls,
    /// It speaks HTTP alone.
    #[error(
        "expected an answer in frames, got one in HTTP: this is a node's admin port, or no florin; give the port that florin serve calls any shard, or tls"
    )]
    Http,
    /// No reply is so short, or so long.
    #[error("length: expected 32 to {max} bytes, got {got}")]
    Length {
        /// The longest that is believed.
        max: usize,
        /// What came.
        got: u32,
    },
    /// Of another protocol.
    #[error("version: expected 1, got {0}")]
    Version(u8),
    /// An answer to nothing that this connection has asked.
    #[error("request_id: expected one that was sent, got {0:#018x}")]
    RequestId(u64),
    /// Not what was asked under this request id.
    #[error("opcode: expected {expected:?}, got {got}")]
    Opcode {
        /// The request's.
        expected: Opcode,
        /// What came.
        got: u8,
    },
    /// Not what was asked for.
    #[error("encoding: expected {expected}, got {got}")]
    Encoding {
        /// As the request had it.
        expected: u8,
        /// What came.
        got: u8,
    },
    /// No status.
    #[error("status: expected 0 to 9, got {0}")]
    Status(u8),
    /// It does not verify.
    #[error("body: {0}")]
    Body(String),
    /// Somebody else's.
    #[error("user_id: expected {expected}, got {got}")]
    User {
        /// As asked.
        expected: UserId,
        /// What came.
        got: u64,
    },
    /// Other windows than asked.
    #[error("windows: expected {expected}, got {got}")]
    Windows {
        /// As asked.
        expected: u8,
        /// What came.
        got: u8,
    },
    /// Not one for each id.
    #[error("entries: expected {expected}, got {got}")]
    Entries {
        /// As many as were asked.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A map of partitions that cannot be.
    #[error(transparent)]
    NodeMap(NodeMapError),
    /// A shard map that maps nothing.
    #[error(
        "shards, ports: expected 1 to 256 shards and no ports or one for each, got {shards} shards and {ports} ports"
    )]
    ShardMap {
        /// As the reply has it.
        shards: u16,
        /// How many came.
        ports: usize,
    },
}
