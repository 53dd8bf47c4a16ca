//! The configuration file: rules, budgets, cutover. Everything in it has a default.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use florin_input::{read_secret_text, read_text};
use http::Method;
use serde::Deserialize;

use crate::credentials::Kept;
use crate::cutover::{Admission, Bounds, CutoverSettings, Schedule, Share};
use crate::evidence::{Enough, Redaction, Tolerance};
use crate::judge::{Action, JudgeSettings, Limits, Pattern, Rule, Rules};
use crate::limits::{self, FILE_BYTES_MAX, FILE_READ};
use crate::mirror::MirrorSettings;
use crate::proxy::{Scope, ScopeRule};
use crate::request::Endpoint;

/// What the file says, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How exchanges are compared.
    pub mirror: MirrorSettings,
    /// Which are.
    pub scope: Scope,
    /// What a run may lack.
    pub tolerance: Tolerance,
    /// How long the end may take.
    pub drain: Duration,
    /// Cutover.
    pub serve: CutoverSettings,
    /// What recordings keep beside what is known to be no secret.
    pub kept: Kept,
    /// The key for `--redact`; a random one where none is named.
    pub redaction_key: Option<[u8; 16]>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has keys that are none.
    #[error("{path}: {source}")]
    Toml {
        /// Which.
        path: String,
        /// Where, and what was expected.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{path}: {place}: {why}")]
    Value {
        /// Which file.
        path: String,
        /// Which key.
        place: String,
        /// What was expected, and what came.
        why: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    mirror: MirrorFile,
    catch_up: CatchUpFile,
    noise: NoiseFile,
    enough: EnoughFile,
    serve: ServeFile,
    redact: RedactFile,
    record: RecordFile,
    not_comparable_max: Option<f64>,
    unproven_max: Option<f64>,
    drain_ms: Option<u64>,
    rule: Vec<RuleFile>,
    leave_out: Vec<ScopeFile>,
    also: Vec<ScopeFile>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct MirrorFile {
    queue: Option<usize>,
    in_flight: Option<usize>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct CatchUpFile {
    budget_ms: Option<u64>,
    wait_ms: Option<u32>,
    asks: Option<u32>,
    clock_skew_ms: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct NoiseFile {
    share: f64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct EnoughFile {
    answers: Option<u64>,
    users: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ServeFile {
    timeout_ms: Option<u64>,
    error_rate_max: Option<f64>,
    p99_ms_max: Option<f64>,
    mismatch_rate_max: Option<f64>,
    stale_rate_max: Option<f64>,
    age_ms_max: Option<u64>,
    unjudged_rate_max: Option<f64>,
    vouched_by: Option<String>,
    admission_seconds: Option<u64>,
    answers_before_step: Option<u64>,
    schedule: Vec<ScheduleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ScheduleFile {
    after_seconds: u64,
    share: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RedactFile {
    key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RecordFile {
    keep_parameters: Vec<String>,
    keep_bodies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleFile {
    name: String,
    reason: String,
    endpoint: Option<String>,
    ignore: Option<String>,
    tolerate: Option<String>,
    units: Option<u64>,
    microseconds: Option<u64>,
    rename: Option<String>,
    primary: Option<String>,
    candidate: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ScopeFile {
    name: String,
    reason: String,
    method: Option<String>,
    path: String,
}

impl Config {
    /// What holds without a file.
    pub fn defaults() -> Config {
        Config::check(File::default()).expect("the defaults are in their ranges")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where something in it cannot be: the message names the key.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let name = || path.display().to_string();
        let text = read_text(path, FILE_BYTES_MAX, FILE_READ)
            .map_err(|source| ConfigError::Read { path: name(), source })?;
        let file = toml::Deserializer::parse(&text)
            .and_then(florin_input::by_names)
            .map_err(|source| ConfigError::Toml { path: name(), source: Box::new(source) })?;
        Config::check(file).map_err(|(place, why)| ConfigError::Value { path: name(), place, why })
    }

    fn check(file: File) -> Result<Config, Wrong> {
        let rules = rules(&file.rule)?;
        let ms = |given: Option<u64>, default: Duration| given.map_or(default, Duration::from_millis);
        let limits = Limits {
            clock_skew_us: micros(ms(file.catch_up.clock_skew_ms, limits::CLOCK_SKEW)),
            budget_us: micros(ms(file.catch_up.budget_ms, limits::CATCH_UP_BUDGET)),
            asks_max: file.catch_up.asks.unwrap_or(limits::CATCH_UP_ASKS_MAX),
        };
        let mirror = MirrorSettings {
            judge_settings: JudgeSettings { rules, limits },
            queue_max: within("mirror.queue", file.mirror.queue.unwrap_or(limits::QUEUE_MAX), 1, 1 << 20)?,
            in_flight_max: within(
                "mirror.in-flight",
                file.mirror.in_flight.unwrap_or(limits::IN_FLIGHT_MAX),
                1,
                4_096,
            )?,
            timeout: ms(file.mirror.timeout_ms, limits::CANDIDATE_TIMEOUT),
            wait_ms: file.catch_up.wait_ms.unwrap_or(limits::CATCH_UP_WAIT_MS),
            noise_share: share("noise.share", file.noise.share)?,
        };
        Ok(Config {
            mirror,
            scope: Scope {
                leave_out: scope("leave-out", &file.leave_out)?,
                also: scope("also", &file.also)?,
            },
            tolerance: Tolerance {
                not_comparable_max: share(
                    "not-comparable-max",
                    file.not_comparable_max.unwrap_or(limits::NOT_COMPARABLE_MAX),
                )?,
                unproven_max: share("unproven-max", file.unproven_max.unwrap_or(limits::UNPROVEN_MAX))?,
                enough: Enough {
                    answers: file.enough.answers.unwrap_or(limits::ANSWERS_MIN),
                    users: file.enough.users.unwrap_or(limits::USERS_MIN),
                },
                clock_skew_us: limits.clock_skew_us,
            },
            drain: ms(file.drain_ms, limits::DRAIN),
            serve: serve(&file.serve)?,
            kept: Kept { parameters: file.record.keep_parameters, bodies: file.record.keep_bodies },
            redaction_key: file.redact.key_file.as_deref().map(key).transpose()?,
        })
    }

    /// What is done to user ids in evidence that is to be passed on.
    pub fn redaction(&self) -> Redaction {
        self.redaction_key.map_or_else(Redaction::with_random_key, Redaction::Hashed)
    }
}

/// A key, and what is wrong with it.
type Wrong = (String, String);

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn within(place: &str, given: usize, least: usize, most: usize) -> Result<usize, Wrong> {
    let is_within = (least..=most).contains(&given);
    is_within
        .then_some(given)
        .ok_or_else(|| (place.to_owned(), format!("expected {least} to {most}, got {given}")))
}

fn share(place: &str, given: f64) -> Result<f64, Wrong> {
    let is_share = (0.0..=1.0).contains(&given);
    is_share
        .then_some(given)
        .ok_or_else(|| (place.to_owned(), format!("expected a share from 0 to 1, got {given}")))
}

fn rules(files: &[RuleFile]) -> Result<Rules, Wrong> {
    let mut names = HashSet::new();
    let mut rules = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let place = format!("rule {} ({:?})", at + 1, file.name);
        let wrong = |why: String| (place.clone(), why);
        if file.name.trim().is_empty() || file.reason.trim().is_empty() {
            return Err(wrong(
                "expected a name and a reason: whoever reads the report must know why".to_owned(),
            ));
        }
        if !names.insert(&file.name) {
            return Err(wrong("expected a name of its own: its uses are counted under it".to_owned()));
        }
        let endpoint = file.endpoint.as_deref().map(|name| {
            let found = Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == name);
            found.ok_or_else(|| {
                wrong(format!("endpoint: expected balance, statistics, balances or other, got {name:?}"))
            })
        });
        rules.push(Rule {
            name: file.name.clone(),
            reason: file.reason.clone(),
            endpoint: endpoint.transpose()?,
            action: action(file).map_err(wrong)?,
        });
    }
    Ok(Rules::new(rules))
}

fn action(file: &RuleFile) -> Result<Action, String> {
    let pattern = |text: &str| Pattern::parse(text).map_err(|error| error.to_string());
    let sides = (file.primary.as_ref(), file.candidate.as_ref());
    match (&file.ignore, &file.tolerate, &file.rename, file.units, file.microseconds, sides) {
        (Some(at), None, None, None, None, (None, None)) => Ok(Action::Ignore(pattern(at)?)),
        (None, Some(at), None, Some(units), None, (None, None)) => {
            Ok(Action::TolerateUnits(pattern(at)?, units))
        }
        (None, Some(at), None, None, Some(us), (None, None)) => Ok(Action::TolerateTime(pattern(at)?, us)),
        (None, None, Some(at), None, None, (Some(primary), Some(candidate))) => {
            Ok(Action::Rename { at: pattern(at)?, primary: primary.clone(), candidate: candidate.clone() })
        }
        _ => Err("expected one of: ignore = PATH; tolerate = PATH with units = N or microseconds = N; \
                  rename = PATH with primary = KEY and candidate = KEY"
            .to_owned()),
    }
}

fn scope(list: &str, files: &[ScopeFile]) -> Result<Vec<ScopeRule>, Wrong> {
    let mut rules = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let wrong = |why: &str| (format!("{list} {} ({:?})", at + 1, file.name), why.to_owned());
        if file.name.trim().is_empty() || file.reason.trim().is_empty() {
            return Err(wrong("expected a name and a reason"));
        }
        if !file.path.starts_with('/') {
            return Err(wrong("path: expected one that begins with /, in which * stands for one segment"));
        }
        let method = file.method.as_deref().map(|method| Method::from_bytes(method.as_bytes()));
        let method = method.transpose().map_err(|_| wrong("method: expected one like POST"))?;
        // Writes are never mirrored, whatever a rule says.
        let writes = !matches!(method, Some(Method::POST)) || file.path == "/v1/transactions";
        if list == "also" && writes {
            return Err(wrong(
                "expected method = \"POST\" and a path that only reads: writes are never mirrored",
            ));
        }
        rules.push(ScopeRule { name: file.name.clone(), method, path: file.path.clone() });
    }
    Ok(rules)
}

fn serve(file: &ServeFile) -> Result<CutoverSettings, Wrong> {
    let bounds = Bounds {
        error_rate: share("serve.error-rate-max", file.error_rate_max.unwrap_or(0.01))?,
        p99_us: (file.p99_ms_max.filter(|ms| *ms > 0.0).unwrap_or(100.0) * 1e3) as u64,
        mismatch_rate: share("serve.mismatch-rate-max", file.mismatch_rate_max.unwrap_or(0.0))?,
        stale_rate: share("serve.stale-rate-max", file.stale_rate_max.unwrap_or(0.01))?,
        age_us: micros(file.age_ms_max.map_or(limits::SERVE_AGE, Duration::from_millis)),
        unjudged_rate: share(
            "serve.unjudged-rate-max",
            file.unjudged_rate_max.unwrap_or(limits::UNJUDGED_MAX),
        )?,
    };
    let mut schedule = Vec::with_capacity(file.schedule.len());
    for step in &file.schedule {
        let place = || format!("serve.schedule at {} s", step.after_seconds);
        let share: Share =
            step.share.parse().map_err(|error: crate::cutover::ShareError| (place(), error.to_string()))?;
        let after = Duration::from_secs(step.after_seconds);
        if schedule.last().is_some_and(|(before, _)| *before >= after) {
            return Err((place(), "expected steps in the order of their times".to_owned()));
        }
        schedule.push((after, share));
    }
    let timeout = file.timeout_ms.map_or(limits::SERVE_TIMEOUT, Duration::from_millis);
    let schedule = Schedule {
        steps: schedule,
        answers_min: file.answers_before_step.unwrap_or(limits::STEP_ANSWERS_MIN),
    };
    Ok(CutoverSettings { timeout, bounds, admission: admission(file)?, schedule })
}

fn admission(file: &ServeFile) -> Result<Admission, Wrong> {
    let given = file.admission_seconds.map(Duration::from_secs);
    let wrong = |key: &str, why: &str| Err((format!("serve.{key}"), why.to_owned()));
    match file.vouched_by.as_deref().map(str::trim) {
        None => Ok(Admission::Anonymous(given.unwrap_or(limits::ADMISSION))),
        Some("primary") if given > Some(limits::ADMISSION_OF_CREDENTIALS_MAX) => wrong(
            "admission-seconds",
            "expected at most 300: credentials that are taken back must not be good for longer",
        ),
        Some("primary") => Ok(Admission::ByPrimary(given.unwrap_or(limits::ADMISSION_OF_CREDENTIALS))),
        // Somebody vouches for all callers; the primary for none whom it has not answered.
        Some(who) if who.is_empty() || who.to_lowercase().contains("primary") => wrong(
            "vouched-by",
            "expected \"primary\", or who else makes sure that callers may ask what they ask, like \"the gateway checks tokens\"",
        ),
        Some(who) => Ok(Admission::Everybody(who.to_owned())),
    }
}

fn key(path: &Path) -> Result<[u8; 16], Wrong> {
    let place = || "redact.key-file".to_owned();
    let text = read_secret_text(path, FILE_BYTES_MAX, FILE_READ)
        .map_err(|error| (place(), format!("cannot read {}: {error}", path.display())))?;
    let digits = text.trim();
    let is_key = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let key = is_key.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(u128::to_be_bytes);
    key.ok_or_else(|| {
        (place(), format!("expected 32 hexadecimal digits in {}: openssl rand -hex 16", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shadow.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = read(
            r#"
            not-comparable-max = 0.0005
            unproven-max = 0.02
            drain-ms = 2000
            [mirror]
            queue = 10
            in-flight = 4
            timeout-ms = 300
            [catch-up]
            budget-ms = 500
            wait-ms = 50
            asks = 5
            clock-skew-ms = 20
            [noise]
            share = 0.01
            [serve]
            timeout-ms = 100
            error-rate-max = 0.02
            p99-ms-max = 5.5
            mismatch-rate-max = 0.001
            schedule = [{ after-seconds = 60, share = "1%" }, { after-seconds = 600, share = "5%" }]
            [[rule]]
            name = "times in ms"
            reason = "the old service cuts them: PAY-42"
            tolerate = "updated_at"
            microseconds = 999
            [[rule]]
            name = "avail"
            reason = "renamed in v2"
            endpoint = "balance"
            rename = "balances[*]"
            primary = "avail"
            candidate = "available"
            [record]
            keep-parameters = ["page"]
            keep-bodies = ["/v1/search"]
            [[leave-out]]
            name = "health"
            reason = "each has its own"
            path = "/healthz"
            [[also]]
            name = "search"
            reason = "reads, with a body"
            method = "POST"
            path = "/v1/search"
            "#,
        )
        .unwrap();
        assert_eq!(config.mirror.judge_settings.rules.iter().count(), 2);
        assert_eq!(
            config.mirror.judge_settings.limits,
            Limits { clock_skew_us: 20_000, budget_us: 500_000, asks_max: 5 }
        );
        assert_eq!(config.serve.bounds.p99_us, 5_500);
        assert_eq!(config.serve.schedule.steps.len(), 2);
        assert_eq!(
            (config.mirror.queue_max, config.mirror.noise_share, config.tolerance.not_comparable_max),
            (10, 0.01, 0.0005)
        );
        assert_eq!(config.tolerance.unproven_max, 0.02);
        assert_eq!(
            config.kept,
            Kept { parameters: vec!["page".to_owned()], bodies: vec!["/v1/search".to_owned()] }
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let rule = |more: &str| format!("[[rule]]\nname = \"n\"\nreason = \"r\"\n{more}");
        let also = |more: &str| format!("[[also]]\nname = \"n\"\nreason = \"r\"\n{more}");
        for (text, expected) in [
            ("queue = 1", "unknown field `queue`"),
            ("[mirror]\nqueue = 0", "mirror.queue: expected 1 to"),
            ("unproven-max = 2.0", "unproven-max: expected a share from 0 to 1, got 2"),
            ("enough = [1, 2]", "an object, whose fields have names"),
            ("serve = { schedule = [[1, \"5%\"]] }", "an object, whose fields have names"),
            ("serve = { schedule = [{ after-seconds = 1, share = \"05%\" }] }", "expected a percentage"),
            ("serve.vouched-by = \" \"", "serve.vouched-by: expected \"primary\", or who else"),
            ("serve.vouched-by = \"The Primary\"", "serve.vouched-by: expected \"primary\", or who else"),
            (
                "serve = { vouched-by = \"primary\", admission-seconds = 301 }",
                "serve.admission-seconds: expected at most 300",
            ),
            ("[noise]\nshare = 1.5", "noise.share: expected a share from 0 to 1, got 1.5"),
            (&rule(""), "rule 1 (\"n\"): expected one of: ignore = PATH"),
            (&rule("ignore = \"a[\""), "rule 1 (\"n\"): expected a path like"),
            (&rule("ignore = \"a\"\nunits = 1"), "expected one of"),
            (&rule("ignore = \"a\"\nendpoint = \"x\""), "endpoint: expected balance, statistics"),
            ("[[rule]]\nname = \"n\"\nreason = \" \"\nignore = \"a\"", "expected a name and a reason"),
            (
                &(rule("ignore = \"a\"\n") + &rule("ignore = \"b\"")),
                "rule 2 (\"n\"): expected a name of its own",
            ),
            (&also("path = \"/v1/x\"\nmethod = \"PUT\""), "writes are never mirrored"),
            (&also("path = \"/v1/transactions\"\nmethod = \"POST\""), "writes are never mirrored"),
            (&also("path = \"x\"\nmethod = \"POST\""), "path: expected one that begins with /"),
            (
                "[serve]\nschedule = [{ after-seconds = 1, share = \"5\" }]",
                "serve.schedule at 1 s: expected a percentage",
            ),
            ("[redact]\nkey-file = \"/nowhere\"", "redact.key-file: cannot read /nowhere"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(
            Config::read(Path::new("/nowhere")).unwrap_err().to_string().starts_with("cannot read /nowhere")
        );
        let admission = |text: &str| read(text).unwrap().serve.admission;
        let seconds = Duration::from_secs;
        assert_eq!(Config::defaults().serve.admission, Admission::Anonymous(seconds(60)));
        assert_eq!(admission("serve.vouched-by = \"primary\""), Admission::ByPrimary(seconds(5)));
        assert_eq!(admission("serve.admission-seconds = 9"), Admission::Anonymous(seconds(9)));
        let gateway = "the gateway checks tokens".to_owned();
        assert_eq!(admission(&format!("serve.vouched-by = {gateway:?}")), Admission::Everybody(gateway));
    }
}
