//! Whether a CPU has a flaw.

use crate::features::CpuFeatures;
use crate::flaw::Flaw;
use crate::models;

/// Whether a CPU has a flaw, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The CPU has the flaw, or nothing says that it hasn't.
    pub affected: bool,
    /// For the log. If not affected: the feature bit, vendor or model that says so.
    pub reason: &'static str,
}

impl CpuFeatures {
    /// Assesses whether this CPU has a flaw.
    pub fn assess(&self, flaw: Flaw) -> Assessment {
        match self.denied_by_feature(flaw).or_else(|| models::unaffected(self, flaw)) {
            Some(reason) => Assessment { affected: false, reason },
            None => Assessment { affected: true, reason: "not denied" },
        }
    }

    /// Whether this CPU has a flaw, see [`CpuFeatures::assess`].
    pub fn has(&self, flaw: Flaw) -> bool {
        self.assess(flaw).affected
    }

    /// Name of the feature bit by which the CPU itself says that it doesn't have a flaw.
    fn denied_by_feature(&self, flaw: Flaw) -> Option<&'static str> {
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
}
