//! `florin top`: what a running node is doing, on a terminal, or a line a second elsewhere.

mod search;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use florin_client::Address;
use serde::Deserialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::admin::activity::{Activity, Weight};
use crate::callers::SecretError;
use crate::cli::caller::{AdminArgs, Asked, in_flags};
use crate::cli::events::{Events, EventsError};
use crate::cli::http::request_within;
use crate::cli::keys::Wish;
use crate::cli::screen::{History, Page, Stage, until_left};
use crate::limits::{SCREEN_GLANCE, TOP_CALL, TOP_REFUSALS, TOP_SILENCE};
use search::Search;

/// Flags of `florin top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    #[command(flatten)]
    node: AdminArgs,
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
    let node = args.node.asking()?;
    // Whoever names a node that is not there is told so, and sees no screen.
    let events = Events::open(&node, PATH)?;
    let is_ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&is_ended))?;
    }
    let now = Instant::now();
    let refusals = Refusals { node: &node, due: Some(now), lines: Vec::new() };
    let watched = Watched { node: &node, events: Some(events), heard: now, refusals };
    match show(watched, &mut Stage::open()?, &is_ended) {
        Err(TopError::Terminal(error)) => Ok(until_left(Err(error))?),
        outcome => outcome,
    }
}

/// Shows what is heard, until a key or a signal ends it: dying of one would leave the terminal as it is.
fn show(mut watched: Watched<'_>, stage: &mut Stage, is_ended: &AtomicBool) -> Result<(), TopError> {
    let (mut activity, mut history, mut trouble) = (Activity::default(), History::new(), None);
    let mut retry = Instant::now();
    let mut search = Search::of(watched.node);
    while !is_ended.load(Relaxed) {
        let mut is_new = match watched.listen(&mut retry) {
            Heard::Activity(text) => {
                activity = florin_input::json(text.as_bytes())
                    .map_err(|source| TopError::Foreign { address: watched.node.address.clone(), source })?;
                history.note(&activity);
                watched.refusals.look(stage);
                trouble = None;
                true
            }
            Heard::Trouble(error) => {
                let words = no_news(&error, stage);
                trouble.replace(words.clone()) != Some(words)
            }
            Heard::Nothing => false,
        };
        match stage.wish(Duration::ZERO)? {
            Some(Wish::End) => return Ok(()),
            Some(Wish::Redraw) => is_new = true,
            Some(Wish::Type(typed)) => {
                search.take(typed);
                is_new = true;
            }
            Some(Wish::Rush) | None => {}
        }
        if is_new {
            stage.show(&Page {
                activity: &activity,
                remark: trouble.as_deref().map(|words| (words, Weight::Fault)),
                history: history.as_slice(),
                refusals: &watched.refusals.lines,
                user: search.lines(),
                commands: &[],
                keys: &search.keys(),
            })?;
        }
    }
    Ok(())
}

/// What is said where a node does not answer. A screen still has what it told; elsewhere nothing is below.
fn no_news(error: &str, stage: &Stage) -> String {
    let error = in_flags(error);
    match stage {
        Stage::Screen(_) => {
            format!("no news; this asks again each second, and below is what was last heard. {error}")
        }
        Stage::Lines => format!(
            "no news; this asks again each second, and says no more until there is some, or another reason. {error}"
        ),
    }
}

/// A node that is asked what it is doing, again and again where it does not answer.
struct Watched<'a> {
    node: &'a Asked,
    events: Option<Events>,
    /// When it was last heard of.
    heard: Instant,
    refusals: Refusals<'a>,
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
        let said = |error: &dyn std::fmt::Display| Heard::Trouble(error.to_string());
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

/// Who was refused last.
struct Refusals<'a> {
    node: &'a Asked,
    /// When they are asked for next; never again where that was refused, for each time would be one more refusal.
    due: Option<Instant>,
    /// A line each, the newest first.
    lines: Vec<String>,
}

/// One of the audit log, as far as it is shown.
#[derive(Deserialize)]
struct Refusal {
    at: String,
    principal: Option<String>,
    from: Option<String>,
    action: String,
    outcome: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Told {
    refusals: Vec<Refusal>,
}

impl Refusals<'_> {
    /// Asks where it is time to, and somebody sees it.
    fn look(&mut self, stage: &Stage) {
        let now = Instant::now();
        if matches!(stage, Stage::Lines) || self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = Some(now + TOP_REFUSALS);
        // What is wrong with a node that does not answer the stream of events says.
        let Ok(answer) = request_within(TOP_CALL, self.node, "GET", "/v1/refusals", "") else { return };
        if (400..500).contains(&answer.status) {
            self.due = None;
        }
        let told = florin_input::json::<Told>(answer.body.as_bytes()).map(|told| told.refusals);
        self.lines = lines(&told.unwrap_or_default());
    }
}

/// The newest first, and those that are alike but for their time in one.
fn lines(refusals: &[Refusal]) -> Vec<String> {
    let newest: Vec<&Refusal> = refusals.iter().rev().collect();
    newest.chunk_by(|one, other| one.what() == other.what()).map(|alike| alike[0].line(alike.len())).collect()
}

impl Refusal {
    fn what(&self) -> String {
        let Refusal { at: _, principal, from, action, outcome, reason } = self;
        let who = principal.as_deref().unwrap_or("nobody known");
        let from = from.as_ref().map_or_else(String::new, |from| format!(", {from}"));
        format!("{who}{from}: {action}: {outcome}: {reason}")
    }

    fn line(&self, times: usize) -> String {
        let time = self.at.get(11..19).unwrap_or(&self.at);
        let times = if times > 1 { format!("{times} × ") } else { String::new() };
        format!("{time} {times}{}", self.what())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One caller that was refused again and again hid all others.
    #[test]
    fn what_is_refused_again_and_again_is_one_line() {
        let refusal = |at: &str, action: &str| Refusal {
            at: format!("2026-11-28T20:00:{at}.000000Z"),
            principal: None,
            from: Some("192.0.2.1".to_owned()),
            action: action.to_owned(),
            outcome: "401".to_owned(),
            reason: "token".to_owned(),
        };
        let told = [refusal("01", "GET /b"), refusal("02", "GET /a"), refusal("03", "GET /a")];
        let expected = [
            "20:00:03 2 × nobody known, 192.0.2.1: GET /a: 401: token",
            "20:00:01 nobody known, 192.0.2.1: GET /b: 401: token",
        ];
        assert_eq!(lines(&told), expected);
    }
}
