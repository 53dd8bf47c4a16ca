//! The calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use florin_schema::records::{Balance, Balances, Statistics};
use florin_schema::{Opcode, Status, UserId, WindowMask};
use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use crate::asking::Asking;
use crate::batch::{self, BalancesReply, Outcome, Part};
use crate::builder::{Builder, Retry, Settings};
use crate::connection::read::RawReply;
use crate::counters::{Counters, NodePool};
use crate::fleet::Fleet;
use crate::hooks::Watch;
use crate::reply::{self, Origin, Reply};
use crate::request::{Freshness, Request};
use crate::seen::Shown;
use crate::topology::Route;
use crate::{Address, Addresses, Error, ProtocolError};

/// A client of one node, or of several that follow the same ledger. Clones are cheap and share its connections; each carries its own deadline and freshness.
///
/// Calls may be dropped at any time: the reply is discarded when it comes. Call from as many tasks as you like, on one
/// client: the more call at once, the more of their requests share a write.
#[derive(Clone)]
pub struct Client {
    fleet: Arc<Fleet>,
    deadline: Duration,
    freshness: Freshness,
}

impl Client {
    /// Connects with the default settings: to `host:port`, where the node's any-shard listener is, to `unix:/path`, or to
    /// several nodes of one ledger, `a:7400,b:7400`.
    ///
    /// ```no_run
    /// use florin_client::{Asset, Client, UserId};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("127.0.0.1:7400").await?;
    /// let balance = client.get_balance(UserId::new(42).ok_or("no user id")?).await?;
    /// if let Some(coins) = balance.of(Asset::parse(b"COIN")?) {
    ///     println!("{} available, {} held, as of version {}", coins.available, coins.held, balance.version());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Builder::connect`].
    pub async fn connect<A>(address: A) -> Result<Client, Error>
    where
        A: TryInto<Addresses>,
        Error: From<A::Error>,
    {
        Builder::default().connect(address).await
    }

    /// For other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn open(addresses: &Addresses, settings: Settings) -> Result<Client, Error> {
        let deadline = settings.deadline;
        let tls = settings.connector(addresses)?;
        let fleet = Arc::new(Fleet::open(addresses.as_slice(), settings, tls).await?);
        Ok(Client { fleet, deadline, freshness: Freshness::default() })
    }

    /// This client, whose calls take at most so long, waits for a connection and retries included.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client { deadline, ..self.clone() }
    }

    /// This client, whose answers satisfy `freshness`.
    #[must_use]
    pub fn with_freshness(&self, freshness: Freshness) -> Client {
        Client { freshness, ..self.clone() }
    }

    /// The balances of one user.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the ledger has never named the user; any other [`Error`] where there is no answer.
    pub async fn get_balance(&self, user_id: UserId) -> Result<Reply<Balance>, Error> {
        let request = self.request(Opcode::GetBalance, user_id.get(), &[]);
        let read = |address: &Address, raw| {
            let answer: Reply<Balance> = reply::read(address, Opcode::GetBalance, raw)?;
            check_user(address, user_id, answer.user_id.to_native())?;
            Ok(answer)
        };
        self.watched("GetBalance", 1, Route::Owner(user_id), &request, &read).await
    }

    /// The statistics of one user in the windows of `windows`.
    ///
    /// # Errors
    /// As [`Client::get_balance`].
    pub async fn get_statistics(
        &self,
        user_id: UserId,
        windows: WindowMask,
    ) -> Result<Reply<Statistics>, Error> {
        let mask = [windows.bits()];
        let request = self.request(Opcode::GetStatistics, user_id.get(), &mask);
        let read = |address: &Address, raw| {
            let answer: Reply<Statistics> = reply::read(address, Opcode::GetStatistics, raw)?;
            check_user(address, user_id, answer.user_id.to_native())?;
            check_windows(address, windows, &answer)?;
            Ok(answer)
        };
        self.watched("GetStatistics", 1, Route::Owner(user_id), &request, &read).await
    }

    /// The balances of any number of users, in the order asked, duplicates included: one frame to each owning shard, and
    /// more than one where a shard owns more than 1,024 of them, all in flight together. Each entry has its own status: where nobody
    /// answers about some of the users until the deadline, the others have their balances, and these say UNAVAILABLE, OVERLOADED or STALE.
    ///
    /// # Errors
    /// Where nobody has answered about any of them, or where a frame fails in a way that somebody has to do something about.
    pub async fn get_balances(&self, users: &[UserId]) -> Result<BalancesReply, Error> {
        let watch = Watch::begin(&self.fleet, "GetBalances", users.len());
        let answer = self.get_parts(users, watch.as_ref()).await;
        Watch::end(watch, &self.fleet, &answer);
        answer
    }

    /// Asks for all of them; for those again, and split anew, whose nodes did not have one of a frame's users.
    async fn get_parts(&self, users: &[UserId], watch: Option<&Watch>) -> Result<BalancesReply, Error> {
        let (began, mut rounds) = (Instant::now(), 0);
        let mut answer = BalancesReply::of(users);
        let mut refused = None;
        let mut open: Vec<usize> = (0..users.len()).collect();
        while !open.is_empty() {
            let client = self.with_deadline(self.deadline.saturating_sub(began.elapsed()));
            let asked: Vec<UserId> = open.iter().map(|&index| users[index]).collect();
            let divided = self.fleet.epoch();
            let (parts, places) = batch::split(&asked, self.fleet.groups());
            let outcomes =
                try_join_all(parts.iter().map(|part| client.get_part(part, divided, watch))).await?;
            refused = outcomes.iter().find_map(Outcome::refusal).or(refused);
            open = answer.add(open, &places, outcomes);
            if !open.is_empty() && rounds > 0 {
                sleep(Fleet::pause(rounds)).await;
            }
            rounds += 1;
        }
        match refused {
            Some(Error::Deadline { last, .. }) if answer.parts().is_empty() => {
                Err(Error::Deadline { after: self.deadline, last })
            }
            Some(error) if answer.parts().is_empty() => Err(error),
            _ => Ok(answer),
        }
    }

    /// What becomes of one frame. It has moved where the node does not have one of its users, and another map is known by now than
    /// that of the epoch `divided`.
    async fn get_part(&self, part: &Part, divided: u64, watch: Option<&Watch>) -> Result<Outcome, Error> {
        let body = part.body();
        let request = self.request(Opcode::GetBalances, 0, &body);
        let read = |address: &Address, raw| {
            let answer: Reply<Balances> = reply::read(address, Opcode::GetBalances, raw)?;
            check_entries(address, &part.users, &answer)?;
            Ok(answer)
        };
        match self.call(Route::Owner(part.users[0]), &request, Some(divided), watch, &read).await {
            Err(Error::NotOwner(_)) if self.fleet.common().settings.retry != Retry::Never => {
                Ok(Outcome::Moved)
            }
            Err(error) if error.entry_status().is_some() => Ok(Outcome::Refused(error)),
            answer => answer.map(Outcome::Answered),
        }
    }

    /// Sends `payload`, at most 1,024 bytes, and waits for its echo.
    ///
    /// # Errors
    /// Where none comes, or another.
    pub async fn ping(&self, payload: &[u8]) -> Result<Origin, Error> {
        let request = Request { freshness: Freshness::NONE, ..self.request(Opcode::Ping, 0, payload) };
        let read = |address: &Address, raw: RawReply| {
            reply::check_header(address, Opcode::Ping, &raw)?;
            if raw.body() != payload {
                let error = ProtocolError::Body("expected the payload's echo".to_owned());
                return Err(Error::Protocol { address: address.clone(), error });
            }
            Ok(Origin::of(&raw))
        };
        self.watched("Ping", 0, Route::Any, &request, &read).await
    }

    /// How many shards the node has.
    pub fn shards(&self) -> u16 {
        self.fleet.first().map().shards
    }

    /// The server's name and version.
    pub fn server(&self) -> String {
        self.fleet.first().map().server.clone()
    }

    /// What this client and its clones have done so far.
    pub fn counters(&self) -> Counters {
        self.fleet.common().tally.read()
    }

    /// How its connections stand at the moment, node by node in the order given.
    pub fn pool(&self) -> Vec<NodePool> {
        self.fleet.pools()
    }

    fn request<'a>(&self, opcode: Opcode, user_id: u64, body: &'a [u8]) -> Request<'a> {
        Request { opcode, user_id, freshness: self.freshness, body }
    }

    /// Calls, and tells of it.
    async fn watched<T: Shown>(
        &self,
        operation: &'static str,
        users: usize,
        route: Route,
        request: &Request<'_>,
        read: &impl Fn(&Address, RawReply) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let watch = Watch::begin(&self.fleet, operation, users);
        let answer = self.call(route, request, None, watch.as_ref(), read).await;
        Watch::end(watch, &self.fleet, &answer);
        answer
    }

    /// Asks, on whichever connection is right, until there is an answer or the deadline has passed.
    async fn call<T: Shown>(
        &self,
        route: Route,
        request: &Request<'_>,
        divided: Option<u64>,
        watch: Option<&Watch>,
        read: &impl Fn(&Address, RawReply) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut last = None;
        let asking = Asking { fleet: &self.fleet, route, request, divided, watch, read };
        let answer = timeout(self.deadline, asking.until_answered(&mut last)).await;
        answer.unwrap_or_else(|_| Err(Error::Deadline { after: self.deadline, last: last.map(Arc::new) }))
    }
}

fn check_user(address: &Address, expected: UserId, got: u64) -> Result<(), Error> {
    if expected.get() == got {
        return Ok(());
    }
    Err(Error::Protocol { address: address.clone(), error: ProtocolError::User { expected, got } })
}

fn check_windows(address: &Address, asked: WindowMask, answer: &Reply<Statistics>) -> Result<(), Error> {
    let listed = answer.statistics.iter().all(|asset| asset.windows.len() == asked.count());
    if answer.windows == asked.bits() && listed {
        return Ok(());
    }
    let error = ProtocolError::Windows { expected: asked.bits(), got: answer.windows };
    Err(Error::Protocol { address: address.clone(), error })
}

/// An entry for each user asked, in order, with a balance of its own where and only where its status is OK.
fn check_entries(address: &Address, asked: &[UserId], answer: &Reply<Balances>) -> Result<(), Error> {
    let garbage = |error| Err(Error::Protocol { address: address.clone(), error });
    if answer.entries.len() != asked.len() {
        return garbage(ProtocolError::Entries { expected: asked.len(), got: answer.entries.len() });
    }
    for (&user_id, entry) in asked.iter().zip(answer.entries.iter()) {
        check_user(address, user_id, entry.user_id.to_native())?;
        let Ok(status) = Status::try_from(entry.status) else {
            return garbage(ProtocolError::Status(entry.status));
        };
        match (status, entry.balance.as_ref()) {
            (Status::Ok, Some(balance)) => check_user(address, user_id, balance.user_id.to_native())?,
            (Status::Ok, None) => return garbage(ProtocolError::Body(format!("no balance of {user_id}"))),
            (_, None) => {}
            (_, Some(_)) => {
                return garbage(ProtocolError::Body(format!(
                    "a balance of {user_id} with {}",
                    status.name()
                )));
            }
        }
    }
    Ok(())
}
