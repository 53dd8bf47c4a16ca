//! A florin node asked in its own protocol with rkyv bodies, through florin's client: what callers of it would see.

use std::time::{Duration, Instant};

use bytes::Bytes;
use florin_client::{Address, Client, Error, Freshness, Origin, Refusal, Retry, Version};
use florin_schema::Status;
use http::Method;
use rkyv::rancor;
use tokio::sync::Mutex;

use crate::answer::{self, Answer, Content, Form, Moment, Stated};
use crate::clock::now_us;
use crate::judge::{Failure, Reason};
use crate::limits::NATIVE_PAUSE;
use crate::request::{Question, Request};

/// Florin's client, made when it is first needed and the node is there.
pub struct NativeTarget {
    address: Address,
    link: Mutex<Link>,
}

enum Link {
    Connected(Client),
    /// Not since then.
    Down(Option<(Instant, String)>),
}

impl NativeTarget {
    /// Connects when it is first asked.
    pub fn new(address: Address) -> NativeTarget {
        NativeTarget { address, link: Mutex::new(Link::Down(None)) }
    }

    /// Asks, and waits for the answer. Whoever asks sees to it that the wait for a connection that others wait for as well
    /// ends in time.
    ///
    /// # Errors
    /// Where none came in time.
    pub async fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let asked_us = now_us();
        let client = self.client(timeout).await?.with_deadline(timeout).with_freshness(freshness(request));
        let (status, origin, content) = match &request.question {
            Question::Balance(user) => match client.get_balance(*user).await {
                Ok(reply) => (Status::Ok, origin(reply.origin()), answer::balance(&reply.to_record())),
                Err(error) => refused(error)?,
            },
            Question::Statistics(user, windows) => match client.get_statistics(*user, *windows).await {
                Ok(reply) => {
                    let content =
                        answer::statistics(&reply.to_record()).map_err(|error| Failure::protocol(&error))?;
                    (Status::Ok, origin(reply.origin()), content)
                }
                Err(error) => refused(error)?,
            },
            Question::Balances(users) => match client.get_balances(users).await {
                Ok(reply) => batch(&reply)?,
                Err(error) => refused(error)?,
            },
            Question::Other => {
                let detail = "it has no native form".to_owned();
                return Err(Failure { reason: Reason::NoNativeForm, detail });
            }
        };
        Ok(native_answer(request, status, origin, content, asked_us))
    }

    async fn client(&self, timeout: Duration) -> Result<Client, Failure> {
        let down = |detail: String| Failure { reason: Reason::Connect, detail };
        let mut link = self.link.lock().await;
        match &*link {
            Link::Connected(client) => return Ok(client.clone()),
            Link::Down(Some((since, why))) if since.elapsed() < NATIVE_PAUSE => {
                return Err(down(why.clone()));
            }
            Link::Down(_) => {}
        }
        let connect = Client::builder()
            .client_name(concat!("florin-shadow/", env!("CARGO_PKG_VERSION")))
            .retry(Retry::Never)
            .connect_timeout(timeout)
            .connect(self.address.clone());
        match connect.await {
            Ok(client) => {
                *link = Link::Connected(client.clone());
                Ok(client)
            }
            Err(error) => {
                *link = Link::Down(Some((Instant::now(), error.to_string())));
                Err(down(error.to_string()))
            }
        }
    }
}

type Decoded = (Status, Stated, Content);

fn freshness(request: &Request) -> Freshness {
    let asked = request.freshness;
    let version = Freshness::at_least(Version(asked.min_version));
    let aged = match asked.max_age_ms {
        0 => version,
        age => version.and_no_older_than(Duration::from_millis(age.into())),
    };
    aged.waiting(Duration::from_millis(asked.wait_ms.into()))
}

fn origin(origin: Origin) -> Stated {
    Stated { as_of_us: Some(origin.as_of_us), is_quarantined: origin.is_quarantined(), ..Stated::default() }
}

fn batch(reply: &florin_client::BalancesReply) -> Result<Decoded, Failure> {
    let mut entries = Vec::with_capacity(reply.len());
    for entry in reply.iter() {
        let record = entry.balance.map(rkyv::deserialize::<florin_schema::records::Balance, rancor::Error>);
        let record = record.transpose().map_err(|error| Failure::protocol(&error))?;
        entries.push((entry, record));
    }
    let is_quarantined = reply.parts().iter().any(|part| part.origin().is_quarantined());
    let stated = Stated { as_of_us: reply.as_of_us(), is_quarantined, ..Stated::default() };
    let entries = entries.iter().map(|(entry, record)| answer::BatchEntry {
        user_id: entry.user_id.get(),
        status: entry.status,
        is_quarantined: entry.is_quarantined,
        balance: record.as_ref(),
    });
    Ok((Status::Ok, stated, answer::batch(entries)))
}

/// A refusal is an answer; everything else is none.
fn refused(error: Error) -> Result<Decoded, Failure> {
    let status = error.status();
    match (status, error) {
        (
            Some(status),
            Error::NotFound(refusal)
            | Error::InvalidRequest(refusal)
            | Error::Stale(refusal)
            | Error::Unavailable(refusal)
            | Error::Overloaded(refusal)
            | Error::Unauthenticated(refusal)
            | Error::PermissionDenied(refusal)
            | Error::Internal(refusal),
        ) => {
            let Refusal { as_of_us, is_quarantined, .. } = refusal;
            let stated = Stated { as_of_us: Some(as_of_us), is_quarantined, ..Stated::default() };
            Ok((status, stated, answer::problem(status, &refusal.message)))
        }
        (_, error) => Err(Failure { reason: reason(&error), detail: error.to_string() }),
    }
}

fn reason(error: &Error) -> Reason {
    use florin_client::Disconnect;
    match error {
        Error::Deadline { .. } => Reason::Timeout,
        Error::Disconnected { cause: Disconnect::Silent(_) | Disconnect::Dripped { .. }, .. } => {
            Reason::Timeout
        }
        Error::Disconnected {
            cause:
                Disconnect::Connect(_)
                | Disconnect::ConnectTimeout(_)
                | Disconnect::NoHello(_)
                | Disconnect::Connecting,
            ..
        } => Reason::Connect,
        Error::Disconnected { .. } => Reason::Cut,
        _ => Reason::Protocol,
    }
}

/// A native answer, with the JSON that HTTP would have had.
pub(super) fn native_answer(
    request: &Request,
    status: Status,
    stated: Stated,
    Content { json, version }: Content,
    asked_us: i64,
) -> Answer {
    Answer {
        status: status.http_code(),
        form: Form::Native,
        stated: Stated { version, ..stated },
        // HEAD asks for everything but the body.
        body: if request.method == Method::HEAD { Bytes::new() } else { Bytes::from(json) },
        packed: None,
        at: Moment { asked_us, answered_us: now_us() },
    }
}
