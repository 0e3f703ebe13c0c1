//! Loading a vCPU's state on a CPU, saving it, and switching between guest kernel and guest user
//! mode.
#![expect(unsafe_code, reason = "loads the state of a vCPU into the CPU")]

use super::per_domain::PerDomainMappings;
use super::vcpu::{Mode, Vcpu};
use super::{container, debug_registers, ldt};
use crate::arch::{control, fpu, gdt, layout, percpu, segments, spec_ctrl};
use crate::memory::{isolation, tlb};
use x86_64::VirtAddr;

/// Loads a vCPU's state. False if a selector could not be loaded (it is null now): the failsafe
/// callback is to be delivered.
pub fn load(vcpu: &mut Vcpu) -> bool {
    if vcpu.container.is_some() {
        container::load(vcpu);
        return true;
    }
    let cpu = percpu::this();
    vcpu.info = vcpu.slot().info();
    vcpu.publish_runstate();
    isolation::scrub_before_vcpu();
    // Loading the root below flushes old translations of the per-domain mappings.
    vcpu.domain.per_domain.set_hypervisor_page(vcpu.id, cpu.gdt_physical());
    tlb::enter_domain(vcpu.domain.id, vcpu.root());
    // SAFETY: every root of the domain maps the per-domain area, with this CPU's GDT page in place; the register file doesn't move while loaded (the vCPU is boxed).
    unsafe {
        gdt::load(PerDomainMappings::gdt_base(vcpu.id));
        cpu.gdt.load_ldt(PerDomainMappings::ldt_base(vcpu.id), vcpu.ldt.1);
        cpu.set_registers_top(vcpu.file.top());
    }
    fpu::set_task_switched(false);
    vcpu.fpu.load();
    fpu::set_task_switched(vcpu.task_switched);
    let regs = &vcpu.file.regs;
    ldt::map_for_selectors(vcpu, &[regs.ds, regs.es, regs.fs, regs.gs]);
    let selectors_fine = segments::load_selectors(&vcpu.file.regs);
    segments::set_fs_base(VirtAddr::new(vcpu.fs_base));
    segments::set_gs_base(VirtAddr::new(vcpu.gs_base));
    debug_registers::load(vcpu);
    control::load_guest_cr4(vcpu.cr4);
    spec_ctrl::enter_domain(vcpu.domain.id);
    selectors_fine
}

/// Saves the state of a vCPU that is only in the CPU's registers, and loads the idle root.
pub fn unload(vcpu: &mut Vcpu) {
    if vcpu.container.is_some() {
        return container::unload(vcpu);
    }
    segments::save_selectors(&mut vcpu.file.regs);
    vcpu.fs_base = segments::fs_base();
    vcpu.gs_base = segments::gs_base();
    fpu::set_task_switched(false);
    vcpu.fpu.save();
    debug_registers::unload();
    // SAFETY: the idle root maps the idle GDT; no LDT is in use.
    unsafe {
        percpu::this().gdt.load_ldt(VirtAddr::zero(), 0);
        gdt::load(VirtAddr::new(layout::idle_gdt(percpu::cpu_number())));
    }
    tlb::leave_domain(vcpu.domain.id);
}

/// Switches the loaded vCPU between guest kernel and user mode: exchanges roots and GS bases.
#[inline(always)]
fn toggle_guest_mode(vcpu: &mut Vcpu, mode: Mode) {
    let live = segments::gs_base();
    segments::set_gs_base(VirtAddr::new(vcpu.inactive_gs_base));
    vcpu.inactive_gs_base = live;
    vcpu.mode = mode;
    tlb::load_root(vcpu.root());
}

/// Enters kernel mode, if the vCPU isn't in it.
#[inline(always)]
pub fn to_kernel(vcpu: &mut Vcpu) {
    if vcpu.mode == Mode::User {
        toggle_guest_mode(vcpu, Mode::Kernel);
    }
}

/// Enters user mode. False if there is no user root.
pub fn to_user(vcpu: &mut Vcpu) -> bool {
    if vcpu.user_root.is_none() {
        return false;
    }
    if vcpu.mode == Mode::Kernel {
        toggle_guest_mode(vcpu, Mode::User);
    }
    true
}

/// Loads the vCPU's current root.
pub fn reload_root(vcpu: &mut Vcpu) {
    if vcpu.container.is_some() {
        return container::reload_root(vcpu);
    }
    tlb::load_root(vcpu.root());
}
