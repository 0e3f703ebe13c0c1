//! vcpu_op initialise: a vCPU's first state, from a structure of the guest's. All of it is judged
//! before any of it counts.

use super::mmu_update::BUDGET;
use super::{Outcome, descriptors};
use crate::arch::fpu::FpuState;
use crate::arch::ipi;
use crate::domain::Seat;
use crate::domain::vcpu::{Handler, Mode, Vcpu, VcpuMemory};
use crate::memory::guest::{GuestPtr, is_canonical, is_guest_address};
use crate::memory::{platform, report, validator};
use crate::trap::bounce::rflags;
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::trap::{TI_DPL, TI_MASK_EVENTS};
use pinfold_abi::vcpu::*;
use pinfold_emulate::control::CR4_DE;
use pinfold_validator::{Budget, Mfn, Stop};

/// Gives a seat its first state. `caller` is the vCPU that asks.
#[inline(never)]
pub fn run(caller: &Vcpu, seat: &Seat, argument: u64) -> Outcome {
    let context = match GuestPtr::<VcpuGuestContext>::new(argument).read() {
        Ok(context) => context,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    let domain = &caller.domain;
    if let Err(errno) = check(&context) {
        return Outcome::Done(errno.as_result());
    }
    // Two vCPUs may initialise the same third one.
    let Some(memory) = seat.claim() else {
        return Outcome::Done(Errno::EEXIST.as_result());
    };
    match build(caller, seat, memory, &context) {
        Ok(vcpu) => {
            domain.states.fetch_add(1, Ordering::AcqRel);
            seat.initialise(vcpu);
            if context.flags & VGCF_ONLINE != 0 {
                seat.bring_up();
            }
            // If the domain ended meanwhile, nobody else would come for this state.
            if domain.ending.is_completed() {
                seat.rouse();
            }
            Outcome::Done(0)
        }
        Err((errno, memory)) => {
            seat.unclaim(memory);
            Outcome::Done(errno.as_result())
        }
    }
}

/// Everything that can be judged without taking a reference.
fn check(context: &VcpuGuestContext) -> Result<(), Errno> {
    let stacks = [context.user_regs.rsp, context.kernel_sp];
    let bases = [context.fs_base, context.gs_base_kernel, context.gs_base_user];
    let callbacks = [
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.user_regs.rip,
    ];
    let handlers = context.trap_ctxt.iter().map(|trap| trap.address);
    let fine = stacks.into_iter().chain(bases).all(is_canonical)
        && callbacks.into_iter().chain(handlers).all(is_guest_address);
    if fine { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Builds the state in its memory, which comes back if that fails.
fn build(
    caller: &Vcpu,
    seat: &Seat,
    memory: VcpuMemory,
    context: &VcpuGuestContext,
) -> Result<Box<Vcpu>, (Errno, VcpuMemory)> {
    let domain = &caller.domain;
    let kernel_root = match take_root(caller, context.ctrlreg[3]) {
        Ok(root) => root,
        Err(errno) => return Err((errno, memory)),
    };
    let mut vcpu = Vcpu::new(memory, domain.clone(), seat.id, kernel_root);
    platform::show_m2p(kernel_root, true);
    let filled = fill(&mut vcpu, caller, context);
    if let Err(errno) = filled {
        descriptors::drop_all(&mut vcpu);
        for root in [Some(vcpu.kernel_root), vcpu.user_root].into_iter().flatten() {
            while let Err(Stop::Preempted) =
                validator().drop_root(domain.id, root, &mut Budget::new(BUDGET))
            {}
        }
        return Err((errno, VcpuMemory::recycle(vcpu)));
    }
    Ok(vcpu)
}

/// Takes a reference on the root that a CR3 value names.
fn take_root(caller: &Vcpu, cr3: u64) -> Result<Mfn, Errno> {
    let root = Mfn::new(cr3 >> 12);
    loop {
        match validator().take_root(caller.domain.id, root, &mut Budget::new(BUDGET)) {
            Ok(()) => return Ok(root),
            // What was validated so far stays so: it goes on from there.
            Err(Stop::Preempted) => ipi::attend(),
            Err(stop @ Stop::Refused(_)) => {
                report::stopped(caller, &stop);
                return Err(Errno::EINVAL);
            }
        }
    }
}

fn fill(vcpu: &mut Vcpu, caller: &Vcpu, context: &VcpuGuestContext) -> Result<(), Errno> {
    if context.ctrlreg[1] >> 12 != 0 {
        let root = take_root(caller, context.ctrlreg[1])?;
        vcpu.user_root = Some(root);
        if root != vcpu.kernel_root {
            platform::show_m2p(root, false);
        }
    }
    vcpu.mode = match (context.flags & VGCF_IN_KERNEL != 0, vcpu.user_root) {
        (true, _) => Mode::Kernel,
        (false, Some(_)) => Mode::User,
        (false, None) => return Err(Errno::EINVAL),
    };
    let regs = &mut vcpu.file.regs;
    *regs = context.user_regs;
    regs.cs |= 3;
    regs.ss |= 3;
    regs.rflags = regs.rflags & rflags::GUEST | rflags::IF | rflags::ALWAYS_ONE;
    vcpu.fs_base = context.fs_base;
    (vcpu.gs_base, vcpu.parked_gs_base) = match vcpu.mode {
        Mode::Kernel => (context.gs_base_kernel, context.gs_base_user),
        Mode::User => (context.gs_base_user, context.gs_base_kernel),
    };
    vcpu.kernel_stack = (context.kernel_ss as u16 | 3, context.kernel_sp);
    for (handler, trap) in vcpu.traps.iter_mut().zip(&context.trap_ctxt) {
        *handler = Handler {
            address: trap.address,
            dpl: trap.flags & TI_DPL,
            masks_events: trap.flags & TI_MASK_EVENTS != 0,
        };
    }
    let callback = |address, masks| Handler { address, dpl: 0, masks_events: masks };
    let masks = |flag| context.flags & flag != 0;
    vcpu.callbacks.event = callback(context.event_callback_eip, true);
    vcpu.callbacks.failsafe =
        callback(context.failsafe_callback_eip, masks(VGCF_FAILSAFE_DISABLES_EVENTS));
    vcpu.callbacks.syscall =
        callback(context.syscall_callback_eip, masks(VGCF_SYSCALL_DISABLES_EVENTS));
    if masks(VGCF_I387_VALID) {
        vcpu.fpu = FpuState::from_guest(&context.fpu);
    }
    let extensions = vcpu.cr4 & CR4_DE != 0;
    for register in [0, 1, 2, 3, 6, 7] {
        vcpu.debug.set(register, context.debugreg[register as usize], extensions)?;
    }
    let pages = usize::try_from(context.gdt_ents).map_err(|_| Errno::EINVAL)?.div_ceil(512);
    let frames = context.gdt_frames.get(..pages).ok_or(Errno::EINVAL)?;
    descriptors::give_gdt(vcpu, frames, context.gdt_ents)?;
    descriptors::note_ldt(vcpu, context.ldt_base, context.ldt_ents)
}
