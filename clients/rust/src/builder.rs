//! Settings, each with a default that suits most callers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use florin_schema::frame::{HELLO_CLIENT_BYTES_MAX, HELLO_TOKEN_BYTES_MAX};
use rand::Rng;

use crate::limits::WANTED_AFTER;
use crate::tls::{Connector, Tls, TlsError};
use crate::{Address, Addresses, Client, Error, Hedge, Hooks};

/// Which connections a call may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Routing {
    /// To the port of the shard that owns the user; while that cannot be reached, and where there is none (a unix
    /// socket), to the address that was given, where any shard answers.
    #[default]
    ShardPorts,
    /// To the port of the shard that owns the user, or not at all. Connecting fails where a port cannot be reached.
    ShardPortsOnly,
    /// To the address that was given, whoever owns the user.
    AnyPort,
}

/// What a call does when its connection ends before the answer has come, and when the node cannot answer at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retry {
    /// It asks again, until its deadline: as soon as there is a connection, and, of a node that warms up or is about to
    /// end, a little later. So a restart costs it time and no error. Safe: calls only read.
    #[default]
    UntilDeadline,
    /// It fails with [`Error::Disconnected`] or [`Error::Unavailable`].
    Never,
}

/// How long to wait before the next attempt to connect: a random time (full jitter) up to a bound that doubles with each
/// failure, so that the clients of a node that restarts do not come back all at once. A node that nodes say is there, or that a call
/// waits for where no other can answer it, is tried again after 250 ms at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The bound of the first wait.
    pub first: Duration,
    /// The bound that no wait exceeds.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_millis(10), most: Duration::from_secs(2) }
    }
}

impl Backoff {
    pub(crate) fn pause(&self, failures: u32, random: &mut impl Rng) -> Duration {
        let bound = self.first.saturating_mul(2u32.saturating_pow(failures)).min(self.most);
        bound.mul_f64(random.random())
    }

    /// After how much of a pause the attempt may be made that somebody waits for: never so soon that many who wait are a storm.
    pub(crate) fn least(pause: Duration, random: &mut impl Rng) -> Duration {
        WANTED_AFTER.mul_f64(random.random_range(0.5..1.0)).min(pause)
    }
}

/// Finds a name's addresses.
pub(crate) type Resolver = Box<dyn Fn(&str, u16) -> Resolving + Send + Sync>;
type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// What the builder has gathered.
pub(crate) struct Settings {
    pub client_name: String,
    pub token: String,
    pub tls: Option<Tls>,
    pub routing: Routing,
    pub retry: Retry,
    pub backoff: Backoff,
    pub connections_per_shard: usize,
    pub in_flight_max: usize,
    pub connect_timeout: Duration,
    pub stall_after: Duration,
    pub silence_max: Duration,
    pub deadline: Duration,
    pub hedge: Option<Hedge>,
    pub hooks: Option<Box<dyn Hooks>>,
    /// The host's own where there is none.
    pub resolver: Option<Resolver>,
}

/// Builds a [`Client`] with other settings than the defaults.
///
/// ```no_run
/// use std::time::Duration;
/// use florin_client::{Client, Retry, Routing};
///
/// # async fn example() -> Result<(), florin_client::Error> {
/// let client = Client::builder()
///     .client_name("checkout/2.1")
///     .deadline(Duration::from_millis(100))
///     .connections_per_shard(2)
///     .routing(Routing::ShardPortsOnly)
///     .retry(Retry::Never)
///     .connect("florin.internal:7400")
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    pub(crate) settings: Settings,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            settings: Settings {
                client_name: concat!("florin-client/", env!("CARGO_PKG_VERSION")).to_owned(),
                token: String::new(),
                tls: None,
                routing: Routing::default(),
                retry: Retry::default(),
                backoff: Backoff::default(),
                connections_per_shard: 1,
                in_flight_max: 4_096,
                connect_timeout: Duration::from_secs(2),
                stall_after: Duration::from_millis(250),
                silence_max: Duration::from_secs(10),
                deadline: Duration::from_secs(2),
                hedge: None,
                hooks: None,
                resolver: None,
            },
        }
    }
}

impl Builder {
    /// The caller's name and version, for the server's logs and metrics; at most 64 bytes.
    pub fn client_name(mut self, name: impl Into<String>) -> Builder {
        self.settings.client_name = name.into();
        self
    }

    /// What proves the caller, where the server asks for it; at most 1,024 bytes.
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.settings.token = token.into();
        self
    }

    /// Whom nodes of a `florins://` address must be, and who the caller is; left out, nodes may be of any authority that this
    /// host trusts, and the caller shows no certificate.
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.settings.tls = Some(tls);
        self
    }

    /// Which connections a call may take.
    pub fn routing(mut self, routing: Routing) -> Builder {
        self.settings.routing = routing;
        self
    }

    /// What a call does when its connection ends before the answer has come, or the node cannot answer.
    pub fn retry(mut self, retry: Retry) -> Builder {
        self.settings.retry = retry;
        self
    }

    /// How long to wait between attempts to connect.
    pub fn backoff(mut self, backoff: Backoff) -> Builder {
        self.settings.backoff = backoff;
        self
    }

    /// Connections to each shard, taken in turn; default 1. One is enough until its reader's core is: fewer connections
    /// coalesce more requests into each write.
    pub fn connections_per_shard(mut self, connections: usize) -> Builder {
        self.settings.connections_per_shard = connections;
        self
    }

    /// Requests in flight on one connection, at most; default 4,096. Callers beyond them wait.
    pub fn in_flight_max(mut self, requests: usize) -> Builder {
        self.settings.in_flight_max = requests;
        self
    }

    /// How long one attempt to connect may take, Hello included; default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// After how long without one byte, while requests are unanswered, others are asked meanwhile and another connection is
    /// made; if that succeeds, the calls under way move there. Default 250 ms. Time for which the server may hold a request
    /// ([`crate::Freshness::waiting`]) does not count. Not with [`Retry::Never`].
    pub fn stall_after(mut self, silence: Duration) -> Builder {
        self.settings.stall_after = silence;
        self
    }

    /// After how long without one byte, while requests are unanswered, a connection is given up; default 10 s. Keep it
    /// above the second for which a server may hold a request.
    pub fn silence_max(mut self, silence: Duration) -> Builder {
        self.settings.silence_max = silence;
        self
    }

    /// How long a call may take; default 2 s. See [`Client::with_deadline`].
    pub fn deadline(mut self, deadline: Duration) -> Builder {
        self.settings.deadline = deadline;
        self
    }

    /// Sends a second request where the first takes long; left out, none is ever sent.
    pub fn hedge(mut self, hedge: Hedge) -> Builder {
        self.settings.hedge = Some(hedge);
        self
    }

    /// Who is told what the client does, for traces and metrics; left out, nobody.
    pub fn hooks(mut self, hooks: impl Hooks) -> Builder {
        self.settings.hooks = Some(Box::new(hooks));
        self
    }

    /// How names are resolved, given a name and a port; left out, as the host does. Each connection asks anew, for a node may have
    /// moved, and tries all addresses, those that take long beside each other.
    pub fn resolver<F>(mut self, resolve: impl Fn(&str, u16) -> F + Send + Sync + 'static) -> Builder
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.settings.resolver = Some(Box::new(move |host, port| Box::pin(resolve(host, port))));
        self
    }

    /// Connects and learns the shard map; of several nodes, one that answers is enough. Needs a tokio runtime with its I/O and time drivers enabled.
    ///
    /// # Errors
    /// Where the address cannot be reached, the server refuses the Hello or has another rkyv layout, a setting is out
    /// of its range, or TLS's files are of no use.
    pub async fn connect<A>(self, address: A) -> Result<Client, Error>
    where
        A: TryInto<Addresses>,
        Error: From<A::Error>,
    {
        self.settings.check()?;
        Client::open(&address.try_into()?, self.settings).await
    }
}

impl Settings {
    /// How connections by TLS are made; `None` where no address is one.
    pub fn connector(&self, addresses: &Addresses) -> Result<Option<Connector>, Error> {
        let listed = addresses.as_slice();
        match (listed.iter().find(|address| !matches!(address, Address::Tls { .. })), &self.tls) {
            (None, tls) => Ok(Some(tls.clone().unwrap_or_default().connector()?)),
            (Some(_), None) => Ok(None),
            (Some(plain), Some(_)) => Err(TlsError::Plain(plain.clone()).into()),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let share = self.hedge.map_or(0, |hedge| hedge.share_thousandths());
        let ranges = [
            ("client_name", "at most 64 bytes", self.client_name.len(), 0..=HELLO_CLIENT_BYTES_MAX),
            ("token", "at most 1024 bytes", self.token.len(), 0..=HELLO_TOKEN_BYTES_MAX),
            ("connections_per_shard", "1 to 64", self.connections_per_shard, 1..=64),
            ("in_flight_max", "1 to 1048576", self.in_flight_max, 1..=1 << 20),
            ("hedge", "a share of 0 to 1000 thousandths", share, 0..=1_000),
        ];
        for (setting, expected, got, range) in ranges {
            if !range.contains(&got) {
                return Err(Error::Setting { setting, expected, got });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn pauses_are_jittered_and_their_bound_doubles_up_to_the_most() {
        let backoff = Backoff { first: Duration::from_millis(10), most: Duration::from_secs(2) };
        let mut random = StdRng::seed_from_u64(7);
        for (failures, bound_ms) in [(0, 10), (1, 20), (5, 320), (8, 2_000), (60, 2_000), (u32::MAX, 2_000)] {
            let pauses: Vec<Duration> = (0..1_000).map(|_| backoff.pause(failures, &mut random)).collect();
            let bound = Duration::from_millis(bound_ms);
            assert!(pauses.iter().all(|&pause| pause <= bound), "{failures} failures");
            // Full jitter: from nothing to the bound.
            assert!(pauses.iter().any(|&pause| pause < bound / 10), "{failures} failures");
            assert!(pauses.iter().any(|&pause| pause > bound * 9 / 10), "{failures} failures");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let named = |builder: Builder| match builder.settings.check().unwrap_err() {
            Error::Setting { setting, .. } => setting,
            other => panic!("{other}"),
        };
        assert_eq!(named(Builder::default().client_name("c".repeat(65))), "client_name");
        assert_eq!(named(Builder::default().token("t".repeat(1_025))), "token");
        assert_eq!(named(Builder::default().connections_per_shard(0)), "connections_per_shard");
        assert_eq!(named(Builder::default().in_flight_max(0)), "in_flight_max");
        assert_eq!(named(Builder::default().hedge(Hedge::at_p95().share(1.01))), "hedge");
        Builder::default().settings.check().unwrap();
    }
}
