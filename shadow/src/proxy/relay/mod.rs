//! One caller's connection, and the connection to the primary that belongs to it. Bytes pass as they come, both ways;
//! what they mean is followed beside them.
//!
//! ```text
//!     caller ──▶ requests ──────────────▶ primary        each request is noted before its bytes go on,
//!            ◀── answers ◀───────────────                each answer is written before it is looked at
//!                   │ request and answer, copied
//!                   ▼
//!                mirror (never waits)
//! ```
//!
//! What closes on one side closes on the other, and what breaks on one breaks on the other. A caller sees no more of this than one
//! hop. Only while the candidate answers there may be no connection to the primary, or it may end by itself, for it is idle and the
//! caller is not: one is opened when it is needed.
//!
//! | module | holds |
//! | --- | --- |
//! | `requests` | the caller's bytes to the primary, or its requests to the candidate |
//! | `answers` | the primary's bytes to the caller |
//! | `conversation` | what both share: which requests are unanswered |

mod answers;
mod conversation;
mod requests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use answers::answers;
use conversation::{Conversation, Ended, Gone};
use requests::Requests;

use super::{Phase, ProxyContext};
use crate::judge::{Failure, Reason, Side};
use crate::limits::{KEEPALIVE, READ_BYTES};
use crate::targets::within;

/// Serves one caller until either side ends, or the proxy drains.
pub async fn relay(context: Arc<ProxyContext>, caller: TcpStream, phase: watch::Receiver<Phase>) {
    // Where the candidate answers callers, the primary is connected to when it is needed: a primary that is down costs nobody whom
    // the candidate answers.
    let primary = match context.cutover.serves() {
        true => None,
        false => match connect(&context).await {
            Some(primary) => Some(primary.into_split()),
            // Without a proxy the caller would not have been connected either.
            None => {
                let _ = caller.set_zero_linger();
                return;
            }
        },
    };
    prepare(&caller);
    let (from_caller, to_caller) = caller.into_split();
    let caller = tokio::sync::Mutex::new(to_caller);
    let ended = converse(context, &caller, from_caller, primary, phase).await;
    if matches!(ended, Ended::Broken) {
        let caller = caller.into_inner();
        let _ = caller.as_ref().set_zero_linger();
        // Closed without a farewell: what broke must not look like an end.
        caller.forget();
    }
}

/// A connection to the primary, unless none can be had in time.
async fn connect(context: &ProxyContext) -> Option<TcpStream> {
    let connecting = async {
        let failed = |error: io::Error| Failure { reason: Reason::Connect, detail: error.to_string() };
        TcpStream::connect(&*context.primary).await.map_err(failed)
    };
    match within(context.timeouts.connect, connecting).await {
        Ok(primary) => {
            context.evidence.heard(Side::Primary);
            prepare(&primary);
            Some(primary)
        }
        Err(Failure { detail, .. }) => {
            context.evidence.not_mirrored("the primary could not be reached");
            context.evidence.unheard(Side::Primary, &Failure { reason: Reason::Connect, detail });
            None
        }
    }
}

/// Sees both directions through until either ends for good.
async fn converse(
    context: Arc<ProxyContext>,
    caller: &tokio::sync::Mutex<OwnedWriteHalf>,
    from_caller: OwnedReadHalf,
    primary: Option<(OwnedReadHalf, OwnedWriteHalf)>,
    phase: watch::Receiver<Phase>,
) -> Ended {
    let linger = context.timeouts.linger;
    let (from_primary, to_primary) = primary.unzip();
    let conversation = Conversation::new(context, caller, from_primary.is_some());
    let (opened, opening) = mpsc::channel(1);
    let mut requests = Requests::new(&conversation, from_caller, to_primary, opened, phase);
    tokio::select! {
        ended = requests.run() => ended,
        ended = answers(&conversation, from_primary, opening) => {
            conversation.goes(Gone::Primary);
            if matches!(ended, Ended::Closed) {
                let _ = conversation.caller.lock().await.shutdown().await;
                let _ = tokio::time::timeout(linger, discard(&mut requests.from_caller)).await;
            }
            ended
        }
    }
}

/// Small answers go out at once, and a peer that has vanished is noticed.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE);
}

/// Writes all of it, unless the caller takes none of it for `stall`.
async fn write(caller: &mut OwnedWriteHalf, bytes: &[u8], stall: Duration) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(stall, caller.write_all(bytes)).await.map_err(stalled)?
}

async fn discard(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; READ_BYTES];
    while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

/// Reads once there is something; a buffer that is empty takes no memory until then.
async fn read_into(from: &OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        from.readable().await?;
        buffer.reserve(READ_BYTES);
        match from.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
            }
            read => return read,
        }
    }
}
