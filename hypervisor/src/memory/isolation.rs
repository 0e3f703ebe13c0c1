//! Page-table isolation (Xen: XPTI): guests run on a root that doesn't map the hypervisor's memory.
//!
//! On a CPU with Meltdown, ring 3 can read by speculation whatever its root maps for ring 0; and the
//! validated root of a guest maps all RAM, because the hypervisor runs on it. With isolation each CPU
//! has a root of its own, the guest root, which is loaded while a guest runs. Its guest slots, the M2P
//! slot and the per-domain slot are copies of the validated root's entries. Of the hypervisor it maps
//! only what the CPU accesses on entry and exit: this CPU's record with TSS, GDT page and IST stacks,
//! the entry code, and the IDT. The entry code switches roots ([`crate::arch::entry`]). There are no
//! global mappings.
//!
//! # When the copy is made
//!
//! [`fill_guest_root`] makes the copy before the guest resumes, if it is marked stale. It is marked by
//!
//! * a flush of this CPU that the validator's flush clock records. An entry that was removed from a
//!   root must not be used here once the validator considers this CPU flushed. The validator removes
//!   the entry, by a locked instruction, before it reads the flush clock; a flush counts for that
//!   removal if its tick was drawn later; and the copy is made after the tick was drawn, with interrupts
//!   disabled until the guest resumes. So the copy doesn't have the entry. If an entry is removed after
//!   the copy was made, the tick of this CPU is too old, and the validator requests a flush: the IPI
//!   makes the guest exit, and the flush marks the copy. Loading a root is such a flush, too.
//! * `invlpg` on behalf of the guest. It flushes cached entries of the root, whatever the address, and
//!   a guest that has changed one may rely on that.
//! * a page fault in a slot where the two roots differ ([`refresh_after_fault`]). An entry that becomes
//!   present, or allows more, needs no flush; so the guest must not see such a fault.
//!
//! Otherwise the copy may lack entries that were added to the validated root, or have entries that
//! were removed or changed: like a TLB that hasn't been flushed. The CPU sets accessed bits in the copy.

use super::page_walk::{self, GLOBAL, Leaf, NO_EXECUTE, PRESENT, USER, WRITABLE};
use super::{direct_map, frames, tlb};
use crate::arch::entry::{self, EntrySet};
use crate::arch::percpu::{self, MAX_CPUS, PerCpu};
use crate::arch::{control, flaws, idt, layout};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pinfold_abi::layout::{HYPERVISOR_SLOTS, PAGE_SIZE};
use pinfold_abi::mmu::EntryFlags;
use pinfold_abi::paging::TABLE_ENTRIES;
use pinfold_abi::record::{IsolationCheck, IsolationMode, OnOff};
use pinfold_cpu_flaws::Flaw;
use pinfold_image::Isolation;
use pinfold_validator::{Index, Mfn, Purpose};

/// L4 slot of the machine-to-physical table.
const M2P_SLOT: usize = HYPERVISOR_SLOTS.start;

/// Accessed and dirty, so that page walks don't write to the tables.
const USED: u64 = EntryFlags::ACCESSED.union(EntryFlags::DIRTY).bits();
const TABLE: u64 = PRESENT | WRITABLE | USED;
const CODE: u64 = PRESENT | USED;
const READ_ONLY: u64 = CODE | NO_EXECUTE;
const DATA: u64 = TABLE | NO_EXECUTE;

/// Bits of a root's entry that page walks set.
const SET_BY_WALKS: u64 = USED;

/// Whether isolation is active. Written once, before any guest runs.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Physical address of each CPU's guest root; 0: none.
static GUEST_ROOTS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// How often each CPU has filled its guest root.
static FILLED: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Decides whether isolation is active. To be called once, before APs start.
pub fn decide(wanted: Isolation) {
    let active = match wanted {
        Isolation::Auto => flaws::has(Flaw::Meltdown),
        Isolation::On => true,
        Isolation::Off => false,
    };
    // Relaxed: starting an AP orders this store before all that the AP does.
    ACTIVE.store(active, Ordering::Relaxed);
    if active {
        flaws::set_isolated();
    }
    log::info!("{}", IsolationMode { active: OnOff(active), wanted: wanted.name() });
}

/// Whether isolation is active.
#[inline]
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// The entry code in use.
pub fn entry_set() -> EntrySet {
    if is_active() { EntrySet::Isolated } else { EntrySet::Direct }
}

/// Builds a guest root for each online CPU. To be called before guests get memory.
///
/// # Panics
/// If memory is short, or a root maps something else than intended.
pub fn build_guest_roots() {
    if !is_active() {
        return;
    }
    for cpu in percpu::online().iter() {
        let root = build(cpu);
        check(cpu, root);
        // Release: pairs with the acquire in `start_cpu`; the root's tables are visible.
        GUEST_ROOTS[cpu].store(root.address(), Ordering::Release);
    }
}

/// Builds the guest root of a CPU, without a guest's entries.
fn build(cpu: usize) -> Mfn {
    let root = alloc_frame();
    for page in PerCpu::pages_for_guests() {
        map(root, layout::cpu_record(cpu) + page, DATA);
    }
    for page in entry::isolated_code().step_by(PAGE_SIZE as usize) {
        map(root, page, CODE);
    }
    map(root, idt::page(EntrySet::Isolated), READ_ONLY);
    root
}

fn alloc_frame() -> Mfn {
    let frame = frames::alloc_hypervisor_frame(Purpose::GuestRoot);
    frame.expect("there is memory for guest roots before any guest is built").first()
}

/// Enables isolation on this CPU, which is on the idle root.
pub fn start_cpu() {
    if !is_active() {
        return;
    }
    let root = GUEST_ROOTS[percpu::cpu_number()].load(Ordering::Acquire);
    if root == 0 {
        // It started too late to be online when the guest roots were built.
        loop {
            x86_64::instructions::hlt();
        }
    }
    control::disable_global_pages();
    // SAFETY: `check` has verified the root; the idle root is loaded; IDT and entry points follow.
    unsafe { percpu::this().isolate(root, tlb::idle_root()) };
    idt::load(EntrySet::Isolated);
    control::set_up_system_calls(EntrySet::Isolated);
}

/// Maps a page of the hypervisor in a guest root, at the same address as in the idle root.
fn map(root: Mfn, address: u64, flags: u64) {
    let page = find_own(address).expect("the idle root maps the page");
    assert!(page.level == 1, "{address:#x} is in a large page");
    let mut table = root;
    for level in (2..=4).rev() {
        let entry = own_entry(table, page_walk::slot(address, level));
        if entry.load(Ordering::Relaxed) == 0 {
            entry.store(alloc_frame().address() | TABLE, Ordering::Relaxed);
        }
        table = page_walk::frame(entry.load(Ordering::Relaxed));
    }
    let entry = own_entry(table, page_walk::slot(address, 1));
    entry.store(page.frame().address() | flags, Ordering::Relaxed);
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
    Mfn::from_address(tlb::idle_root())
}

/// Clears the stacks that the guest root maps. To be called before a vCPU runs here that may belong to
/// another domain than the last one.
pub fn scrub_before_vcpu() {
    if is_active() {
        percpu::this().scrub_entry_stacks();
    }
}

/// Copies the root of the loaded vCPU to this CPU's guest root, if the copy is stale. To be called last
/// before the guest resumes: nothing in between may load a root or service IPIs.
#[inline]
pub fn fill_guest_root() {
    let cpu = percpu::this();
    if cpu.take_guest_root_stale() {
        fill(cpu);
    }
}

fn fill(cpu: &PerCpu) {
    let Some(guest_root) = cpu.guest_root() else { return };
    let (to, from) = (Mfn::from_address(guest_root), Mfn::from_address(cpu.hypervisor_root()));
    copy_entries(to, from, 0, M2P_SLOT + 1);
    copy_entries(to, from, layout::PER_DOMAIN_SLOT, 1);
    copy_entries(to, from, HYPERVISOR_SLOTS.end, TABLE_ENTRIES - HYPERVISOR_SLOTS.end);
    let filled = &FILLED[percpu::cpu_number()];
    filled.store(filled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Copies entries of a root while other CPUs may change it: each entry is copied as it was before or
/// after such a change.
fn copy_entries(to: Mfn, from: Mfn, first: usize, count: usize) {
    assert!(first + count <= TABLE_ENTRIES);
    // SAFETY: both frames are RAM, and the entries lie in them, as asserted. No CPU walks the target,
    // which only this CPU ever loads, while a guest runs. `movsq` reads and writes aligned quadwords
    // atomically, and after earlier locked instructions of this CPU (Intel SDM vol. 3, 8.1.1 and
    // 8.2.3.9).
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

/// Whether a page fault of the guest at `address` may be due to an outdated guest root. If so, marks the
/// copy stale; the guest must retry the access.
pub fn refresh_after_fault(address: u64) -> bool {
    let cpu = percpu::this();
    let Some(guest_root) = cpu.guest_root() else { return false };
    let slot = page_walk::slot(address, 4);
    if HYPERVISOR_SLOTS.contains(&slot.get()) {
        return false;
    }
    let entry = |root: u64| {
        own_entry(Mfn::from_address(root), slot).load(Ordering::Acquire) & !SET_BY_WALKS
    };
    let is_outdated = entry(guest_root) != entry(cpu.hypervisor_root());
    if is_outdated {
        percpu::mark_guest_root_stale();
    }
    is_outdated
}

/// Checks all guest roots again, and logs what they map. To be called when no guest runs any more.
pub fn report() {
    for (cpu, root) in GUEST_ROOTS.iter().enumerate() {
        let root = root.load(Ordering::Acquire);
        if root != 0 {
            let mapped_pages = check(cpu, Mfn::from_address(root)) as u64;
            let filled = FILLED[cpu].load(Ordering::Relaxed);
            let (active, cpu) = (OnOff(true), cpu as u64);
            log::info!("{}", IsolationCheck { active, cpu, mapped_pages, filled });
        }
    }
}

/// Walks a guest root as the CPU does, and counts the pages of the hypervisor that it maps.
///
/// # Panics
/// If it maps a page that it must not, or with wrong flags.
fn check(cpu: usize, root: Mfn) -> usize {
    let mut pages = 0;
    for slot in HYPERVISOR_SLOTS {
        let entry = own_entry(root, Index::new(slot)).load(Ordering::Relaxed);
        match slot {
            // The CPU sets the accessed bit in one root or the other, whichever it walks.
            M2P_SLOT => {
                let reserved = super::reserved_entry(slot) & !SET_BY_WALKS;
                assert!(entry & !SET_BY_WALKS == 0 || entry & !SET_BY_WALKS == reserved);
            }
            // The descriptor tables of a domain. At the end of the run they no longer exist.
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

/// Checks a mapping of a guest root.
///
/// # Panics
/// If the CPU doesn't need the page while a guest runs, or its flags are wrong.
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
