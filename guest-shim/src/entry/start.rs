//! ELF notes, and the first instructions.

use super::boot::{Boot, VIRT_BASE};
use super::{container, percpu, trap};
use crate::hypercall::sched::{Exit, shutdown};
use crate::hypercall::{IN_CONTAINER, in_container};
use core::arch::global_asm;
use pinfold_abi::start_info::StartInfo;
use pinfold_abi::version::{XENFEAT_DOM0, XENFEAT_SUPERVISOR_MODE_KERNEL};

/// Bytes of the kernel's stack.
const STACK_SIZE: usize = 128 * 1024;
/// Feature bit of an older ABI that every 64-bit kernel declares.
const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;

/// Registers as the hypervisor left them at entry.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are registers")]
pub struct EntryRegisters {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
    pub cs: u64,
    pub ss: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}
const _: () = assert!(size_of::<EntryRegisters>() == 23 * 8);

// The notes (public/elfnote.h). HYPERCALL_PAGE is left out: calls are made by `syscall` itself.
global_asm!(
    ".macro pinfold_note kind:req, value:vararg",
    ".pushsection .note.Xen, \"a\", @note",
    ".balign 4",
    ".long 4, 3f - 2f, \\kind",
    ".asciz \"Xen\"",
    "2: \\value",
    "3: .balign 4",
    ".popsection",
    ".endm",
    "pinfold_note {ENTRY}, .quad pinfold_guest_start",
    "pinfold_note {VIRT_BASE}, .quad {virt_base}",
    "pinfold_note {PADDR_OFFSET}, .quad 0",
    "pinfold_note {HV_START_LOW}, .quad {hv_start}",
    "pinfold_note {XEN_VERSION}, .asciz \"xen-3.0\"",
    "pinfold_note {GUEST_OS}, .asciz \"pinfold-guest\"",
    "pinfold_note {GUEST_VERSION}, .asciz \"0.1\"",
    "pinfold_note {LOADER}, .asciz \"generic\"",
    "pinfold_note {FEATURES}, .asciz \"pae_pgdir_above_4gb\"",
    // Bit 11, dom0: a stock Xen runs only such images as its first domain. Bit 3: the kernel runs
    // in ring 3 or in the hardware container. As SUPPORTED_FEATURES with bit 4, the one of FEATURES
    // by name (the union counts).
    "pinfold_note {SUPPORTED_FEATURES}, .quad {supported}",
    "pinfold_note {PAE_MODE}, .asciz \"yes\"",
    ENTRY = const pinfold_abi::elfnote::Note::Entry as u32,
    VIRT_BASE = const pinfold_abi::elfnote::Note::VirtBase as u32,
    PADDR_OFFSET = const pinfold_abi::elfnote::Note::PaddrOffset as u32,
    HV_START_LOW = const pinfold_abi::elfnote::Note::HvStartLow as u32,
    XEN_VERSION = const pinfold_abi::elfnote::Note::XenVersion as u32,
    GUEST_OS = const pinfold_abi::elfnote::Note::GuestOs as u32,
    GUEST_VERSION = const pinfold_abi::elfnote::Note::GuestVersion as u32,
    LOADER = const pinfold_abi::elfnote::Note::Loader as u32,
    FEATURES = const pinfold_abi::elfnote::Note::Features as u32,
    SUPPORTED_FEATURES = const pinfold_abi::elfnote::Note::SupportedFeatures as u32,
    PAE_MODE = const pinfold_abi::elfnote::Note::PaeMode as u32,
    supported = const 1u64 << XENFEAT_DOM0 | 1 << XENFEAT_SUPERVISOR_MODE_KERNEL
        | 1 << XENFEAT_PAE_PGDIR_ABOVE_4GB,
    virt_base = const VIRT_BASE,
    hv_start = const pinfold_abi::layout::HYPERVISOR_START,
);

// Entry: save every register, note in which ring the kernel runs, switch to the kernel's stack, call Rust. `rsi` is the start-of-day
// page.
global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".global pinfold_guest_start",
    "pinfold_guest_start:",
    "mov [rip + pinfold_entry_registers + 0x00], rax",
    "lea rax, [rip + pinfold_entry_registers]",
    "mov [rax + 0x08], rbx",
    "mov [rax + 0x10], rcx",
    "mov [rax + 0x18], rdx",
    "mov [rax + 0x20], rsi",
    "mov [rax + 0x28], rdi",
    "mov [rax + 0x30], rbp",
    "mov [rax + 0x38], rsp",
    "mov [rax + 0x40], r8",
    "mov [rax + 0x48], r9",
    "mov [rax + 0x50], r10",
    "mov [rax + 0x58], r11",
    "mov [rax + 0x60], r12",
    "mov [rax + 0x68], r13",
    "mov [rax + 0x70], r14",
    "mov [rax + 0x78], r15",
    "lea rsp, [rip + pinfold_stack_top]",
    "pushfq",
    "pop [rax + 0x80]",
    "cld",
    "mov ecx, cs",
    "mov [rax + 0x88], rcx",
    "test cl, 3",
    "sete byte ptr [rip + {in_container}]",
    "mov ecx, ss",
    "mov [rax + 0x90], rcx",
    "mov ecx, ds",
    "mov [rax + 0x98], rcx",
    "mov ecx, es",
    "mov [rax + 0xa0], rcx",
    "mov ecx, fs",
    "mov [rax + 0xa8], rcx",
    "mov ecx, gs",
    "mov [rax + 0xb0], rcx",
    "xor ebp, ebp",
    "mov rdi, rsi",
    "call pinfold_guest_entry",
    "ud2",
    ".popsection",
    ".pushsection .bss.start, \"aw\", @nobits",
    ".balign 4096",
    ".skip {stack_size}",
    "pinfold_stack_top:",
    ".global pinfold_entry_registers",
    "pinfold_entry_registers:",
    ".skip 23 * 8",
    ".popsection",
    stack_size = const STACK_SIZE,
    in_container = sym IN_CONTAINER,
);

unsafe extern "C" {
    /// Written by the entry code before any Rust code runs, never after.
    #[link_name = "pinfold_entry_registers"]
    safe static ENTRY_REGISTERS: EntryRegisters;
}

/// The registers that the hypervisor entered the guest with.
pub fn entry_registers() -> &'static EntryRegisters {
    &ENTRY_REGISTERS
}

/// Runs a kernel: sets up the GS base and traps, calls it, and ends the domain with what it
/// returns. For [`guest_main!`](crate::guest_main).
pub fn run(start_info: &'static StartInfo, main: fn(&Boot) -> Exit) -> ! {
    let ready = if in_container() {
        container::init_boot()
    } else {
        percpu::init_boot().and_then(|()| trap::init())
    };
    if let Err(errno) = ready {
        crate::println!("no GS base, trap table or upcall vector: {errno}");
        shutdown(Exit::Crash);
    }
    shutdown(main(&Boot::new(start_info)))
}
