//! Who is asked, and how.

use std::fmt;
use std::str::FromStr;

use florin_client::Address;

/// Where a side listens, and what it speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetAddress {
    /// `http://HOST:PORT`
    Http(String),
    /// `florin://HOST:PORT`: frames with rkyv bodies, through florin's client.
    Rkyv(Address),
    /// `florin://HOST:PORT?encoding=flatbuffers`: frames with FlatBuffers bodies.
    FlatBuffers(Address),
}

/// Why a text names no target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected http://HOST:PORT, florin://HOST:PORT or florin://HOST:PORT?encoding=flatbuffers, got {0:?}; \
     for TLS, put a proxy that speaks it in front"
)]
pub struct TargetError(String);

impl FromStr for TargetAddress {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<TargetAddress, TargetError> {
        let wrong = || TargetError(text.to_owned());
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
            if parsed.host().is_empty() || authority.contains('@') {
                return Err(wrong());
            }
            let port = parsed.port_u16().unwrap_or(80);
            return Ok(TargetAddress::Http(format!("{}:{port}", parsed.host())));
        }
        let rest = text.strip_prefix("florin://").ok_or_else(wrong)?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let address = address.strip_suffix('/').unwrap_or(address).parse().map_err(|_| wrong())?;
        if matches!(address, Address::Tls { .. }) {
            return Err(wrong());
        }
        match query {
            "" | "encoding=rkyv" => Ok(TargetAddress::Rkyv(address)),
            "encoding=flatbuffers" => Ok(TargetAddress::FlatBuffers(address)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetAddress::Http(authority) => write!(f, "http://{authority}"),
            TargetAddress::Rkyv(address) => write!(f, "florin://{address}"),
            TargetAddress::FlatBuffers(address) => write!(f, "florin://{address}?encoding=flatbuffers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (text, written) in [
            ("http://go:8080", "http://go:8080"),
            ("http://go/", "http://go:80"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("florin://h:7400", "florin://h:7400"),
            ("florin://unix:/run/f.sock", "florin://unix:/run/f.sock"),
            ("florin://h:1?encoding=rkyv", "florin://h:1"),
            ("florin://h:1?encoding=flatbuffers", "florin://h:1?encoding=flatbuffers"),
        ] {
            assert_eq!(text.parse::<TargetAddress>().unwrap().to_string(), written);
        }
        for text in [
            "",
            "go:8080",
            "https://go",
            "http://",
            "http://a/b",
            "http://u@h:1",
            "florin://h",
            "florin://h:1?x",
            "florins://h:1",
            "florin://florins://h:1",
        ] {
            let error = text.parse::<TargetAddress>().unwrap_err().to_string();
            assert!(error.starts_with("expected http://HOST:PORT"), "{error}");
        }
    }
}
