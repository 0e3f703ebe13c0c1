//! A TLB flush that is still to be done.

use crate::ids::CpuSet;
use crate::platform::Platform;

/// A flush that is still to be done: these CPUs may have mappings cached that are gone. No invariant
/// depends on it, since a change of type flushes by itself; the guest does.
#[derive(Debug, Default)]
#[must_use = "TLBs keep the old mappings until the flush is done"]
pub struct FlushDebt {
    cpus: CpuSet,
}

impl FlushDebt {
    /// None.
    pub const fn none() -> FlushDebt {
        FlushDebt { cpus: CpuSet::EMPTY }
    }

    /// More CPUs to flush.
    pub(crate) fn add(&mut self, cpus: CpuSet) {
        self.cpus = self.cpus.union(cpus);
    }

    /// The CPUs to flush.
    pub const fn cpus(&self) -> CpuSet {
        self.cpus
    }

    /// Flushes all of them at once. Returns them.
    pub fn pay(self, platform: &impl Platform) -> CpuSet {
        if !self.cpus.is_empty() {
            platform.flush_tlb(self.cpus);
        }
        self.cpus
    }
}
