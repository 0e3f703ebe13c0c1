//! Numbers that must not be mixed up: machine and pseudo-physical frames, guest addresses, levels,
//! slots, domains, sets of CPUs.

use core::fmt;
use pinfold_abi::layout::HYPERVISOR_SLOTS;

/// Entries of a table, at every level.
pub(crate) const ENTRIES: usize = 512;

/// Number of a machine frame: machine address over 4096. Any `u64`; whether such a frame exists,
/// the frame table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mfn(u64);

impl Mfn {
    /// Makes one.
    pub const fn new(number: u64) -> Mfn {
        Mfn(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Mfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Number of a frame as a guest counts its own memory, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(u64);

impl Pfn {
    /// Makes one.
    pub const fn new(number: u64) -> Pfn {
        Pfn(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Level of a page table: L1 maps pages, L4 is a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "a level is its number")]
pub enum Level {
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,
}

impl Level {
    /// All levels, the lowest first.
    pub const ALL: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::L4];

    /// The level of a number.
    pub const fn from_number(number: u64) -> Option<Level> {
        Some(match number {
            1 => Level::L1,
            2 => Level::L2,
            3 => Level::L3,
            4 => Level::L4,
            _ => return None,
        })
    }

    /// The level that entries of this one point to; `None` for L1, whose entries map pages.
    pub const fn below(self) -> Option<Level> {
        Level::from_number(self as u64 - 1)
    }

    /// The level whose entries point to this one.
    pub const fn above(self) -> Option<Level> {
        Level::from_number(self as u64 + 1)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", *self as u8)
    }
}

/// Slot of a table: 0..512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(u16);

impl Index {
    /// A slot, if there is one of this number.
    pub const fn try_new(slot: usize) -> Option<Index> {
        if slot < ENTRIES { Some(Index(slot as u16)) } else { None }
    }

    /// The slot that the low nine bits of a number name.
    pub const fn new_truncate(slot: u64) -> Index {
        Index((slot % ENTRIES as u64) as u16)
    }

    /// A slot.
    ///
    /// # Panics
    /// If the number is above 511: for numbers that don't come from a guest.
    pub const fn new(slot: usize) -> Index {
        assert!(slot < ENTRIES);
        Index(slot as u16)
    }

    /// The number, below 512.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// Whether this slot of a root belongs to the hypervisor (`INV-RESERVED`).
    pub const fn is_reserved(self) -> bool {
        HYPERVISOR_SLOTS.start <= self.get() && self.get() < HYPERVISOR_SLOTS.end
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A guest's virtual address; may be non-canonical, since guests name what they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vaddr(u64);

impl Vaddr {
    /// Makes one.
    pub const fn new(address: u64) -> Vaddr {
        Vaddr(address)
    }

    /// The canonical address that a path of slots translates, lowest level last.
    pub const fn from_indexes(l4: Index, l3: Index, l2: Index, l1: Index) -> Vaddr {
        let low = (l4.0 as u64) << 39 | (l3.0 as u64) << 30 | (l2.0 as u64) << 21;
        let address = low | (l1.0 as u64) << 12;
        Vaddr(((address << 16) as i64 >> 16) as u64)
    }

    /// The address.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether bits 63..47 are all alike, as four-level paging demands.
    pub const fn is_canonical(self) -> bool {
        ((self.0 << 16) as i64 >> 16) as u64 == self.0
    }

    /// The slot that translates the address in a table of a level.
    pub const fn index(self, level: Level) -> Index {
        Index::new_truncate(self.0 >> (3 + 9 * level as u64))
    }
}

impl fmt::Display for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

impl DomId {
    /// Who owns the hypervisor's own frames. No domain has this number (`DOMID_XEN` of xen.h).
    pub const HYPERVISOR: DomId = DomId(pinfold_abi::domid::XEN);

    /// Makes one. Numbers from 0x7ff0 on are no ordinary domain's
    /// ([`pinfold_abi::domid::FIRST_RESERVED`]).
    pub const fn new(number: u16) -> DomId {
        DomId(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of CPUs, numbered 0..64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(u64);

impl CpuSet {
    /// CPUs that a set can hold.
    pub const CAPACITY: usize = 64;
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet(0);

    /// A set from its bits: bit n is CPU n.
    pub const fn from_bits(bits: u64) -> CpuSet {
        CpuSet(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one CPU; empty for a number beyond [`CpuSet::CAPACITY`].
    pub const fn of(cpu: usize) -> CpuSet {
        if cpu < CpuSet::CAPACITY { CpuSet(1 << cpu) } else { CpuSet::EMPTY }
    }

    /// Whether the CPU is in.
    pub const fn contains(self, cpu: usize) -> bool {
        self.0 & CpuSet::of(cpu).0 != 0
    }

    /// Whether no CPU is in.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The CPUs in either.
    pub const fn union(self, other: CpuSet) -> CpuSet {
        CpuSet(self.0 | other.0)
    }

    /// This set with one more CPU.
    pub const fn with(self, cpu: usize) -> CpuSet {
        self.union(CpuSet::of(cpu))
    }

    /// This set without a CPU.
    pub const fn without(self, cpu: usize) -> CpuSet {
        CpuSet(self.0 & !CpuSet::of(cpu).0)
    }

    /// The CPUs in the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let lowest = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(lowest)
        })
    }
}
