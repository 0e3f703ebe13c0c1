//! A grant-table entry as the one 64-bit word that is compared and exchanged.

use pinfold_abi::grant::{EntryFlags, EntryV1};

/// Reads an entry out of its word.
pub(crate) const fn from_word(word: u64) -> EntryV1 {
    zerocopy::transmute!(word)
}

/// The word of an entry.
pub(crate) const fn to_word(entry: EntryV1) -> u64 {
    zerocopy::transmute!(entry)
}

/// The flags of an entry.
pub(crate) const fn flags(entry: EntryV1) -> EntryFlags {
    EntryFlags::from_bits_retain(entry.flags)
}

/// The type bits of an entry: one of the two types, or a number that is none.
pub(crate) const fn type_of(entry: EntryV1) -> EntryFlags {
    EntryFlags::from_bits_retain(entry.flags & EntryFlags::TYPE)
}

/// The entry with more flags set.
pub(crate) const fn with_flags(entry: EntryV1, flags: EntryFlags) -> EntryV1 {
    EntryV1 { flags: entry.flags | flags.bits(), ..entry }
}
