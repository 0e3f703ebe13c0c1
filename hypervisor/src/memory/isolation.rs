//! Page-table isolation, which Xen calls XPTI: guests run on a root without the hypervisor's memory.
//!
//! A CPU with Meltdown lets ring 3 read, by speculation, whatever its root maps for ring 0; and
//! a guest's validated root maps all of RAM, so that the hypervisor can run on it. With isolation each
//! CPU has a root of its own, the guest root, that is loaded while a guest runs. Its guest
//! slots, and those of the M2P and of the domain's descriptor tables, are copies of the validated
//! root's; of the hypervisor it maps what the CPU touches on the way in and out, and nothing
//! else: this CPU's record with TSS, GDT page and exception stacks, the entry code, and the
//! IDT. The entry code changes roots ([`crate::arch::entry`]). There are no global mappings.
//!
//! # When the copy is made
//!
//! [`fill_guest_root`] copies before the guest runs if the copy is marked stale. Three things mark it:
//!
//! * A flush of this CPU that the validator is told of. An entry that was removed from a root
//!   must not be walked here once the validator counts this CPU as flushed. The validator
//!   removes the entry, by a locked instruction, before it reads the flush clock; a flush counts
//!   for that removal if its tick was drawn later; and the copy is made after the tick was drawn, with
//!   interrupts off until the guest runs. So it doesn't have the entry. A removal after the copy
//!   was made finds a tick that is too old, and asks this CPU to flush: the interrupt takes
//!   the guest out, and the flush marks the copy stale. Loading a root is such a flush, too.
//! * `invlpg` for the guest: it drops what the CPU knows of the root's entries, whatever the
//!   address, and a guest that changed one may count on it.
//! * A page fault in a slot where the two roots differ ([`refresh_after_fault`]). An entry that becomes present,
//!   or allows more, needs no flush on a CPU: the guest never hears of such a fault.
//!
//! Between these the copy may lack what was added, or have what was removed from, or changed in, the
//! validated root: like a TLB that wasn't flushed yet. The CPU sets accessed bits in the copy.

use super::page_walk::{self, GLOBAL, Leaf, NO_EXECUTE, PRESENT, USER, WRITABLE};
use super::{direct_map, frames, tlb};
use crate::arch::entry::{self, EntrySet};
use crate::arch::percpu::{self, MAX_CPUS, PerCpu};
use crate::arch::{control, flaws, idt, layout};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::record::{IsolationCheck, IsolationMode, OnOff};
use pinfold_cpu_flaws::Flaw;
use pinfold_image::Isolation;
use pinfold_validator::{Index, Mfn, Purpose};

/// L4 slot of the machine-to-physical table.
const M2P_SLOT: usize = HYPERVISOR_SLOTS.start;

/// Accessed and dirty, so that no walk has to write.
const USED: u64 = 0x60;
const TABLE: u64 = PRESENT | WRITABLE | USED;
const CODE: u64 = PRESENT | USED;
const READ_ONLY: u64 = CODE | NO_EXECUTE;
const DATA: u64 = TABLE | NO_EXECUTE;

/// Bits of a root's entry that the CPU sets by itself.
const SET_BY_WALKS: u64 = USED;

/// Whether guests are isolated. Settled before any runs.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Physical address of each CPU's guest root, for the check at the end; 0: none.
static GUEST_ROOTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// How often each CPU filled its guest root.
static FILLED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Settles whether guests are isolated. Called once, before other CPUs start.
pub fn decide(wanted: Isolation) {
    let active = match wanted {
        Isolation::Auto => flaws::has(Flaw::Meltdown),
        Isolation::On => true,
        Isolation::Off => false,
    };
    // Relaxed: the CPUs that this one starts see it by that.
    ACTIVE.store(active, Ordering::Relaxed);
    if active {
        flaws::set_isolated();
    }
    log::info!("{}", IsolationMode { active: OnOff(active), wanted: wanted.name() });
}

/// Whether guests run on roots without the hypervisor's memory.
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// The way into guests.
pub fn entry_set() -> EntrySet {
    if is_active() { EntrySet::Isolated } else { EntrySet::Direct }
}

/// Builds a guest root for each CPU that runs, while there is memory.
///
/// # Panics
/// If there is too little memory, or a root is not as it must be.
pub fn build_guest_roots() {
    if !is_active() {
        return;
    }
    for cpu in percpu::online().iter() {
        let root = build(cpu);
        check(cpu, root);
        // Release: who finds the root finds its tables.
        GUEST_ROOTS[cpu].store(root.get() << 12, Ordering::Release);
    }
}

/// Builds a CPU's guest root, without a guest.
fn build(cpu: usize) -> Mfn {
    let root = alloc_frame();
    for page in PerCpu::pages_for_guests() {
        map(root, layout::cpu_record(cpu) + page, DATA);
    }
    for page in entry::isolated_code().step_by(4096) {
        map(root, page, CODE);
    }
    map(root, idt::page(EntrySet::Isolated), READ_ONLY);
    root
}

fn alloc_frame() -> Mfn {
    let frame = frames::alloc_hypervisor_frame(Purpose::GuestRoot);
    frame.expect("memory for the guest roots, before any guest has some").first()
}

/// Prepares the calling CPU, which is on the idle root, for isolated guests.
pub fn start_cpu() {
    if !is_active() {
        return;
    }
    let root = GUEST_ROOTS[percpu::cpu_number()].load(Ordering::Acquire);
    if root == 0 {
        // It started too late to be counted among those that run.
        loop {
            x86_64::instructions::hlt();
        }
    }
    control::disable_global_pages();
    // SAFETY: the root maps what it must, and the stubs follow before any guest runs.
    unsafe { percpu::this().isolate(root, tlb::idle_root()) };
    idt::load(EntrySet::Isolated);
    control::set_up_system_calls(EntrySet::Isolated);
}

/// Maps a page of the hypervisor's at its own address.
fn map(root: Mfn, address: u64, flags: u64) {
    let page = find_own(address).expect("it is mapped for the hypervisor");
    assert!(page.level == 1, "{address:#x} is in a large page");
    let mut table = root;
    for level in (2..=4).rev() {
        let entry = own_entry(table, page_walk::slot(address, level));
        if entry.load(Ordering::Relaxed) == 0 {
            entry.store(alloc_frame().get() << 12 | TABLE, Ordering::Relaxed);
        }
        table = page_walk::frame(entry.load(Ordering::Relaxed));
    }
    let entry = own_entry(table, page_walk::slot(address, 1));
    entry.store(page.frame().get() << 12 | flags, Ordering::Relaxed);
}

/// What maps an address of the hypervisor's.
fn find_own(address: u64) -> Option<Leaf> {
    // SAFETY: the idle root and its tables are the hypervisor's own.
    unsafe { page_walk::find(idle_root(), address) }
}

/// An entry of one of the hypervisor's own tables: of a guest root, or below it.
fn own_entry(table: Mfn, index: Index) -> &'static AtomicU64 {
    // SAFETY: the callers name tables that are the hypervisor's own for as long as it runs, or the
    // root of the vCPU that this processor serves, on which the vCPU holds a reference.
    unsafe { direct_map::entry(table, index) }
}

fn idle_root() -> Mfn {
    Mfn::new(tlb::idle_root() >> 12)
}

/// Before a vCPU runs that may be another domain's than the last one here.
pub fn scrub_before_vcpu() {
    if is_active() {
        percpu::this().scrub_entry_stacks();
    }
}

/// Makes this CPU's guest root a copy of the root of the vCPU that it serves, if anything
/// happened that calls for it. The guest runs next, and nothing between loads a root or answers a
/// flush.
#[inline]
pub fn fill_guest_root() {
    let cpu = percpu::this();
    if cpu.take_guest_root_stale() {
        fill(cpu);
    }
}

fn fill(cpu: &PerCpu) {
    let Some(guest_root) = cpu.guest_root() else { return };
    let (to, from) = (Mfn::new(guest_root >> 12), Mfn::new(cpu.hypervisor_root() >> 12));
    copy_entries(to, from, 0, M2P_SLOT + 1);
    copy_entries(to, from, layout::PER_DOMAIN_SLOT, 1);
    copy_entries(to, from, HYPERVISOR_SLOTS.end, 512 - HYPERVISOR_SLOTS.end);
    let filled = &FILLED[percpu::cpu_number()];
    filled.store(filled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Copies entries of a root that other CPUs may change meanwhile: each is copied as it was
/// before or after.
fn copy_entries(to: Mfn, from: Mfn, first: usize, count: usize) {
    assert!(first + count <= 512);
    // SAFETY: both frames are RAM and mapped; the entries lie in them, as asserted. No CPU
    // walks the target, which is loaded nowhere but here while the guest runs. `movsq` reads and
    // writes aligned quadwords, each in one piece, after whatever this CPU did before by a
    // locked instruction (Intel SDM vol. 3, 8.1.1 and 8.2.3.9).
    unsafe {
        core::arch::asm!(
            "rep movsq",
            inout("rdi") direct_map::frame(to).add(first * 8) => _,
            inout("rsi") direct_map::frame(from).add(first * 8) => _,
            inout("rcx") count => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Whether a page fault of the guest's at `address` came of a guest root that lags behind: it is
/// filled then, and the guest is to try again.
pub fn refresh_after_fault(address: u64) -> bool {
    let cpu = percpu::this();
    let Some(guest_root) = cpu.guest_root() else { return false };
    let slot = page_walk::slot(address, 4);
    if HYPERVISOR_SLOTS.contains(&slot.get()) {
        return false;
    }
    let entry =
        |root: u64| own_entry(Mfn::new(root >> 12), slot).load(Ordering::Acquire) & !SET_BY_WALKS;
    let lags = entry(guest_root) != entry(cpu.hypervisor_root());
    if lags {
        percpu::mark_guest_root_stale();
    }
    lags
}

/// Checks all guest roots, and says what they map. No guest runs any more.
pub fn report() {
    for (cpu, root) in GUEST_ROOTS.iter().enumerate() {
        let root = root.load(Ordering::Acquire);
        if root != 0 {
            let mapped_pages = check(cpu, Mfn::new(root >> 12)) as u64;
            let filled = FILLED[cpu].load(Ordering::Relaxed);
            let (active, cpu) = (OnOff(true), cpu as u64);
            log::info!("{}", IsolationCheck { active, cpu, mapped_pages, filled });
        }
    }
}

/// Walks a guest root as the CPU does, and counts the hypervisor's pages in it.
///
/// # Panics
/// If one is mapped that must not be, or otherwise than it must.
fn check(cpu: usize, root: Mfn) -> usize {
    let mut pages = 0;
    for slot in HYPERVISOR_SLOTS {
        let entry = own_entry(root, Index::new(slot)).load(Ordering::Relaxed);
        match slot {
            M2P_SLOT => assert!(entry == 0 || entry == super::reserved_entry(slot)),
            // The domain's: its descriptor tables. By the end they are gone.
            layout::PER_DOMAIN_SLOT => assert!(entry & USER == 0),
            _ => {
                let mut visit = |leaf| {
                    check_page(cpu, leaf);
                    pages += 1;
                };
                // SAFETY: the root and what it maps here are the hypervisor's own tables.
                unsafe { page_walk::visit_slot(root, slot, &mut visit) };
            }
        }
    }
    pages
}

/// # Panics
/// If it is not a page that the CPU needs while a guest runs.
fn check_page(cpu: usize, leaf: Leaf) {
    let record = layout::cpu_record(cpu)..layout::cpu_record(cpu) + size_of::<PerCpu>() as u64;
    let wanted = match leaf.address {
        at if record.contains(&at) => DATA,
        at if entry::isolated_code().contains(&at) => CODE,
        at if at == idt::page(EntrySet::Isolated) => READ_ONLY,
        at => panic!("guests on cpu {cpu} can reach {at:#x} of the hypervisor"),
    };
    assert!(leaf.level == 1, "{leaf:x?} is large");
    let flags = PRESENT | WRITABLE | USER | GLOBAL | NO_EXECUTE;
    assert!(leaf.entry & flags == wanted & flags, "{leaf:x?} has wrong flags");
    let own = find_own(leaf.address).map(|own| own.frame());
    assert!(own == Some(leaf.frame()), "{leaf:x?} is another frame than {own:x?}");
}
