//! What must be refused, and by which field.

use florin_schema::frame::{
    BATCH_USERS_MAX, FLAG_FRESHNESS, HELLO_CLIENT_BYTES_MAX, HELLO_TOKEN_BYTES_MAX, PING_BYTES_MAX,
    REQUEST_BYTES_MAX, ReplyHeader, RequestHeader,
};
use florin_schema::{Encoding, Opcode, Status};

use super::manifest::{RefusedReply, RefusedRequest};
use super::requests::{frame, header, ids};
use super::{Golden, content, flat, replies};

const REQUEST_ID: u64 = 77;

/// Adds them all.
pub fn add(golden: &mut Golden) {
    add_headers(golden);
    add_bodies(golden);
    add_replies(golden);
}

/// What a refusal names and whether it ends the connection.
enum Refusal {
    /// Of a field that says where the frame ends or how it is laid out.
    Closes(&'static str),
    /// Of any other.
    GoesOn(&'static str),
}

fn keep(golden: &mut Golden, name: &str, frame: Vec<u8>, refusal: Refusal) {
    let (field, closes) = match refusal {
        Refusal::Closes(field) => (field, true),
        Refusal::GoesOn(field) => (field, false),
    };
    let file = golden.keep(&format!("refused-{name}"), frame);
    let request_id = REQUEST_ID.to_string();
    golden.manifest.refused_requests.push(RefusedRequest {
        file,
        field: field.to_owned(),
        closes,
        request_id,
    });
}

fn get_balance() -> RequestHeader {
    header(Opcode::GetBalance, REQUEST_ID, 42)
}

/// A header that claims `length` bytes, and nothing behind it.
fn claiming(length: usize) -> Vec<u8> {
    let mut bytes = frame(get_balance(), &[]);
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes
}

fn add_headers(golden: &mut Golden) {
    keep(golden, "length-0", claiming(0), Refusal::Closes("length"));
    keep(golden, "length-23", claiming(23), Refusal::Closes("length"));
    keep(golden, "length-65537", claiming(REQUEST_BYTES_MAX + 1), Refusal::Closes("length"));
    for version in [0, 2] {
        let bytes = frame(RequestHeader { version, ..get_balance() }, &[]);
        keep(golden, &format!("version-{version}"), bytes, Refusal::Closes("version"));
    }
    let bytes = frame(RequestHeader { flags: FLAG_FRESHNESS, ..get_balance() }, &[0; 15]);
    keep(golden, "no-room-for-options", bytes, Refusal::Closes("length"));
    for opcode in [5, 255] {
        let bytes = frame(RequestHeader { opcode, ..get_balance() }, &[]);
        keep(golden, &format!("opcode-{opcode}"), bytes, Refusal::GoesOn("opcode"));
    }
    let bytes = frame(RequestHeader { encoding: 3, ..get_balance() }, &[]);
    keep(golden, "encoding-3", bytes, Refusal::GoesOn("encoding"));
    let bytes = frame(RequestHeader { flags: 2, ..get_balance() }, &[]);
    keep(golden, "flags-2", bytes, Refusal::GoesOn("flags"));
    for (name, opcode) in
        [("user-above-range", Opcode::GetBalance), ("statistics-user-above-range", Opcode::GetStatistics)]
    {
        let bytes = frame(header(opcode, REQUEST_ID, 1 << 63), &[]);
        keep(golden, name, bytes, Refusal::GoesOn("user_id"));
    }
}

fn add_bodies(golden: &mut Golden) {
    let mut add = |name: &str, opcode, body: &[u8], field| {
        let user_id = if matches!(opcode, Opcode::GetBalance | Opcode::GetStatistics) { 42 } else { 0 };
        keep(golden, name, frame(header(opcode, REQUEST_ID, user_id), body), Refusal::GoesOn(field));
    };
    add("balance-with-body", Opcode::GetBalance, &[0], "body");
    add("statistics-mask-0", Opcode::GetStatistics, &[0], "windows");
    add("statistics-mask-16", Opcode::GetStatistics, &[16], "windows");
    add("statistics-two-masks", Opcode::GetStatistics, &[1, 2], "body");
    add("batch-0", Opcode::GetBalances, &[], "body");
    add("batch-1025", Opcode::GetBalances, &ids(&vec![1; BATCH_USERS_MAX + 1]), "body");
    add("batch-cut", Opcode::GetBalances, &ids(&[1, 2])[..12], "body");
    add("batch-user-above-range", Opcode::GetBalances, &ids(&[1, 1 << 63]), "user_ids[1]");
    add("ping-too-long", Opcode::Ping, &[0; PING_BYTES_MAX + 1], "body");
    add("hello-without-body", Opcode::Hello, &[], "body");
    add("hello-garbage", Opcode::Hello, &[0xFF; 24], "body");
    add(
        "hello-client-too-long",
        Opcode::Hello,
        &flat::hello(&"c".repeat(HELLO_CLIENT_BYTES_MAX + 1), ""),
        "client",
    );
    add(
        "hello-token-too-long",
        Opcode::Hello,
        &flat::hello("c", &"t".repeat(HELLO_TOKEN_BYTES_MAX + 1)),
        "token",
    );
}

fn add_replies(golden: &mut Golden) {
    let mut add = |name: &str, frame, field: &str| {
        let file = golden.keep(&format!("refused-reply-{name}"), frame);
        golden.manifest.refused_replies.push(RefusedReply { file, field: field.to_owned() });
    };
    let flat_body = flat::balance(&content::balance());
    let rkyv_body = rkyv::to_bytes::<rkyv::rancor::Error>(&content::balance()).expect("a record in memory");
    let ok = |encoding| replies::header(Opcode::GetBalance, Some(encoding), Status::Ok);
    let flat_ok = ok(Encoding::FlatBuffers);

    let mut short = replies::frame(flat_ok, &[]);
    short[..4].copy_from_slice(&31u32.to_le_bytes());
    add("length-31", short, "length");
    add("version-2", replies::frame(ReplyHeader { version: 2, ..flat_ok }, &flat_body), "version");
    add("status-10", replies::frame(ReplyHeader { status: 10, ..flat_ok }, &flat_body), "status");
    add("encoding-3", replies::frame(ReplyHeader { encoding: 3, ..flat_ok }, &flat_body), "encoding");
    let mut other_schema = ok(Encoding::Rkyv);
    other_schema.schema = (other_schema.schema.get() ^ 1).into();
    add("schema", replies::frame(other_schema, &rkyv_body), "schema");
    add("flatbuffers-cut", replies::frame(flat_ok, &flat_body[..flat_body.len() - 8]), "body");
    // The pointer to the rows now leads out of the body.
    let mut astray = rkyv_body.to_vec();
    let pointer_at = astray.len() - 8;
    astray[pointer_at..pointer_at + 4].copy_from_slice(&(-4096i32).to_le_bytes());
    add("rkyv-pointer-astray", replies::frame(ok(Encoding::Rkyv), &astray), "body");
    add("rkyv-cut", replies::frame(ok(Encoding::Rkyv), &rkyv_body[8..]), "body");
    add(
        "message-not-utf8",
        replies::frame(replies::header(Opcode::GetBalance, None, Status::Internal), &[0xFF]),
        "body",
    );
}
