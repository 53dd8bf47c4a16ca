//! The primary's bytes to the caller.

use bytes::BytesMut;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;

use super::conversation::{Answers, Conversation, Ended, Gone};
use super::{read_into, write};
use crate::proxy::reader::AnswerReader;

/// The primary's bytes to the caller, over as many connections as it takes.
pub(super) async fn answers(
    conversation: &Conversation<'_>,
    from_primary: Option<OwnedReadHalf>,
    mut opening: mpsc::Receiver<OwnedReadHalf>,
) -> Ended {
    let mut open = from_primary;
    loop {
        let from_primary = match open.take() {
            Some(from_primary) => from_primary,
            None => match opening.recv().await {
                Some(opened) => opened,
                None => return Ended::Broken,
            },
        };
        let ended = answers_of(conversation, from_primary).await;
        let mut state = conversation.state();
        let is_needed = !state.is_candidates
            || !state.pending.is_empty()
            || state.answers == Answers::Lost
            || state.first_to_go.is_some();
        if is_needed {
            return ended;
        }
        state.is_primary_gone = true;
        drop(state);
        conversation.fewer.notify_one();
    }
}

/// The bytes of one connection. Between two answers nothing is held for them.
async fn answers_of(conversation: &Conversation<'_>, from_primary: OwnedReadHalf) -> Ended {
    let mut reader = AnswerReader::new(conversation.context.budget.clone());
    let mut buffer = BytesMut::new();
    let stall = conversation.context.timeouts.stall;
    loop {
        buffer.clear();
        match read_into(&from_primary, &mut buffer).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Ended::Broken,
        }
        if write(&mut *conversation.caller.lock().await, &buffer, stall).await.is_err() {
            conversation.goes(Gone::Caller);
            return Ended::Broken;
        }
        conversation.follow(&mut reader, &buffer);
    }
    if let Some(passed) = reader.end() {
        conversation.answered(passed);
    }
    // The candidate may be answering this caller at the moment: that comes first.
    drop(conversation.caller.lock().await);
    Ended::Closed
}
