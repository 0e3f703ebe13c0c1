//! Words in the hypervisor's frames.

use crate::memory::direct_map;
use arrayvec::ArrayVec;
use core::sync::atomic::AtomicU64;
use pinfold_grants::Words;
use pinfold_validator::{Index, Mfn};

/// Words in a frame.
pub const WORDS_PER_FRAME: usize = 512;

/// An array of words in at most `N` frames.
#[derive(Debug)]
pub struct Pages<const N: usize>(ArrayVec<Mfn, N>);

impl<const N: usize> Pages<N> {
    /// None yet.
    pub const fn new() -> Pages<N> {
        Pages(ArrayVec::new_const())
    }

    /// The frames.
    pub fn frames(&self) -> &[Mfn] {
        &self.0
    }

    /// Adds a frame of zeros.
    ///
    /// # Panics
    /// If there are `N` already.
    pub fn push(&mut self, frame: Mfn) {
        self.0.push(frame);
    }

    /// Removes all frames.
    pub fn clear(&mut self, each: impl FnMut(Mfn)) {
        self.0.drain(..).for_each(each);
    }
}

impl<const N: usize> Words for Pages<N> {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let frame = *self.0.get(index / WORDS_PER_FRAME)?;
        Some(direct_map::entry(frame, Index::new(index % WORDS_PER_FRAME)))
    }
}
