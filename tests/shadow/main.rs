//! `florin shadow` as processes: callers before it, a primary and a candidate behind it, and defects planted in either.

mod callers;
mod cutover;
mod defects;
mod faulty;
mod files;
mod guard;
mod known;
mod live;
mod meaning;
mod page;
mod reach;
mod shadow;
#[path = "../command/support.rs"]
#[allow(dead_code, reason = "shared with the command's tests, which use more of it")]
mod support;
mod unit;
