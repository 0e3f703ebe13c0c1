//! Unit tests of the crate.

mod frequency;
mod madt;
mod scale;
