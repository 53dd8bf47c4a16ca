//! Hello: how a caller says who it is, and learns which shards a server has.

use std::io::{self, Read};

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::generated::{Hello, HelloArgs};
use florin_schema::{Opcode, Status, Stranger};
use zerocopy::{FromBytes, IntoBytes};

use super::beginning;
use crate::limits;

/// What is told of a server that is asked in plain on a port for TLS.
pub const BY_TLS: &str = "it answers by TLS, and was asked in plain: say tls=on, or tls=FILE with the authorities of its certificate";
const BY_HTTP: &str =
    "it answers in HTTP: this is an admin port, or no florin; give its any-shard port, or say http,addr=";

/// A Hello's frame, which shows this token.
pub fn request(token: Option<&str>) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let client = Some(builder.create_string(concat!("florin-bench ", env!("CARGO_PKG_VERSION"))));
    let token = token.map(|token| builder.create_string(token));
    let hello = Hello::create(&mut builder, &HelloArgs { client, token });
    builder.finish(hello, None);
    let body = builder.finished_data();
    let header = RequestHeader {
        length: ((size_of::<RequestHeader>() + body.len()) as u32).into(),
        version: frame::VERSION,
        opcode: Opcode::Hello as u8,
        encoding: 0,
        flags: 0,
        request_id: 1.into(),
        user_id: 0.into(),
    };
    [header.as_bytes(), body].concat()
}

/// The body of a Hello's answer.
///
/// # Errors
/// The connection's; a refusal (`PermissionDenied`), and what is no answer to a Hello (`InvalidData`).
pub fn reply(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut header = [0; size_of::<ReplyHeader>()];
    // Another protocol's answer may be shorter than a header.
    let (begin, rest) = header.split_at_mut(4);
    stream.read_exact(begin)?;
    match Stranger::of(begin) {
        Some(Stranger::Tls) => return Err(io::Error::other(BY_TLS)),
        Some(Stranger::Http) => return Err(io::Error::other(BY_HTTP)),
        None => stream.read_exact(rest)?,
    }
    let header = ReplyHeader::read_from_bytes(&header).expect("as many bytes as a header has");
    let body_bytes = (header.length.get() as usize).saturating_sub(size_of::<ReplyHeader>());
    let mut body = vec![0; body_bytes.min(limits::REPLY_BYTES_MAX)];
    stream.read_exact(&mut body)?;
    match Status::try_from(header.status) {
        Ok(Status::Ok) if header.opcode == Opcode::Hello as u8 => Ok(body),
        Ok(status) if status != Status::Ok => {
            let refusal = format!("{}: {}", status.name(), beginning(&body));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, refusal))
        }
        _ => {
            let answer = format!("status {} to opcode {}", header.status, header.opcode);
            Err(io::Error::new(io::ErrorKind::InvalidData, answer))
        }
    }
}
