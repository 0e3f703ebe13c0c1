//! Frames that were given back become the hypervisor's tables of grants.

use super::{BATCH, SHARE, SingleDomain};
use crate::forgery::Forgery;
use crate::self_grant::{REFERENCE, SelfGrant};
use crate::table::{Foreign, MOST_FRAMES};
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;

/// Frames of handles that the test fills at most: Xen's first domain has room for no more.
const HANDLE_FRAMES: u64 = 12;

/// Has the grant table grow, which takes a shared frame and two for the status of its entries.
pub(super) fn grow_table(domain: &mut SingleDomain<'_>, check: &mut Check) {
    let mut reached = 0u64;
    let mut foreign = Foreign::default();
    let mut growths = 0;
    let rounds = domain.plan.rounds.min(48);
    // Half of the table's frames are left for other phases.
    while growths < rounds && domain.table.len() < MOST_FRAMES - 12 && foreign == Foreign::default()
    {
        growths += 1;
        let (own, frame) = (domain.attack.own, domain.table.frame(0));
        let forgery = match growths % 2 {
            0 => Forgery::uses(own, frame),
            _ => Forgery::entries(own, frame),
        };
        domain.set_forgery(forgery);
        // With few frames, none of them becomes shared: sharing would flush all TLBs.
        let count = [1, 2, 3, BATCH][growths as usize / 2 % 4];
        let (frames, range) = domain.attack.give_back_stale(count, domain.writer);
        let index = domain.table.len();
        check.equal("the table grows", domain.table.grow(index + 1), Ok(()));
        if domain.table.len() <= index {
            return;
        }
        reached += u64::from(frames.contains(&domain.table.frame(index)));
        // Checks it as it came, and after the stores of this vCPU.
        foreign = domain.table.foreign(index);
        if foreign == Foreign::default() {
            domain.attack.store_through(range, Forgery::uses(own, frame));
            foreign = domain.table.foreign(index);
        }
    }
    if foreign != Foreign::default() {
        println!("STALE table: frame {} of the grant table: {foreign:x?}", domain.table.len() - 1);
    }
    check.equal("no foreign word in the table or its status", foreign, Foreign::default());
    check.holds("the table grew often", growths >= rounds.min(8));
    let more = format_args!("growths={growths} own_frames_shared={reached}");
    domain.attack.report("table", more, SHARE, check);
}

/// Has the table of handles grow, by one frame for each 256 handles.
pub(super) fn grow_handles(domain: &mut SingleDomain<'_>, check: &mut Check) {
    let own = domain.attack.own;
    let Some(self_grant) = SelfGrant::new(&mut domain.attack.fixture, &domain.table, own) else {
        check.holds("a page can be granted", false);
        return;
    };
    let mut lost = 0u64;
    let mut growths = 0;
    while growths < domain.plan.rounds.min(HANDLE_FRAMES) && lost == 0 {
        let Some(last) = self_grant.use_up() else {
            check.holds("handles can be used up", false);
            return;
        };
        growths += 1;
        // A hypervisor that believes this forged handle refuses to unmap.
        let forgery = Forgery::handles(own, domain.table.frame(0), REFERENCE + 1);
        domain.set_forgery(forgery);
        let (_, range) = domain.attack.give_back_stale(BATCH, domain.writer);
        check.equal("the next handle", self_grant.map_one(), Some(last + 1));
        domain.attack.store_through(range, forgery);
        let unmapped = self_grant.unmap(last + 1);
        if unmapped != 0 {
            lost += 1;
            println!("STALE handles: handle {} is lost: {unmapped}", last + 1);
        }
    }
    check.equal("no handle is lost", lost, 0);
    domain.attack.report("handles", format_args!("growths={growths}"), SHARE, check);
    check.holds("the last mapping is cleared", self_grant.clear());
}
