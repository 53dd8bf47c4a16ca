//! A ring that is short of buffers, completions and submissions. The other drivers leave these to their runtimes, which take none of the
//! sizes that a test sets here.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use florin::drivers::{Spin, ring::RingSizes};

use super::IDLE;
use super::exhaustion::{allow_files, bursts};
use super::support::{Caller, ping, start_tiny};

#[test]
fn running_out_of_provided_buffers_delays_and_loses_nothing() {
    let node = start_tiny(RingSizes { buffers: 2, buffer_bytes: 64, ..RingSizes::default() });
    bursts(node.addresses().listen.unwrap(), 48, 50);
}

#[test]
fn running_out_of_completions_delays_and_loses_nothing() {
    let node = start_tiny(RingSizes { submissions: 2, completions: 4, ..RingSizes::default() });
    bursts(node.addresses().listen.unwrap(), 48, 50);
}

#[test]
fn running_out_of_both_delays_and_loses_nothing() {
    let sizes = RingSizes {
        submissions: 1,
        completions: 2,
        buffers: 1,
        buffer_bytes: 32,
        connections: 64,
        spin: Spin::default(),
    };
    let node = start_tiny(sizes);
    bursts(node.addresses().listen.unwrap(), 24, 20);
}

#[test]
fn callers_at_once_are_answered_out_of_four_buffers_and_eight_completions() {
    const CALLERS: usize = IDLE / 10;
    allow_files(2 * CALLERS as u64 + 500);
    let node = start_tiny(RingSizes { submissions: 4, completions: 8, buffers: 4, ..RingSizes::default() });
    let address = node.addresses().listen.unwrap();
    let mut callers: Vec<_> = (0..CALLERS).map(|_| Caller::connect(address)).collect();
    let mut longest = Duration::ZERO;
    for round in 0..10 {
        let asked = Instant::now();
        for caller in &mut callers {
            caller.0.write_all(&ping(round, &[7; 300])).unwrap();
        }
        for caller in &mut callers {
            assert_eq!(caller.read_reply().unwrap(), (round, vec![7; 300]));
        }
        longest = longest.max(asked.elapsed());
    }
    println!("{CALLERS} callers at once were answered within {} ms", longest.as_millis());
}
