//! The end of a domain, in steps.

use super::guest::address;
use super::*;
use crate::teardown::TeardownSummary as Freed;

const GRANTER: DomId = DomId::new(1);
const BORROWER: DomId = DomId::new(2);

#[test]
fn every_frame_is_free_again() {
    let world = World::new(64);
    let free = world.allocator.free_count();
    let guest = Guest::build(&world, GRANTER, 9);
    guest.grow_grant_table(&world, 3).unwrap();
    let mut steps = 0;
    let freed = guest.end(&world, || steps += 1);
    // Its frames, its tables, and the frames of its grant table.
    assert_eq!(freed, Freed { freed: 9 + 4 + 3, kept: 0, stuck: 0 });
    assert!(steps > 4, "{steps} steps");
    assert_eq!(world.allocator.free_count(), free);
    world.audit([].into_iter());
}

#[test]
fn what_another_domain_has_mapped_is_freed_by_that_one() {
    let world = World::new(64);
    let free = world.allocator.free_count();
    let granter = Guest::build(&world, GRANTER, 2);
    let mut borrower = Guest::build(&world, BORROWER, 0);
    granter.grow_grant_table(&world, 1).unwrap();
    let frame = granter.frames[0];
    granter.grant(&world, 5, BORROWER, frame);
    borrower.run_on(&world, 0);
    borrower.map_grant(&world, 3, GRANTER, 5).unwrap();
    world.machine.touch(0, address(3));
    let freed = granter.end(&world, || world.machine.attack());
    assert_eq!((freed.kept, freed.stuck), (1, 0));
    assert_eq!(world.validator.owner(frame), Some(GRANTER));
    borrower.unmap_grant(&world, 0).unwrap();
    assert_eq!(world.validator.owner(frame), None);
    borrower.end(&world, || world.machine.attack());
    assert_eq!(world.allocator.free_count(), free);
    world.audit([].into_iter());
}

#[test]
fn a_borrower_that_ends_frees_what_its_granter_left() {
    let world = World::new(64);
    let free = world.allocator.free_count();
    let granter = Guest::build(&world, GRANTER, 1);
    let mut borrower = Guest::build(&world, BORROWER, 0);
    granter.grow_grant_table(&world, 1).unwrap();
    granter.grant(&world, 5, BORROWER, granter.frames[0]);
    for slot in [3, 4] {
        borrower.map_grant(&world, slot, GRANTER, 5).unwrap();
    }
    granter.end(&world, || {});
    borrower.end(&world, || {});
    assert_eq!(world.allocator.free_count(), free);
    world.audit([].into_iter());
}
