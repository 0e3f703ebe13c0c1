//! What keeps domains from reading each other through the CPU: the steps of a switch from
//! one to another, and what is set once.
//!
//! Which steps there are is decided once at boot ([`set_up`]), from what the CPUs need and
//! list. A step is an MSR that a CPU may announce and not have, as emulated ones do: then it
//! faults once at boot, and is left out and told of.
//!
//! | step         | against                         | when                                |
//! |--------------|---------------------------------|-------------------------------------|
//! | IBPB         | trained indirect branches       | a CPU changes domains         |
//! | return stack | trained returns                 | the same                            |
//! | L1D flush    | L1TF                            | the same                            |
//! | `verw`       | MDS and its relatives           | each return to a guest: see `entry` |
//! | IBRS         | guests that train for ring 0    | set at boot                         |
//!
//! vCPUs of one domain are not kept from each other, nor a guest's kernel from its users: that is
//! the guest's affair. Nothing is done for the other hyperthread of a core.

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

/// [`DONE`]: no domain ran here yet. No domain has this number.
const NOBODY: u16 = u16::MAX;

/// Steps of a switch, as the bits above. Written at boot, before any guest runs.
static STEPS: AtomicU8 = AtomicU8::new(0);

/// What a CPU did.
struct Done {
    /// The domain that ran last.
    last: AtomicU16,
    /// Switches from one domain to another.
    switches: AtomicU64,
}

/// By CPU, which alone writes its own: plain counters would do.
static DONE: [Done; MAX_CPUS] =
    [const { Done { last: AtomicU16::new(NOBODY), switches: AtomicU64::new(0) } }; MAX_CPUS];

/// Settles the steps, on the first CPU, which has its IDT: each MSR is tried. Returns what is
/// done from now on.
pub fn set_up(planned: Mitigations) -> Mitigations {
    let done = Mitigations {
        ibpb: planned.ibpb && works("ibpb", PRED_CMD, PRED_CMD_IBPB),
        flush_l1d: planned.flush_l1d && works("l1d_flush", FLUSH_CMD, FLUSH_CMD_L1D),
        ibrs: planned.ibrs.filter(|&mode| set_ibrs(mode)),
        ..planned
    };
    let steps = [(done.ibpb, IBPB), (done.fill_rsb, FILL_RSB), (done.flush_l1d, FLUSH_L1D)];
    let steps = steps.into_iter().filter(|(taken, _)| *taken).fold(0, |all, (_, bit)| all | bit);
    STEPS.store(steps, Ordering::Relaxed);
    done
}

/// Sets IBRS on the calling CPU. False if it can't.
pub fn set_ibrs(mode: IbrsMode) -> bool {
    match mode {
        // What firmware, or a hypervisor below, set besides stays set.
        IbrsMode::SpecCtrl => {
            let set = read(SPEC_CTRL).unwrap_or(0);
            works("ibrs", SPEC_CTRL, set | SPEC_CTRL_IBRS)
        }
        IbrsMode::Efer => {
            // SAFETY: every CPU has EFER.
            let efer = unsafe { Msr::new(EFER).read() };
            works("auto_ibrs", EFER, efer | EFER_AIBRSE)
        }
    }
}

fn works(step: &str, msr: u32, value: u64) -> bool {
    let taken = write(msr, value);
    if !taken {
        log::warn!("cpu step={step} is announced, but MSR {msr:#x} faults: it is left out");
    }
    taken
}

/// Notes that this CPU is about to run a domain; if another ran here last, takes the steps.
#[inline]
pub fn enter_domain(domain: DomId) {
    let own = &DONE[cpu_number()];
    let last = own.last.load(Ordering::Relaxed);
    if last != domain.get() {
        own.last.store(domain.get(), Ordering::Relaxed);
        // What ran before the first domain was the hypervisor, whose secrets are kept from guests by
        // other means or not at all.
        if last != NOBODY {
            own.switches.fetch_add(1, Ordering::Relaxed);
            switch_domains();
        }
    }
}

#[cold]
fn switch_domains() {
    let steps = STEPS.load(Ordering::Relaxed);
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

/// Writes an MSR that may not be there. False if it faulted.
fn write(msr: u32, value: u64) -> bool {
    let mut ok = 1u32;
    // SAFETY: the MSRs that get here change what the CPU predicts and caches, and no state
    // that code sees; a fault goes on at label 3.
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

/// Reads an MSR that may not be there: `None` if that faulted.
fn read(msr: u32) -> Option<u64> {
    let (mut ok, mut eax, mut edx) = (1u32, 0u32, 0u32);
    // SAFETY: reading one of these MSRs changes nothing; a fault goes on at label 3.
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

/// Puts 32 harmless return addresses on the CPU's own stack of them: as many as the deepest
/// holds. One that is speculated to meets a breakpoint, at which speculation stops.
fn fill_return_stack() {
    // SAFETY: each call pushes one word of the stack, and all are dropped again; the breakpoints
    // are never reached.
    unsafe {
        asm!(
            ".rept 32",
            "call 77f",
            "int3",
            "77:",
            ".endr",
            "add rsp, 32 * 8",
            // Nothing is speculated by the old stack behind this.
            "lfence"
        );
    }
}

/// Tells the log what was done at switches, one line a CPU.
pub fn report() {
    let steps = STEPS.load(Ordering::Relaxed);
    for cpu in online().iter() {
        let switches = DONE[cpu].switches.load(Ordering::Relaxed);
        let [ibpb, rsb_fill, l1d_flush] =
            [IBPB, FILL_RSB, FLUSH_L1D].map(|step| if steps & step != 0 { switches } else { 0 });
        let cpu = cpu as u64;
        let record = Switches { cpu, domain_switches: switches, ibpb, rsb_fill, l1d_flush };
        log::info!("{record}");
    }
}
