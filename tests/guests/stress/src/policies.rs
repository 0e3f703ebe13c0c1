//! Phase b: every policy, on frames that were mapped a moment ago, with and without a pool of
//! clean frames for tables.

use crate::failure::Failed;
use crate::failure::Failure;
use crate::words::Content;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use pinfold_guest::addr::{PAGE_SIZE, Pfn, Vaddr};
use pinfold_guest::entry::Native;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::{AddressSpace, Leaf, Mmu, Reuse};
use pinfold_guest::println;
use pinfold_guest::vmap::{Area, Policy};

/// Address spaces that exist at the same time.
const LIVE: usize = 6;

/// Every policy, with the size of the table pool's refills.
pub(crate) const KINDS: [(Policy, usize); 8] = [
    (Policy::Eager, 0),
    (Policy::Batch(64), 0),
    (Policy::Lazy, 0),
    (Policy::HoldRefs, 0),
    (Policy::Hinted, 0),
    (Policy::Targeted, 0),
    (Policy::Lazy, 32),
    (Policy::Targeted, 32),
];

/// An address space, and its contents: address, frame and stamp.
struct Process {
    space: AddressSpace,
    pages: Vec<(Vaddr, Pfn, u64)>,
}

/// Runs the same number of rounds under each policy.
pub(crate) fn run(mmu: &mut Mmu<Native>, random: &mut Random, rounds: u64) -> Result<(), Failed> {
    for (policy, pool) in KINDS {
        mmu.set_table_pool(pool);
        let free = mmu.free_frames();
        let before = mmu.stats();
        let result = run_round(mmu, random, rounds, policy);
        let done = mmu.stats() - before;
        println!("POLICY {policy} rounds={rounds} pool={pool} {done}");
        if pool != 0 && (done.clean_pins == 0 || done.refills == 0) {
            println!("policy {policy}: the table pool of {pool} was never used");
            return Err(Failed);
        }
        if let Err(wrong) = result {
            println!("policy {policy}: {wrong}");
            return Err(Failed);
        }
        if done.refused != 0 {
            println!("policy {policy}: {} pins were refused", done.refused);
            return Err(Failed);
        }
        if mmu.free_frames() != free {
            println!("policy {policy}: {free} frames were free, now {}", mmu.free_frames());
            return Err(Failed);
        }
    }
    mmu.set_table_pool(0);
    Ok(())
}

fn run_round(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    rounds: u64,
    policy: Policy,
) -> Result<(), Failure> {
    mmu.set_policy(policy)?;
    let mut processes = VecDeque::new();
    for _ in 0..rounds {
        buffers(mmu, random)?;
        if random.below(3) == 0 {
            copies(mmu, random)?;
        }
        // Half of the address spaces are built of frames that were mapped a moment ago, half of
        // frames that have been free for long.
        let cold = random.below(2) == 0;
        mmu.set_reuse(if cold { Reuse::Oldest } else { Reuse::Newest });
        let process = build(mmu, random)?;
        mmu.set_reuse(Reuse::Newest);
        processes.push_back(process);
        if processes.len() > LIVE {
            let which = random.index(processes.len());
            if let Some(process) = processes.remove(which) {
                end(mmu, random, process)?;
            }
        }
    }
    while let Some(process) = processes.pop_front() {
        end(mmu, random, process)?;
    }
    mmu.purge_vmap()?;
    Ok(())
}

fn check(mmu: &Mmu<Native>, va: Vaddr, wanted: u64) -> Result<(), Failure> {
    let found = mmu.load(va);
    if found == wanted { Ok(()) } else { Err(Content { va, wanted, found }.into()) }
}

/// Maps several buffers of several pages side by side, as a file system does, uses and frees them.
fn buffers(mmu: &mut Mmu<Native>, random: &mut Random) -> Result<(), Failure> {
    let mut open: Vec<(Area, Vec<Pfn>, u64)> = Vec::new();
    for _ in 0..1 + random.below(4) {
        let frames: Vec<Pfn> =
            (0..1 + random.below(12)).map(|_| mmu.alloc_frame()).collect::<Result<_, _>>()?;
        let stamp = random.next_u64();
        let area = mmu.vmap(&frames)?;
        for (page, &frame) in (0..).zip(&frames) {
            mmu.store(area.start().page(page), stamp ^ frame.0);
        }
        open.push((area, frames, stamp));
    }
    for (area, frames, stamp) in open {
        for (page, &frame) in (0..).zip(&frames) {
            check(mmu, area.start().page(page), stamp ^ frame.0)?;
            check(mmu, mmu.direct_map_va(frame), stamp ^ frame.0)?;
        }
        mmu.vunmap(area)?;
        for frame in frames {
            mmu.free_frame(frame);
        }
    }
    Ok(())
}

/// Maps single pages: in cached slots and through the atomic pair.
fn copies(mmu: &mut Mmu<Native>, random: &mut Random) -> Result<(), Failure> {
    for _ in 0..random.below(6) {
        let (from, to) = (mmu.alloc_frame()?, mmu.alloc_frame()?);
        let stamp = random.next_u64();
        let mapped = mmu.kmap(from)?;
        mmu.store(mapped.va(), stamp);
        mmu.store(Vaddr(mapped.va().0 + PAGE_SIZE - 8), !stamp);
        mmu.copy_frame(0, from, to)?;
        check(mmu, mapped.va(), stamp)?;
        mmu.kunmap(mapped);
        let mapped = mmu.kmap(to)?;
        check(mmu, mapped.va(), stamp)?;
        check(mmu, Vaddr(mapped.va().0 + PAGE_SIZE - 8), !stamp)?;
        mmu.kunmap(mapped);
        mmu.free_frame(from);
        mmu.free_frame(to);
    }
    Ok(())
}

/// Builds an address space out of frames that had mappings a moment ago, and runs on it.
fn build(mmu: &mut Mmu<Native>, random: &mut Random) -> Result<Process, Failure> {
    let mut tree = mmu.alloc_root()?;
    let mut pages: Vec<(Vaddr, Pfn, u64)> = Vec::new();
    for _ in 0..1 + random.below(6) {
        // Any address of the lower half.
        let va = Vaddr(random.next_u64() & 0x0000_7fff_ffff_f000);
        if pages.iter().any(|&(other, ..)| other == va) {
            continue;
        }
        let frame = mmu.alloc_frame()?;
        let stamp = random.next_u64();
        mmu.write(frame, 7, stamp);
        mmu.map_in(&mut tree, va, Leaf::kernel(frame))?;
        pages.push((va, frame, stamp));
    }
    let space = match mmu.pin(tree) {
        Ok(space) => space,
        Err((tree, error)) => {
            mmu.free_tables(tree);
            return Err(error.into());
        }
    };
    let mut process = Process { space, pages };
    run_on(mmu, &mut process, random)?;
    Ok(process)
}

/// Runs on an address space: checks what was written, and writes something else.
fn run_on(
    mmu: &mut Mmu<Native>,
    process: &mut Process,
    random: &mut Random,
) -> Result<(), Failure> {
    // SAFETY: the root has the kernel's entries, and nobody changed them.
    let before = unsafe { mmu.activate(process.space.root()) }?;
    let mut result = Ok(());
    for (va, _, stamp) in &mut process.pages {
        let word = Vaddr(va.0 + 7 * 8);
        result = result.and_then(|()| check(mmu, word, *stamp));
        *stamp = random.next_u64();
        mmu.store(word, *stamp);
    }
    // SAFETY: the kernel ran on it until now.
    unsafe { mmu.activate(before) }?;
    result
}

/// Runs once more on an address space, changes some entries, and frees it.
fn end(mmu: &mut Mmu<Native>, random: &mut Random, mut process: Process) -> Result<(), Failure> {
    run_on(mmu, &mut process, random)?;
    for &(va, frame, stamp) in &process.pages {
        let home = mmu.direct_map_va(frame);
        check(mmu, Vaddr(home.0 + 7 * 8), stamp)?;
        if random.below(3) == 0 {
            mmu.set_leaf(&process.space, va, None)?;
            mmu.set_leaf(&process.space, va, Some(Leaf::kernel(frame)))?;
        }
    }
    let tree = mmu.unpin(process.space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    for (_, frame, _) in process.pages {
        mmu.free_frame(frame);
    }
    Ok(())
}
