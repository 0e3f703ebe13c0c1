//! A big tree of tables.

use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::Pfn;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw::mmuext;

/// L1 tables of the tree, each with 512 present entries: 131,072 entries.
pub(crate) const LEAVES: usize = 256;
/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;

/// A root with one L3, one L2, and [`LEAVES`] L1 tables that all map one page. All of them are mapped
/// read-only, if at all; none is pinned.
pub(crate) struct Tree {
    pub(crate) root: Pfn,
    pub(crate) l3: Pfn,
    /// The page that everything maps: read-only, except for the first entry of each L1 table.
    pub(crate) page: Pfn,
    /// The page that the first entries map writable.
    pub(crate) shared: Pfn,
}

impl Tree {
    pub(crate) fn build(fixture: &mut TableFixture) -> Tree {
        let [root, l3, l2, page, shared] = core::array::from_fn(|_| fixture.frame());
        let model = full_table(fixture, page);
        fixture.set(model, 0, fixture.entry(shared, RW));
        // Frames that the builder didn't map: there are more of them, and they are read-only already.
        let unmapped = fixture.frames().mapped_end().0;
        for slot in 0..LEAVES {
            let l1 = Pfn(unmapped + slot as u64);
            let copy = MmuextCmd::CopyPage as u32;
            // SAFETY: nobody uses the frame.
            let copied = unsafe { mmuext(copy, fixture.mfn(l1), fixture.mfn(model)) };
            assert!(copied == 0, "a page can't be copied: {copied}");
            fixture.set(l2, slot, fixture.entry(l1, RW));
        }
        fixture.set(l3, 0, fixture.entry(l2, RW));
        fixture.set(root, 0, fixture.entry(l3, RW));
        for table in [l2, l3, root] {
            fixture.seal(table);
        }
        Tree { root, l3, page, shared }
    }
}

/// Makes a frame all of whose words map a page read-only.
pub(crate) fn full_table(fixture: &mut TableFixture, page: Pfn) -> Pfn {
    let table = fixture.frame();
    for index in 0..ENTRIES {
        fixture.set(table, index, fixture.entry(page, RO));
    }
    table
}
