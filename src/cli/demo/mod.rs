//! `florin demo`: a made-up platform in a temporary ledger, a node on it, live transactions, readers, and a screen.

mod home;
mod load;
mod sample;
mod screen;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
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
use load::{Stop, Tally};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use sample::Sample;
use screen::{HISTORY, Page};

use super::log::log_to_stderr;
use super::output::{grouped, say};
use super::service::{EndSignals, Service, ServiceError, runtime};
use super::settings::{Effective, Listen, LogFormat, Settings, SettingsError, Shards};
use crate::admin::View;
use crate::cli::generate::{GenerateError, GenerateOptions, Platform};
use crate::cli::progress::Bar;
use crate::limits::{DEMO_GLANCE, DEMO_LINE, DEMO_READERS, DEMO_REFRESH};
use crate::sources::LedgerAddress;

/// Flags of `florin demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// End by itself after so long
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
    let on_screen = io::stdout().is_terminal();
    // A log would tear the screen.
    log_to_stderr(if on_screen { "off" } else { "warn" }, LogFormat::Text);
    let home = Home::make(args.ledger)?;
    let ledger = home.ledger();
    let platform = generate(args, &ledger)?;
    let service = start(args, &ledger)?;
    say(&service.describe());

    let stop = Stop::default();
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
        let shown = show(args, &view, commands, &stop, on_screen);
        stop.set();
        let written = writer.join().expect("the writer does not panic")?;
        shown.map(|()| written)
    });
    stop.set();
    control.join().expect("the control plane does not panic")?;
    let written = shown.transpose()?.unwrap_or_default();
    farewell(home, written, &tally)
}

fn farewell(home: Home, written: u64, tally: &Tally) -> Result<(), DemoError> {
    let path = home.remove()?;
    let (answers, errors) = tally.read();
    say(&format!(
        "answered {} reads and took in {} transactions; {} is removed",
        grouped(answers),
        grouped(written),
        path.display()
    ));
    if errors > 0 { Err(DemoError::Reads { errors }) } else { Ok(()) }
}

fn generate(args: &DemoArgs, ledger: &LedgerAddress) -> Result<Platform, DemoError> {
    say(&format!(
        "making up {} transactions of {} users",
        grouped(args.transactions),
        grouped(u64::from(args.users))
    ));
    let options = GenerateOptions {
        ledger: ledger.clone(),
        users: args.users,
        transactions: args.transactions,
        seed: rand::random(),
        until_us: Timestamp::now().as_microsecond(),
    };
    Ok(crate::cli::generate::generate(&options, &mut Bar::new())?)
}

/// On the default ports, or on free ones where those are taken.
fn start(args: &DemoArgs, ledger: &LedgerAddress) -> Result<Service, DemoError> {
    let settings = Settings { ledger: Some(ledger.clone()), shards: args.shards, ..Settings::default() };
    match Service::start(settings.clone().effective()?) {
        Err(error) if error.is_port_taken() => {
            say(&format!("{error}; taking free ports instead"));
            let free = Some(Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))));
            let settings = Settings { listen: free, shard_listen: free, admin: free, ..settings };
            let effective: Effective = settings.effective()?;
            Ok(Service::start(effective)?)
        }
        outcome => Ok(outcome?),
    }
}

/// The demonstration's control plane: the admin port, the readers, and the signals.
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
            let mut signals = EndSignals::listen()?;
            let mut running = service.run()?;
            let view = Arc::clone(&running.view);
            let outcome = tokio::select! {
                outcome = running.node_ended() => outcome.map_err(DemoError::from),
                _ = signals.next() => Ok(()),
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
            tokio::time::sleep(DEMO_GLANCE).await;
        }
        let client = Client::connect(Address::from(self.ask)).await?;
        let readers: Vec<_> = (0..DEMO_READERS)
            .map(|_| {
                tokio::spawn(load::read(client.clone(), self.users, self.reads, Arc::clone(&self.tally)))
            })
            .collect();
        let _ = started.send(());
        while !self.stop.is_set() {
            tokio::time::sleep(DEMO_GLANCE).await;
        }
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(())
    }
}

/// Shows pages until the time is over, a key or a signal ends it.
fn show(
    args: &DemoArgs,
    view: &View,
    commands: Vec<String>,
    stop: &Stop,
    on_screen: bool,
) -> Result<(), DemoError> {
    let mut stage = if on_screen {
        let terminal = ratatui::try_init().map_err(DemoError::host("draw on this terminal"))?;
        Stage::Screen(Box::new(terminal))
    } else {
        say(&format!("try:\n  {}", commands.join("\n  ")));
        Stage::Lines
    };
    let outcome = play(args, view, &commands, stop, &mut stage);
    if on_screen {
        ratatui::restore();
    }
    outcome.map_err(DemoError::host("draw on this terminal"))
}

enum Stage {
    Screen(Box<ratatui::DefaultTerminal>),
    Lines,
}

fn play(args: &DemoArgs, view: &View, commands: &[String], stop: &Stop, stage: &mut Stage) -> io::Result<()> {
    let started = Instant::now();
    let end = args.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut history = VecDeque::from(vec![0; HISTORY]);
    let mut before = Sample::take(view);
    loop {
        let period = if matches!(stage, Stage::Lines) { DEMO_LINE } else { DEMO_REFRESH };
        if !wait(Instant::now() + period, end, stop, stage)? {
            return Ok(());
        }
        let now = Sample::take(view);
        let (shards, total) = now.since(&before);
        before = now;
        history.pop_front();
        history.push_back(total.answers_per_s.round() as u64);
        let page = Page {
            view,
            running: started.elapsed(),
            shards: &shards,
            total: &total,
            history: history.make_contiguous(),
            commands,
        };
        match stage {
            Stage::Screen(terminal) => {
                terminal.draw(|frame| screen::draw(frame, &page))?;
            }
            Stage::Lines => say(&screen::line(&page)),
        }
    }
}

/// Waits until `next`; false when it is over before.
fn wait(next: Instant, end: Option<Instant>, stop: &Stop, stage: &Stage) -> io::Result<bool> {
    loop {
        let now = Instant::now();
        if stop.is_set() || end.is_some_and(|end| now >= end) {
            return Ok(false);
        }
        if now >= next {
            return Ok(true);
        }
        let glance = DEMO_GLANCE.min(next - now);
        match stage {
            Stage::Screen(_) if event::poll(glance)? => {
                if let Event::Key(key) = event::read()? {
                    let control = key.modifiers.contains(KeyModifiers::CONTROL);
                    if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                        || (control && key.code == KeyCode::Char('c'))
                    {
                        return Ok(false);
                    }
                }
            }
            Stage::Screen(_) => {}
            Stage::Lines => thread::sleep(glance),
        }
    }
}

/// What a newcomer may type; the addresses are left out where they are the defaults.
fn commands(args: &DemoArgs, at: &Place) -> Vec<String> {
    let user = args.users.min(42);
    let florin =
        std::env::current_exe().map_or_else(|_| "florin".to_owned(), |path| path.display().to_string());
    let addr = if at.ask == super::settings::LISTEN { String::new() } else { format!(" --addr {}", at.ask) };
    vec![
        format!("curl http://{}/v1/users/{user}/balance", at.ask),
        format!("{florin} get statistics {user}{addr}"),
        format!("curl http://{}/metrics", at.admin),
    ]
}
