//! Frame numbers, addresses, levels and slots: the types of [`pinfold_abi`].

pub use pinfold_abi::address::{Mfn, PAGE_SIZE, Pfn, Vaddr};
pub use pinfold_abi::paging::{Index, Level};

/// Which entry of a table of this level (1 to 4) translates an address.
pub(crate) fn index_at(va: Vaddr, level: u8) -> usize {
    let level = Level::from_number(level.into()).expect("a level is 1 to 4");
    va.index(level).get()
}
