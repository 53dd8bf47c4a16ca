//! A PostgreSQL of a test's own: in a temporary folder, on a unix socket and a free port, ended with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use florin_postgres::Target;

/// See the module.
pub struct Server {
    folder: PathBuf,
    pub port: u16,
    bin: PathBuf,
}

/// Where a server of Debian's is; `FLORIN_POSTGRES_BIN` names another.
pub fn bin() -> Option<PathBuf> {
    let named = std::env::var_os("FLORIN_POSTGRES_BIN").map(PathBuf::from);
    named.or_else(|| {
        let found =
            std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
        found.filter(|bin| bin.join("postgres").exists()).max()
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl Server {
    /// Makes a server, and starts it.
    pub fn start(name: &str) -> Server {
        let folder = std::env::temp_dir().join(format!("florin-pg-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { folder, port, bin: bin().expect("a PostgreSQL: apt-get install postgresql") };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&server.folder));
        }
        let data = server.data();
        run(server
            .tool("initdb")
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "--locale=C", "-E", "UTF8", "-D"])
            .arg(&data));
        server.configure();
        server.boot();
        server
    }

    /// A standby's or a restored server's: what is there already is started.
    pub fn of_copy(&self, name: &str) -> Server {
        let folder = self.folder.with_file_name(format!("florin-pg-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let copy = Server { folder, port, bin: self.bin.clone() };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&copy.folder));
        }
        copy
    }

    pub fn configure(&self) {
        let own = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nwal_level = logical\n\
             max_prepared_transactions = 10\nmax_replication_slots = 20\nmax_wal_senders = 20\nfsync = off\n\
             wal_sender_timeout = 10s\nhot_standby = on\n",
            self.port,
            self.folder.display()
        );
        let path = self.data().join("postgresql.auto.conf");
        std::fs::write(&path, own).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(path));
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn boot(&self) {
        let log = self.folder.join("log");
        run(self.tool("pg_ctl").args(["-w", "-t", "60", "start", "-D"]).arg(self.data()).arg("-l").arg(log));
    }

    pub fn shut(&self, mode: &str) {
        let mut stop = self.tool("pg_ctl");
        stop.args(["-w", "-m", mode, "stop", "-D"]).arg(self.data());
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    /// A program of the server's, as a user that may run it.
    pub fn tool(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn psql(&self) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-h",
        ]);
        command.arg(&self.folder).arg("-p").arg(self.port.to_string());
        command
    }

    /// Runs SQL, and gives back what it says.
    pub fn sql(&self, sql: &str) -> String {
        let done = self.psql().arg("-c").arg(sql).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    pub fn try_sql(&self, sql: &str) -> bool {
        self.psql().arg("-c").arg(sql).stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
    }

    pub fn target(&self) -> Target {
        let address = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=florin_test", self.port);
        Target::new(address.parse().unwrap(), Default::default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut("immediate");
        if std::env::var_os("FLORIN_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

pub fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
