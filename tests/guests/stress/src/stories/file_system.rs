//! Story 1: lazy vmap under a file system.

use super::{Stage, Tally};
use crate::random::Random;
use crate::violation::{Wrong, named, refuse};
use crate::{Failed, words};
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Pfn;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::vmap::Policy;

/// As XFS did it: 64 dead areas are cleared together, and until then nobody thinks of them.
const BATCH: Policy = Policy::Batch(64);

/// A page of a buffer that was unmapped a moment ago becomes a page table, and nobody looks.
pub(crate) fn naive(stage: &Stage<'_>) -> Result<Tally, Failed> {
    let [planted, refused, named_] = [const { AtomicU64::new(0) }; 3];
    stage.all(1, |_, _, _| Ok(stage.mmu().set_policy(BATCH)?))?;
    stage.all(stage.rounds(), |_, round, random| {
        let mut mmu = stage.mmu();
        stage.mark(round, "batched");
        let frames = buffer(&mut mmu, random)?;
        let area = mmu.vmap(&frames)?;
        let place = random.below(frames.len() as u64);
        let (frame, va) = (frames[place as usize], area.start().page(place));
        words::store(va, round);
        // Nothing else is dead, so that this one stays.
        mmu.purge_vmap()?;
        mmu.vunmap(area)?;
        for &other in frames.iter().filter(|&&other| other != frame) {
            mmu.free_frame(other);
        }
        mmu.free_frame(frame);
        planted.fetch_add(1, SeqCst);
        let tree = mmu.alloc_tree(1)?;
        if tree.frames() != [frame] {
            return Err(Wrong::Told("another frame than the one freed last was given out"));
        }
        let tree = refuse(&mut mmu, tree, Mmu::pin_without_before_pin)?;
        refused.fetch_add(1, SeqCst);
        named_.fetch_add(named(&mut mmu, frame, &[va])?, SeqCst);
        mmu.free_tree(tree);
        Ok(())
    })?;
    let [planted, refused, named] = [planted, refused, named_].map(AtomicU64::into_inner);
    Ok(Tally { planted, refused, named })
}

fn buffer(
    mmu: &mut Mmu<pinfold_guest::entry::Native>,
    random: &mut Random,
) -> Result<Vec<Pfn>, Wrong> {
    let frames: Result<_, _> = (0..1 + random.below(8)).map(|_| mmu.alloc_frame()).collect();
    Ok(frames?)
}

/// The same through the shim, contents touched outside of the lock.
pub(crate) fn cured(stage: &Stage<'_>) -> Result<(), Failed> {
    stage.all(1, |_, _, _| Ok(stage.mmu().set_policy(BATCH)?))?;
    stage.all(stage.rounds(), |_, _, random| {
        let (area, frames) = {
            let mut mmu = stage.mmu();
            let frames = buffer(&mut mmu, random)?;
            (mmu.vmap(&frames)?, frames)
        };
        let stamp = random.next();
        for page in 0..area.pages() {
            words::store(area.start().page(page), stamp ^ page);
        }
        for page in 0..area.pages() {
            words::check(area.start().page(page), stamp ^ page)?;
        }
        let mut mmu = stage.mmu();
        mmu.vunmap(area)?;
        for frame in frames {
            mmu.free_frame(frame);
        }
        let tree = mmu.alloc_tree(1)?;
        let space = mmu.pin(tree).map_err(|(_, error)| error)?;
        let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
        mmu.free_tree(tree);
        Ok(())
    })
}
