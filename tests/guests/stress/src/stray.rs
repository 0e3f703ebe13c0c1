//! Phase a: a stray mapping is left, its page becomes a page table, and nobody looks first.

use crate::Failed;
use crate::violation::{Wrong, named, refuse};
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
    /// It is no stray at all: the area is in use when its page is given back.
    Used,
}

/// Every round, each kind of stray mapping at each level of the tree.
pub(crate) fn run(mmu: &mut Mmu<Native>, random: &mut Random, rounds: u64) -> Result<(), Failed> {
    let rounds = rounds.div_ceil(10);
    set_policy(mmu, Policy::Lazy)?;
    let before = mmu.stats();
    let (mut refused, mut named) = (0u64, 0u64);
    for round in 0..rounds {
        for stray in [Stray::Vmap, Stray::Kmap, Stray::Atomic, Stray::Used] {
            for level in 1..=4 {
                mark(round, stray, level);
                let found = one(mmu, random, stray, level).map_err(|error| {
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

/// Ties what the hypervisor logs to what is tried here.
fn mark(round: u64, stray: Stray, level: u8) {
    let mut text = ArrayString::<80>::new();
    // It fits; and where there are no marks there is nobody to read them.
    let _ = write!(text, "stray round={round} kind={stray:?} level={level}");
    let _ = pinfold::mark(&text);
}

fn set_policy(mmu: &mut Mmu<Native>, policy: Policy) -> Result<(), Failed> {
    mmu.set_policy(policy).map_err(|error| {
        println!("stress: policy {policy}: {error}");
        Failed
    })
}

/// One refused pin; whether the hypervisor named the mapping.
fn one(mmu: &mut Mmu<Native>, random: &mut Random, stray: Stray, level: u8) -> Result<bool, Wrong> {
    let (frame, left, area) = leave(mmu, random, stray)?;
    // The page that was freed last is used first: it is the tree's root, or with some luck of the
    // draw one further down.
    mmu.free_frame(frame);
    let aside = if level > 1 && random.below(2) == 0 { Some(mmu.alloc_frame()?) } else { None };
    let mut tree = mmu.alloc_tables(level)?;
    if let Some(frame) = aside {
        mmu.free_frame(frame);
    }
    // The tables map one of themselves, read-only: that is allowed, and no alias.
    let leaf = Leaf { frame: tree.frames()[0], writable: false, user: false };
    mmu.map_in(&mut tree, Vaddr(random.next_u64() & 0x7fff_ffff_f000), leaf)?;
    if !tree.frames().contains(&frame) {
        // Only when the tree is so low that it never took the page that was put aside.
        mmu.free_tables(tree);
        return Err(Wrong::Shim(Error::NoFrame));
    }
    let tree = refuse(mmu, tree, Mmu::pin_without_before_pin)?;
    let named = named(mmu, frame, &[left])? > 0;
    // Once it is dealt with, the same tree can be pinned.
    let tree = match area {
        Some(area) => refused_by_the_shim(mmu, tree, area, left)?,
        None => tree,
    };
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(named)
}

/// Of a page that is in use the shim knows; then the use ends.
fn refused_by_the_shim(
    mmu: &mut Mmu<Native>,
    tree: UnpinnedTables,
    area: Area,
    left: Vaddr,
) -> Result<UnpinnedTables, Wrong> {
    let tree = match mmu.pin(tree) {
        Err((tree, Error::InUse(va))) if va == left => tree,
        Err((_, error)) => return Err(Wrong::Otherwise(error)),
        Ok(_) => return Err(Wrong::Accepted),
    };
    mmu.vunmap(area)?;
    Ok(tree)
}

/// Maps a frame, writes through the mapping, and leaves it; with the area, if that is in use.
fn leave(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    stray: Stray,
) -> Result<(Pfn, Vaddr, Option<Area>), Wrong> {
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
            // The pair's second slot.
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
        return Err(Wrong::NotNamed(va, 0));
    }
    Ok((frame, va, used))
}
