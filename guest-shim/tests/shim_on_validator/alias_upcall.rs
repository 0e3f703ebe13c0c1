//! Mappings that the alias upcall clears in the middle of a pin, without the shim.

use crate::guest::{make_stray, with_guest};
use crate::machine::Machine;
use pinfold_guest::mmu::{AddressSpace, Mmu, UnpinnedTables};
use pinfold_guest::vmap::Policy;

/// Pins without clearing lazy mappings first.
fn pin(mmu: &mut Mmu<Machine<'_>>, tables: UnpinnedTables) -> AddressSpace {
    mmu.pin_without_before_pin(tables).unwrap_or_else(|(_, error)| panic!("{error}"))
}

fn end(mmu: &mut Mmu<Machine<'_>>, space: AddressSpace) -> UnpinnedTables {
    mmu.unpin(space).unwrap()
}

#[test]
fn the_index_is_corrected() {
    with_guest(Policy::Targeted, true, |mmu| {
        mmu.platform().upcall_enabled = true;
        let others = [mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap()];
        let tables = mmu.alloc_tables(1).unwrap();
        let frame = tables.frames()[0];
        make_stray(mmu, &[others[0], frame, others[1]]);
        make_stray(mmu, &[frame]);
        let space = pin(mmu, tables);
        assert_eq!((mmu.stats().cleared_by_upcall, mmu.lazy_mappings()), (2, 2));
        let tables = end(mmu, space);
        // Nothing is left to clear: one call for the direct map, one for the pin.
        let before = mmu.platform().calls;
        let space = mmu.pin(tables).unwrap();
        assert_eq!(mmu.platform().calls - before, 2);
        let tables = end(mmu, space);
        mmu.free_tables(tables);
        assert_eq!(mmu.purge_vmap(), Ok(2));
    });
}

#[test]
fn a_mapping_that_the_index_never_knew_is_cleared() {
    with_guest(Policy::Targeted, true, |mmu| {
        mmu.platform().upcall_enabled = true;
        let tables = mmu.alloc_tables(1).unwrap();
        make_stray(mmu, tables.frames());
        mmu.lose_lazy(tables.frames()[0]);
        let space = mmu.pin(tables).unwrap();
        assert_eq!((mmu.stats().cleared_by_upcall, mmu.stats().pins_after_clear), (1, 0));
        let tables = end(mmu, space);
        mmu.free_tables(tables);
    });
}

#[test]
fn a_slot_cleared_by_the_upcall_is_free() {
    with_guest(Policy::Lazy, true, |mmu| {
        mmu.platform().upcall_enabled = true;
        let tables = mmu.alloc_tables(1).unwrap();
        let frame = tables.frames()[0];
        let mapped = mmu.kmap(frame).unwrap();
        let va = mapped.va();
        mmu.kunmap(mapped);
        let space = pin(mmu, tables);
        let tables = end(mmu, space);
        mmu.free_tables(tables);
        // If the slot were taken for mapped, this would write through a cleared mapping.
        let mapped = mmu.kmap(frame).unwrap();
        mmu.store(mapped.va(), 7);
        assert_eq!(mmu.read(frame, 0), 7);
        assert_ne!(mapped.va(), va, "the search continues after the last slot");
        mmu.kunmap(mapped);
    });
}

#[test]
fn a_deferred_frame_is_free_when_the_upcall_clears_its_last_mapping() {
    with_guest(Policy::HoldRefs, true, |mmu| {
        mmu.platform().upcall_enabled = true;
        let tables = mmu.alloc_tables(1).unwrap();
        make_stray(mmu, tables.frames());
        let space = pin(mmu, tables);
        let tables = end(mmu, space);
        let free = mmu.free_frames();
        mmu.free_tables(tables);
        assert_eq!(mmu.free_frames(), free + 1, "its free is not deferred any more");
    });
}
