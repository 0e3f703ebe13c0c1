//! A TLB flush that is still to be done.

use crate::ids::CpuSet;
use crate::platform::Platform;

/// A flush that is owed: these CPUs may remember mappings that are gone. The validator's own
/// promises don't depend on it being paid (a frame that changes its type is flushed for), the
/// guest's expectations do.
#[derive(Debug, Default)]
#[must_use = "mappings that are gone are still in TLBs until this is paid"]
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

    /// The CPUs that it is about.
    pub const fn cpus(&self) -> CpuSet {
        self.cpus
    }

    /// Flushes them, all in one go. Returns them.
    pub fn pay(self, platform: &impl Platform) -> CpuSet {
        if !self.cpus.is_empty() {
            platform.flush_tlb(self.cpus);
        }
        self.cpus
    }
}
