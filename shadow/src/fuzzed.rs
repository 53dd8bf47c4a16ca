//! What two services may answer, read and compared as the shadow does: for `fuzz/`, and for no caller.

use florin_schema::frame::ReplyHeader;
use florin_schema::{UserId, WindowMask};
use zerocopy::FromBytes;

use crate::json::Value;
use crate::judge::{Comparison, Path, compare};
use crate::request::Question;
use crate::targets::frames::decode;

/// A body as JSON, written again.
///
/// # Errors
/// Why it is none that can be compared.
pub fn json(body: &[u8]) -> Result<String, String> {
    Value::parse(body).map(|value| value.to_string()).map_err(|error| error.to_string())
}

/// Whether two bodies mean the same; `None` where either is no JSON that can be compared.
pub fn mean_the_same(primary: &[u8], candidate: &[u8]) -> Option<bool> {
    let (primary, candidate) = (Value::parse(primary).ok()?, Value::parse(candidate).ok()?);
    let mut comparison = Comparison::default();
    compare(&Path::ROOT, &primary, &candidate, &mut comparison);
    Some(comparison.is_same())
}

/// Reads a whole frame as the reply to each question; how many it is an answer to.
pub fn answers(frame: &[u8]) -> usize {
    let Ok((header, body)) = ReplyHeader::read_from_prefix(frame) else { return 0 };
    let user = UserId::new(1).expect("an id");
    let questions = [
        Question::Balance(user),
        Question::Statistics(user, WindowMask::ALL),
        Question::Balances(vec![user]),
    ];
    questions.iter().filter(|question| decode(question, &header, body).is_ok()).count()
}
