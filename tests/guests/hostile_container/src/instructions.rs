//! Instructions that a guest must not execute, or that the hypervisor executes for it.

use crate::attempt::{GP, UD, raises, stopped_by, succeeds};
use core::arch::asm;
use pinfold_guest::fixtures::Check;

/// Checks that the instructions raise this exception.
macro_rules! raises {
    ($check:expr, $vector:expr, $($line:literal),+ $(, $name:ident = $value:expr)*) => {
        raises($check, concat!($($line, " "),+), $vector, || {
            // SAFETY: it is stopped.
            unsafe { asm!($($line),+, in("rax") 0u64, in("rcx") 0u64, in("rdx") 0u64) }
        })
    };
}

/// `under_kvm`: Pinfold itself is a KVM guest.
pub(crate) fn run(check: &mut Check, under_kvm: bool) {
    svm(check);
    // KVM intercepts #UD, also in guests of its guests, and takes the other vendor's hypercall
    // instruction for a mistake: it writes vmmcall over it (KVM_X86_QUIRK_FIX_HYPERCALL_INSN).
    if !under_kvm {
        raises!(check, UD, ".byte 0x0f, 0x01, 0xc1");
    }
    others(check);
    far_transfers(check);
    without_effect(check);
}

fn svm(check: &mut Check) {
    raises!(check, UD, "vmrun rax");
    raises!(check, UD, "vmload rax");
    raises!(check, UD, "vmsave rax");
    raises!(check, UD, "clgi");
    raises!(check, UD, "stgi");
    raises!(check, UD, "invlpga rax, ecx");
    raises!(check, UD, "skinit eax");
    // VMX: vmlaunch, vmresume, vmxoff; vmcall is above.
    raises!(check, UD, ".byte 0x0f, 0x01, 0xc2");
    raises!(check, UD, ".byte 0x0f, 0x01, 0xc3");
    raises!(check, UD, ".byte 0x0f, 0x01, 0xc4");
}

fn others(check: &mut Check) {
    raises!(check, UD, "rsm");
    raises!(check, UD, "xsetbv");
    raises!(check, UD, "monitor");
    raises!(check, UD, "mwait");
    raises!(check, GP, "rdpmc");
    raises!(check, UD, "ud2");
    for port in [0x20u16, 0x60, 0x70, 0x80, 0x3f8, 0xcf8, 0xffff] {
        raises(check, "in eax", GP, || {
            // SAFETY: it is stopped.
            unsafe { asm!("in eax, dx", in("dx") port, out("eax") _) }
        });
    }
}

/// Task switches don't exist in 64-bit mode.
fn far_transfers(check: &mut Check) {
    const TSS: u16 = 0x30;
    for selector in [TSS, TSS | 4, 0, 0x1230, 0xfff8] {
        let target: [u8; 10] = {
            let [low, high] = selector.to_le_bytes();
            [0, 0, 0, 0, 0, 0, 0, 0, low, high]
        };
        raises(check, "a far jump to a TSS or nothing", GP, || {
            // SAFETY: it is stopped; `jmp` by m16:64.
            unsafe { asm!(".byte 0x48, 0xff, 0x28", in("rax") target.as_ptr()) }
        });
        raises(check, "a far call to a TSS or nothing", GP, || {
            // SAFETY: it is stopped; `call` by m16:64.
            unsafe { asm!(".byte 0x48, 0xff, 0x18", in("rax") target.as_ptr()) }
        });
    }
    for selector in [0x1230u16, 0xfff8] {
        raises(check, "a TSS beyond the table", GP, || {
            // SAFETY: it is stopped.
            unsafe { asm!("ltr {0:x}", in(reg) selector) }
        });
        raises(check, "an LDT beyond the table", GP, || {
            // SAFETY: it is stopped.
            unsafe { asm!("lldt {0:x}", in(reg) selector) }
        });
    }
    raises(check, "the TSS that is busy", GP, || {
        // SAFETY: it is stopped.
        unsafe { asm!("ltr {0:x}", in(reg) TSS) }
    });
}

fn without_effect(check: &mut Check) {
    // SAFETY: it concerns this vCPU's caches only.
    succeeds(check, "wbinvd", || unsafe { asm!("wbinvd") });
    // SAFETY: as above.
    succeeds(check, "invd", || unsafe { asm!("invd") });
    // SAFETY: as above.
    succeeds(check, "invlpg", || unsafe { asm!("invlpg [{}]", in(reg) 0x1000u64) });
    // SAFETY: as above.
    succeeds(check, "clts", || unsafe { asm!("clts") });
    // An instruction that the processor has and the guest may execute or not: it ends in some way.
    let _ = stopped_by(|| {
        // SAFETY: it reads.
        unsafe { asm!("rdtscp", out("eax") _, out("edx") _, out("ecx") _) }
    });
    let leaf = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    if leaf >= 0x8000_000a {
        let svm = core::arch::x86_64::__cpuid(0x8000_0001).ecx & 1 << 2;
        check.equal("CPUID says that there is no SVM", svm, 0);
    }
    let features = core::arch::x86_64::__cpuid(1).ecx;
    check.equal("no MONITOR, no VMX", features & (1 << 3 | 1 << 5), 0);
}
