//! The guest of a test.

use crate::machine::{Machine, Ram, Validator, frame_table, limits};
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::mmu::{Config, Mmu};
use pinfold_guest::vmap::Policy;

/// Every policy.
pub(crate) const POLICIES: [Policy; 6] = [
    Policy::Eager,
    Policy::Batch(8),
    Policy::Lazy,
    Policy::HoldRefs,
    Policy::Hinted,
    Policy::Targeted,
];

/// Frames of the guest.
const FRAMES: u64 = if cfg!(miri) { 128 } else { 640 };

/// Runs a test with a guest that has this policy, with or without `pinfold_op`.
pub(crate) fn with_guest(
    policy: Policy,
    has_pinfold_op: bool,
    test: impl FnOnce(&mut Mmu<Machine<'_>>),
) {
    let ram = Ram::new();
    let records = frame_table();
    let validator = Validator::new(&ram, &records, limits());
    let (machine, free) = Machine::build(&validator, FRAMES, has_pinfold_op);
    let config = Config {
        vmap_start: Vaddr(0xffff_9000_0000_0000),
        vmap_pages: 512,
        kmap_start: Vaddr(0xffff_9800_0000_0000),
        kmap_slots: 8,
        cpus: 2,
        policy,
        table_pool: 0,
    };
    let mut mmu = Mmu::new(machine, free, &config).expect("the windows can be made");
    mmu.platform().audit();
    test(&mut mmu);
    mmu.platform().audit();
}

/// Maps frames, writes to them through the mapping, and unmaps them lazily. The words that are
/// written are not present entries, in case a frame is a table that is being built.
pub(crate) fn make_stray(mmu: &mut Mmu<Machine<'_>>, frames: &[Pfn]) -> Vaddr {
    let area = mmu.vmap(frames).expect("room for an area");
    let start = area.start();
    for (page, frame) in (0..).zip(frames) {
        mmu.store(start.page(page), frame.0 << 1);
    }
    mmu.vunmap(area).expect("an area can be unmapped");
    start
}
