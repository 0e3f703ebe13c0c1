//! Speculation control: mitigations that keep one domain from reading another, or the hypervisor, by
//! speculative execution.
//!
//! | mitigation   | against                           | when                               |
//! |--------------|-----------------------------------|------------------------------------|
//! | IBPB         | Spectre v2 between domains        | a CPU switches domains             |
//! | RSB filling  | return stack poisoned by a domain | the same                           |
//! | L1D flush    | L1TF                              | the same                           |
//! | `verw`       | MDS and related flaws             | each return to a guest (`entry`)   |
//! | IBRS         | Spectre v2 against ring 0         | always, set at boot                |
//!
//! [`set_up`] decides once at boot which are used, from what the CPUs need and support. Emulated CPUs
//! announce MSRs that they don't have: each MSR is tried at boot, and a mitigation whose MSR faults
//! is logged and not used.
//!
//! vCPUs of one domain are not protected from each other, and a guest kernel must protect itself from
//! its user mode. Nothing is done about the other hyperthread of a core.

use super::fixup::fixup;
use super::percpu::{MAX_CPUS, cpu_number, online};
use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use pinfold_abi::record::Switches;
use pinfold_cpu_flaws::{IbrsMode, Mitigations};
use pinfold_validator::DomId;
use x86_64::registers::model_specific::Msr;

/// IA32_SPEC_CTRL (Intel SDM vol. 4, MSR 48H; AMD APM vol. 2, 3.2.9), and its bit IBRS.
const SPEC_CTRL: u32 = 0x48;
const SPEC_CTRL_IBRS: u64 = 1 << 0;
/// IA32_PRED_CMD (MSR 49H), and its bit IBPB.
const PRED_CMD: u32 = 0x49;
const PRED_CMD_IBPB: u64 = 1 << 0;
/// IA32_FLUSH_CMD (MSR 10BH), and its bit L1D_FLUSH.
const FLUSH_CMD: u32 = 0x10b;
const FLUSH_CMD_L1D: u64 = 1 << 0;
/// EFER, and its bit AIBRSE (AMD APM vol. 2, 3.1.7).
const EFER: u32 = 0xc000_0080;
const EFER_AIBRSE: u64 = 1 << 21;

const IBPB: u8 = 1 << 0;
const FILL_RSB: u8 = 1 << 1;
const FLUSH_L1D: u8 = 1 << 2;

/// No domain has run on this CPU yet. No domain has this number.
const NO_DOMAIN: u16 = u16::MAX;

/// Mitigations at a switch of domains, as the bits above. Written at boot, before any guest runs.
static AT_SWITCH: AtomicU8 = AtomicU8::new(0);

/// Switches of domains on a CPU.
struct DomainSwitches {
    /// The domain that ran last, or [`NO_DOMAIN`].
    last: AtomicU16,
    /// Number of switches from one domain to another.
    count: AtomicU64,
}

/// By CPU. Each CPU writes only its own element, hence relaxed loads and stores.
static SWITCHES: [DomainSwitches; MAX_CPUS] =
    [const { DomainSwitches { last: AtomicU16::new(NO_DOMAIN), count: AtomicU64::new(0) } };
        MAX_CPUS];

/// Tries the MSRs of the planned mitigations and enables those that work. Returns them. Runs on the
/// boot CPU, after its IDT is loaded, before any guest runs.
pub fn set_up(planned: Mitigations) -> Mitigations {
    let done = Mitigations {
        ibpb: planned.ibpb && works("ibpb", PRED_CMD, PRED_CMD_IBPB),
        flush_l1d: planned.flush_l1d && works("l1d_flush", FLUSH_CMD, FLUSH_CMD_L1D),
        ibrs: planned.ibrs.filter(|&mode| set_ibrs(mode)),
        ..planned
    };
    let steps = [(done.ibpb, IBPB), (done.fill_rsb, FILL_RSB), (done.flush_l1d, FLUSH_L1D)];
    let steps = steps.into_iter().filter(|(taken, _)| *taken).fold(0, |all, (_, bit)| all | bit);
    AT_SWITCH.store(steps, Ordering::Relaxed);
    done
}

/// Enables IBRS on this CPU. Returns `false` if the MSR faults.
pub fn set_ibrs(mode: IbrsMode) -> bool {
    match mode {
        // Bits that the firmware, or a hypervisor below this one, has set stay set.
        IbrsMode::SpecCtrl => {
            let set = read(SPEC_CTRL).unwrap_or(0);
            works("ibrs", SPEC_CTRL, set | SPEC_CTRL_IBRS)
        }
        IbrsMode::Efer => {
            // SAFETY: every x86-64 CPU has EFER, and reading it has no effect.
            let efer = unsafe { Msr::new(EFER).read() };
            works("auto_ibrs", EFER, efer | EFER_AIBRSE)
        }
    }
}

/// Writes an MSR; logs a warning and returns `false` if that faults.
fn works(step: &str, msr: u32, value: u64) -> bool {
    let taken = write(msr, value);
    if !taken {
        log::warn!("cpu step={step} is announced, but MSR {msr:#x} faults: it is left out");
    }
    taken
}

/// To be called before this CPU runs a vCPU of `domain`: applies the mitigations if another domain ran
/// here last.
#[inline]
pub fn enter_domain(domain: DomId) {
    let own = &SWITCHES[cpu_number()];
    let last = own.last.load(Ordering::Relaxed);
    if last != domain.get() {
        own.last.store(domain.get(), Ordering::Relaxed);
        // Before the first domain only the hypervisor ran, which these mitigations don't protect.
        if last != NO_DOMAIN {
            own.count.fetch_add(1, Ordering::Relaxed);
            switch_domains();
        }
    }
}

#[cold]
fn switch_domains() {
    let steps = AT_SWITCH.load(Ordering::Relaxed);
    if steps & IBPB != 0 {
        write(PRED_CMD, PRED_CMD_IBPB);
    }
    if steps & FILL_RSB != 0 {
        fill_return_stack();
    }
    if steps & FLUSH_L1D != 0 {
        write(FLUSH_CMD, FLUSH_CMD_L1D);
    }
}

/// Writes an MSR that may not exist. Returns `false` if that faults.
fn write(msr: u32, value: u64) -> bool {
    let mut ok = 1u32;
    // SAFETY: the MSRs of this file affect prediction and caches only, no architectural state of the
    // running code; after a fault execution resumes at label 3.
    unsafe {
        asm!(
            "2: wrmsr",
            "jmp 4f",
            "3: xor {ok:e}, {ok:e}",
            "4:",
            fixup!("2b", "3b"),
            ok = inout(reg) ok,
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack)
        );
    }
    ok != 0
}

/// Reads an MSR that may not exist. Returns `None` if that faults.
fn read(msr: u32) -> Option<u64> {
    let (mut ok, mut eax, mut edx) = (1u32, 0u32, 0u32);
    // SAFETY: reading one of these MSRs has no effect; after a fault execution resumes at label 3.
    unsafe {
        asm!(
            "2: rdmsr",
            "jmp 4f",
            "3: xor {ok:e}, {ok:e}",
            "4:",
            fixup!("2b", "3b"),
            ok = inout(reg) ok,
            in("ecx") msr,
            inout("eax") eax,
            inout("edx") edx,
            options(nostack)
        );
    }
    (ok != 0).then_some(u64::from(edx) << 32 | u64::from(eax))
}

/// Overwrites the return stack buffer (RSB) with 32 harmless entries, as many as the deepest one
/// holds. Speculation that uses one reaches an `int3`, which stops it.
fn fill_return_stack() {
    // SAFETY: each call pushes one word, and all are popped again; no `int3` is ever executed.
    unsafe {
        asm!(
            ".rept 32",
            "call 77f",
            "int3",
            "77:",
            ".endr",
            "add rsp, 32 * 8",
            // No later instruction is executed speculatively with the old RSB.
            "lfence"
        );
    }
}

/// Logs how often each mitigation was applied at switches of domains, one line a CPU.
pub fn report() {
    let steps = AT_SWITCH.load(Ordering::Relaxed);
    for cpu in online().iter() {
        let switches = SWITCHES[cpu].count.load(Ordering::Relaxed);
        let [ibpb, rsb_fill, l1d_flush] =
            [IBPB, FILL_RSB, FLUSH_L1D].map(|step| if steps & step != 0 { switches } else { 0 });
        let cpu = cpu as u64;
        let record = Switches { cpu, domain_switches: switches, ibpb, rsb_fill, l1d_flush };
        log::info!("{record}");
    }
}
