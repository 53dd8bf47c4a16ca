//! A transaction's fields where they come as JSON: 64-bit integers are texts, and as good as numbers, whose every digit is kept.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::{Field, FieldError};

/// The text of a field, which [`crate::TransactionText`] reads.
///
/// # Errors
/// Where it is missing, or neither a text nor a number where one is taken.
pub fn json_text(field: Field, raw: Option<&RawValue>) -> Result<Cow<'_, str>, FieldError> {
    let raw = raw.ok_or_else(|| FieldError::new(field, "nothing"))?.get();
    let takes_numbers = matches!(field, Field::UserId | Field::Amount | Field::Kind);
    match raw.as_bytes().first() {
        // A parser has read it: without an escape, its text is what stands between its quotes.
        Some(b'"') if !raw.contains('\\') => Ok(Cow::Borrowed(&raw[1..raw.len() - 1])),
        Some(b'"') => {
            florin_input::json(raw.as_bytes()).map(Cow::Owned).map_err(|_| FieldError::new(field, raw))
        }
        Some(b'-' | b'0'..=b'9') if takes_numbers => Ok(Cow::Borrowed(raw)),
        _ => Err(FieldError::new(field, raw)),
    }
}
