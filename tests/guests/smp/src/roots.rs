//! Root entries, in the root that all vCPUs have loaded: one vCPU adds, removes or changes an entry
//! while another uses addresses below it.
//!
//! A hypervisor that isolates its address space from guests runs them on a copy of the root. The
//! guest must not be able to tell.

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, ext, update};
use crate::sync::{Flag, VcpuPool, until};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::mmu::{MmuextCmd, UVMF_NONE};
use pinfold_guest::addr::{Level, Vaddr};
use pinfold_guest::entry::catch;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::{Check, RO, RW};
use pinfold_guest::println;

/// An unused entry of the root.
const SLOT: usize = 17;
/// The first address below it.
const WINDOW: u64 = (SLOT as u64) << 39;
/// The word that is written, which is an entry if the frame becomes a table.
const PLACE: u64 = 77;
/// Flags of entries for tables: user mode may pass.
const TABLE: u64 = RW | 4;

/// Tables that map one frame, and the entry that leads to them.
struct Chain {
    /// Machine address of the root's entry.
    slot: u64,
    top: Page,
}

impl Chain {
    /// Makes three pages tables that map `frame` writable at [`WINDOW`].
    fn new(frames: &Frames, tables: [Page; 3], frame: Page, check: &mut Check) -> Chain {
        let root = frames.boot_root();
        let [l3, l2, l1] = tables;
        for (table, entry) in [(l3, l2.entry(TABLE)), (l2, l1.entry(TABLE)), (l1, frame.entry(RW))]
        {
            table.fill(0);
            table.set(0, entry);
        }
        for table in tables {
            check.equal("seal", table.put(table.entry(RO), FLUSH_ALL), 0);
        }
        Chain { slot: root.entry_address(Vaddr(WINDOW).index(Level::L4)), top: l3 }
    }

    /// Sets the root's entry, without a flush.
    fn link(&self) -> i64 {
        update(self.slot, self.top.entry(TABLE))
    }

    /// Clears the root's entry, without a flush.
    fn unlink(&self) -> i64 {
        update(self.slot, 0)
    }
}

fn write(index: u64, word: u64) -> bool {
    // SAFETY: only the chain's frame is ever mapped there.
    unsafe { catch::write(WINDOW + index * 8, word) }.is_ok()
}

pub(crate) fn run(frames: &Frames, pool: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let &[a3, a2, a1, b3, b2, b1, frame, other, live, ..] = pages.0.as_slice() else { return };
    let chain = Chain::new(frames, [a3, a2, a1], frame, check);
    let second = Chain::new(frames, [b3, b2, b1], other, check);
    let rounds = plan.rounds.min(100);

    alone(&chain, &second, frame, other, check);

    let found = come_and_go(pool, &chain, rounds);
    println!("SMP root entries come and go: {found:?}");
    check.equal("no call failed", found.odd, 0);
    check.equal("an added entry is used at once, without a flush", found.missing, 0);
    check.equal("a removed and flushed entry is not used", found.late, 0);

    check.equal("seal", live.put(live.entry(RO), FLUSH_ALL), 0);
    check.equal("a live table", live.pin(1), 0);
    let found = becomes_table(pool, &chain, frame, live, plan.rounds);
    println!("SMP writes through a removed root entry: {found:?}");
    check.equal("no call failed", found.odd, 0);
    check.equal("no write lands in a live table", found.late, 0);
    check.holds("tables were made", found.made > 0);
    check.equal("unpin", live.unpin(), 0);
    for page in [live, a3, a2, a1, b3, b2, b1] {
        check.equal("unseal", page.unseal(), 0);
    }
}

/// One vCPU alone changes the entry, and uses it.
fn alone(chain: &Chain, second: &Chain, frame: Page, other: Page, check: &mut Check) {
    check.equal("link", chain.link(), 0);
    check.holds("an added entry is used at once", write(0, 1));
    check.equal("another chain", second.link(), 0);
    check.equal("one address is flushed", ext(MmuextCmd::InvlpgLocal, WINDOW, 0), 0);
    check.holds("the new entry is used", write(0, 2));
    check.equal("it is the other frame", (frame.get(0), other.get(0)), (1, 2));
    check.equal("unlink", second.unlink(), 0);
    check.equal("one address is flushed", ext(MmuextCmd::InvlpgLocal, WINDOW, 0), 0);
    check.holds("a removed entry is not used", !write(0, 3));
}

#[derive(Debug, Default)]
#[expect(dead_code, reason = "some figures are only shown")]
struct Found {
    rounds: u64,
    made: u64,
    odd: u64,
    missing: u64,
    late: u64,
}

/// One vCPU adds and removes the entry, and another one uses its addresses each time.
fn come_and_go(pool: &VcpuPool, chain: &Chain, rounds: u64) -> Found {
    // Twice the round's number, plus one while the entry is present.
    let [asked, answered, odd, missing, late] = [const { AtomicU64::new(0) }; 5];
    pool.run(&|id| match id {
        0 => {
            for turn in 1..=rounds * 2 {
                let added = turn % 2 == 1;
                let result = if added { chain.link() } else { chain.unlink() };
                let flushed = added || ext(MmuextCmd::TlbFlushAll, 0, 0) == 0;
                if result != 0 || !flushed {
                    odd.fetch_add(1, SeqCst);
                }
                asked.store(turn, SeqCst);
                until(|| answered.load(SeqCst) == turn);
            }
        }
        1 => {
            for turn in 1..=rounds * 2 {
                // This vCPU stays in guest mode, as long as the others can run meanwhile: the new
                // entry must show without a call of its own.
                for _ in 0..100_000 {
                    if asked.load(SeqCst) == turn {
                        break;
                    }
                    core::hint::spin_loop();
                }
                until(|| asked.load(SeqCst) == turn);
                match (turn % 2 == 1, write(0, turn)) {
                    (true, false) => missing.fetch_add(1, SeqCst),
                    (false, true) => late.fetch_add(1, SeqCst),
                    _ => 0,
                };
                answered.store(turn, SeqCst);
            }
        }
        _ => {}
    });
    let [odd, missing, late] = [odd, missing, late].map(AtomicU64::into_inner);
    Found { rounds, made: 0, odd, missing, late }
}

/// A frame becomes a table after the root entry above its only writable mapping was removed without
/// a flush, while another vCPU writes through that mapping.
fn becomes_table(pool: &VcpuPool, chain: &Chain, frame: Page, live: Page, rounds: u64) -> Found {
    let over = Flag::new();
    let [made, odd, late, writes] = [const { AtomicU64::new(0) }; 4];
    let evil = live.entry(RW);
    pool.run(&|id| {
        if id == 1 {
            while !over.is_up() {
                for value in [evil, 0, 0, 0] {
                    writes.fetch_add(u64::from(write(PLACE, value)), SeqCst);
                }
            }
        }
        if id != 0 {
            return;
        }
        for _ in 0..rounds {
            frame.fill(0);
            let before = writes.load(SeqCst);
            if frame.put(frame.entry(RO), FLUSH_ALL) != 0 || chain.link() != 0 {
                odd.fetch_add(1, SeqCst);
                continue;
            }
            until(|| writes.load(SeqCst) > before + 1);
            if chain.unlink() != 0 {
                odd.fetch_add(1, SeqCst);
            }
            // Refused if the writer's entry, which no table may have, is in the frame.
            if frame.pin(1) == 0 {
                made.fetch_add(1, SeqCst);
                let end = time::raw() + 15_000;
                let mut bad = false;
                while time::raw() < end {
                    bad |= frame.get(PLACE as usize) != 0;
                }
                late.fetch_add(u64::from(bad), SeqCst);
                if frame.unpin() != 0 {
                    odd.fetch_add(1, SeqCst);
                }
            }
            if frame.put(frame.entry(RW), UVMF_NONE) != 0 {
                odd.fetch_add(1, SeqCst);
            }
        }
        over.raise();
    });
    let [made, odd, late] = [made, odd, late].map(AtomicU64::into_inner);
    Found { rounds, made, odd, missing: 0, late }
}
