//! What a client tells of what it does.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use florin_schema::Status;

use crate::fleet::{Choice, Fleet};
use crate::{Address, Error};

/// Is told what a client does, for traces and metrics of any kind; see [`crate::Builder::hooks`]. A client without hooks pays nothing
/// for them. `tests/opentelemetry.rs` makes spans of OpenTelemetry.
///
/// None is told a user's id, for traces are often kept by others than those who may read accounts; a server's words, in an
/// [`Error`], may have one.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use std::sync::Arc;
/// use florin_client::{Client, Hooks, Outcome, RequestHooks, RequestInfo};
///
/// /// Counts calls by how they ended.
/// #[derive(Default)]
/// struct Counting {
///     answered: Arc<AtomicU64>,
///     failed: Arc<AtomicU64>,
/// }
///
/// struct Call(Arc<AtomicU64>, Arc<AtomicU64>);
///
/// impl Hooks for Counting {
///     fn request(&self, _request: &RequestInfo) -> Option<Box<dyn RequestHooks>> {
///         Some(Box::new(Call(Arc::clone(&self.answered), Arc::clone(&self.failed))))
///     }
/// }
///
/// impl RequestHooks for Call {
///     fn end(self: Box<Self>, outcome: &Outcome<'_>) {
///         let counter = if outcome.error.is_none() { &self.0 } else { &self.1 };
///         counter.fetch_add(1, Relaxed);
///     }
/// }
///
/// let builder = Client::builder().hooks(Counting::default());
/// # let _ = builder;
/// ```
pub trait Hooks: Send + Sync + 'static {
    /// A call begins, on the task that makes it: a context of that task is the call's. What is returned is told the rest of it; for
    /// `None` nothing is.
    fn request(&self, request: &RequestInfo) -> Option<Box<dyn RequestHooks>>;

    /// An attempt to connect has ended, Hello included.
    fn connect(&self, _connect: &ConnectInfo<'_>) {}
}

/// Is told of one call. A call that its caller drops before its end drops this, and tells no end.
pub trait RequestHooks: Send + Sync {
    /// A request is sent again.
    fn retry(&self, _retry: &RetryInfo<'_>) {}

    /// A second request is sent while the first is unanswered; see [`crate::Hedge`].
    fn hedge(&self, _hedge: &HedgeInfo<'_>) {}

    /// The call has ended.
    fn end(self: Box<Self>, outcome: &Outcome<'_>);
}

/// What a caller has asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RequestInfo {
    /// `GetBalance`, `GetStatistics`, `GetBalances` or `Ping`.
    pub operation: &'static str,
    /// How many users it names.
    pub users: usize,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// What was asked.
    pub request: RequestInfo,
    /// A name for metrics, one of few: `OK`, or [`Error::label`]. Of a batch that was answered it is `OK`: its entries have statuses of
    /// their own.
    pub status: &'static str,
    /// What the caller gets, where the call was not answered.
    pub error: Option<&'a Error>,
    /// The address, as the caller gave it, of the node that was asked last, or whose answer to a second request is the caller's; of a batch
    /// that was split, for any of its parts.
    pub node: Option<&'a Address>,
    /// How many requests were sent: one for each part of a batch, those that were sent again, and second ones.
    pub requests: u32,
    /// Whether a second request was sent, whether or not its answer came first.
    pub is_hedged: bool,
    /// How long the caller has waited.
    pub duration: Duration,
}

/// A request that is sent again.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RetryInfo<'a> {
    /// What was asked.
    pub request: RequestInfo,
    /// Counts from 1, the first time; here it is 2 or more.
    pub attempt: u32,
    /// The address, as the caller gave it, of the node that is asked now.
    pub node: &'a Address,
    /// What the attempt before ended with.
    pub error: &'a Error,
}

/// A second request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HedgeInfo<'a> {
    /// What was asked.
    pub request: RequestInfo,
    /// The address, as the caller gave it, of the node that was asked first.
    pub first: &'a Address,
    /// And of the one that is asked now; the same where another connection is.
    pub node: &'a Address,
    /// How long the first request has been unanswered.
    pub waited: Duration,
}

/// An attempt to connect that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectInfo<'a> {
    /// The node's address, as the caller gave it.
    pub node: &'a Address,
    /// Where this connection leads: to one of its shards, mostly.
    pub address: &'a Address,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed; `None` where there is a connection now.
    pub error: Option<&'a Error>,
}

/// A call that hooks are told of.
pub(crate) struct Watch {
    told: Box<dyn RequestHooks>,
    request: RequestInfo,
    began: Instant,
    requests: AtomicU32,
    is_hedged: AtomicBool,
    /// The place of the node that was asked last, if any was.
    node: AtomicUsize,
}

const NOBODY: usize = usize::MAX;

impl Watch {
    /// Tells of a call that begins; `None` where nobody wants to know.
    pub fn begin(fleet: &Fleet, operation: &'static str, users: usize) -> Option<Watch> {
        let hooks = fleet.common().settings.hooks.as_deref()?;
        let request = RequestInfo { operation, users };
        let began = Instant::now();
        let told = hooks.request(&request)?;
        Some(Watch {
            told,
            request,
            began,
            requests: AtomicU32::new(0),
            is_hedged: AtomicBool::new(false),
            node: AtomicUsize::new(NOBODY),
        })
    }

    /// Tells how the call ended.
    pub fn end<T>(watch: Option<Watch>, fleet: &Fleet, answer: &Result<T, Error>) {
        let Some(watch) = watch else { return };
        let error = answer.as_ref().err();
        let node = watch.node.load(Relaxed);
        let node = if node == NOBODY { None } else { fleet.address(node) };
        watch.told.end(&Outcome {
            request: watch.request,
            status: error.map_or(Status::Ok.name(), Error::label),
            error,
            node: node.as_ref(),
            requests: watch.requests.load(Relaxed),
            is_hedged: watch.is_hedged.load(Relaxed),
            duration: watch.began.elapsed(),
        });
    }

    /// A node is asked, for the `attempt`th time; `last` is what the one before ended with.
    pub fn asks(&self, fleet: &Fleet, choice: &Choice, attempt: u32, last: Option<&Error>) {
        self.requests.fetch_add(1, Relaxed);
        self.node.store(choice.place, Relaxed);
        if let Some(error) = last {
            let node = fleet.address(choice.place);
            let node = node.as_ref().unwrap_or(choice.connection.address());
            self.told.retry(&RetryInfo { request: self.request, attempt, node, error });
        }
    }

    /// A second request goes to `second`.
    pub fn hedges(&self, fleet: &Fleet, first: &Choice, second: &Choice, waited: Duration) {
        self.requests.fetch_add(1, Relaxed);
        self.is_hedged.store(true, Relaxed);
        let address = |choice: &Choice| {
            fleet.address(choice.place).unwrap_or_else(|| choice.connection.address().clone())
        };
        let (first, node) = (&address(first), &address(second));
        self.told.hedge(&HedgeInfo { request: self.request, first, node, waited });
    }

    /// It is the second request's answer that the caller gets.
    pub fn answered_by(&self, choice: &Choice) {
        self.node.store(choice.place, Relaxed);
    }
}
