//! Tests of the whole crate, a file a subject.

mod image;
mod layout;
mod manifest;
mod notes;
mod sample;
mod size;

/// Cases of a property test that has `cases` of them natively; Miri is a thousand times slower.
const fn cases(cases: u32) -> u32 {
    if cfg!(miri) { 10 } else { cases }
}
