//! vcpu_op initialise: a vCPU's first state, from a structure of the guest's. All of it is checked
//! before any of it takes effect.

use super::continuation::end_or_restart;
use super::outcome::Outcome;
use crate::arch::fpu::FpuState;
use crate::domain::VcpuSlot;
use crate::domain::bounce::rflags;
use crate::domain::descriptors;
use crate::domain::element_stop::ElementStop;
use crate::domain::roots::{get_root, put_held_roots, put_root};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::{Handler, Mode, Vcpu, VcpuMemory};
use crate::memory::guest::{GuestPtr, is_canonical, is_guest_address};
use crate::memory::platform;
use alloc::boxed::Box;
use pinfold_abi::errno::Errno;
use pinfold_abi::trap::{TI_DPL, TI_MASK_EVENTS};
use pinfold_abi::vcpu::*;
use pinfold_emulate::control::has_debug_extensions;
use pinfold_validator::Mfn;

/// Initialises the vCPU of a slot, on behalf of `caller`.
///
/// Validating a root may take long, so the call may be preempted. The frames keep what was validated
/// so far, and the caller keeps references on the roots that are done ([`Vcpu::held_roots`]):
/// otherwise the second root could undo the first one, each time.
#[inline(never)]
pub fn run(caller: &mut Vcpu, slot: &VcpuSlot, args: &Args) -> Outcome {
    let initialised = initialise(caller, slot, args[2]);
    if !matches!(initialised, Err(ElementStop::Preempted)) {
        put_held_roots(caller);
    }
    end_or_restart(caller, args, initialised)
}

fn initialise(caller: &mut Vcpu, slot: &VcpuSlot, argument: u64) -> Result<(), ElementStop> {
    let context = GuestPtr::<VcpuGuestContext>::new(argument).read()?;
    check(&context)?;
    // Two vCPUs may try to initialise the same one.
    let Some(memory) = slot.take_memory() else {
        return Err(Errno::EEXIST.into());
    };
    let vcpu = match build(caller, slot, memory, &context) {
        Ok(vcpu) => vcpu,
        Err((stop, memory)) => {
            slot.return_memory(memory);
            return Err(stop);
        }
    };
    let domain = &caller.domain;
    domain.lifecycle.add_vcpu();
    slot.initialise(vcpu);
    if context.flags & VGCF_ONLINE != 0 {
        slot.bring_up();
    }
    // If the domain ended meanwhile, nobody else would destroy this state.
    if domain.is_ending() {
        slot.force_wake();
    }
    Ok(())
}

/// Checks everything that needs no reference.
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

/// The roots that a context names: for the kernel, and for user mode, if any.
fn roots(context: &VcpuGuestContext) -> (Mfn, Option<Mfn>) {
    let root = |cr3: u64| Mfn::new(cr3 >> 12);
    let user = root(context.ctrlreg[1]);
    (root(context.ctrlreg[3]), (user.get() != 0).then_some(user))
}

/// Builds the state in its memory, which is returned if that fails.
fn build(
    caller: &mut Vcpu,
    slot: &VcpuSlot,
    memory: VcpuMemory,
    context: &VcpuGuestContext,
) -> Result<Box<Vcpu>, (ElementStop, VcpuMemory)> {
    let (kernel_root, user_root) = roots(context);
    if let Err(stop) = hold_roots(caller, kernel_root, user_root) {
        return Err((stop, memory));
    }
    // The caller holds references until the call is done, so these are validated already.
    let kernel_root = match get_root(caller, kernel_root) {
        Ok(root) => root,
        Err(stop) => return Err((stop, memory)),
    };
    let user_root = match user_root.map(|root| get_root(caller, root)).transpose() {
        Ok(root) => root,
        Err(stop) => return Err((stop, memory)),
    };
    platform::set_m2p_visible(&kernel_root, true);
    if let Some(root) = user_root.as_ref().filter(|root| root.frame() != kernel_root.frame()) {
        platform::set_m2p_visible(root, false);
    }
    let mut vcpu = Vcpu::new(memory, caller.domain.clone(), slot.id, kernel_root);
    vcpu.user_root = user_root;
    let filled = if vcpu.container.is_some() {
        fill_container(&mut vcpu, context)
    } else {
        fill(&mut vcpu, context)
    };
    if let Err(stop) = filled {
        descriptors::drop_all(&mut vcpu);
        return Err((stop, VcpuMemory::recycle(vcpu)));
    }
    Ok(vcpu)
}

/// Makes the caller hold one reference on each of these roots, and releases all others that it held.
fn hold_roots(
    caller: &mut Vcpu,
    kernel_root: Mfn,
    user_root: Option<Mfn>,
) -> Result<(), ElementStop> {
    let mut before = core::mem::take(&mut caller.held_roots);
    let mut result = Ok(());
    for root in [Some(kernel_root), user_root].into_iter().flatten() {
        let held = before.iter().position(|held| held.frame() == root);
        match held.map(|place| Ok(before.remove(place))).unwrap_or_else(|| get_root(caller, root)) {
            Ok(root) => caller.held_roots.push(root),
            Err(stop) => {
                result = Err(stop);
                break;
            }
        }
    }
    for root in before {
        put_root(caller, root);
    }
    result.map_err(|stop| match stop {
        // Whatever is wrong with a root: EINVAL for the context, as on Xen.
        ElementStop::Errno(_) => Errno::EINVAL.into(),
        suspended => suspended,
    })
}

/// Sets the state of a vCPU in a hardware container, which begins in its kernel and makes its own
/// descriptor tables.
fn fill_container(vcpu: &mut Vcpu, context: &VcpuGuestContext) -> Result<(), ElementStop> {
    let begins_in_kernel = context.flags & VGCF_IN_KERNEL != 0;
    let has_tables = context.gdt_ents != 0 || context.ldt_ents != 0;
    if !begins_in_kernel || has_tables || vcpu.user_root.is_some() {
        return Err(Errno::EINVAL.into());
    }
    let Vcpu { container: Some(guest), file, fpu, .. } = vcpu else {
        return Err(Errno::EINVAL.into());
    };
    file.regs = context.user_regs;
    file.regs.rflags = file.regs.rflags & (rflags::GUEST | rflags::IF) | rflags::ALWAYS_ONE;
    guest.set_bases(context.fs_base, context.gs_base_kernel, context.gs_base_user);
    if context.flags & VGCF_I387_VALID != 0 {
        *fpu = FpuState::from_guest(&context.fpu);
    }
    Ok(())
}

fn fill(vcpu: &mut Vcpu, context: &VcpuGuestContext) -> Result<(), ElementStop> {
    vcpu.mode = match (context.flags & VGCF_IN_KERNEL != 0, &vcpu.user_root) {
        (true, _) => Mode::Kernel,
        (false, Some(_)) => Mode::User,
        (false, None) => return Err(Errno::EINVAL.into()),
    };
    let regs = &mut vcpu.file.regs;
    *regs = context.user_regs;
    regs.cs |= 3;
    regs.ss |= 3;
    regs.rflags = regs.rflags & rflags::GUEST | rflags::IF | rflags::ALWAYS_ONE;
    vcpu.fs_base = context.fs_base;
    (vcpu.gs_base, vcpu.inactive_gs_base) = match vcpu.mode {
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
    let extensions = has_debug_extensions(vcpu.cr4);
    for register in [0, 1, 2, 3, 6, 7] {
        vcpu.debug.set(register, context.debugreg[register as usize], extensions)?;
    }
    let pages = usize::try_from(context.gdt_ents).map_err(|_| Errno::EINVAL)?.div_ceil(512);
    let frames = context.gdt_frames.get(..pages).ok_or(Errno::EINVAL)?;
    descriptors::install_gdt(vcpu, frames, context.gdt_ents)?;
    Ok(descriptors::set_ldt(vcpu, context.ldt_base, context.ldt_ents)?)
}
