//! AMD's hardware virtualisation (SVM; AMD APM vol. 2, chapter 15): what [`super::container`] is made
//! of on AMD's processors.
//!
//! | file          | about                                                   |
//! |---------------|---------------------------------------------------------|
//! | `vmcb`        | the virtual machine control block: its layout           |
//! | `exit_code`   | why a guest exited, as the processor says it            |
//! | `permissions` | which ports and MSRs a guest may access                 |
//! | `world`       | the switch to a guest and back                          |
//! | `guest`       | a vCPU: its VMCB, what is raised in it, why it exits    |

mod exit_code;
pub mod guest;
pub mod permissions;
mod vmcb;
pub mod world;

use raw_cpuid::CpuId;
use x86_64::registers::control::{Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

/// MSR VM_CR, and its bit SVMDIS: the firmware has disabled SVM (APM vol. 2, 15.30.1).
const VM_CR: u32 = 0xc001_0114;
const VM_CR_SVMDIS: u64 = 1 << 4;
/// MSR VM_HSAVE_PA: physical address of the page where VMRUN saves the host's state (15.30.4).
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// What the processors can do for guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Number of ASIDs. 0 is the host's, guests have 1 and higher.
    pub asids: u32,
    /// An exit says where the next instruction begins.
    pub has_next_rip: bool,
}

/// Why there is no SVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The processor doesn't have it.
    NoSvm,
    /// The firmware has disabled it.
    Disabled,
}

impl Unavailable {
    /// In words, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Unavailable::NoSvm => "the processor has no SVM",
            Unavailable::Disabled => "the firmware has disabled SVM",
        }
    }
}

/// What this CPU can do.
///
/// # Errors
/// If it has no SVM, or the firmware disabled it.
pub fn detect() -> Result<Features, Unavailable> {
    let cpuid = CpuId::new();
    let has_svm =
        cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|f| f.has_svm());
    let info = cpuid.get_svm_info().filter(|_| has_svm).ok_or(Unavailable::NoSvm)?;
    // SAFETY: the CPU has SVM, and with it this MSR. Reading it has no effect.
    if unsafe { Msr::new(VM_CR).read() } & VM_CR_SVMDIS != 0 {
        return Err(Unavailable::Disabled);
    }
    Ok(Features { asids: info.supported_asids(), has_next_rip: info.has_nrip() })
}

/// Enables SVM on this CPU, which has it ([`detect`]).
///
/// # Safety
/// `save_area` is the physical address of a page that only VMRUN on this CPU uses from now on.
pub unsafe fn enable(save_area: u64) {
    // SAFETY: SVME allows instructions that only ring 0 can execute. The page is the CPU's, as the
    // caller vouches.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
        Msr::new(VM_HSAVE_PA).write(save_area);
    }
}
