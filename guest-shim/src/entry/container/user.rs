//! User mode in ring 3: `syscall`, `sysretq` and `iretq` by the processor.

use super::cpu::{RFLAGS_IF, write_msr};
use super::tables::{KERNEL_CS, USER_CS32, USER_CS64, USER_SS};
use crate::entry::percpu::{self, this};
use crate::entry::user::SYS_EXIT;
use crate::hypercall::address;
use core::arch::global_asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// Selectors of `syscall` and `sysret`.
const STAR: u32 = 0xc000_0081;
/// Entry of `syscall` in 64-bit mode.
const LSTAR: u32 = 0xc000_0082;
/// Entry of `syscall` in 32-bit mode.
const CSTAR: u32 = 0xc000_0083;
/// Flags that `syscall` clears.
const SFMASK: u32 = 0xc000_0084;
/// AC, NT, IOPL, DF, IF, TF.
const SYSCALL_CLEARS: u64 = 0x4_7700;

global_asm!(
    ".pushsection .text.native_user, \"ax\"",
    // As pinfold_user_enter.
    "pinfold_native_user_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cli",
    "mov gs:[{kernel_rsp}], rsp",
    "push {ss}",
    "push rsi",
    "push rdx",
    "push {cs}",
    "push rdi",
    "mov rdi, rcx",
    "swapgs",
    "iretq",
    // rcx: the program's rip, r11: its flags.
    "pinfold_native_syscall:",
    "swapgs",
    "mov gs:[{user_rsp}], rsp",
    "mov rsp, gs:[{syscall_stack}]",
    "cmp eax, {exit}",
    "je 2f",
    "mov rsp, gs:[{user_rsp}]",
    "swapgs",
    "sysretq",
    "2:",
    "mov rax, rdi",
    "mov rsp, gs:[{kernel_rsp}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    // Events are as the program had them, as outside of the container.
    "test r11d, {interrupt_flag}",
    "jz 3f",
    "sti",
    "3:",
    "ret",
    // There is no 32-bit system call: -ENOSYS.
    "pinfold_native_syscall32:",
    "mov eax, -38",
    "sysret",
    ".popsection",
    kernel_rsp = const percpu::KERNEL_RSP,
    user_rsp = const percpu::USER_RSP,
    syscall_stack = const percpu::SYSCALL_STACK,
    cs = const USER_CS64,
    ss = const USER_SS,
    exit = const SYS_EXIT,
    interrupt_flag = const RFLAGS_IF,
);

unsafe extern "C" {
    /// Runs user code, as `pinfold_user_enter` does outside of the container.
    pub(in crate::entry) fn pinfold_native_user_enter(
        rip: u64,
        rsp: u64,
        rflags: u64,
        argument: u64,
    ) -> u64;
    #[link_name = "pinfold_native_syscall"]
    safe static SYSCALL: u8;
    #[link_name = "pinfold_native_syscall32"]
    safe static SYSCALL32: u8;
}

/// Sets the system call entries of the running vCPU.
///
/// # Safety
///
/// The vCPU's GDT is loaded.
pub(super) unsafe fn init() {
    let selectors = u64::from(USER_CS32) << 48 | u64::from(KERNEL_CS) << 32;
    // SAFETY: the selectors are those of the loaded GDT, and the entries lead to the code above.
    unsafe {
        write_msr(STAR, selectors);
        write_msr(LSTAR, address(&raw const SYSCALL));
        write_msr(CSTAR, address(&raw const SYSCALL32));
        write_msr(SFMASK, SYSCALL_CLEARS);
    }
}

/// Sets the stack on which the kernel is entered from user mode.
pub(in crate::entry) fn set_kernel_stack(rsp: u64) {
    let own = this();
    let tables = own.tables.load(Acquire);
    // SAFETY: the tables are this vCPU's, which is not in user mode; only the processor reads them.
    if let Some(tables) = unsafe { tables.as_mut() } {
        tables.set_kernel_stack(rsp);
    }
    own.syscall_stack.store(rsp, Relaxed);
}
