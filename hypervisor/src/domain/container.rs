//! vCPUs in a hardware container: loading and saving them, and what is raised in them.
#![expect(unsafe_code, reason = "loads the state of a vCPU into the CPU, and enters its guest")]

use super::debug_registers;
use super::exit::Fatal;
use super::vcpu::Vcpu;
use crate::arch::container::{Event, Guest};
use crate::arch::{container, control, fpu, percpu, spec_ctrl, vector};
use crate::domain::bounce::rflags;
use crate::memory::{guest, tlb};
use core::sync::atomic::Ordering;
use pinfold_abi::mmu::VMASST_TYPE_WRITABLE_PAGETABLES;
use zerocopy::IntoBytes;

/// Loads a vCPU's state.
pub fn load(vcpu: &mut Vcpu) {
    vcpu.info = vcpu.slot().info();
    vcpu.publish_runstate();
    tlb::enter_container(vcpu.domain.id, &vcpu.kernel_root);
    // SAFETY: the register file doesn't move while the vCPU is loaded, since the vCPU is boxed.
    unsafe { percpu::this().set_registers_top(vcpu.file.top()) };
    fpu::set_task_switched(false);
    vcpu.fpu.load();
    debug_registers::load(vcpu);
    // The guest has a CR4 of its own.
    control::load_guest_cr4(0);
    spec_ctrl::enter_domain(vcpu.domain.id);
    // SAFETY: the page is this CPU's.
    unsafe { container::save_host(percpu::this().host_area()) };
    refresh(vcpu);
}

/// Saves the state of a vCPU that is only in the CPU's registers.
pub fn unload(vcpu: &mut Vcpu) {
    fpu::set_task_switched(false);
    vcpu.fpu.save();
    debug_registers::unload();
    tlb::leave_container(vcpu.domain.id);
}

/// Adapts the container to what may have changed since it was last done: whether stores to page tables
/// are emulated.
pub fn refresh(vcpu: &mut Vcpu) {
    let emulates = vcpu.domain.assists.is_enabled(VMASST_TYPE_WRITABLE_PAGETABLES);
    guest(vcpu).intercept_page_faults(emulates);
}

/// Loads the vCPU's root, after another one was set.
pub fn reload_root(vcpu: &mut Vcpu) {
    tlb::set_container_root(&vcpu.kernel_root);
    let root = vcpu.kernel_root.frame().address();
    guest(vcpu).set_root(root);
}

/// The container of a vCPU that is in one.
///
/// # Panics
/// If it isn't.
pub fn guest(vcpu: &mut Vcpu) -> &mut Guest {
    vcpu.container.as_mut().expect("the vCPU is in a container")
}

/// Runs the loaded vCPU until it exits.
#[inline]
pub fn run(vcpu: &mut Vcpu) {
    // Relaxed: if another CPU sets it right now, it kicks this one, and the guest exits at once.
    let pending = vcpu.info.upcall_pending().load(Ordering::Relaxed) != 0;
    let vector = if pending { vcpu.slot().upcall_vector() } else { None };
    let Vcpu { container, file, .. } = vcpu;
    let guest = container.as_mut().expect("the vCPU is in a container");
    guest.set_interrupt(vector);
    // SAFETY: the container's root is the kernel root, on which the vCPU holds a reference; `load` saved
    // the host's state.
    unsafe { guest.run(file) }
}

/// Raises an event in the guest.
///
/// # Errors
/// A triple fault.
pub fn raise(vcpu: &mut Vcpu, event: Event) -> Result<(), Fatal> {
    if let Event::PageFault { address, .. } = event {
        vcpu.last_fault_address = address;
    }
    guest(vcpu).raise(event).map_err(Fatal)
}

/// Raises a pending NMI, unless the handler of another one has not returned.
pub fn raise_nmi(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    if !vcpu.slot().has_nmi() {
        return Ok(());
    }
    let rip = vcpu.file.regs.rip;
    if !guest(vcpu).accepts_nmi(rip) {
        // Look again at the next exit.
        percpu::set_need_resched();
        return Ok(());
    }
    if vcpu.slot().take_nmi() { raise(vcpu, Event::Nmi) } else { Ok(()) }
}

/// Raises a single-step trap after an instruction that the hypervisor executed, if the guest has TF set.
pub fn step(vcpu: &mut Vcpu) -> Result<(), Fatal> {
    if vcpu.file.regs.rflags & rflags::TF == 0 {
        return Ok(());
    }
    vcpu.debug.status |= debug_registers::STEP;
    raise(vcpu, Event::Exception(vector::DEBUG, None))
}

/// Enters a handler of the guest kernel's, which is in ring 0: pushes rcx, r11, and what `iretq` pops.
/// Interrupts are masked in the handler.
///
/// # Errors
/// The guest's stack can't be written.
pub fn enter_handler(vcpu: &mut Vcpu, address: u64) -> Result<(), Fatal> {
    let Vcpu { container, file, .. } = vcpu;
    let regs = &mut file.regs;
    if let Some(guest) = container {
        guest.save_selectors(regs);
    }
    let words =
        [regs.rcx, regs.r11, regs.rip, regs.cs.into(), regs.rflags, regs.rsp, regs.ss.into()];
    let frame = (regs.rsp & !15).wrapping_sub(size_of_val(&words) as u64);
    if guest::write_bytes(frame, words.as_bytes()).is_err() {
        return Err(Fatal("the handler's frame can't be written to the guest's stack"));
    }
    let cleared = rflags::AC | rflags::RF | rflags::NT | rflags::TF | rflags::IF | rflags::DF;
    regs.rflags &= !cleared;
    regs.rip = address;
    regs.rsp = frame;
    Ok(())
}
