//! iret: returns from a handler of the guest kernel, to kernel or user mode.

use super::outcome::Outcome;
use crate::domain::bounce::{self, rflags};
use crate::domain::context;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::{GuestPtr, is_guest_address};
use core::sync::atomic::Ordering;
use pinfold_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_SS64};
use pinfold_abi::trap::{IretFrame, VGCF_IN_SYSCALL};

/// Restores the frame at the guest's rsp.
pub fn run(vcpu: &mut Vcpu) -> Outcome {
    let frame = match GuestPtr::<IretFrame>::new(vcpu.file.regs.rsp).read() {
        Ok(frame) => frame,
        Err(_) => return Outcome::Fatal("iret: the frame on the guest's stack can't be read"),
    };
    if frame.cs & 3 == 3 && !context::to_user(vcpu) {
        return Outcome::Fatal("iret to user mode, but there is no user root");
    }
    vcpu.info.upcall_mask().store(u8::from(frame.rflags & rflags::IF == 0), Ordering::Relaxed);
    let regs = &mut vcpu.file.regs;
    regs.rax = frame.rax;
    regs.rip = frame.rip;
    regs.rsp = frame.rsp;
    regs.rflags = frame.rflags & rflags::GUEST | rflags::IF | rflags::ALWAYS_ONE;
    if frame.flags & VGCF_IN_SYSCALL != 0 {
        // As after `sysret`: rcx and r11 hold rip and rflags.
        regs.cs = FLAT_RING3_CS64;
        regs.ss = FLAT_RING3_SS64;
        regs.rcx = frame.rip;
        regs.r11 = frame.rflags;
    } else {
        regs.cs = frame.cs as u16 | 3;
        regs.ss = frame.ss as u16 | 3;
        regs.rcx = frame.rcx;
        regs.r11 = frame.r11;
    }
    if !is_guest_address(frame.rip) {
        // `iretq` would fault, in the hypervisor or right after it: crash the guest here instead.
        return bounce::general_protection(vcpu, 0).into();
    }
    Outcome::RegistersSet
}
