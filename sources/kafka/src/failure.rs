//! Why the topic is not read at the moment, and what is to be done about it.

use florin_core::follower::SourceError;
use florin_record::{LedgerError, Trouble};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// It may pass by itself: the same is tried again from the same offsets.
    #[error("{0}")]
    Unavailable(String),
    /// What is there is not what was followed. It takes a hand.
    #[error("{0}")]
    Replaced(String),
}

impl From<&Failure> for SourceError {
    fn from(failure: &Failure) -> SourceError {
        match failure {
            Failure::Unavailable(reason) => SourceError::Unavailable(reason.clone()),
            Failure::Replaced(reason) => SourceError::Replaced(reason.clone()),
        }
    }
}

/// What a process ends with that cannot go on without its ledger's brokers, as with a PostgreSQL.
const EXIT_CODE: u8 = 21;

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> LedgerError {
        let trouble = match failure {
            Failure::Unavailable(_) => Trouble::Unavailable,
            Failure::Replaced(_) => Trouble::Failed,
        };
        LedgerError { exit_code: EXIT_CODE, ..LedgerError::new(trouble, failure.to_string()) }
    }
}

/// What becomes of an error that the client library tells.
pub enum Verdict {
    /// The library goes on by itself; what cannot be asked for too long is noticed by [`crate::limits::QUERY_TIMEOUT`].
    GoesOn,
    /// It does not.
    Failed(Failure),
}

/// Judges an error of reading.
pub fn judge(error: &KafkaError, topic: &str) -> Verdict {
    let code = error.rdkafka_error_code();
    match code {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            // No group is joined: whether this user may is nothing to us.
            | Code::GroupAuthorizationFailed,
        ) => Verdict::GoesOn,
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::LogTruncation) => {
            Verdict::Failed(Failure::Replaced(format!(
                "topic {topic} does not have what was read of it ({error}): it was made anew, or its records were removed. A \
                 ledger's topic keeps all of them (retention.ms=-1, cleanup.policy=delete): put that one back, or restart florin \
                 to load what is there now"
            )))
        }
        Some(Code::NotImplemented) => Verdict::Failed(Failure::Unavailable(format!(
            "topic {topic} has records that this build cannot unpack ({error}): use compression none, gzip, snappy or lz4"
        ))),
        _ => Verdict::Failed(unavailable(&format!("topic {topic} cannot be read"), error)),
    }
}

/// Something was asked of the brokers, and did not come.
pub fn unavailable(what: &str, error: &KafkaError) -> Failure {
    Failure::Unavailable(format!("{what}: {error}"))
}
