//! Words in the hypervisor's frames.

use crate::memory::direct_map;
use arrayvec::ArrayVec;
use core::sync::atomic::AtomicU64;
use pinfold_grants::Words;
use pinfold_validator::{HypervisorFrames, Index, Mfn};

/// Words in a frame.
pub const WORDS_PER_FRAME: usize = 512;

/// An array of words in at most `N` frames.
#[derive(Debug)]
pub struct Pages<F, const N: usize>(ArrayVec<F, N>);

impl<F, const N: usize> Pages<F, N> {
    /// None yet.
    pub const fn new() -> Pages<F, N> {
        Pages(ArrayVec::new_const())
    }

    /// The frames.
    pub fn frames(&self) -> &[F] {
        &self.0
    }

    /// Adds a frame of zeros.
    ///
    /// # Panics
    /// If there are `N` already.
    pub fn push(&mut self, frame: F) {
        self.0.push(frame);
    }

    /// Removes all frames.
    pub fn clear(&mut self, each: impl FnMut(F)) {
        self.0.drain(..).for_each(each);
    }
}

/// A frame that words are in.
pub trait WordFrame {
    /// Its number.
    fn mfn(&self) -> Mfn;
}

/// A frame shared with a guest, for as long as its domain lives.
impl WordFrame for Mfn {
    fn mfn(&self) -> Mfn {
        *self
    }
}

/// One frame of the hypervisor's own.
impl WordFrame for HypervisorFrames {
    fn mfn(&self) -> Mfn {
        self.first()
    }
}

impl<F: WordFrame, const N: usize> Words for Pages<F, N> {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let frame = self.0.get(index / WORDS_PER_FRAME)?.mfn();
        Some(direct_map::entry(frame, Index::new(index % WORDS_PER_FRAME)))
    }
}
