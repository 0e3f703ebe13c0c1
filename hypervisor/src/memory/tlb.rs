//! Roots and flushes of the calling CPU.

use super::frame_refs::RootRef;
use crate::arch::percpu::{self, cpu_number};
use crate::memory::{self, platform};
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::DomId;
use x86_64::PhysAddr;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Physical address of the hypervisor's own root. Written once at boot.
static IDLE_ROOT: AtomicU64 = AtomicU64::new(0);

/// Remembers the hypervisor's own root.
pub fn set_idle_root(physical: u64) {
    IDLE_ROOT.store(physical, Ordering::Relaxed);
}

/// Physical address of the hypervisor's own root.
pub fn idle_root() -> u64 {
    IDLE_ROOT.load(Ordering::Relaxed)
}

/// Loads a root, for the hypervisor from now on.
fn switch_to(physical: u64) {
    percpu::set_hypervisor_root(physical);
    write_cr3(physical);
}

fn write_cr3(physical: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(physical));
    // SAFETY: every root that gets here maps the hypervisor: it is the idle root, or a validated
    // L4, into which the validator had the hypervisor's slots installed.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Flushes by `work` all translations of guests, and tells the validator's clock.
///
/// With page-table isolation the guest walks a copy of its root ([`super::isolation`]), and once a
/// flush was told, nothing that was removed before may be found there: so the copy is made again
/// before the guest runs on, which is after the clock's tick was drawn.
#[inline]
fn flush_by(work: impl FnOnce()) {
    memory::validator().record_flush(cpu_number(), work);
    percpu::mark_guest_root_stale();
}

/// Loads a root of a domain; all translations of guests leave this CPU's TLB, since guests
/// have no global mappings.
pub fn load_root(root: &RootRef) {
    flush_by(|| switch_to(root.frame().address()));
}

/// Loads the first root of a domain on this CPU, which had the idle root: from now on it may
/// hold translations of the domain's.
pub fn enter_domain(domain: DomId, root: &RootRef) {
    platform::set_dirty(domain, true);
    load_root(root);
}

/// Loads the hypervisor's own root: no translation of the domain's is left on this CPU.
pub fn leave_domain(domain: DomId) {
    flush_by(|| switch_to(idle_root()));
    platform::set_dirty(domain, false);
}

/// Drops all translations of guests.
pub fn flush_local() {
    flush_by(tlb::flush_all);
}

/// [`flush_local`] for the floor below, which services the requests of other CPUs.
#[unsafe(no_mangle)]
fn pinfold_flush_guest_tlb() {
    flush_local();
}

/// Drops one translation; the caller checked that the address is a guest's.
pub fn flush_page_local(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
    // It drops what is known of the root's entries, too (Intel SDM vol. 3, 4.10.4.1): the guest may
    // have changed one, and count on that.
    percpu::mark_guest_root_stale();
}

/// Loads the hypervisor's own root for the first time.
///
/// # Safety
/// Everything that the caller uses is mapped there; it has no record yet, and had no guest's root
/// loaded.
pub unsafe fn load_first_root() {
    write_cr3(idle_root());
}
