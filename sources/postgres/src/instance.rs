//! Which run of which server is followed. A standby that was promoted, and a primary that came back after it was replaced, have
//! the same system identifier, database and tables as the server that is followed, and other commits. Reader and writer each
//! have connections of their own, which may lead to different ones: the one owner of what is followed is [`Followed`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::Failure;
use crate::wire::{Answer, Wire};

/// What a connection to it answers: as text, one row.
pub(crate) const WHO: &str = "(SELECT system_identifier FROM pg_control_system())::text, \
     ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint::text, \
     (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text";

/// One run of one server, from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instance {
    /// See [`crate::PgIdentity::system`].
    pub system: u64,
    /// The history that it writes.
    pub timeline: u32,
    /// When it was started, µs since 1970: of two servers in one timeline, which it is.
    pub started_us: i64,
}

impl Instance {
    /// From the three values of [`WHO`].
    pub(crate) fn of(row: &[Option<&str>]) -> Option<Instance> {
        let text = |at: usize| row.get(at).copied().flatten();
        Some(Instance {
            system: text(0)?.parse::<i64>().ok()?.cast_unsigned(),
            timeline: text(1)?.parse().ok()?,
            started_us: text(2)?.parse().ok()?,
        })
    }

    /// Asks who answers a connection.
    ///
    /// # Errors
    /// Where it does not say.
    pub(crate) async fn at(wire: &mut Wire) -> Result<Instance, Failure> {
        let answer: Vec<Answer> = wire.query(&format!("SELECT {WHO}")).await?;
        let row: Vec<Option<&str>> = answer.first().into_iter().flatten().map(Option::as_deref).collect();
        Instance::of(&row)
            .ok_or_else(|| Failure::Unavailable("the server does not say which one it is".to_owned()))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Instance { system, timeline, started_us } = self;
        let started = florin_record::time::text(*started_us);
        write!(f, "server {system}, timeline {timeline}, started at {started}")
    }
}

/// The server that is followed: told by who follows, asked by all who read or write beside it.
#[derive(Clone, Debug)]
pub struct Followed(Arc<Mutex<Instance>>);

impl Followed {
    /// At first it is the one that was found.
    pub fn new(found: Instance) -> Followed {
        Followed(Arc::new(Mutex::new(found)))
    }

    /// From here on it is this one.
    pub(crate) fn set(&self, instance: Instance) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = instance;
    }

    /// Which it is now.
    pub fn get(&self) -> Instance {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection leads to it.
    ///
    /// # Errors
    /// That it leads elsewhere, and what to do.
    pub fn check(&self, here: Instance) -> Result<(), String> {
        let followed = self.get();
        if here == followed {
            return Ok(());
        }
        Err(format!(
            "this is not the server that is followed ({followed}), but {here}: where a standby was promoted or the server restarted, it \
             is followed in a moment; where this lasts, two servers take writes: end the one that was replaced"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read_from_what_a_server_says() {
        let row = [Some("-1"), Some("2"), Some("1000000")];
        let instance = Instance::of(&row).unwrap();
        assert_eq!((instance.system, instance.timeline), (u64::MAX, 2));
        assert_eq!(Instance::of(&row[..2]), None);
        let followed = Followed::new(instance);
        assert_eq!(followed.check(instance), Ok(()));
        let promoted = Instance { timeline: 3, ..instance };
        assert!(followed.check(promoted).unwrap_err().contains("timeline 3, started at 1970-01-01T00:00:01"));
        followed.set(promoted);
        assert_eq!(followed.check(promoted), Ok(()));
    }
}
