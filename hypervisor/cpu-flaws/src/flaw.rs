//! The flaws, and whether a CPU has them.

use crate::facts::{CpuFacts, Vendor};
use crate::models;

/// A flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flaw {
    /// Ring 3 reads what only ring 0 may (rogue data cache load, Spectre variant 3).
    Meltdown,
    /// Loads through entries that aren't present read the L1 data cache (L1 terminal fault).
    L1tf,
    /// Loads read what others left in the CPU's buffers (microarchitectural data sampling).
    Mds,
    /// As MDS, by an aborted transaction (TSX asynchronous abort).
    Taa,
    /// As MDS, after accesses to devices (processor MMIO stale data).
    MmioStaleData,
    /// As MDS, of Atom cores' registers (register file data sampling).
    Rfds,
    /// As MDS, on AMD (transient scheduler attacks).
    Tsa,
    /// Indirect branches go where somebody else trained them to (branch target injection).
    SpectreV2,
    /// Loads run ahead of older stores to the same address (Spectre variant 4).
    SpeculativeStoreBypass,
    /// Returns go where somebody trained them to, by a deep or phantom call stack, on Zen
    /// (speculative return stack overflow, Inception).
    Srso,
    /// Returns are predicted as indirect branches are (AMD: branch type confusion; Intel: when the
    /// return stack is empty).
    Retbleed,
    /// The FPU's pointers to its last instruction and operand stay what they were when a state
    /// without a pending exception is loaded (XSA-52).
    FpuPointers,
}

impl Flaw {
    /// All, in the order of the log.
    pub const ALL: [Flaw; 12] = [
        Flaw::Meltdown,
        Flaw::L1tf,
        Flaw::Mds,
        Flaw::Taa,
        Flaw::MmioStaleData,
        Flaw::Rfds,
        Flaw::Tsa,
        Flaw::SpectreV2,
        Flaw::SpeculativeStoreBypass,
        Flaw::Srso,
        Flaw::Retbleed,
        Flaw::FpuPointers,
    ];

    /// As it is in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Flaw::Meltdown => "meltdown",
            Flaw::L1tf => "l1tf",
            Flaw::Mds => "mds",
            Flaw::Taa => "taa",
            Flaw::MmioStaleData => "mmio_stale_data",
            Flaw::Rfds => "rfds",
            Flaw::Tsa => "tsa",
            Flaw::SpectreV2 => "spectre_v2",
            Flaw::SpeculativeStoreBypass => "ssb",
            Flaw::Srso => "srso",
            Flaw::Retbleed => "retbleed",
            Flaw::FpuPointers => "fpu_pointers",
        }
    }
}

/// Whether a CPU has a flaw, and by what that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// It has it, or nobody denies it.
    pub affected: bool,
    /// What says so: the CPU's own bit, its maker or model; for those affected, that nothing does.
    pub reason: &'static str,
}

impl CpuFacts {
    /// Whether this CPU has a flaw.
    pub fn assess(&self, flaw: Flaw) -> Assessment {
        match self.denial(flaw).or_else(|| models::is_free(self, flaw)) {
            Some(reason) => Assessment { affected: false, reason },
            None => Assessment { affected: true, reason: "not denied" },
        }
    }

    /// Whether this CPU has a flaw, without the reason.
    pub fn has(&self, flaw: Flaw) -> bool {
        self.assess(flaw).affected
    }

    /// The bit with which the CPU itself denies the flaw.
    fn denial(&self, flaw: Flaw) -> Option<&'static str> {
        let denies = |bit: bool, name: &'static str| bit.then_some(name);
        match flaw {
            Flaw::Meltdown | Flaw::L1tf => denies(self.rdcl_no(), "RDCL_NO"),
            Flaw::Mds => denies(self.mds_no(), "MDS_NO"),
            Flaw::Taa => denies(self.taa_no(), "TAA_NO"),
            Flaw::MmioStaleData => {
                denies(self.sbdr_ssdp_no() && self.fbsdp_no() && self.psdp_no(), "FBSDP_NO")
            }
            Flaw::Rfds => denies(self.rfds_no(), "RFDS_NO"),
            Flaw::SpectreV2 => None,
            Flaw::SpeculativeStoreBypass => {
                denies(self.ssb_no() || self.is_amd() && self.amd_ssb_no(), "SSB_NO")
            }
            Flaw::Srso => denies(self.is_amd() && self.srso_no(), "SRSO_NO"),
            Flaw::Retbleed => denies(self.is_amd() && self.btc_no(), "BTC_NO"),
            // AMD APM vol. 3, appendix E: leaf 0x80000008 ebx bit 2.
            Flaw::FpuPointers => denies(self.always_restores_fpu_pointers(), "RstrFpErrPtrs"),
            Flaw::Tsa => denies(self.is_amd() && self.tsa_sq_no() && self.tsa_l1_no(), "TSA_NO"),
        }
    }

    pub(crate) fn is_amd(&self) -> bool {
        matches!(self.vendor, Vendor::Amd | Vendor::Hygon)
    }
}
