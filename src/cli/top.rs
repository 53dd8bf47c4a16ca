//! `florin top`: what a running node is doing, on a terminal, or a line a second elsewhere.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use florin_client::Address;

use super::caller::{Asked, CallerArgs};
use super::events::{Events, EventsError};
use super::screen::{History, Page, Stage, Wish, until_left};
use crate::admin::activity::{Activity, Weight};
use crate::callers::SecretError;
use crate::limits::{SCREEN_GLANCE, TOP_CALL, TOP_SILENCE};

/// Flags of `florin top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// The node's admin port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7300")]
    admin: Address,
    #[command(flatten)]
    caller: CallerArgs,
}

/// Why nothing is shown, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// No token where there should be one.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// The node does not say what it is doing.
    #[error(transparent)]
    Node(#[from] EventsError),
    /// What it says is nothing that is known here.
    #[error(
        "{address} does not tell what it is doing as this florin expects it: {source}; use the florin of the node's version"
    )]
    Foreign {
        /// Who.
        address: Address,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The terminal.
    #[error("cannot draw on this terminal: {0}")]
    Terminal(#[from] io::Error),
}

const PATH: &str = "/v1/activity";

/// Runs `florin top`.
pub(super) fn run(args: &TopArgs) -> Result<(), TopError> {
    let node = args.caller.asking(&args.admin)?;
    // Whoever names a node that is not there is told so, and sees no screen.
    let events = Events::open(&node, PATH)?;
    let watched = Watched { node: &node, events: Some(events), heard: Instant::now() };
    match show(watched, &mut Stage::open()?) {
        Err(TopError::Terminal(error)) => Ok(until_left(Err(error))?),
        outcome => outcome,
    }
}

fn show(mut watched: Watched<'_>, stage: &mut Stage) -> Result<(), TopError> {
    let (mut activity, mut history, mut trouble) = (Activity::default(), History::new(), None);
    let mut retry = Instant::now();
    loop {
        let mut is_new = match watched.listen(&mut retry) {
            Heard::Activity(text) => {
                activity = florin_input::json(text.as_bytes())
                    .map_err(|source| TopError::Foreign { address: watched.node.address.clone(), source })?;
                history.note(&activity);
                trouble = None;
                true
            }
            Heard::Trouble(words) => trouble.replace(words).is_none(),
            Heard::Nothing => false,
        };
        match stage.wish(Duration::ZERO)? {
            Some(Wish::End) => return Ok(()),
            Some(Wish::Redraw) => is_new = true,
            Some(Wish::Rush) | None => {}
        }
        if is_new {
            stage.show(&Page {
                activity: &activity,
                remark: trouble.as_deref().map(|words| (words, Weight::Fault)),
                history: history.as_slice(),
                commands: &[],
                keys: "q ends",
            })?;
        }
    }
}

/// A node that is asked what it is doing, again and again where it does not answer.
struct Watched<'a> {
    node: &'a Asked,
    events: Option<Events>,
    /// When it was last heard of.
    heard: Instant,
}

/// What came of listening for a moment.
enum Heard {
    Activity(String),
    Trouble(String),
    Nothing,
}

impl Watched<'_> {
    /// Listens for [`SCREEN_GLANCE`], or tries to reach the node where it is time to.
    fn listen(&mut self, retry: &mut Instant) -> Heard {
        let said = |error: &dyn std::fmt::Display| {
            Heard::Trouble(format!(
                "no news; this asks again each second, and below is what was last heard. {error}"
            ))
        };
        let Some(events) = &mut self.events else {
            let left = retry.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left.min(SCREEN_GLANCE));
                return Heard::Nothing;
            }
            *retry = Instant::now() + TOP_CALL;
            return match Events::open(self.node, PATH) {
                Ok(events) => {
                    (self.events, self.heard) = (Some(events), Instant::now());
                    Heard::Nothing
                }
                Err(error) => said(&error),
            };
        };
        match events.next(SCREEN_GLANCE) {
            Ok(Some(text)) => {
                self.heard = Instant::now();
                Heard::Activity(text)
            }
            Ok(None) if self.heard.elapsed() < TOP_SILENCE => Heard::Nothing,
            Ok(None) => {
                self.events = None;
                said(&format!("florin at {} is silent: it is stopped, or its host is", self.node.address))
            }
            Err(error) => {
                self.events = None;
                said(&error)
            }
        }
    }
}
