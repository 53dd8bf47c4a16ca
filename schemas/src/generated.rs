//! The FlatBuffers code that `flatc` 23.5.26 makes of `florin.fbs`. Not edited: `cargo run --manifest-path
//! schemas/generate/Cargo.toml` writes it anew, and a test holds it against what it was when that was done.
//!
//! The schema names no root type, for each opcode has its own: read a body with `flatbuffers::root::<Balance>(body)`,
//! which verifies it, and write one with `FlatBufferBuilder::finish_minimal`.

// Code that we do not write keeps its own style; its `unsafe` reads fields that the verifier has checked.
#[allow(unsafe_code, missing_docs, unused_imports, unused_qualifications, mismatched_lifetime_syntaxes)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::cast_lossless)]
#[allow(rustdoc::all, unsafe_op_in_unsafe_fn)]
#[rustfmt::skip]
mod florin_generated;

pub use florin_generated::florin::v_1::*;
