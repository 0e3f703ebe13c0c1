//! The fixed form: the same work, once with slots that keep their mappings, which the shim clears
//! before a pin, and once with slots that are cleared at once: then a stale write faults.

use super::super::fixture::Fixture;
use super::super::tables;
use super::context::{Context, LockPerStep};
use super::storage;
use crate::failure::Failed;
use crate::failure::Failure;
use crate::words;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer::{BufferId, BufferStats, Buffers, CpuContext, Slots};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Random;
use pinfold_guest::pageable::{InMemory, Pager};
use pinfold_guest::println;
use pinfold_guest::vmap::Policy;

/// Frames that the buffers of a vCPU may use.
const FRAMES: usize = 10;
/// Buffers of each vCPU: more than fit into the frames.
const BUFFERS: usize = 8;

/// The buffers of one vCPU.
struct Own {
    buffers: Buffers,
    ids: Vec<BufferId>,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<(), Failed> {
    fixture.set_policy(Policy::Targeted)?;
    let faults = AtomicU64::new(0);
    for slots in [Slots::Kept, Slots::Cleared] {
        let storage = Mutex::new(storage(fixture)?);
        let own = |_| Mutex::new(Own { buffers: Buffers::new(FRAMES, slots), ids: Vec::new() });
        let owns: Vec<Mutex<Own>> = (0..fixture.count()).map(own).collect();
        let (before, began) = (fixture.mmu().stats(), time::tsc());
        let share = fixture.rounds().div_ceil(2);
        fixture.all(share, |cpu, _, random| {
            let context = Context { cpu, lock: LockPerStep { fixture, storage: &storage } };
            let mut own = owns[cpu].lock();
            round(&context, &mut own, random)?;
            let stale = out_again(&context, &mut own)?;
            if slots == Slots::Cleared
                && let Some(stale) = stale
            {
                if words::try_store(stale[random.index(2)], 1) {
                    return Err(Failure::Other("a write through a cleared slot went through"));
                }
                faults.fetch_add(1, SeqCst);
            }
            tables::build_and_free(&mut fixture.mmu(), random)
        })?;
        let (done, ticks) = (fixture.mmu().stats() - before, time::tsc() - began);
        let [out, back, checked] = end(fixture, &storage, owns)?;
        println!(
            "COST scenario=2 slots={slots:?} rounds={share} out={out} back={back} checked={checked} pins={} pins_after_clear={} kmaps={} kmaps_cleared={} flushes={} ticks={ticks}",
            done.pins, done.pins_after_clear, done.kmaps, done.kmaps_cleared, done.flushes,
        );
    }
    println!("STALE-WRITES scenario=2 faults={}", faults.into_inner());
    Ok(())
}

/// Does something with one buffer or two.
fn round(
    context: &Context<LockPerStep<'_>>,
    own: &mut Own,
    random: &mut Random,
) -> Result<(), Failure> {
    let Own { buffers, ids } = own;
    if ids.len() < BUFFERS {
        ids.push(buffers.create(context, 1 + random.index(4), random.next_u64())?);
    }
    let which = random.index(ids.len());
    match random.below(8) {
        0 => buffers.free(context, ids.swap_remove(which))?,
        1 | 2 => buffers.write(context, ids[which], random.next_u64())?,
        3 => buffers.swap_out(context, ids[which])?,
        _ => buffers.check(context, ids[which])?,
    }
    Ok(())
}

/// Swaps a buffer in and out. Returns the addresses of the slots that the last page went through;
/// `None` if there is no buffer: then the slots hold what was left in them before.
fn out_again(
    context: &Context<LockPerStep<'_>>,
    own: &mut Own,
) -> Result<Option<[Vaddr; 2]>, Failure> {
    let Some(&id) = own.ids.last() else { return Ok(None) };
    own.buffers.swap_in(context, id)?;
    own.buffers.swap_out(context, id)?;
    Ok(Some(context.with_mmu(|mmu, _| mmu.kmap_pair(context.cpu_id()))))
}

/// Checks all buffers once more and frees them. Returns the pages that were swapped out, swapped in
/// and checked.
fn end(
    fixture: &Fixture<'_>,
    storage: &Mutex<Pager<InMemory>>,
    owns: Vec<Mutex<Own>>,
) -> Result<[u64; 3], Failed> {
    let mut sum = [0; 3];
    fixture.once(|| {
        for own in owns {
            let Own { mut buffers, ids } = own.into_inner();
            let context = Context { cpu: 0, lock: LockPerStep { fixture, storage } };
            for id in ids {
                buffers.check(&context, id)?;
                buffers.free(&context, id)?;
            }
            let BufferStats { out, back, checked } = buffers.stats();
            for (sum, count) in sum.iter_mut().zip([out, back, checked]) {
                *sum += count;
            }
        }
        Ok(())
    })?;
    Ok(sum)
}
