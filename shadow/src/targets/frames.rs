//! A florin node asked in its own protocol with FlatBuffers bodies, one question at a time on each of a few
//! connections: florin's client speaks rkyv, and this is what every other language does.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use florin_client::Address;
use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions, ReplyHeader, RequestHeader, VERSION};
use florin_schema::{Encoding, Opcode, Status, generated};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use zerocopy::{FromBytes, IntoBytes};

use super::native::native_answer;
use crate::answer::{self, Answer, Content, NativeError, Stated};
use crate::clock::now_us;
use crate::judge::{Failure, Reason};
use crate::limits::{ANSWER_COPY_BYTES_MAX, FRAMES_IDLE_MAX};
use crate::request::{Question, Request};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A few connections to one node.
pub struct FramesTarget {
    address: Address,
    idle: Mutex<Vec<Box<dyn Stream>>>,
}

impl FramesTarget {
    /// Connects when it is first asked.
    pub fn new(address: Address) -> FramesTarget {
        FramesTarget { address, idle: Mutex::new(Vec::new()) }
    }

    /// Asks, and waits for the answer, however long it takes.
    ///
    /// # Errors
    /// Where none came.
    pub async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let asked_us = now_us();
        let Some(frame) = encode(request) else {
            let detail = "it has no native form".to_owned();
            return Err(Failure { reason: Reason::NoNativeForm, detail });
        };
        let (header, body) = self.exchange(&frame).await?;
        let (status, stated, content) = decode(&request.question, &header, &body)?;
        Ok(native_answer(request, status, stated, content, asked_us))
    }

    async fn exchange(&self, frame: &[u8]) -> Result<(ReplyHeader, Vec<u8>), Failure> {
        let mut stream = match self.kept().await {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let reply = exchange(&mut *stream, frame).await?;
        let mut idle = self.idle.lock().await;
        if idle.len() < FRAMES_IDLE_MAX {
            idle.push(stream);
        }
        Ok(reply)
    }

    /// An idle connection that the node has not closed meanwhile.
    async fn kept(&self) -> Option<Box<dyn Stream>> {
        let mut idle = self.idle.lock().await;
        while let Some(mut stream) = idle.pop() {
            let mut byte = [0];
            let mut end = ReadBuf::new(&mut byte);
            let is_quiet = poll_fn(|context| {
                Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut end).is_pending())
            });
            if is_quiet.await {
                return Some(stream);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let failed = |error: std::io::Error| Failure {
            reason: Reason::Connect,
            detail: format!("{}: {error}", self.address),
        };
        Ok(match &self.address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
            Address::Tls { .. } => unreachable!("no target's address is one for TLS"),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        })
    }
}

async fn exchange(stream: &mut dyn Stream, frame: &[u8]) -> Result<(ReplyHeader, Vec<u8>), Failure> {
    let cut = |error: std::io::Error| Failure { reason: Reason::Cut, detail: error.to_string() };
    stream.write_all(frame).await.map_err(cut)?;
    let mut header = [0; size_of::<ReplyHeader>()];
    stream.read_exact(&mut header).await.map_err(cut)?;
    let header = ReplyHeader::read_from_bytes(&header).expect("as many bytes as a header has");
    let length = header.length.get() as usize;
    let body = length.checked_sub(size_of::<ReplyHeader>()).filter(|body| *body <= ANSWER_COPY_BYTES_MAX);
    let Some(body) = body.filter(|_| header.version == VERSION) else {
        return Err(garbage(format!("length {length} and version {} are no reply's", header.version)));
    };
    let mut bytes = vec![0; body];
    stream.read_exact(&mut bytes).await.map_err(cut)?;
    Ok((header, bytes))
}

fn encode(request: &Request) -> Option<Vec<u8>> {
    let (opcode, user_id, body) = match &request.question {
        Question::Balance(user) => (Opcode::GetBalance, user.get(), Vec::new()),
        Question::Statistics(user, windows) => (Opcode::GetStatistics, user.get(), vec![windows.bits()]),
        Question::Balances(users) => {
            (Opcode::GetBalances, 0, users.iter().flat_map(|user| user.get().to_le_bytes()).collect())
        }
        Question::Other => return None,
    };
    let options = FreshnessOptions {
        min_version: request.freshness.min_version.into(),
        max_age_ms: request.freshness.max_age_ms.into(),
        wait_ms: request.freshness.wait_ms.into(),
    };
    let length = size_of::<RequestHeader>() + size_of::<FreshnessOptions>() + body.len();
    let header = RequestHeader {
        length: u32::try_from(length).ok()?.into(),
        version: VERSION,
        opcode: opcode as u8,
        encoding: Encoding::FlatBuffers as u8,
        flags: FLAG_FRESHNESS,
        request_id: 1.into(),
        user_id: user_id.into(),
    };
    Some([header.as_bytes(), options.as_bytes(), &body].concat())
}

pub(crate) fn decode(
    question: &Question,
    header: &ReplyHeader,
    body: &[u8],
) -> Result<(Status, Stated, Content), Failure> {
    let status = Status::try_from(header.status)
        .map_err(|unknown| garbage(NativeError::Status(unknown.0).to_string()))?;
    let stated = Stated {
        as_of_us: Some(header.as_of_us.get()),
        is_quarantined: header.flags.get() & florin_schema::frame::REPLY_QUARANTINED != 0,
        ..Stated::default()
    };
    if status != Status::Ok {
        return Ok((status, stated, answer::problem(status, &String::from_utf8_lossy(body))));
    }
    if header.encoding != Encoding::FlatBuffers as u8 {
        return Err(garbage(format!("encoding: expected 2 (FlatBuffers), got {}", header.encoding)));
    }
    let verified = |error: flatbuffers::InvalidFlatbuffer| NativeError::Verify(error.to_string());
    let content = match question {
        Question::Balance(_) => flatbuffers::root::<generated::Balance<'_>>(body)
            .map_err(verified)
            .and_then(|t| answer::balance_flat(&t)),
        Question::Statistics(..) => flatbuffers::root::<generated::Statistics<'_>>(body)
            .map_err(verified)
            .and_then(|table| answer::statistics_flat(&table)),
        Question::Balances(_) | Question::Other => flatbuffers::root::<generated::Balances<'_>>(body)
            .map_err(verified)
            .and_then(|t| answer::batch_flat(&t)),
    };
    Ok((status, stated, content.map_err(|error| garbage(error.to_string()))?))
}

fn garbage(detail: String) -> Failure {
    Failure { reason: Reason::Protocol, detail }
}
