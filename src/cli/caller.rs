//! Who a command is when it asks a node, and whom it takes for that node. Secrets come from a file or the environment, never from a
//! flag's value, which every process of the host can read.

use std::env;
use std::path::PathBuf;

use clap::Args;
use florin_client::{Address, AddressError, Builder, Client, Tls, UserId};

use crate::callers::{Secret, SecretError, SecretSource};

/// The variable of the environment that holds a token.
const VARIABLE: &str = "FLORIN_TOKEN";

/// Of every command that asks a node.
#[derive(Args, Clone, Debug)]
pub struct CallerArgs {
    /// A file with the token that proves who asks, where the node wants one [default: the environment's FLORIN_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities of which a node at florins:// must have its certificate, in PEM [default: those that this host trusts]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate that proves who asks, where a node at florins:// wants one, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl CallerArgs {
    /// The node at `address`, as this caller asks it.
    ///
    /// # Errors
    /// Where there should be a token, and it cannot be had; where others may read the certificate's key.
    pub(super) fn asking(&self, address: &Address) -> Result<Asked, SecretError> {
        if let Some(path) = &self.tls_key {
            let kept = florin_input::is_secret_kept(path);
            kept.map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
        }
        Ok(Asked { address: address.clone(), token: self.token()?, tls: self.tls() })
    }

    fn token(&self) -> Result<Option<Secret>, SecretError> {
        match &self.token_file {
            Some(path) => SecretSource::File(path.clone()).read().map(Some),
            None if env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) => {
                SecretSource::Environment(VARIABLE.to_owned()).read().map(Some)
            }
            None => Ok(None),
        }
    }

    fn tls(&self) -> Option<Tls> {
        if self.tls_ca.is_none() && self.tls_cert.is_none() {
            return None;
        }
        let trusting = match &self.tls_ca {
            Some(file) => Tls::new().authorities(file),
            None => Tls::new(),
        };
        Some(match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => trusting.identity(certificate, key),
            _ => trusting,
        })
    }
}

/// Of every command that asks a node's admin port.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The node's admin port; as a node prints it, http://… and https://…, too
    #[arg(
        long,
        value_name = "HOST:PORT|florins://HOST:PORT|unix:PATH",
        value_parser = admin_address,
        default_value = "127.0.0.1:7300"
    )]
    admin: Address,
    #[command(flatten)]
    caller: CallerArgs,
}

impl AdminArgs {
    /// The admin port, as this caller asks it.
    ///
    /// # Errors
    /// Where there should be a token, and it cannot be had.
    pub(super) fn asking(&self) -> Result<Asked, SecretError> {
        self.caller.asking(&self.admin)
    }
}

/// An admin port's address. Where it listens a node prints as a browser takes it, and that is what is copied.
fn admin_address(text: &str) -> Result<Address, AddressError> {
    let prefixes = [("https://", "florins://"), ("http://", "florin://")];
    let printed = prefixes.iter().find_map(|(printed, own)| {
        let rest = text.strip_prefix(printed)?;
        format!("{own}{}", rest.trim_end_matches('/')).parse().ok()
    });
    // What is refused is shown as it was given.
    printed.map_or_else(|| text.parse(), Ok)
}

/// How a caller proves who it is, for whoever has not.
pub(super) const HOW_TO_PROVE: &str = ": give a token by --token-file FILE or FLORIN_TOKEN, a certificate by --tls-cert FILE and \
    --tls-key FILE";

/// What the client says of its own methods, said of the flags of commands.
pub(super) fn in_flags(said: &str) -> String {
    said.replace("(Tls::identity, --tls-cert)", "(--tls-cert, --tls-key)")
        .replace("(Tls::authorities, --tls-ca)", "(--tls-ca)")
        .replace(", or give its name (Tls::server_name)", "")
}

/// A user's id, as a flag or an argument has it.
pub(super) fn user_id(text: &str) -> Result<UserId, String> {
    let id = florin_client::decimal(text).and_then(UserId::new);
    id.ok_or_else(|| {
        let why = florin_schema::misspelling(text);
        format!("expected a whole number from 0 to 9223372036854775807{why}")
    })
}

/// A node, and what proves to it who asks.
#[derive(Debug)]
pub struct Asked {
    /// Any of its ports.
    pub address: Address,
    /// Whoever asks shows it.
    pub token: Option<Secret>,
    /// Where something was said of it.
    pub tls: Option<Tls>,
}

impl Asked {
    /// Another node, as the same caller asks it.
    pub(super) fn another(&self, address: Address) -> Asked {
        Asked { address, token: self.token.clone(), tls: self.tls.clone() }
    }

    /// A client that asks it by frames, yet to be connected.
    pub fn client(&self) -> Builder {
        let token = self.token.as_ref().and_then(Secret::reveal_text).unwrap_or_default();
        let client = Client::builder().token(token);
        match &self.tls {
            Some(tls) => client.tls(tls.clone()),
            None => client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node prints `http://127.0.0.1:7300`, and `--admin` did not take it.
    #[test]
    fn an_admin_port_is_named_as_a_node_prints_it() {
        for (text, address) in [
            ("http://127.0.0.1:7300", "127.0.0.1:7300"),
            ("http://[::1]:7300/", "[::1]:7300"),
            ("https://florin.internal:7301/", "florins://florin.internal:7301"),
            ("florins://a:1", "florins://a:1"),
            ("a:1", "a:1"),
            ("unix:/run/admin.sock", "unix:/run/admin.sock"),
        ] {
            assert_eq!(admin_address(text).unwrap().to_string(), address);
        }
        for wrong in ["http://", "https://florins://a:1", "http://a", "http://a:1/metrics", "ftp://a:1"] {
            assert!(admin_address(wrong).is_err(), "{wrong}");
        }
    }
}
