//! The three reads of wire.md as a Rust team would write them in a week: axum's router and extractors, accounts in a DashMap,
//! serde's derived encoders, tokio's threads. It is here to be compared with, so it does nothing wastefully that such a team would
//! not: an answer is encoded from the account where it lies, sums are kept by hour and day, sockets do not wait for more bytes.
//!
//! | module | holds |
//! | --- | --- |
//! | [`view`] | accounts, and the bodies that are answered from them |
//! | [`ledger`] | the thread that loads and follows the ledger |
//! | [`api`] | routes and refusals |

mod api;
mod ledger;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use axum::serve::ListenerExt;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use api::State;

/// Balances and statistics over HTTP, plainly
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The ledger; `florin generate` or `florin import` makes one
    #[arg(long, value_name = "sqlite:PATH", value_parser = ledger_path)]
    ledger: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7800")]
    listen: SocketAddr,
    /// Fixes the clock, to replay history
    #[arg(long, value_name = "TIME")]
    now: Option<jiff::Timestamp>,
}

fn ledger_path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| "expected sqlite:PATH".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let state = Arc::new(State::new(args.now.map(jiff::Timestamp::as_microsecond)));
    let (loaded, wait) = mpsc::sync_channel(1);
    let followed = Arc::clone(&state);
    let ledger = args.ledger.clone();
    thread::spawn(move || {
        if let Err(error) = ledger::follow(ledger, &followed, &loaded) {
            eprintln!("florin-plain: {error}");
            // Without its ledger it would go on answering what is no longer so.
            std::process::exit(1);
        }
    });
    // It says nothing before it holds everything.
    let _ = wait.recv();
    match serve(&args, state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("florin-plain: {}: {error}", args.listen);
            ExitCode::FAILURE
        }
    }
}

/// On as many threads as CPUs may be used.
#[tokio::main]
async fn serve(args: &Args, state: Arc<State>) -> std::io::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    // Whoever reads where it listens may end it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("listening on {}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A connection that has gone already cannot be told, and need not be.
        let _ = stream.set_nodelay(true);
    });
    let ended = async move {
        interrupt.recv().await;
    };
    axum::serve(listener, api::routes(state)).with_graceful_shutdown(ended).await
}
