//! The JSON of a batch → user ids.

use alloc::vec::Vec;
use core::fmt;

use florin_schema::frame::BATCH_USERS_MAX;
use florin_schema::{UserId, decimal, misspelling};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use super::HttpError;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    user_ids: Vec<JsonUserId>,
}

/// Fills `users` with the ids of `content`, in order.
pub(super) fn user_ids(content: &[u8], users: &mut Vec<UserId>) -> Result<(), HttpError> {
    // Serde would also take `[["1"]]`: to it an array is a struct without the names.
    if content.trim_ascii_start().first() == Some(&b'[') {
        return Err(HttpError::Json(Error::custom("invalid type: sequence, expected an object")));
    }
    let batch: Batch = serde_json::from_slice(content).map_err(HttpError::Json)?;
    if batch.user_ids.is_empty() || batch.user_ids.len() > BATCH_USERS_MAX {
        return Err(HttpError::BatchUsers(batch.user_ids.len()));
    }
    users.clear();
    users.extend(batch.user_ids.into_iter().map(|JsonUserId(id)| id));
    Ok(())
}

/// An id as the protobuf JSON mapping has 64-bit integers: a string, or a number.
struct JsonUserId(UserId);

impl<'de> Deserialize<'de> for JsonUserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JsonUserId, D::Error> {
        deserializer.deserialize_any(JsonUserIdVisitor)
    }
}

struct JsonUserIdVisitor;

impl Visitor<'_> for JsonUserIdVisitor {
    type Value = JsonUserId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("each of user_ids to be 0 to 9223372036854775807, as a string or a number")
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<JsonUserId, E> {
        UserId::new(id).map(JsonUserId).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(id), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonUserId, E> {
        let id = decimal(text).and_then(UserId::new);
        id.map(JsonUserId).ok_or_else(|| match misspelling(text) {
            "" => E::invalid_value(Unexpected::Str(text), &self),
            why => E::custom(format_args!("invalid value: string {text:?}{why}")),
        })
    }
}
