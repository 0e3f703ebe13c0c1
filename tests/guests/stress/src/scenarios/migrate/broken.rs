//! The broken form: moving a buffer misses one of its mappings. Writes through that mapping are
//! lost, and its frame becomes a page table.

use super::super::fixture::{Fixture, Owner};
use super::super::{SeededAliases, Tally};
use super::buffer::{Buffer, differences, run_on};
use super::with_map;
use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::{Policy, Region};

/// The mapping that is missed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Area,
    Slot,
    Space(usize),
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let (seeded, lost) = (SeededAliases::default(), AtomicU64::new(0));
    let region = fixture.region("moved_buf", 512)?;
    with_map(fixture, Policy::Targeted, || {
        fixture.all(fixture.rounds(), |_, round, random| {
            run_round(fixture, region, round, random, &seeded)?;
            lost.fetch_add(1, SeqCst);
            Ok(())
        })
    })?;
    println!("LOST scenario=4 writes={}", lost.into_inner());
    Ok(seeded.tally())
}

/// Moves a buffer, except for one mapping. Fails unless a write through that mapping is lost, the
/// hypervisor finds it missing from the reverse map, and the pin is refused because of it.
fn run_round(
    fixture: &Fixture<'_>,
    region: Region,
    round: u64,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Failure> {
    let mut mmu = fixture.mmu();
    let addresses = [0, 1].map(|_| Vaddr(random.next_u64() & 0x3fff_ffff_0000 | 1 << 16));
    let mut buffer = Buffer::new(&mut mmu, region, 1 + random.below(4), &addresses)?;
    let kind = [Kind::Area, Kind::Slot, Kind::Space(0), Kind::Space(1)][random.index(4)];
    let page = match kind {
        Kind::Slot => 0,
        _ => random.below(buffer.area.pages()),
    };
    let va = match kind {
        Kind::Area => buffer.area.start().page(page),
        Kind::Slot => buffer.slot.va(),
        Kind::Space(which) => buffer.spaces[which].0.page(page),
    };
    fixture.mark(round, "forgotten");
    let old = buffer.frames.clone();
    let frame = old[page as usize];
    let forgotten = mmu.forget_mapping(frame, va).ok_or(Failure::Other("nothing to forget"))?;
    let found = differences(&mut mmu, &old)?;
    if found != [va] && !fixture.on_xen() {
        return Err(Failure::Other("the hypervisor finds other differences"));
    }
    move_buffer(&mut mmu, &mut buffer)?;
    let stamp = random.next_u64();
    if !write_is_lost(&mut mmu, &buffer, kind, va, page, stamp)? {
        return Err(Failure::Other("a write through the missed mapping is not lost"));
    }
    // The old frames are freed; the one that is still mapped last, so that it is allocated first.
    for &other in old.iter().filter(|&&other| other != frame) {
        mmu.free_frame(other);
    }
    mmu.free_frame(frame);
    let tree = seeded.table(mmu.alloc_tables(1)?, Some(frame))?;
    // Areas and slots the shim would find by itself, from their owners.
    let tree = match kind {
        Kind::Space(_) => expect_refusal(&mut mmu, tree, Mmu::pin)?,
        Kind::Area | Kind::Slot => expect_refusal(&mut mmu, tree, Mmu::pin_without_before_pin)?,
    };
    seeded.refused(check_named(&mut mmu, frame, &[va])?);
    // Once the reverse map has it again, it is moved like the others.
    mmu.recall_mapping(forgotten);
    let to = buffer.frames[page as usize];
    mmu.unmap_everywhere(&[frame])?.map(&[to])?;
    if write_is_lost(&mut mmu, &buffer, kind, va, page, !stamp)? {
        return Err(Failure::Other("a write is lost"));
    }
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    buffer.end(&mut mmu)
}

/// Moves a buffer to other frames, missing one mapping.
fn move_buffer(mmu: &mut Owner<'_>, buffer: &mut Buffer) -> Result<(), Failure> {
    let to: Result<Vec<Pfn>, _> = buffer.frames.iter().map(|_| mmu.alloc_frame()).collect();
    let to = to?;
    let mut gone = mmu.unmap_everywhere(&buffer.frames)?;
    gone.copy(&to);
    if gone.map(&to)? != buffer.mappings() - 1 {
        return Err(Failure::Other("not exactly one mapping was missed"));
    }
    buffer.frames = to;
    Ok(())
}

/// Writes through the mapping. Returns whether the write is missing from the buffer.
fn write_is_lost(
    mmu: &mut Owner<'_>,
    buffer: &Buffer,
    kind: Kind,
    va: Vaddr,
    page: u64,
    stamp: u64,
) -> Result<bool, Failure> {
    match kind {
        Kind::Area | Kind::Slot => mmu.store(va, stamp),
        Kind::Space(which) => run_on(mmu, &buffer.spaces[which].1, |mmu| mmu.store(va, stamp))?,
    }
    Ok(mmu.read(buffer.frames[page as usize], 0) != stamp)
}
