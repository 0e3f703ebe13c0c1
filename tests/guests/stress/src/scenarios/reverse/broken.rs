//! The broken form: one mapping of the buffer is forgotten when it is moved. What is written
//! through it is lost, and the frame behind it becomes a page table.

use super::super::fixture::{Fixture, Owner};
use super::super::{SeededAliases, Tally};
use super::buffer::{Buffer, differences, on};
use super::with_map;
use crate::Failed;
use crate::violation::{Wrong, named, refuse};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::println;
use pinfold_guest::vmap::{Policy, Region};

/// Who is forgotten.
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
            one(fixture, region, round, random, &seeded)?;
            lost.fetch_add(1, SeqCst);
            Ok(())
        })
    })?;
    println!("LOST scenario=4 writes={}", lost.into_inner());
    Ok(seeded.tally())
}

/// Moves a buffer of its own, all but for one mapping. Fails unless the write is lost, the mapping
/// is what the hypervisor finds to be missing from the map, and the table is refused because of
/// it.
fn one(
    fixture: &Fixture<'_>,
    region: Region,
    round: u64,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Wrong> {
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
    let forgotten = mmu.forget_mapping(frame, va).ok_or(Wrong::Told("nothing to forget"))?;
    let found = differences(&mut mmu, &old)?;
    if found != [va] && !fixture.on_xen() {
        return Err(Wrong::Told("the hypervisor found other differences"));
    }
    moved(&mut mmu, &mut buffer)?;
    let stamp = random.next_u64();
    if !is_lost(&mut mmu, &buffer, kind, va, page, stamp)? {
        return Err(Wrong::Told("a write through a mapping that was forgotten is not lost"));
    }
    // The old frames are free; the one that is still mapped comes first.
    for &other in old.iter().filter(|&&other| other != frame) {
        mmu.free_frame(other);
    }
    mmu.free_frame(frame);
    let tree = seeded.table(mmu.alloc_tables(1)?, Some(frame))?;
    // Areas and slots the shim would find by itself: it looks who uses them.
    let tree = match kind {
        Kind::Space(_) => refuse(&mut mmu, tree, Mmu::pin)?,
        Kind::Area | Kind::Slot => refuse(&mut mmu, tree, Mmu::pin_without_before_pin)?,
    };
    seeded.refused(named(&mut mmu, frame, &[va])?);
    // Once it is known again, it is moved like the others.
    mmu.recall_mapping(forgotten);
    let to = buffer.frames[page as usize];
    mmu.unmap_everywhere(&[frame])?.map(&[to])?;
    if is_lost(&mut mmu, &buffer, kind, va, page, !stamp)? {
        return Err(Wrong::Told("a write is lost"));
    }
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    buffer.end(&mut mmu)
}

/// Moves a buffer to other frames.
fn moved(mmu: &mut Owner<'_>, buffer: &mut Buffer) -> Result<(), Wrong> {
    let to: Result<Vec<Pfn>, _> = buffer.frames.iter().map(|_| mmu.alloc_frame()).collect();
    let to = to?;
    let mut gone = mmu.unmap_everywhere(&buffer.frames)?;
    gone.copy(&to);
    if gone.map(&to)? != buffer.mappings() - 1 {
        return Err(Wrong::Told("more or less than one mapping was forgotten"));
    }
    buffer.frames = to;
    Ok(())
}

/// Writes through the mapping in question; whether nothing of it is in the buffer.
fn is_lost(
    mmu: &mut Owner<'_>,
    buffer: &Buffer,
    kind: Kind,
    va: Vaddr,
    page: u64,
    stamp: u64,
) -> Result<bool, Wrong> {
    match kind {
        Kind::Area | Kind::Slot => mmu.store(va, stamp),
        Kind::Space(which) => on(mmu, &buffer.spaces[which].1, |mmu| mmu.store(va, stamp))?,
    }
    Ok(mmu.read(buffer.frames[page as usize], 0) != stamp)
}
