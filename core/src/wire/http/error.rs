//! Why an HTTP request is refused, and with which status.

use alloc::string::String;

use thiserror::Error;

/// A refusal: which part, what was expected and what came.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Not HTTP.
    #[error("request: expected HTTP/1.1: {0}")]
    Malformed(httparse::Error),
    /// It began, and the rest did not come.
    #[error("request: expected its rest within {} s", crate::limits::PARTIAL_REQUEST_US / 1_000_000)]
    TimedOut,
    /// Not a version that this server speaks.
    #[error("version: expected HTTP/1.1 or HTTP/1.0")]
    Version,
    /// A request line beyond its limit.
    #[error("request line: expected at most {} bytes", crate::limits::HTTP_LINE_BYTES_MAX)]
    LineTooLong,
    /// A head beyond its limit.
    #[error("headers: expected at most {} bytes with the request line", crate::limits::HTTP_HEAD_BYTES_MAX)]
    HeadTooLong,
    /// More headers than the limit.
    #[error("headers: expected at most {}", crate::limits::HTTP_HEADERS_MAX)]
    TooManyHeaders,
    /// None, or more than one: RFC 9112, section 3.2.
    #[error("host: expected one Host header, got {0}")]
    Host(usize),
    /// No authority.
    #[error("host: expected a name or an address, and maybe a port, got {0:?}")]
    HostName(String),
    /// A method that no resource here has.
    #[error("method: expected GET, HEAD or POST, in upper case, got {0:?}")]
    NotImplemented(String),
    /// No single length: RFC 9112, section 6.3.
    #[error("content-length: expected one decimal number, got {0:?}")]
    ContentLength(String),
    /// A length in dispute: RFC 9112, section 6.1.
    #[error("transfer-encoding: expected none beside Content-Length or in HTTP/1.0")]
    DisputedLength,
    /// A body without a length in advance.
    #[error("content-length: expected one in place of Transfer-Encoding: chunked")]
    Chunked,
    /// A coding that this server does not know.
    #[error("transfer-encoding: expected none, got {0:?}")]
    TransferEncoding(String),
    /// A POST that does not say how long it is.
    #[error("content-length: expected one with POST")]
    LengthRequired,
    /// A body beyond its limit.
    #[error("body: expected at most {limit} bytes, got {0}", limit = crate::limits::HTTP_BODY_BYTES_MAX)]
    BodyTooLong(usize),
    /// A body where the method has none.
    #[error("body: expected none with GET and HEAD, got {0} bytes")]
    UnexpectedBody(usize),
    /// Something else than `100-continue`.
    #[error("expect: expected 100-continue, got {0:?}")]
    Expectation(String),
    /// A header twice that says one thing: which of the two is meant cannot be known.
    #[error("{0}: expected once, got it twice")]
    DuplicateHeader(&'static str),
    /// A body in another format.
    #[error("content-type: expected application/json, got {0:?}")]
    ContentType(String),
    /// JSON in another encoding.
    #[error("content-type: expected no charset but utf-8, in which JSON travels, got {0:?}")]
    Charset(String),
    /// A compressed body.
    #[error("content-encoding: expected none, got {0:?}")]
    ContentEncoding(String),
    /// No such resource.
    #[error(
        "path: expected /v1/users/{{user_id}}/balance, /v1/users/{{user_id}}/statistics or /v1/balances:batchGet, got {0:?}"
    )]
    Path(String),
    /// A resource that does not know the method.
    #[error("method: expected {allow}, got {got:?}")]
    Method {
        /// The methods that it knows.
        allow: &'static str,
        /// What came.
        got: String,
    },
    /// `%` without two hexadecimal digits of UTF-8 behind it.
    #[error("{0}: expected percent-encoded UTF-8")]
    PercentEncoding(&'static str),
    /// A parameter that the resource does not know.
    #[error("query: expected {known}, got {got:?}")]
    UnknownParameter {
        /// Those that it knows.
        known: &'static str,
        /// What came.
        got: String,
    },
    /// A parameter twice.
    #[error("{0}: expected once")]
    DuplicateParameter(&'static str),
    /// A value that is not its field's.
    #[error("{field}: expected {expected}, got {got:?}{}", florin_schema::misspelling(got))]
    Value {
        /// A path segment's or a parameter's name.
        field: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A batch that is not its JSON.
    #[error("body: expected {{\"user_ids\":[\"1\",\"2\"]}}: {0}")]
    Json(serde_json::Error),
    /// An empty or too long batch.
    #[error("user_ids: expected 1 to 1024 ids, got {0}")]
    BatchUsers(usize),
}

impl HttpError {
    /// The response's status.
    pub const fn status(&self) -> u16 {
        match self {
            HttpError::Path(_) => 404,
            HttpError::Method { .. } => 405,
            HttpError::TimedOut => 408,
            HttpError::Chunked | HttpError::LengthRequired => 411,
            HttpError::BodyTooLong(_) => 413,
            HttpError::LineTooLong => 414,
            HttpError::ContentType(_) | HttpError::Charset(_) | HttpError::ContentEncoding(_) => 415,
            HttpError::Expectation(_) => 417,
            HttpError::HeadTooLong | HttpError::TooManyHeaders => 431,
            HttpError::TransferEncoding(_) | HttpError::NotImplemented(_) => 501,
            HttpError::Version => 505,
            _ => 400,
        }
    }

    /// Whether nothing behind the request can be trusted, though its head could be read.
    pub const fn closes(&self) -> bool {
        matches!(self, HttpError::LengthRequired | HttpError::BodyTooLong(_) | HttpError::NotImplemented(_))
    }

    /// The methods of a 405's Allow header.
    pub const fn allow(&self) -> Option<&'static str> {
        match self {
            HttpError::Method { allow, .. } => Some(allow),
            _ => None,
        }
    }
}
