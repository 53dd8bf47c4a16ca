//! `florin demo`: a made-up platform in a temporary ledger, a node on it, live transactions, readers, and a screen.

mod home;
mod load;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use florin_client::{Address, Client};
use florin_record::LedgerError;
use home::{Home, LedgerKind};
use jiff::Timestamp;
use load::{Rush, Stop, Tally};

use super::keys::{Keys, Wish};
use super::log::log_to_stderr;
use super::output::say;
use super::screen::{History, Page, Stage, until_left};
use super::service::{Service, ServiceError, runtime};
use super::settings::{Effective, Listen, LogFormat, Settings, SettingsError, Shards};
use crate::admin::View;
use crate::admin::activity::{Sampler, Weight};
use crate::cli::generate::{GenerateError, GenerateOptions, Platform};
use crate::cli::progress::{Bar, Progress, Unit};
use crate::limits::{DEMO_LINE, DEMO_READERS, DEMO_REFRESH, DEMO_RUSH_THREADS_MAX, SCREEN_GLANCE};
use crate::node::allowed_cpus;
use crate::numbers::grouped;
use crate::sources::LedgerAddress;

/// Flags of `florin demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// End by itself after so many seconds, from when it serves
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// How many users the platform has
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(2..))]
    users: u32,
    /// How many transactions lie behind them
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    transactions: u64,
    /// Transactions that arrive each second
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    rate: u32,
    /// Reads that the demonstration itself makes each second
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    reads: u32,
    /// What the ledger is kept in, for as long as the demonstration lasts
    #[arg(long, value_enum, default_value_t = LedgerKind::Sqlite)]
    ledger: LedgerKind,
    /// How many shards, each a thread on a CPU of its own; auto = one for each allowed CPU [default: auto]
    #[arg(long, value_name = "N|auto")]
    shards: Option<Shards>,
}

/// Why the demonstration did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// More shards than the CPUs may have.
    #[error(
        "--shards {shards}: expected {cpus} at most, one for each CPU that this process may use; give fewer, or leave it out"
    )]
    FewCpus {
        /// Asked for.
        shards: u16,
        /// There.
        cpus: usize,
    },
    /// No place for the ledger.
    #[error("cannot make a temporary folder for the ledger in {}: {source}; set TMPDIR to another place", .place.display())]
    Folder {
        /// Where.
        place: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A server for the ledger.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Server(#[from] florin_postgres::server::ServerError),
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The platform cannot be made up.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The node.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The readers' client.
    #[error("the demonstration's readers cannot connect: {0}")]
    Client(#[from] florin_client::Error),
    /// A thread or the terminal.
    #[error("cannot {operation}: {source}")]
    Host {
        /// What was attempted.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody got no answer.
    #[error("{errors} of the demonstration's reads got no answer")]
    Reads {
        /// How many.
        errors: u64,
    },
}

impl DemoError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            DemoError::Service(error) => error.exit_code(),
            DemoError::Settings(_) => 2,
            DemoError::FewCpus { .. } => 14,
            _ => 1,
        }
    }

    fn host(operation: &'static str) -> impl FnOnce(io::Error) -> DemoError {
        move |source| DemoError::Host { operation, source }
    }
}

/// Where the demonstration can be asked.
struct Place {
    ask: SocketAddr,
    admin: SocketAddr,
}

/// Runs `florin demo`.
pub(super) fn run(args: &DemoArgs) -> Result<(), DemoError> {
    let on_screen = Stage::has_screen();
    // A log would tear the screen.
    log_to_stderr(if on_screen { "off" } else { "warn" }, LogFormat::Text);
    if let Some(Shards::Count(shards)) = args.shards {
        let cpus = allowed_cpus().map_err(ServiceError::from)?.len();
        if usize::from(shards) > cpus {
            return Err(DemoError::FewCpus { shards, cpus });
        }
    }
    let stop = Stop::default();
    stop.on_signals().map_err(DemoError::host("listen to signals"))?;
    let home = Home::make(args.ledger)?;
    let ledger = home.ledger();
    let platform = match generate(args, &ledger, &stop) {
        Err(DemoError::Generate(GenerateError::Ended)) => {
            say(&format!("ended while the ledger was made up; {} is removed", home.remove()?.display()));
            return Ok(());
        }
        outcome => outcome?,
    };
    let service = start(args, &ledger)?;
    say(&service.describe());

    let tally = Arc::new(Tally::default());
    let view = Arc::clone(&service.view);
    let at = Place {
        ask: service.node.addresses().listen.expect("the demonstration's any-shard port is on"),
        admin: service.admin_address().expect("the demonstration's admin port is on"),
    };
    let (started, begun) = mpsc::channel();
    let control = Control {
        users: args.users,
        reads: args.reads,
        ask: at.ask,
        stop: stop.clone(),
        tally: Arc::clone(&tally),
    };
    let control = thread::Builder::new()
        .name("florin-control".to_owned())
        .spawn(move || control.run(service, &started))
        .map_err(DemoError::host("start the control plane's thread"))?;
    // The sender is dropped without a word where the control plane has failed: then joining it says why.
    let shown = begun.recv().is_ok().then(|| {
        let writer = load::start_writer(ledger, platform, args.rate, stop.clone())
            .map_err(DemoError::host("start the writer's thread"))?;
        let commands = commands(args, &at).into_iter().chain(home.command()).collect();
        let play = Play { args, ask: at.ask, view: &view, commands, stop: &stop, tally: &tally, rush: None };
        let shown = play.run();
        stop.set();
        let written = writer.join().expect("the writer does not panic")?;
        shown.map(|()| written)
    });
    stop.set();
    control.join().expect("the control plane does not panic")?;
    let written = shown.transpose()?.unwrap_or_default();
    farewell(home, written, args.reads, &tally)
}

fn farewell(home: Home, written: u64, reads: u32, tally: &Tally) -> Result<(), DemoError> {
    let path = home.remove()?;
    say(&format!(
        "answered {} reads and took in {} transactions; {} is removed",
        grouped(tally.answers()),
        grouped(written),
        path.display()
    ));
    if tally.late() > 0 {
        say(&format!(
            "{} more reads had no answer in time: this host is too busy for --reads {reads}",
            grouped(tally.late())
        ));
    }
    let errors = tally.errors();
    if errors > 0 { Err(DemoError::Reads { errors }) } else { Ok(()) }
}

/// The bar of progress, until somebody wants no more.
struct UntilStopped<'a> {
    bar: Bar,
    keys: Keys,
    stop: &'a Stop,
}

impl Progress for UntilStopped<'_> {
    fn begin(&mut self, unit: Unit, total: Option<u64>) {
        self.bar.begin(unit, total);
    }

    fn reach(&mut self, done: u64) {
        self.bar.reach(done);
    }

    fn end(&mut self) {
        self.bar.end();
    }

    fn is_enough(&mut self) -> bool {
        self.stop.is_set() || self.keys.is_end()
    }
}

fn generate(args: &DemoArgs, ledger: &LedgerAddress, stop: &Stop) -> Result<Platform, DemoError> {
    say(&format!(
        "making up {} transactions of {} users{}",
        grouped(args.transactions),
        grouped(u64::from(args.users)),
        if Stage::has_screen() { "; q ends it" } else { "" }
    ));
    let options = GenerateOptions {
        ledger: ledger.clone(),
        users: args.users,
        transactions: args.transactions,
        seed: rand::random(),
        until_us: Timestamp::now().as_microsecond(),
    };
    let mut progress = UntilStopped { bar: Bar::new(), keys: Keys::listen(), stop };
    Ok(crate::cli::generate::generate(&options, &mut progress)?)
}

/// On the default ports, or on free ones where those are taken.
fn start(args: &DemoArgs, ledger: &LedgerAddress) -> Result<Service, DemoError> {
    let settings = Settings { ledger: Some(ledger.clone()), shards: args.shards, ..Settings::default() };
    match Service::start(settings.clone().effective()?) {
        Err(error) if error.is_port_taken() => {
            say("others have florin's ports (ss -ltnp names them): taking free ones");
            let free = Some(Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))));
            let settings = Settings { listen: free, shard_listen: free, admin: free, ..settings };
            let effective: Effective = settings.effective()?;
            Ok(Service::start(effective)?)
        }
        outcome => Ok(outcome?),
    }
}

/// The demonstration's control plane: the admin port and the readers.
struct Control {
    users: u32,
    reads: u32,
    ask: SocketAddr,
    stop: Stop,
    tally: Arc<Tally>,
}

impl Control {
    /// Says so through `started` when the node is ready, and ends when the stop sign is set.
    fn run(self, service: Service, started: &mpsc::Sender<()>) -> Result<(), DemoError> {
        runtime()?.block_on(async {
            let mut running = service.run()?;
            let view = Arc::clone(&running.view);
            let outcome = tokio::select! {
                outcome = running.node_ended() => outcome.map_err(DemoError::from),
                outcome = self.serve(view, started) => outcome,
            };
            self.stop.set();
            running.drain();
            let ended = running.node_ended().await;
            running.end().await;
            outcome.and(ended.map_err(DemoError::from))
        })
    }

    async fn serve(&self, view: Arc<View>, started: &mpsc::Sender<()>) -> Result<(), DemoError> {
        while !view.readiness().ready {
            if self.stop.is_set() {
                return Ok(());
            }
            tokio::time::sleep(SCREEN_GLANCE).await;
        }
        let client = Client::connect(Address::from(self.ask)).await?;
        let readers: Vec<_> = (0..DEMO_READERS)
            .map(|_| {
                tokio::spawn(load::read(client.clone(), self.users, self.reads, Arc::clone(&self.tally)))
            })
            .collect();
        let _ = started.send(());
        while !self.stop.is_set() {
            tokio::time::sleep(SCREEN_GLANCE).await;
        }
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(())
    }
}

/// While callers rush.
const RUSHES: &str = "Callers now ask as much as this machine can bear, through the client that coalesces what comes together.";

/// What is shown, until the time is over, a key or a signal ends it.
struct Play<'a> {
    args: &'a DemoArgs,
    ask: SocketAddr,
    view: &'a View,
    commands: Vec<String>,
    stop: &'a Stop,
    tally: &'a Arc<Tally>,
    /// While as much is asked as the machine can bear.
    rush: Option<Rush>,
}

impl Play<'_> {
    fn run(mut self) -> Result<(), DemoError> {
        let mut stage = Stage::open().map_err(DemoError::host("draw on this terminal"))?;
        if matches!(stage, Stage::Lines) {
            say(&format!("try:\n  {}", self.commands.join("\n  ")));
        }
        let outcome = self.show(&mut stage);
        if let Some(rush) = self.rush.take() {
            rush.end();
        }
        until_left(outcome).map_err(DemoError::host("draw on this terminal"))
    }

    fn show(&mut self, stage: &mut Stage) -> io::Result<()> {
        let end = self.args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let period = if matches!(stage, Stage::Lines) { DEMO_LINE } else { DEMO_REFRESH };
        let (mut history, mut sampler) = (History::new(), Sampler::default());
        let mut activity = sampler.look(self.view);
        loop {
            let next = Instant::now() + period;
            while Instant::now() < next {
                let now = Instant::now();
                if self.stop.is_set() || end.is_some_and(|end| now >= end) {
                    return Ok(());
                }
                match stage.wish(SCREEN_GLANCE.min(next.saturating_duration_since(now)))? {
                    Some(Wish::End) => return Ok(()),
                    Some(Wish::Rush) => self.turn()?,
                    Some(Wish::Redraw) => break,
                    Some(Wish::Type(_)) | None => {}
                }
            }
            if Instant::now() >= next {
                activity = sampler.look(self.view);
                history.note(&activity);
            }
            let remark = self.rush.as_ref().map(|_| (RUSHES, Weight::Note));
            let (commands, keys, history) = (&self.commands[..], self.keys(), history.as_slice());
            stage.show(&Page {
                activity: &activity,
                remark,
                history,
                refusals: &[],
                user: &[],
                commands,
                keys: &keys,
            })?;
        }
    }

    /// From gentle to all that can be borne, or back.
    fn turn(&mut self) -> io::Result<()> {
        match self.rush.take() {
            Some(rush) => rush.end(),
            None => {
                // The shards have the CPUs; those who ask need some of them too.
                let threads = (self.view.shards.len() / 2).clamp(1, DEMO_RUSH_THREADS_MAX);
                self.rush = Some(Rush::start(self.ask, self.args.users, threads, self.tally)?);
            }
        }
        Ok(())
    }

    fn keys(&self) -> String {
        let rush = match self.rush {
            Some(_) => format!("l goes back to {} reads/s", grouped(self.args.reads.into())),
            None => "l shows what this machine can bear".to_owned(),
        };
        format!("{rush}   q ends the demonstration and removes its ledger")
    }
}

/// What a newcomer may type; the addresses are left out where they are the defaults.
fn commands(args: &DemoArgs, at: &Place) -> Vec<String> {
    let user = args.users.min(42);
    let florin =
        std::env::current_exe().map_or_else(|_| "florin".to_owned(), |path| path.display().to_string());
    let addr = if at.ask == super::settings::LISTEN { String::new() } else { format!(" --addr {}", at.ask) };
    vec![
        format!("open http://{}/ in a browser", at.admin),
        format!("curl http://{}/v1/users/{user}/balance", at.ask),
        format!("{florin} get statistics {user}{addr}"),
        format!("curl http://{}/metrics", at.admin),
    ]
}
