//! Who speaks where something else was expected: a port for TLS that is asked in plain, an admin port that is asked in frames.

/// A protocol that is told by the first bytes of what its server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// A record of TLS (RFC 8446, section 5.1): a server that is asked in plain answers with an alert.
    Tls,
    /// A status line of HTTP/1.
    Http,
}

impl Stranger {
    /// Whose answer begins so; `None` where that shows none of them, or not yet.
    pub fn of(answer: &[u8]) -> Option<Stranger> {
        match answer {
            // A content type from change_cipher_spec to application_data, and a version from SSL 3 to TLS 1.3.
            [20..=23, 3, 0..=4, ..] => Some(Stranger::Tls),
            [b'H', b'T', b'T', b'P', ..] => Some(Stranger::Http),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stranger;

    #[test]
    fn a_protocol_is_told_by_its_first_bytes() {
        for (answer, stranger) in [
            (&b"\x15\x03\x03\x00\x02\x02\x32"[..], Some(Stranger::Tls)),
            (b"\x15\x03\x01", Some(Stranger::Tls)),
            (b"\x15\x03", None),
            (b"\x18\x03\x03\x00\x02", None),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(Stranger::Http)),
            (b"HTT", None),
            (b"-ERR unknown command\r\n", None),
            (b"\x20\x00\x00\x00\x01", None),
            (b"", None),
        ] {
            assert_eq!(Stranger::of(answer), stranger, "{answer:?}");
        }
    }
}
