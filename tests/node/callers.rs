//! Who may ask what: every kind of caller, every request, every protocol and every plain transport, on every driver. A combination
//! that nobody has granted is refused, on the fast path, passed on to another shard, and in a batch alike. `tls/callers.rs` has the
//! same by TLS.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Instant,
};

use florin::{
    callers::{Callers, Secret, SigningKey, Token, TokenHash, sign},
    node::{Node, NodeConfig},
    shard::Rights,
    wire::resp::COMMANDS,
};
use florin_schema::{Opcode, ShardIndex, UserId, generated};

use super::support::{REPLY_HEADER, Stream, config, shard_counts, until};

const OK: u8 = 0;
const NOT_FOUND: u8 = 1;
const OVERLOADED: u8 = 5;
const UNAUTHENTICATED: u8 = 6;
const PERMISSION_DENIED: u8 = 7;

/// What somebody shows, and what it may do then.
#[derive(Clone)]
pub struct Kind {
    pub name: &'static str,
    /// In a Hello, an Authorization header, an AUTH; none where it shows nothing.
    pub token: Option<String>,
    /// None = nobody knows it.
    pub may: Option<Rights>,
}

/// A file of principals with one of each right and some more, and who shows what of it.
pub struct Known {
    folder: tempfile::TempDir,
    pub kinds: Vec<Kind>,
}

impl Known {
    pub fn new() -> Known {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("key");
        fs::write(&secret, "k".repeat(32)).unwrap();
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut text = format!("[[key]]\nkid = \"k1\"\nsecret = \"file:{}\"\n", secret.display());
        let named =
            [("balance", Rights::BALANCE), ("statistics", Rights::STATISTICS), ("batch", Rights::BATCH)];
        let reads = "\"balance\", \"statistics\", \"batch\"";
        for (name, may) in
            [("none", ""), ("all", reads), ("writer", "\"write\", \"admin\""), ("metered", reads)]
        {
            text += &entry(name, may);
        }
        text += "requests_per_s = 10000000\n";
        named.iter().for_each(|(name, _)| text += &entry(name, &format!("\"{name}\"")));
        fs::write(folder.path().join("principals.toml"), text).unwrap();
        let key = SigningKey::new("k1", &Secret::new(vec![b'k'; 32])).unwrap();
        let signed = |end_s| {
            sign(&key, "all", Rights::BATCH.and(Rights::WRITE), end_s).reveal_text().unwrap().to_owned()
        };
        let kind = |name, token: &str, may| Kind { name, token: Some(token.to_owned()), may };
        let mut kinds = vec![
            Kind { name: "nobody", token: None, may: None },
            kind("wrong", "wrong", None),
            kind("none", "none", Some(Rights::NONE)),
            kind("writer", "writer", Some(Rights::WRITE.and(Rights::ADMIN))),
            kind("all", "all", Some(Rights::READS)),
            kind("metered", "metered", Some(Rights::READS)),
            kind("signed", &signed(i64::MAX / 1_000_000), Some(Rights::BATCH)),
            kind("ended", &signed(1), None),
        ];
        kinds.extend(named.map(|(name, right)| kind(name, name, Some(right))));
        Known { folder, kinds }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("principals.toml")
    }

    fn start(&self, shards: u16) -> (Node, Callers) {
        self.start_as(config(shards))
    }

    pub fn start_as(&self, config: NodeConfig) -> (Node, Callers) {
        let callers = Callers::open(&self.file()).unwrap();
        let unix = Some(self.folder.path().join("socket"));
        let node = Node::start(NodeConfig { callers: Some(callers.clone()), unix, ..config }).unwrap();
        until("the ledger is loaded", || node.obstacles().is_empty());
        (node, callers)
    }
}

/// Its token is its name, and its certificate's.
fn entry(name: &str, may: &str) -> String {
    let hash = TokenHash::of(name.as_bytes());
    let uri = uri(name);
    format!(
        "[[principal]]\nname = \"{name}\"\nmay = [{may}]\ncertificates = [\"{uri}\"]\ntokens = [\"{hash}\"]\n"
    )
}

/// What a certificate of its has for a name.
pub fn uri(name: &str) -> String {
    format!("spiffe://example.org/{name}")
}

/// What a request takes.
fn needed(opcode: Opcode) -> Rights {
    match opcode {
        Opcode::Hello | Opcode::Ping => Rights::NONE,
        Opcode::GetBalance => Rights::BALANCE,
        Opcode::GetStatistics => Rights::STATISTICS,
        Opcode::GetBalances => Rights::BATCH,
    }
}

/// How one who may do this is answered; who may ask, of a ledger without users, hears that there are none.
fn expected(may: Option<Rights>, opcode: Opcode) -> u8 {
    match (may, opcode) {
        (None, _) => UNAUTHENTICATED,
        (Some(may), _) if !may.hold(needed(opcode)) => PERMISSION_DENIED,
        (_, Opcode::GetBalance | Opcode::GetStatistics) => NOT_FOUND,
        _ => OK,
    }
}

fn frame(opcode: Opcode, user: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = (24 + body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&[1, opcode as u8, 0, 0]);
    frame.extend_from_slice(&7_u64.to_le_bytes());
    frame.extend_from_slice(&user.to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

fn hello(token: &str) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let (client, token) = (builder.create_string("test"), builder.create_string(token));
    let root = generated::Hello::create(
        &mut builder,
        &generated::HelloArgs { client: Some(client), token: Some(token) },
    );
    builder.finish(root, None);
    frame(Opcode::Hello, 0, builder.finished_data())
}

/// The opcodes and statuses of so many replies.
fn replies(stream: &mut dyn Read, count: usize) -> Vec<(u8, u8)> {
    let one = |_| {
        let mut header = [0; REPLY_HEADER];
        stream.read_exact(&mut header).unwrap();
        let length = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        std::io::copy(&mut stream.take((length - REPLY_HEADER) as u64), &mut std::io::sink()).unwrap();
        (header[5], header[7])
    };
    (0..count).map(one).collect()
}

/// One user of the first shard, and one of the last.
fn users(shards: u16) -> Vec<u64> {
    let of = |shard| (0..).find(|&id| UserId::new(id).unwrap().shard(shards) == ShardIndex(shard)).unwrap();
    vec![of(0), of(shards - 1)]
}

fn connect(transport: &str, node: &Node) -> Box<dyn Talk> {
    match transport {
        "unix" => {
            let stream = UnixStream::connect(node.addresses().unix.as_ref().unwrap()).unwrap();
            stream.set_deadline();
            Box::new(stream)
        }
        _ => {
            let stream = TcpStream::connect(node.addresses().shard_listen[0]).unwrap();
            stream.set_deadline();
            Box::new(stream)
        }
    }
}

pub trait Talk: Read + Write {}
impl<T: Read + Write> Talk for T {}

/// All that one of a kind may ask, over connections that are made `by` a transport, to a node of so many shards.
pub fn everything_of(kind: &Kind, transport: &str, shards: u16, by: &dyn Fn() -> Box<dyn Talk>) {
    frames_of(kind, transport, &mut *by(), shards);
    http_of(kind, transport, &mut *by(), shards);
    resp_of(kind, transport, &mut *by(), shards);
}

/// Each opcode, alone and in a run, of this shard's users and of another's.
fn frames_of(kind: &Kind, transport: &str, mut stream: &mut dyn Talk, shards: u16) {
    if let Some(token) = &kind.token {
        stream.write_all(&hello(token)).unwrap();
        let expected = if kind.may.is_some() { OK } else { UNAUTHENTICATED };
        assert_eq!(replies(&mut stream, 1), [(0, expected)], "Hello by {} on {transport}", kind.name);
    }
    for user in users(shards) {
        for (opcode, body) in [
            (Opcode::Ping, Vec::new()),
            (Opcode::GetBalance, Vec::new()),
            (Opcode::GetStatistics, Vec::new()),
            (Opcode::GetBalances, [user.to_le_bytes(), 1_u64.to_le_bytes()].concat()),
        ] {
            let of = if matches!(opcode, Opcode::GetBalance | Opcode::GetStatistics) { user } else { 0 };
            for run in [1, 50] {
                stream.write_all(&frame(opcode, of, &body).repeat(run)).unwrap();
                let expected = vec![(opcode as u8, expected(kind.may, opcode)); run];
                let context = format!("{opcode:?} of {of} by {} on {transport}", kind.name);
                assert_eq!(replies(&mut stream, run), expected, "{context}");
            }
        }
    }
}

/// The same by HTTP, where each request says who makes it.
fn http_of(kind: &Kind, transport: &str, mut stream: &mut dyn Talk, shards: u16) {
    let authorization = kind.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
    for user in users(shards) {
        for (opcode, line, body) in [
            (Opcode::GetBalance, format!("GET /v1/users/{user}/balance"), String::new()),
            (Opcode::GetStatistics, format!("HEAD /v1/users/{user}/statistics"), String::new()),
            (Opcode::GetStatistics, format!("GET /v1/users/{user}/statistics?window=24h"), String::new()),
            (
                Opcode::GetBalances,
                "POST /v1/balances:batchGet".to_owned(),
                format!("{{\"user_ids\":[{user},1]}}"),
            ),
        ] {
            let request = format!(
                "{line} HTTP/1.1\r\nHost: t\r\n{}Content-Length: {}\r\n\r\n{body}",
                authorization.as_deref().unwrap_or_default(),
                body.len()
            );
            let expected = match expected(kind.may, opcode) {
                OK => 200,
                NOT_FOUND => 404,
                UNAUTHENTICATED => 401,
                _ => 403,
            };
            for _ in 0..2 {
                stream.write_all(request.as_bytes()).unwrap();
                let status = answer(&mut stream, line.starts_with("HEAD"));
                assert_eq!(status, expected, "{line} by {} on {transport}", kind.name);
            }
        }
    }
}

/// The status of one HTTP answer, which is read to its end.
fn answer(stream: &mut dyn Read, is_head: bool) -> u16 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    if !is_head {
        std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
    }
    head[9..12].parse().unwrap()
}

/// Redis' commands about a user, and what each takes. Those that are open to all ask for nothing.
fn commands(user: u64) -> Vec<(String, Opcode)> {
    vec![
        (format!("GET balance:{user}"), Opcode::GetBalance),
        (format!("GET statistics:{user}"), Opcode::GetStatistics),
        (format!("MGET balance:{user} balance:1"), Opcode::GetBalances),
        (format!("FLORIN.BALANCE {user}"), Opcode::GetBalance),
        (format!("FLORIN.BALANCE {user} MAXAGE 60000 WAIT 1"), Opcode::GetBalance),
        (format!("FLORIN.STATISTICS {user} WINDOW 24h"), Opcode::GetStatistics),
        ("PING".to_owned(), Opcode::Ping),
        ("ECHO x".to_owned(), Opcode::Ping),
        ("INFO".to_owned(), Opcode::Ping),
    ]
}

/// A command that nobody has thought of here would be one that nobody has tried.
#[test]
fn every_command_is_tried_or_open_to_all() {
    const OPEN: [&str; 6] = ["auth", "client", "command", "hello", "quit", "select"];
    let tried: BTreeSet<String> = commands(1)
        .iter()
        .map(|(command, _)| command.split(' ').next().unwrap().to_lowercase())
        .chain(OPEN.map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = COMMANDS.iter().map(|command| command.name.to_owned()).collect();
    assert_eq!(tried, known);
}

/// The same by Redis' protocol; alone and in a run.
fn resp_of(kind: &Kind, transport: &str, stream: &mut dyn Talk, shards: u16) {
    if let Some(token) = &kind.token {
        let said = &told(stream, &format!("AUTH {token}"), 1)[0];
        assert_eq!(said == "+OK", kind.may.is_some(), "AUTH by {} on {transport}: {said}", kind.name);
    }
    for user in users(shards) {
        for (command, opcode) in commands(user) {
            let refusal = match expected(kind.may, opcode) {
                UNAUTHENTICATED => "-NOAUTH",
                PERMISSION_DENIED => "-NOPERM",
                _ => "",
            };
            for run in [1, 50] {
                let said = told(stream, &command, run);
                let context = format!("{command} by {} on {transport}: {said:?}", kind.name);
                let are_refused =
                    said.iter().filter(|line| line.starts_with("-NOAUTH") || line.starts_with("-NOPERM"));
                if refusal.is_empty() {
                    assert!(are_refused.count() == 0 && !said.is_empty(), "{context}");
                } else {
                    assert!(
                        said.len() == run && said.iter().all(|line| line.starts_with(refusal)),
                        "{context}"
                    );
                }
            }
        }
    }
}

/// The lines with which a run of one command is answered. What everybody may ask comes behind it, and its number is the end.
fn told(stream: &mut dyn Talk, command: &str, run: usize) -> Vec<String> {
    let array = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        let words = words.iter().fold(format!("*{}\r\n", words.len()), |array, word| {
            format!("{array}${}\r\n{word}\r\n", word.len())
        });
        words.into_bytes()
    };
    stream.write_all(&[array(command).repeat(run), array("CLIENT ID")].concat()).unwrap();
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).unwrap().trim_end().to_owned();
        if line.starts_with(':') {
            return lines;
        }
        lines.push(line);
    }
}

#[test]
fn what_nobody_has_granted_is_refused() {
    let known = Known::new();
    for shards in shard_counts() {
        for kind in &known.kinds {
            // An address may show only so many wrong tokens.
            let (node, _) = known.start(shards);
            for transport in ["tcp", "unix"] {
                everything_of(kind, transport, shards, &|| connect(transport, &node));
            }
        }
    }
}

/// On a unix socket who asks is the process at the other end, without a word.
#[test]
fn a_process_is_known_by_its_user_or_its_group() {
    let known = Known::new();
    let own = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let text = fs::read_to_string(known.file()).unwrap();
    for (line, may) in [
        (format!("uids = [{own}]"), Some(Rights::STATISTICS)),
        (format!("gids = [{group}]"), Some(Rights::STATISTICS)),
        ("uids = [4294967294]".to_owned(), None),
    ] {
        fs::write(
            known.file(),
            format!("{text}[[principal]]\nname = \"process\"\nmay = [\"statistics\"]\n{line}\n"),
        )
        .unwrap();
        let (node, _) = known.start(1);
        let process = Kind { name: "process", token: None, may };
        everything_of(&process, "unix", 1, &|| connect("unix", &node));
        // By TCP it is nobody, and with a token it is whose that is.
        everything_of(&Kind { may: None, ..process }, "tcp", 1, &|| connect("tcp", &node));
        let reader = known.kinds.iter().find(|kind| kind.name == "balance").unwrap();
        everything_of(reader, "unix", 1, &|| connect("unix", &node));
    }
}

/// A file that is read again holds for connections that are there, and one with a mistake changes nothing.
#[test]
fn connections_that_are_there_have_the_rights_of_the_newest_file() {
    let known = Known::new();
    let (node, callers) = known.start(shard_counts().last().unwrap());
    let text = fs::read_to_string(known.file()).unwrap();
    let mut stream = connect("tcp", &node);
    stream.write_all(&hello("balance")).unwrap();
    assert_eq!(replies(&mut stream, 1), [(0, OK)]);
    let reread = |text: &str| {
        fs::write(known.file(), text).unwrap();
        let outcome = callers.reload();
        node.control().wake();
        outcome
    };
    let balance = entry("balance", "\"balance\"");
    let mut asked = |expected: u8| {
        until("the rights have changed", || {
            stream.write_all(&frame(Opcode::GetBalance, 0, &[])).unwrap();
            replies(&mut stream, 1) == [(1, expected)]
        });
    };
    asked(NOT_FOUND);
    reread(&text.replace(&balance, &entry("balance", "\"statistics\""))).unwrap();
    asked(PERMISSION_DENIED);
    reread("a mistake").unwrap_err();
    asked(PERMISSION_DENIED);
    reread(&text).unwrap();
    asked(NOT_FOUND);
    reread(&text.replace(&balance, "")).unwrap();
    asked(UNAUTHENTICATED);
}

/// One that asks far more often than it may gets its rate and no more, however many connections it has and whichever shards they lead
/// to; another gets all of what it asks for. That the rate is not less either, `core` tests with a clock of its own: here a host that is
/// busy may let some of the time go by unused.
#[test]
fn a_rate_is_the_whole_nodes() {
    const RATE: f64 = 2_000.0;
    const BURST: f64 = 100.0;
    let known = Known::new();
    let text = fs::read_to_string(known.file()).unwrap()
        + &entry("slow", "\"balance\"")
        + "requests_per_s = 2000\nburst = 100\n";
    fs::write(known.file(), text).unwrap();
    let (node, _) = known.start(shard_counts().last().unwrap());
    let open = |address: SocketAddr, token: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_deadline();
        stream.write_all(&hello(token)).unwrap();
        assert_eq!(replies(&mut stream, 1), [(0, OK)]);
        stream
    };
    let shards = &node.addresses().shard_listen;
    // Before the first of it can be granted.
    let began = Instant::now();
    let mut flood: Vec<_> = (0..32).map(|index| open(shards[index % shards.len()], "slow")).collect();
    let mut other = open(shards[0], "all");
    let (mut granted, mut shed) = (0_u32, 0_u32);
    until("it has got what takes it a second", || {
        for stream in &mut flood {
            stream.write_all(&frame(Opcode::GetBalance, 0, &[]).repeat(8)).unwrap();
        }
        for stream in &mut flood {
            for (_, status) in replies(stream, 8) {
                match status {
                    NOT_FOUND => granted += 1,
                    OVERLOADED => shed += 1,
                    other => panic!("status {other}"),
                }
            }
        }
        other.write_all(&frame(Opcode::GetBalance, 0, &[]).repeat(8)).unwrap();
        assert_eq!(replies(&mut other, 8), [(1, NOT_FOUND); 8]);
        f64::from(granted) >= RATE
    });
    let due = RATE * began.elapsed().as_secs_f64() + BURST;
    assert!(shed > 0 && f64::from(granted) <= due, "{granted} of {due}, {shed} shed");
}

/// A caller that went on showing an old token locked out everybody behind its address, as behind a proxy.
#[test]
fn one_who_shows_wrong_tokens_locks_out_nobody_behind_its_address() {
    let known = Known::new();
    let (made, old) = (Token::random(), Token::random());
    let entry =
        format!("[[principal]]\nname = \"made\"\nmay = [\"balance\"]\ntokens = [\"{}\"]\n", made.hash());
    fs::write(known.file(), fs::read_to_string(known.file()).unwrap() + &entry).unwrap();
    let (node, _) = known.start(1);
    let status = |token: &str| {
        let mut stream = connect("tcp", &node);
        stream.write_all(&hello(token)).unwrap();
        replies(&mut stream, 1)[0].1
    };
    until("too many wrong ones have come", || status(old.reveal()) == OVERLOADED);
    let signed = known.kinds.iter().find(|kind| kind.name == "signed").unwrap();
    assert_eq!([status(made.reveal()), status(signed.token.as_ref().unwrap())], [OK, OK]);
    // By HTTP too, where each request shows one; and what could be a guess is not looked at.
    let by_http = |token: &str| {
        let mut stream = connect("tcp", &node);
        write!(
            stream,
            "GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        answer(&mut stream, false)
    };
    assert_eq!(by_http(made.reveal()), 404);
    until("a right one that could be a guess is not looked at", || {
        status("wrong");
        by_http("balance") == 429
    });
}

/// A node whose callers are unknown asks nobody, as ever.
#[test]
fn a_node_without_principals_answers_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let unix: &Path = &folder.path().join("socket");
    let node = Node::start(NodeConfig { unix: Some(unix.to_owned()), ..config(1) }).unwrap();
    until("the ledger is loaded", || node.obstacles().is_empty());
    let everybody = Kind { name: "anybody", token: Some("whatever".to_owned()), may: Some(Rights::READS) };
    for transport in ["tcp", "unix"] {
        everything_of(&everybody, transport, 1, &|| connect(transport, &node));
    }
}
