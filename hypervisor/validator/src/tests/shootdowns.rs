//! Clearing ranges.

use super::*;

fn mapped() -> &'static World {
    let world = fresh();
    tree(world);
    let machine = world.platform();
    let second = mfn(6);
    machine.set(L2, 1, rw(second));
    for index in 508..512 {
        machine.set(L1, index, rw(PAGE));
        machine.set(second, index - 508, ro(PAGE));
    }
    world.get_root_ref(A, L4, &mut Budget::unlimited()).unwrap();
    machine.load(1, Some((A, L4)));
    world
}

const ROOT: [ExternalRef; 1] = [ExternalRef { frame: L4, kind: RefKind::Root }];

fn shoot(world: &World, start: u64, pages: u64, budget: u32) -> (Result<(), Error>, u64, CpuSet) {
    let mut total = ShootdownProgress::new();
    let mut range = PageRange { start: Vaddr::new(start), pages };
    let mut result = Err(Error::Preempted);
    for _ in 0..10_000 {
        result = world.shootdown(A, L4, &mut range, &mut Budget::new(budget), &mut total);
        if result != Err(Error::Preempted) {
            break;
        }
        assert_sound(world, &ROOT);
    }
    let cleared = total.cleared;
    (result, cleared, total.into_debt().pay(world.platform()))
}

#[test]
fn a_range_over_two_tables_is_cleared_for_one_flush() {
    for budget in [1, 3, 4000] {
        let world = mapped();
        world.platform().touch(1, page(510));
        let (result, cleared, cpus) = shoot(world, 510 * PAGE_SIZE, 4, budget);
        assert_eq!((result, cleared, cpus), (Ok(()), 4, CpuSet::of(1)));
        assert_eq!(world.platform().get(L1, 509), rw(PAGE));
        assert_eq!(world.platform().get(L1, 510), 0);
        assert_eq!(world.platform().get(mfn(6), 1), 0);
        assert_eq!(world.platform().get(mfn(6), 2), ro(PAGE));
        assert_sound(world, &ROOT);
    }
}

#[test]
fn unmapped_pages_are_skipped() {
    let world = mapped();
    let all = 0x7fff_ffff_f000 / PAGE_SIZE + 1;
    let (result, cleared, _) = shoot(world, 0, all, 2000);
    assert_eq!((result, cleared), (Ok(()), 10));
    let (result, cleared, cpus) = shoot(world, 0, all, 2000);
    assert_eq!((result, cleared, cpus), (Ok(()), 0, CpuSet::EMPTY));
    let (result, cleared, _) = shoot(world, 0xffff_8800_0000_0000, 1 << 20, 2000);
    assert_eq!((result, cleared), (Ok(()), 0));
    assert_sound(world, &ROOT);
}

#[test]
fn ranges_that_are_not_all_the_guests_are_refused() {
    let world = mapped();
    for (start, pages) in [
        (1, 1),
        (0x8000_0000_0000, 1),
        (0x7fff_ffff_f000, 2),
        (0, u64::MAX),
        (0, 1 << 52),
        (0xffff_8000_0000_0000, 1),
        (0xffff_87ff_ffff_f000, 2),
        (0xffff_ffff_ffff_f000, 2),
        (0x7fff_ffff_f000, 1 << 51),
    ] {
        let (result, cleared, cpus) = shoot(world, start, pages, 100);
        assert_eq!(cause(result), Cause::BadAddress(start), "{start:#x}");
        assert_eq!((cleared, cpus), (0, CpuSet::EMPTY));
    }
    let (result, ..) = shoot(world, 1, 0, 100);
    assert_eq!(result, Ok(()), "an empty range is done wherever it is");
    let (result, ..) = shoot(world, 0xffff_ffff_ffff_f000, 1, 100);
    assert_eq!(result, Ok(()));
}

#[test]
fn pages_shot_down_can_be_tables_at_once() {
    // The flush debt may be unpaid: the type change flushes by itself.
    let world = mapped();
    world.platform().touch(1, Vaddr::new(0));
    let mut range = PageRange { start: Vaddr::new(0), pages: 1024 };
    let mut total = ShootdownProgress::new();
    world.shootdown(A, L4, &mut range, &mut Budget::unlimited(), &mut total).unwrap();
    pin(world, Level::L1, PAGE).unwrap();
    assert_sound(world, &ROOT);
    let _ = total.into_debt().pay(world.platform());
}

#[test]
fn a_table_with_a_full_count_is_refused_not_preempted() {
    let world = mapped();
    world.frame(L1).unwrap().saturate_count();
    let mut total = ShootdownProgress::new();
    let mut range = PageRange { start: page(510), pages: 1 };
    let result = world.shootdown(A, L4, &mut range, &mut Budget::new(100), &mut total);
    // Whoever is told to come again would come for ever.
    let Err(Error::Refused(refusal)) = result else { panic!("{result:?}") };
    assert_eq!(refusal.cause, Cause::CountOverflow);
    let _ = total.into_debt().pay(world.platform());
}
