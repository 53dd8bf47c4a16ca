//! Whether a thread sleeps, so that its neighbours pay for a wake-up only when one is needed.

use super::sync::{Alone, AtomicBool, Ordering, fence};

/// The flag that one sleeper shares with everybody who gives it work.
///
/// The sleeper: [`announce`](Parking::announce), look at every input once more, sleep only if all are empty, and
/// [`cancel`](Parking::cancel) afterwards. A giver: put the work there, then [`notify`](Parking::notify).
/// Either the sleeper's last look finds the work, or the giver finds the flag: never neither.
#[derive(Debug)]
pub struct Parking {
    parked: Alone<AtomicBool>,
}

impl Parking {
    /// A thread that is awake.
    pub fn new() -> Parking {
        Parking { parked: Alone(AtomicBool::new(false)) }
    }

    /// I am about to sleep. Look at every input once more after this, and before sleeping.
    #[inline]
    pub fn announce(&self) {
        self.parked.0.store(true, Ordering::Relaxed);
        // Pairs with the fence in `notify`: whichever comes second in the one order of such fences sees what the
        // other side wrote before its own. Without it the store could still sit in this core's buffer while the last
        // look reads an empty ring.
        fence(Ordering::SeqCst);
    }

    /// I am awake: nobody need ring.
    #[inline]
    pub fn cancel(&self) {
        self.parked.0.store(false, Ordering::Relaxed);
    }

    /// I have put work there. True if the sleeper had announced itself and nobody else has taken on to wake it: then
    /// the caller must wake it.
    #[inline]
    #[must_use = "a parked thread sleeps on unless it is woken"]
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        // The plain load keeps the line shared while the thread is awake; only a wake-up takes it.
        self.parked.0.load(Ordering::Relaxed) && self.parked.0.swap(false, Ordering::Relaxed)
    }
}

impl Default for Parking {
    fn default() -> Parking {
        Parking::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Parking;

    #[test]
    fn one_announcement_asks_for_one_wake_up() {
        let parking = Parking::new();
        assert!(!parking.notify());
        parking.announce();
        assert!(parking.notify());
        assert!(!parking.notify());
        parking.announce();
        parking.cancel();
        assert!(!parking.notify());
    }
}
