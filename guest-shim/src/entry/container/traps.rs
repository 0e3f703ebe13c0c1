//! Native entries of exceptions and events. They leave a [`TrapFrame`] as those of ring 3 do, and
//! return by `iretq`.
//!
//! The processor pushes `[error], rip, cs, rflags, rsp, ss`. GS has the kernel's base whenever the
//! kernel runs, but for a few instructions at a system call. #DB, NMI, #DF and #MC may come there:
//! they look at the base itself, which is in the upper half for the kernel only.

use super::cpu::RFLAGS_IF;
use super::tables::GATES;
use crate::entry::frame::{EVENT, TrapFrame, pop_registers, push_registers};
use crate::entry::trap;
use crate::hypercall::address;
use core::arch::global_asm;

/// Distance of two stubs, in bytes.
const STUB_SIZE: usize = 16;

global_asm!(
    ".pushsection .text.native_traps, \"ax\"",
    ".macro pinfold_native_stub vector:req, has_error:req, common:req",
    ".balign 16",
    ".if \\has_error == 0",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp \\common",
    ".endm",
    ".balign 16",
    "pinfold_native_stubs:",
    "pinfold_native_stub 0, 0, pinfold_native_common",
    "pinfold_native_stub 1, 0, pinfold_native_anywhere",
    "pinfold_native_stub 2, 0, pinfold_native_anywhere",
    ".irp vector, 3, 4, 5, 6, 7",
    "pinfold_native_stub \\vector, 0, pinfold_native_common",
    ".endr",
    "pinfold_native_stub 8, 1, pinfold_native_anywhere",
    "pinfold_native_stub 9, 0, pinfold_native_common",
    ".irp vector, 10, 11, 12, 13, 14",
    "pinfold_native_stub \\vector, 1, pinfold_native_common",
    ".endr",
    "pinfold_native_stub 15, 0, pinfold_native_common",
    "pinfold_native_stub 16, 0, pinfold_native_common",
    "pinfold_native_stub 17, 1, pinfold_native_common",
    "pinfold_native_stub 18, 0, pinfold_native_anywhere",
    "pinfold_native_stub 19, 0, pinfold_native_common",
    "pinfold_native_stub 20, 0, pinfold_native_common",
    // Control protection, VMM communication and security exceptions have an error code.
    "pinfold_native_stub 21, 1, pinfold_native_common",
    ".irp vector, 22, 23, 24, 25, 26, 27, 28",
    "pinfold_native_stub \\vector, 0, pinfold_native_common",
    ".endr",
    "pinfold_native_stub 29, 1, pinfold_native_common",
    "pinfold_native_stub 30, 1, pinfold_native_common",
    "pinfold_native_stub 31, 0, pinfold_native_common",
    "pinfold_native_stub {event}, 0, pinfold_native_common",
    // Above rsp: vector, error, rip, cs.
    ".global pinfold_native_common",
    "pinfold_native_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 2f",
    "swapgs",
    "2:",
    push_registers!(),
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "cld",
    "call {dispatch}",
    "mov rsp, rbx",
    pop_registers!(),
    "add rsp, 16",
    "test byte ptr [rsp + 8], 3",
    "jz 2f",
    "swapgs",
    "2:",
    "iretq",
    // r12: whether GS had the base of user mode. r13: where the vCPU was.
    "pinfold_native_anywhere:",
    push_registers!(),
    "mov ecx, {gs_base}",
    "rdmsr",
    "xor r12d, r12d",
    "test edx, edx",
    "js 2f",
    "swapgs",
    "mov r12d, 1",
    "2:",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "mov r13, [rsp + {rip}]",
    "and rsp, -16",
    "cld",
    "call {dispatch}",
    "mov rsp, rbx",
    // If the handler has it continue elsewhere in the kernel, GS keeps the kernel's base.
    "test r12d, r12d",
    "jz 2f",
    "test byte ptr [rsp + {cs}], 3",
    "jnz 3f",
    "cmp r13, [rsp + {rip}]",
    "jne 2f",
    "3:",
    "swapgs",
    "2:",
    pop_registers!(),
    "add rsp, 16",
    "iretq",
    ".popsection",
    dispatch = sym dispatch,
    event = const EVENT,
    gs_base = const 0xc000_0101u32,
    rip = const core::mem::offset_of!(TrapFrame, rip),
    cs = const core::mem::offset_of!(TrapFrame, cs),
);

unsafe extern "C" {
    #[link_name = "pinfold_native_stubs"]
    safe static STUBS: u8;
}

/// Address of the stub of a vector.
pub(super) fn stub(vector: usize) -> u64 {
    assert!(vector < GATES, "there is no vector {vector}");
    address(&raw const STUBS) + (vector * STUB_SIZE) as u64
}

extern "C" fn dispatch(frame: &mut TrapFrame) {
    if frame.rflags & RFLAGS_IF == 0 {
        // Where the hypervisor shows the event mask. `iretq` ignores it.
        frame.cs |= 1 << 32;
    }
    trap::dispatch(frame);
}
