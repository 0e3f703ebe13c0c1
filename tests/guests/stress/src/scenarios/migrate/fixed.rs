//! The fixed form: the buffer is moved again and again while all other vCPUs write to it, through
//! each of its mappings in turn, and check that nothing is lost. An access during a move faults,
//! and waits for its end.

use super::super::fixture::{Fixture, Owner};
use super::buffer::{Buffer, differences};
use super::with_map;
use crate::failure::Failed;
use crate::failure::Failure;
use crate::words;
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
/// Its addresses in the vCPUs' address spaces: the first vCPU has the first space, the others share
/// the second.
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
        // SAFETY: the root is of `alloc_root`, and nobody changed the kernel's entries.
        let before = unsafe { fixture.mmu().activate(user.root) }?;
        let result = if cpu == 0 {
            let result = move_often(fixture, &mut shared.lock(), user, rounds, random);
            over.store(true, SeqCst);
            result
        } else {
            user.write_until(&over)
        };
        writes.fetch_add(user.count.load(SeqCst), SeqCst);
        // SAFETY: the kernel ran on it until now.
        unsafe { fixture.mmu().activate(before) }?;
        result
    });
    fixture.once(|| buffer.end(&mut fixture.mmu()))?;
    result
}

/// Moves the buffer, and uses it in between.
fn move_often(
    fixture: &Fixture<'_>,
    buffer: &mut Buffer,
    user: &User,
    rounds: u64,
    random: &mut Random,
) -> Result<(), Failure> {
    for round in 0..rounds {
        user.write_all()?;
        let mut mmu = fixture.mmu();
        leave_dead(&mut mmu, buffer, random)?;
        let to: Result<Vec<Pfn>, _> = (0..PAGES).map(|_| mmu.alloc_frame()).collect();
        let old = core::mem::replace(&mut buffer.frames, to?);
        // The check searches all tables for each frame: only seldom for all frames.
        let page = random.index(PAGES as usize);
        let looked_at = if round % 16 == 0 { 0..old.len() } else { page..page + 1 };
        if !differences(&mut mmu, &old[looked_at.clone()])?.is_empty() {
            return Err(Failure::Other("the reverse map is wrong before the move"));
        }
        let wanted = buffer.mappings();
        moving::during(|| {
            let mut gone = mmu.unmap_everywhere(&old)?;
            if gone.cleared() < wanted {
                return Err(Failure::Other("a mapping was not found"));
            }
            user.faults()?;
            gone.copy(&buffer.frames);
            user.faults()?;
            match gone.map(&buffer.frames)? {
                mapped if mapped == wanted => Ok(()),
                _ => Err(Failure::Other("a mapping was not made again")),
            }
        })?;
        // Mappings that the old frames still have are found by the next pin.
        if !differences(&mut mmu, &buffer.frames[looked_at])?.is_empty() {
            return Err(Failure::Other("the reverse map is wrong after the move"));
        }
        table(&mut mmu, &old, random)?;
        drop(mmu);
        user.check_all()?;
    }
    Ok(())
}

/// Leaves dead mappings of some of its pages: moving must find these too.
fn leave_dead(mmu: &mut Owner<'_>, buffer: &Buffer, random: &mut Random) -> Result<(), Failure> {
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

/// Makes a page table of the old frames at once.
fn table(mmu: &mut Owner<'_>, old: &[Pfn], random: &mut Random) -> Result<(), Failure> {
    for &frame in old {
        mmu.free_frame(frame);
    }
    let tree = mmu.alloc_tables(1 + random.below(4) as u8)?;
    if !old.contains(&tree.frames()[0]) {
        return Err(Failure::Other("the frame that was freed last was not allocated first"));
    }
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}

/// The use of the buffer by one vCPU, which has a word of its own in each page.
struct User {
    root: Pfn,
    word: u64,
    /// First addresses of its mappings; the last one maps the first page only.
    mappings: [Vaddr; 3],
    count: AtomicU64,
}

impl User {
    fn of(buffer: &Buffer, cpu: usize) -> User {
        let (place, space) = &buffer.spaces[cpu.min(buffer.spaces.len() - 1)];
        let mappings = [*place, buffer.area.start(), buffer.slot.va()];
        User { root: space.root(), word: cpu as u64 * 9 * 8, mappings, count: AtomicU64::new(0) }
    }

    /// Returns the address of its word of a page in one of the mappings.
    fn address(&self, mapping: usize, page: u64) -> Vaddr {
        Vaddr(self.mappings[mapping].page(page).0 + self.word)
    }

    fn mappings_of(page: u64) -> usize {
        if page == 0 { 3 } else { 2 }
    }

    /// Writes all its words, each through another mapping than the last time, and reads them through
    /// all mappings.
    fn write_all(&self) -> Result<(), Failure> {
        self.check_all()?;
        let count = self.count.fetch_add(1, SeqCst) + 1;
        for page in 0..PAGES {
            let mapping = (count + page) as usize % User::mappings_of(page);
            words::store(self.address(mapping, page), count);
        }
        self.check_all()
    }

    /// Checks through all mappings that nothing it wrote is lost.
    fn check_all(&self) -> Result<(), Failure> {
        let count = self.count.load(SeqCst);
        for page in 0..PAGES {
            for mapping in 0..User::mappings_of(page) {
                words::check(self.address(mapping, page), count)?;
            }
        }
        Ok(())
    }

    fn write_until(&self, over: &AtomicBool) -> Result<(), Failure> {
        while !over.load(SeqCst) {
            self.write_all()?;
        }
        Ok(())
    }

    /// Checks that an access through any mapping faults.
    fn faults(&self) -> Result<(), Failure> {
        for page in 0..PAGES {
            for mapping in 0..User::mappings_of(page) {
                // SAFETY: reading a word of the buffer has no effect.
                match unsafe { catch::read(self.address(mapping, page).0) } {
                    Err(Trap { vector: PAGE_FAULT, .. }) => {}
                    _ => return Err(Failure::Other("the buffer can be accessed during the move")),
                }
            }
        }
        Ok(())
    }
}
