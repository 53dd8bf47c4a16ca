//! A way to a server on which things go wrong as they do on a network.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What happens to what travels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fine,
    /// It is lost, and nobody is told.
    Dropping,
    /// One bit of what comes at once is another one.
    Flipping,
    /// The connections end.
    Cut,
}

struct Way {
    to: Mutex<String>,
    delay: Mutex<Duration>,
    weather: Mutex<watch::Sender<Weather>>,
    accepted: AtomicUsize,
}

/// A way that begins at `address`. Dropping it ends its connections.
pub struct Path {
    pub address: String,
    way: Arc<Way>,
    task: AbortHandle,
}

impl Drop for Path {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Path {
    /// A way to `to`.
    pub async fn to(to: &str) -> Path {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let way = Arc::new(Way {
            to: Mutex::new(to.to_owned()),
            delay: Mutex::default(),
            weather: Mutex::new(watch::Sender::new(Weather::Fine)),
            accepted: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&way))).abort_handle();
        Path { address, way, task }
    }

    /// New connections lead to another address.
    pub fn lead(&self, to: &str) {
        *self.way.to.lock().unwrap() = to.to_owned();
    }

    /// Holds back for so long whatever comes from the server.
    pub fn delay(&self, delay: Duration) {
        *self.way.delay.lock().unwrap() = delay;
    }

    /// Loses all that travels on the connections that there are.
    pub fn drop_all(&self) {
        self.strike(Weather::Dropping);
    }

    /// Changes what travels on the connections that there are.
    pub fn flip(&self) {
        self.strike(Weather::Flipping);
    }

    /// Ends the connections that there are.
    pub fn cut(&self) {
        self.strike(Weather::Cut);
    }

    fn strike(&self, weather: Weather) {
        let old =
            std::mem::replace(&mut *self.way.weather.lock().unwrap(), watch::Sender::new(Weather::Fine));
        old.send_replace(weather);
        // Its receivers go on looking at it.
        std::mem::forget(old);
    }

    pub fn accepted(&self) -> usize {
        self.way.accepted.load(SeqCst)
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    let mut pairs = JoinSet::new();
    loop {
        let (here, _) = listener.accept().await.unwrap();
        way.accepted.fetch_add(1, SeqCst);
        let to = way.to.lock().unwrap().clone();
        let weather = way.weather.lock().unwrap().subscribe();
        let way = Arc::clone(&way);
        pairs.spawn(async move {
            let Ok(there) = TcpStream::connect(to).await else { return };
            let (here_in, here_out) = here.into_split();
            let (there_in, there_out) = there.into_split();
            tokio::select! {
                () = carry(here_in, there_out, None, weather.clone()) => {}
                () = carry(there_in, here_out, Some(&way), weather) => {}
            }
        });
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delayed: Option<&Way>,
    mut weather: watch::Receiver<Weather>,
) {
    let (mut buffer, mut flipped) = (vec![0; 64 * 1024], 0);
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = weather.wait_for(|weather| *weather == Weather::Cut) => return,
        };
        let bytes = match read {
            Ok(bytes @ 1..) => bytes,
            // The end of what is dropped is not told either.
            _ if *weather.borrow() == Weather::Dropping => return std::future::pending().await,
            _ => return,
        };
        let delay = delayed.map(|way| *way.delay.lock().unwrap()).unwrap_or_default();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let is = *weather.borrow();
        match is {
            Weather::Dropping => continue,
            Weather::Flipping => {
                flipped += 1;
                buffer[flipped * 7 % bytes] ^= 1 << (flipped % 8);
            }
            Weather::Fine | Weather::Cut => {}
        }
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
