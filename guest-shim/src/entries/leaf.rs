//! What a leaf entry says.

use crate::addr::Pfn;
use pinfold_abi::mmu::EntryFlags;

/// What a leaf entry maps, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The frame.
    pub frame: Pfn,
    /// Whether it may be written through the mapping.
    pub writable: bool,
    /// Whether guest user mode may use the mapping.
    pub user: bool,
}

impl Leaf {
    /// A mapping for the kernel to read and write.
    pub const fn kernel(frame: Pfn) -> Leaf {
        Leaf { frame, writable: true, user: false }
    }

    /// The entry's flags, without the memory type.
    pub(super) fn flags(self) -> EntryFlags {
        let mut flags = EntryFlags::PRESENT | EntryFlags::ACCESSED | EntryFlags::DIRTY;
        flags.set(EntryFlags::WRITABLE, self.writable);
        flags.set(EntryFlags::USER, self.user);
        flags
    }
}
