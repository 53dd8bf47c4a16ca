//! Reading much of the ledger at once: several threads decode, one takes their rows in the order of commits.
//!
//! ```text
//!     reader 0:  stripe 0   stripe 2   stripe 4 …      each reader is at most two stripes ahead
//!     reader 1:     stripe 1   stripe 3   stripe 5 …
//!     taken:     0, 1, 2, 3, 4, 5 …
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::store::{LedgerRow, Reader, Seq, StoreError};

/// Places of one stripe: large enough that handing it over costs nothing, 512 KiB of rows.
const STRIPE: i64 = 8_192;
/// Stripes that a reader may be ahead: memory is bounded by readers × 3 × 512 KiB.
const STRIPES_AHEAD: usize = 2;
/// More readers would outrun the one thread that routes.
const READERS_MAX: usize = 4;

type Stripe = Result<Vec<LedgerRow>, StoreError>;

/// Gives `take` all rows after `after` up to `up_to`, in order, stripe by stripe, each with the place it ends at, until
/// that breaks or a stripe cannot be read.
pub(super) fn read<B>(
    ledger: &Path,
    after: Seq,
    up_to: Seq,
    mut take: impl FnMut(Vec<LedgerRow>, Seq) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, StoreError> {
    let readers = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(READERS_MAX));
    thread::scope(|scope| {
        let stripes: Vec<Receiver<Stripe>> = (0..readers)
            .map(|first| {
                let (sender, receiver) = sync_channel(STRIPES_AHEAD);
                let mine = ends(after, up_to).skip(first).step_by(readers);
                scope.spawn(move || read_stripes(ledger, mine, &sender));
                receiver
            })
            .collect();
        // Leaving early drops the receivers, which ends the readers.
        for ((_, end), reader) in ends(after, up_to).zip((0..readers).cycle()) {
            let rows = stripes[reader].recv().expect("a reader answers for each of its stripes")?;
            if let ControlFlow::Break(reason) = take(rows, end) {
                return Ok(ControlFlow::Break(reason));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn read_stripes(ledger: &Path, stripes: impl Iterator<Item = (Seq, Seq)>, sender: &SyncSender<Stripe>) {
    let reader = match Reader::open(ledger) {
        Ok(reader) => reader,
        Err(error) => {
            // Nobody listens any more if another reader has failed as well.
            let _ = sender.send(Err(error));
            return;
        }
    };
    for (after, end) in stripes {
        let mut rows = Vec::with_capacity(STRIPE as usize);
        let read = reader.range(after, end, STRIPE as usize, &mut rows);
        if sender.send(read.map(|()| rows)).is_err() {
            return;
        }
    }
}

/// Where each stripe begins (exclusive) and ends (inclusive).
fn ends(after: Seq, up_to: Seq) -> impl Iterator<Item = (Seq, Seq)> {
    let next = move |begin: Seq| (begin < up_to).then(|| Seq(begin.0.saturating_add(STRIPE)).min(up_to));
    std::iter::successors(next(after).map(|end| (after, end)), move |&(_, end)| {
        next(end).map(|last| (end, last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_meet_and_end_at_the_end() {
        let all = |after, up_to| ends(Seq(after), Seq(up_to)).map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>();
        assert_eq!(all(0, 0), []);
        assert_eq!(all(5, 6), [(5, 6)]);
        assert_eq!(all(0, 2 * STRIPE), [(0, STRIPE), (STRIPE, 2 * STRIPE)]);
        assert_eq!(all(-1, STRIPE), [(-1, STRIPE - 1), (STRIPE - 1, STRIPE)]);
        assert_eq!(all(i64::MAX - 1, i64::MAX), [(i64::MAX - 1, i64::MAX)]);
    }
}
