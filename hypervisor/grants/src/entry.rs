//! An entry of a grant table as one word: flags in bits 0..16, domain in 16..32, frame above.

use pinfold_abi::grant::EntryFlags;

/// A copy of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    #[cfg(test)]
    pub(crate) const fn new(flags: u16, domain: u16, frame: u32) -> Entry {
        Entry(flags as u64 | (domain as u64) << 16 | (frame as u64) << 32)
    }

    pub(crate) const fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_retain(self.0 as u16)
    }

    /// The type: one of the two flags that are types, or another number.
    pub(crate) const fn kind(self) -> EntryFlags {
        EntryFlags::from_bits_retain(self.0 as u16 & EntryFlags::TYPE)
    }

    pub(crate) const fn domain(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(crate) const fn frame(self) -> u64 {
        self.0 >> 32
    }

    /// The same with more flags.
    pub(crate) const fn with(self, flags: EntryFlags) -> Entry {
        Entry(self.0 | flags.bits() as u64)
    }
}
