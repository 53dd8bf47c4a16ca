//! JSON whose numbers are exact, and whose keys keep their order and their repetitions.

mod number;
mod value;

pub use value::{JsonError, Value};
