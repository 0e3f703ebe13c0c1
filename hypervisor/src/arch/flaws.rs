//! The flaws of this machine's CPUs: read once, told at boot.
//!
//! What they are and what is to be done is decided in `pinfold-cpu-flaws`; here are the
//! instructions that ask, and the answer for everybody else.

use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::{CpuFlaw, Text, Word, YesNo};
use pinfold_cpu_flaws::{CpuFeatures, CpuidWords, Flaw, Mitigations, VariantArray};
use raw_cpuid::{CpuIdResult, cpuid};
use spin::Once;
use x86_64::registers::model_specific::Msr;

/// IA32_ARCH_CAPABILITIES (Intel SDM vol. 4, MSR 10AH).
const ARCH_CAPABILITIES: u32 = 0x10a;

static CPU: Once<CpuFeatures> = Once::new();
/// Guests run on tables without the hypervisor's memory.
static ISOLATED: AtomicBool = AtomicBool::new(false);

/// Asks the calling CPU, and remembers what the first one said.
pub fn detect() {
    let own = read();
    let first = CPU.call_once(|| own);
    // The decisions are the first one's: one that needs more is not protected.
    for &flaw in Flaw::VARIANTS.iter().filter(|&&flaw| own.has(flaw) && !first.has(flaw)) {
        log::warn!("cpu flaw={} is on another processor than the first, too", flaw.name());
    }
}

/// The machine's CPUs.
///
/// # Panics
/// Before [`detect`].
pub fn cpu() -> &'static CpuFeatures {
    CPU.get().expect("the first processor is asked before anything else")
}

/// Whether the CPUs have a flaw.
pub fn has(flaw: Flaw) -> bool {
    cpu().has(flaw)
}

/// What the CPUs need and list.
pub fn plan() -> Mitigations {
    Mitigations { isolated_tables: ISOLATED.load(Ordering::Relaxed), ..Mitigations::for_cpu(cpu()) }
}

/// Notes that guests run on tables without the hypervisor's memory, before [`report`].
pub fn set_isolated() {
    ISOLATED.store(true, Ordering::Relaxed);
}

/// Tells the log what the CPUs are and have, and what is done about it.
pub fn report(done: &Mitigations) {
    let cpu = cpu();
    log::info!(
        "cpu vendor={:?} family={:#x} model={:#x} stepping={} virtual={}",
        cpu.vendor,
        cpu.family,
        cpu.model,
        cpu.stepping,
        yes_or_no(cpu.is_virtual())
    );
    for &flaw in Flaw::VARIANTS {
        let (name, found) = (flaw.name(), cpu.assess(flaw));
        let action = done.action(cpu, flaw);
        let record = if found.affected {
            CpuFlaw {
                flaw: name,
                affected: YesNo(true),
                action: Word(Text::Shown(&action)),
                open: Some(action.exposure.name()),
                reason: None,
            }
        } else {
            CpuFlaw {
                flaw: name,
                affected: YesNo(false),
                action: Word(Text::Str("none")),
                open: None,
                reason: Some(Text::Str(found.reason)),
            }
        };
        log::info!("{record}");
    }
}

const fn yes_or_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn read() -> CpuFeatures {
    const NONE: CpuIdResult = CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    let leaf_0 = cpuid!(0);
    let leaf_1 = cpuid!(1);
    // A leaf beyond the last answers as another one does (Intel SDM vol. 2, CPUID).
    let leaf_7 = if leaf_0.eax >= 7 { cpuid!(7, 0) } else { NONE };
    let last = cpuid!(0x8000_0000u32).eax;
    let extended = |leaf: u32| if last >= leaf { cpuid!(leaf) } else { NONE };
    let leaf_8000_0021 = extended(0x8000_0021);
    let mut words = CpuidWords {
        vendor: [leaf_0.ebx, leaf_0.edx, leaf_0.ecx],
        signature: leaf_1.eax,
        leaf_1_ecx: leaf_1.ecx,
        leaf_7_ebx: leaf_7.ebx,
        leaf_7_edx: leaf_7.edx,
        leaf_8000_0008_ebx: extended(0x8000_0008).ebx,
        leaf_8000_0021_eax: leaf_8000_0021.eax,
        leaf_8000_0021_ecx: leaf_8000_0021.ecx,
        arch_capabilities: 0,
    };
    if words.has_arch_capabilities() {
        // SAFETY: the CPU announces the MSR.
        words.arch_capabilities = unsafe { Msr::new(ARCH_CAPABILITIES).read() };
    }
    CpuFeatures::new(words)
}
