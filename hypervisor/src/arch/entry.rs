//! Entry to guests and exit from them.
//!
//! To its caller [`enter`] is a function. It saves the hypervisor's callee-saved registers on the
//! stack, loads the guest's registers, and goes to ring 3 by `iretq`. At an exit, the CPU (or the
//! `syscall` stub) pushes the guest's state directly into the vCPU's register file, whose end is the
//! ring-0 stack pointer in the TSS. The stub saves the general registers there, too, and returns from
//! `enter`. So no state is copied, and the hypervisor's own stack is not used.
//!
//! Three cases need special handling:
//! * `iretq` faults because of an invalid selector of the guest. The fault comes from ring 0, with the
//!   stack pointer in the register file, and its frame is pushed below that ([`IRET_SLACK`]). The stub
//!   moves the registers to the file and returns [`Exit::ReturnFault`].
//! * NMI, machine check and double fault can occur at any instruction, also where the GS base is the
//!   guest's. Their IST stacks hold the address of the CPU's record.
//! * A debug exception can occur between `syscall` and the change of stacks, hence it has an IST
//!   stack. If it comes from ring 3, the stub moves the frame to the register file and continues as
//!   for other exceptions.
//!
//! The code exists twice, see [`EntrySet`]. With page-table isolation, the guest root maps neither
//! the register files nor the hypervisor's stacks. So the ring-0 stack is a small one in the CPU's
//! record ([`super::percpu::EntryStack`]); the stub loads the hypervisor's root and then moves the
//! frame to the register file. On the way to the guest the frame for `iretq` is copied to that stack
//! before the guest root is loaded. In the windows where ring 0 runs on the guest root, only a fault
//! of `iretq` and exceptions with IST stacks can occur; their stubs load the hypervisor's root first.

use super::gdt::HYPERVISOR_SS;
use super::percpu::{
    ENTRY_FRAME, GUEST_ROOT, HYPERVISOR_ROOT, HYPERVISOR_SP, REGISTERS_TOP, SCRATCH,
};
use pinfold_abi::layout::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_SS64};
use pinfold_abi::vcpu::CpuUserRegs;

/// Bytes below a register file that a faulting `iretq` may overwrite: six words pushed by the
/// CPU and fifteen by the stub, less what falls into the file itself.
pub const IRET_SLACK: usize = 128;

/// A vCPU's registers, with the space below them that entry and exit need.
#[repr(C, align(16))]
pub struct RegisterFile {
    slack: [u8; IRET_SLACK + 8],
    /// The registers; `ss` ends on a 16-byte boundary, where the CPU starts to push.
    pub regs: CpuUserRegs,
}

const SS_END: usize = core::mem::offset_of!(CpuUserRegs, ss) + 8;
const _: () = assert!((core::mem::offset_of!(RegisterFile, regs) + SS_END).is_multiple_of(16));

impl RegisterFile {
    /// A file of zeros.
    pub fn new() -> RegisterFile {
        RegisterFile { slack: [0; IRET_SLACK + 8], regs: CpuUserRegs::default() }
    }

    /// End of the file, the ring-0 stack pointer: see
    /// [`super::percpu::PerCpu::set_registers_top`].
    pub fn top(&self) -> u64 {
        &raw const self.regs as u64 + SS_END as u64
    }
}

/// Why a guest exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `syscall`.
    Syscall,
    /// `syscall` from 32-bit code.
    CompatSyscall,
    /// An exception; its error code is in the register file.
    Exception(u8),
    /// `int 0x80`.
    Int80,
    /// An interrupt, with its vector.
    Interrupt(u8),
    /// `iretq` to the guest faulted with this exception, because of its cs or ss.
    ReturnFault(u8),
}

const EXIT_SYSCALL: u64 = 0x100;
const EXIT_COMPAT_SYSCALL: u64 = 0x101;
const EXIT_RETURN_FAULT: u64 = 0x200;

/// One of the two copies of the entry and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySet {
    /// The guest runs on its own, validated root.
    Direct,
    /// The guest runs on a guest root, without the hypervisor's memory (page-table isolation).
    Isolated,
}

macro_rules! code {
    ($($name:ident),* $(,)?) => {
        unsafe extern "C" { $(safe static $name: u8;)* }
    };
}

code! {
    pinfold_syscall_entry_direct, pinfold_syscall_entry_isolated,
    pinfold_compat_syscall_entry_direct, pinfold_compat_syscall_entry_isolated,
    pinfold_stubs_direct, pinfold_stubs_isolated,
    pinfold_debug_stub_direct, pinfold_debug_stub_isolated,
    pinfold_nmi_stub_direct, pinfold_nmi_stub_isolated,
    pinfold_double_fault_stub_direct, pinfold_double_fault_stub_isolated,
    pinfold_machine_check_stub_direct, pinfold_machine_check_stub_isolated,
    pinfold_verw_at_enter_direct, pinfold_verw_at_enter_isolated,
    pinfold_verw_at_paranoid_direct, pinfold_verw_at_paranoid_isolated,
    pinfold_verw_selector_direct, pinfold_verw_selector_isolated,
    pinfold_isolated_start, pinfold_isolated_end,
}

unsafe extern "C" {
    fn pinfold_enter_guest_direct(regs: *mut CpuUserRegs) -> u64;
    fn pinfold_enter_guest_isolated(regs: *mut CpuUserRegs) -> u64;
}

/// Runs the guest until it exits.
///
/// # Safety
/// 1. `entries` are the ones in use ([`super::idt::load`]).
/// 2. `file` is the one of the last [`super::percpu::PerCpu::set_registers_top`].
/// 3. Its selectors have RPL 3; of its flags IF is set, and IOPL, NT and VM are clear.
/// 4. The vCPU's root is loaded; with isolation, this CPU's guest root is a current copy of it.
#[inline]
pub unsafe fn enter(entries: EntrySet, file: &mut RegisterFile) -> Exit {
    let regs = &raw mut file.regs;
    // SAFETY: the register file is borrowed exclusively for the call; the rest is the caller's
    // promise.
    let code = unsafe {
        match entries {
            EntrySet::Direct => pinfold_enter_guest_direct(regs),
            EntrySet::Isolated => pinfold_enter_guest_isolated(regs),
        }
    };
    super::user_copy::forbid_user_access();
    match code {
        EXIT_SYSCALL => Exit::Syscall,
        EXIT_COMPAT_SYSCALL => Exit::CompatSyscall,
        code if code & EXIT_RETURN_FAULT != 0 => Exit::ReturnFault(code as u8),
        0x80 => Exit::Int80,
        code @ 0..32 => Exit::Exception(code as u8),
        code => Exit::Interrupt(code as u8),
    }
}

/// Bytes of `verw` with a rip-relative operand.
const VERW_BYTES: usize = 7;

/// The addresses at which `verw` can be patched in before `iretq` to a guest, with the bytes of the
/// instruction there. Unpatched, each is a `nop` of the same length.
pub fn verw_sites() -> [(u64, [u8; VERW_BYTES]); 4] {
    [
        (&raw const pinfold_verw_at_enter_direct, &raw const pinfold_verw_selector_direct),
        (&raw const pinfold_verw_at_paranoid_direct, &raw const pinfold_verw_selector_direct),
        (&raw const pinfold_verw_at_enter_isolated, &raw const pinfold_verw_selector_isolated),
        (&raw const pinfold_verw_at_paranoid_isolated, &raw const pinfold_verw_selector_isolated),
    ]
    .map(|(site, selector)| {
        let site = site as u64;
        // verw word ptr [rip + distance]: 0f 00 /5, Intel SDM vol. 2.
        let distance = (selector as u64).wrapping_sub(site + VERW_BYTES as u64) as u32;
        let [a, b, c, d] = distance.to_le_bytes();
        (site, [0x0f, 0x00, 0x2d, a, b, c, d])
    })
}

impl EntrySet {
    /// Address of one of two symbols.
    fn choose(self, direct: *const u8, isolated: *const u8) -> u64 {
        match self {
            EntrySet::Direct => direct as u64,
            EntrySet::Isolated => isolated as u64,
        }
    }

    /// Address of the stub of a vector.
    pub fn stub(self, vector: u8) -> u64 {
        let first = self.choose(&raw const pinfold_stubs_direct, &raw const pinfold_stubs_isolated);
        first + u64::from(vector) * 16
    }

    /// Address of the stub of the debug exception.
    pub fn debug_stub(self) -> u64 {
        self.choose(&raw const pinfold_debug_stub_direct, &raw const pinfold_debug_stub_isolated)
    }

    /// Address of the stub of NMI (2), double fault (8) or machine check (18).
    pub fn paranoid_stub(self, vector: u8) -> u64 {
        match vector {
            2 => self
                .choose(&raw const pinfold_nmi_stub_direct, &raw const pinfold_nmi_stub_isolated),
            8 => self.choose(
                &raw const pinfold_double_fault_stub_direct,
                &raw const pinfold_double_fault_stub_isolated,
            ),
            _ => self.choose(
                &raw const pinfold_machine_check_stub_direct,
                &raw const pinfold_machine_check_stub_isolated,
            ),
        }
    }

    /// Address of the entry point of `syscall`.
    pub fn syscall_entry(self) -> u64 {
        self.choose(
            &raw const pinfold_syscall_entry_direct,
            &raw const pinfold_syscall_entry_isolated,
        )
    }

    /// Address of the entry point of `syscall` in 32-bit code.
    pub fn compat_syscall_entry(self) -> u64 {
        self.choose(
            &raw const pinfold_compat_syscall_entry_direct,
            &raw const pinfold_compat_syscall_entry_isolated,
        )
    }
}

/// Addresses of the isolated copy: whole pages, with nothing else in them.
pub fn isolated_code() -> core::ops::Range<u64> {
    &raw const pinfold_isolated_start as u64..&raw const pinfold_isolated_end as u64
}

core::arch::global_asm!(
    r#"
    .macro PUSH_GENERAL
        push rdi
        push rsi
        push rdx
        push rcx
        push rax
        push r8
        push r9
        push r10
        push r11
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
    .endm

    # All except rdi.
    .macro POP_GENERAL_BUT_ONE
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        pop r11
        pop r10
        pop r9
        pop r8
        pop rax
        pop rcx
        pop rdx
        pop rsi
    .endm

    .macro POP_GENERAL
        POP_GENERAL_BUT_ONE
        pop rdi
    .endm

    # A 7-byte nop that `verw` may replace: see verw_sites. It comes after the last load of data that
    # isn't the guest's, and before `iretq` restores the flags, of which `verw` changes ZF.
    .macro VERW_SITE
        .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
    .endm

    # With isolation: loads the hypervisor's root. The GS base is the hypervisor's.
    .macro LOAD_HYPERVISOR_ROOT isolated:req, register:req
    .if \isolated
        mov \register, gs:[{hypervisor_root}]
        mov cr3, \register
    .endif
    .endm

    # Returns from pinfold_enter_guest, with the result in rax.
    .macro RETURN_TO_HYPERVISOR
        mov rsp, gs:[{sp}]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
    .endm

    # All entry code, with page-table isolation or without.
    .macro ENTRY_CODE suffix:req, isolated:req
    .global pinfold_enter_guest\suffix
    pinfold_enter_guest\suffix:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov gs:[{sp}], rsp
    .if \isolated
        # Copy the frame for iretq to the entry stack. rdi, which is needed to load the root, waits
        # in the record. Both roots map the stack and the record.
        mov rax, gs:[0]
        .irp offset, 0, 8, 16, 24, 32
            mov rcx, [rdi + 0x80 + \offset]
            mov [rax + {entry_frame} + \offset], rcx
        .endr
        mov rsp, rdi
        POP_GENERAL_BUT_ONE
        pop qword ptr gs:[{scratch}]
        mov rsp, gs:[0]
        add rsp, {entry_frame}
        mov rdi, gs:[{guest_root}]
        mov cr3, rdi
        mov rdi, gs:[{scratch}]
    .else
        mov rsp, rdi
        POP_GENERAL
        add rsp, 8
    .endif
        swapgs
    .global pinfold_verw_at_enter\suffix
    pinfold_verw_at_enter\suffix:
        VERW_SITE
    pinfold_guest_iretq\suffix:
        iretq

    # syscall from 32-bit code (AMD): as below, with another code selector and exit code.
    .global pinfold_compat_syscall_entry\suffix
    .balign 16
    pinfold_compat_syscall_entry\suffix:
        swapgs
        mov gs:[{scratch}], rsp
        LOAD_HYPERVISOR_ROOT \isolated, rsp
        mov rsp, gs:[{top}]
        push {user_ss}
        push gs:[{scratch}]
        push r11
        push {user_cs32}
        push rcx
        push 0
        mov dword ptr [rsp + 4], {compat_syscall}
        jmp pinfold_from_guest\suffix

    .global pinfold_syscall_entry\suffix
    .balign 16
    pinfold_syscall_entry\suffix:
        swapgs
        mov gs:[{scratch}], rsp
        LOAD_HYPERVISOR_ROOT \isolated, rsp
        mov rsp, gs:[{top}]
        push {user_ss}
        push gs:[{scratch}]
        push r11
        push {user_cs}
        push rcx
        push 0
        mov dword ptr [rsp + 4], {syscall}
    pinfold_from_guest\suffix:
        PUSH_GENERAL
        mov eax, [rsp + 0x7c]
        RETURN_TO_HYPERVISOR

    # Exceptions and interrupts. One word with error code (or 0) and vector has been pushed.
    pinfold_common\suffix:
        cld
        test byte ptr [rsp + 16], 3
        jz 2f
        swapgs
    .ifeq \isolated
        # No speculative access through GS after a mispredicted branch over swapgs (CVE-2019-1125).
        # With isolation the load of CR3 serialises.
        lfence
    .endif
    .if \isolated
        # Six words are on the entry stack, or on the one for debug exceptions.
    pinfold_move_frame\suffix:
        mov gs:[{scratch}], rax
        LOAD_HYPERVISOR_ROOT \isolated, rax
        mov rax, rsp
        mov rsp, gs:[{top}]
        .irp offset, 40, 32, 24, 16, 8, 0
            push [rax + \offset]
        .endr
        mov rax, gs:[{scratch}]
    .endif
        jmp pinfold_from_guest\suffix
    2:
    .ifeq \isolated
        lfence
    .endif
        PUSH_GENERAL
        lea rax, [rip + pinfold_guest_iretq\suffix]
        cmp [rsp + 0x80], rax
        je pinfold_return_fault\suffix
        # A trap in ring 0. The hypervisor's root is loaded; the GS base may be the guest's, in
        # `segments::load_gs`.
        mov rdi, rsp
        sub rsp, 8
        call {hypervisor_trap}
        add rsp, 8
        POP_GENERAL
        add rsp, 8
        iretq

    # iretq faulted. The stack is the register file or the entry stack, and the GS base is the guest's.
    # The general registers were pushed below: move them to the file, set the error code, and return.
    pinfold_return_fault\suffix:
        swapgs
        LOAD_HYPERVISOR_ROOT \isolated, rax
        mov rax, [rsp + 0x78]
        mov rbx, gs:[{top}]
        sub rbx, {ss_end}
        lea rsi, [rsp + 0x70]
        lea rdi, [rbx + 0x70]
        mov ecx, 15
        std
        rep movsq
        cld
        mov [rbx + 0x78], rax
        shr rax, 32
        or eax, {return_fault}
        RETURN_TO_HYPERVISOR

    .global pinfold_stubs\suffix
    .balign 16
    pinfold_stubs\suffix:
    .set vector, 0
    .rept 256
        .balign 16
        .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
        .else
        push 0
        .endif
        mov dword ptr [rsp + 4], vector
        jmp pinfold_common\suffix
        .set vector, vector + 1
    .endr
    .balign 16

    # The debug exception. From ring 3 it is handled like any other, in the register file.
    .global pinfold_debug_stub\suffix
    pinfold_debug_stub\suffix:
    .if \isolated
        cld
        push 0
        mov dword ptr [rsp + 4], 1
        test byte ptr [rsp + 16], 3
        jz pinfold_paranoid\suffix
        swapgs
        jmp pinfold_move_frame\suffix
    .else
        cld
        test byte ptr [rsp + 8], 3
        jz 2f
        swapgs
        lfence
        mov gs:[{scratch}], rax
        mov rax, rsp
        mov rsp, gs:[{top}]
        push [rax + 32]
        push [rax + 24]
        push [rax + 16]
        push [rax + 8]
        push [rax]
        push 0
        mov dword ptr [rsp + 4], 1
        mov rax, gs:[{scratch}]
        jmp pinfold_from_guest\suffix
    2:  push 0
        mov dword ptr [rsp + 4], 1
        jmp pinfold_paranoid\suffix

    .endif
    .global pinfold_nmi_stub\suffix
    pinfold_nmi_stub\suffix:
        push 0
        mov dword ptr [rsp + 4], 2
        jmp pinfold_paranoid\suffix
    .global pinfold_double_fault_stub\suffix
    pinfold_double_fault_stub\suffix:
        mov dword ptr [rsp + 4], 8
        jmp pinfold_paranoid\suffix
    .global pinfold_machine_check_stub\suffix
    pinfold_machine_check_stub\suffix:
        push 0
        mov dword ptr [rsp + 4], 18

    # The GS base and the root may be the guest's or the hypervisor's: save them, load the
    # hypervisor's (the address of the record is above the top of this stack), and restore them.
    pinfold_paranoid\suffix:
        cld
        PUSH_GENERAL
        mov ecx, {gs_base}
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov rbx, rax
        mov rax, [rsp + 0xa8]
        mov rdx, rax
        shr rdx, 32
        wrmsr
    .if \isolated
        mov r12, cr3
    .endif
        LOAD_HYPERVISOR_ROOT \isolated, rax
        mov rdi, rsp
        sub rsp, 8
        call {paranoid_trap}
        add rsp, 8
    .if \isolated
        mov cr3, r12
    .endif
        mov ecx, {gs_base}
        mov rax, rbx
        mov rdx, rbx
        shr rdx, 32
        wrmsr
        POP_GENERAL
        add rsp, 8
    .global pinfold_verw_at_paranoid\suffix
    pinfold_verw_at_paranoid\suffix:
        VERW_SITE
        iretq

    # Operand of `verw`, which clears the CPU's buffers only with a memory operand.
    .balign 2
    .global pinfold_verw_selector\suffix
    pinfold_verw_selector\suffix:
        .short {stack_selector}
    .endm

    .section .text.pinfold_entry, "ax"
    ENTRY_CODE _direct, 0

    # Whole pages, because guest roots map them.
    .section .text.pinfold_isolated, "ax"
    .balign 4096
    .global pinfold_isolated_start
    pinfold_isolated_start:
    ENTRY_CODE _isolated, 1
    .balign 4096
    .global pinfold_isolated_end
    pinfold_isolated_end:
    "#,
    sp = const HYPERVISOR_SP,
    top = const REGISTERS_TOP,
    scratch = const SCRATCH,
    hypervisor_root = const HYPERVISOR_ROOT,
    guest_root = const GUEST_ROOT,
    entry_frame = const ENTRY_FRAME,
    ss_end = const SS_END,
    user_ss = const FLAT_RING3_SS64,
    user_cs = const FLAT_RING3_CS64,
    user_cs32 = const FLAT_RING3_CS32,
    compat_syscall = const EXIT_COMPAT_SYSCALL,
    syscall = const EXIT_SYSCALL,
    return_fault = const EXIT_RETURN_FAULT,
    gs_base = const 0xc000_0101u32,
    stack_selector = const HYPERVISOR_SS,
    hypervisor_trap = sym super::hooks::pinfold_hypervisor_trap,
    paranoid_trap = sym super::hooks::pinfold_paranoid_trap,
);
