//! Why a RESP command is refused. Each begins with the word by which RESP's clients tell errors apart.

use alloc::string::String;

use thiserror::Error;

use crate::limits::{
    BATCH_USERS_MAX, PARTIAL_REQUEST_US, RESP_COMMAND_BYTES_MAX, RESP_WORD_BYTES_MAX, RESP_WORDS_MAX,
};

/// A refusal: what was expected and what came.
#[derive(Debug, Error)]
pub enum RespError {
    /// It began, and the rest did not come.
    #[error("ERR command: expected its rest within {} s", PARTIAL_REQUEST_US / 1_000_000)]
    TimedOut,
    /// Not an array of bulk strings.
    #[error("ERR Protocol error: expected an array of bulk strings: {expected:?}, got {got:?}")]
    Mark {
        /// What introduces it.
        expected: char,
        /// What stood there.
        got: char,
    },
    /// A count or a length that is none.
    #[error("ERR Protocol error: expected a decimal number behind {mark:?}, got {got:?}")]
    Number {
        /// What introduces it.
        mark: char,
        /// What stood there.
        got: String,
    },
    /// A word that is not as long as it says.
    #[error("ERR Protocol error: expected the end of a line behind {0} bytes")]
    WordEnd(usize),
    /// More words than any command has, or none.
    #[error("ERR Protocol error: expected 1 to {max} words, got {0}", max = RESP_WORDS_MAX)]
    Words(usize),
    /// One of them is too long.
    #[error("ERR Protocol error: expected words of at most {max} bytes, got {0}", max = RESP_WORD_BYTES_MAX)]
    WordTooLong(usize),
    /// All of them are.
    #[error("ERR Protocol error: expected commands of at most {max} bytes", max = RESP_COMMAND_BYTES_MAX)]
    CommandTooLong,
    /// Nothing that this server knows.
    #[error(
        "ERR unknown command {0:?}: expected GET, MGET, FLORIN.BALANCE, FLORIN.STATISTICS, PING, ECHO, HELLO, AUTH, SELECT, \
         CLIENT, COMMAND, INFO or QUIT"
    )]
    UnknownCommand(String),
    /// Words too many or too few, or others.
    #[error("ERR arguments: expected {0}")]
    Usage(&'static str),
    /// Nothing that is kept here.
    #[error(
        "ERR key: expected {expected}, with an id from 0 to 9223372036854775807 without leading zeros, got {got:?}"
    )]
    Key {
        /// What may be asked.
        expected: &'static str,
        /// What was.
        got: String,
    },
    /// More keys than one MGET may have.
    #[error("ERR keys: expected at most {max}, got {0}", max = BATCH_USERS_MAX)]
    Keys(usize),
    /// A number, or a list, that is none.
    #[error("ERR {field}: expected {expected}, got {got:?}")]
    Value {
        /// Its name.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// There is one database.
    #[error("ERR DB index: expected 0, got {0:?}")]
    Database(String),
    /// A version of RESP that is none.
    #[error("NOPROTO protocol version: expected 2 or 3, got {0:?}")]
    Version(String),
}
