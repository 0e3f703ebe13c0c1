//! All vCPUs pin, unpin, link and map the same few frames at random. Every call succeeds or is
//! refused, none hangs, and afterwards no reference is left.
//!
//! Not for Xen: when it refuses a pin of several levels, it undoes the rest later. Frames were seen
//! to stay partially typed after that, and Xen 4.17.7 once hit a BUG in that code
//! (`put_old_guest_table`, arch/x86/mm.c).

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, ext, update};
use crate::sync::{self, VcpuPool};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::fixtures::{Check, RO, RW, Random};
use pinfold_guest::hypercall::{in_container, pinfold};
use pinfold_guest::println;

/// Number of actions.
const KINDS: usize = 12;

pub(crate) fn run(pool: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let done: [[AtomicU64; 2]; KINDS] = core::array::from_fn(|_| [const { AtomicU64::new(0) }; 2]);
    let pages = pages.0.as_slice();
    // First all vCPUs change all pages, then two pages only.
    for some in [pages, &pages[..2], &pages[..6]] {
        pool.run(&|id| {
            let mut random = Random::new(plan.seed + u64::from(id) * 977);
            for _ in 0..plan.rounds * 10 {
                let kind = random.index(KINDS);
                sync::set_progress(1000 + kind as u32);
                let result = act(kind, some, &mut random);
                done[kind][usize::from(result != 0)].fetch_add(1, SeqCst);
            }
            load_for_user(0);
        });
        if let Ok(audit) = pinfold::audit() {
            check.equal("audit in the middle", audit.wrong, 0);
        }
        clean(pages, check);
    }
    for (kind, [good, bad]) in done.iter().enumerate() {
        println!(
            "SMP tables: kind {kind}: {} done, {} refused",
            good.load(SeqCst),
            bad.load(SeqCst)
        );
    }
    let good: u64 = done.iter().map(|[good, _]| good.load(SeqCst)).sum();
    check.holds("many calls succeeded", good > plan.rounds);
}

/// Does one action. Returns the call's result.
fn act(kind: usize, pages: &[Page], random: &mut Random) -> i64 {
    let mut any = || pages[random.index(pages.len())];
    let (page, target) = (any(), any());
    let slot = random.index(4);
    let flags = if random.below(2) == 0 { RO } else { RW | 4 };
    match kind {
        0 | 1 => page.pin(1 + random.below(4) as u8),
        2 | 3 => page.unpin(),
        4 => page.put(page.entry(RO), FLUSH_ALL),
        5 => page.put(page.entry(RW), FLUSH_ALL),
        // An entry of whatever the frame is now; the hypervisor's slots stay untouched.
        6 => update(page.slot(slot), target.entry(flags)),
        7 => update(page.slot(slot), 0),
        8 => update(page.slot(slot) | 2, target.entry(flags)),
        9 => i64::from(page.try_set(slot, target.entry(flags)).is_err()),
        10 => load_for_user(page.mfn),
        _ => {
            // An address that maps another page's frame for a while.
            let first = page.put(target.entry(flags), FLUSH_ALL);
            let second = page.put(page.entry(RO), FLUSH_ALL);
            crate::pages::call(Hypercall::XenVersion, [0; 5]);
            if first != 0 { first } else { second }
        }
    }
}

/// Loads a frame as a root for user mode, or unloads it (0). In the container, where such a root must
/// map the kernel, it pins it instead.
fn load_for_user(mfn: u64) -> i64 {
    match (in_container(), mfn) {
        (false, _) => ext(MmuextCmd::NewUserBaseptr, mfn, 0),
        (true, 0) => 0,
        (true, _) => ext(MmuextCmd::PinL4Table, mfn, 0),
    }
}

/// Undoes everything: afterwards each frame is an ordinary page again.
fn clean(pages: &[Page], check: &mut Check) {
    check.equal("no user root", load_for_user(0), 0);
    // Each address maps its own frame again.
    for page in pages {
        check.equal("read-only", page.put(page.entry(RO), FLUSH_ALL), 0);
    }
    for page in pages {
        // Refused where it isn't pinned.
        page.unpin();
    }
    // Frames whose entries name each other keep each other's types: clear the entries first.
    for page in pages {
        for slot in 0..4 {
            update(page.slot(slot), 0);
        }
    }
    for page in pages {
        let result = page.unseal();
        check.equal("writable again", result, 0);
        if result == 0 {
            page.fill(0);
        }
    }
}
