//! `GET /v1/audit` says what the audit does, what its last pass has seen, and what differs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::json;
use super::problem::Problem;
use super::view::View;
use crate::auditor::status::Report;
use crate::auditor::{AuditStatus, Doing, Finding};

/// 64-bit integers are strings, as everywhere in florin's JSON.
#[derive(Serialize)]
struct Standing {
    doing: &'static str,
    /// Why it does not compare at the moment.
    reason: Option<String>,
    differences: String,
    passes: String,
    failures: String,
    current: Option<Shown>,
    last: Option<Shown>,
    last_age_seconds: Option<f64>,
    evidence: Vec<Evidence>,
}

/// What a pass has seen.
#[derive(Serialize)]
struct Shown {
    accounts: String,
    quarantined: String,
    windows_unknown: String,
    rows: String,
    buckets: String,
    differences: String,
    seconds: f64,
}

#[derive(Serialize)]
struct Evidence {
    at_us: String,
    bucket: usize,
    user_id: Option<String>,
    version: Option<String>,
    what: &'static str,
    answered: String,
    ledger: String,
}

impl Shown {
    fn of(report: &Report) -> Shown {
        Shown {
            accounts: report.accounts.to_string(),
            quarantined: report.quarantined.to_string(),
            windows_unknown: report.windows_unknown.to_string(),
            rows: report.rows.to_string(),
            buckets: report.buckets.to_string(),
            differences: report.differences.to_string(),
            seconds: report.seconds,
        }
    }
}

impl Evidence {
    fn of(finding: Finding) -> Evidence {
        Evidence {
            at_us: finding.at_us.to_string(),
            bucket: finding.bucket,
            user_id: finding.user.map(|user| user.to_string()),
            version: finding.version.map(|version| version.to_string()),
            what: finding.what,
            answered: finding.served,
            ledger: finding.ledger,
        }
    }
}

/// Handles `GET`.
pub(super) async fn get(State(view): State<Arc<View>>) -> Response {
    match &view.audit {
        Some(audit) => json(&standing(audit.status())),
        None => {
            let detail = "this node is not audited: start it with --audit 1%";
            Problem::new(StatusCode::CONFLICT, detail).into_response()
        }
    }
}

fn standing(status: &AuditStatus) -> Standing {
    let (doing, reason) = match status.doing() {
        Doing::Passing => ("comparing", None),
        Doing::Waiting(reason) => ("waiting", Some(reason)),
        Doing::Unable(reason) => ("unable", Some(reason)),
    };
    let last = status.last();
    Standing {
        doing,
        current: (doing == "comparing").then(|| Shown::of(&status.current())),
        reason,
        differences: status.differences().to_string(),
        passes: status.passes().to_string(),
        failures: status.failures().to_string(),
        last: last.map(|(report, _)| Shown::of(&report)),
        last_age_seconds: last.map(|(_, age)| age),
        evidence: status.evidence().into_iter().map(Evidence::of).collect(),
    }
}
