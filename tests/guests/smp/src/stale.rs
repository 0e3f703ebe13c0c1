//! Stale writes: a frame becomes a page table while another vCPU still writes to it through a
//! translation whose entry is gone.
//!
//! The writer stores an entry that no live table may have: it maps a live table writable. Either the
//! pin is refused because of it, or the table doesn't contain it, and never will while it is a
//! table.

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, update};
use crate::sync::{Flag, VcpuPool, until};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::mmu::UVMF_NONE;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::{Check, RO, RW, user_root};
use pinfold_guest::println;

/// Index of the entry that is written.
const PLACE: usize = 77;

/// How the frame becomes a table.
#[derive(Clone, Copy, Debug)]
enum Becoming {
    /// It is pinned.
    Pinned,
    /// An entry of a pinned L2 table is set to it.
    Linked,
    /// It is loaded as the root for user mode.
    Loaded,
}

pub(crate) fn run(frames: &Frames, pool: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let &[window, frame, live, above, ..] = pages.0.as_slice() else { return };
    check.equal("seal", live.put(live.entry(RO), FLUSH_ALL), 0);
    check.equal("a live table", live.pin(1), 0);
    check.equal("seal", above.put(above.entry(RO), FLUSH_ALL), 0);
    check.equal("a table above", above.pin(2), 0);
    for becoming in [Becoming::Pinned, Becoming::Linked, Becoming::Loaded] {
        let found = race(frames, pool, [window, frame, live, above], becoming, plan.rounds * 3);
        println!("SMP stale writes, {becoming:?}: {found:?}");
        check.equal("no write landed in a live table", found.late, 0);
        check.equal("no other error", found.odd, 0);
        check.holds("tables were made", found.made > 0);
        if plan.stale {
            check.holds("and refused", found.refused > 0);
        }
    }
    for page in [above, live] {
        check.equal("unpin", page.unpin(), 0);
        check.equal("unseal", page.unseal(), 0);
    }
    check.equal("the window maps its own frame again", window.put(window.entry(RW), FLUSH_ALL), 0);
}

#[derive(Debug)]
struct Found {
    made: u64,
    refused: u64,
    late: u64,
    odd: u64,
}

impl Becoming {
    /// Fills the frame, so that it can become a table.
    fn fill(self, frames: &Frames, frame: Page) {
        frame.fill(0);
        if let Becoming::Loaded = self {
            user_root::kernel_part(frames).for_each(|(slot, entry)| frame.set(slot, entry));
        }
    }

    /// Makes the frame a table. Returns the call's result.
    fn make(self, frame: Page, above: Page) -> i64 {
        match self {
            Becoming::Pinned => frame.pin(1),
            Becoming::Linked => update(above.slot(3), frame.entry(RW | 4)),
            // SAFETY: it has the kernel's part.
            Becoming::Loaded => unsafe { user_root::load(frame.mfn) },
        }
    }

    /// Undoes [`Becoming::make`]. Returns the call's result.
    fn unmake(self, frame: Page, above: Page) -> i64 {
        match self {
            Becoming::Pinned => frame.unpin(),
            Becoming::Linked => update(above.slot(3), 0),
            // SAFETY: it loads no other root.
            Becoming::Loaded => unsafe { user_root::load(0) },
        }
    }
}

fn race(
    frames: &Frames,
    pool: &VcpuPool,
    pages: [Page; 4],
    becoming: Becoming,
    rounds: u64,
) -> Found {
    let [window, frame, live, above] = pages;
    let over = Flag::new();
    let [made, refused, late, odd, writes] = [const { AtomicU64::new(0) }; 5];
    // At level 4 the entry would have to name an L3 table, and this one is an L1 table.
    let evil = live.entry(RW);
    pool.run(&|id| {
        if id == 1 {
            while !over.is_up() {
                for value in [evil, 0, 0, 0] {
                    if window.try_set(PLACE, value).is_ok() {
                        writes.fetch_add(1, SeqCst);
                    }
                }
            }
            return;
        }
        if id != 0 {
            return;
        }
        for _ in 0..rounds {
            becoming.fill(frames, frame);
            let before = writes.load(SeqCst);
            if window.put(frame.entry(RW), FLUSH_ALL) != 0 {
                odd.fetch_add(1, SeqCst);
                continue;
            }
            until(|| writes.load(SeqCst) > before + 1);
            // No entry maps it writable any more; nothing was flushed.
            if window.put(0, UVMF_NONE) != 0 || frame.seal() != 0 {
                odd.fetch_add(1, SeqCst);
            }
            match becoming.make(frame, above) {
                0 => {
                    made.fetch_add(1, SeqCst);
                    let end = time::raw() + 15_000;
                    let mut bad = false;
                    while time::raw() < end {
                        bad |= frame.get(PLACE) != 0;
                    }
                    late.fetch_add(u64::from(bad), SeqCst);
                    if becoming.unmake(frame, above) != 0 {
                        odd.fetch_add(1, SeqCst);
                    }
                }
                _ => {
                    refused.fetch_add(1, SeqCst);
                }
            }
            if frame.unseal() != 0 {
                odd.fetch_add(1, SeqCst);
            }
        }
        over.raise();
    });
    let [made, refused, late, odd] = [made, refused, late, odd].map(AtomicU64::into_inner);
    Found { made, refused, late, odd }
}
