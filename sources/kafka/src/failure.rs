//! Why the topic is not read at the moment, and what is to be done about it.

use florin_core::follower::SourceError;
use florin_record::{LedgerError, Trouble};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::address::Address;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// It may pass by itself: the same is tried again from the same offsets.
    #[error("{0}")]
    Unavailable(String),
    /// The brokers do not let this user. Once they do, nothing else has to be done.
    #[error("{0}")]
    Forbidden(String),
    /// What is there is not what was followed. It takes a hand.
    #[error("{0}")]
    Replaced(String),
}

impl From<&Failure> for SourceError {
    fn from(failure: &Failure) -> SourceError {
        match failure {
            Failure::Unavailable(reason) | Failure::Forbidden(reason) => {
                SourceError::Unavailable(reason.clone())
            }
            Failure::Replaced(reason) => SourceError::Replaced(reason.clone()),
        }
    }
}

/// What a process ends with that cannot go on without its ledger's brokers, as with a PostgreSQL.
const EXIT_CODE: u8 = 21;
/// What it ends with where this user may not do what it takes, as with a file.
const EXIT_CODE_FORBIDDEN: u8 = 20;

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> LedgerError {
        let (trouble, exit_code) = match failure {
            Failure::Unavailable(_) => (Trouble::Unavailable, EXIT_CODE),
            Failure::Forbidden(_) => (Trouble::Unavailable, EXIT_CODE_FORBIDDEN),
            Failure::Replaced(_) => (Trouble::Failed, EXIT_CODE),
        };
        LedgerError { exit_code, ..LedgerError::new(trouble, failure.to_string()) }
    }
}

/// What brokers let somebody do with a topic, by their own names of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// To see that it is there, and where its partitions end.
    Describe,
    /// To read its records.
    Read,
    /// To add records.
    Write,
    /// To make it.
    Create,
    /// To see its settings.
    DescribeConfigs,
}

impl Right {
    /// What cannot be done without.
    fn deed(self) -> &'static str {
        match self {
            Right::Describe => "see",
            Right::Read => "read",
            Right::Write => "write to",
            Right::Create => "make",
            Right::DescribeConfigs => "see the settings of",
        }
    }
}

/// Whether an error says that somebody may not.
pub fn is_forbidden(code: Code) -> bool {
    matches!(code, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)
}

/// The brokers' ACLs lack a right.
pub fn forbidden(address: &Address, right: Right) -> Failure {
    let topic = &address.topic;
    lacking(address, &format!("{} topic {topic}", right.deed()), &format!("{right:?} --topic {topic}"))
}

/// They lack the right to join a group.
pub fn forbidden_group(address: &Address, group: &str) -> Failure {
    lacking(address, &format!("join group {group}"), &format!("Read --group {group}"))
}

fn lacking(address: &Address, deed: &str, right: &str) -> Failure {
    let Address { login, tls, .. } = address;
    let (who, principal) = match login {
        Some(login) => (format!("user {}", login.user), format!("User:{}", login.user)),
        None if tls.identity.is_some() => {
            ("whom the client's certificate names".to_owned(), "User:ITS-SUBJECT".to_owned())
        }
        None => ("a client that does not log in".to_owned(), "User:ANONYMOUS".to_owned()),
    };
    Failure::Forbidden(format!(
        "the Kafka brokers do not let {who} {deed}: give it the right (kafka-acls.sh --add --allow-principal {principal} --operation \
         {right})"
    ))
}

/// Something that takes a right was asked of the brokers, and did not come.
pub fn refused(address: &Address, right: Right, what: &str, error: &KafkaError) -> Failure {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    if code.is_some_and(is_forbidden) { forbidden(address, right) } else { unavailable(what, error) }
}

/// What becomes of an error that the client library tells.
pub enum Verdict {
    /// The library goes on by itself. Brokers that answer no question for [`crate::limits::QUERY_TIMEOUT`] are noticed by that, and records
    /// that do not come by the watermark that does not go on.
    GoesOn,
    /// It does not.
    Failed(Failure),
}

/// Whether somebody else answers for a partition, or will in a moment: so says a broker that does not lead it any more, or has not taken
/// it over yet.
pub fn is_moving(code: Code) -> bool {
    matches!(
        code,
        Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::ReplicaNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ListenerNotFound
            | Code::KafkaStorageError
    )
}

/// Judges an error of reading.
pub fn judge(error: &KafkaError, address: &Address) -> Verdict {
    let topic = &address.topic;
    let code = error.rdkafka_error_code();
    match code {
        Some(code) if is_moving(code) => Verdict::GoesOn,
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            // No group is joined to read: whether this user may is nothing to a reader.
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
        _ => Verdict::Failed(refused(address, Right::Read, &format!("topic {topic} cannot be read"), error)),
    }
}

/// Something was asked of the brokers, and did not come.
pub fn unavailable(what: &str, error: &KafkaError) -> Failure {
    Failure::Unavailable(format!("{what}: {error}{}", next_step(error)))
}

/// What to do where no broker was reached.
pub fn next_step(error: &KafkaError) -> &'static str {
    match error.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve) => {
            "; does a broker run, and listen there (listeners)?"
        }
        _ => "",
    }
}
