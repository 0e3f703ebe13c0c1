//! Frames that were given back return to the same domain. A frame that somebody gets must be unknown
//! to every TLB, so the domain's own stale stores don't reach it either.

use super::{BATCH, Returned, SHARE, SingleDomain};
use crate::attack::zeros;
use crate::forgery::Forgery;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
use pinfold_guest::raw::reservation;

/// Frames that were handed out and were not as they must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Discrepancy {
    /// Not zeroed.
    dirty: u64,
    /// Changed by a store through a stale mapping.
    changed: u64,
}

impl SingleDomain<'_> {
    /// Checks that frames which just came are empty, before and after stores through the stale
    /// windows.
    fn check_empty(&mut self, returned: &Returned, forgery: Forgery, print: bool) -> Discrepancy {
        let dirty = self.count_dirty(&returned.came, print);
        self.attack.store_through(returned.windows.clone(), forgery);
        if let Some(writer) = self.writer {
            writer.wait_for_pass();
        }
        let changed = if dirty == 0 { self.count_dirty(&returned.came, print) } else { 0 };
        Discrepancy { dirty, changed }
    }

    /// Counts the frames of a list that are not empty, and prints the first of them.
    pub(super) fn count_dirty(&mut self, frames: &[u64], print: bool) -> u64 {
        let mut count = 0;
        for &frame in frames {
            let Some((word, seen)) = self.attack.first_other(frame, zeros) else {
                continue;
            };
            if print && count == 0 {
                println!("STALE frame {frame:#x}: word {word} is {seen:#x} instead of 0");
            }
            count += 1;
        }
        count
    }
}

/// Gives frames back and takes others, again and again.
pub(super) fn take_again(domain: &mut SingleDomain<'_>, check: &mut Check) {
    run(domain, check, "taken again", |domain, _| domain.take_again());
}

/// Exchanges frames, again and again.
pub(super) fn exchange(domain: &mut SingleDomain<'_>, check: &mut Check) {
    run(domain, check, "exchanged", |domain, check| domain.exchange(check));
}

fn run(
    domain: &mut SingleDomain<'_>,
    check: &mut Check,
    phase: &str,
    get: impl Fn(&mut SingleDomain<'_>, &mut Check) -> Returned,
) {
    // On Xen frames come as they were left, and are flushed when they get a new use.
    let must_be_empty = !check.on_xen();
    let mut discrepancy = Discrepancy::default();
    let mut again = 0;
    for round in 0..domain.plan.rounds {
        let forgery = Forgery::noise(round + 1);
        domain.set_forgery(forgery);
        let returned = get(domain, check);
        again += returned.again;
        check.equal("frames come", returned.came.len(), BATCH);
        discrepancy = domain.check_empty(&returned, forgery, must_be_empty);
        let given = reservation::give_back(&returned.came);
        check.equal("they are given back", given, returned.came.len());
        if must_be_empty && discrepancy != Discrepancy::default() {
            break;
        }
    }
    if must_be_empty {
        check.equal("frames come empty and stay so", discrepancy, Discrepancy::default());
    }
    domain.attack.report(phase, format_args!("came_again={again}"), SHARE, check);
}
