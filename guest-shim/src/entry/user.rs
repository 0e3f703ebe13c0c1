//! Guest user mode: the same ring as the guest kernel, on another root table; in the container
//! ring 3, on the kernel's root.
//!
//! A program is a few instructions with two system calls: `rax = 0` does nothing, `rax = 1` leaves
//! user mode with the value in `rdi`.

use super::container::user as native;
use super::percpu;
use crate::hypercall::{Errno, address, call, check, in_container};
use core::arch::global_asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_SS64};

/// System call of a user program: does nothing.
pub const SYS_NULL: u64 = 0;
/// System call of a user program: leaves user mode.
pub const SYS_EXIT: u64 = 1;

global_asm!(
    ".pushsection .text.user, \"ax\"",
    // pinfold_user_enter(rip, rsp, rflags, argument): returns what SYS_EXIT was given.
    "pinfold_user_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov gs:[{kernel_rsp}], rsp",
    "push {ss}",
    "push rsi",
    "push rdx",
    "push {cs}",
    "push rdi",
    "push 0",
    "push 0",
    "push 0",
    "push 0",
    "mov rdi, rcx",
    "mov eax, {iret}",
    "syscall",
    "ud2",
    // On the kernel stack: rcx, r11, rip, cs, rflags, rsp, ss.
    "pinfold_syscall_callback:",
    "cmp eax, {exit}",
    "je 2f",
    "pop rcx",
    "pop r11",
    "push 0",
    "push rcx",
    "push r11",
    "push rax",
    "mov eax, {iret}",
    "syscall",
    "ud2",
    "2:",
    // The user program may have set the direction flag.
    "cld",
    "mov rax, rdi",
    "mov rsp, gs:[{kernel_rsp}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".popsection",
    kernel_rsp = const percpu::KERNEL_RSP,
    cs = const FLAT_RING3_CS64,
    ss = const FLAT_RING3_SS64,
    iret = const Hypercall::Iret as u64,
    exit = const SYS_EXIT,
);

unsafe extern "C" {
    fn pinfold_user_enter(rip: u64, rsp: u64, rflags: u64, argument: u64) -> u64;
    #[link_name = "pinfold_syscall_callback"]
    safe static SYSCALL_CALLBACK: u8;
}

/// Address of the system call entry, to register it.
pub(super) fn syscall_callback() -> u64 {
    address(&raw const SYSCALL_CALLBACK)
}

/// Sets the stack on which the kernel is entered from user mode.
///
/// # Safety
///
/// `rsp` must be the end of memory that nothing else uses.
pub unsafe fn set_kernel_stack(rsp: u64) -> Result<(), Errno> {
    if in_container() {
        native::set_kernel_stack(rsp);
        return Ok(());
    }
    let args = [u64::from(FLAT_RING3_SS64), rsp, 0, 0, 0];
    // SAFETY: the call stores two numbers; the caller owns the memory that is written later.
    check(unsafe { call(Hypercall::StackSwitch as u64, args) }).map(|_| ())
}

/// Runs user code until it makes [`SYS_EXIT`]. Returns the value that it passed.
///
/// # Safety
///
/// A user root, in the container the loaded root, must map `rip` and the stack, and
/// [`set_kernel_stack`] must have been called. Traps of the user program go to the trap handlers.
pub unsafe fn run(rip: u64, rsp: u64, argument: u64) -> u64 {
    // IF set: events stay deliverable as far as the hypervisor is concerned.
    const FLAGS: u64 = 0x202;
    let enter = if in_container() { native::pinfold_native_user_enter } else { pinfold_user_enter };
    // SAFETY: the routines save and restore what the ABI asks for; the rest is the caller's.
    unsafe { enter(rip, rsp, FLAGS, argument) }
}
