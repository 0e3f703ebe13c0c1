//! Tests of the whole crate, a file a subject.

mod allocations;
mod fixed_vec;
mod protocol;
