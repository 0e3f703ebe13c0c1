//! Frames that were given back become the hypervisor's books about grants.

use super::{BATCH, Bench, SHARE};
use crate::forgery::Forgery;
use crate::lender::{Lender, REFERENCE};
use crate::table::{Foreign, MOST_FRAMES};
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;

/// Frames of handles that are wanted, at most: Xen's first domain has room for so many.
const HANDLE_FRAMES: u64 = 12;

/// The table grows: a frame that is shared, and two about the use of its entries.
pub(super) fn table(bench: &mut Bench<'_>, check: &mut Check) {
    let mut reached = 0u64;
    let mut foreign = Foreign::default();
    let mut growths = 0;
    let rounds = bench.plan.rounds.min(48);
    // Half of the frames that there are is left for other phases.
    while growths < rounds && bench.table.len() < MOST_FRAMES - 12 && foreign == Foreign::default()
    {
        growths += 1;
        let (own, frame) = (bench.field.own, bench.table.frame(0));
        let forgery = match growths % 2 {
            0 => Forgery::uses(own, frame),
            _ => Forgery::entries(own, frame),
        };
        if let Some(writer) = bench.writer {
            writer.choose(forgery);
        }
        // Of few frames, none is left to be shared, and what is shared last flushes.
        let count = [1, 2, 3, BATCH][growths as usize / 2 % 4];
        let (frames, range) = bench.field.bait(count, bench.writer);
        let index = bench.table.len();
        check.equal("the table grows", bench.table.grow(index + 1), Ok(()));
        if bench.table.len() <= index {
            return;
        }
        reached += u64::from(frames.contains(&bench.table.frame(index)));
        // First as it came, then after this vCPU's own stores.
        foreign = bench.table.foreign(index);
        if foreign == Foreign::default() {
            bench.field.strike(range, Forgery::uses(own, frame));
            foreign = bench.table.foreign(index);
        }
    }
    if foreign != Foreign::default() {
        println!("STALE table: frame {} of the grant table: {foreign:x?}", bench.table.len() - 1);
    }
    check.equal("no foreign word in the table or its books", foreign, Foreign::default());
    check.holds("the table grew often", growths >= rounds.min(8));
    let more = format_args!("growths={growths} own_frames_shared={reached}");
    bench.field.report("table", more, SHARE, check);
}

/// The books of handles grow, one frame at 256 handles.
pub(super) fn handles(bench: &mut Bench<'_>, check: &mut Check) {
    let own = bench.field.own;
    let Some(lender) = Lender::new(&mut bench.field.fixture, &bench.table, own) else {
        check.holds("a page can be lent", false);
        return;
    };
    let mut lost = 0u64;
    let mut growths = 0;
    while growths < bench.plan.rounds.min(HANDLE_FRAMES) && lost == 0 {
        let Some(last) = lender.use_up() else {
            check.holds("handles can be used up", false);
            return;
        };
        growths += 1;
        // Of a frame that is not what the place has: who believes it refuses to unmap.
        let forgery = Forgery::handles(own, bench.table.frame(0), REFERENCE + 1);
        if let Some(writer) = bench.writer {
            writer.choose(forgery);
        }
        let (_, range) = bench.field.bait(BATCH, bench.writer);
        check.equal("the next handle", lender.map_one(), Some(last + 1));
        bench.field.strike(range, forgery);
        let unmapped = lender.unmap(last + 1);
        if unmapped != 0 {
            lost += 1;
            println!("STALE handles: handle {} is lost: {unmapped}", last + 1);
        }
    }
    check.equal("no handle is lost", lost, 0);
    bench.field.report("handles", format_args!("growths={growths}"), SHARE, check);
    check.holds("the last mapping goes", lender.clear());
}
