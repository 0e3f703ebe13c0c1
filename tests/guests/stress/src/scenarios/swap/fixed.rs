//! The fixed form: the same work, with slots that are kept and dealt with before a pin, and with
//! slots that are cleared at once; then a stale write is a fault and harms nobody.

use super::super::fixture::Fixture;
use super::super::tables;
use super::hands::Free;
use super::storage;
use crate::violation::Wrong;
use crate::{Failed, words};
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

/// Frames that a vCPU's buffers may have.
const FRAMES: usize = 10;
/// Buffers of a vCPU: more than fit.
const BUFFERS: usize = 8;

/// What one vCPU has.
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
            let hands = Free { fixture, storage: &storage, cpu };
            let mut own = owns[cpu].lock();
            round(&hands, &mut own, random)?;
            let stale = out_again(&hands, &mut own)?;
            if slots == Slots::Cleared {
                if words::try_store(stale[random.index(2)], 1) {
                    return Err(Wrong::Told("a write through a cleared slot went through"));
                }
                faults.fetch_add(1, SeqCst);
            }
            tables::make(&mut fixture.mmu(), random)
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

/// Something is done to a buffer or two.
fn round(hands: &Free<'_>, own: &mut Own, random: &mut Random) -> Result<(), Wrong> {
    let Own { buffers, ids } = own;
    if ids.len() < BUFFERS {
        ids.push(buffers.create(hands, 1 + random.index(4), random.next_u64())?);
    }
    let which = random.index(ids.len());
    match random.below(8) {
        0 => buffers.free(hands, ids.swap_remove(which))?,
        1 | 2 => buffers.write(hands, ids[which], random.next_u64())?,
        3 => buffers.swap_out(hands, ids[which])?,
        _ => buffers.check(hands, ids[which])?,
    }
    Ok(())
}

/// A buffer comes in and goes out; where its last page went through.
fn out_again(hands: &Free<'_>, own: &mut Own) -> Result<[Vaddr; 2], Wrong> {
    if let Some(&id) = own.ids.last() {
        own.buffers.swap_in(hands, id)?;
        own.buffers.swap_out(hands, id)?;
    }
    Ok(hands.with_mmu(|mmu, _| mmu.kmap_pair(hands.cpu_id())))
}

/// Everything is looked at once more, and freed: pages that went out, that came back, and that
/// were looked at.
fn end(
    fixture: &Fixture<'_>,
    storage: &Mutex<Pager<InMemory>>,
    owns: Vec<Mutex<Own>>,
) -> Result<[u64; 3], Failed> {
    let mut sum = [0; 3];
    fixture.once(|| {
        for own in owns {
            let Own { mut buffers, ids } = own.into_inner();
            let hands = Free { fixture, storage, cpu: 0 };
            for id in ids {
                buffers.check(&hands, id)?;
                buffers.free(&hands, id)?;
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
