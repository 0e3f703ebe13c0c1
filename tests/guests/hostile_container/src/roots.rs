//! Roots that the guest doesn't own, or that aren't any.

use crate::attempt::{GP, raises, succeeds};
use core::arch::asm;
use pinfold_guest::addr::Mfn;
use pinfold_guest::fixtures::{Check, TableFixture, user_root};
use pinfold_guest::println;

fn cr3() -> u64 {
    let root: u64;
    // SAFETY: it only reads.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
    root
}

fn load(root: u64) {
    // SAFETY: it is refused, or the root maps the kernel.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let saved = fixture.save();
    let own = cr3();
    let leaf = fixture.frame();
    let chain = fixture.chain(4, leaf);
    check.equal("pin", fixture.pin(chain[0], 4), 0);
    let [_, l3, l2, l1] = [0, 1, 2, 3].map(|step: usize| chain[step]);
    let writable = fixture.frame();
    let fixed = [
        ("an L3 table", Mfn(fixture.mfn(l3)).address()),
        ("an L2 table", Mfn(fixture.mfn(l2)).address()),
        ("an L1 table", Mfn(fixture.mfn(l1)).address()),
        ("a writable frame", Mfn(fixture.mfn(writable)).address()),
        ("a frame that tables map", Mfn(fixture.mfn(leaf)).address()),
        ("frame 0", 0),
        ("frame 1", 0x1000),
        ("the APIC", 0xfee0_0000),
        ("the last frame of 52 bits", 0x000f_ffff_ffff_f000),
        ("all bits", u64::MAX),
        ("not canonical", 0x0123_4567_89ab_c000),
        ("a kernel's address", 0xffff_ffff_8010_0000),
        ("its own with bit 52", own | 1 << 52),
        ("its own with bit 62", own | 1 << 62),
        ("its own with bit 63", own | 1 << 63),
    ];
    for (what, root) in fixed {
        raises(check, what, GP, || load(root));
        check.equal("the root stays", cr3(), own);
    }
    // Frames of others: the hypervisor's and free ones.
    let mut foreign = 0;
    for mfn in (0..0x2_0000).step_by(611) {
        if fixture.frames().pfn(Mfn(mfn)).is_none() {
            foreign += 1;
            raises(check, "a foreign frame", GP, || load(Mfn(mfn).address()));
        }
    }
    check.equal("the root stays", cr3(), own);
    println!("CONTAINER roots: {foreign} foreign frames");
    // The memory type of the root is ignored, as it is validated: all tables are write-back.
    for flags in [0, 0x8, 0x10, 0x18] {
        succeeds(check, "its own root", || load(own | flags));
    }
    load(own);
    another(fixture, check, own);
    fixture.restore(saved);
}

/// A root with the kernel's part: while it is loaded, it can't become anything else.
fn another(fixture: &mut TableFixture, check: &mut Check, own: u64) {
    let root = fixture.frame();
    for (slot, entry) in user_root::kernel_part(fixture.frames()) {
        fixture.set(root, slot, entry);
    }
    raises(check, "while it is writable", GP, || load(Mfn(fixture.mfn(root)).address()));
    fixture.seal(root);
    succeeds(check, "a second root", || load(Mfn(fixture.mfn(root)).address()));
    check.equal("it is loaded", cr3(), Mfn(fixture.mfn(root)).address());
    check.holds("it can't be made writable", fixture.unseal(root) != 0);
    // SAFETY: it is refused: the table is read-only.
    let store = unsafe { pinfold_guest::entry::catch::write(fixture.va(root).0, 0) };
    check.equal("it can't be written", store.err().map(|trap| trap.vector), Some(14));
    load(own);
    check.equal("it is a page again", fixture.unseal(root), 0);
}
