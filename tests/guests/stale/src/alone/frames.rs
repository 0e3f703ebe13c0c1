//! Frames that were given back come again, to the same domain: whoever takes a frame gets one that no
//! CPU remembers, so its own stale stores don't reach it either.

use super::{BATCH, Bench, SHARE};
use crate::field::zeros;
use crate::forgery::Forgery;
use core::ops::Range;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
use pinfold_guest::raw::reservation;

/// What was wrong with frames that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bad {
    /// They were not empty.
    dirty: u64,
    /// They changed by themselves.
    changed: u64,
}

impl Bench<'_> {
    /// Looks at frames that just came, stores through stale windows, and looks again.
    fn look(&mut self, came: &[u64], strike: Range<usize>, forgery: Forgery, told: bool) -> Bad {
        let dirty = self.not_empty(came, told);
        self.field.strike(strike, forgery);
        if let Some(writer) = self.writer {
            writer.wait_for_a_pass();
        }
        let changed = if dirty == 0 { self.not_empty(came, told) } else { 0 };
        Bad { dirty, changed }
    }

    /// How many of these frames are not empty; the first of them is told.
    fn not_empty(&mut self, frames: &[u64], told: bool) -> u64 {
        let mut count = 0;
        for &frame in frames {
            let Some((word, seen)) = self.field.first_other(frame, zeros) else { continue };
            if told && count == 0 {
                println!("STALE frame {frame:#x}: word {word} is {seen:#x} instead of 0");
            }
            count += 1;
        }
        count
    }
}

/// Given back, and taken.
pub(super) fn taken_again(bench: &mut Bench<'_>, check: &mut Check) {
    let mut bad = Bad::default();
    let mut again = 0;
    for round in 0..bench.plan.rounds {
        let forgery = Forgery::noise(round + 1);
        if let Some(writer) = bench.writer {
            writer.choose(forgery);
        }
        let (gone, range) = bench.field.bait(BATCH, bench.writer);
        let came = reservation::take(BATCH);
        again += came.iter().filter(|&frame| gone.contains(frame)).count();
        check.equal("frames come", came.len(), BATCH);
        bad = bench.look(&came, range, forgery, !check.on_xen());
        check.equal("and go", reservation::give_back(&came), came.len());
        if bad != Bad::default() && !check.on_xen() {
            break;
        }
    }
    hold(bad, check);
    bench.field.report("taken again", format_args!("came_again={again}"), SHARE, check);
}

/// Exchanged for others.
pub(super) fn exchanged(bench: &mut Bench<'_>, check: &mut Check) {
    let mut bad = Bad::default();
    let mut again = 0;
    for round in 0..bench.plan.rounds {
        let forgery = Forgery::noise(round + 1);
        if let Some(writer) = bench.writer {
            writer.choose(forgery);
        }
        let gone = reservation::take(BATCH);
        let range = bench.field.leave_stale(&gone, bench.writer);
        // Pfns that are nobody's: those of frames given back at the start.
        let mut came = [0; BATCH];
        came.iter_mut().zip(0x10_0000..).for_each(|(word, pfn)| *word = pfn);
        check.equal("exchange", reservation::exchange(&gone, &mut came), 0);
        bench.field.tally.given += gone.len() as u64;
        again += came.iter().filter(|&frame| gone.contains(frame)).count();
        bad = bench.look(&came, range, forgery, !check.on_xen());
        check.equal("they go", reservation::give_back(&came), came.len());
        if bad != Bad::default() && !check.on_xen() {
            break;
        }
    }
    hold(bad, check);
    bench.field.report("exchanged", format_args!("came_again={again}"), SHARE, check);
}

/// On Xen frames come as they were left, and flushes wait for what the frames become.
fn hold(bad: Bad, check: &mut Check) {
    if !check.on_xen() {
        check.equal("frames come empty and stay so", bad, Bad::default());
    }
}
