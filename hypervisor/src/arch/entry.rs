//! Into the guest and back: the seam between the hypervisor and whatever runs guests.
//!
//! [`enter`] looks like a function call. It leaves the hypervisor's callee-saved registers on its
//! stack, loads the guest's registers and returns to ring 3. The CPU (or the `syscall` stub)
//! later pushes the guest's state right into the vCPU's register file, for which the TSS gives the
//! file's end as the ring-0 stack; the stub completes the file and returns from `enter`. Nothing
//! is copied, and no stack is shared between a guest's state and the hypervisor's frames.
//!
//! Three things can go wrong on the way, each with its own room:
//! * `iretq` faults because of a selector that the guest left: the fault arrives in ring 0 on the
//!   register file, pushed below it into [`IRET_SLACK`]; the stub moves it up and reports it as an
//!   exit, [`Exit::ReturnFault`].
//! * NMI, machine check and double fault may come at any instruction, when GS says nothing: their
//!   stacks carry the address of the CPU's record.
//! * A debug exception may come between `syscall` and the change of stacks, hence its own stack;
//!   if it came from ring 3 the stub moves the frame to the register file and goes on as usual.
//!
//! The code exists twice, see [`EntrySet`]. With page-table isolation the guest runs on a root that
//! maps neither the register file nor the hypervisor's stack: the CPU pushes to a small stack
//! in the CPU's record ([`super::percpu::EntryStack`]), and the stub loads the hypervisor's
//! root before it moves that frame to the register file. On the way out it is the other way round.
//! What may arrive in ring 0 while the guest's root is loaded, between the switch and `iretq` or
//! between `syscall` and the switch, is a fault of `iretq` and what the interrupt stack table
//! catches: all these stubs load the hypervisor's root first.

use super::gdt::HYPERVISOR_SS;
use super::percpu::{
    ENTRY_FRAME, GUEST_ROOT, HYPERVISOR_ROOT, HYPERVISOR_SP, REGISTERS_TOP, SCRATCH,
};
use pinfold_abi::layout::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_SS64};
use pinfold_abi::vcpu::CpuUserRegs;

/// Bytes below a register file that a faulting `iretq` may overwrite: six words pushed by the
/// CPU and fifteen by the stub, less what falls into the file itself.
pub const IRET_SLACK: usize = 128;

/// A vCPU's registers with the room around them that entry and exit need.
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

    /// Where the CPU is to push: see [`super::percpu::PerCpu::set_registers_top`].
    pub fn top(&self) -> u64 {
        &raw const self.regs as u64 + SS_END as u64
    }
}

/// Why a guest stopped.
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
    /// An interrupt of the machine.
    Interrupt(u8),
    /// The return to the guest faulted with this exception: its segment registers are bad.
    ReturnFault(u8),
}

const EXIT_SYSCALL: u64 = 0x100;
const EXIT_COMPAT_SYSCALL: u64 = 0x101;
const EXIT_RETURN_FAULT: u64 = 0x200;

/// Which copy of the entry and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySet {
    /// The guest runs on the hypervisor's root for it.
    Direct,
    /// The guest runs on a root without the hypervisor's memory (page-table isolation).
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

/// Runs the guest until it needs the hypervisor.
///
/// # Safety
/// `entries` are the ones in use ([`super::idt::load`]). `file` is what
/// [`super::percpu::PerCpu::set_registers_top`] was told last; its selectors have RPL 3, its flags
/// have IF and neither IOPL, NT nor VM; the vCPU's address space is loaded, and, if isolated, its
/// guest entries are in this CPU's guest root.
#[inline]
pub unsafe fn enter(entries: EntrySet, file: &mut RegisterFile) -> Exit {
    let regs = &raw mut file.regs;
    // SAFETY: the register file is exclusively ours for the call, as is the CPU.
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

/// Bytes of `verw` with an address relative to rip.
const VERW_BYTES: usize = 7;

/// The places where `verw` goes on the ways back to a guest, in either set of entry code, and the
/// bytes that make it up there. On a CPU that doesn't need it the places stay what they are:
/// one instruction that does nothing.
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

/// Pages of the isolated copy: whole ones, with nothing else in them.
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

    # All but rdi.
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

    # Room for a `verw`: see verw_sites. Behind the last load of what isn't the guest's, before
    # `iretq` loads the flags that it changes.
    .macro VERW_PLACE
        .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
    .endm

    # With isolation: the hypervisor's root instead of the guest's. GS is the hypervisor's.
    .macro LOAD_HYPERVISOR_ROOT isolated:req, register:req
    .if \isolated
        mov \register, gs:[{hypervisor_root}]
        mov cr3, \register
    .endif
    .endm

    # Back to the caller of pinfold_enter_guest, whose result is in rax.
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

    # All the code, as it is with page-table isolation or without.
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
        # What iretq pops goes to the entry stack; the last register that the change of roots
        # needs waits in the record. Both are mapped by either root.
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
        VERW_PLACE
    pinfold_guest_iretq\suffix:
        iretq

    # syscall from 32-bit code (AMD): as below, with another code selector and reason.
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

    # Error code (or 0) and vector are pushed, in one word.
    pinfold_common\suffix:
        cld
        test byte ptr [rsp + 16], 3
        jz 2f
        swapgs
    .ifeq \isolated
        # Whether it was done may have been guessed wrongly (CVE-2019-1125): nothing is read through
        # GS before it is known. The isolated way waits for its change of roots.
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
        # The hypervisor's root is loaded; GS may be the guest's, while its selector is.
        mov rdi, rsp
        sub rsp, 8
        call {hypervisor_trap}
        add rsp, 8
        POP_GENERAL
        add rsp, 8
        iretq

    # iretq faulted: we are on the register file or the entry stack, with the guest's GS. The live
    # general registers were pushed below; move them to the file, keep the error code, leave.
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

    # The debug exception: from ring 3 it goes on like any other, on the register file.
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

    # GS and the root may be anybody's: set them from the top of this stack, and put them back
    # afterwards.
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
        VERW_PLACE
        iretq

    # What `verw` looks at: it clears the CPU's buffers only with an operand in memory.
    .balign 2
    .global pinfold_verw_selector\suffix
    pinfold_verw_selector\suffix:
        .short {stack_selector}
    .endm

    .section .text.pinfold_entry, "ax"
    ENTRY_CODE _direct, 0

    # Whole pages, as guests' roots map them.
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
