//! The broken form. A slot that keeps its mapping invites two mistakes, and each round makes both:
//!
//! * **slot**: the frame of a page that was copied out becomes a page table, and the pin doesn't
//!   look for the mapping. The hypervisor refuses, and names the slot.
//! * **write**: somebody goes on writing through the slot when the frame belongs to another buffer.
//!   No hypervisor can tell that from an ordinary write, but the other buffer's checksum shows it.

use super::super::fixture::Fixture;
use super::super::tables::pin_and_free;
use super::super::{SeededAliases, Tally};
use super::context::{Context, LockPerRound};
use super::storage;
use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use crate::words;
use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer::{Buffers, Corrupt, CpuContext, Error, Slots};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::Policy;

/// Stale writes that were made, and those that a checksum has shown.
#[derive(Default)]
struct Writes {
    made: AtomicU64,
    found: AtomicU64,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let seeded = SeededAliases::default();
    let writes = Writes::default();
    fixture.set_policy(Policy::Lazy)?;
    // Each round has shared memory of its own; only the addresses are shared.
    storage(fixture)?;
    fixture.all(fixture.rounds(), |cpu, round, random| {
        let storage = storage(fixture).map_err(|Failed| Failure::Other("no shared memory"))?;
        let lock = LockPerRound(RefCell::new((fixture.mmu(), storage)));
        let context = Context { cpu, lock };
        fixture.mark(round, "slot");
        slot(&context, random, &seeded)?;
        fixture.mark(round, "write");
        write(&context, random, &writes)
    })?;
    let [made, found] = [writes.made, writes.found].map(AtomicU64::into_inner);
    println!("STALE-WRITES scenario=2 made={made} found={found}");
    if made == 0 || found != made {
        println!("scenario 2: a write through a stale slot went unnoticed");
        return Err(Failed);
    }
    Ok(seeded.tally())
}

/// Swaps a buffer out, and makes a page table of its last page's frame.
fn slot(
    context: &Context<LockPerRound<'_>>,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Failure> {
    let mut buffers = Buffers::new(64, Slots::Kept);
    let id = buffers.create(context, 1 + random.index(4), random.next_u64())?;
    let last = buffers.frames(id).last().copied().flatten();
    // The slots that were used to fill it are not tested here.
    context.with_mmu(|mmu, _| mmu.purge_kmap())?;
    buffers.swap_out(context, id)?;
    let tree = {
        let (mmu, _) = &mut *context.lock.0.borrow_mut();
        let tree = seeded.table(mmu.alloc_tables(1)?, last)?;
        let frame = tree.frames()[0];
        let [from, _] = mmu.kmap_pair(context.cpu_id());
        let tree = expect_refusal(mmu, tree, Mmu::pin_without_before_pin)?;
        seeded.refused(check_named(mmu, frame, &[from])?);
        tree
    };
    pin_and_free(&mut context.lock.0.borrow_mut().0, tree)?;
    buffers.check(context, id)?;
    Ok(buffers.free(context, id)?)
}

/// Swaps a buffer out, gives its frame to another buffer, and writes through the stale slot.
fn write(
    context: &Context<LockPerRound<'_>>,
    random: &mut Random,
    writes: &Writes,
) -> Result<(), Failure> {
    let mut buffers = Buffers::new(64, Slots::Kept);
    let old = buffers.create(context, 1, random.next_u64())?;
    buffers.swap_out(context, old)?;
    let [stale, _] = context.with_mmu(|mmu, _| mmu.kmap_pair(context.cpu_id()));
    let new = buffers.create(context, 1, random.next_u64())?;
    let Some(frame) = buffers.frames(new)[0] else {
        return Err(Failure::Other("a new buffer is not in memory"));
    };
    buffers.check(context, new)?;
    let word = Vaddr(stale.0 + random.below(512) * 8);
    words::store(word, words::load(word) ^ (1 << random.below(64)));
    writes.made.fetch_add(1, SeqCst);
    let moved = random.below(2) == 0;
    let seen = if moved { buffers.swap_out(context, new) } else { buffers.check(context, new) };
    match seen {
        Err(Error::Corrupt(Corrupt { buffer, page: 0, frame: named, .. }))
            if buffer == new && named == frame =>
        {
            writes.found.fetch_add(1, SeqCst);
        }
        Err(error) => return Err(error.into()),
        Ok(()) => {}
    }
    buffers.check(context, old)?;
    for id in [old, new] {
        buffers.free(context, id)?;
    }
    Ok(())
}
