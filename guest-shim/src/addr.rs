//! Frame numbers, addresses, levels and slots: the types of [`pinfold_abi`], and the words of a
//! page.

pub use pinfold_abi::address::{Mfn, PAGE_SIZE, Pfn, Vaddr};
pub use pinfold_abi::paging::{Index, Level, TABLE_ENTRIES};

/// Bytes of a word.
const WORD_SIZE: u64 = size_of::<u64>() as u64;
/// Words of a page.
pub const PAGE_WORDS: usize = (PAGE_SIZE / WORD_SIZE) as usize;
/// End of the lower half of the address space (SDM volume 1, 3.3.7.1): what guest user mode has.
const LOWER_HALF_END: Vaddr = Vaddr(1 << 47);

/// Address of a word of a page.
///
/// # Panics
///
/// If `index` is not below [`PAGE_WORDS`].
pub fn word_of(page: Vaddr, index: usize) -> Vaddr {
    assert!(index < PAGE_WORDS, "a page has {PAGE_WORDS} words");
    Vaddr(page.0 + index as u64 * WORD_SIZE)
}

/// Addresses of all words of a page.
pub fn words_of(page: Vaddr) -> impl Iterator<Item = Vaddr> {
    (0..PAGE_WORDS as u64).map(move |index| Vaddr(page.0 + index * WORD_SIZE))
}

/// Which entry of a table of this level (1 to 4) translates an address.
pub(crate) fn index_at(va: Vaddr, level: u8) -> usize {
    let level = Level::from_number(level.into()).expect("a level is 1 to 4");
    va.index(level).get()
}

/// Whether an address is in the lower half of the address space.
pub(crate) fn is_lower_half(va: Vaddr) -> bool {
    va < LOWER_HALF_END
}
