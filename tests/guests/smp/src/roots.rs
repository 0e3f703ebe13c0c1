//! Entries of the root itself, which all vCPUs have loaded: one comes, goes or changes while another
//! vCPU uses what is below it.
//!
//! A processor may walk a copy of the root instead of the root, as it does under a hypervisor that
//! isolates guests from itself. The guest must not be able to tell.

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, ext, update};
use crate::team::{Flag, VcpuPool, until};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::mmu::{MmuextCmd, UVMF_NONE};
use pinfold_guest::addr::{Level, Vaddr};
use pinfold_guest::entry::catch;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::{Check, RO, RW};
use pinfold_guest::println;

/// The root's entry, which is nobody else's.
const SLOT: usize = 17;
/// The first address below it.
const WINDOW: u64 = (SLOT as u64) << 39;
/// The entry of a future table that is written.
const PLACE: u64 = 77;
/// For tables: ring 3 may go through.
const TABLE: u64 = RW | 4;

/// Tables that map one frame, and where the root is to lead to them.
struct Chain {
    /// Machine address of the root's entry.
    slot: u64,
    top: Page,
}

impl Chain {
    /// Seals three pages as tables that map `frame` writable at [`WINDOW`].
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

    /// Has the root lead to it; nothing is flushed.
    fn link(&self) -> i64 {
        update(self.slot, self.top.entry(TABLE))
    }

    /// Has the root lead to nothing; nothing is flushed.
    fn unlink(&self) -> i64 {
        update(self.slot, 0)
    }
}

fn write(index: u64, word: u64) -> bool {
    // SAFETY: nothing but the frame of the chain is ever mapped there.
    unsafe { catch::write(WINDOW + index * 8, word) }.is_ok()
}

pub(crate) fn run(frames: &Frames, team: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let &[a3, a2, a1, b3, b2, b1, frame, other, live, ..] = pages.0.as_slice() else { return };
    let chain = Chain::new(frames, [a3, a2, a1], frame, check);
    let second = Chain::new(frames, [b3, b2, b1], other, check);
    let rounds = plan.rounds.min(100);

    alone(&chain, &second, frame, other, check);

    let found = come_and_go(team, &chain, rounds);
    println!("SMP root entries come and go: {found:?}");
    check.equal("calls", found.odd, 0);
    check.equal("what is added is there at once, without a flush", found.missing, 0);
    check.equal("what is removed and flushed is gone", found.late, 0);

    check.equal("seal", live.put(live.entry(RO), FLUSH_ALL), 0);
    check.equal("a live table", live.pin(1), 0);
    let found = becomes_table(team, &chain, frame, live, plan.rounds);
    println!("SMP writes through a removed root entry: {found:?}");
    check.equal("calls", found.odd, 0);
    check.equal("no write lands in a live table", found.late, 0);
    check.holds("tables were made", found.made > 0);
    check.equal("unpin", live.unpin(), 0);
    for page in [live, a3, a2, a1, b3, b2, b1] {
        check.equal("unseal", page.unseal(), 0);
    }
}

/// What one vCPU does is seen by itself.
fn alone(chain: &Chain, second: &Chain, frame: Page, other: Page, check: &mut Check) {
    check.equal("link", chain.link(), 0);
    check.holds("what is added is there at once", write(0, 1));
    check.equal("another chain", second.link(), 0);
    check.equal("one address is flushed", ext(MmuextCmd::InvlpgLocal, WINDOW, 0), 0);
    check.holds("what is there is used", write(0, 2));
    check.equal("it is the other frame", (frame.get(0), other.get(0)), (1, 2));
    check.equal("unlink", second.unlink(), 0);
    check.equal("one address is flushed", ext(MmuextCmd::InvlpgLocal, WINDOW, 0), 0);
    check.holds("nothing is there any more", !write(0, 3));
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

/// One vCPU adds and removes the entry, another looks each time.
fn come_and_go(team: &VcpuPool, chain: &Chain, rounds: u64) -> Found {
    // Twice the round's number, and one more when the entry is there.
    let [asked, answered, odd, missing, late] = [const { AtomicU64::new(0) }; 5];
    team.run(&|id| match id {
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
                // In the guest all the time, as long as the others can run meanwhile: the entry is
                // to come without a call of this vCPU's.
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

/// A frame becomes a table after the root's entry above its only writable mapping went, without a
/// flush, while another vCPU writes through it.
fn becomes_table(team: &VcpuPool, chain: &Chain, frame: Page, live: Page, rounds: u64) -> Found {
    let over = Flag::new();
    let [made, odd, late, writes] = [const { AtomicU64::new(0) }; 4];
    let evil = live.entry(RW);
    team.run(&|id| {
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
            // Refused if the writer has just put its entry there, which no table may have.
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
