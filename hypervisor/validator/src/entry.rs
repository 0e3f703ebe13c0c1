//! One page-table entry: what its bits mean, and which of them a guest may set at which level.
//!
//! Every `u64` is an entry. A forbidden bit is refused, never silently cleared. Two bits are changed
//! (user on, global off): in the *effective* entry, which is what is stored and what the guest reads
//! back.

use crate::addr::{Level, Mfn};
use crate::limits::Limits;
use crate::memtype::MEMTYPE_FLAGS;
use core::fmt;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};

pub(crate) const PRESENT: u64 = EntryFlags::PRESENT.bits();
pub(crate) const WRITABLE: u64 = EntryFlags::WRITABLE.bits();
const PAT_OR_SIZE: u64 = EntryFlags::PAT_OR_SIZE.bits();
const GLOBAL: u64 = EntryFlags::GLOBAL.bits();
const NO_EXECUTE: u64 = EntryFlags::NO_EXECUTE.bits();
/// Accessed and dirty: what CPUs set by themselves.
pub(crate) const ACCESSED_DIRTY: u64 = EntryFlags::ACCESSED.bits() | EntryFlags::DIRTY.bits();
/// Bits 9..=11 and 52..=62, which the CPU ignores and guests use.
const SOFTWARE: u64 = 0x7 << 9 | 0x7ff << 52;

/// Bits that may change in a live entry without a check (`INV-FAST`): every value of them is permitted,
/// and no reference and no memory type depends on them. Any other difference takes the full path.
pub(crate) const HARMLESS: u64 = ACCESSED_DIRTY | SOFTWARE | NO_EXECUTE;

/// The frame that the address bits of an entry name.
#[inline(always)]
pub(crate) const fn target(raw: u64) -> Mfn {
    Mfn::from_address(raw & ENTRY_ADDRESS)
}

/// A page-table entry.
///
/// ```
/// use pinfold_abi::mmu::EntryFlags;
/// use pinfold_validator::{Entry, Mfn};
/// let entry = Entry::to(Mfn::new(0x1a2b), EntryFlags::USER);
/// assert_eq!(entry.get(), 0x1a2b_005);
/// assert_eq!(entry.target(), Some(Mfn::new(0x1a2b)));
/// assert!(!entry.is_writable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry(u64);

impl Entry {
    /// An entry from its bits.
    pub const fn new(bits: u64) -> Entry {
        Entry(bits)
    }

    /// A present entry: target and flags.
    pub const fn to(target: Mfn, flags: EntryFlags) -> Entry {
        Entry(target.address() & ENTRY_ADDRESS | flags.bits() | PRESENT)
    }

    /// The bits.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it maps something.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether it allows writes. Without meaning if not present.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// The frame it points to, if present.
    pub const fn target(self) -> Option<Mfn> {
        if self.is_present() { Some(self.address_frame()) } else { None }
    }

    /// The frame that the address bits name, present or not.
    pub const fn address_frame(self) -> Mfn {
        target(self.0)
    }

    /// Its flag bits.
    pub const fn flags(self) -> EntryFlags {
        EntryFlags::from_bits_truncate(self.0)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Why a present entry's bits are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadBits {
    /// Address bits that the CPU doesn't have.
    Reserved(u64),
    /// An entry above L1 that maps a large page.
    SuperPage,
    /// Flags that a guest may not set at this level.
    Forbidden(EntryFlags),
}

/// What an entry that isn't present may hold (`INV-ABSENT`).
///
/// On a CPU with L1TF a load through such an entry reads the L1 data cache at the address in the entry.
/// How many address bits that cache compares is not documented: at least those of a physical address.
/// So an address is harmless only if it is beyond all memory even when cut to that many bits. Kernels
/// that know of the flaw store their addresses inverted, which is beyond memory on every machine whose
/// memory ends below the middle of its physical address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AbsentRules {
    /// Address bits to check; none on a CPU without the flaw.
    mask: u64,
    /// The first address beyond all memory.
    end: u64,
}

impl AbsentRules {
    pub(crate) const fn new(limits: &Limits) -> AbsentRules {
        let last = if limits.max_cached_mfn.get() > limits.max_mfn.get() {
            limits.max_cached_mfn.get()
        } else {
            limits.max_mfn.get()
        };
        let bits = ENTRY_ADDRESS & !reserved_bits(limits.physical_bits);
        AbsentRules {
            mask: if limits.policy.l1tf { bits } else { 0 },
            end: last.saturating_add(1).saturating_mul(PAGE_SIZE),
        }
    }

    /// Whether the address bits of an entry that isn't present are 0. That is harmless: no guest ever
    /// owns frame 0, it holds no secrets, and an entry of 0 must be allowed.
    #[inline(always)]
    pub(crate) const fn is_plainly_harmless(self, raw: u64) -> bool {
        raw & self.mask == 0
    }

    /// The memory that a CPU could read through an entry that isn't present.
    pub(crate) const fn memory(self, raw: u64) -> Option<Mfn> {
        let address = raw & self.mask;
        if address == 0 || address >= self.end { None } else { Some(Mfn::from_address(address)) }
    }
}

/// Address bits of an entry that are reserved on a CPU with so many physical address bits: 52 is the
/// most that an entry has room for, 32 the least of any 64-bit CPU.
const fn reserved_bits(physical_bits: u8) -> u64 {
    let bits = if physical_bits < 32 {
        32
    } else if physical_bits > 52 {
        52
    } else {
        physical_bits
    };
    ENTRY_ADDRESS & !((1 << bits) - 1)
}

/// The bits that no present entry of a guest may have, for each level. Computed once, so that the check
/// of an entry is one `and`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRules {
    leaf: u64,
    /// The same, and the bits of a memory type other than write-back.
    unusual_leaf: u64,
    upper: u64,
}

impl EntryRules {
    /// Rules for a CPU with so many physical address bits (32..=52), with or without NX.
    pub(crate) const fn new(physical_bits: u8, nx: bool) -> EntryRules {
        let always = reserved_bits(physical_bits) | if nx { 0 } else { NO_EXECUTE };
        // Above L1 these flags are the memory type of walks of the table below: always write-back.
        let upper = always | MEMTYPE_FLAGS | GLOBAL;
        EntryRules { leaf: always, unusual_leaf: always | MEMTYPE_FLAGS, upper }
    }

    /// Bits for which a present entry of this level is refused.
    #[inline(always)]
    pub(crate) const fn forbidden(&self, level: Level) -> u64 {
        match level {
            Level::L1 => self.leaf,
            _ => self.upper,
        }
    }

    /// Bits that keep a present L1 entry off the fast path: those for which it is refused, and those of
    /// a memory type other than write-back (`INV-CACHE`). One test for both.
    #[inline(always)]
    pub(crate) const fn unusual_leaf(&self) -> u64 {
        self.unusual_leaf
    }

    /// What is stored for a present entry that was accepted: the flags on that all of the domain's
    /// entries have ([`Platform::forced_flags`](crate::Platform::forced_flags)); global off at L1, since
    /// guests' translations must go when another root is loaded.
    #[inline(always)]
    pub(crate) const fn effective(level: Level, raw: u64, forced: EntryFlags) -> u64 {
        match level {
            Level::L1 => (raw | forced.bits()) & !GLOBAL,
            _ => raw | forced.bits(),
        }
    }

    /// Says why a present entry is refused. Flags come before address bits, as on Xen.
    #[cold]
    pub(crate) fn explain(&self, level: Level, raw: u64) -> BadBits {
        let bad = raw & self.forbidden(level);
        if level != Level::L1 && bad & PAT_OR_SIZE != 0 {
            BadBits::SuperPage
        } else if bad & !ENTRY_ADDRESS != 0 {
            BadBits::Forbidden(EntryFlags::from_bits_truncate(bad))
        } else if raw & MEMTYPE_FLAGS != 0 {
            // The address is reserved, and there is no memory to have a type.
            BadBits::Forbidden(EntryFlags::from_bits_truncate(raw & MEMTYPE_FLAGS))
        } else {
            BadBits::Reserved(bad)
        }
    }
}
