//! The switch to a guest and back.
//!
//! VMRUN switches the control registers, CS, SS, RSP, RIP, RFLAGS and RAX. VMLOAD and VMSAVE switch FS,
//! GS, TR, LDTR, KERNEL_GS_BASE and the MSRs of `syscall` and `sysenter`. The code here does the rest:
//! the general registers.
//!
//! From `clgi` to `stgi` no interrupt and no NMI is taken, so none finds the guest's GS base or TR. IF
//! is set around VMRUN: an interrupt that arrives then makes the guest exit.

use super::vmcb::Vmcb;
use core::mem::offset_of;
use pinfold_abi::vcpu::CpuUserRegs;

unsafe extern "C" {
    fn pinfold_svm_run(regs: *mut CpuUserRegs, guest: u64, host: u64);
}

/// Saves this CPU's FS, GS, TR, LDTR and the MSRs of `syscall` to a VMCB, from which [`run`] restores
/// them.
///
/// # Safety
/// `host` is the physical address of a page that only this CPU uses for this.
pub unsafe fn save_host(host: u64) {
    // SAFETY: SVM is enabled; the page is the caller's.
    unsafe { core::arch::asm!("vmsave", in("rax") host, options(nostack, preserves_flags)) };
}

/// Runs a guest until it exits. Its general registers are in `regs`, except rax and rsp, which are in the
/// VMCB. Interrupts are disabled before and after.
///
/// # Safety
/// 1. `guest` is the physical address of a VMCB ([`Vmcb`]) that is only used here, for a guest that
///    may run in this state: its CR3 is a validated root, its ASID is current on this CPU.
/// 2. [`save_host`] saved to `host` on this CPU, and nothing that it saves was changed since.
#[inline]
pub unsafe fn run(regs: &mut CpuUserRegs, guest: u64, host: u64) {
    // SAFETY: passed on to the caller. The registers are borrowed exclusively.
    unsafe { pinfold_svm_run(regs, guest, host) };
}

/// Flushes the translation of one address of an ASID from the TLB of this CPU.
pub fn invalidate_page(address: u64, asid: u32) {
    // SAFETY: SVM is enabled. Flushing a translation has no other effect.
    unsafe {
        core::arch::asm!(
            "invlpga rax, ecx",
            in("rax") address,
            in("ecx") asid,
            options(nostack, preserves_flags)
        );
    }
}

const _: () = assert!(align_of::<Vmcb>() == 4096);

core::arch::global_asm!(
    r#"
    .section .text.pinfold_svm_run, "ax"
    .global pinfold_svm_run
    # rdi: registers; rsi: the guest's VMCB; rdx: the host's.
    pinfold_svm_run:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        push rdi
        push rdx
        mov rax, rsi
        mov rbx, [rdi + {rbx}]
        mov rcx, [rdi + {rcx}]
        mov rdx, [rdi + {rdx}]
        mov rsi, [rdi + {rsi}]
        mov rbp, [rdi + {rbp}]
        mov r8, [rdi + {r8}]
        mov r9, [rdi + {r9}]
        mov r10, [rdi + {r10}]
        mov r11, [rdi + {r11}]
        mov r12, [rdi + {r12}]
        mov r13, [rdi + {r13}]
        mov r14, [rdi + {r14}]
        mov r15, [rdi + {r15}]
        mov rdi, [rdi + {rdi}]
        clgi
        sti
        vmload rax
        vmrun rax
        # rax and rsp are as before VMRUN, the rest is the guest's.
        vmsave rax
        pop rax
        vmload rax
        cli
        stgi
        mov rax, rdi
        pop rdi
        mov [rdi + {rdi}], rax
        mov [rdi + {rbx}], rbx
        mov [rdi + {rcx}], rcx
        mov [rdi + {rdx}], rdx
        mov [rdi + {rsi}], rsi
        mov [rdi + {rbp}], rbp
        mov [rdi + {r8}], r8
        mov [rdi + {r9}], r9
        mov [rdi + {r10}], r10
        mov [rdi + {r11}], r11
        mov [rdi + {r12}], r12
        mov [rdi + {r13}], r13
        mov [rdi + {r14}], r14
        mov [rdi + {r15}], r15
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
    .text
    "#,
    rbx = const offset_of!(CpuUserRegs, rbx),
    rcx = const offset_of!(CpuUserRegs, rcx),
    rdx = const offset_of!(CpuUserRegs, rdx),
    rsi = const offset_of!(CpuUserRegs, rsi),
    rdi = const offset_of!(CpuUserRegs, rdi),
    rbp = const offset_of!(CpuUserRegs, rbp),
    r8 = const offset_of!(CpuUserRegs, r8),
    r9 = const offset_of!(CpuUserRegs, r9),
    r10 = const offset_of!(CpuUserRegs, r10),
    r11 = const offset_of!(CpuUserRegs, r11),
    r12 = const offset_of!(CpuUserRegs, r12),
    r13 = const offset_of!(CpuUserRegs, r13),
    r14 = const offset_of!(CpuUserRegs, r14),
    r15 = const offset_of!(CpuUserRegs, r15),
);
