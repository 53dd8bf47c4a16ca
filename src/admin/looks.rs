//! The ways from the admin port to each shard's users: whoever looks at one asks the shard that has it.

use axum::http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::problem::Problem;
use crate::clock::Clock;
use crate::limits::{LOOK_ORDERS, LOOK_PAUSE, LOOK_WAIT};
use crate::node::LookPort;
use crate::shard::{Look, LookOrder};

/// The ways to each shard's users.
#[derive(Debug, Default)]
pub struct Looks(Vec<Mutex<LookPort>>);

impl From<Vec<LookPort>> for Looks {
    fn from(ports: Vec<LookPort>) -> Looks {
        Looks(ports.into_iter().map(Mutex::new).collect())
    }
}

impl Looks {
    /// A whole HTTP response, from the shard that has the user; one look at a time of each shard.
    pub(super) async fn ask(&self, look: Look, clock: &Clock) -> Result<Vec<u8>, Problem> {
        let unavailable = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        let shards = u16::try_from(self.0.len()).expect("at most SHARDS_MAX");
        if shards == 0 {
            return Err(unavailable("no shard can be looked at"));
        }
        let way = &self.0[usize::from(look.user().shard(shards).0)];
        let answered = timeout(LOOK_WAIT, async {
            let mut port = way.lock().await;
            // Who asked before may have gone before it was answered.
            while port.answer().is_some() {}
            if port.unanswered() >= LOOK_ORDERS {
                return None;
            }
            port.order(LookOrder { look, asked_by_us: clock.monotonic_us() });
            loop {
                match port.answer() {
                    Some(answer) if port.unanswered() == 0 => return Some(answer),
                    Some(_) => {}
                    None => sleep(LOOK_PAUSE).await,
                }
            }
        });
        answered.await.ok().flatten().ok_or_else(|| unavailable("the user's shard does not answer"))
    }
}
