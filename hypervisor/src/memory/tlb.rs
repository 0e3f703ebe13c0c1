//! CR3 and TLB flushes of this CPU.

use super::frame_refs::RootRef;
use crate::arch::percpu::{self, cpu_number};
use crate::memory::paging::IdleRoot;
use crate::memory::{self, platform};
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::DomId;
use x86_64::PhysAddr;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Physical address of the idle root, the hypervisor's own, loaded while no vCPU is. Written once at
/// boot.
static IDLE_ROOT: AtomicU64 = AtomicU64::new(0);

/// Sets the idle root.
pub fn set_idle_root(root: IdleRoot) {
    IDLE_ROOT.store(root.address(), Ordering::Relaxed);
}

/// Physical address of the idle root.
pub fn idle_root() -> u64 {
    IDLE_ROOT.load(Ordering::Relaxed)
}

/// Loads a root, and records it as the one of the hypervisor on this CPU.
fn switch_to(physical: u64) {
    // SAFETY: as for `write_cr3`, which follows.
    unsafe { percpu::set_hypervisor_root(physical) };
    write_cr3(physical);
}

fn write_cr3(physical: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(physical));
    // SAFETY: the root maps the hypervisor: it is the idle root, or a validated L4, in which the
    // validator has installed the hypervisor's slots.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Flushes all guest translations by `flush`, and records that in the validator's flush clock.
///
/// With page-table isolation the guest root must be copied again ([`super::isolation`]): an entry that
/// was removed before a recorded flush must not be in it afterwards. The copy is made before the guest
/// resumes, so after the tick of the flush clock was drawn.
#[inline]
fn flush_by(flush: impl FnOnce()) {
    memory::validator().record_flush(cpu_number(), || {
        flush();
        // Guests in hardware containers have their translations under ASIDs, which a load of CR3 does
        // not flush. Their next entry, which comes after this, has an ASID without translations.
        percpu::retire_asids();
    });
    percpu::mark_guest_root_stale();
}

/// Adds this CPU to those that may hold translations of a domain, whose vCPU is about to run in a hardware
/// container. The idle root stays loaded.
pub fn enter_container(domain: DomId, root: &RootRef) {
    platform::set_dirty(domain, true);
    percpu::this().set_walked_root(Some(root.frame()));
}

/// Sets the root of the loaded vCPU, which is in a hardware container. That flushes all guest translations
/// of this CPU.
pub fn set_container_root(root: &RootRef) {
    flush_by(|| ());
    percpu::this().set_walked_root(Some(root.frame()));
}

/// Removes this CPU from those that may hold translations of a domain whose vCPU ran in a hardware
/// container.
pub fn leave_container(domain: DomId) {
    percpu::this().set_walked_root(None);
    flush_by(|| ());
    platform::set_dirty(domain, false);
}

/// Loads a root of the current domain. That flushes all guest translations from the TLB of this CPU,
/// because guests have no global mappings.
///
/// # Panics
/// If it doesn't map the hypervisor.
#[inline(always)]
pub fn load_root(root: &RootRef) {
    assert!(root.maps_hypervisor(), "the root doesn't map the hypervisor");
    flush_by(|| switch_to(root.frame().address()));
}

/// Switches this CPU from the idle root to a root of a domain, and adds it to the CPUs that may hold
/// translations of that domain.
pub fn enter_domain(domain: DomId, root: &RootRef) {
    platform::set_dirty(domain, true);
    load_root(root);
}

/// Switches this CPU to the idle root, and removes it from the CPUs that may hold translations of the
/// domain.
pub fn leave_domain(domain: DomId) {
    flush_by(|| switch_to(idle_root()));
    platform::set_dirty(domain, false);
}

/// Flushes all guest translations from the TLB of this CPU.
pub fn flush_local() {
    flush_by(tlb::flush_all);
}

/// [`flush_local`] for the floor below (`arch::ipi`).
#[unsafe(no_mangle)]
fn pinfold_flush_guest_tlb() {
    flush_local();
}

/// Flushes the translation of one guest address from the TLB of this CPU.
pub fn flush_page_local(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
    // `invlpg` also flushes the paging-structure caches (Intel SDM vol. 3, 4.10.4.1). The guest may rely
    // on that after changing an entry of its root.
    percpu::mark_guest_root_stale();
}

/// Loads the idle root on an AP that has no record yet.
///
/// # Safety
/// The idle root maps all that the caller uses, and no guest root was ever loaded on this CPU.
pub unsafe fn load_first_root() {
    write_cr3(idle_root());
}
