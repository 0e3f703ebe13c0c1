//! The flaws.

use strum::{IntoStaticStr, VariantArray};

/// A flaw of processors. [`VariantArray::VARIANTS`] lists them in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Flaw {
    /// Ring 3 can read memory of ring 0 (rogue data cache load, Spectre variant 3).
    Meltdown,
    /// Loads through page-table entries that aren't present read the L1 data cache (L1 terminal
    /// fault).
    L1tf,
    /// Loads read stale data in the CPU's internal buffers (microarchitectural data sampling).
    Mds,
    /// MDS by an aborted transaction (TSX asynchronous abort).
    Taa,
    /// MDS after accesses to devices (processor MMIO stale data).
    MmioStaleData,
    /// MDS of the register files of Atom cores (register file data sampling).
    Rfds,
    /// MDS on AMD (transient scheduler attacks).
    Tsa,
    /// Indirect branches are predicted as less privileged code trained them (branch target
    /// injection).
    SpectreV2,
    /// Loads run ahead of older stores to the same address (Spectre variant 4).
    #[strum(serialize = "ssb")]
    SpeculativeStoreBypass,
    /// On Zen, returns are predicted as less privileged code trained them (speculative return stack
    /// overflow, Inception).
    Srso,
    /// Returns are predicted like indirect branches (AMD: branch type confusion; Intel: when the
    /// return stack buffer is empty).
    Retbleed,
    /// `fxrstor` of a state without a pending exception keeps the FPU's last instruction and operand
    /// pointers (XSA-52).
    FpuPointers,
}

impl Flaw {
    /// The name in the log, such as `spectre_v2`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
