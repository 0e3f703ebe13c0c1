//! Tests of the whole crate, a file a subject.

mod maptrack;
mod table;

/// Cases of each property test; Miri is a thousand times slower.
const CASES: u32 = if cfg!(miri) { 10 } else { 2000 };
