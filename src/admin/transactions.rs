//! `POST /v1/transactions`: one transaction, an array of them, or `{"transactions":[…]}`; all of a request enter the
//! ledger together, or none does.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use florin_record::{
    Appended, Field, NewTransaction, Refused, Rejection, TransactionText, Trouble, json_text,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::problem::Problem;
use super::writer::AppendError;
use super::{Writing, intake};
use crate::limits::APPLY_TRANSACTIONS_MAX;

/// What the ledger made of a request, in the request's order.
#[derive(Serialize)]
struct Receipt {
    transactions: Vec<ReceiptEntry>,
}

/// 64-bit integers are strings, as everywhere in florin's JSON.
#[derive(Serialize)]
struct ReceiptEntry {
    transaction_id: String,
    user_id: String,
    version: String,
    duplicate: bool,
}

/// A request's keys as they came; [`RawValue`] keeps every digit of a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys<'a> {
    #[serde(borrow)]
    transaction_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    asset: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    occurred_at: Option<&'a RawValue>,
    /// Of the envelope; no transaction has it.
    #[serde(borrow)]
    transactions: Option<Vec<&'a RawValue>>,
}

impl<'a> Keys<'a> {
    fn value(&self, field: Field) -> Option<&'a RawValue> {
        match field {
            Field::TransactionId => self.transaction_id,
            Field::UserId => self.user_id,
            Field::Asset => self.asset,
            Field::Kind => self.kind,
            Field::Amount => self.amount,
            Field::OccurredAt => self.occurred_at,
        }
    }
}

/// Handles the request.
pub(super) async fn post(State(writing): State<Writing>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if let Err(problem) = intake::check_writer(&head.headers, &writing.hosts) {
        return intake::closing(problem);
    }
    let body = match intake::whole(body).await {
        Ok(body) => body,
        Err(problem) => return intake::closing(problem),
    };
    let answer = async {
        let transactions = parse(&body)?;
        let appended = writing.writer.append(transactions.clone()).await.map_err(refusal)?;
        Ok::<_, Problem>(receipt(&transactions, &appended))
    };
    match answer.await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub(super) fn parse(body: &[u8]) -> Result<Vec<NewTransaction>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let whole: &RawValue =
        florin_input::json(body).map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let expected = |error| {
        bad(format!("expected a transaction, an array of them, or {{\"transactions\":[…]}}: {error}"))
    };
    let entries = if whole.get().starts_with('[') {
        florin_input::json(whole.get().as_bytes()).map_err(expected)?
    } else {
        let keys: Keys<'_> = florin_input::json(whole.get().as_bytes()).map_err(expected)?;
        let is_envelope = Field::ALL.iter().all(|&field| keys.value(field).is_none());
        keys.transactions.filter(|_| is_envelope).unwrap_or_else(|| vec![whole])
    };
    if entries.is_empty() {
        return Err(bad("expected at least one transaction, found none".to_owned()));
    }
    if entries.len() > APPLY_TRANSACTIONS_MAX {
        let detail =
            format!("expected at most {APPLY_TRANSACTIONS_MAX} transactions, found {}", entries.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    entries.iter().enumerate().map(|(index, entry)| transaction(index, entry)).collect()
}

fn transaction(index: usize, entry: &RawValue) -> Result<NewTransaction, Problem> {
    let bad = |detail| Problem::new(StatusCode::BAD_REQUEST, detail).at(index);
    if !entry.get().starts_with('{') {
        return Err(bad(format!("transaction {index}: expected an object")));
    }
    let keys: Keys<'_> = florin_input::json(entry.get().as_bytes())
        .map_err(|error| bad(format!("transaction {index}: {error}")))?;
    if keys.transactions.is_some() {
        return Err(bad(format!("transaction {index}: unknown field `transactions`")));
    }
    let text = |field: Field| {
        let wrong = |found: &str| {
            let expected = field.expected();
            bad(format!("transaction {index}: {field}: expected {expected}, found {found}"))
                .with("field", field.name())
        };
        json_text(field, keys.value(field)).map_err(|error| wrong(&error.found))
    };
    let texts = [
        text(Field::TransactionId)?,
        text(Field::UserId)?,
        text(Field::Asset)?,
        text(Field::Kind)?,
        text(Field::Amount)?,
        text(Field::OccurredAt)?,
    ];
    let [transaction_id, user_id, asset, kind, amount, occurred_at] = texts.each_ref().map(|text| &**text);
    let parsed = TransactionText { transaction_id, user_id, asset, kind, amount, occurred_at }.parse();
    parsed.map_err(|error| bad(format!("transaction {index}: {error}")).with("field", error.field.name()))
}

fn refusal(error: AppendError) -> Problem {
    let detail = error.to_string();
    let status = match &error {
        AppendError::Busy => StatusCode::TOO_MANY_REQUESTS,
        AppendError::Ended => StatusCode::INTERNAL_SERVER_ERROR,
        // Whoever asks again may find its own rows there.
        AppendError::Ledger(error) if error.trouble == Trouble::Uncertain => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with("outcome", "unknown");
        }
        AppendError::Ledger(error) => match error.trouble {
            Trouble::Unavailable | Trouble::OtherLedger | Trouble::Uncertain => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Trouble::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Trouble::ReadOnly => StatusCode::NOT_IMPLEMENTED,
        },
        AppendError::Refused(Refused { index, rejection }) => {
            let problem = match rejection {
                Rejection::Conflict { version, .. } => {
                    Problem::new(StatusCode::CONFLICT, detail).with("version", &version.to_string())
                }
                Rejection::NoNextVersion { .. } => Problem::new(StatusCode::CONFLICT, detail),
                Rejection::Field(_) | Rejection::TooManyAssets { .. } => {
                    Problem::new(StatusCode::BAD_REQUEST, detail)
                }
            };
            return problem.at(*index).with("field", rejection.field().name());
        }
    };
    Problem::new(status, detail)
}

fn receipt(transactions: &[NewTransaction], appended: &[Appended]) -> String {
    let entry = |(transaction, appended): (&NewTransaction, &Appended)| ReceiptEntry {
        transaction_id: transaction.transaction_id.to_string(),
        user_id: transaction.user_id.to_string(),
        version: appended.version.to_string(),
        duplicate: appended.duplicate,
    };
    let receipt = Receipt { transactions: transactions.iter().zip(appended).map(entry).collect() };
    serde_json::to_string(&receipt).expect("strings and booleans are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"transaction_id":"99001032-b24c-5525-b910-74da77541092","user_id":"42","asset":"COIN","kind":"recharge","amount":"500","occurred_at":"2026-11-22T04:05:06Z"}"#;

    fn detail(body: &str) -> String {
        let problem = parse(body.as_bytes()).unwrap_err();
        serde_json::to_string(problem.members()).unwrap()
    }

    #[test]
    fn one_many_and_an_envelope_are_read_alike() {
        let one = parse(GOOD.as_bytes()).unwrap();
        assert_eq!((one.len(), one[0].amount, one[0].user_id.get()), (1, 500, 42));
        assert_eq!(parse(format!("[{GOOD}, {GOOD}]").as_bytes()).unwrap(), [one[0], one[0]]);
        assert_eq!(parse(format!("{{\"transactions\":[{GOOD}]}}").as_bytes()).unwrap(), one);
    }

    #[test]
    fn numbers_are_as_good_as_strings_and_keep_their_digits() {
        let text = GOOD
            .replace("\"42\"", "9223372036854775807")
            .replace("\"500\"", "9223372036854775807")
            .replace("\"recharge\"", "10");
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!((read[0].user_id.get(), read[0].amount), (i64::MAX as u64, i64::MAX));
        assert_eq!(read[0].kind.number(), 10);
    }

    #[test]
    fn what_is_wrong_is_named_with_index_and_field() {
        let wrong = |from: &str, to: &str| format!("[{GOOD},{}]", GOOD.replace(from, to));
        for (from, to, field) in [
            ("\"500\"", "1.5", "amount"),
            ("\"500\"", "-1", "amount"),
            ("\"500\"", "\"0500\"", "amount"),
            ("\"42\"", "\"042\"", "user_id"),
            ("\"recharge\"", "\"+1\"", "kind"),
            ("\"500\"", "9223372036854775808", "amount"),
            ("\"500\"", "null", "amount"),
            ("\"42\"", "[42]", "user_id"),
            ("\"recharge\"", "\"gift\"", "kind"),
            ("\"COIN\"", "7", "asset"),
            ("\"2026-11-22T04:05:06Z\"", "1763784306", "occurred_at"),
            ("\"user_id\":\"42\",", "", "user_id"),
            ("99001032", "9900103", "transaction_id"),
        ] {
            let found = detail(&wrong(from, to));
            assert!(
                found.contains("\"index\":1") && found.contains(&format!("\"field\":\"{field}\"")),
                "{found}"
            );
        }
    }

    #[test]
    fn what_is_no_transaction_at_all_is_refused() {
        // Once taken for a transaction: its values without their names.
        let values = r#"[["99001032-b24c-5525-b910-74da77541092","42","COIN","recharge","500","2026-11-22T04:05:06Z",null]]"#;
        for (body, message) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("7", "expected a transaction, an array of them"),
            ("[]", "expected at least one transaction"),
            ("{\"transactions\":[]}", "expected at least one transaction"),
            ("{}", "transaction_id: expected a UUID"),
            ("[7]", "transaction 0: expected an object"),
            (values, "transaction 0: expected an object"),
            ("{\"amount\":1,\"amount\":2}", "duplicate field `amount`"),
            ("{\"ammount\":1}", "unknown field `ammount`"),
        ] {
            assert!(detail(body).contains(message), "{body}: {}", detail(body));
        }
        let both = format!("{{\"transactions\":[],{}", &GOOD[1..]);
        assert!(detail(&both).contains("unknown field `transactions`"));
        let many = format!("[{}]", vec!["7"; APPLY_TRANSACTIONS_MAX + 1].join(","));
        assert_eq!(parse(many.as_bytes()).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
