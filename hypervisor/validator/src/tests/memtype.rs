//! How frames are cached (`INV-CACHE`, `INV-COHERENT`).

use super::*;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::MemoryType::{self, Uncached, WriteBack, WriteCombining};
use std::sync::atomic::Ordering::SeqCst;

/// The first page that [`tree`] leaves free.
const FREE: Mfn = Mfn::new(6);

fn as_type(entry: u64, memory: MemoryType) -> u64 {
    entry | memory.flags().bits()
}

/// A world of a policy, where CPU 0 runs domain A on the tree.
fn running(cache: CachePolicy) -> &'static World {
    let world = two_domains(Setup { cache, ..Setup::default() });
    tree(world);
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    world.platform().load(0, Some((A, L4)));
    world
}

fn strict() -> &'static World {
    running(CachePolicy::Strict)
}

/// Maps a page of domain A's at a slot of its L1, and uses it there.
fn map(world: &World, index: usize, entry: u64) -> Result<Updated, Error> {
    let mapped = update(world, L1, index, entry)?;
    world.platform().touch(0, page(index as u64));
    Ok(mapped)
}

fn cached(world: &World, frame: Mfn) -> FrameMemType {
    world.info(frame).unwrap().memtype()
}

fn cache_flushes(world: &World) -> usize {
    world.platform().cache_flushes.load(SeqCst)
}

fn reported(world: &World) -> Vec<Refusal> {
    world.platform().reported.lock().unwrap().clone()
}

fn alias(wanted: MemoryType, present: MemoryType) -> Cause {
    Cause::CacheAlias { wanted, present: FrameMemType::Uniform(present) }
}

#[track_caller]
fn sound(world: &World) {
    assert_sound(world, &[held(L4, RefKind::Root)]);
}

#[test]
fn the_first_mapping_sets_the_memory_type() {
    for memory in MemoryType::ALL {
        for entry in [ro(FREE), rw(FREE)] {
            let world = strict();
            map(world, 8, as_type(entry, memory)).unwrap();
            assert_eq!(cached(world, FREE), FrameMemType::Uniform(memory));
            // Again, read-only and writable: the same is good, all others are not.
            for other in MemoryType::ALL {
                for second in [ro(FREE), rw(FREE)] {
                    let result = map(world, 9, as_type(second, other));
                    if other == memory {
                        result.unwrap();
                    } else {
                        let refused = refusal(result);
                        assert_eq!(refused.cause, alias(other, memory));
                        assert_eq!((refused.frame, refused.errno()), (FREE, Errno::EINVAL));
                    }
                    sound(world);
                    map(world, 9, 0).unwrap();
                }
            }
        }
    }
}

#[test]
fn the_three_flags_choose_the_type_by_the_pat() {
    let world = strict();
    let flags = [0, 1 << 3, 1 << 4, 3 << 3, 1 << 7, 1 << 7 | 1 << 3, 1 << 7 | 1 << 4, 0x98];
    let types = ["wb", "wt", "uc-", "uc", "wc", "wp", "uc", "uc"];
    for (flags, name) in flags.into_iter().zip(types) {
        map(world, 8, rw(FREE) | flags).unwrap();
        assert_eq!(cached(world, FREE).name(), name);
        map(world, 8, 0).unwrap();
    }
    // Above L1 they are refused.
    for flag in [1 << 3, 1 << 4] {
        let refused = cause(update(world, L2, 0, rw(L1) | flag));
        assert!(matches!(refused, Cause::ForbiddenFlags(_)));
    }
    assert_eq!(cause(update(world, L2, 0, rw(L1) | 1 << 7)), Cause::SuperPage);
    sound(world);
}

#[test]
fn a_memory_type_changes_after_the_last_unmap_and_both_flushes() {
    let world = strict();
    map(world, 8, rw(FREE)).unwrap();
    map(world, 9, ro(FREE)).unwrap();
    let uncached = as_type(rw(FREE), Uncached);
    assert_eq!(cause(map(world, 10, uncached)), alias(Uncached, WriteBack));
    map(world, 8, 0).unwrap();
    // A read-only one is enough.
    assert_eq!(cause(map(world, 10, uncached)), alias(Uncached, WriteBack));
    map(world, 9, 0).unwrap();
    assert_eq!((cache_flushes(world), world.platform().flushes.load(SeqCst)), (0, 0));
    // The CPU remembers both; the machine checks that it doesn't when the caches are flushed.
    map(world, 10, uncached).unwrap();
    assert_eq!((cache_flushes(world), world.platform().flushes.load(SeqCst)), (1, 1));
    sound(world);
    map(world, 10, 0).unwrap();
    // The same again owes nothing.
    map(world, 10, uncached).unwrap();
    map(world, 10, 0).unwrap();
    assert_eq!(cache_flushes(world), 1);
    map(world, 10, rw(FREE)).unwrap();
    assert_eq!((cache_flushes(world), world.platform().flushes.load(SeqCst)), (2, 2));
    assert!(!world.platform().is_incoherent(FREE));
    sound(world);
}

#[test]
fn an_entry_may_not_change_the_type_of_its_own_frame() {
    let world = strict();
    map(world, 8, rw(FREE)).unwrap();
    // It is a mapping too, until it is gone.
    let refused = refusal(map(world, 8, as_type(rw(FREE), WriteCombining)));
    assert_eq!(refused.cause, alias(WriteCombining, WriteBack));
    assert_eq!(world.platform().get(L1, 8) & MemoryType::FLAGS.bits(), 0);
    let location = refused.location.unwrap();
    assert_eq!((location.table, location.index), (L1, slot(8)));
    // Nor by way of an emulated store.
    let now = world.platform().get(L1, 8);
    let new = as_type(rw(FREE), WriteCombining);
    let swap = |new| world.update_l1_cas(A, L1, slot(8), now, new, &mut Budget::unlimited());
    assert_eq!(cause(swap(new)), alias(WriteCombining, WriteBack));
    assert_eq!(swap(now | AD), Ok(Swap::Done));
    sound(world);
}

#[test]
fn harmless_changes_keep_the_type() {
    let world = strict();
    let entry = as_type(rw(FREE), WriteCombining);
    map(world, 8, entry).unwrap();
    map(world, 8, entry | AD | 1 << 63 | 7 << 9).unwrap();
    assert_eq!(world.info(FREE).unwrap().type_count(), 1);
    assert_eq!(cached(world, FREE), FrameMemType::Uniform(WriteCombining));
    sound(world);
}

#[test]
fn an_uncached_frame_cannot_become_a_table() {
    for entry in [ro(FREE), rw(FREE)] {
        let world = strict();
        map(world, 8, as_type(entry, Uncached)).unwrap();
        for level in Level::ALL {
            let refused = refusal(pin(world, level, FREE));
            assert_eq!(refused.cause, alias(WriteBack, Uncached));
            assert_eq!((refused.frame, refused.wanted), (FREE, Some(Kind::table(level))));
        }
        assert_eq!(
            world.get_descriptor_ref(A, FREE).unwrap_err().cause,
            alias(WriteBack, Uncached)
        );
        // Linked is as good as pinned.
        assert_eq!(cause(update(world, L2, 1, rw(FREE))), alias(WriteBack, Uncached));
        // Nor does the hypervisor read or write it.
        assert_eq!(world.get_writable_ref(A, FREE).unwrap_err().cause, alias(WriteBack, Uncached));
        assert_eq!(world.get_readable_ref(A, FREE).unwrap_err().cause, alias(WriteBack, Uncached));
        assert_eq!(cause(update(world, FREE, 0, 0)), alias(WriteBack, Uncached));
        sound(world);
        // When it is gone it is flushed of, before it is read: the machine checks it.
        map(world, 8, 0).unwrap();
        assert!(world.platform().is_incoherent(FREE));
        pin(world, Level::L1, FREE).unwrap();
        assert_eq!(cache_flushes(world), 2, "one each way");
        sound(world);
    }
}

#[test]
fn frames_that_the_hypervisor_uses_are_mapped_write_back() {
    for cache in [CachePolicy::Strict, CachePolicy::Report] {
        let world = running(cache);
        let uncached = |frame| as_type(ro(frame), Uncached);
        // A table, a root, a descriptor page, one that is shared.
        world.get_descriptor_ref(A, FREE).unwrap();
        world.share(mfn(24), A).unwrap();
        for frame in [L1, L4, FREE, mfn(24)] {
            assert_eq!(cause(map(world, 8, uncached(frame))), alias(Uncached, WriteBack));
            map(world, 8, ro(frame)).unwrap();
            map(world, 8, 0).unwrap();
        }
        assert!(reported(world).is_empty());
        let externals = [held(L4, RefKind::Root), held(FREE, RefKind::Descriptors)];
        assert_sound(world, &externals);
    }
}

#[test]
fn a_table_whose_entries_disagree_is_refused() {
    let world = strict();
    let table = mfn(7);
    world.platform().set(table, 3, as_type(rw(FREE), WriteCombining));
    world.platform().set(table, 400, rw(FREE));
    let refused = refusal(pin(world, Level::L1, table));
    assert_eq!(refused.cause, alias(WriteBack, WriteCombining));
    assert_eq!(refused.location.unwrap().index, slot(400));
    assert_eq!(world.info(FREE).unwrap().references(), 1);
    sound(world);
    world.platform().set(table, 400, as_type(ro(FREE), WriteCombining));
    pin(world, Level::L1, table).unwrap();
    assert_eq!(cached(world, FREE), FrameMemType::Uniform(WriteCombining));
    sound(world);
}

#[test]
fn a_call_is_preempted_after_32_memory_type_changes() {
    let world = world(Setup { frames: 128, ..Setup::default() });
    for number in 1..128 {
        world.assign(mfn(number), A).unwrap();
    }
    let table = mfn(1);
    for index in 0..100 {
        let frame = mfn(10 + index as u64);
        world.platform().set(table, index * 5, as_type(ro(frame), WriteCombining));
    }
    for changes in [32, 64, 96] {
        assert_eq!(pin(world, Level::L1, table), Err(Error::Preempted));
        assert_eq!(cache_flushes(world), changes);
        assert_sound(world, &[]);
    }
    pin(world, Level::L1, table).unwrap();
    assert_eq!(cache_flushes(world), 100);
    assert_sound(world, &[]);
}

#[test]
fn a_freed_frame_is_clean() {
    let world = strict();
    map(world, 8, as_type(rw(FREE), WriteCombining)).unwrap();
    assert_eq!(world.release(FREE, A).unwrap_err().cause, Cause::Busy);
    map(world, 8, 0).unwrap();
    assert_eq!(cache_flushes(world), 1);
    world.release(FREE, A).unwrap();
    assert!(!world.platform().is_incoherent(FREE));
    assert!(cached(world, FREE).is_write_back());
    assert_eq!(cache_flushes(world), 2);
    // Ordinary frames cost no cache flush.
    world.release(mfn(7), A).unwrap();
    assert_eq!(cache_flushes(world), 2);
    world.assign(FREE, B).unwrap();
    sound(world);
}

#[test]
fn a_grant_mapping_must_use_the_owners_memory_type() {
    for cache in [CachePolicy::Strict, CachePolicy::Report] {
        let world = running(cache);
        let root = mfn(16);
        world.get_root_ref(B, root, &mut Budget::unlimited()).unwrap();
        let table = mfn(17);
        world.pin(B, Level::L1, table, &mut Budget::unlimited()).unwrap();
        let flags = pinfold_abi::mmu::EntryFlags::USER;
        let mapping = GrantMapping { dom: B, table, index: slot(1), owner: A, frame: FREE, flags };
        map(world, 8, as_type(rw(FREE), WriteCombining)).unwrap();
        let borrow = || world.map_granted(&mapping, &mut Budget::unlimited());
        assert_eq!(cause(borrow()), alias(WriteBack, WriteCombining));
        map(world, 8, 0).unwrap();
        borrow().unwrap();
        assert_eq!(cached(world, FREE), FrameMemType::Uniform(WriteBack));
        let externals = [held(L4, RefKind::Root), held(root, RefKind::Root)];
        assert_sound(world, &externals);
    }
}

#[test]
fn mappers_of_a_granted_frame_are_flushed_before_its_memory_type_changes() {
    let world = strict();
    // CPU 1 runs domain B on a tree of its own, and maps a frame of A's, which A never ran there.
    let tables = [mfn(16), mfn(17), mfn(18), mfn(19)];
    for (above, below) in tables.into_iter().zip(tables.into_iter().skip(1)) {
        world.platform().set(above, 0, rw(below));
    }
    world.get_root_ref(B, tables[0], &mut Budget::unlimited()).unwrap();
    world.platform().load(1, Some((B, tables[0])));
    let (table, index) = (tables[3], slot(1));
    let flags = pinfold_abi::mmu::EntryFlags::USER;
    let mapping = GrantMapping { dom: B, table, index, owner: A, frame: FREE, flags };
    world.map_granted(&mapping, &mut Budget::unlimited()).unwrap();
    world.platform().touch(1, page(1));
    let unmapping =
        GrantUnmapping { dom: B, table, index, frame: FREE, writable: false, replacement: 0 };
    let mut debt = FlushDebt::none();
    assert_eq!(
        world.unmap_granted(&unmapping, &mut Budget::unlimited(), &mut debt),
        Ok(Swap::Done)
    );
    // The debt is paid late: CPU 1 remembers the frame still.
    map(world, 8, as_type(rw(FREE), Uncached)).unwrap();
    assert!(world.platform().cpus[1].lock().unwrap().leaves.is_empty());
    debt.pay(world.platform());
    assert_sound(world, &[held(L4, RefKind::Root), held(tables[0], RefKind::Root)]);
}

#[test]
fn with_policy_report_a_conflict_is_reported_once_per_mapping() {
    let world = running(CachePolicy::Report);
    // Those of the frames that were handed out.
    let before = cache_flushes(world);
    map(world, 8, rw(FREE)).unwrap();
    assert!(reported(world).is_empty());
    map(world, 9, as_type(ro(FREE), WriteCombining)).unwrap();
    let first = reported(world)[0];
    assert_eq!((first.cause, first.frame), (alias(WriteCombining, WriteBack), FREE));
    let location = first.location.unwrap();
    assert_eq!((location.table, location.index), (L1, slot(9)));
    assert_eq!(cached(world, FREE), FrameMemType::Mixed);
    map(world, 10, rw(FREE)).unwrap();
    let mixed = Cause::CacheAlias { wanted: WriteBack, present: FrameMemType::Mixed };
    assert_eq!(reported(world)[1].cause, mixed);
    assert_eq!(reported(world).len(), 2);
    sound(world);
    // Whatever is left of it, it is no table until all are gone.
    for index in [8, 10] {
        map(world, index, 0).unwrap();
        let table = Cause::CacheAlias { wanted: WriteBack, present: FrameMemType::Mixed };
        assert_eq!(cause(pin(world, Level::L1, FREE)), table);
        assert_eq!(world.get_descriptor_ref(A, FREE).unwrap_err().cause, table);
    }
    map(world, 9, 0).unwrap();
    pin(world, Level::L1, FREE).unwrap();
    assert_eq!((reported(world).len(), cache_flushes(world)), (2, before + 1));
    sound(world);
}

#[test]
fn with_policy_report_a_call_reports_one_conflict_and_is_preempted() {
    let world = running(CachePolicy::Report);
    map(world, 8, rw(FREE)).unwrap();
    let table = mfn(7);
    for index in [0, 9, 511] {
        world.platform().set(table, index, as_type(ro(FREE), Uncached));
    }
    for told_of in 1..=2 {
        assert_eq!(pin(world, Level::L1, table), Err(Error::Preempted));
        assert_eq!(reported(world).len(), told_of);
        sound(world);
    }
    pin(world, Level::L1, table).unwrap();
    assert_eq!(reported(world).len(), 3);
    sound(world);
}

#[test]
fn refusals_name_both_types() {
    let world = strict();
    map(world, 8, rw(FREE)).unwrap();
    let refused = refusal(map(world, 9, as_type(rw(FREE), WriteCombining)));
    let text = std::format!("{refused}");
    assert!(text.contains("is wanted as wc memory while it is mapped as wb"), "{text}");
    let fields = std::format!("{}", refused.evidence());
    assert!(fields.contains("cause=cache_alias wanted=wc present=wb"), "{fields}");
    map(world, 8, 0).unwrap();
    map(world, 9, as_type(rw(FREE), WriteCombining)).unwrap();
    let text = std::format!("{}", refusal(pin(world, Level::L2, FREE)));
    assert!(text.contains("as an L2 table, which is wb, while it is mapped as wc"), "{text}");
    let text = std::format!("{}", world.get_writable_ref(A, FREE).unwrap_err());
    assert!(text.contains("by the hypervisor, as wb memory, while it is mapped as wc"), "{text}");
    let text = std::format!("{}", refusal(update(world, FREE, 3, 0)));
    assert!(text.contains("by the hypervisor"), "{text}");
    let text = std::format!("{}", refusal(map(world, 8, as_type(ro(L1), Uncached))));
    assert!(text.contains("as uc memory while it is an L1 table, which is wb"), "{text}");
}

#[test]
fn the_audit_reports_a_wrong_memory_type() {
    let world = strict();
    map(world, 8, rw(FREE)).unwrap();
    // Behind the validator's back.
    world.platform().set(L1, 8, as_type(rw(FREE), Uncached));
    let mut wrong = Vec::new();
    let mut scratch = std::vec![AuditCell::default(); world.frame_count() as usize];
    world.audit(&mut scratch, [held(L4, RefKind::Root)], &mut |found| wrong.push(found)).unwrap();
    assert_eq!(wrong.len(), 1);
    let bit = 1 << Uncached as u8;
    assert_eq!((wrong[0].frame, wrong[0].kind), (FREE, DiscrepancyKind::MemTypes(bit)));
    assert!(std::format!("{}", wrong[0]).contains("wrong=cached as=uc. present=wb"));
}
