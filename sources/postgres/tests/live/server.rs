//! A server of a test's own, and SQL for it by `psql`. `FLORIN_POSTGRES_BIN` names the programs of another version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use florin_postgres::Target;
use florin_postgres::server::{OwnServer, Programs, SUPERUSER};

/// See the module.
pub struct Server {
    own: Mutex<OwnServer>,
    clients: Programs,
    folder: PathBuf,
    pub port: u16,
}

impl Server {
    /// Makes a server, and starts it.
    pub fn start() -> Server {
        let clients = Programs::find().expect("a PostgreSQL");
        let programs = std::env::var_os("FLORIN_POSTGRES_BIN").map(PathBuf::from);
        let programs = programs.map(|folder| Programs::at(folder).expect("a server"));
        let settings = [("fsync", "off"), ("wal_sender_timeout", "10s")];
        let own = OwnServer::start(programs.as_ref().unwrap_or(&clients), &settings).expect("a server");
        let (folder, port) = (own.socket_folder().to_owned(), own.port());
        Server { own: Mutex::new(own), clients, folder, port }
    }

    pub fn boot(&self) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).resume().expect("it starts again");
    }

    pub fn crash(&self) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).crash();
    }

    pub fn end(&self) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    /// The folder of its data, and of its socket: other folders of its user's may be in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A program that asks the server something.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.clients.command(program).expect("a user for it");
        command.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", SUPERUSER]);
        command
    }

    pub fn psql(&self) -> Command {
        let mut command = self.client("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
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
