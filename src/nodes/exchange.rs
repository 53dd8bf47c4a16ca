//! What the others know: each node asks each other for it, again and again, at the port where callers are answered.
//!
//! A task asks one peer. Few ask at a time, each for a moment at most, so that peers that are gone or stand still hold up nobody.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use florin_client::Tls;
use florin_core::nodes::{News, Place};
use florin_input::connections::Stream;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::config::{GroupConfig, shown};
use super::text::Tidings;
use crate::callers::SecretSource;
use crate::limits::{NODES_ASK, NODES_ASK_AGAIN, NODES_ASK_EVERY, NODES_ASKED_AT_ONCE, NODES_BYTES_MAX};
use crate::threads::{Vital, spawn_vital_task};

/// Who asks, and what proves that it may.
#[derive(Debug)]
struct Asking {
    token: Option<SecretSource>,
    tls: Option<Tls>,
    at_once: Semaphore,
}

/// The tasks, one for each peer. They end with this.
pub(super) struct Exchange {
    asking: Arc<Asking>,
    letters: mpsc::Sender<News>,
    peers: BTreeMap<Place, JoinHandle<()>>,
}

impl Exchange {
    /// Asks nobody yet.
    pub(super) fn new(config: &GroupConfig, letters: mpsc::Sender<News>) -> Exchange {
        let at_once = Semaphore::new(NODES_ASKED_AT_ONCE);
        let asking = Arc::new(Asking { token: config.token.clone(), tls: config.asking(), at_once });
        Exchange { asking, letters, peers: BTreeMap::new() }
    }

    /// From now on these are asked, and no others. In the runtime that the tasks are to run on.
    pub(super) fn ask(&mut self, places: impl IntoIterator<Item = Place>) {
        let mut before = std::mem::take(&mut self.peers);
        for place in places {
            let task = before.remove(&place).unwrap_or_else(|| {
                let (asking, letters) = (Arc::clone(&self.asking), self.letters.clone());
                spawn_vital_task(Vital::Nodes, ask_for_ever(place.clone(), asking, letters))
            });
            self.peers.insert(place, task);
        }
        before.values().for_each(JoinHandle::abort);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peers.values().for_each(JoinHandle::abort);
    }
}

/// Why a peer has said nothing.
#[derive(Debug, thiserror::Error)]
enum NoLetter {
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] florin_client::TlsError),
    #[error("the token that proves who asks cannot be had: {0}")]
    Token(#[from] crate::callers::SecretError),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error(
        "expected 200, got {0}: where callers have to prove who they are, nodes do so with --group-token-file, or by their certificates"
    )]
    Status(StatusCode),
    #[error("its answer was cut, or has more than {NODES_BYTES_MAX} bytes: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Text(#[from] super::text::TextError),
    #[error("it has not answered within {NODES_ASK:?}")]
    TooSlow,
}

async fn ask_for_ever(place: Place, asking: Arc<Asking>, letters: mpsc::Sender<News>) {
    let (mut way, mut last, mut complaint) = (None, None, String::new());
    loop {
        Vital::Nodes.at_work();
        let permit = asking.at_once.acquire().await;
        let answer = timeout(NODES_ASK, asked(&mut way, &place, &asking)).await;
        drop(permit);
        let heard = answer.unwrap_or(Err(NoLetter::TooSlow)).and_then(|body| read(&mut last, body));
        let pause = match heard {
            Ok(news) => {
                if !std::mem::take(&mut complaint).is_empty() {
                    tracing::info!(node = shown(&place), "the node answers again");
                }
                if letters.send(news).await.is_err() {
                    return;
                }
                NODES_ASK_EVERY
            }
            Err(why) => {
                way = None;
                let why = why.to_string();
                if complaint != why {
                    tracing::warn!(node = shown(&place), "a node is not heard: {why}");
                    complaint = why;
                }
                NODES_ASK_AGAIN
            }
        };
        sleep(pause).await;
    }
}

/// What an answer says: most say the same as the one before.
fn read(last: &mut Option<(Bytes, News)>, body: Bytes) -> Result<News, NoLetter> {
    if let Some((_, news)) = last.as_ref().filter(|(before, _)| *before == body) {
        return Ok(news.clone());
    }
    let news = Tidings::read(&body)?.news;
    Ok(last.insert((body, news)).1.clone())
}

/// One question, over the connection of the last one where that is still there.
async fn asked(
    way: &mut Option<SendRequest<Empty<Bytes>>>,
    place: &Place,
    asking: &Asking,
) -> Result<Bytes, NoLetter> {
    if way.as_ref().is_none_or(SendRequest::is_closed) {
        *way = Some(connected(place, asking).await?);
    }
    let sender = way.as_mut().expect("it was just made");
    sender.ready().await?;
    let mut request = Request::get("/v1/nodes").header(HOST, "florin");
    if let Some(token) = &asking.token {
        // It may have been replaced.
        let token = token.read()?;
        let value = HeaderValue::from_bytes(&[b"Bearer ", token.reveal()].concat());
        let mut value = value.map_err(io::Error::other)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Empty::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(NoLetter::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), NODES_BYTES_MAX).collect().await;
    Ok(body.map_err(NoLetter::Body)?.to_bytes())
}

async fn connected(place: &Place, asking: &Asking) -> Result<SendRequest<Empty<Bytes>>, NoLetter> {
    let Place { host, port, tls_port } = place;
    let stream: Box<dyn Stream> = match &asking.tls {
        Some(tls) if *tls_port > 0 => {
            // The files may have been replaced.
            let connector = tls.connector()?;
            let stream = TcpStream::connect((host.as_str(), *tls_port)).await?;
            Box::new(connector.secure(stream, host).await?)
        }
        _ => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
    };
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; why it broke is told to whoever asks next.
    spawn_vital_task(Vital::Nodes, async move { connection.await.ok() });
    Ok(sender)
}
