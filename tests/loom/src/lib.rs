//! The sources of `florin_core::mesh` themselves, built on loom's atomics. `cargo test -p florin-loom` (or the whole workspace) tries every
//! interleaving that the memory model allows, within the bounds each test states.

extern crate alloc;

#[path = "../../../core/src/mesh/mod.rs"]
pub mod mesh;

#[cfg(test)]
mod tests {
    use loom::{
        model::Builder,
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };
    use std::sync::atomic::Ordering;

    use super::mesh::{Latest, Parking, ring};

    /// Every interleaving with at most this many preemptions; loom's authors found 2 to 3 to show nearly all defects.
    const PREEMPTIONS_MAX: usize = 3;

    fn every_interleaving(of: impl Fn() + Sync + Send + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS_MAX);
        builder.check(of);
    }

    #[test]
    fn a_ring_delivers_every_message_once_and_in_order() {
        every_interleaving(|| {
            let (mut sender, mut receiver) = ring(2);
            let producer = thread::spawn(move || {
                for message in 0..4_u32 {
                    // The box makes loom see the allocation too: a message lost or taken twice is a leak or a panic.
                    let mut message = Box::new(message);
                    while let Err(back) = sender.push(message) {
                        message = back;
                        thread::yield_now();
                    }
                }
            });
            let mut expected = 0;
            while expected < 4 {
                match receiver.pop() {
                    Some(message) => {
                        assert_eq!(*message, expected);
                        expected += 1;
                    }
                    None => thread::yield_now(),
                }
            }
            producer.join().unwrap();
            assert!(receiver.is_empty());
        });
    }

    #[test]
    fn what_a_ring_still_holds_is_dropped_by_whoever_goes_last() {
        every_interleaving(|| {
            let dropped = Arc::new(AtomicUsize::new(0));
            let (mut sender, mut receiver) = ring(2);
            let counted = Arc::clone(&dropped);
            let producer = thread::spawn(move || {
                for _ in 0..2 {
                    assert!(sender.push(Counted(Arc::clone(&counted))).is_ok());
                }
            });
            drop(receiver.pop());
            drop(receiver);
            producer.join().unwrap();
            assert_eq!(dropped.load(Ordering::SeqCst), 2);
        });
    }

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_parked_thread_has_seen_the_work_or_is_woken() {
        every_interleaving(|| {
            let parking = Arc::new(Parking::new());
            let (mut sender, receiver) = ring(2);
            let giver = Arc::clone(&parking);
            let giver = thread::spawn(move || {
                sender.push(1_u32).unwrap();
                giver.notify()
            });
            parking.announce();
            let saw_work = !receiver.is_empty();
            let rung = giver.join().unwrap();
            assert!(saw_work || rung, "the work lies there, and nobody will wake the sleeper");
        });
    }

    #[test]
    fn two_givers_wake_one_sleeper_at_most_once() {
        every_interleaving(|| {
            let parking = Arc::new(Parking::new());
            let (mut first, first_ring) = ring(2);
            let (mut second, second_ring) = ring(2);
            let givers = [
                {
                    let parking = Arc::clone(&parking);
                    thread::spawn(move || {
                        first.push(1_u32).unwrap();
                        parking.notify()
                    })
                },
                {
                    let parking = Arc::clone(&parking);
                    thread::spawn(move || {
                        second.push(2_u32).unwrap();
                        parking.notify()
                    })
                },
            ];
            parking.announce();
            let saw_all_work = !first_ring.is_empty() && !second_ring.is_empty();
            let wakes = givers.map(|giver| usize::from(giver.join().unwrap())).into_iter().sum::<usize>();
            assert!(wakes <= 1);
            assert!(saw_all_work || wakes == 1);
        });
    }

    #[test]
    fn a_reader_of_latest_never_sees_halves_of_two_stores() {
        every_interleaving(|| {
            let latest = Arc::new(Latest::new());
            let writer = Arc::clone(&latest);
            let writer = thread::spawn(move || {
                for n in 1..=3 {
                    writer.store(n, n.unsigned_abs() * 10);
                }
            });
            let mut before = 0;
            for _ in 0..2 {
                let (a, b) = latest.load();
                assert_eq!(b, a.unsigned_abs() * 10);
                assert!(a >= before);
                before = a;
            }
            writer.join().unwrap();
            assert_eq!(latest.load(), (3, 30));
        });
    }
}
