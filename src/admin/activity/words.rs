//! How a node stands, in sentences: those of `GET /readyz`, and one about each thing that it has.

use std::time::Instant;

use florin_schema::Status;

use super::{Said, Shard, Weight};
use crate::admin::view::View;
use crate::auditor::{AuditHandle, Doing};
use crate::checkpoints::MakerHandle;
use crate::feed::FeedState;
use crate::limits::{DRIFT_HOLDS, NEIGHBOURS_SHARE_WARNED};
use crate::nodes::NodesStatus;
use crate::numbers::{counted, grouped};

/// What was last read of the host's settings.
#[derive(Debug, Default)]
pub(super) struct Drift {
    read: Option<(Instant, Option<Vec<String>>)>,
}

impl Drift {
    /// What of `florin tune apply` no longer holds; `None` where it has applied nothing, or that cannot be read.
    pub(super) fn look(&mut self, now: Instant) -> Option<&[String]> {
        let holds = |at: Instant| now.duration_since(at) < DRIFT_HOLDS;
        if self.read.as_ref().is_none_or(|(at, _)| !holds(*at)) {
            let drifts = florin_tune::drifts().ok();
            let lines = drifts.map(|drifts| drifts.iter().map(florin_tune::apply::Drift::line).collect());
            self.read = Some((now, lines));
        }
        self.read.as_ref()?.1.as_deref()
    }
}

/// The sentences, the most important first.
pub(super) fn said(view: &View, shards: &[Shard], drift: Option<&[String]>) -> Vec<Said> {
    let mut said = Vec::new();
    readiness(&mut said, view);
    ledger(&mut said, view);
    if let Some(nodes) = &view.nodes {
        self::nodes(&mut said, nodes);
    }
    if let Some(maker) = &view.checkpoints {
        checkpoint(&mut said, maker);
    }
    if let Some(audit) = &view.audit {
        self::audit(&mut said, audit, shards.iter().map(|shard| shard.load.accounts).sum());
    }
    certificate(&mut said, view);
    cores(&mut said, view, shards);
    match drift {
        Some([]) => {
            say(&mut said, "tuning", Weight::Well, "everything is still as florin tune has set it".into())
        }
        Some(lines) => lines.iter().for_each(|line| say(&mut said, "tuning", Weight::Fault, line.clone())),
        None => {}
    }
    said
}

fn say(said: &mut Vec<Said>, about: &str, weight: Weight, words: String) {
    said.push(Said { about: about.to_owned(), words, weight });
}

fn readiness(said: &mut Vec<Said>, view: &View) {
    let readiness = view.readiness();
    if readiness.ready {
        let words = "ready: every shard has loaded the ledger and follows it";
        say(said, "node", Weight::Well, words.to_owned());
    }
    readiness.reasons.into_iter().for_each(|reason| say(said, "node", Weight::Fault, reason));
    readiness.driver_note.into_iter().for_each(|note| say(said, "driver", Weight::Note, note));
    readiness.checkpoint_note.into_iter().for_each(|note| say(said, "checkpoint", Weight::Fault, note));
}

fn ledger(said: &mut Vec<Said>, view: &View) {
    let Some(feed) = &view.feed else { return };
    // While it is loaded or fails, readiness has said so.
    if feed.state() == FeedState::Following {
        let words = format!("followed: {} taken since the start", counted(feed.rows(), "transaction"));
        say(said, "ledger", Weight::Well, words);
    }
    let mut note = |count: u64, noun: &str, words: &str| {
        if count > 0 {
            say(said, "ledger", Weight::Note, format!("{} {words}", counted(count, noun)));
        }
    };
    note(feed.unreadable(), "row", "that no transaction can be made of: the log names them");
    note(feed.rereads(), "time", "an account was read again because of a gap");
    note(feed.clock_steps(), "time", "the wall clock was set");
    let quarantined = view.shards.iter().map(|shard| shard.metrics.quarantined.get()).sum();
    note(quarantined, "account", "in quarantine: what is known of its history is incomplete");
}

fn nodes(said: &mut Vec<Said>, nodes: &NodesStatus) {
    let standing = nodes.standing();
    if let Some(trouble) = &standing.trouble {
        say(said, "nodes", Weight::Fault, trouble.clone());
    }
    // Without a map readiness has said why.
    let Some(map) = &standing.map else { return };
    let owned = (0..map.partitions()).filter(|&partition| map.owner_id(partition) == Some(nodes.id)).count();
    let words = format!(
        "{} of group {} divide the users: this one owns {owned} of {} partitions, follows {} and loads {}",
        counted(map.nodes().len() as u64, "node"),
        nodes.group,
        map.partitions(),
        standing.held.len(),
        standing.loading
    );
    say(said, "nodes", Weight::Well, words);
    let mut lacking = |weight, count: usize, words: &str| {
        if count > 0 {
            say(said, "nodes", weight, format!("{} {words}", counted(count as u64, "partition")));
        }
    };
    lacking(Weight::Fault, map.without_owner(), "without an owner: nobody answers about the users there");
    lacking(Weight::Note, map.without_standby(nodes.standbys), "with fewer standbys than --standbys says");
}

fn checkpoint(said: &mut Vec<Said>, maker: &MakerHandle) {
    let status = maker.status();
    match (status.last(), status.age_seconds()) {
        (Some(made), age) => {
            let age = age.map_or_else(String::new, |age| format!(", and held everything {age:.0} s ago"));
            let (accounts, mib) = (counted(made.accounts, "account"), made.bytes as f64 / 1_048_576.0);
            let words =
                format!("the newest has {accounts} in {mib:.1} MiB, made in {:.1} s{age}", made.seconds);
            say(said, "checkpoint", Weight::Well, words);
        }
        (None, _) => {
            say(said, "checkpoint", Weight::Note, "there is none that is known to be right".to_owned())
        }
    }
    if status.failures() > 0 {
        let words = format!(
            "{} to make or remove one failed: the log says why",
            counted(status.failures(), "attempt")
        );
        say(said, "checkpoint", Weight::Fault, words);
    }
}

fn audit(said: &mut Vec<Said>, audit: &AuditHandle, accounts: u64) {
    let status = audit.status();
    match status.doing() {
        Doing::Unable(reason) => say(said, "audit", Weight::Fault, format!("cannot compare: {reason}")),
        Doing::Waiting(reason) => say(said, "audit", Weight::Note, format!("waits: {reason}")),
        Doing::Passing => {
            let current = status.current();
            let met = current.accounts + current.quarantined + current.windows_unknown;
            let percent = (met * 100 / accounts.max(1)).min(100);
            say(said, "audit", Weight::Well, format!("compares: {percent} % of the accounts in this pass"));
        }
    }
    if let Some((report, age_s)) = status.last() {
        let equal = counted(report.accounts, "account");
        let pass = grouped(status.passes());
        let words = format!("pass {pass} found {equal} equal to the ledger to the byte, {age_s:.0} s ago");
        say(said, "audit", Weight::Well, words);
    }
    if status.differences() > 0 {
        let differences = counted(status.differences(), "difference");
        let words = format!("{differences} from the ledger: GET /v1/audit says which");
        say(said, "audit", Weight::Fault, words);
    }
}

fn certificate(said: &mut Vec<Said>, view: &View) {
    let Some(tls) = &view.tls else { return };
    let (identity, now_s) = (tls.identities.current(), jiff::Timestamp::now().as_second());
    if let Some(out_of_time) = identity.is_out_of_time(now_s) {
        return say(said, "certificate", Weight::Fault, out_of_time.to_string());
    }
    let days = identity.days_left(now_s);
    // The alert begins there too.
    let weight = if days < 14.0 { Weight::Fault } else { Weight::Well };
    say(said, "certificate", weight, format!("good for {days:.0} more days"));
}

fn cores(said: &mut Vec<Said>, view: &View, shards: &[Shard]) {
    for shard in shards {
        if let Some(elsewhere) = shard.runs_on.filter(|&cpu| cpu != shard.cpu) {
            let words = format!("shard {} was put on CPU {} and runs on {elsewhere}", shard.index, shard.cpu);
            say(said, "cores", Weight::Fault, words);
        }
        let taken = view.neighbours.share(shard.index);
        if taken >= NEIGHBOURS_SHARE_WARNED {
            let words = format!(
                "something else took {:.0} % of shard {}'s core lately: florin tune check says what may",
                taken * 100.0,
                shard.index
            );
            say(said, "cores", Weight::Note, words);
        }
    }
}

/// What a status tells a caller.
pub(super) const fn meaning(status: Status) -> &'static str {
    match status {
        Status::Ok => "answered",
        Status::NotFound => "the ledger has never named this user",
        Status::InvalidRequest => "the request says something that no request may",
        Status::Stale => "not as fresh as was asked",
        Status::Unavailable => "no data yet, or none any more: the node warms up, ends, or is behind",
        Status::Overloaded => "a bound is reached: ask later",
        Status::Unauthenticated => "the caller has not proved who it is",
        Status::PermissionDenied => "the caller may not ask that",
        Status::Internal => "a defect of florin's",
        Status::NotOwner => "another node has the user, and the caller is told which",
    }
}
