//! Memory types: a change that ignores lazy mappings is refused, the shim's is not, and no contents
//! are lost.

use crate::guest::{POLICIES, make_stray, with_guest};
use crate::machine::Machine;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::mmu::{Error, Leaf, MemoryType, Mmu};
use pinfold_guest::platform::Platform;
use pinfold_guest::vmap::Policy;
use pinfold_validator::{Cause, FrameMemType, Mfn};

/// The memory type of a frame, as the validator has it.
fn memtype(mmu: &mut Mmu<Machine<'_>>, pfn: Pfn) -> FrameMemType {
    let mfn = Mfn::new(mmu.mfn(pfn).0);
    mmu.platform().info(mfn).memtype()
}

fn frames(mmu: &mut Mmu<Machine<'_>>, count: usize) -> Vec<Pfn> {
    (0..count).map(|_| mmu.alloc_frame().unwrap()).collect()
}

#[test]
fn a_frame_with_a_stray_mapping_keeps_its_type_until_that_is_cleared() {
    for policy in POLICIES {
        for extra in [false, true] {
            with_guest(policy, extra, |mmu| {
                let pages = frames(mmu, 3);
                make_stray(mmu, &pages);
                // Lazy mappings are ignored: the direct map is unmapped and mapped again.
                let direct_va = mmu.direct_map_va(pages[1]);
                let flags = MemoryType::WriteCombining.flags().bits() | 3;
                let entry = mmu.mfn(pages[1]).address() | flags;
                let machine = mmu.platform();
                machine.update_va_mappings(&[(direct_va, 0)], 0).unwrap();
                let changed = machine.update_va_mappings(&[(direct_va, entry)], 0);
                assert_eq!(changed.is_err(), policy != Policy::Eager, "{policy}");
                if changed.is_err() {
                    let present = FrameMemType::Uniform(MemoryType::WriteBack);
                    let cause = Cause::CacheAlias { wanted: MemoryType::WriteCombining, present };
                    assert_eq!(machine.last_refusal, Some(cause));
                }
                let entry = entry & !MemoryType::FLAGS.bits();
                machine.update_va_mappings(&[(direct_va, 0)], 0).unwrap();
                machine.update_va_mappings(&[(direct_va, entry)], 0).unwrap();
                machine.last_refusal = None;
                // Through the shim.
                mmu.set_memory_type(&pages, MemoryType::WriteCombining).unwrap();
                for &pfn in &pages {
                    assert_eq!(
                        memtype(mmu, pfn),
                        FrameMemType::Uniform(MemoryType::WriteCombining)
                    );
                    assert_eq!(mmu.memory_type(pfn), MemoryType::WriteCombining);
                    assert_eq!(mmu.read(pfn, 0), pfn.0 << 1, "contents stay");
                }
                assert_eq!(mmu.platform().last_refusal, None);
                let pins_after_clear = u64::from(policy != Policy::Eager);
                assert_eq!(
                    (mmu.stats().retyped, mmu.stats().retypes_after_clear),
                    (3, pins_after_clear)
                );
                // New mappings have the type, and are cleared before the next change.
                make_stray(mmu, &pages);
                let mapped = mmu.kmap(pages[0]).unwrap();
                mmu.kunmap(mapped);
                mmu.copy_frame(0, pages[1], pages[2]).unwrap();
                assert_eq!(mmu.read(pages[2], 0), pages[1].0 << 1);
                mmu.set_memory_type(&pages, MemoryType::WriteBack).unwrap();
                for pfn in pages {
                    assert!(memtype(mmu, pfn).is_write_back());
                    mmu.free_frame(pfn);
                }
            });
        }
    }
}

#[test]
fn a_frame_in_use_keeps_its_type() {
    with_guest(Policy::Targeted, true, |mmu| {
        let pages = frames(mmu, 2);
        let area = mmu.vmap(&pages[1..]).unwrap();
        let refused = mmu.set_memory_type(&pages, MemoryType::Uncached);
        assert_eq!(refused, Err(Error::InUse(area.start())));
        mmu.vunmap(area).unwrap();
        // The shim does not know what an address space maps; the hypervisor does.
        let va = Vaddr(0x4000_0000);
        let mut tables = mmu.alloc_root().unwrap();
        mmu.map_in(&mut tables, va, Leaf::kernel(pages[1])).unwrap();
        let space = mmu.pin(tables).unwrap();
        let refused = mmu.set_memory_type(&pages, MemoryType::Uncached);
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        for &pfn in &pages {
            assert!(memtype(mmu, pfn).is_write_back());
            assert_eq!(mmu.memory_type(pfn), MemoryType::WriteBack);
            mmu.write(pfn, 3, 9);
        }
        mmu.set_leaf(&space, va, None).unwrap();
        mmu.set_memory_type(&pages, MemoryType::Uncached).unwrap();
        // It is mapped there with its old type.
        mmu.set_leaf(&space, va, Some(Leaf::kernel(pages[1]))).unwrap();
        let entry = mmu.leaf(&space, va).unwrap();
        assert_eq!(entry & MemoryType::FLAGS.bits(), MemoryType::Uncached.flags().bits());
        let tables = mmu.unpin(space).unwrap();
        mmu.free_tables(tables);
        mmu.set_memory_type(&pages, MemoryType::WriteBack).unwrap();
    });
}

#[test]
fn frames_that_have_the_type_already_cost_no_call() {
    with_guest(Policy::Targeted, true, |mmu| {
        let pages = frames(mmu, 4);
        mmu.set_memory_type(&pages[..2], MemoryType::WriteThrough).unwrap();
        let calls = mmu.platform().calls;
        mmu.set_memory_type(&pages[..2], MemoryType::WriteThrough).unwrap();
        mmu.set_memory_type(&pages[2..], MemoryType::WriteBack).unwrap();
        assert_eq!(mmu.platform().calls, calls);
        // A frame that is named twice counts once.
        mmu.set_memory_type(&[pages[0], pages[2], pages[0]], MemoryType::Uncached).unwrap();
        assert_eq!(mmu.stats().retyped, 4);
        mmu.set_memory_type(&pages, MemoryType::WriteBack).unwrap();
    });
}

#[test]
#[should_panic(expected = "is freed as uc-")]
fn a_frame_is_write_back_when_it_is_freed() {
    with_guest(Policy::Lazy, true, |mmu| {
        let frame = mmu.alloc_frame().unwrap();
        mmu.set_memory_type(&[frame], MemoryType::UncachedMinus).unwrap();
        mmu.free_frame(frame);
    });
}
