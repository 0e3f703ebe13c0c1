//! Security flaws of this machine's CPUs: detected and logged at boot.
//!
//! Which CPUs have which flaw, and which mitigations they need, is decided in `pinfold-cpu-flaws`.
//! This file executes CPUID and RDMSR for it, and keeps the result.

use core::sync::atomic::{AtomicBool, Ordering};
use pinfold_abi::record::{CpuFlaw, Text, Word, YesNo};
use pinfold_cpu_flaws::{CpuFeatures, CpuidWords, Flaw, Mitigations, VariantArray};
use raw_cpuid::{CpuIdResult, cpuid};
use spin::Once;
use x86_64::registers::model_specific::Msr;

/// IA32_ARCH_CAPABILITIES (Intel SDM vol. 4, MSR 10AH).
const ARCH_CAPABILITIES: u32 = 0x10a;

static CPU: Once<CpuFeatures> = Once::new();
/// Page-table isolation is active.
static ISOLATED: AtomicBool = AtomicBool::new(false);

/// Reads the features of this CPU. Those of the boot CPU, the first caller, count for the machine.
pub fn detect() {
    let own = read();
    let first = CPU.call_once(|| own);
    // Mitigations are those that the boot CPU needs: a CPU that needs more is not protected.
    for &flaw in Flaw::VARIANTS.iter().filter(|&&flaw| own.has(flaw) && !first.has(flaw)) {
        log::warn!("cpu flaw={} is on a CPU other than the first, too", flaw.name());
    }
}

/// The features of the boot CPU.
///
/// # Panics
/// Before [`detect`].
pub fn cpu() -> &'static CpuFeatures {
    CPU.get().expect("`detect` ran on the boot CPU")
}

/// Whether the boot CPU has a flaw.
pub fn has(flaw: Flaw) -> bool {
    cpu().has(flaw)
}

/// The mitigations that the boot CPU needs and announces.
pub fn plan() -> Mitigations {
    Mitigations { isolated_tables: ISOLATED.load(Ordering::Relaxed), ..Mitigations::for_cpu(cpu()) }
}

/// Notes that page-table isolation is active. To be called before [`plan`].
pub fn set_isolated() {
    ISOLATED.store(true, Ordering::Relaxed);
}

/// Logs the CPU model, and for each flaw whether the CPU has it and what is done about it.
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
    // A leaf above the highest returns the data of another leaf (Intel SDM vol. 2, CPUID).
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
