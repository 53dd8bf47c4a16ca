//! The caller's side: a Go program (`bench/caller`) that asks at a rate, with net/http or with florin's client, and says
//! what that has cost it; the server's cost is looked at from here, at the same two moments.

use std::{
    fmt, fs,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    affinity,
    generator::{Endpoint, Endpoints},
    sample::{Sample, ServerUse},
    targets::{Target, process},
    work::{Kind, Population},
};

/// How a caller asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// net/http and encoding/json.
    Http,
    /// florin's Go client, which coalesces.
    Florin,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::Http => "net/http",
            Client::Florin => "florin's Go client",
        })
    }
}

/// How much a caller asks: `256@20000` on the command line, or `256` for as fast as answers come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallerLoad {
    /// Each asks one thing at a time.
    pub goroutines: u32,
    /// Requests a second of all together; 0: each asks again at once.
    pub rate: u32,
}

impl fmt::Display for CallerLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            0 => write!(f, "{} goroutines, each asking again at once", self.goroutines),
            rate => write!(f, "{} goroutines, {rate}/s in all", self.goroutines),
        }
    }
}

impl FromStr for CallerLoad {
    type Err = String;

    fn from_str(text: &str) -> Result<CallerLoad, String> {
        let whole = |text: &str| text.parse().ok().filter(|&number: &u32| number > 0);
        let read = || match text.split_once('@') {
            None => Some(CallerLoad { goroutines: whole(text)?, rate: 0 }),
            Some((goroutines, rate)) => {
                Some(CallerLoad { goroutines: whole(goroutines)?, rate: whole(rate)? })
            }
        };
        read().ok_or_else(|| "expected GOROUTINES or GOROUTINES@RATE, like 256@20000".to_owned())
    }
}

/// What a caller has found, and what it and its server have used.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallerTrial {
    /// The caller's own account.
    pub caller: Account,
    /// The server's cost in the same window.
    pub server: ServerUse,
}

/// What the caller says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Of the window.
    pub seconds: f64,
    /// Answers in it.
    pub served: u64,
    /// Questions without one.
    pub errors: u64,
    /// The last reason.
    pub last_error: String,
    /// The process's CPU time in user mode.
    pub user_seconds: f64,
    /// And in the kernel.
    pub system_seconds: f64,
    /// Latencies, ns.
    pub p50_ns: u64,
    /// See above.
    pub p90_ns: u64,
    /// See above.
    pub p99_ns: u64,
    /// See above.
    pub p999_ns: u64,
    /// See above.
    pub max_ns: u64,
}

impl Account {
    /// CPU time of the caller for each answer.
    pub fn cpu_us_per_request(&self) -> f64 {
        (self.user_seconds + self.system_seconds) * 1e6 / self.served.max(1) as f64
    }
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The program.
    #[error("cannot start the caller {}: {source}; build it: cd bench/caller && go build", .program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended early.
    #[error("the caller, asking {target} with {client}, failed: {said}")]
    Failed {
        /// Whom.
        target: String,
        /// How.
        client: Client,
        /// What it said.
        said: String,
    },
    /// The server cannot be asked like that.
    #[error(
        "{target} cannot be asked by a Go caller: it needs one TCP port for all, and the bench its process id"
    )]
    Unreachable {
        /// Whom.
        target: String,
    },
    /// The server's process.
    #[error("{target}: cannot sample its process, did it end? ({source})")]
    Sample {
        /// Whom.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The list of users.
    #[error("writing the users' ids for the caller: {0}")]
    Users(#[source] io::Error),
}

/// The caller's program and what it is told each time.
#[derive(Debug)]
pub struct Caller {
    program: PathBuf,
    users: tempfile::TempDir,
    cpus: Vec<usize>,
    seed: u64,
    warmup_seconds: f64,
    seconds: f64,
}

impl Caller {
    /// Prepares to run `program` about these users.
    pub fn new(
        program: PathBuf,
        population: &Population,
        terms: &super::Terms,
    ) -> Result<Caller, CallerError> {
        let users = process::scratch().map_err(|error| CallerError::Users(io::Error::other(error)))?;
        let ids: Vec<String> = population.users().iter().map(|user| user.get().to_string()).collect();
        fs::write(users.path().join("users"), ids.join("\n")).map_err(CallerError::Users)?;
        Ok(Caller {
            program,
            users,
            cpus: terms.generator_cpus.clone(),
            seed: terms.seed,
            warmup_seconds: terms.warmup_seconds,
            seconds: terms.seconds,
        })
    }

    /// Lets it ask `target` once.
    pub fn run(
        &self,
        target: &Target,
        client: Client,
        kind: Kind,
        load: CallerLoad,
    ) -> Result<CallerTrial, CallerError> {
        let failed = |said: String| CallerError::Failed { target: target.label.clone(), client, said };
        let (Endpoints::Any(Endpoint::Tcp(address)), Some(pid)) = (&target.endpoints, target.pid) else {
            return Err(CallerError::Unreachable { target: target.label.clone() });
        };
        let scheme = if client == Client::Http { "http" } else { "florin" };
        let mut child = Running(self.start(&format!("{scheme}://{address}"), kind, load)?);
        let stdout = child.0.stdout.take().expect("it was asked for");
        let sample = || {
            Sample::take(pid).map_err(|source| CallerError::Sample { target: target.label.clone(), source })
        };
        let (mut begun, mut ended, mut account) = (None, None, None);
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| failed(error.to_string()))?;
            let broken = |error| failed(format!("{line}: {error}"));
            match florin_input::json(line.as_bytes()).map_err(broken)? {
                Line { event: Event::Begin } => begun = Some(sample()?),
                Line { event: Event::End } => ended = Some(sample()?),
                Line { event: Event::Result } => {
                    account = Some(florin_input::json::<Account>(line.as_bytes()).map_err(broken)?);
                }
            }
        }
        match (begun, ended, account) {
            (Some(begun), Some(ended), Some(account)) => {
                Ok(CallerTrial { server: ended.since(&begun, account.served), caller: account })
            }
            _ => Err(failed(child.said())),
        }
    }

    fn start(&self, target: &str, kind: Kind, load: CallerLoad) -> Result<Child, CallerError> {
        let mut command = Command::new(&self.program);
        command.args(["--target", target, "--ask", &kind.to_string()]);
        command.arg("--users").arg(self.users.path().join("users"));
        command.args(["--goroutines", &load.goroutines.to_string(), "--rate", &load.rate.to_string()]);
        command.args(["--seed", &self.seed.to_string()]);
        command.args(["--warmup", &format!("{}s", self.warmup_seconds)]);
        command.args(["--duration", &format!("{}s", self.seconds)]);
        let mut command = process::tied(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = |source| CallerError::Start { program: self.program.clone(), source };
        affinity::pinned(&self.cpus, || command.spawn()).and_then(|child| child).map_err(start)
    }
}

/// A caller, which ends with its owner.
struct Running(Child);

impl Running {
    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // What it could still say is of use even where it ends in the middle of a character.
            let _ = stderr.read_to_string(&mut text);
        }
        text.trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a line is about; a result's own fields stand beside it.
#[derive(Deserialize)]
struct Line {
    event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Begin,
    End,
    Result,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A trial in which florin's client is cheap, here and there.
    pub(crate) fn caller(client: Client) -> CallerTrial {
        let cost = if client == Client::Http { 1.0 } else { 0.04 };
        CallerTrial {
            caller: Account {
                seconds: 1.0,
                served: 10_000,
                errors: 0,
                last_error: String::new(),
                user_seconds: 0.3 * cost,
                system_seconds: 0.1 * cost,
                p50_ns: 100_000,
                p90_ns: 200_000,
                p99_ns: 300_000,
                p999_ns: 400_000,
                max_ns: 500_000,
            },
            server: ServerUse {
                cpu_share: 0.2 * cost,
                user_share: 0.5,
                cpu_us_per_request: 20.0 * cost,
                rss_bytes: 1 << 27,
                huge_bytes: 0,
                voluntary_switches: 1,
                involuntary_switches: 1,
            },
        }
    }

    #[test]
    fn a_load_is_read_as_it_is_said() {
        assert_eq!("256@20000".parse(), Ok(CallerLoad { goroutines: 256, rate: 20_000 }));
        assert_eq!("64".parse(), Ok(CallerLoad { goroutines: 64, rate: 0 }));
        for wrong in ["", "0", "64@", "64@0", "64@x", "@5"] {
            assert!(wrong.parse::<CallerLoad>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_callers_cpu_is_counted_for_each_answer() {
        assert_eq!(caller(Client::Http).caller.cpu_us_per_request(), 40.0);
    }
}
