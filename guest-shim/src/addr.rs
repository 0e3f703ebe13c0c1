//! Frame numbers and addresses. Machine and pseudo-physical numbers are types of their own, so
//! that one can't be taken for the other.

use core::fmt;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;

/// A machine frame: what page-table entries and hypercalls name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mfn(pub u64);

/// A pseudo-physical frame: the guest's own dense numbering, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

/// A virtual address of the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vaddr(pub u64);

impl Mfn {
    /// Machine address of the frame's first byte.
    pub const fn addr(self) -> u64 {
        self.0 << 12
    }

    /// Machine address of a table's entry, as `mmu_update` wants it.
    pub const fn entry_addr(self, index: usize) -> u64 {
        self.addr() + index as u64 * 8
    }
}

impl Vaddr {
    /// The address so many pages further on, wrapping at the end of the address space.
    pub const fn page(self, pages: u64) -> Vaddr {
        Vaddr(self.0.wrapping_add(pages.wrapping_mul(PAGE_SIZE)))
    }

    /// Which entry of a table of this level translates the address (1 is the leaf level).
    pub const fn index(self, level: u8) -> usize {
        ((self.0 >> (12 + 9 * (level as u32 - 1))) & 511) as usize
    }
}

impl fmt::Display for Mfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_splits_into_its_four_indices() {
        let va = Vaddr(0xffff_ffff_8012_3456);
        assert_eq!((va.index(4), va.index(3), va.index(2), va.index(1)), (511, 510, 0, 0x123));
    }

    #[test]
    fn entries_are_eight_bytes_apart() {
        assert_eq!(Mfn(3).entry_addr(511), 0x3ff8);
    }
}
