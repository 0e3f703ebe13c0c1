//! Words in the hypervisor's frames.

use arrayvec::ArrayVec;
use core::sync::atomic::AtomicU64;
use pinfold_grants::WordArray;
use pinfold_validator::{HypervisorFrames, Index, Mfn};

/// Words in a frame.
pub const WORDS_PER_FRAME: usize = 512;

/// How the hypervisor accesses the words of frames that it uses itself.
pub trait FrameWords {
    /// A word of a frame of RAM.
    fn word(&self, frame: Mfn, index: Index) -> &AtomicU64;
}

impl<M: FrameWords + ?Sized> FrameWords for &M {
    fn word(&self, frame: Mfn, index: Index) -> &AtomicU64 {
        (**self).word(frame, index)
    }
}

/// A frame of such words.
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

/// An array of words in at most `N` frames.
#[derive(Debug)]
pub struct Pages<M, F, const N: usize> {
    memory: M,
    frames: ArrayVec<F, N>,
}

impl<M, F, const N: usize> Pages<M, F, N> {
    /// No frames.
    pub const fn new(memory: M) -> Pages<M, F, N> {
        Pages { memory, frames: ArrayVec::new_const() }
    }

    /// The frames.
    pub fn frames(&self) -> &[F] {
        &self.frames
    }

    /// Adds a frame of zeros.
    ///
    /// # Panics
    /// If there are `N` already.
    pub fn push(&mut self, frame: F) {
        self.frames.push(frame);
    }

    /// Removes all frames.
    pub fn clear(&mut self, each: impl FnMut(F)) {
        self.frames.drain(..).for_each(each);
    }
}

impl<M: FrameWords, F: WordFrame, const N: usize> WordArray for Pages<M, F, N> {
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let frame = self.frames.get(index / WORDS_PER_FRAME)?.mfn();
        Some(self.memory.word(frame, Index::new(index % WORDS_PER_FRAME)))
    }
}
