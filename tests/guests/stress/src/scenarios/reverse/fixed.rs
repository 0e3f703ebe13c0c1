//! The fixed form: the buffer is moved again and again, while every other vCPU writes to it all the
//! time, by each of its mappings in turn, and checks that nothing is lost. Who comes at the wrong
//! moment faults, and waits.

use super::super::fixture::{Fixture, Owner};
use super::buffer::{Buffer, differences};
use super::with_map;
use crate::violation::Wrong;
use crate::{Failed, words};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::catch::{self, Trap};
use pinfold_guest::entry::{moving, trap};
use pinfold_guest::fixtures::Random;
use pinfold_guest::println;
use pinfold_guest::vmap::{Policy, Region};

/// Pages of the buffer.
const PAGES: u64 = 4;
/// Where it is in the spaces of the vCPUs: the first two have one each, the others share theirs.
const PLACES: [Vaddr; 2] = [Vaddr(0x0000_1234_5678_9000), Vaddr(0x0000_5e00_001f_f000)];
/// Exception vector of page faults.
const PAGE_FAULT: u8 = 14;

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<(), Failed> {
    let region = fixture.region("moved_buf", 512)?;
    let (waited, writes) = (moving::waits(), AtomicU64::new(0));
    trap::set_handler(PAGE_FAULT, Some(moving::handle));
    let share = fixture.rounds().div_ceil(2);
    let result = [Policy::Batch(64), Policy::Targeted].into_iter().try_for_each(|policy| {
        with_map(fixture, policy, || moves(fixture, region, share, &writes))
    });
    trap::set_handler(PAGE_FAULT, None);
    let (writes, waits) = (writes.into_inner(), moving::waits() - waited);
    println!("MOVES scenario=4 writes={writes} waits={waits} vcpus={}", fixture.count());
    result
}

fn moves(
    fixture: &Fixture<'_>,
    region: Region,
    rounds: u64,
    writes: &AtomicU64,
) -> Result<(), Failed> {
    let mut made = None;
    fixture.once(|| {
        made = Some(Buffer::new(&mut fixture.mmu(), region, PAGES, &PLACES)?);
        Ok(())
    })?;
    let Some(mut buffer) = made else { return Err(Failed) };
    let users: Vec<User> = (0..fixture.count()).map(|cpu| User::of(&buffer, cpu)).collect();
    let over = AtomicBool::new(false);
    let shared = pinfold_guest::entry::lock::Mutex::new(&mut buffer);
    let result = fixture.all(fixture.count() as u64, |cpu, _, random| {
        let user = &users[cpu];
        // SAFETY: the root is of `alloc_root`, and nobody changed the kernel's part.
        let before = unsafe { fixture.mmu().activate(user.root) }?;
        let result = if cpu == 0 {
            let result = move_often(fixture, &mut shared.lock(), user, rounds, random);
            over.store(true, SeqCst);
            result
        } else {
            user.hammer(&over)
        };
        writes.fetch_add(user.count.load(SeqCst), SeqCst);
        // SAFETY: the kernel ran on it until now.
        unsafe { fixture.mmu().activate(before) }?;
        result
    });
    fixture.once(|| buffer.end(&mut fixture.mmu()))?;
    result
}

/// The mover's part: moves, and uses the buffer itself in between.
fn move_often(
    fixture: &Fixture<'_>,
    buffer: &mut Buffer,
    user: &User,
    rounds: u64,
    random: &mut Random,
) -> Result<(), Wrong> {
    for round in 0..rounds {
        user.write_all()?;
        let mut mmu = fixture.mmu();
        leave_dead(&mut mmu, buffer, random)?;
        let to: Result<Vec<Pfn>, _> = (0..PAGES).map(|_| mmu.alloc_frame()).collect();
        let old = core::mem::replace(&mut buffer.frames, to?);
        // A search of all tables for each frame: seldom for all of them.
        let page = random.index(PAGES as usize);
        let looked_at = if round % 16 == 0 { 0..old.len() } else { page..page + 1 };
        if !differences(&mut mmu, &old[looked_at.clone()])?.is_empty() {
            return Err(Wrong::Told("the reverse map is wrong before the move"));
        }
        let wanted = buffer.mappings();
        moving::during(|| {
            let mut gone = mmu.unmap_everywhere(&old)?;
            if gone.cleared() < wanted {
                return Err(Wrong::Told("not every mapping was found"));
            }
            user.faults()?;
            gone.copy(&buffer.frames);
            user.faults()?;
            match gone.map(&buffer.frames)? {
                mapped if mapped == wanted => Ok(()),
                _ => Err(Wrong::Told("not every mapping was made again")),
            }
        })?;
        // What the old frames have left, the next table finds.
        if !differences(&mut mmu, &buffer.frames[looked_at])?.is_empty() {
            return Err(Wrong::Told("the reverse map is wrong after the move"));
        }
        table(&mut mmu, &old, random)?;
        drop(mmu);
        user.check_all()?;
    }
    Ok(())
}

/// Leaves dead mappings of some of its pages: they are to be found as well.
fn leave_dead(mmu: &mut Owner<'_>, buffer: &Buffer, random: &mut Random) -> Result<(), Wrong> {
    let some = &buffer.frames[random.index(PAGES as usize)..];
    match random.below(4) {
        0 => {
            let area = mmu.vmap(some)?;
            mmu.vunmap(area)?;
        }
        1 => {
            let mapped = mmu.kmap(some[0])?;
            mmu.kunmap(mapped);
        }
        2 => {
            let other = mmu.alloc_frame()?;
            mmu.copy_frame(0, some[0], other)?;
            mmu.free_frame(other);
        }
        _ => {}
    }
    Ok(())
}

/// The old frames become page tables at once.
fn table(mmu: &mut Owner<'_>, old: &[Pfn], random: &mut Random) -> Result<(), Wrong> {
    for &frame in old {
        mmu.free_frame(frame);
    }
    let tree = mmu.alloc_tables(1 + random.below(4) as u8)?;
    if !old.contains(&tree.frames()[0]) {
        return Err(Wrong::Told("another frame than the one freed last was given out"));
    }
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}

/// A vCPU that uses the buffer: it has a word of its own in each page.
struct User {
    root: Pfn,
    word: u64,
    /// First addresses of its ways to the buffer; the last one leads to the first page only.
    ways: [Vaddr; 3],
    count: AtomicU64,
}

impl User {
    fn of(buffer: &Buffer, cpu: usize) -> User {
        let (place, space) = &buffer.spaces[cpu.min(buffer.spaces.len() - 1)];
        let ways = [*place, buffer.area.start(), buffer.slot.va()];
        User { root: space.root(), word: cpu as u64 * 9 * 8, ways, count: AtomicU64::new(0) }
    }

    /// Its word of a page, by one of the ways.
    fn address(&self, way: usize, page: u64) -> Vaddr {
        Vaddr(self.ways[way].page(page).0 + self.word)
    }

    fn ways_to(page: u64) -> usize {
        if page == 0 { 3 } else { 2 }
    }

    /// Writes its words once more, each by another way than the last time, and reads them by all.
    fn write_all(&self) -> Result<(), Wrong> {
        self.check_all()?;
        let count = self.count.fetch_add(1, SeqCst) + 1;
        for page in 0..PAGES {
            let way = (count + page) as usize % User::ways_to(page);
            words::store(self.address(way, page), count);
        }
        self.check_all()
    }

    /// Nothing that it wrote is lost, by whichever way.
    fn check_all(&self) -> Result<(), Wrong> {
        let count = self.count.load(SeqCst);
        for page in 0..PAGES {
            for way in 0..User::ways_to(page) {
                words::check(self.address(way, page), count)?;
            }
        }
        Ok(())
    }

    fn hammer(&self, over: &AtomicBool) -> Result<(), Wrong> {
        while !over.load(SeqCst) {
            self.write_all()?;
        }
        Ok(())
    }

    /// By none of the ways can it be touched now.
    fn faults(&self) -> Result<(), Wrong> {
        for page in 0..PAGES {
            for way in 0..User::ways_to(page) {
                // SAFETY: reading a word of the buffer is harmless.
                match unsafe { catch::read(self.address(way, page).0) } {
                    Err(Trap { vector: PAGE_FAULT, .. }) => {}
                    _ => return Err(Wrong::Told("what is moved can be touched")),
                }
            }
        }
        Ok(())
    }
}
