//! The broken form. Each round makes both of the mistakes that a slot which keeps its mapping
//! invites:
//!
//! * **slot**: the frame of a page that was copied out becomes a page table, and nobody looks. The
//!   hypervisor refuses, and names the slot.
//! * **write**: somebody goes on writing through the slot. The frame is another buffer's by then;
//!   no hypervisor can tell that from an ordinary write, but the other buffer's checksum does, and
//!   names the frame.

use super::super::fixture::Fixture;
use super::super::tables::healed;
use super::super::{SeededAliases, Tally};
use super::hands::Full;
use super::storage;
use crate::violation::{Wrong, named, refuse};
use crate::{Failed, words};
use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer::{Buffers, Corrupt, CpuContext, Error, Slots};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::Policy;

/// Stale writes that were made, and those that were found in the frame that they went to.
#[derive(Default)]
struct Writes {
    made: AtomicU64,
    found: AtomicU64,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let seeded = SeededAliases::default();
    let writes = Writes::default();
    fixture.set_policy(Policy::Lazy)?;
    // The shared memory of a round is the round's own, but for its addresses.
    storage(fixture)?;
    fixture.all(fixture.rounds(), |cpu, round, random| {
        let storage = storage(fixture).map_err(|Failed| Wrong::Told("no shared memory"))?;
        let hands = Full { owner: RefCell::new((fixture.mmu(), storage)), cpu };
        fixture.mark(round, "slot");
        slot(&hands, random, &seeded)?;
        fixture.mark(round, "write");
        write(&hands, random, &writes)
    })?;
    let [made, found] = [writes.made, writes.found].map(AtomicU64::into_inner);
    println!("STALE-WRITES scenario=2 made={made} found={found}");
    if made == 0 || found != made {
        println!("scenario 2: a write through a stale slot went unnoticed");
        return Err(Failed);
    }
    Ok(seeded.tally())
}

/// A buffer goes out, and its last page's frame becomes a page table.
fn slot(hands: &Full<'_>, random: &mut Random, seeded: &SeededAliases) -> Result<(), Wrong> {
    let mut buffers = Buffers::new(64, Slots::Kept);
    let id = buffers.create(hands, 1 + random.index(4), random.next_u64())?;
    let last = buffers.frames(id).last().copied().flatten();
    // It was filled through other slots, which are no part of this.
    hands.with_mmu(|mmu, _| mmu.purge_kmap())?;
    buffers.swap_out(hands, id)?;
    let tree = {
        let (mmu, _) = &mut *hands.owner.borrow_mut();
        let tree = seeded.table(mmu.alloc_tables(1)?, last)?;
        let frame = tree.frames()[0];
        let [from, _] = mmu.kmap_pair(hands.cpu_id());
        let tree = refuse(mmu, tree, Mmu::pin_without_before_pin)?;
        seeded.refused(named(mmu, frame, &[from])?);
        tree
    };
    healed(&mut hands.owner.borrow_mut().0, tree)?;
    buffers.check(hands, id)?;
    Ok(buffers.free(hands, id)?)
}

/// A buffer goes out, its frame becomes another buffer's, and somebody writes through the slot.
fn write(hands: &Full<'_>, random: &mut Random, writes: &Writes) -> Result<(), Wrong> {
    let mut buffers = Buffers::new(64, Slots::Kept);
    let old = buffers.create(hands, 1, random.next_u64())?;
    buffers.swap_out(hands, old)?;
    let [stale, _] = hands.with_mmu(|mmu, _| mmu.kmap_pair(hands.cpu_id()));
    let new = buffers.create(hands, 1, random.next_u64())?;
    let Some(frame) = buffers.frames(new)[0] else {
        return Err(Wrong::Told("a new buffer is not in memory"));
    };
    buffers.check(hands, new)?;
    let word = Vaddr(stale.0 + random.below(512) * 8);
    words::store(word, words::load(word) ^ (1 << random.below(64)));
    writes.made.fetch_add(1, SeqCst);
    let moved = random.below(2) == 0;
    let seen = if moved { buffers.swap_out(hands, new) } else { buffers.check(hands, new) };
    match seen {
        Err(Error::Corrupt(Corrupt { buffer, page: 0, frame: named, .. }))
            if buffer == new && named == frame =>
        {
            writes.found.fetch_add(1, SeqCst);
        }
        Err(error) => return Err(error.into()),
        Ok(()) => {}
    }
    buffers.check(hands, old)?;
    for id in [old, new] {
        buffers.free(hands, id)?;
    }
    Ok(())
}
