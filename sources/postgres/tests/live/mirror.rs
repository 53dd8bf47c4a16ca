//! What is delivered of a real server's table.

use std::sync::Arc;

use florin_postgres::{PgLedger, PgSource, PgStatus, Target};

#[path = "../../../record/tests/mirror/mod.rs"]
mod shared;

pub use shared::eventually;

pub type Mirror = shared::Mirror<Arc<PgStatus>>;

impl Mirror {
    pub fn follow(target: Target) -> Mirror {
        let mut opened = None;
        eventually("the server is asked who it is", || {
            opened = PgLedger::open(target.clone()).inspect_err(|error| eprintln!("{error}")).ok();
            opened.is_some()
        });
        let source = PgSource::open(&opened.unwrap()).unwrap();
        let status = source.status();
        Mirror::over(source, status)
    }
}
