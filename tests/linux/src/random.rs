//! Random choices that a seed repeats.

use rand_xoshiro::Xoshiro256StarStar;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A generator of random numbers: the same seed gives the same sequence.
#[derive(Clone, Debug)]
pub(crate) struct Random(Xoshiro256StarStar);

impl Random {
    /// Starts the sequence of a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(Xoshiro256StarStar::seed_from_u64(seed))
    }

    /// Returns a number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }
}
