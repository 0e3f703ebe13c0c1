//! Single traps and calls that make the hypervisor validate a big tree, or devalidate one.

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

/// Pins the tree and unpins it. What the call doesn't devalidate is left for the next operation.
fn leave_work(fixture: &TableFixture, tree: &Tree, check: &mut Check) {
    check.equal("pin of the tree", fixture.pin(tree.root, 4), 0);
    check.equal("unpin of the tree", fixture.unpin(tree.root), 0);
}

/// The next operation is an emulated store.
pub(crate) fn store(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    let saved = fixture.save();
    let table = fixture.frame();
    fixture.seal(table);
    check.equal("pin of a table", fixture.pin(table, 1), 0);
    leave_work(fixture, tree, check);
    let entry = fixture.entry(tree.page, RO);
    // Read-only in the direct map: the store faults, and is emulated.
    fixture.set(table, 7, entry);
    // The hypervisor sets the user bit, because guest kernels run in ring 3.
    let user = EntryFlags::USER.bits();
    check.equal("what was stored", fixture.get(table, 7) | user, entry | user);
    fixture.restore(saved);
}

/// The next operation clears the root itself, which is partially devalidated.
pub(crate) fn clear(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    leave_work(fixture, tree, check);
    let saved = fixture.save();
    // SAFETY: the frame is the fixture's, and not a root that is loaded.
    let result = unsafe { mmuext(MmuextCmd::ClearPage as u32, fixture.mfn(tree.root), 0) };
    check.equal("clear of the root", result, 0);
    check.equal("it is cleared", fixture.get(tree.root, 0), 0);
    // The read-only mapping in the direct map still exists, so it is made writable only now.
    check.equal("map", fixture.map(tree.root, RW), 0);
    fixture.set(tree.root, 0, fixture.entry(tree.l3, RW));
    fixture.seal(tree.root);
    fixture.restore(saved);
}

/// Makes a root for the kernel itself, with the tree in one of its slots.
fn kernel_root(fixture: &mut TableFixture, tree: &Tree) -> Pfn {
    const SLOT: usize = 1;
    let root = fixture.frame();
    let boot = fixture.frames().boot_root();
    for slot in (0..512).filter(|slot| !HYPERVISOR_SLOTS.contains(slot)) {
        fixture.set(root, slot, fixture.frames().entry(boot, slot).unwrap_or(0));
    }
    fixture.set(root, SLOT, fixture.entry(tree.l3, RW));
    fixture.seal(root);
    root
}

fn load_cr3(root: Mfn) {
    // SAFETY: both roots map the kernel in the same way.
    unsafe { asm!("mov cr3, {}", in(reg) root.address(), options(nostack)) };
}

/// Loads a root by `mov cr3` that was never validated, and the old one again, after which the other
/// is devalidated.
pub(crate) fn load(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    let saved = fixture.save();
    let root = kernel_root(fixture, tree);
    let boot = fixture.frames().boot_root();
    for _ in 0..2 {
        load_cr3(Mfn(fixture.mfn(root)));
        load_cr3(boot);
    }
    let cr3: u64;
    // SAFETY: a read, which is emulated.
    unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nostack)) };
    check.equal("the loaded root", Mfn::from_address(cr3), boot);
    fixture.restore(saved);
}

fn never(_own: &'static PerCpu) {}

/// Gives another vCPU a first state with a root that was never validated. The vCPU never runs.
pub(crate) fn initialise(fixture: &mut TableFixture, tree: &Tree, check: &mut Check) {
    if smp::count() < 2 {
        println!("long_calls: one vCPU only");
        return;
    }
    // This can be done once only, so the root stays in use.
    let root = kernel_root(fixture, tree);
    let Some((_, mut context)) = check.ok("a first state", smp::prepare(1, never)) else { return };
    context.ctrlreg[3] = Mfn(fixture.mfn(root)).address();
    // SAFETY: the root maps the kernel as the loaded one does.
    check.equal("the first state", unsafe { vcpu::initialise(1, &mut context) }, Ok(()));
}
