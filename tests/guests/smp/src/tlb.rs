//! One vCPU removes a mapping that others use, by each call that promises a flush: after the call no
//! write may reach the frame.

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, ext, update};
use crate::sync::{Flag, VcpuPool, until};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{MmuextCmd, UVMF_ALL, UVMF_INVLPG, UVMF_NONE, UVMF_TLB_FLUSH};
use pinfold_abi::pinfold::{Command, Range, Shootdown, VERSION};
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::{Check, RW};
use pinfold_guest::println;

/// The frame's contents once it is not to be written any more.
const QUIET: u64 = 0x5151_5151_5151_5151;

/// Removes a mapping.
type Taking = fn(Page, &[u64; 1]) -> i64;

fn by_mask(window: Page, cmd: MmuextCmd, mask: &[u64; 1]) -> i64 {
    match update(window.pte, 0) {
        0 => ext(cmd, window.va.0, mask.as_ptr() as u64),
        error => error,
    }
}

/// Every call that flushes.
const CALLS: [(&str, Taking); 9] = [
    ("va_mapping, address", |w, _| w.put(0, UVMF_INVLPG | UVMF_ALL)),
    ("va_mapping, all", |w, _| w.put(0, UVMF_TLB_FLUSH | UVMF_ALL)),
    ("va_mapping, address, mask", |w, mask| w.put(0, UVMF_INVLPG | mask.as_ptr() as u64)),
    ("va_mapping, all, mask", |w, mask| w.put(0, UVMF_TLB_FLUSH | mask.as_ptr() as u64)),
    ("INVLPG_ALL", |w, mask| by_mask(w, MmuextCmd::InvlpgAll, mask)),
    ("TLB_FLUSH_ALL", |w, mask| by_mask(w, MmuextCmd::TlbFlushAll, mask)),
    ("INVLPG_MULTI", |w, mask| by_mask(w, MmuextCmd::InvlpgMulti, mask)),
    ("TLB_FLUSH_MULTI", |w, mask| by_mask(w, MmuextCmd::TlbFlushMulti, mask)),
    ("shootdown", |w, _| shootdown(w)),
];

fn shootdown(window: Page) -> i64 {
    let range = Range { start: window.va.0, pages: 1 };
    let mut argument = Shootdown {
        version: VERSION,
        nr_ranges: 1,
        ranges: &raw const range as u64,
        ..Shootdown::default()
    };
    let args = [Command::Shootdown as u64, &raw mut argument as u64, 0, 0, 0];
    crate::pages::call(Hypercall::PinfoldOp, args)
}

pub(crate) fn run(pool: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let &[window, frame, ..] = pages.0.as_slice() else { return };
    for (name, way) in CALLS {
        if name == "shootdown" && check.on_xen() {
            continue;
        }
        let found = race(pool, window, frame, way, plan.rounds.min(400));
        println!("SMP flush by {name}: {found:?}");
        check.equal(name, (found.refused, found.late), (0, 0));
        check.holds("the mapping was used in each round", found.used == found.rounds);
    }
    // Without a flush, late writes are allowed: they show that the test can see them.
    let nothing: Taking = |w, _| w.put(0, UVMF_NONE);
    let found = race(pool, window, frame, nothing, plan.rounds.min(100));
    println!("SMP without a flush: {found:?}");
    check.equal("removing a mapping without a flush", found.refused, 0);
    if plan.stale {
        check.holds("a write through a stale translation was seen", found.late > 0);
    }
    check.equal("the window maps its own frame again", window.put(window.entry(RW), FLUSH_ALL), 0);
}

#[derive(Debug)]
#[expect(dead_code, reason = "some figures are only shown")]
struct Found {
    rounds: u64,
    used: u64,
    refused: u64,
    /// Rounds in which a write came too late and reached the frame.
    late: u64,
    /// Writes that found no mapping.
    faults: u64,
}

/// All vCPUs but one write through the window; that one removes its mapping.
fn race(pool: &VcpuPool, window: Page, frame: Page, take: Taking, rounds: u64) -> Found {
    let over = Flag::new();
    let [used, refused, late, faults] = [const { AtomicU64::new(0) }; 4];
    let everybody = [u64::MAX >> (64 - pool.count())];
    pool.run(&|id| {
        if id != 0 {
            // Each writer has its own word.
            let index = id as usize;
            let mut value = 0u64;
            while !over.is_up() {
                value += 1;
                if window.try_set(index, value << 8 | u64::from(id)).is_err() {
                    faults.fetch_add(1, SeqCst);
                }
            }
            return;
        }
        for round in 0..rounds {
            frame.fill(0);
            if window.put(frame.entry(RW), FLUSH_ALL) != 0 {
                refused.fetch_add(1, SeqCst);
                continue;
            }
            let writers = 1..pool.count() as usize;
            if until(|| writers.clone().all(|index| frame.get(index) != 0)) {
                used.fetch_add(1, SeqCst);
            }
            if take(window, &everybody) != 0 {
                refused.fetch_add(1, SeqCst);
            }
            // From here on the frame must not change.
            frame.fill(QUIET);
            if round.is_multiple_of(4) {
                let _ = time::sleep(300_000);
            } else {
                time::spin(20_000);
            }
            if (0..512).any(|index| frame.get(index) != QUIET) {
                late.fetch_add(1, SeqCst);
            }
        }
        over.raise();
    });
    let [used, refused, late, faults] = [used, refused, late, faults].map(AtomicU64::into_inner);
    Found { rounds, used, refused, late, faults }
}
