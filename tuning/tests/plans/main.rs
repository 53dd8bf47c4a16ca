//! Plans, pictures and checks of hosts that nobody has at hand, and a real application in a network of the test's own.

mod applying;
mod golden;
mod invariants;
mod machines;
mod namespace;
mod pages;
