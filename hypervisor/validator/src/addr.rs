//! Frame numbers, addresses, levels and slots: those of [`pinfold_abi`].

pub use pinfold_abi::address::{Mfn, Pfn, Vaddr};
pub(crate) use pinfold_abi::paging::TABLE_ENTRIES as ENTRIES;
pub use pinfold_abi::paging::{Index, Level};
