//! Everything at random: the frames that are given back go wherever they go.

use super::{BATCH, Bench, SHARE};
use crate::field::zeros;
use crate::forgery::Forgery;
use crate::table::{Foreign, MOST_FRAMES};
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::println;
use pinfold_guest::raw::{self, reservation};

/// Audits and dumps take the whole machine's time: at most so many.
const AUDITS: u64 = 6;
const DUMPS: u64 = 1;

/// How often what was done.
#[derive(Debug, Default)]
struct Done {
    growths: u64,
    again: u64,
    exchanges: u64,
    pinned: u64,
    not_pinned: u64,
    audits: u64,
    dumps: u64,
    /// What must not be.
    wrong: u64,
}

pub(super) fn run(bench: &mut Bench<'_>, check: &mut Check) {
    let mut done = Done::default();
    for round in 0..bench.plan.rounds {
        let noise = Forgery::noise(round + 7);
        if let Some(writer) = bench.writer {
            writer.choose(noise);
        }
        let pick = bench.random.below(8);
        match pick {
            0 => grow(bench, &mut done, check),
            1..=3 => pin(bench, &mut done),
            4 => exchange(bench, noise, &mut done, check),
            5 if done.audits < AUDITS => {
                let (_, range) = bench.field.bait(BATCH, bench.writer);
                done.audits += 1;
                done.wrong += pinfold::audit().map_or(0, |audit| audit.wrong);
                bench.field.strike(range, noise);
            }
            6 if done.dumps < DUMPS => {
                let (_, range) = bench.field.bait(BATCH, bench.writer);
                done.dumps += 1;
                let _ = pinfold::dump_frames();
                bench.field.strike(range, noise);
            }
            _ => again(bench, noise, &mut done, check),
        }
        if done.wrong != 0 {
            println!("STALE mixed: wrong in round {round}, action {pick}");
            break;
        }
    }
    check.equal("nothing that must not be", done.wrong, 0);
    bench.field.report("mixed", format_args!("{done:?}"), SHARE, check);
}

fn grow(bench: &mut Bench<'_>, done: &mut Done, check: &mut Check) {
    let index = bench.table.len();
    if index == MOST_FRAMES {
        return;
    }
    let (_, range) = bench.field.bait(BATCH, bench.writer);
    check.equal("the table grows", bench.table.grow(index + 1), Ok(()));
    let uses = Forgery::uses(bench.field.own, bench.table.frame(0));
    bench.field.strike(range, uses);
    if bench.table.len() > index {
        done.growths += 1;
        let foreign = bench.table.foreign(index);
        done.wrong += u64::from(foreign != Foreign::default());
    }
}

fn again(bench: &mut Bench<'_>, noise: Forgery, done: &mut Done, check: &mut Check) {
    let (gone, range) = bench.field.bait(BATCH, bench.writer);
    let came = reservation::take(BATCH);
    bench.field.strike(range, noise);
    done.again += came.iter().filter(|&frame| gone.contains(frame)).count() as u64;
    let dirty = |&&frame: &&u64| bench.field.first_other(frame, zeros).is_some();
    let dirty = came.iter().filter(dirty).count() as u64;
    // Xen leaves a domain's words in what comes back to it.
    done.wrong += if check.on_xen() { 0 } else { dirty };
    check.equal("they go", reservation::give_back(&came), came.len());
}

fn exchange(bench: &mut Bench<'_>, noise: Forgery, done: &mut Done, check: &mut Check) {
    let gone = reservation::take(BATCH);
    let range = bench.field.leave_stale(&gone, bench.writer);
    let mut came = [0; BATCH];
    came.iter_mut().zip(0x10_0000..).for_each(|(word, pfn)| *word = pfn);
    check.equal("exchange", reservation::exchange(&gone, &mut came), 0);
    bench.field.tally.given += gone.len() as u64;
    bench.field.strike(range, noise);
    let dirty = |&&frame: &&u64| bench.field.first_other(frame, zeros).is_some();
    let dirty = came.iter().filter(dirty).count() as u64;
    done.wrong += if check.on_xen() { 0 } else { dirty };
    done.exchanges += 1;
    check.equal("they go", reservation::give_back(&came), came.len());
}

/// Frames become tables while stores of an entry that no table may have go on: one that maps the
/// table itself writable.
fn pin(bench: &mut Bench<'_>, done: &mut Done) {
    let frames = reservation::take(BATCH);
    let empty = Forgery { even: 0, odd: 0 };
    if let Some(writer) = bench.writer {
        writer.choose(empty);
    }
    let range = bench.field.leave_stale(&frames, bench.writer);
    for (window, &frame) in range.zip(&frames) {
        let evil = frame << 12 | RW;
        if let Some(writer) = bench.writer {
            writer.choose(Forgery { even: evil, odd: evil });
        }
        let cmd = MmuextCmd::PinL1Table as u32 + bench.random.below(4) as u32;
        // SAFETY: a frame that holds nothing of Rust's.
        let pinned = unsafe { raw::mmuext(cmd, frame, 0) } == 0;
        if pinned {
            done.pinned += 1;
            bench.field.strike(window..window + 1, Forgery { even: evil, odd: evil });
            done.wrong += u64::from(bench.field.has(frame, evil));
            // SAFETY: as above.
            let unpinned = unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, frame, 0) };
            done.wrong += u64::from(unpinned != 0);
        } else {
            done.not_pinned += 1;
        }
        if let Some(writer) = bench.writer {
            writer.choose(empty);
        }
    }
    bench.field.tally.given += reservation::give_back(&frames) as u64;
}
