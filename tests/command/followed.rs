//! Pages, as somebody follows them who copies their commands: all of them are run, in their order, on other ports and in a folder of
//! the test's.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::migrated::Proxy;
use crate::operated::shell;
use crate::pages::{followed, to_run};
use crate::support::{Server, get, run, wait_for, write};

struct Reader {
    proxy: Option<Proxy>,
    node: Option<Server>,
    folder: TempDir,
}

impl Reader {
    /// In an empty folder, where the page begins with a ledger of its own; else with a ledger of users 1 to 60, and a node on it.
    fn of(page: &str) -> Reader {
        let folder = TempDir::new().expect("a temporary folder");
        let mut reader = Reader { proxy: None, node: None, folder };
        if !to_run(page).iter().any(|command| command.starts_with("florin generate ")) {
            let row = |user: u32| {
                format!("00000000-0000-4000-8000-{user:012},{user},COIN,recharge,100,2026-11-20T10:00:00Z\n")
            };
            let rows: String = (1..=60).map(row).collect();
            let header = "transaction_id,user_id,asset,kind,amount,occurred_at\n";
            write(reader.folder.path(), "rows.csv", &format!("{header}{rows}"));
            run(reader.folder.path(), &["import", "rows.csv"]).ok();
            reader.serve("");
        }
        reader
    }

    /// Starts a node in place of the last one, on ports of its own.
    fn serve(&mut self, arguments: &str) {
        self.node = None;
        let words = arguments.split_whitespace().filter(|&word| word != "&" && word != "…");
        let more: Vec<&str> = ["--shards", "1"].into_iter().chain(words).collect();
        self.node = Some(Server::start(self.folder.path(), &more));
    }

    /// A command as it is run here.
    fn here(&self, command: &str) -> String {
        let node = self.node.as_ref().expect("it was started");
        let (any, admin) = (node.addr(), node.admin.to_string());
        let below = format!("{}/", self.folder.path().display());
        let mut command = command
            .replace("sudo -u florin ", "")
            .replace("/tmp/", &below)
            // Of a node that no unit has started the journal has nothing.
            .replace("florin support ", "florin support --log rows.csv ")
            .replace("127.0.0.1:7300", &admin)
            .replace("NODE", &admin)
            .replace("127.0.0.1:7400", &any)
            .replace("127.0.0.1:7500", &any)
            .replace("10.0.0.7:7400", &any)
            .replace("127.0.0.1:8080", "127.0.0.1:0")
            .replace("127.0.0.1:7601", "127.0.0.1:0")
            .replace("-p 7400", &format!("-p {}", node.any.port()))
            .replace("/var/lib/florin/ledger.db", &format!("{below}florin.db"));
        if command.contains("florin get ") && !command.contains("--addr ") {
            command = format!("{command} --addr {any}");
        }
        // An answer that is a refusal is a failure.
        match command.strip_prefix("curl ") {
            Some(rest) => format!("curl -fsS {rest}"),
            None => command,
        }
    }

    fn follow(&mut self, page: &str, command: &str) {
        if let Some(arguments) = command.strip_prefix("florin serve") {
            return self.serve(arguments);
        }
        if command.starts_with("florin generate ") {
            // A thousandth of it: here nothing is optimised.
            let less =
                command.replace("--users 16384 --transactions 1000000", "--users 64 --transactions 2000");
            assert_ne!(less, command);
            shell(self.folder.path(), &less);
            return;
        }
        if command.starts_with("kill %1") {
            let node = self.node.take().expect("it runs");
            node.signal(Signal::TERM);
            assert_eq!(node.ended().0, Some(0), "{page}: {command}");
            return;
        }
        if self.node.is_none() {
            self.serve("");
        }
        let here = self.here(command);
        if command.starts_with("florin shadow ") {
            let proxy = self.proxy.insert(Proxy::start(self.folder.path(), &here));
            let answer = get(proxy.listen(), "/v1/users/42/balance");
            assert!(answer.starts_with("HTTP/1.1 200"), "{page}: {command}: {answer}");
        } else if command.contains("--min-version") {
            // The page waits a second, which on a busy host may pass before the write is seen.
            wait_for("the write", || is_well(self.folder.path(), &here).then_some(()));
        } else {
            shell(self.folder.path(), &here);
        }
    }
}

fn is_well(folder: &Path, command: &str) -> bool {
    let florin = Path::new(env!("CARGO_BIN_EXE_florin"));
    let command = command.replacen("florin", &florin.display().to_string(), 1);
    let done = std::process::Command::new("sh").args(["-c", &command]).current_dir(folder).output();
    done.expect("a shell").status.success()
}

#[test]
fn every_command_that_a_page_is_followed_for_works() {
    let pages = followed();
    assert!(pages.len() >= 4, "{pages:?} are not all");
    for page in pages {
        let mut reader = Reader::of(&page);
        for command in to_run(&page) {
            reader.follow(&page, &command);
        }
    }
}
