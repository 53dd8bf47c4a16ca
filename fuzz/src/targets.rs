//! What must hold of any input. `fuzz_targets` looks for counterexamples without end; `tests/decoders.rs` of the main
//! package tries some in every run of the tests.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use florin::checkpoint;
use florin::clock::Now;
use florin::follower::{Outlet, link_of};
use florin::ledger::{Horizon, Kind, Transaction};
use florin::mesh::Parking;
use florin::shard::table::{Table, Walk};
use florin::shard::{FeedEvent, Listener, Shard, ShardSetup};
use florin::tls::authority::Authority;
use florin::tls::session::{Caller, Shaken};
use florin::tls::{Heard, Identity, Session as _, TlsFiles};
use florin::wire::{self, Parsed};
use florin_schema::{Asset, UserId, Version};

/// The native parser.
pub fn frame(input: &[u8]) {
    parser(input, wire::frame::parse);
}

/// The HTTP parser.
pub fn http(input: &[u8]) {
    parser(input, wire::http::parse);
}

/// The RESP parser; its fast way takes nothing that it does not.
pub fn resp(input: &[u8]) {
    parser(input, |bytes, users| {
        let parsed = wire::resp::parse(bytes, wire::RespVersion::Two, users);
        if let Some((user, length)) = wire::resp::plain_balance(bytes) {
            let is_alike = matches!(parsed, Parsed::Request(request, bytes)
                if (request.query, bytes) == (wire::Query::Balance(user), length));
            assert!(is_alike, "{user}: {parsed:?}");
        }
        assert!(parsed != Parsed::Incomplete || wire::resp::least_bytes(bytes) > bytes.len());
        parsed
    });
}

type Parse = for<'a> fn(&'a [u8], &mut Vec<UserId>) -> Parsed<'a>;

/// A parser never panics, always gets on, and does not take a request for whole before it is.
fn parser(mut input: &[u8], parse: Parse) {
    let mut users = Vec::new();
    loop {
        let consumed = match parse(input, &mut users) {
            Parsed::Request(_, bytes) => {
                assert!((1..=input.len()).contains(&bytes), "{bytes} of {} bytes", input.len());
                for cut in [0, 1, bytes / 2, bytes - 1] {
                    let early = parse(&input[..cut], &mut users);
                    assert!(
                        matches!(early, Parsed::Incomplete | Parsed::Continue),
                        "cut at {cut}: {early:?}"
                    );
                }
                bytes
            }
            Parsed::Rejected(rejection) => {
                assert!(!rejection.message.is_empty());
                match rejection.consumed {
                    Some(bytes) => bytes,
                    None => return,
                }
            }
            Parsed::Incomplete | Parsed::Continue => return,
        };
        assert!(consumed > 0, "a parser that takes nothing never ends");
        let Some(rest) = input.get(consumed..) else { return };
        input = rest;
    }
}

/// A checkpoint's manifest is refused or is what it says; a block's accounts are refused or can be served and go on.
pub fn checkpoint(input: &[u8]) {
    if let Ok(manifest) = checkpoint::Manifest::decode(input) {
        assert_eq!(manifest.encode(), input, "what is read is what was written");
    }
    let Some((&bucket, block)) = input.split_first() else { return };
    let (mut table, mut totals) = (Table::new(), Vec::new());
    let horizon = Horizon::at(1_795_320_306_000_000);
    for record in checkpoint::Records::of(block, bucket) {
        let Ok(record) = record else { return };
        if table.restore(&record).is_err() {
            return;
        }
        let found = table.find(record.user().hashed()).expect("it was taken in");
        table.statistics(found, &horizon, &mut totals);
        let row = Transaction {
            user_id: record.user(),
            version: record.version().next(),
            asset: Asset::parse(b"USD").expect("a code"),
            kind: Kind::ALL[0],
            amount: i64::MAX,
            occurred_at_us: 1_795_320_306_000_000,
        };
        table.apply(&row, &horizon);
        let mut copied = Vec::new();
        table.walk(&mut Walk::new(), 1, &mut copied);
    }
}

/// What a PostgreSQL's stream and its COPY may hold: never a panic, and a row that is read has all of its cells.
#[cfg(feature = "postgres")]
pub fn pgoutput(input: &[u8]) {
    use florin_postgres::decoder::{self, Message, copy::Copied};
    if let Ok(
        Message::Insert { new: tuple, .. }
        | Message::Update { new: tuple, .. }
        | Message::Delete { old: tuple, .. },
    ) = decoder::parse(input)
    {
        assert_eq!(tuple.cells().count(), tuple.len(), "a row is whole");
        assert!(decoder::parse(&input[..input.len() - 1]).is_err(), "and ends where it ends");
    }
    let mut cells = 0;
    let read = Copied::default().read(input, |row: [decoder::Cell<'_>; 6]| cells += row.len());
    assert!(read.is_err() || cells.is_multiple_of(6));
}

/// What a Kafka topic may hold: a record is a row, or what became of one, or is refused by name.
#[cfg(feature = "kafka")]
pub fn kafka(input: &[u8]) {
    use florin_kafka::decoder::{self, Layout, Record, Said};
    use florin_schema::Partitioner;
    // The key, its length before it; then the value.
    let Some((&bytes, rest)) = input.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(bytes).min(rest.len()));
    let value = (!value.is_empty()).then_some(value);
    let layout = Layout { partitions: 1, partitioner: Partitioner::Murmur2 };
    let record = Record { partition: 0, offset: 3, time_ms: 0, key: Some(key), value };
    match decoder::read(&record, layout) {
        Said::Row(row) => {
            assert_eq!(row.user_id.to_string().as_bytes(), key, "a row is its key's account's");
            assert!(row.amount >= 0 && row.version.0 > 0, "{row:?}");
        }
        Said::Refused(refused) => assert!(!refused.why.found.is_empty()),
        _ => {}
    }
}

/// What a server may say to a client. Of what it says of itself a client takes only what can be gone by.
pub fn client(input: &[u8]) {
    let _ = florin_client::fuzzed::replies(input);
    for hello in florin_client::fuzzed::hellos(input).unwrap_or_default() {
        assert!(
            hello.shards > 0 && (hello.ports == 0 || hello.ports == usize::from(hello.shards)),
            "{hello:?}"
        );
        let Some(map) = hello.map else { continue };
        for partition in 0..map.partitions() {
            let mut holders = map.holders(partition);
            assert!(holders.all(|place| usize::from(place) < map.nodes().len()), "{map:?}");
        }
    }
}

/// What nodes tell each other, and people: read and written again, it is read as the same.
pub fn nodes(input: &[u8]) {
    use florin::nodes::text::{self, fuzzed};
    match text::read(input) {
        Ok(news) => {
            let written = fuzzed::write_news(&news);
            let again = text::read(&written).expect("what a node writes is read");
            assert_eq!((again.teller, again.version, again.map), (news.teller, news.version, news.map));
            assert_eq!(again.words.len(), news.words.len());
            for ((again, is_gone), (report, was_gone)) in again.words.iter().zip(&news.words) {
                assert_eq!((&again.node, again.number, is_gone), (&report.node, report.number, was_gone));
                // Of one that is gone nothing is written that it had.
                assert!(*is_gone || again == report, "{again:?} was {report:?}");
            }
            assert_eq!(fuzzed::write_news(&again), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(Some(map)) = text::read_map(input) {
        let again = text::read_map(&fuzzed::write_map(&map)).expect("what a node writes is read");
        assert_eq!(again, Some(map));
    }
}

/// Where a checkpoint says that its ledger was read to: refused, or the same once it is written again.
pub fn position(input: &[u8]) {
    if let Some(written) = position_again::<florin_sqlite::Place>(input) {
        assert_eq!(written, input, "what is read is what was written");
    }
    #[cfg(feature = "kafka")]
    if let Some(written) = position_again::<florin_kafka::KafkaPosition>(input) {
        assert_eq!(written, input, "what is read is what was written");
    }
    // Where no row was read last, what is left of its place says nothing.
    #[cfg(feature = "postgres")]
    position_again::<florin_postgres::PgPosition>(input);
}

/// What is read of `input`, written again.
fn position_again<P: florin::follower::Position + PartialEq + std::fmt::Debug>(
    input: &[u8],
) -> Option<Vec<u8>> {
    let position = P::decode(input)?;
    let written = position.encode();
    assert_eq!(P::decode(&written), Some(position));
    Some(written)
}

/// How brokers describe a group's member: it is a node that is named as nodes name themselves, and its partitions are those that are
/// assigned to it; or it is refused.
#[cfg(feature = "kafka")]
pub fn group(input: &[u8]) {
    use florin_kafka::group::Member;
    const TOPIC: &str = "ledger";
    // The client id, its length before it; then the assignment.
    let Some((&bytes, rest)) = input.split_first() else { return };
    let (id, assignment) = rest.split_at(usize::from(bytes).min(rest.len()));
    let Ok(id) = std::str::from_utf8(id) else { return };
    match Member::read(id, assignment, TOPIC) {
        Ok(member) => {
            let place = &member.place;
            assert_eq!(format!("florin/{}/{}/{}", place.port, place.tls_port, place.host), id);
            let is_there = |&partition: &u32| (partition as usize) < florin::limits::PARTITIONS_MAX;
            assert!(member.assigned.iter().all(is_there), "{:?}", member.assigned);
            let mut written = [&[0, 1, 0, 0, 0, 1][..], &(TOPIC.len() as u16).to_be_bytes()].concat();
            written.extend(TOPIC.as_bytes());
            written.extend((member.assigned.len() as u32).to_be_bytes());
            written.extend(member.assigned.iter().flat_map(|partition| partition.to_be_bytes()));
            assert_eq!(Member::read(id, &written, TOPIC), Ok(member));
        }
        Err(strange) => assert!(!strange.to_string().is_empty()),
    }
}

/// What comes to the admin port: a head ends at its first empty line, in whatever pieces it comes; a body of transactions is refused
/// with a reason, or is read as the same once it is written again.
pub fn admin(input: &[u8]) {
    use florin_input::connections::fuzzed::head_ends;
    let ends = head_ends(std::iter::once(input));
    for piece_bytes in [1, 1 + input.len() / 2] {
        assert_eq!(head_ends(input.chunks(piece_bytes)), ends);
    }
    // Carriage returns are no part of a line, and empty lines before a head are none of it.
    let lines_of = |bytes: &[u8]| {
        let bytes: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\r').collect();
        bytes[bytes.iter().take_while(|&&byte| byte == b'\n').count()..].to_vec()
    };
    let empty_line = |lines: &[u8]| lines.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
    let mut begin = 0;
    for end in ends {
        let lines = lines_of(&input[begin..end]);
        assert!(input[end - 1] == b'\n' && empty_line(&lines) == Some(lines.len()));
        begin = end;
    }
    assert_eq!(empty_line(&lines_of(&input[begin..])), None, "a head that is whole is one");

    match florin::admin::fuzzed::transactions(input) {
        Ok(transactions) => {
            let entry = |row: &florin_record::NewTransaction| {
                let occurred_at = florin_record::time::text(row.occurred_at_us);
                format!(
                    r#"{{"transaction_id":"{}","user_id":"{}","asset":"{}","kind":{},"amount":{},"occurred_at":"{occurred_at}"}}"#,
                    row.transaction_id,
                    row.user_id,
                    row.asset,
                    row.kind.number(),
                    row.amount
                )
            };
            let written = transactions.iter().map(entry).collect::<Vec<_>>().join(",");
            assert_eq!(
                florin::admin::fuzzed::transactions(format!("[{written}]").as_bytes()),
                Ok(transactions)
            );
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// A recording: its requests are read, up to what is wrong with it.
pub fn recording(input: &[u8]) {
    let path = std::path::Path::new("a recording");
    let Ok(entries) = florin_shadow::read_recording(path, std::io::Cursor::new(input.to_vec())) else {
        return;
    };
    let lines = 1 + input.split(|&byte| byte == b'\n').count();
    let read = entries.take(lines).count();
    assert!(read < lines, "more entries than lines");
}

/// A line of CSV: its fields are those that were meant, or it is kept as it came; and what a transaction's six fields say.
pub fn csv(input: &[u8]) {
    for line in input.split(|&byte| byte == b'\n') {
        let mut record = csv::ByteRecord::new();
        if florin::cli::import::csv_line::split(line, &mut record).is_err() {
            assert_eq!(record.iter().collect::<Vec<_>>().join(&b","[..]), line, "what is refused is kept");
            continue;
        }
        let field = |at: usize| record.get(at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let [Some(transaction_id), Some(user_id), Some(asset), Some(kind), Some(amount), Some(occurred_at)] =
            std::array::from_fn(field)
        else {
            continue;
        };
        let text =
            florin_record::TransactionText { transaction_id, user_id, asset, kind, amount, occurred_at };
        let _ = text.parse();
    }
}

/// What somebody may say who is to shake hands, in two pieces; and what a certificate may hold.
pub fn handshake(input: &[u8]) {
    use florin::tls::CertificateNames;
    static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
        identity(&Authority::new("fuzzed").expect("an authority"), Callers::WithCertificates)
    });
    let mut caller = Caller::new(Arc::clone(&IDENTITY.callers)).expect("a connection");
    let mut answer = Vec::new();
    let (first, second) = input.split_at(input.len() / 2);
    if caller.shake(first, &mut answer).is_ok() {
        let _ = caller.shake(second, &mut answer);
    }
    assert!(caller.names().is_none(), "nobody has proved a name");
    let _ = CertificateNames::of(&input.to_vec().into());
}

/// Whom a node lets in.
#[derive(PartialEq)]
enum Callers {
    Any,
    WithCertificates,
}

/// A node's, of this authority's.
fn identity(authority: &Authority, callers: Callers) -> Identity {
    let node = authority.node(&["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        // One of them is a key.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, own).expect("a file of ours");
        path
    };
    let files = TlsFiles {
        certificate: write("node.pem", &node.certificate),
        key: write("node.key", &node.key),
        client_ca: (callers == Callers::WithCertificates)
            .then(|| write("ca.pem", &authority.pair().certificate)),
    };
    Identity::read(&files).expect("what was just made")
}

/// What comes behind a handshake: a caller's records, records of which a bit was changed on their way, and bytes that nobody has sealed.
/// What is handed on is what the caller has sent, in its order; a record that was changed is refused, and so is all that follows.
pub fn sealed(mut input: &[u8]) {
    let (mut node, mut caller) = shaken();
    let [mut sent, mut taken, mut records] = [const { Vec::<u8>::new() }; 3];
    let (mut is_true, mut has_ended, mut state) = (true, false, Ok(Heard::Bytes));
    while let [what, bytes, rest @ ..] = input {
        let (said, rest) = rest.split_at(usize::from(*bytes).min(rest.len()));
        input = rest;
        records.clear();
        match what % 4 {
            // Nobody has sealed it.
            0 => {
                records.extend(said);
                is_true &= said.is_empty();
            }
            1 => {
                caller.send_close_notify();
                has_ended = true;
            }
            _ if has_ended => {}
            _ => {
                caller.writer().write_all(said).expect("its buffer is emptied each time");
                sent.extend(said);
            }
        }
        let sealed_from = records.len();
        while caller.wants_write() {
            caller.write_tls(&mut records).expect("a vector takes what it is given");
        }
        let was_true = is_true;
        let changed =
            (what % 4 == 3 && records.len() > sealed_from).then(|| usize::from(*what) * 251 % records.len());
        if let Some(at) = changed {
            records[at] ^= 1 << (what / 4 % 8);
            is_true = false;
        }
        let (had_failed, taken_before) = (state.is_err(), taken.len());
        for piece in records.chunks(1 + usize::from(*what)) {
            state = node.open(piece, &mut |plain: &[u8]| taken.extend_from_slice(plain));
            if state.is_err() {
                break;
            }
        }
        assert!(sent.starts_with(&taken), "what was not sent is not handed on");
        if had_failed {
            assert!(records.is_empty() || state.is_err(), "it is done for");
            assert_eq!(taken.len(), taken_before, "it is done for");
        }
        // Behind its head, which is not all under the seal.
        if was_true && changed.is_some_and(|at| at >= 5) {
            assert!(state.is_err() && taken.len() == taken_before, "a changed record is refused");
        }
        if is_true {
            assert!(state.is_ok(), "{state:?}");
            assert!(taken == sent && node.half().is_none(), "what has come whole is handed on");
        }
    }
    node.seal_end(&mut Vec::new());
}

/// Both ends of a connection that are done with their handshake.
fn shaken() -> (Caller, rustls::ClientConnection) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    static ENDS: LazyLock<(Identity, Arc<rustls::ClientConfig>)> = LazyLock::new(|| {
        let authority = Authority::new("fuzzed").expect("an authority");
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(authority.pair().certificate.as_bytes());
        roots.add(certificate.expect("PEM")).expect("an authority's");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version that there is");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        (identity(&authority, Callers::Any), Arc::new(config))
    });
    let (identity, config) = &*ENDS;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut caller = rustls::ClientConnection::new(Arc::clone(config), name).expect("a connection");
    let mut node = Caller::new(Arc::clone(&identity.callers)).expect("a connection");
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    loop {
        while caller.wants_write() {
            caller.write_tls(&mut asked).expect("a vector takes what it is given");
        }
        let shaken = node.shake(&asked, &mut answered).expect("a handshake");
        asked.clear();
        let mut rest = &answered[..];
        while !rest.is_empty() {
            caller.read_tls(&mut rest).expect("its buffer is emptied each time");
            caller.process_new_packets().expect("a handshake");
        }
        answered.clear();
        if shaken != Shaken::No {
            return (node, caller);
        }
    }
}

/// What operators write: a configuration file, a file of principals, and addresses. Everything that is refused is refused with a
/// reason that says where; what is shown of an address is read as the same.
pub fn config(input: &[u8]) {
    use florin::sources::LedgerAddress;
    use florin_schema::nodes::is_host;
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = 1 + text.matches('\n').count();
    match florin::cli::settings::Settings::parse(text) {
        Ok(settings) => {
            let _ = settings.ledger_address();
        }
        Err(defects) => {
            assert!(!defects.is_empty());
            let is_told = |line: usize, message: &str| (1..=lines).contains(&line) && !message.is_empty();
            assert!(defects.iter().all(|defect| is_told(defect.line, &defect.message)), "{defects:?}");
        }
    }
    match florin::callers::Principals::parse(text) {
        Ok(principals) => {
            for hash in principals.entries.iter().flat_map(|entry| &entry.tokens) {
                let again = hash.to_string().parse::<florin::callers::TokenHash>();
                assert_eq!(again.map(|again| again.to_string()), Ok(hash.to_string()));
            }
        }
        Err(defects) => assert!(!defects.to_string().is_empty()),
    }
    for line in text.lines() {
        shown_again(line, |address: &LedgerAddress| matches!(address, LedgerAddress::Sqlite(_)));
        // A slash in a user's name is shown as it is, and read as the end of the brokers.
        #[cfg(feature = "kafka")]
        shown_again(line, |address: &florin_kafka::Address| {
            address.login.as_ref().is_none_or(|login| !login.user.contains('/'))
        });
        // So is a colon, which is read as the begin of a password; and hosts are not escaped at all.
        #[cfg(feature = "postgres")]
        shown_again(line, |address: &florin_postgres::address::Address| {
            use florin_postgres::address::Host;
            let is_plain = |host: &Host| matches!(host, Host::Tcp(name, _) if is_host(name));
            !address.user.contains(':') && address.hosts.iter().all(is_plain)
        });
        let _ = line.parse::<florin_shadow::TargetAddress>();
        if let Ok(addresses) = line.parse::<florin_client::Addresses>() {
            assert!((1..=64).contains(&addresses.as_slice().len()));
        }
        // One that is called unix is shown as a unix socket would be.
        shown_again(line, |address: &florin_client::Address| {
            use florin_client::Address::{Tcp, Tls, Unix};
            match address {
                Tcp { host, .. } | Tls { host, .. } => is_host(host) && host != "unix",
                Unix(_) => true,
            }
        });
    }
}

/// What is read of `text` and shown is read as the same, where `is_tried` says so.
fn shown_again<A>(text: &str, is_tried: fn(&A) -> bool)
where
    A: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display + PartialEq + std::fmt::Debug,
{
    match text.parse::<A>() {
        Ok(address) if is_tried(&address) => {
            let shown = address.to_string();
            assert!(shown.parse::<A>().is_ok_and(|again| again == address), "{address:?}, shown as {shown}");
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What two services may answer, whom the shadow compares: JSON means the same as itself, however it is written, and a difference is
/// one from either side; a frame is an answer or none.
pub fn shadow(input: &[u8]) {
    use florin_shadow::fuzzed::{answers, json, mean_the_same};
    let _ = answers(input);
    match json(input) {
        Ok(written) => {
            assert_eq!(mean_the_same(input, written.as_bytes()), Some(true), "{written}");
            assert_eq!(json(written.as_bytes()), Ok(written));
        }
        Err(why) => assert!(!why.is_empty()),
    }
    // Two bodies, a line each.
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (one, other) = input.split_at(end);
    assert_eq!(mean_the_same(one, other), mean_the_same(other, one));
}

/// One connection answers the same, in whatever pieces its input comes.
pub fn session(input: &[u8]) {
    let whole = Session::new().converse(std::iter::once(input));
    let mut seed = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    // At most 400 pieces: at a µs each, less than the millisecond in which messages tell an age.
    let longest = input.len() / 200 + 1 + seed as usize % 64;
    let mut rest = input;
    let pieces = std::iter::from_fn(|| {
        seed = florin_schema::ids::mix(seed);
        let bytes = (longest / 2 + 1 + seed as usize % longest).min(rest.len());
        let (piece, after) = rest.split_at(bytes);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_alike(input, whole, Session::new().converse(pieces));
}

/// The same for each of these places to cut it in two.
#[allow(dead_code, reason = "the fuzzers cut at places of their own")]
pub fn cuts(input: &[u8], places: impl Iterator<Item = usize>) {
    let whole = Session::new().converse(std::iter::once(input));
    for at in places {
        let (first, second) = input.split_at(at);
        let pieces = [first, second].into_iter().filter(|piece| !piece.is_empty());
        assert_alike(input, whole.clone(), Session::new().converse(pieces));
    }
}

fn assert_alike(input: &[u8], whole: Vec<u8>, cut: Vec<u8>) {
    // To a refused head that expects 100-continue the answer depends on whether its body is already here.
    if !input.to_ascii_lowercase().windows(6).any(|six| six == b"expect") {
        assert_eq!(in_any_order(whole, input), in_any_order(cut, input));
    }
}

/// Answers, without what may differ: the order of frames, and the opcode and id that the refusal of an illegal length
/// echoes, for it comes as soon as the length is here.
fn in_any_order(answers: Vec<u8>, input: &[u8]) -> Vec<Vec<u8>> {
    if wire::detect(input) != Some(wire::Protocol::Native) {
        return vec![answers];
    }
    let (mut frames, mut rest) = (Vec::new(), &answers[..]);
    while let Some(length) = rest.first_chunk() {
        let (frame, after) = rest.split_at(u32::from_le_bytes(*length) as usize);
        let mut frame = frame.to_vec();
        if frame[32..].starts_with(b"length: expected 24 to") {
            frame[5] = 0;
            frame[8..16].fill(0);
        }
        frames.push(frame);
        rest = after;
    }
    assert!(rest.is_empty(), "answers end with a whole frame");
    frames.sort();
    frames
}

/// One shard with a few accounts and one connection.
struct Session {
    shard: Shard,
    now: Now,
    answers: Vec<u8>,
    is_open: bool,
}

impl Session {
    fn new() -> Session {
        let parking = Arc::new(Parking::new());
        let (mut outlet, feed) = link_of(64, 8, Arc::clone(&parking), Arc::new(|| {}));
        outlet.publish(1_000, 1);
        for (user, version) in [(0, 1), (1, 1), (1, 2), (42, 1), (7, 3)] {
            let row = Transaction {
                user_id: UserId::new(user).expect("a legal id"),
                version: Version(version),
                asset: Asset::parse(b"COIN").expect("a legal code"),
                kind: Kind::Recharge,
                amount: 5,
                occurred_at_us: 0,
            };
            assert!(outlet.send(FeedEvent::Row(row)).is_ok(), "room");
        }
        let mut shard = Shard::new(ShardSetup::alone(parking, feed));
        let now = Now { wall_us: 1_000, monotonic_us: 1 };
        shard.begin_turn(now);
        shard.work();
        shard.open(0, Listener::Any);
        Session { shard, now, answers: Vec::new(), is_open: true }
    }

    /// Everything that the connection answers to its input; long enough after it for whatever may wait.
    fn converse<'a>(mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        for piece in pieces {
            self.now.monotonic_us += 1;
            self.turn(piece);
        }
        self.settle();
        for second in [2, 4, 6, 8] {
            self.now.monotonic_us = second * 1_000_000;
            self.settle();
        }
        if self.is_open {
            self.shard.begin_turn(self.now);
            self.shard.end_of_input(0);
            self.settle();
        }
        self.answers
    }

    /// Turns until nothing more is answered.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let before = self.answers.len();
            self.turn(&[]);
            if self.answers.len() == before {
                return;
            }
        }
        panic!("answers without end");
    }

    fn turn(&mut self, piece: &[u8]) {
        if !self.is_open {
            return;
        }
        self.shard.begin_turn(self.now);
        if !piece.is_empty() {
            self.shard.receive(0, piece);
        }
        self.shard.work();
        while let Some(connection) = self.shard.next_touched() {
            let wants = self.shard.wants(connection);
            if wants.output {
                let output = self.shard.take_output(connection, Vec::new());
                self.shard.sent(connection, output.len());
                self.answers.extend(output);
            } else if wants.close {
                self.shard.closed(connection);
                self.is_open = false;
            }
        }
        self.shard.end_turn(self.now.monotonic_us);
    }
}
