//! Server-sent events of an admin port, read as they come, by whoever does something else in between.

use std::time::Duration;

use florin_client::Address;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::caller::Asked;
use super::http::{NoAnswer, Refused, answered, begun, connected, prepared};
use crate::limits::{CALL_ANSWER_BYTES_MAX, TOP_CALL};

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// Nobody answers.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// The node refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A stream that is open. It goes on only while somebody waits for its next event.
pub(super) struct Events {
    address: Address,
    runtime: Runtime,
    body: Incoming,
    /// What has come of events that are not whole, or not taken yet.
    text: Vec<u8>,
}

impl Events {
    /// Opens it, within [`TOP_CALL`].
    pub(super) fn open(node: &Asked, path: &str) -> Result<Events, EventsError> {
        let address = &node.address;
        let failed = |source| NoAnswer::Io { address: address.clone(), source };
        let request = prepared(node, "GET", path, "")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let opening = async {
            let response = begun(address, connected(node).await?, request).await?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            let found = "no events".to_owned();
            let refused = answered(address, response).await?.succeeded().err().map(EventsError::from);
            Err(refused.unwrap_or(NoAnswer::NotHttp { address: address.clone(), found }.into()))
        };
        let opened = runtime.block_on(async { timeout(TOP_CALL, opening).await });
        let too_slow = || NoAnswer::TooSlow { address: address.clone(), limit: TOP_CALL };
        match opened.unwrap_or_else(|_| Err(too_slow().into())) {
            Ok(body) => Ok(Events { address: address.clone(), runtime, body, text: Vec::new() }),
            Err(error) => {
                // A name's look-up may hang on another thread: it is left to itself.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// The next event's data, if it comes within `patience`.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Option<String>, NoAnswer> {
        let Events { address, runtime, body, text } = self;
        runtime.block_on(async {
            loop {
                if let Some(data) = take(text) {
                    return Ok(Some(data));
                }
                let found = match timeout(patience, body.frame()).await {
                    Err(_) => return Ok(None),
                    Ok(None) => "it ended its stream".to_owned(),
                    Ok(Some(Err(error))) => return Err(NoAnswer::broken(address, error)),
                    Ok(Some(Ok(frame))) => {
                        text.extend_from_slice(&frame.into_data().unwrap_or_default());
                        if text.len() <= CALL_ANSWER_BYTES_MAX {
                            continue;
                        }
                        format!("an event of more than {CALL_ANSWER_BYTES_MAX} bytes")
                    }
                };
                let source = std::io::Error::other(found);
                return Err(NoAnswer::Io { address: address.clone(), source });
            }
        })
    }
}

/// The data of the first event that is whole, which is taken out.
fn take(text: &mut Vec<u8>) -> Option<String> {
    let end = text.windows(2).position(|bytes| bytes == b"\n\n")?;
    let event: Vec<u8> = text.drain(..end + 2).collect();
    let event = String::from_utf8_lossy(&event).into_owned();
    // An event without data is none that says anything.
    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
    Some(data.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_and_in_order() {
        let whole = b"event: activity\ndata: {\"a\":1}\n\ndata: two\n\n";
        for cut in 0..whole.len() {
            let (mut text, mut taken) = (Vec::new(), Vec::new());
            for part in [&whole[..cut], &whole[cut..]] {
                text.extend_from_slice(part);
                taken.extend(std::iter::from_fn(|| take(&mut text)));
            }
            assert_eq!(taken, ["{\"a\":1}", "two"], "{cut}");
        }
    }
}
