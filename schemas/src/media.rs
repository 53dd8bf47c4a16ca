//! JSON's media type, as every port of florin's takes it.

/// Why a Content-Type is not JSON's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotJson {
    /// It is another type's.
    Type,
    /// It is JSON in another charset than UTF-8, in which JSON travels (RFC 8259, section 8.1).
    Charset,
}

/// Whether a Content-Type's value is JSON's, in UTF-8.
///
/// # Errors
/// In what it is not.
pub fn json(content_type: &[u8]) -> Result<(), NotJson> {
    let mut parts = content_type.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json")) {
        return Err(NotJson::Type);
    }
    let is_other = |parameter: &[u8]| match parameter.iter().position(|&byte| byte == b'=') {
        Some(at) if parameter[..at].eq_ignore_ascii_case(b"charset") => {
            let charset = &parameter[at + 1..];
            let quoted = charset.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            !quoted.unwrap_or(charset).eq_ignore_ascii_case(b"utf-8")
        }
        _ => false,
    };
    if parts.any(is_other) { Err(NotJson::Charset) } else { Ok(()) }
}
