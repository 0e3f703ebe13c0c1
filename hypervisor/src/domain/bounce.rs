//! Delivers exceptions and events to the guest kernel: builds a frame on its stack and enters its
//! handler.
//!
//! The frame is rcx, r11, (error code,) rip, cs, rflags, rsp, ss from low to high. It goes on the
//! kernel stack when the guest was in user mode, else on the current one, aligned down to 16.

use super::exit::Fatal;
use crate::arch::vector;
use crate::domain::context;
use crate::domain::vcpu::{Handler, Mode, Vcpu};
use crate::memory::guest;
use core::sync::atomic::Ordering;
use pinfold_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_SS64};
use zerocopy::IntoBytes;

/// RFLAGS bits (Intel SDM vol. 1, 3.4.3).
pub mod rflags {
    pub const ALWAYS_ONE: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    /// Flags that a guest may have set while it runs.
    pub const GUEST: u64 = 0x0024_0dd5 | AC;
}

/// Whether the entry clears DF: it does for `syscall` callbacks, not for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearDirection {
    /// Cleared.
    Yes,
    /// Kept.
    No,
}

/// Delivers an exception through the trap table.
pub fn exception(vcpu: &mut Vcpu, number: u8, error: Option<u32>) -> Result<(), Fatal> {
    let handler = vcpu.traps[usize::from(number)];
    if handler.address == 0 {
        return Err(Fatal("exception without a handler"));
    }
    match error {
        Some(error) => push(vcpu, handler, [error.into()], ClearDirection::No),
        None => push(vcpu, handler, [], ClearDirection::No),
    }
}

/// Delivers an event that has a callback instead of a trap-table entry.
#[inline(always)]
pub fn callback(vcpu: &mut Vcpu, handler: Handler, direction: ClearDirection) -> Result<(), Fatal> {
    push_inline(vcpu, handler, [], direction)
}

/// Delivers the failsafe callback: the selectors that could not be loaded are in the frame.
pub fn failsafe(vcpu: &mut Vcpu, selectors: [u16; 4]) -> Result<(), Fatal> {
    let handler = vcpu.callbacks.failsafe;
    if handler.address == 0 {
        return Err(Fatal("a selector can't be loaded and there is no failsafe callback"));
    }
    push(vcpu, handler, selectors.map(u64::from), ClearDirection::No)
}

/// Delivers an NMI; without a callback it is dropped.
pub fn nmi(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    let handler = vcpu.callbacks.nmi;
    if handler.address == 0 {
        return Ok(());
    }
    push(vcpu, handler, [], ClearDirection::No)
}

/// Delivers a pending event, if events are unmasked.
pub fn pending_event(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    // Relaxed: if the guest's own stores race with this, the event is delivered one exit later.
    let pending = vcpu.info.upcall_pending().load(Ordering::Relaxed) != 0;
    if !pending || vcpu.info.upcall_mask().load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let handler = vcpu.callbacks.event;
    if handler.address == 0 {
        return Ok(());
    }
    push(vcpu, handler, [], ClearDirection::No)
}

/// [`push_inline`], for what is not worth a copy of it.
#[inline(never)]
fn push<const N: usize>(
    vcpu: &mut Vcpu,
    handler: Handler,
    extra: [u64; N],
    direction: ClearDirection,
) -> Result<(), Fatal> {
    push_inline(vcpu, handler, extra, direction)
}

/// Builds the frame, with the selectors or the error code in `extra`, and enters the handler. A copy of
/// its own for system calls.
#[inline(always)]
fn push_inline<const N: usize>(
    vcpu: &mut Vcpu,
    handler: Handler,
    extra: [u64; N],
    direction: ClearDirection,
) -> Result<(), Fatal> {
    /// Most words of a frame: those of the failsafe callback.
    const MOST_WORDS: usize = 4 + 7;
    const { assert!(N + 7 <= MOST_WORDS) };
    let from_user = vcpu.mode == Mode::User;
    let mask = vcpu.info.upcall_mask().load(Ordering::Relaxed);
    let regs = &vcpu.file.regs;
    // Frames of the kernel have RPL 0: that is how a guest kernel knows which mode was interrupted.
    let (cs, ss) = if from_user {
        (u64::from(regs.cs) | 3, u64::from(regs.ss))
    } else {
        (u64::from(regs.cs & !3), u64::from(regs.ss))
    };
    let shown_if = if mask == 0 { rflags::IF } else { 0 };
    let shown_flags = regs.rflags & !(rflags::IF | rflags::IOPL) | shown_if;

    let mut words = [0; MOST_WORDS];
    words[..2].copy_from_slice(&[regs.rcx, regs.r11]);
    words[2..][..N].copy_from_slice(&extra);
    words[2 + N..][..5].copy_from_slice(&[
        regs.rip,
        cs | u64::from(mask) << 32,
        shown_flags,
        regs.rsp,
        ss,
    ]);

    let stack = if from_user { vcpu.kernel_stack.1 } else { regs.rsp };
    let bytes = words[..N + 7].as_bytes();
    let frame = (stack & !15).wrapping_sub(bytes.len() as u64);
    context::to_kernel(vcpu);
    if guest::write_bytes(frame, bytes).is_err() {
        return Err(Fatal("the exception frame can't be written to the guest's stack"));
    }
    if handler.masks_events {
        vcpu.info.upcall_mask().store(1, Ordering::Relaxed);
    }
    let regs = &mut vcpu.file.regs;
    let clear_direction = if direction == ClearDirection::Yes { rflags::DF } else { 0 };
    let cleared = rflags::AC | rflags::VM | rflags::RF | rflags::NT | rflags::TF | rflags::IOPL;
    regs.rflags = regs.rflags & !(cleared | clear_direction) | rflags::IF | rflags::ALWAYS_ONE;
    regs.rip = handler.address;
    regs.rsp = frame;
    regs.cs = FLAT_RING3_CS64;
    regs.ss = FLAT_RING3_SS64;
    Ok(())
}

/// Delivers a general-protection fault.
pub fn general_protection(vcpu: &mut Vcpu, error: u32) -> Result<(), Fatal> {
    exception(vcpu, vector::GENERAL_PROTECTION, Some(error))
}
