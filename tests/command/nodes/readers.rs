//! Callers who go on reading while nodes come and go: a read that fails, or shows an older version than was shown, ends them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use florin_client::{Builder, Client, Status, Tls, UserId, Version};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::USERS;
use crate::support::{built_go, get, wait_for};

/// A busy host's: who waits for longer has been failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// Between two of a reader's reads: the nodes, and the tests beside this one, are to have the CPUs. As the Go reader's.
pub const PAUSE: Duration = Duration::from_millis(1);

/// Who asks, whom, and what proves it: files, as `florin get` takes them.
#[derive(Clone, Debug)]
pub struct Caller {
    /// One of the nodes, as `--addr` takes it.
    pub node: String,
    pub token: Option<PathBuf>,
    /// By TLS, the authorities of the nodes.
    pub authorities: Option<PathBuf>,
    /// A certificate and its key.
    pub identity: Option<[PathBuf; 2]>,
}

impl Caller {
    /// Anybody, in plain.
    pub fn of(node: SocketAddr) -> Caller {
        Caller { node: format!("florin://{node}"), token: None, authorities: None, identity: None }
    }

    /// As `florin get`, the Go service and the reader in Go take them.
    pub fn flags(&self) -> Vec<String> {
        let [certificate, key] = self.identity.clone().map_or([None, None], |files| files.map(Some));
        let flags = [
            ("--token-file", &self.token),
            ("--tls-ca", &self.authorities),
            ("--tls-cert", &certificate),
            ("--tls-key", &key),
        ];
        let given = flags
            .into_iter()
            .filter_map(|(flag, file)| Some([flag.to_owned(), file.as_ref()?.display().to_string()]));
        given.flatten().collect()
    }

    fn client(&self) -> Builder {
        let mut client = Client::builder().deadline(DEADLINE);
        if let Some(token) = &self.token {
            client = client.token(std::fs::read_to_string(token).unwrap().trim());
        }
        if let Some(authorities) = &self.authorities {
            let mut tls = Tls::new().authorities(authorities);
            if let Some([certificate, key]) = &self.identity {
                tls = tls.identity(certificate, key);
            }
            client = client.tls(tls);
        }
        client
    }
}

/// Whoever reads all users again and again, one by one and as a batch.
pub struct Reader {
    is_over: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    /// It ends with a panic where a read has failed.
    thread: Option<JoinHandle<()>>,
    /// A process that ends with this, if it is one.
    child: Option<Child>,
}

impl Reader {
    /// By the Rust client, by the Go client, and over HTTP by the Go service; what is built for that lies in `folder`.
    pub fn all(folder: &Path, caller: &Caller) -> [Reader; 3] {
        [Reader::in_rust(caller), Reader::in_go(folder, caller), Reader::of_service(folder, caller)]
    }

    /// By the Rust client alone.
    pub fn in_rust(caller: &Caller) -> Reader {
        let caller = caller.clone();
        Reader::begun(None, move |over, reads| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = caller.client().connect(caller.node.as_str()).await.unwrap();
                let mut shown = Shown::default();
                while !over.load(SeqCst) {
                    shown.round(&client, reads).await;
                }
            });
        })
    }

    /// In a process of its own.
    fn in_go(folder: &Path, caller: &Caller) -> Reader {
        let program = folder.join("reader");
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
        built_go(&module, "./internal/reader", &program);
        let mut command = Command::new(program);
        command.args(["--target", &caller.node]).args(caller.flags());
        command.args(["--first", &USERS.start.to_string(), "--last", &(USERS.end - 1).to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was just built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Reader::begun(Some(child), move |over, reads| {
            for line in lines.map_while(Result::ok) {
                reads.store(line.parse().expect("how many balances it has read"), SeqCst);
            }
            assert!(over.load(SeqCst), "it has said why");
        })
    }

    fn of_service(folder: &Path, caller: &Caller) -> Reader {
        let service = Service::start(folder, caller);
        Reader::begun(None, move |over, reads| {
            let mut shown = Shown::default();
            let mut connection = BufReader::new(TcpStream::connect(service.address).unwrap());
            while !over.load(SeqCst) {
                shown.round_by_http(&mut connection, reads);
            }
            service.ends();
        })
    }

    fn begun(child: Option<Child>, read: impl FnOnce(&AtomicBool, &AtomicUsize) + Send + 'static) -> Reader {
        let (is_over, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&reads));
        let thread = Some(std::thread::spawn(move || read(&over, &count)));
        Reader { is_over, reads, thread, child }
    }

    /// Everybody has been read twice since.
    pub fn goes_on(&self) {
        let before = self.reads.load(SeqCst);
        wait_for("reads go on", || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "a read has failed");
            // Twice one by one and twice as a batch, and what was under way.
            (self.reads.load(SeqCst) > before + 5 * USERS.count()).then_some(())
        });
    }

    pub fn ends(mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
            assert!(child.wait().expect("our own child").success(), "it has said why");
        }
        self.thread.take().expect("it ends once").join().expect("no read has failed");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The Go service of `bench/legacy`; killed when dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start(folder: &Path, caller: &Caller) -> Service {
        let program = folder.join("legacy");
        built_go(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/legacy"), ".", &program);
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--backend", &caller.node]).args(caller.flags());
        command.stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it was just built");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("the service writes UTF-8");
            line.split("address=").nth(1)?.split(' ').next()?.parse().ok()
        });
        let address = address.expect("it says where it listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        let service = Service { child, address };
        wait_for("the service is ready", || {
            get(address, "/readyz").starts_with("HTTP/1.1 200 ").then_some(())
        });
        service
    }

    fn ends(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is there");
        assert!(self.child.wait().expect("our own child").success(), "the service ends in order");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer of 200, over a connection that is kept. The service waits for its nodes for two seconds at most, and a busy host
/// takes longer: then it says so, and is asked again.
fn asked(connection: &mut BufReader<TcpStream>, request: &str) -> Value {
    let began = Instant::now();
    loop {
        let (head, body) = answered(connection, request);
        let told = String::from_utf8_lossy(&body);
        if head.starts_with("HTTP/1.1 200 ") {
            return serde_json::from_str(&told).expect("JSON");
        }
        assert!(head.starts_with("HTTP/1.1 503 ") && began.elapsed() < DEADLINE, "{request}: {head}{told}");
    }
}

fn answered(connection: &mut BufReader<TcpStream>, request: &str) -> (String, Vec<u8>) {
    connection.get_mut().write_all(request.as_bytes()).expect("a connection");
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        assert!(connection.read_line(&mut head).expect("a connection") > 0, "cut: {request}: {head}");
        if let Some((name, value)) = head[from..].split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).expect("a connection");
    (head, body)
}

/// The last version of each user that was shown.
#[derive(Default)]
struct Shown(BTreeMap<UserId, Version>);

impl Shown {
    async fn round(&mut self, client: &Client, reads: &AtomicUsize) {
        let users: Vec<UserId> = USERS.map(|id| UserId::new(id).unwrap()).collect();
        for &user in &users {
            let balance = client.get_balance(user).await.unwrap_or_else(|error| panic!("{user}: {error}"));
            self.note(user, balance.version());
            reads.fetch_add(1, SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
        let batch = client.get_balances(&users).await.unwrap_or_else(|error| panic!("a batch: {error}"));
        assert_eq!(batch.iter().len(), users.len());
        for (entry, &user) in batch.iter().zip(&users) {
            assert_eq!((entry.user_id, entry.status), (user, Status::Ok), "of a batch");
            let version = entry.balance.expect("whoever is OK has one").version.to_native();
            self.note(user, Version(version));
            reads.fetch_add(1, SeqCst);
        }
    }

    fn round_by_http(&mut self, connection: &mut BufReader<TcpStream>, reads: &AtomicUsize) {
        let mut note = |balance: &Value, id: u64| {
            assert_eq!(balance["user_id"].as_str(), Some(id.to_string().as_str()));
            let version = balance["version"].as_str().and_then(|version| version.parse().ok());
            self.note(UserId::new(id).unwrap(), Version(version.expect("a version")));
            reads.fetch_add(1, SeqCst);
        };
        for id in USERS {
            let balance =
                asked(connection, &format!("GET /v1/users/{id}/balance HTTP/1.1\r\nHost: t\r\n\r\n"));
            note(&balance, id);
            std::thread::sleep(PAUSE);
        }
        let ids: Vec<String> = USERS.map(|id| format!("\"{id}\"")).collect();
        let body = format!("{{\"user_ids\":[{}]}}", ids.join(","));
        let head = "POST /v1/balances:batchGet HTTP/1.1\r\nHost: t\r\nContent-Type: application/json";
        let told = asked(connection, &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let entries = told["balances"].as_array().expect("a list");
        assert_eq!(entries.len(), ids.len());
        for (entry, id) in entries.iter().zip(USERS) {
            assert_eq!(entry["status"].as_str(), Some("OK"), "of a batch: {entry}");
            note(&entry["balance"], id);
        }
    }

    fn note(&mut self, user: UserId, version: Version) {
        let before = self.0.insert(user, version);
        assert!(before <= Some(version), "{user} went back");
    }
}
