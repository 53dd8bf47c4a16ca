//! What proves who asks, where a node wants that: from a file or the environment, never a flag's value, which every process of the host
//! can read.

use std::env;
use std::path::PathBuf;

use clap::Args;

use crate::callers::{Secret, SecretError, SecretSource};

/// The variable of the environment that holds a token.
const VARIABLE: &str = "FLORIN_TOKEN";

/// Of every command that asks a node.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// A file with the token that proves who asks, where the node wants one [default: the environment's FLORIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// The token, if there is one.
    ///
    /// # Errors
    /// Where there should be one, and it cannot be had.
    pub(super) fn read(&self) -> Result<Option<Secret>, SecretError> {
        match &self.token_file {
            Some(path) => SecretSource::File(path.clone()).read().map(Some),
            None if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) => {
                SecretSource::Environment(VARIABLE.to_owned()).read().map(Some)
            }
            None => Ok(None),
        }
    }
}
