//! Tests of the whole crate, a file a subject.

mod image;
mod layout;
mod manifest;
mod notes;
mod sample;
mod size;
