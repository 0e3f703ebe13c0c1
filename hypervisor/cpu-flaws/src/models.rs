//! Flaws that CPU models don't have, for models that have no feature bit to say so.
//!
//! Only what a vendor has published is listed, and only flaws that a model does *not* have. A model
//! that isn't listed counts as affected.

use crate::features::{CpuFeatures, Vendor};
use crate::flaw::Flaw::{self, *};

/// Models of Intel's family 6 that share a core, and flaws that none of them has.
struct Core {
    models: &'static [u32],
    unaffected_by: &'static [Flaw],
}

/// Intel, "Affected Processors", by core. Model numbers: Intel SDM vol. 4, table 2-1.
const INTEL_6: &[Core] = &[
    // Bonnell and Saltwell execute in order.
    Core {
        models: &[0x1c, 0x26, 0x27, 0x35, 0x36],
        unaffected_by: &[
            Meltdown,
            L1tf,
            Mds,
            Taa,
            MmioStaleData,
            Rfds,
            SpectreV2,
            SpeculativeStoreBypass,
            Retbleed,
        ],
    },
    // Silvermont and Airmont.
    Core {
        models: &[0x37, 0x4a, 0x4c, 0x4d, 0x5a, 0x5d, 0x75],
        unaffected_by: &[L1tf, Rfds, SpeculativeStoreBypass, Retbleed],
    },
    // Knights Landing and Knights Mill.
    Core { models: &[0x57, 0x85], unaffected_by: &[L1tf, Rfds, SpeculativeStoreBypass, Retbleed] },
    // Goldmont and Goldmont Plus.
    Core { models: &[0x5c, 0x5f, 0x7a], unaffected_by: &[L1tf, Mds, MmioStaleData, Retbleed] },
    // Tremont: has feature bits for most flaws.
    Core { models: &[0x86, 0x96, 0x9c], unaffected_by: &[Retbleed] },
    // Core 2, Nehalem, Westmere, Sandy Bridge, Ivy Bridge, Haswell, Broadwell.
    Core {
        models: &[
            0x0f, 0x16, 0x17, 0x1d, 0x1a, 0x1e, 0x1f, 0x2e, 0x25, 0x2c, 0x2f, 0x2a, 0x2d, 0x3a,
            0x3e, 0x3c, 0x3f, 0x45, 0x46, 0x3d, 0x47, 0x4f, 0x56,
        ],
        unaffected_by: &[Retbleed, Rfds],
    },
    // Skylake to Comet Lake, Cannon Lake, Ice Lake of clients, Rocket Lake.
    Core {
        models: &[0x4e, 0x5e, 0x55, 0x8e, 0x9e, 0xa5, 0xa6, 0x66, 0x7d, 0x7e, 0xa7],
        unaffected_by: &[Rfds],
    },
    // Ice Lake of servers, Tiger Lake, Sapphire Rapids, Emerald Rapids.
    Core { models: &[0x6a, 0x6c, 0x8c, 0x8d, 0x8f, 0xcf], unaffected_by: &[Retbleed, Rfds] },
    // Alder Lake, Raptor Lake, Gracemont.
    Core { models: &[0x97, 0x9a, 0xb7, 0xba, 0xbf, 0xbe], unaffected_by: &[Retbleed] },
];

/// The reason, for the log, why a model doesn't have a flaw; `None` if it may have it.
pub(crate) fn unaffected(cpu: &CpuFeatures, flaw: Flaw) -> Option<&'static str> {
    match cpu.vendor {
        Vendor::Intel => intel(cpu, flaw),
        Vendor::Amd | Vendor::Hygon => amd(cpu, flaw),
        Vendor::Other => None,
    }
}

fn intel(cpu: &CpuFeatures, flaw: Flaw) -> Option<&'static str> {
    match flaw {
        Srso | Tsa | FpuPointers => return Some("not Intel's"),
        Taa if !cpu.has_rtm() => return Some("no TSX"),
        _ => {}
    }
    let core = INTEL_6.iter().find(|core| cpu.family == 6 && core.models.contains(&cpu.model))?;
    core.unaffected_by.contains(&flaw).then_some("model")
}

fn amd(cpu: &CpuFeatures, flaw: Flaw) -> Option<&'static str> {
    const ZEN: u32 = 0x17;
    const ZEN_3: u32 = 0x19;
    match flaw {
        Meltdown | L1tf | Mds | Taa | MmioStaleData | Rfds => Some("AMD"),
        // Only Zen's branch predictor is affected.
        Srso if cpu.family < ZEN => Some("family"),
        // AMD-SB-1037 names families 15h to 17h as affected (Hygon's 18h is 17h) and says nothing
        // about older ones.
        Retbleed if cpu.family >= ZEN_3 => Some("family"),
        Tsa if cpu.family < ZEN_3 => Some("family"),
        _ => None,
    }
}
