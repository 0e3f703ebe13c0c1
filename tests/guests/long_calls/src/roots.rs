//! Single traps and calls that make the hypervisor validate a big tree, or take one apart.

use crate::tree::Tree;
use core::arch::asm;
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::{EntryFlags, MmuextCmd};
use pinfold_guest::addr::{Mfn, Pfn};
use pinfold_guest::entry::percpu::PerCpu;
use pinfold_guest::entry::smp;
use pinfold_guest::fixtures::{Check, RO, RW, TableFixture};
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::println;
use pinfold_guest::raw::mmuext;

/// Pins the tree and unpins it: what one call doesn't get to of taking it apart is left for the
/// next operation.
fn leave_work(lab: &TableFixture, tree: &Tree, check: &mut Check) {
    check.equal("pin of the tree", lab.pin(tree.root, 4), 0);
    check.equal("unpin of the tree", lab.unpin(tree.root), 0);
}

/// The next operation is an emulated store.
pub(crate) fn store(lab: &mut TableFixture, tree: &Tree, check: &mut Check) {
    let saved = lab.save();
    let table = lab.frame();
    lab.seal(table);
    check.equal("pin of a table", lab.pin(table, 1), 0);
    leave_work(lab, tree, check);
    let entry = lab.entry(tree.page, RO);
    // Read-only at its place: it faults, and is carried out.
    lab.set(table, 7, entry);
    // The hypervisor adds the user bit, for guest kernels run in ring 3.
    let user = EntryFlags::USER.bits();
    check.equal("what was stored", lab.get(table, 7) | user, entry | user);
    lab.restore(saved);
}

/// The next operation clears the root itself, which is half taken apart.
pub(crate) fn clear(lab: &mut TableFixture, tree: &Tree, check: &mut Check) {
    leave_work(lab, tree, check);
    let saved = lab.save();
    // SAFETY: the frame is the bench's, and no root that is loaded.
    let result = unsafe { mmuext(MmuextCmd::ClearPage as u32, lab.mfn(tree.root), 0) };
    check.equal("clear of the root", result, 0);
    check.equal("what is left of it", lab.get(tree.root, 0), 0);
    // The read-only mapping at its place is still there, so it can be written only after this.
    check.equal("map", lab.map(tree.root, RW), 0);
    lab.set(tree.root, 0, lab.entry(tree.l3, RW));
    lab.seal(tree.root);
    lab.restore(saved);
}

/// A root for the kernel itself, with the tree in one of its slots.
fn kernel_root(lab: &mut TableFixture, tree: &Tree) -> Pfn {
    const SLOT: usize = 1;
    let root = lab.frame();
    let boot = lab.frames().boot_root();
    for slot in (0..512).filter(|slot| !HYPERVISOR_SLOTS.contains(slot)) {
        lab.set(root, slot, lab.frames().entry(boot, slot).unwrap_or(0));
    }
    lab.set(root, SLOT, lab.entry(tree.l3, RW));
    lab.seal(root);
    root
}

fn load_cr3(root: Mfn) {
    // SAFETY: both roots map the kernel alike.
    unsafe { asm!("mov cr3, {}", in(reg) root.0 << 12, options(nostack)) };
}

/// `mov cr3` to a root that nobody validated yet, and back: the other is taken apart then.
pub(crate) fn load(lab: &mut TableFixture, tree: &Tree, check: &mut Check) {
    let saved = lab.save();
    let root = kernel_root(lab, tree);
    let boot = lab.frames().boot_root();
    for _ in 0..2 {
        load_cr3(Mfn(lab.mfn(root)));
        load_cr3(boot);
    }
    let cr3: u64;
    // SAFETY: a read, which is emulated.
    unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nostack)) };
    check.equal("the root that is loaded", cr3 >> 12, boot.0);
    lab.restore(saved);
}

fn never(_own: &'static PerCpu) {}

/// A first state of another vCPU, with a root that nobody validated yet. It never runs.
pub(crate) fn initialise(lab: &mut TableFixture, tree: &Tree, check: &mut Check) {
    if smp::count() < 2 {
        println!("long_calls: one vCPU only");
        return;
    }
    // Kept to the end: a vCPU has one first state.
    let root = kernel_root(lab, tree);
    let Some((_, mut context)) = check.ok("a first state", smp::prepare(1, never)) else { return };
    context.ctrlreg[3] = lab.mfn(root) << 12;
    // SAFETY: the root maps the kernel as the loaded one does.
    check.equal("the first state", unsafe { vcpu::initialise(1, &mut context) }, Ok(()));
}
