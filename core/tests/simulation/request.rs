//! Requests: what clients may ask, and the bytes of it in both protocols.

use florin_schema::frame::{BATCH_USERS_MAX, FLAG_FRESHNESS, FreshnessOptions, RequestHeader};
use florin_schema::{Status, UserId, WindowMask, generated};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::ledger::{Ledger, any_user};
use super::random::Random;

/// What a request asks.
#[derive(Clone, Debug)]
pub enum Ask {
    Hello,
    Balance(UserId),
    Statistics(UserId, WindowMask),
    Balances(Vec<UserId>),
    Ping(Vec<u8>),
    /// What must be refused.
    Invalid(Invalid),
}

/// A refusal to come.
#[derive(Clone, Copy, Debug)]
pub struct Invalid {
    pub opcode: u8,
    pub http_code: u16,
    pub closes: bool,
}

/// How the answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Rkyv,
    FlatBuffers,
    Json,
    /// A HEAD: no body.
    Head,
}

impl Format {
    pub fn is_http(self) -> bool {
        matches!(self, Format::Json | Format::Head)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Freshness {
    pub min_version: u64,
    pub max_age_ms: u32,
    pub wait_ms: u32,
}

impl Freshness {
    /// What the server makes of it.
    pub fn wait_us(&self) -> u64 {
        u64::from(self.wait_ms.min(1_000)) * 1_000
    }
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    pub ask: Ask,
    pub format: Format,
    pub freshness: Freshness,
    /// HTTP: the connection closes after the answer.
    pub closes: bool,
    /// HTTP: the body is sent only once it was asked for, or at once in spite of what the head says.
    pub expects: Expects,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expects {
    Nothing,
    /// `Expect: 100-continue`, and waits for it.
    Continue,
}

impl Request {
    pub fn users(&self) -> &[UserId] {
        match &self.ask {
            Ask::Balance(user) | Ask::Statistics(user, _) => std::slice::from_ref(user),
            Ask::Balances(users) => users,
            Ask::Hello | Ask::Ping(_) | Ask::Invalid(_) => &[],
        }
    }

    /// The opcode that a frame's answer echoes.
    pub fn opcode(&self) -> u8 {
        match &self.ask {
            Ask::Hello => 0,
            Ask::Balance(_) => 1,
            Ask::Statistics(..) => 2,
            Ask::Balances(_) => 3,
            Ask::Ping(_) => 4,
            Ask::Invalid(invalid) => invalid.opcode,
        }
    }

    pub fn ends_connection(&self) -> bool {
        self.closes || matches!(self.ask, Ask::Invalid(Invalid { closes: true, .. }))
    }
}

/// Bytes, and where in them a client stops until it was told to go on.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub barrier: Option<usize>,
}

/// A random request, and its bytes.
pub fn random(random: &mut Random, ledger: &Ledger, id: u64, is_http: bool) -> (Request, Encoded) {
    let kind = random.below(if is_http { 14 } else { 18 });
    let ask = match kind {
        0..5 => Ask::Balance(user(random, ledger)),
        5..10 => Ask::Statistics(user(random, ledger), any_mask(random)),
        10..13 => Ask::Balances(users(random, ledger)),
        13 => return invalid(random, ledger, id, is_http),
        14 | 15 => Ask::Ping((0..random.below(40)).map(|_| random.next() as u8).collect()),
        _ => Ask::Hello,
    };
    let is_batch = matches!(ask, Ask::Balances(_));
    let freshness = if random.percent(35) { freshness(random, ledger, &ask) } else { Freshness::default() };
    let format = match (is_http, random.below(2)) {
        (true, 0) if !is_batch && random.one_in(3) => Format::Head,
        (true, _) => Format::Json,
        (false, 0) => Format::Rkyv,
        (false, _) => Format::FlatBuffers,
    };
    let expects = if is_http && is_batch && random.one_in(3) { Expects::Continue } else { Expects::Nothing };
    let request = Request { id, ask, format, freshness, closes: is_http && random.one_in(25), expects };
    let encoded = encode(&request, random);
    (request, encoded)
}

/// What clients that flood a node ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// As much as they can, so that the rings of the mesh fill.
    Asks,
    /// Versions that are far away, so that the waiting room fills.
    Waits,
}

/// A request of a flood, and its bytes.
pub fn of_flood(random: &mut Random, ledger: &Ledger, id: u64, flood: Flood) -> (Request, Encoded) {
    let user = random.pick(&ledger.users);
    let freshness = match flood {
        Flood::Asks => Freshness::default(),
        Flood::Waits => Freshness { min_version: ledger.assigned(user) + 40, max_age_ms: 0, wait_ms: 1_000 },
    };
    let request = Request {
        id,
        ask: Ask::Balance(user),
        format: random.pick(&[Format::Rkyv, Format::FlatBuffers]),
        freshness,
        closes: false,
        expects: Expects::Nothing,
    };
    let encoded = encode(&request, random);
    (request, encoded)
}

pub fn encode(request: &Request, random: &mut Random) -> Encoded {
    if request.format.is_http() {
        http(request)
    } else {
        Encoded { bytes: frame(request, random), barrier: None }
    }
}

fn user(random: &mut Random, ledger: &Ledger) -> UserId {
    if random.one_in(15) { any_user(random) } else { random.pick(&ledger.users) }
}

fn users(random: &mut Random, ledger: &Ledger) -> Vec<UserId> {
    let count = match random.below(60) {
        0 => BATCH_USERS_MAX,
        1..10 => random.between(10, 60) as usize,
        _ => random.between(1, 9) as usize,
    };
    (0..count).map(|_| user(random, ledger)).collect()
}

fn any_mask(random: &mut Random) -> WindowMask {
    if random.one_in(3) {
        return WindowMask::ALL;
    }
    WindowMask::new(random.between(1, 15) as u8).expect("a legal mask")
}

fn freshness(random: &mut Random, ledger: &Ledger, ask: &Ask) -> Freshness {
    let first = match ask {
        Ask::Balance(user) | Ask::Statistics(user, _) => Some(*user),
        Ask::Balances(users) => users.first().copied(),
        _ => None,
    };
    let assigned = first.map_or(0, |user| ledger.assigned(user));
    Freshness {
        min_version: random.pick(&[
            0,
            0,
            1,
            assigned.saturating_sub(1),
            assigned,
            assigned + 1,
            assigned + 3,
        ]),
        max_age_ms: random.pick(&[0, 0, 0, 1, 5, 8, 20, 1_000, u32::MAX]),
        wait_ms: random.pick(&[0, 1, 3, 10, 50, 1_000, 60_000]),
    }
}

fn frame(request: &Request, random: &mut Random) -> Vec<u8> {
    let body = match &request.ask {
        Ask::Hello => hello(),
        Ask::Balance(_) => Vec::new(),
        Ask::Statistics(_, mask) if *mask == WindowMask::ALL && random.percent(50) => Vec::new(),
        Ask::Statistics(_, mask) => vec![mask.bits()],
        Ask::Balances(users) => users.iter().flat_map(|user| user.get().to_le_bytes()).collect(),
        Ask::Ping(payload) => payload.clone(),
        Ask::Invalid(_) => unreachable!("written by hand"),
    };
    let user_id = match request.ask {
        Ask::Balance(user) | Ask::Statistics(user, _) => user.get(),
        _ => 0,
    };
    let encoding = match request.format {
        Format::Rkyv => 1,
        _ => random.pick(&[0, 2]),
    };
    raw_frame(request, encoding, user_id, &body)
}

fn raw_frame(request: &Request, encoding: u8, user_id: u64, body: &[u8]) -> Vec<u8> {
    let Freshness { min_version, max_age_ms, wait_ms } = request.freshness;
    let options = FreshnessOptions {
        min_version: U64::new(min_version),
        max_age_ms: U32::new(max_age_ms),
        wait_ms: U32::new(wait_ms),
    };
    let has_options = request.freshness != Freshness::default();
    let options = if has_options { options.as_bytes() } else { &[] };
    let header = RequestHeader {
        length: U32::new((24 + options.len() + body.len()) as u32),
        version: 1,
        opcode: request.opcode(),
        encoding,
        flags: if has_options { FLAG_FRESHNESS } else { 0 },
        request_id: U64::new(request.id),
        user_id: U64::new(user_id),
    };
    [header.as_bytes(), options, body].concat()
}

fn hello() -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let client = builder.create_string("simulation");
    let hello =
        generated::Hello::create(&mut builder, &generated::HelloArgs { client: Some(client), token: None });
    builder.finish_minimal(hello);
    builder.finished_data().to_vec()
}

fn http(request: &Request) -> Encoded {
    let mut parameters = Vec::new();
    let Freshness { min_version, max_age_ms, wait_ms } = request.freshness;
    for (name, value) in
        [("min_version", min_version), ("max_age_ms", max_age_ms.into()), ("wait_ms", wait_ms.into())]
    {
        if value != 0 {
            parameters.push(format!("{name}={value}"));
        }
    }
    let (path, body) = match &request.ask {
        Ask::Balance(user) => (format!("/v1/users/{user}/balance"), None),
        Ask::Statistics(user, mask) => {
            let names: Vec<_> = mask.iter().map(|window| window.name()).collect();
            if *mask != WindowMask::ALL {
                parameters.push(format!("window={}", names.join(",")));
            }
            (format!("/v1/users/{user}/statistics"), None)
        }
        Ask::Balances(users) => {
            let ids: Vec<_> = users.iter().map(|user| format!("\"{user}\"")).collect();
            ("/v1/balances:batchGet".to_owned(), Some(format!("{{\"user_ids\":[{}]}}", ids.join(","))))
        }
        _ => unreachable!("HTTP has no such request"),
    };
    let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    let method = match (&body, request.format) {
        (Some(_), _) => "POST",
        (None, Format::Head) => "HEAD",
        (None, _) => "GET",
    };
    let mut head = format!("{method} {path}{query} HTTP/1.1\r\nHost: simulated\r\n");
    if request.closes {
        head += "Connection: close\r\n";
    }
    if request.expects == Expects::Continue {
        head += "Expect: 100-continue\r\n";
    }
    if let Some(body) = &body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    let barrier = (request.expects == Expects::Continue).then_some(head.len());
    Encoded { bytes: (head + &body.unwrap_or_default()).into_bytes(), barrier }
}

/// Something that wire.md refuses.
fn invalid(random: &mut Random, ledger: &Ledger, id: u64, is_http: bool) -> (Request, Encoded) {
    let user = random.pick(&ledger.users);
    let (opcode, http_code, closes, bytes) =
        if is_http { invalid_http(random, user) } else { invalid_frame(random, id, user) };
    let request = Request {
        id,
        ask: Ask::Invalid(Invalid { opcode, http_code, closes }),
        format: if is_http { Format::Json } else { Format::FlatBuffers },
        freshness: Freshness::default(),
        closes: false,
        expects: Expects::Nothing,
    };
    (request, Encoded { bytes, barrier: None })
}

fn invalid_frame(random: &mut Random, id: u64, user: UserId) -> (u8, u16, bool, Vec<u8>) {
    let build = |opcode: u8, user_id: u64, body: &[u8]| {
        let header = RequestHeader {
            length: U32::new(24 + body.len() as u32),
            version: 1,
            opcode,
            encoding: 2,
            flags: 0,
            request_id: U64::new(id),
            user_id: U64::new(user_id),
        };
        [header.as_bytes(), body].concat()
    };
    let user = user.get();
    let with = |mut bytes: Vec<u8>, at: usize, byte: u8| {
        bytes[at] = byte;
        bytes
    };
    let (opcode, closes, bytes) = match random.below(12) {
        0 => (9, false, build(9, user, &[])),
        1 => (1, false, build(1, user, &[1, 2, 3])),
        2 => (1, false, build(1, 1 << 63, &[])),
        3 => (2, false, build(2, user, &[random.pick(&[0, 16, 255])])),
        4 => (3, false, build(3, 0, &[])),
        5 => (3, false, build(3, 0, &vec![0; 8 * (BATCH_USERS_MAX + 1)])),
        6 => (3, false, build(3, 0, &u64::MAX.to_le_bytes())),
        7 => (4, false, build(4, 0, &vec![7; 1_025])),
        8 => (1, false, with(build(1, user, &[]), 6, 3)),
        9 => (1, false, with(build(1, user, &[]), 7, 2)),
        10 => (1, true, with(build(1, user, &[]), 4, 2)),
        _ => (1, true, with(build(1, user, &[]), 7, 1)),
    };
    (opcode, 400, closes, bytes)
}

fn invalid_http(random: &mut Random, user: UserId) -> (u8, u16, bool, Vec<u8>) {
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nHost: s\r\n\r\n");
    let post = |body: &str| {
        let length = body.len();
        format!("POST /v1/balances:batchGet HTTP/1.1\r\nHost: s\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let (http_code, closes, text) = match random.below(10) {
        0 => (404, false, get("/v1/nothing".to_owned())),
        1 => (400, false, get("/v1/users/9223372036854775808/balance".to_owned())),
        2 => (400, false, get(format!("/v1/users/{user}/statistics?window=1y"))),
        3 => (400, false, get(format!("/v1/users/{user}/balance?wait=1"))),
        4 => (405, false, format!("PUT /v1/users/{user}/balance HTTP/1.1\r\nHost: s\r\n\r\n")),
        5 => (400, false, post("{\"user_ids\":[]}")),
        6 => (400, false, post("{\"user_ids\":[\"x\"]}")),
        7 => (
            413,
            true,
            "POST /v1/balances:batchGet HTTP/1.1\r\nHost: s\r\nContent-Length: 99999\r\n\r\n".to_owned(),
        ),
        8 => (400, true, "GET / HTTP/1.1\r\nHost : s\r\n\r\n".to_owned()),
        _ => (505, true, format!("GET /v1/users/{user}/balance HTTP/2.0\r\nHost: s\r\n\r\n")),
    };
    (0, http_code, closes, text.into_bytes())
}

/// The code that a status has over HTTP (wire.md).
pub fn http_code(status: Status) -> u16 {
    match status {
        Status::Ok => 200,
        Status::NotFound => 404,
        Status::InvalidRequest => 400,
        Status::Stale => 412,
        Status::Unavailable => 503,
        Status::Overloaded => 429,
        Status::Unauthenticated => 401,
        Status::PermissionDenied => 403,
        Status::Internal => 500,
        Status::NotOwner => 307,
    }
}
