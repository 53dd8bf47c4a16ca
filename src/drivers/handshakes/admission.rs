//! How many handshakes there may be at once, and whose.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::limits::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use crate::tls::TlsTally;
use crate::tls::tally::Outcome;

/// All handshakes under way, the oldest first.
#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
    tally: Arc<TlsTally>,
}

#[derive(Debug, Default)]
struct State {
    admitted: u64,
    under_way: BTreeMap<u64, UnderWay>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct UnderWay {
    address: IpAddr,
    /// Dropped to end it.
    _end: oneshot::Sender<()>,
}

/// One handshake's place, as long as it lasts.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    number: u64,
    /// Resolves when it is to make room.
    pub(super) displaced: oneshot::Receiver<()>,
}

impl Admission {
    pub(super) fn new(tally: Arc<TlsTally>) -> Arc<Admission> {
        Arc::new(Admission { state: Mutex::default(), tally })
    }

    /// Lets one more begin, if its address may; where there are as many as there may be, the oldest makes room.
    pub(super) fn admit(self: &Arc<Admission>, address: IpAddr) -> Option<Place> {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        if state.by_address.get(&address).is_some_and(|&count| count >= HANDSHAKES_PER_ADDRESS_MAX) {
            self.tally.add(Outcome::Refused);
            return None;
        }
        if state.under_way.len() >= HANDSHAKES_MAX
            && let Some((&oldest, _)) = state.under_way.first_key_value()
        {
            state.end(oldest);
            self.tally.add(Outcome::Displaced);
        }
        let (end, displaced) = oneshot::channel();
        let number = state.admitted;
        state.admitted += 1;
        state.under_way.insert(number, UnderWay { address, _end: end });
        *state.by_address.entry(address).or_default() += 1;
        self.tally.set_under_way(state.under_way.len());
        Some(Place { admission: Arc::clone(self), number, displaced })
    }
}

impl State {
    fn end(&mut self, number: u64) {
        let Some(UnderWay { address, .. }) = self.under_way.remove(&number) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock().expect("nothing panics while it is held");
        state.end(self.number);
        self.admission.tally.set_under_way(state.under_way.len());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))
    }

    #[test]
    fn one_too_many_ends_the_oldest_and_one_address_takes_no_more_than_its_share() {
        let tally = Arc::<TlsTally>::default();
        let admission = Admission::new(Arc::clone(&tally));
        let mut places: Vec<_> =
            (0..HANDSHAKES_MAX).map(|number| admission.admit(address(number)).unwrap()).collect();
        assert!(places[0].displaced.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let one_more = admission.admit(address(HANDSHAKES_MAX)).unwrap();
        assert!(places[0].displaced.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert_eq!((tally.get(Outcome::Displaced), tally.under_way()), (1, HANDSHAKES_MAX as u64));
        drop((places, one_more));
        assert_eq!(tally.under_way(), 0);
        assert!(admission.state.lock().unwrap().by_address.is_empty());

        let greedy: Vec<_> = (0..HANDSHAKES_PER_ADDRESS_MAX).map(|_| admission.admit(address(7))).collect();
        assert!(greedy.iter().all(Option::is_some) && admission.admit(address(7)).is_none());
        assert!(admission.admit(address(8)).is_some(), "others still may");
        assert_eq!(tally.get(Outcome::Refused), 1);
    }
}
