//! `GET /metrics`: the shards' counters in Prometheus' text format, version 0.0.4.
//!
//! Written by hand, and not by `prometheus-client`: the counters are words that shards own and write by plain stores, where that crate wants
//! atomics of its own in a registry beside them; its page is OpenMetrics', which is another format; and it would save the two functions
//! at the end, for each metric is a line of a table either way.

mod nodes;

use std::fmt::{Display, Write};

use florin_schema::{Opcode, Status};

use super::threads::Scheduled;
use super::view::View;
use crate::auditor::{AuditHandle, Doing};
use crate::checkpoints::{Made, MakerHandle};
use crate::node::ShardHandle;
use crate::shard::metrics::{Counter, Histogram, Part, ShardMetrics, TurnMetrics, Work};
use crate::shard::quota::Usage;
use crate::tls::tally::Outcome;

/// One metric that every shard has: name, kind, help, and where its value is.
type PerShard = (&'static str, Kind, &'static str, fn(&ShardMetrics) -> &Counter);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

const PER_SHARD: &[PerShard] = &[
    (
        "florin_rejected_total",
        Kind::Counter,
        "Inputs that were no request at all, or one of an unknown opcode.",
        |m| &m.rejected,
    ),
    ("florin_resp_commands_total", Kind::Counter, "Commands that came over RESP.", |m| &m.resp_commands),
    ("florin_http_requests_total", Kind::Counter, "Requests that came over HTTP.", |m| &m.http_requests),
    (
        "florin_forwarded_total",
        Kind::Counter,
        "Requests for another shard's users, passed on over the mesh.",
        |m| &m.forwarded,
    ),
    (
        "florin_answered_for_others_total",
        Kind::Counter,
        "Requests answered for other shards' connections.",
        |m| &m.answered_for_others,
    ),
    ("florin_waiting", Kind::Gauge, "Requests that wait for their freshness.", |m| &m.waiting),
    ("florin_mesh_depth", Kind::Gauge, "Questions to other shards not yet answered.", |m| &m.mesh_depth),
    (
        "florin_links_full_total",
        Kind::Counter,
        "Times that a connection's input waited, for the shard that it asks had as many questions under way as it takes.",
        |m| &m.links_full,
    ),
    ("florin_connections", Kind::Gauge, "Open connections.", |m| &m.connections),
    ("florin_connections_opened_total", Kind::Counter, "Connections ever opened.", |m| &m.connections_opened),
    (
        "florin_accepts_refused_total",
        Kind::Counter,
        "Times that a connection could not be accepted, for want of descriptors or memory.",
        |m| &m.accepts_refused,
    ),
    (
        "florin_connections_full_total",
        Kind::Counter,
        "Times that the last slot for connections was taken, so that further callers wait.",
        |m| &m.connections_full,
    ),
    (
        "florin_connections_timed_out_total",
        Kind::Counter,
        "Connections closed because a request began and did not go on, or because nobody proved in time whose they are.",
        |m| &m.timed_out,
    ),
    (
        "florin_paused_total",
        Kind::Counter,
        "Times that a connection's input was paused because its answers were not read.",
        |m| &m.paused,
    ),
    ("florin_wrong_tokens_total", Kind::Counter, "Tokens that were nobody's, or whose time was over.", |m| {
        &m.wrong_tokens
    }),
    (
        "florin_tokens_not_looked_at_total",
        Kind::Counter,
        "Tokens that were refused without a word on what they are, for their address had shown too many wrong ones.",
        |m| &m.tokens_not_looked_at,
    ),
    ("florin_received_bytes_total", Kind::Counter, "Bytes received from callers.", |m| &m.bytes_in),
    ("florin_sent_bytes_total", Kind::Counter, "Bytes sent to callers.", |m| &m.bytes_out),
    (
        "florin_clock_set_back_total",
        Kind::Counter,
        "Times that the wall clock stood earlier than before; windows follow it.",
        |m| &m.clock_set_back,
    ),
    ("florin_turns_total", Kind::Counter, "Turns of the shard's loop.", |m| &m.turns),
    ("florin_accounts", Kind::Gauge, "Accounts held.", |m| &m.accounts),
    ("florin_table_bytes", Kind::Gauge, "Memory of the table: index and records.", |m| &m.table_bytes),
    ("florin_applied_total", Kind::Counter, "Transactions applied.", |m| &m.applied),
    ("florin_duplicates_total", Kind::Counter, "Transactions skipped, for they had been applied.", |m| {
        &m.duplicates
    }),
    (
        "florin_gaps_total",
        Kind::Counter,
        "Transactions that came before one that must precede them: their accounts were read again.",
        |m| &m.gaps,
    ),
    (
        "florin_checkpoint_turn_max_microseconds",
        Kind::Gauge,
        "The longest turn of the shard's loop in which something was done for the checkpoint that was last begun.",
        |m| &m.checkpoint_turn_max_us,
    ),
    ("florin_quarantined", Kind::Gauge, "Accounts whose history is known to be incomplete.", |m| {
        &m.quarantined
    }),
];

/// The whole page.
pub(super) fn render(view: &View) -> String {
    let mut page = String::with_capacity(64 * 1_024);
    head(&mut page, "florin_info", Kind::Gauge, "Always 1; its labels say what runs.");
    let version = env!("CARGO_PKG_VERSION");
    line(&mut page, format_args!("florin_info{{version=\"{version}\",driver=\"{}\"}}", view.driver), 1);
    head(&mut page, "florin_ready", Kind::Gauge, "1 when every shard has loaded the ledger and follows it.");
    line(&mut page, "florin_ready", u8::from(view.readiness().ready));
    if let Some(bytes) = resident_bytes() {
        head(&mut page, "process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process.");
        line(&mut page, "process_resident_memory_bytes", bytes);
    }
    requests(&mut page, view);
    service_times(&mut page, view);
    turns(&mut page, view);
    for &(name, kind, help, value) in PER_SHARD {
        head(&mut page, name, kind, help);
        for (index, shard) in view.shards.iter().enumerate() {
            line(&mut page, format_args!("{name}{{shard=\"{index}\"}}"), value(&shard.metrics).get());
        }
    }
    table_parts(&mut page, view);
    scheduling(&mut page, view);
    watermarks(&mut page, view);
    feed(&mut page, view);
    nodes::render(&mut page, view);
    tls(&mut page, view);
    checkpoints(&mut page, view);
    principals(&mut page, view);
    audit(&mut page, view);
    page
}

/// What each caller uses of its quota.
fn principals(page: &mut String, view: &View) {
    type Value = fn(&Usage) -> u64;
    let Some(callers) = &view.callers else { return };
    let directory = callers.current();
    let rows: [(&str, Kind, &str, Value); 4] = [
        (
            "florin_principal_connections",
            Kind::Gauge,
            "Open connections of a caller that is known by name.",
            |u| u.connections().into(),
        ),
        (
            "florin_principal_connections_refused_total",
            Kind::Counter,
            "Connections refused, for the caller had as many as it may.",
            Usage::turned_away,
        ),
        (
            "florin_principal_in_flight",
            Kind::Gauge,
            "Requests that wait for their answers, of a caller for whom they are bounded.",
            |u| u.in_flight().into(),
        ),
        (
            "florin_principal_shed_total",
            Kind::Counter,
            "Requests refused as OVERLOADED, for the caller asked more often than it may, or left more unanswered.",
            Usage::shed,
        ),
    ];
    for (name, kind, help, value) in rows {
        head(page, name, kind, help);
        for (entry, quota) in directory.all() {
            line(page, format_args!("{name}{{principal=\"{}\"}}", entry.name), value(quota.usage()));
        }
    }
}

fn checkpoints(page: &mut String, view: &View) {
    let Some(status) = view.checkpoints.as_ref().map(MakerHandle::status) else { return };
    let (last, age_seconds) = (status.last(), status.age_seconds());
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        head(page, name, Kind::Gauge, help);
        if let Some(value) = value {
            line(page, name, value);
        }
    };
    let of_last = |value: fn(&Made) -> f64| last.as_ref().map(value);
    gauge(
        "florin_checkpoint_age_seconds",
        "Since when the newest checkpoint does not hold everything that was followed then.",
        age_seconds,
    );
    gauge(
        "florin_checkpoint_seconds",
        "What making the newest checkpoint took.",
        of_last(|made| made.seconds),
    );
    gauge("florin_checkpoint_bytes", "Bytes of the newest checkpoint.", of_last(|made| made.bytes as f64));
    gauge(
        "florin_checkpoint_accounts",
        "Accounts in the newest checkpoint.",
        of_last(|made| made.accounts as f64),
    );
    gauge(
        "florin_restored_accounts",
        "Accounts that came from a checkpoint when the node started.",
        Some(status.restored() as f64),
    );
    gauge(
        "florin_checkpoint_refused",
        "1 where a checkpoint that was there when the node started was not loaded; /readyz says why.",
        Some(f64::from(u8::from(status.refused().is_some()))),
    );
    let counters = [
        ("florin_checkpoints_total", "Checkpoints made.", status.made()),
        (
            "florin_checkpoint_failures_total",
            "Checkpoints that could not be made, or removed.",
            status.failures(),
        ),
    ];
    for (name, help, value) in counters {
        head(page, name, Kind::Counter, help);
        line(page, name, value);
    }
}

/// The headings are there on every node, so that a dashboard can be looked at before there are certificates.
fn tls(page: &mut String, view: &View) {
    let name = "florin_tls_connections_total";
    head(
        page,
        name,
        Kind::Counter,
        "Connections by TLS, by how their handshake, or they after it, came out.",
    );
    for outcome in Outcome::ALL {
        if let Some(tls) = &view.tls {
            let series = format_args!("{name}{{outcome=\"{}\"}}", outcome.name());
            line(page, series, tls.tally.get(outcome));
        }
    }
    let name = "florin_tls_handshakes_under_way";
    head(page, name, Kind::Gauge, "Handshakes by TLS that have begun and are not done.");
    if let Some(tls) = &view.tls {
        line(page, name, tls.tally.under_way());
    }
    let name = "florin_tls_certificate_days_left";
    head(
        page,
        name,
        Kind::Gauge,
        "Days until a certificate ends: the node's, and the first of the callers' authorities.",
    );
    if let Some(tls) = &view.tls {
        let (identity, now_s) = (tls.identities.current(), jiff::Timestamp::now().as_second());
        let authorities = identity.authorities_days_left(now_s);
        for (of, days) in [("node", Some(identity.days_left(now_s))), ("client_ca", authorities)] {
            if let Some(days) = days {
                line(page, format_args!("{name}{{of=\"{of}\"}}"), format_args!("{days:.2}"));
            }
        }
    }
}

fn audit(page: &mut String, view: &View) {
    let Some(status) = view.audit.as_ref().map(AuditHandle::status) else { return };
    let counters = [
        (
            "florin_audit_differences_total",
            "Accounts, and buckets of accounts, that differed from the ledger; GET /v1/audit names them.",
            status.differences(),
        ),
        (
            "florin_audit_passes_total",
            "Times that all accounts were compared with the ledger.",
            status.passes(),
        ),
        ("florin_audit_accounts_total", "Accounts found equal to the ledger.", status.accounts()),
        (
            "florin_audit_failures_total",
            "Passes given up, for the ledger could not be read.",
            status.failures(),
        ),
    ];
    for (name, help, value) in counters {
        head(page, name, Kind::Counter, help);
        line(page, name, value);
    }
    let name = "florin_audit_work_seconds_total";
    head(page, name, Kind::Counter, "Time spent reading the ledger for the audit, and comparing.");
    line(page, name, status.worked().as_secs_f64());
    let accounts: u64 = view.shards.iter().map(|shard| shard.metrics.accounts.get()).sum();
    let current = status.current();
    let met = current.accounts + current.quarantined + current.windows_unknown;
    let gauges = [
        (
            "florin_audit_unable",
            "1 where this ledger cannot be scanned, so that nothing is compared.",
            Some(f64::from(u8::from(matches!(status.doing(), Doing::Unable(_))))),
        ),
        (
            "florin_audit_progress_ratio",
            "How many of the accounts the pass that is on has met.",
            Some(met as f64 / accounts.max(1) as f64),
        ),
        (
            "florin_audit_pass_age_seconds",
            "Since when all accounts have been compared; absent before the first time.",
            status.last().map(|(_, age)| age),
        ),
        (
            "florin_audit_pass_seconds",
            "How long the last pass took, rests included.",
            status.last().map(|(report, _)| report.seconds),
        ),
        (
            "florin_audit_pass_buckets",
            "Of 1,024 buckets of accounts, those in which the last pass found exactly the ledger's rows applied.",
            status.last().map(|(report, _)| report.buckets as f64),
        ),
    ];
    for (name, help, value) in gauges {
        head(page, name, Kind::Gauge, help);
        if let Some(value) = value {
            line(page, name, value);
        }
    }
}

fn feed(page: &mut String, view: &View) {
    let Some(feed) = &view.feed else { return };
    let metrics = [
        ("florin_feed_rows_total", "Rows taken from the ledger.", feed.rows()),
        ("florin_feed_unreadable_total", "Rows that no transaction could be made of.", feed.unreadable()),
        ("florin_feed_rereads_total", "Accounts read again because of a gap.", feed.rereads()),
        ("florin_clock_steps_total", "Times that the wall clock was set, ahead or back.", feed.clock_steps()),
    ];
    for (name, help, value) in metrics {
        head(page, name, Kind::Counter, help);
        line(page, name, value);
    }
    for figure in feed.figures() {
        let kind = if figure.is_counter { Kind::Counter } else { Kind::Gauge };
        head(page, figure.name, kind, figure.help);
        line(page, figure.name, figure.value);
    }
}

/// What the scheduler did to the shards' threads, by the kernel's counters. A kernel that does not count something leaves
/// it out.
fn scheduling(page: &mut String, view: &View) {
    type Value = fn(&Scheduled) -> Option<u64>;
    let rows: [(&str, Kind, &str, Value); 4] = [
        ("florin_cpu", Kind::Gauge, "The CPU that the shard's thread ran on last.", |s| {
            s.runs_on.map(|cpu| cpu as u64)
        }),
        (
            "florin_migrations_total",
            Kind::Counter,
            "Times that the shard's thread was moved to another CPU: once, when it was pinned.",
            |s| s.migrations,
        ),
        (
            "florin_involuntary_switches_total",
            Kind::Counter,
            "Times that its CPU was taken from the shard's thread.",
            |s| s.involuntary,
        ),
        ("florin_voluntary_switches_total", Kind::Counter, "Times that the shard's thread slept.", |s| {
            s.voluntary
        }),
    ];
    let scheduled: Vec<Scheduled> = view.shards.iter().map(|shard| Scheduled::of(shard.thread_id)).collect();
    for (name, kind, help, value) in rows {
        head(page, name, kind, help);
        for (index, scheduled) in scheduled.iter().enumerate() {
            if let Some(value) = value(scheduled) {
                line(page, format_args!("{name}{{shard=\"{index}\"}}"), value);
            }
        }
    }
    let name = "florin_core_taken_ratio";
    head(
        page,
        name,
        Kind::Gauge,
        "Share of its core's time that something else took from the shard in the last 10 s.",
    );
    for index in 0..view.shards.len() {
        line(
            page,
            format_args!("{name}{{shard=\"{index}\"}}"),
            format_args!("{:.4}", view.neighbours.share(index)),
        );
    }
}

fn requests(page: &mut String, view: &View) {
    let name = "florin_requests_total";
    head(page, name, Kind::Counter, "Requests answered, by the status of the answer.");
    each_opcode(view, |index, shard, opcode| {
        let answers = &shard.metrics.opcodes[usize::from(*opcode as u8)].answers;
        for (status, count) in Status::ALL.iter().zip(answers) {
            let labels = format_args!(
                "{name}{{shard=\"{index}\",opcode=\"{}\",status=\"{}\"}}",
                label(opcode),
                label(status)
            );
            line(page, labels, count.get());
        }
    });
}

fn service_times(page: &mut String, view: &View) {
    let name = "florin_service_seconds";
    let help = "From the turn in which a request was read to the end of the turn in which its answer was handed over.";
    head(page, name, Kind::Histogram, help);
    each_opcode(view, |index, shard, opcode| {
        let labels = format!("shard=\"{index}\",opcode=\"{}\"", label(opcode));
        histogram(page, name, &labels, &shard.metrics.opcodes[usize::from(*opcode as u8)].service_time);
    });
}

/// What the shards' turns took: while one lasts, nobody else is answered.
fn turns(page: &mut String, view: &View) {
    let name = "florin_turn_seconds";
    let help = "What a turn of the shard's loop took, by what it did besides answering.";
    head(page, name, Kind::Histogram, help);
    let each = |page: &mut String, f: &dyn Fn(&mut String, &str, &TurnMetrics)| {
        for (index, shard) in view.shards.iter().enumerate() {
            for (work, turns) in Work::ALL.iter().zip(&shard.metrics.turns_with) {
                f(page, &format!("shard=\"{index}\",with=\"{}\"", work.name()), turns);
            }
        }
    };
    each(page, &|page, labels, turns| histogram(page, name, labels, &turns.times));
    let name = "florin_turn_max_seconds";
    let help = "The longest turn since the start, by what it did besides answering.";
    head(page, name, Kind::Gauge, help);
    each(page, &|page, labels, turns| {
        line(page, format_args!("{name}{{{labels}}}"), seconds(turns.max_us.get()));
    });
}

fn table_parts(page: &mut String, view: &View) {
    let name = "florin_table_part_bytes";
    head(page, name, Kind::Gauge, "What the memory of the table is taken up by.");
    for (index, shard) in view.shards.iter().enumerate() {
        for (part, bytes) in Part::ALL.iter().zip(&shard.metrics.table_parts) {
            let series = format_args!("{name}{{shard=\"{index}\",part=\"{}\"}}", part.name());
            line(page, series, bytes.get());
        }
    }
}

fn histogram(page: &mut String, name: &str, labels: &str, times: &Histogram) {
    let mut count = 0;
    for (bucket, in_bucket) in times.counts().into_iter().enumerate() {
        count += in_bucket;
        let bound_us = Histogram::upper_bound_us(bucket);
        // The last bucket holds whatever is longer, so it has no bound of its own.
        if is_shown(bound_us) && bucket + 1 < Histogram::BUCKETS {
            let series = format_args!("{name}_bucket{{{labels},le=\"{}\"}}", seconds(bound_us));
            line(page, series, count);
        }
    }
    line(page, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}}"), count);
    line(page, format_args!("{name}_sum{{{labels}}}"), seconds(times.sum_us()));
    line(page, format_args!("{name}_count{{{labels}}}"), count);
}

/// Two bounds for each doubling are enough for a quantile, and keep a node of many shards to a page that can be read.
fn is_shown(bound_us: u64) -> bool {
    bound_us.is_power_of_two()
        || (bound_us.is_multiple_of(3) && (bound_us / 3).is_power_of_two() && bound_us > 8)
}

fn watermarks(page: &mut String, view: &View) {
    let at = "florin_watermark_timestamp_seconds";
    head(
        page,
        at,
        Kind::Gauge,
        "The time up to which the shard holds the ledger; absent before it has loaded.",
    );
    for (index, shard) in
        view.shards.iter().enumerate().filter(|(_, shard)| shard.lag_us(&view.clock).is_some())
    {
        let at_us = shard.watermark.load().0;
        let sign = if at_us < 0 { "-" } else { "" };
        let value = format_args!("{sign}{}", seconds(at_us.unsigned_abs())).to_string();
        line(page, format_args!("{at}{{shard=\"{index}\"}}"), value);
    }
    let lag = "florin_watermark_lag_seconds";
    head(page, lag, Kind::Gauge, "How long ago the shard last held everything; absent before it has loaded.");
    for (index, shard) in view.shards.iter().enumerate() {
        if let Some(lag_us) = shard.lag_us(&view.clock) {
            line(page, format_args!("{lag}{{shard=\"{index}\"}}"), seconds(lag_us));
        }
    }
}

fn each_opcode(view: &View, mut f: impl FnMut(usize, &ShardHandle, &Opcode)) {
    for (index, shard) in view.shards.iter().enumerate() {
        for opcode in Opcode::ALL {
            f(index, shard, opcode);
        }
    }
}

fn head(page: &mut String, name: &str, kind: Kind, help: &str) {
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {}", kind.name()).expect("a String takes any text");
}

fn line(page: &mut String, series: impl Display, value: impl Display) {
    writeln!(page, "{series} {value}").expect("a String takes any text");
}

/// `GetBalance` is `get_balance`.
fn label(name: &impl std::fmt::Debug) -> String {
    let mut label = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

/// Exact, unlike a float.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// From the kernel's account of this process, in pages.
pub(super) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
