//! Words of a page, and what they add up to.

use super::{BufferId, CpuContext};
use crate::addr::Vaddr;

/// What a page's checksum begins with, so that no page passes for another.
pub(super) fn stamp(buffer: BufferId, page: u64) -> u64 {
    mix(mix(0, buffer.0), page)
}

/// One step of the checksum: a permutation in either argument, so that a single wrong word is
/// always found. The factor is 2^64 divided by the golden ratio.
fn mix(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn words(page: Vaddr) -> impl Iterator<Item = Vaddr> {
    (0..512).map(move |index| Vaddr(page.0 + index * 8))
}

/// Fills a page; its checksum.
pub(super) fn fill(cpu: &impl CpuContext, page: Vaddr, stamp: u64, seed: u64) -> u64 {
    let mut word = mix(stamp, seed);
    words(page).fold(stamp, |sum, va| {
        word = mix(word, va.0 & 0xfff);
        cpu.store(va, word);
        mix(sum, word)
    })
}

/// The checksum of a page.
pub(super) fn sum(cpu: &impl CpuContext, page: Vaddr, stamp: u64) -> u64 {
    words(page).fold(stamp, |sum, va| mix(sum, cpu.load(va)))
}

/// Copies a page; the checksum of what was read.
pub(super) fn copy(cpu: &impl CpuContext, [from, to]: [Vaddr; 2], stamp: u64) -> u64 {
    words(from).zip(words(to)).fold(stamp, |sum, (from, to)| {
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
