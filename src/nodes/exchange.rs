//! What the others know: each node asks each other for it, again and again, at the port where callers are answered, and is told what is
//! new since it asked last over that connection.
//!
//! A task asks one peer, the more seldom the more peers there are, each time after another pause: so all are asked as if somebody drew a
//! few of them in each period, and what one knows reaches all within a few periods. Few ask at a time, each for a moment at most, so that
//! peers that are gone or stand still hold up nobody.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use florin_client::Tls;
use florin_core::nodes::{News, Place};
use florin_input::connections::Stream;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::config::{GroupConfig, shown};
use super::text;
use crate::callers::SecretSource;
use crate::clock::system_wall_us;
use crate::limits::{NODES_ASK, NODES_ASK_AGAIN, NODES_ASK_EVERY, NODES_ASKED_EACH, NODES_BYTES_MAX};
use crate::threads::{Vital, spawn_vital_task};

/// Who asks, and what proves that it may.
#[derive(Debug)]
struct Asking {
    config: GroupConfig,
    tls: Option<Tls>,
    at_once: Semaphore,
    /// How many there are to ask.
    peers: AtomicUsize,
}

impl Asking {
    /// Until a peer that has answered is asked again.
    fn pause(&self) -> Duration {
        let times = (self.peers.load(Relaxed) as f64 / NODES_ASKED_EACH as f64).max(1.0);
        NODES_ASK_EVERY.mul_f64(times * rand::rng().random_range(0.5..1.5))
    }
}

/// A connection to a peer.
#[derive(Debug)]
struct Way {
    sender: SendRequest<Empty<Bytes>>,
    /// What proves who asks, read with each connection: a peer that does not take it any more is asked over another.
    token: Option<HeaderValue>,
    /// Up to which version of what the peer knows this node has heard all. Of another life's it is of no use: that has another connection.
    heard: u64,
}

/// What a peer has told, and when it was asked for it.
pub(super) struct Letter {
    pub(super) news: News,
    pub(super) asked_us: u64,
}

struct Peer {
    task: JoinHandle<()>,
    /// Whether it is known to be there: otherwise it is asked for everything.
    is_known: Arc<AtomicBool>,
}

/// The tasks, one for each peer. They end with this.
pub(super) struct Exchange {
    asking: Arc<Asking>,
    letters: mpsc::Sender<Letter>,
    peers: BTreeMap<Place, Peer>,
}

impl Exchange {
    /// Asks nobody yet.
    pub(super) fn new(config: &GroupConfig, letters: mpsc::Sender<Letter>) -> Exchange {
        let at_once = Semaphore::new(NODES_ASKED_EACH);
        let (tls, config) = (config.asking(), config.clone());
        let asking = Arc::new(Asking { config, tls, at_once, peers: AtomicUsize::new(0) });
        Exchange { asking, letters, peers: BTreeMap::new() }
    }

    /// From now on these are asked, and no others: [`florin_core::nodes::Member::peers`]. In the runtime that the tasks are to run on.
    pub(super) fn ask(&mut self, places: &BTreeMap<Place, bool>) {
        if !self.peers.keys().eq(places.keys()) {
            self.replace(places);
        }
        for (peer, is_known) in self.peers.values().zip(places.values()) {
            peer.is_known.store(*is_known, Relaxed);
        }
    }

    fn replace(&mut self, places: &BTreeMap<Place, bool>) {
        self.asking.peers.store(places.len(), Relaxed);
        let mut before = std::mem::take(&mut self.peers);
        for place in places.keys() {
            let peer = before.remove(place).unwrap_or_else(|| {
                let (asking, letters) = (Arc::clone(&self.asking), self.letters.clone());
                let is_known = Arc::new(AtomicBool::new(false));
                let asks = ask_for_ever(place.clone(), asking, letters, Arc::clone(&is_known));
                Peer { task: spawn_vital_task(Vital::Nodes, asks), is_known }
            });
            self.peers.insert(place.clone(), peer);
        }
        before.values().for_each(|peer| peer.task.abort());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peers.values().for_each(|peer| peer.task.abort());
    }
}

/// Why a peer has said nothing.
#[derive(Debug, thiserror::Error)]
enum NoLetter {
    #[error("it cannot be reached: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] florin_client::TlsError),
    #[error(
        "it is at {0}, and whoever says so, or is on the way, would have the token of --group-token-file, and be believed: --tls-listen and \
         --group-tls-ca FILE on each node keep strangers out, or, where whoever is there may have it, set --insecure-listen on"
    )]
    Exposed(IpAddr),
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
    Text(#[from] text::TextError),
    #[error("it has not answered within {NODES_ASK:?}")]
    TooSlow,
}

async fn ask_for_ever(
    place: Place,
    asking: Arc<Asking>,
    letters: mpsc::Sender<Letter>,
    is_known: Arc<AtomicBool>,
) {
    let (mut way, mut complaint) = (None, String::new());
    loop {
        Vital::Nodes.at_work();
        let permit = asking.at_once.acquire().await;
        let asked_us = system_wall_us().cast_unsigned();
        let answer = timeout(NODES_ASK, asked(&mut way, &place, &asking, is_known.load(Relaxed))).await;
        drop(permit);
        let heard = answer.unwrap_or(Err(NoLetter::TooSlow));
        let pause = match heard {
            Ok(news) => {
                if !std::mem::take(&mut complaint).is_empty() {
                    tracing::info!(node = shown(&place), "the node answers again");
                }
                if letters.send(Letter { news, asked_us }).await.is_err() {
                    return;
                }
                asking.pause()
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

/// One question, over the connection of the last one where that is still there.
async fn asked(
    way: &mut Option<Way>,
    place: &Place,
    asking: &Asking,
    is_known: bool,
) -> Result<News, NoLetter> {
    if way.as_ref().is_none_or(|way| way.sender.is_closed()) {
        *way = Some(connected(place, asking).await?);
    }
    let Way { sender, token, heard } = way.as_mut().expect("it was just made");
    sender.ready().await?;
    let since = if is_known { *heard } else { 0 };
    let mut request = Request::get(format!("/v1/nodes?since={since}")).header(HOST, "florin");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token.clone());
    }
    let request = request.body(Empty::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(NoLetter::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), NODES_BYTES_MAX).collect().await;
    let news = text::read(&body.map_err(NoLetter::Body)?.to_bytes())?;
    *heard = news.version;
    Ok(news)
}

async fn connected(place: &Place, asking: &Asking) -> Result<Way, NoLetter> {
    let Place { host, port, tls_port } = place;
    let (stream, peer): (Box<dyn Stream>, IpAddr) = match &asking.tls {
        Some(tls) if *tls_port > 0 => {
            // The files may have been replaced.
            let connector = tls.connector()?;
            let stream = TcpStream::connect((host.as_str(), *tls_port)).await?;
            let peer = stream.peer_addr()?.ip();
            (Box::new(connector.secure(stream, host).await?), peer)
        }
        _ => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            let peer = stream.peer_addr()?.ip();
            (Box::new(stream), peer)
        }
    };
    let by_tls = asking.tls.is_some() && *tls_port > 0;
    if !asking.config.may_ask(peer, by_tls) {
        return Err(NoLetter::Exposed(peer));
    }
    let token = asking.config.token.as_ref().map(proof).transpose()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; why it broke is told to whoever asks next.
    spawn_vital_task(Vital::Nodes, async move { connection.await.ok() });
    Ok(Way { sender, token, heard: 0 })
}

fn proof(token: &SecretSource) -> Result<HeaderValue, NoLetter> {
    let value = HeaderValue::from_bytes(&[b"Bearer ", token.read()?.reveal()].concat());
    let mut value = value.map_err(io::Error::other)?;
    value.set_sensitive(true);
    Ok(value)
}
