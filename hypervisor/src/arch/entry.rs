//! Into the guest and back: the seam between the hypervisor and whatever runs guests.
//!
//! [`enter`] looks like a function call. It leaves the hypervisor's callee-saved registers on its
//! stack, loads the guest's registers and returns to ring 3. The processor (or the `syscall` stub)
//! later pushes the guest's state right into the vCPU's register file, for which the TSS gives the
//! file's end as the ring-0 stack; the stub completes the file and returns from `enter`. Nothing
//! is copied, and no stack is shared between a guest's state and the hypervisor's frames.
//!
//! Three things can go wrong on the way, each with its own room:
//! * `iretq` faults because of a selector that the guest left: the fault arrives in ring 0 on the
//!   register file, pushed below it into [`IRET_SLACK`]; the stub moves it up and reports it as an
//!   exit, [`Exit::ReturnFault`].
//! * NMI, machine check and double fault may come at any instruction, when GS says nothing: their
//!   stacks carry the address of the processor's record.
//! * A debug exception may come between `syscall` and the change of stacks, hence its own stack;
//!   if it came from ring 3 the stub moves the frame to the register file and goes on as usual.

use super::gdt::HYPERVISOR_SS;
use super::percpu::{HYPERVISOR_SP, REGISTERS_TOP, SCRATCH};
use pinfold_abi::layout::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_SS64};
use pinfold_abi::vcpu::CpuUserRegs;

/// Bytes below a register file that a faulting `iretq` may overwrite: six words pushed by the
/// processor and fifteen by the stub, less what falls into the file itself.
pub const IRET_SLACK: usize = 128;

/// A vCPU's registers with the room around them that entry and exit need.
#[repr(C, align(16))]
pub struct RegisterFile {
    slack: [u8; IRET_SLACK + 8],
    /// The registers; `ss` ends on a 16-byte boundary, where the processor starts to push.
    pub regs: CpuUserRegs,
}

const SS_END: usize = core::mem::offset_of!(CpuUserRegs, ss) + 8;
const _: () = assert!((core::mem::offset_of!(RegisterFile, regs) + SS_END).is_multiple_of(16));

impl RegisterFile {
    /// A file of zeros.
    pub fn new() -> RegisterFile {
        RegisterFile { slack: [0; IRET_SLACK + 8], regs: CpuUserRegs::default() }
    }

    /// Where the processor is to push: see [`super::percpu::PerCpu::set_registers_top`].
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

unsafe extern "C" {
    fn pinfold_enter_guest(regs: *mut CpuUserRegs) -> u64;
    fn pinfold_syscall_entry();
    fn pinfold_compat_syscall_entry();
    static pinfold_stubs: [[u8; 16]; 256];
    static pinfold_verw_at_enter: u8;
    static pinfold_verw_at_paranoid: u8;
    static pinfold_verw_selector: u16;
    fn pinfold_debug_stub();
    fn pinfold_nmi_stub();
    fn pinfold_double_fault_stub();
    fn pinfold_machine_check_stub();
}

/// Runs the guest until it needs the hypervisor.
///
/// # Safety
/// `file` is what [`super::percpu::PerCpu::set_registers_top`] was told last; its selectors have
/// RPL 3, its flags have IF and neither IOPL, NT nor VM; the vCPU's address space is loaded.
pub unsafe fn enter(file: &mut RegisterFile) -> Exit {
    // SAFETY: the register file is exclusively ours for the call, as is the processor.
    let code = unsafe { pinfold_enter_guest(&raw mut file.regs) };
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

/// The places where `verw` goes on the ways back to a guest, and the bytes that make it up there. On
/// a processor that doesn't need it the places stay what they are: one instruction that does nothing.
pub fn verw_sites() -> [(u64, [u8; VERW_BYTES]); 2] {
    let selector = &raw const pinfold_verw_selector as u64;
    [&raw const pinfold_verw_at_enter, &raw const pinfold_verw_at_paranoid].map(|site| {
        let site = site as u64;
        // verw word ptr [rip + distance]: 0f 00 /5, Intel SDM vol. 2.
        let distance = selector.wrapping_sub(site + VERW_BYTES as u64) as u32;
        let [a, b, c, d] = distance.to_le_bytes();
        (site, [0x0f, 0x00, 0x2d, a, b, c, d])
    })
}

/// Address of the stub of a vector.
pub fn stub(vector: u8) -> u64 {
    &raw const pinfold_stubs as u64 + u64::from(vector) * 16
}

/// Address of the stub of the debug exception.
pub fn debug_stub() -> u64 {
    pinfold_debug_stub as *const () as u64
}

/// Address of the stub of NMI (2), double fault (8) or machine check (18).
pub fn paranoid_stub(vector: u8) -> u64 {
    match vector {
        2 => pinfold_nmi_stub as *const () as u64,
        8 => pinfold_double_fault_stub as *const () as u64,
        _ => pinfold_machine_check_stub as *const () as u64,
    }
}

/// Address of the entry point of `syscall`.
pub fn syscall_entry() -> u64 {
    pinfold_syscall_entry as *const () as u64
}

/// Address of the entry point of `syscall` in 32-bit code.
pub fn compat_syscall_entry() -> u64 {
    pinfold_compat_syscall_entry as *const () as u64
}

core::arch::global_asm!(
    r#"
    .section .text.pinfold_entry, "ax"

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

    .macro POP_GENERAL
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
        pop rdi
    .endm

    # Room for a `verw`: see verw_sites. Behind the last load of what isn't the guest's, before
    # `iretq` loads the flags that it changes.
    .macro VERW_PLACE
        .byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0
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

    .global pinfold_enter_guest
    pinfold_enter_guest:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        mov gs:[{sp}], rsp
        mov rsp, rdi
        POP_GENERAL
        add rsp, 8
        swapgs
    .global pinfold_verw_at_enter
    pinfold_verw_at_enter:
        VERW_PLACE
    pinfold_guest_iretq:
        iretq

    # syscall from 32-bit code (AMD): as below, with another code selector and reason.
    .global pinfold_compat_syscall_entry
    .balign 16
    pinfold_compat_syscall_entry:
        swapgs
        mov gs:[{scratch}], rsp
        mov rsp, gs:[{top}]
        push {user_ss}
        push gs:[{scratch}]
        push r11
        push {user_cs32}
        push rcx
        push 0
        mov dword ptr [rsp + 4], {compat_syscall}
        jmp pinfold_from_guest

    .global pinfold_syscall_entry
    .balign 16
    pinfold_syscall_entry:
        swapgs
        mov gs:[{scratch}], rsp
        mov rsp, gs:[{top}]
        push {user_ss}
        push gs:[{scratch}]
        push r11
        push {user_cs}
        push rcx
        push 0
        mov dword ptr [rsp + 4], {syscall}
    pinfold_from_guest:
        PUSH_GENERAL
        mov eax, [rsp + 0x7c]
        RETURN_TO_HYPERVISOR

    # Error code (or 0) and vector are pushed, in one word.
    pinfold_common:
        cld
        test byte ptr [rsp + 16], 3
        jz 2f
        swapgs
        jmp pinfold_from_guest
    2:  PUSH_GENERAL
        lea rax, [rip + pinfold_guest_iretq]
        cmp [rsp + 0x80], rax
        je pinfold_return_fault
        mov rdi, rsp
        sub rsp, 8
        call {hypervisor_trap}
        add rsp, 8
        POP_GENERAL
        add rsp, 8
        iretq

    # iretq faulted: we are on the register file, with the guest's GS. The live general registers
    # were pushed below the file's own; move them up, keep the error code, leave.
    pinfold_return_fault:
        swapgs
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

    .global pinfold_stubs
    .balign 16
    pinfold_stubs:
    .set vector, 0
    .rept 256
        .balign 16
        .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
        .else
        push 0
        .endif
        mov dword ptr [rsp + 4], vector
        jmp pinfold_common
        .set vector, vector + 1
    .endr
    .balign 16

    # The debug exception: from ring 3 it goes on like any other, on the register file.
    .global pinfold_debug_stub
    pinfold_debug_stub:
        cld
        test byte ptr [rsp + 8], 3
        jz 2f
        swapgs
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
        jmp pinfold_from_guest
    2:  push 0
        mov dword ptr [rsp + 4], 1
        jmp pinfold_paranoid

    .global pinfold_nmi_stub
    pinfold_nmi_stub:
        push 0
        mov dword ptr [rsp + 4], 2
        jmp pinfold_paranoid
    .global pinfold_double_fault_stub
    pinfold_double_fault_stub:
        mov dword ptr [rsp + 4], 8
        jmp pinfold_paranoid
    .global pinfold_machine_check_stub
    pinfold_machine_check_stub:
        push 0
        mov dword ptr [rsp + 4], 18

    # GS may be anybody's: set it from the top of this stack, and put it back afterwards.
    pinfold_paranoid:
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
        mov rdi, rsp
        sub rsp, 8
        call {paranoid_trap}
        add rsp, 8
        mov ecx, {gs_base}
        mov rax, rbx
        mov rdx, rbx
        shr rdx, 32
        wrmsr
        POP_GENERAL
        add rsp, 8
    .global pinfold_verw_at_paranoid
    pinfold_verw_at_paranoid:
        VERW_PLACE
        iretq

    # What `verw` looks at: it clears the processor's buffers only with an operand in memory.
    .balign 2
    .global pinfold_verw_selector
    pinfold_verw_selector:
        .short {stack_selector}
    "#,
    sp = const HYPERVISOR_SP,
    top = const REGISTERS_TOP,
    scratch = const SCRATCH,
    ss_end = const SS_END,
    user_ss = const FLAT_RING3_SS64,
    user_cs = const FLAT_RING3_CS64,
    user_cs32 = const FLAT_RING3_CS32,
    compat_syscall = const EXIT_COMPAT_SYSCALL,
    syscall = const EXIT_SYSCALL,
    return_fault = const EXIT_RETURN_FAULT,
    gs_base = const 0xc000_0101u32,
    stack_selector = const HYPERVISOR_SS,
    hypervisor_trap = sym crate::trap::hypervisor::hypervisor_trap,
    paranoid_trap = sym crate::trap::hypervisor::paranoid_trap,
);
