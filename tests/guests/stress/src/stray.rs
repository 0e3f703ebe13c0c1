//! Phase a: frames with a stray mapping become page tables, and nobody clears the mapping first.

use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use alloc::vec::Vec;
use arrayvec::ArrayString;
use core::fmt::Write;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::Native;
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::{Error, Leaf, Mmu, UnpinnedTables};
use pinfold_guest::println;
use pinfold_guest::vmap::{Area, Policy};

/// How the mapping was left behind.
#[derive(Clone, Copy, Debug)]
enum Stray {
    Vmap,
    Kmap,
    Atomic,
    /// It is in use: the frame was freed under a live area.
    Used,
}

/// Tries each kind of stray mapping at each level, `rounds / 10` times.
pub(crate) fn run(mmu: &mut Mmu<Native>, random: &mut Random, rounds: u64) -> Result<(), Failed> {
    let rounds = rounds.div_ceil(10);
    set_policy(mmu, Policy::Lazy)?;
    let before = mmu.stats();
    let (mut refused, mut named) = (0u64, 0u64);
    for round in 0..rounds {
        for stray in [Stray::Vmap, Stray::Kmap, Stray::Atomic, Stray::Used] {
            for level in 1..=4 {
                mark(round, stray, level);
                let found = run_round(mmu, random, stray, level).map_err(|error| {
                    println!("stray: round {round}, {stray:?}, level {level}: {error}");
                    Failed
                })?;
                refused += 1;
                named += u64::from(found);
            }
        }
    }
    println!("STRAY refused={refused} named={named} {}", mmu.stats() - before);
    Ok(())
}

/// Writes a mark to the hypervisor's log, so that its records can be tied to this attempt.
fn mark(round: u64, stray: Stray, level: u8) {
    let mut text = ArrayString::<80>::new();
    // It fits. Where `mark` doesn't exist, nobody reads the log.
    let _ = write!(text, "stray round={round} kind={stray:?} level={level}");
    let _ = pinfold::mark(&text);
}

fn set_policy(mmu: &mut Mmu<Native>, policy: Policy) -> Result<(), Failed> {
    mmu.set_policy(policy).map_err(|error| {
        println!("stress: policy {policy}: {error}");
        Failed
    })
}

/// Makes one pin that must be refused. Returns whether the hypervisor named the mapping.
fn run_round(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    stray: Stray,
    level: u8,
) -> Result<bool, Failure> {
    let (frame, left, area) = leave_mapping(mmu, random, stray)?;
    // The frame that was freed last is allocated first: it becomes the tree's root, or a lower
    // table if another frame is put aside.
    mmu.free_frame(frame);
    let aside = if level > 1 && random.below(2) == 0 { Some(mmu.alloc_frame()?) } else { None };
    let mut tree = mmu.alloc_tables(level)?;
    if let Some(frame) = aside {
        mmu.free_frame(frame);
    }
    // The tables map one of themselves read-only, which is allowed.
    let leaf = Leaf { frame: tree.frames()[0], writable: false, user: false };
    mmu.map_in(&mut tree, Vaddr(random.next_u64() & 0x7fff_ffff_f000), leaf)?;
    if !tree.frames().contains(&frame) {
        // The tree is so small that the frame wasn't allocated again.
        mmu.free_tables(tree);
        return Err(Failure::Shim(Error::NoFrame));
    }
    let tree = expect_refusal(mmu, tree, Mmu::pin_without_before_pin)?;
    let named = check_named(mmu, frame, &[left])? > 0;
    // Once the mapping is cleared, the same tree can be pinned.
    let tree = match area {
        Some(area) => refused_by_the_shim(mmu, tree, area, left)?,
        None => tree,
    };
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(named)
}

/// The shim itself refuses to pin a frame that is mapped by a live area. Ends that use.
fn refused_by_the_shim(
    mmu: &mut Mmu<Native>,
    tree: UnpinnedTables,
    area: Area,
    left: Vaddr,
) -> Result<UnpinnedTables, Failure> {
    let tree = match mmu.pin(tree) {
        Err((tree, Error::InUse(va))) if va == left => tree,
        Err((_, error)) => return Err(Failure::Otherwise(error)),
        Ok(_) => return Err(Failure::Accepted),
    };
    mmu.vunmap(area)?;
    Ok(tree)
}

/// Maps a frame, writes through the mapping, and leaves the mapping behind. Returns the frame, the
/// address, and the area if it is still in use.
fn leave_mapping(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    stray: Stray,
) -> Result<(Pfn, Vaddr, Option<Area>), Failure> {
    let frame = mmu.alloc_frame()?;
    let mut used = None;
    let stamp = random.next_u64();
    let va = match stray {
        Stray::Vmap => {
            let others: Vec<Pfn> =
                (0..random.below(4)).map(|_| mmu.alloc_frame()).collect::<Result<_, _>>()?;
            let place = random.below(others.len() as u64 + 1);
            let mut frames = others.clone();
            frames.insert(place as usize, frame);
            let area = mmu.vmap(&frames)?;
            let va = area.start().page(place);
            mmu.store(va, stamp);
            mmu.vunmap(area)?;
            for other in others {
                mmu.free_frame(other);
            }
            va
        }
        Stray::Kmap => {
            let mapped = mmu.kmap(frame)?;
            let va = mapped.va();
            mmu.store(va, stamp);
            mmu.kunmap(mapped);
            va
        }
        Stray::Atomic => {
            let from = mmu.alloc_frame()?;
            mmu.write(from, 0, stamp);
            mmu.copy_frame(0, from, frame)?;
            mmu.free_frame(from);
            // The second slot of the pair maps the destination.
            mmu.kmap_pair(0)[1]
        }
        Stray::Used => {
            let area = mmu.vmap(&[frame])?;
            let va = area.start();
            mmu.store(va, stamp);
            used = Some(area);
            va
        }
    };
    if mmu.read(frame, 0) != stamp {
        return Err(Failure::NotNamed(va, 0));
    }
    Ok((frame, va, used))
}
