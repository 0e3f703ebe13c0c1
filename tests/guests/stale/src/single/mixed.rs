//! All kinds of uses in random order: frames that were given back may go anywhere.

use super::{BATCH, Returned, SHARE, SingleDomain};
use crate::forgery::Forgery;
use crate::table::{Foreign, MOST_FRAMES};
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::Mfn;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::println;
use pinfold_guest::raw::{self, reservation};

/// Audits and dumps at most, because they take the whole machine's time.
const AUDITS: u64 = 6;
const DUMPS: u64 = 1;

/// How often each action was done.
#[derive(Debug, Default)]
struct Done {
    growths: u64,
    again: u64,
    exchanges: u64,
    pinned: u64,
    not_pinned: u64,
    audits: u64,
    dumps: u64,
    /// Failures.
    wrong: u64,
}

pub(super) fn run(domain: &mut SingleDomain<'_>, check: &mut Check) {
    let mut done = Done::default();
    for round in 0..domain.plan.rounds {
        let noise = Forgery::noise(round + 7);
        domain.set_forgery(noise);
        let pick = domain.random.below(8);
        match pick {
            0 => grow(domain, &mut done, check),
            1..=3 => pin(domain, &mut done),
            4 => {
                let returned = domain.exchange(check);
                done.exchanges += 1;
                check_returned(domain, &returned, noise, &mut done, check);
            }
            5 if done.audits < AUDITS => {
                let (_, range) = domain.attack.give_back_stale(BATCH, domain.writer);
                done.audits += 1;
                done.wrong += pinfold::audit().map_or(0, |audit| audit.wrong);
                domain.attack.store_through(range, noise);
            }
            6 if done.dumps < DUMPS => {
                let (_, range) = domain.attack.give_back_stale(BATCH, domain.writer);
                done.dumps += 1;
                let _ = pinfold::dump_frames();
                domain.attack.store_through(range, noise);
            }
            _ => {
                let returned = domain.take_again();
                done.again += returned.again;
                check_returned(domain, &returned, noise, &mut done, check);
            }
        }
        if done.wrong != 0 {
            println!("STALE mixed: wrong in round {round}, action {pick}");
            break;
        }
    }
    check.equal("no failure", done.wrong, 0);
    domain.attack.report("mixed", format_args!("{done:?}"), SHARE, check);
}

fn grow(domain: &mut SingleDomain<'_>, done: &mut Done, check: &mut Check) {
    let index = domain.table.len();
    if index == MOST_FRAMES {
        return;
    }
    let (_, range) = domain.attack.give_back_stale(BATCH, domain.writer);
    check.equal("the table grows", domain.table.grow(index + 1), Ok(()));
    let uses = Forgery::uses(domain.attack.own, domain.table.frame(0));
    domain.attack.store_through(range, uses);
    if domain.table.len() > index {
        done.growths += 1;
        let foreign = domain.table.foreign(index);
        done.wrong += u64::from(foreign != Foreign::default());
    }
}

/// Checks frames that came in place of others, and gives them back.
fn check_returned(
    domain: &mut SingleDomain<'_>,
    returned: &Returned,
    noise: Forgery,
    done: &mut Done,
    check: &mut Check,
) {
    domain.attack.store_through(returned.windows.clone(), noise);
    // On Xen frames come as they were left.
    if !check.on_xen() {
        done.wrong += domain.count_dirty(&returned.came, true);
    }
    let given = reservation::give_back(&returned.came);
    check.equal("they are given back", given, returned.came.len());
}

/// Pins frames while stores to them go on of an entry that no table may have: one that maps the
/// table itself writable.
fn pin(domain: &mut SingleDomain<'_>, done: &mut Done) {
    let frames = reservation::take(BATCH);
    let empty = Forgery { even: 0, odd: 0 };
    domain.set_forgery(empty);
    let range = domain.attack.leave_stale(&frames, domain.writer);
    for (window, &frame) in range.zip(&frames) {
        let forbidden = Mfn(frame).address() | RW;
        domain.set_forgery(Forgery { even: forbidden, odd: forbidden });
        let cmd = MmuextCmd::PinL1Table as u32 + domain.random.below(4) as u32;
        // SAFETY: Rust doesn't use the frame.
        let pinned = unsafe { raw::mmuext(cmd, frame, 0) } == 0;
        if pinned {
            done.pinned += 1;
            domain
                .attack
                .store_through(window..window + 1, Forgery { even: forbidden, odd: forbidden });
            done.wrong += u64::from(domain.attack.has(frame, forbidden));
            // SAFETY: as above.
            let unpinned = unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, frame, 0) };
            done.wrong += u64::from(unpinned != 0);
        } else {
            done.not_pinned += 1;
        }
        domain.set_forgery(empty);
    }
    domain.attack.tally.given += reservation::give_back(&frames) as u64;
}
