//! The process that makes trouble: this very program, by a command that its help does not show.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use clap::ValueEnum;

use super::Trouble;
use crate::{
    affinity::Cpus,
    generator::{Settings, Span},
    targets::process::{behind_all, tied},
};

/// What it says when all of the trouble is there.
pub const BEGUN: &str = "begun";

/// How much trouble, and by whom.
#[derive(Clone, Debug)]
pub struct Strength {
    /// Half handshakes at any time.
    pub half_handshakes: usize,
    /// Threads that make whole ones.
    pub handshake_threads: usize,
    /// Connections of the greedy one.
    pub connections: usize,
    /// What it may ask a second.
    pub quota_per_s: u32,
    /// How many times as often it asks.
    pub times: u32,
    /// This program.
    pub program: PathBuf,
    /// The ledger whose users the greedy one asks about.
    pub ledger: PathBuf,
    /// Where all of it is made; empty: anywhere.
    pub cpus: Cpus,
    /// Whoever else wants to run there comes first: trouble must not take time from the load that is measured.
    pub comes_last: bool,
}

impl Strength {
    /// What a trouble of this strength is called.
    pub fn name(&self, trouble: Trouble) -> String {
        match trouble {
            Trouble::HalfHandshakes => format!("{} half handshakes", self.half_handshakes),
            Trouble::Handshakes => format!("handshakes from {} threads", self.handshake_threads),
            Trouble::Greed => {
                format!(
                    "one at {} × its {}/s, {} connections",
                    self.times, self.quota_per_s, self.connections
                )
            }
        }
    }

    fn command(&self, trouble: Trouble, target: &str, settings: &Settings) -> Command {
        let (count, rate) = match trouble {
            Trouble::HalfHandshakes => (self.half_handshakes, 0),
            Trouble::Handshakes => (self.handshake_threads, 0),
            Trouble::Greed => (self.connections, u64::from(self.quota_per_s) * u64::from(self.times)),
        };
        let mut command = Command::new(&self.program);
        let name = trouble.to_possible_value().expect("no trouble is hidden");
        command.args(["make-trouble", name.get_name(), "--target", target]);
        command.args(["--count", &count.to_string(), "--rate", &rate.to_string()]);
        command.arg("--ledger").arg(format!("sqlite:{}", self.ledger.display()));
        if !self.cpus.0.is_empty() {
            command.args(["--cpus", &self.cpus.to_string()]);
        }
        if let Span::Time { warmup, .. } = settings.span {
            command.args(["--warmup", &warmup.as_secs_f64().to_string()]);
        }
        tied(if self.comes_last { behind_all(command) } else { command })
    }
}

/// See the module. Ended with this.
#[derive(Debug)]
pub struct Maker {
    child: Child,
    /// Closed where it is to end.
    until: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Maker {
    /// Starts it, and waits until all of the trouble is there. `target`: as `--target` takes it.
    pub(super) fn begin(
        trouble: Trouble,
        strength: &Strength,
        target: &str,
        settings: &Settings,
    ) -> io::Result<Maker> {
        let mut command = strength.command(trouble, target, settings);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let until = child.stdin.take();
        let mut maker = Maker { child, until, said };
        let mut line = String::new();
        maker.said.read_line(&mut line)?;
        if line.trim_end() == BEGUN { Ok(maker) } else { Err(maker.failed(&line)) }
    }

    /// Ends it, and says how much it has made a second.
    pub(super) fn end(mut self) -> io::Result<Option<f64>> {
        self.until = None;
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        let made = said.trim();
        let is_well = self.child.wait()?.success();
        match made.parse() {
            Ok(rate) if is_well => Ok(Some(rate)),
            Err(_) if is_well && made.is_empty() => Ok(None),
            _ => Err(self.failed(made)),
        }
    }

    /// Why, it has told on standard error.
    fn failed(&mut self, said: &str) -> io::Error {
        self.until = None;
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        io::Error::other(format!("the process that makes it has ended ({status}) and said {:?}", said.trim()))
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
