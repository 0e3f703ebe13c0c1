//! The words of a page, and their checksum.

use super::CpuContext;
use super::id::BufferId;
use crate::addr::{Vaddr, words_of};

/// The initial value of a page's checksum, different for each page.
pub(super) fn stamp(buffer: BufferId, page: u64) -> u64 {
    mix(mix(0, buffer.0), page)
}

/// One step of the checksum: a permutation in either argument, so that a single wrong word is
/// always found. The factor is 2^64 divided by the golden ratio.
fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills a page. Returns its checksum.
pub(super) fn fill(cpu: &impl CpuContext, page: Vaddr, stamp: u64, seed: u64) -> u64 {
    let mut word = mix(stamp, seed);
    words_of(page).fold(stamp, |sum, va| {
        word = mix(word, va.page_offset());
        cpu.store(va, word);
        mix(sum, word)
    })
}

/// The checksum of a page.
pub(super) fn sum(cpu: &impl CpuContext, page: Vaddr, stamp: u64) -> u64 {
    words_of(page).fold(stamp, |sum, va| mix(sum, cpu.load(va)))
}

/// Copies a page. Returns the checksum of what was read.
pub(super) fn copy(cpu: &impl CpuContext, [from, to]: [Vaddr; 2], stamp: u64) -> u64 {
    words_of(from).zip(words_of(to)).fold(stamp, |sum, (from, to)| {
        let word = cpu.load(from);
        cpu.store(to, word);
        mix(sum, word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_word_changes_the_sum() {
        let sum = |words: [u64; 4]| words.into_iter().fold(stamp(BufferId(1), 2), mix);
        let right = sum([0, 5, 0, 7]);
        for wrong in [[1, 5, 0, 7], [0, 5, 1 << 63, 7], [5, 0, 0, 7], [0, 5, 7, 0]] {
            assert_ne!(sum(wrong), right, "{wrong:?}");
        }
        assert_ne!(stamp(BufferId(1), 2), stamp(BufferId(2), 1));
    }
}
