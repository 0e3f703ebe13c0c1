//! Domains and CPUs.

use core::fmt;

/// Number of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(u16);

impl DomId {
    /// Owner of the hypervisor's own frames. No domain has this number (`DOMID_XEN` of xen.h).
    pub const HYPERVISOR: DomId = DomId(pinfold_abi::domid::XEN);

    /// A domain number. Those from [`pinfold_abi::domid::FIRST_RESERVED`] on are reserved.
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
///
/// ```
/// use pinfold_validator::CpuSet;
/// let cpus = CpuSet::of(1).with(5);
/// assert!(cpus.contains(5) && !cpus.contains(0));
/// assert_eq!(cpus.iter().collect::<Vec<_>>(), [1, 5]);
/// ```
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
