//! What the validator is told about the machine.

use crate::addr::Mfn;

/// Limits of the machine, and the policy: fixed when the validator is created.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bits of a physical address (CPUID 0x80000008), 32..=52.
    pub physical_bits: u8,
    /// Whether no-execute is on (EFER.NXE).
    pub nx: bool,
    /// Highest frame of RAM: what lies beyond is no frame, even if the frame table has room.
    pub max_mfn: Mfn,
    /// Highest frame of memory that a CPU may have in its caches, the firmware's included. Taken for
    /// `max_mfn` if it is lower.
    pub max_cached_mfn: Mfn,
    /// Rules that depend on the CPU model or are the administrator's choice.
    pub policy: Policy,
}

/// Rules that are not the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The CPU has the L1TF flaw: an entry that is not present must not name memory, whoever owns it
    /// (`INV-ABSENT`).
    pub l1tf: bool,
    /// Refuse L4 entries that point to their own table (linear page tables). Below such an entry the
    /// hypervisor's own slots appear as tables of a lower level. The guest can't use them, since they
    /// are not for ring 3; the hypervisor could, when it follows a guest's pointer.
    pub refuse_linear_roots: bool,
}
