//! Values of an answer, as what they are: one that is not there, or is something else, is no value and no guess.

use std::str::FromStr;

use crate::failure::Failure;
use crate::wire::{Answer, Wire};

/// The first row of what is asked, which has one.
pub(crate) async fn row(wire: &mut Wire, sql: &str) -> Result<Answer, Failure> {
    let rows = wire.query(sql).await?;
    rows.into_iter()
        .next()
        .ok_or_else(|| Failure::Unavailable("PostgreSQL's catalogue does not answer".to_owned()))
}

/// Whether anything is answered.
pub(crate) async fn is_some(wire: &mut Wire, sql: &str) -> Result<bool, Failure> {
    Ok(!wire.query(sql).await?.is_empty())
}

/// A value; none = NULL.
pub(crate) fn maybe(row: &Answer, at: usize) -> Option<&str> {
    row.get(at).and_then(|cell| cell.as_deref())
}

/// A value that is not NULL.
pub(crate) fn text(row: &Answer, at: usize) -> Result<&str, Failure> {
    maybe(row, at)
        .ok_or_else(|| Failure::Unavailable("PostgreSQL's catalogue answers without a value".to_owned()))
}

/// A number.
pub(crate) fn number<T: FromStr>(row: &Answer, at: usize) -> Result<T, Failure> {
    let text = text(row, at)?;
    text.parse()
        .map_err(|_| Failure::Unavailable(format!("PostgreSQL's catalogue answers {text:?} for a number")))
}

/// A truth.
pub(crate) fn is(row: &Answer, at: usize) -> Result<bool, Failure> {
    match text(row, at)? {
        "t" => Ok(true),
        "f" => Ok(false),
        other => Err(Failure::Unavailable(format!("PostgreSQL's catalogue answers {other:?} for a truth"))),
    }
}
