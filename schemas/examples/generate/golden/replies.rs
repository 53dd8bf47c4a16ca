//! The replies: each opcode in each of its encodings, every status, every flag.

use florin_schema::frame::{
    PING_BYTES_MAX, REPLY_DRAINING, REPLY_FORWARDED, REPLY_QUARANTINED, ReplyHeader, VERSION,
};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Encoding, LedgerId, NodeId, NodeIdentity, Opcode, Status, WindowMask};
use zerocopy::IntoBytes;

use super::content::{self, AS_OF_US};
use super::manifest::{EntryFields, MapFields, ReplyBody, ReplyFrame, ReplyHeaderFields};
use super::{Golden, flat, hex};

/// A frame's bytes: `header` with its length set, then the body.
pub fn frame(mut header: ReplyHeader, body: &[u8]) -> Vec<u8> {
    header.length = ((size_of::<ReplyHeader>() + body.len()) as u32).into();
    [header.as_bytes(), body].concat()
}

/// A header without its length.
pub fn header(opcode: Opcode, encoding: Option<Encoding>, status: Status) -> ReplyHeader {
    ReplyHeader {
        length: 0.into(),
        version: VERSION,
        opcode: opcode as u8,
        encoding: encoding.map_or(0, |encoding| encoding as u8),
        status: status as u8,
        request_id: 0x0123_4567_89AB_CDEF.into(),
        as_of_us: AS_OF_US.into(),
        shard: 1.into(),
        flags: 0.into(),
        schema: (SCHEMA_FINGERPRINT as u32).into(),
    }
}

/// Adds them all.
pub fn add(golden: &mut Golden) {
    add_hello(golden);
    for encoding in [Encoding::Rkyv, Encoding::FlatBuffers] {
        add_balances(golden, encoding);
        add_statistics(golden, encoding);
    }
    for (name, payload) in
        [("ping", &b"ping"[..]), ("ping-empty", b""), ("ping-longest", &[0xA5; PING_BYTES_MAX])]
    {
        let header = header(Opcode::Ping, None, Status::Ok);
        keep(golden, name, header, payload, ReplyBody::PayloadHex(hex(payload)));
    }
    add_errors(golden);
}

fn add_hello(golden: &mut Golden) {
    let tcp: &[u16] = &[7401, 7402];
    let unknown = NodeIdentity::default();
    let known = NodeIdentity { node: NodeId(0x1122_3344_5566_7788), ledger: LedgerId(u64::MAX) };
    let map = content::map();
    for (name, ports, identity, map) in [
        ("hello-tcp", tcp, unknown, None),
        ("hello-unix", &[], unknown, None),
        ("hello-identity", tcp, known, None),
        ("hello-partitions", tcp, known, Some(&map)),
    ] {
        let reply = flat::HelloReply {
            server: "florin/0.1.0",
            shards: 2,
            ports,
            mix: "splitmix64",
            rkyv_schema: SCHEMA_FINGERPRINT,
            identity,
            map,
        };
        let meaning = ReplyBody::Hello {
            server: reply.server.to_owned(),
            shards: reply.shards,
            ports: reply.ports.to_vec(),
            mix: reply.mix.to_owned(),
            rkyv_schema: reply.rkyv_schema.to_string(),
            node_id: identity.node.0.to_string(),
            ledger_id: identity.ledger.0.to_string(),
            nodes: map.map(MapFields::from),
        };
        let header = header(Opcode::Hello, Some(Encoding::FlatBuffers), Status::Ok);
        keep(golden, name, header, &flat::hello_reply(&reply), meaning);
    }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Rkyv => "rkyv",
        Encoding::FlatBuffers => "flatbuffers",
    }
}

fn add_balances(golden: &mut Golden, encoding: Encoding) {
    let empty = florin_schema::records::Balance { balances: vec![], ..content::balance() };
    let cases = [
        ("balance", content::balance(), 0),
        ("balance-extreme", content::extreme_balance(), 0),
        ("balance-empty", empty, 0),
        ("balance-forwarded", content::balance(), REPLY_FORWARDED),
        ("balance-quarantined", content::balance(), REPLY_QUARANTINED),
        ("balance-forwarded-quarantined", content::balance(), REPLY_FORWARDED | REPLY_QUARANTINED),
        ("balance-draining", content::balance(), REPLY_DRAINING),
    ];
    for (name, balance, flags) in cases {
        let body = match encoding {
            Encoding::Rkyv => archive(&balance),
            Encoding::FlatBuffers => flat::balance(&balance),
        };
        let mut header = header(Opcode::GetBalance, Some(encoding), Status::Ok);
        header.flags = flags.into();
        let name = format!("{name}-{}", encoding_name(encoding));
        keep(golden, &name, header, &body, ReplyBody::Balance((&balance).into()));
    }
    let batches = [
        ("balances", content::balances(), 0),
        ("balances-quarantined", content::quarantined_balances(), REPLY_QUARANTINED),
    ];
    for (name, balances, flags) in batches {
        let body = match encoding {
            Encoding::Rkyv => archive(&balances),
            Encoding::FlatBuffers => flat::balances(&balances),
        };
        let mut header = header(Opcode::GetBalances, Some(encoding), Status::Ok);
        header.flags = flags.into();
        let meaning = ReplyBody::Balances(balances.entries.iter().map(EntryFields::from).collect());
        let name = format!("{name}-{}", encoding_name(encoding));
        keep(golden, &name, header, &body, meaning);
    }
}

fn add_statistics(golden: &mut Golden, encoding: Encoding) {
    for bits in 1..=WindowMask::ALL.bits() {
        let statistics = content::statistics(WindowMask::new(bits).expect("1 to 15"));
        let body = match encoding {
            Encoding::Rkyv => archive(&statistics),
            Encoding::FlatBuffers => flat::statistics(&statistics),
        };
        let header = header(Opcode::GetStatistics, Some(encoding), Status::Ok);
        let name = format!("statistics-mask-{bits}-{}", encoding_name(encoding));
        keep(golden, &name, header, &body, ReplyBody::Statistics((&statistics).into()));
    }
}

fn add_errors(golden: &mut Golden) {
    for &status in &Status::ALL[1..] {
        let message = match status {
            Status::Ok => unreachable!("OK is no error"),
            Status::NotFound => "user_id: the ledger has never named 9",
            Status::InvalidRequest => "flags: expected 0 or 1, got 128",
            Status::Stale => "min_version: expected 8 or more within 0 ms, have 7",
            Status::Unavailable => "warming up",
            Status::Overloaded => "1024 requests wait already; retry later",
            Status::Unauthenticated => "a Hello with a token must come first",
            Status::PermissionDenied => "this token may not read balances",
            Status::Internal => "a defect: § 7 — please report it",
            Status::NotOwner => "user_id: 42 belongs to partition 7, which node-b.example:7400 has",
        };
        let name = format!("error-{}", status.name().to_lowercase().replace('_', "-"));
        let mut header = header(Opcode::GetBalance, None, status);
        if status == Status::NotOwner {
            header.as_of_us = content::map().epoch.cast_signed().into();
        }
        keep(golden, &name, header, message.as_bytes(), ReplyBody::Message(message.to_owned()));
    }
}

fn archive(
    record: &impl for<'a> rkyv::Serialize<
        rkyv::api::high::HighSerializer<
            rkyv::util::AlignedVec,
            rkyv::ser::allocator::ArenaHandle<'a>,
            rkyv::rancor::Error,
        >,
    >,
) -> Vec<u8> {
    rkyv::to_bytes::<rkyv::rancor::Error>(record).expect("a record in memory can be archived").into_vec()
}

fn keep(golden: &mut Golden, name: &str, header: ReplyHeader, body: &[u8], meaning: ReplyBody) {
    let frame = frame(header, body);
    let header = ReplyHeaderFields {
        length: frame.len() as u32,
        version: header.version,
        opcode: header.opcode,
        encoding: header.encoding,
        status: header.status,
        request_id: header.request_id.to_string(),
        as_of_us: header.as_of_us.to_string(),
        shard: header.shard.get(),
        flags: header.flags.get(),
        schema: header.schema.get(),
    };
    let file = golden.keep(&format!("reply-{name}"), frame);
    golden.manifest.replies.push(ReplyFrame { file, header, body: meaning });
}
