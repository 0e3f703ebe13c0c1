//! Memory: mapping, protecting, moving and unmapping, from many threads of one address space.

use crate::os::{self, Access, Mapping};
use crate::random::Random;
use crate::{Outcome, ensure};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let count = (2 * os::processors()).max(4) as u64;
    let mappings = churn(1, rounds * 40)?;
    let threads: Vec<_> =
        (0..count).map(|n| thread::spawn(move || churn(n + 2, rounds * 10))).collect();
    let mut shared = 0;
    for thread in threads {
        shared += thread.join().map_err(|_| "a thread panicked".to_owned())??;
    }
    let replaced = replace_under_reader(rounds * 100)?;
    let pages = fill_sparse_mappings(rounds)?;
    Ok(format!("mappings={mappings} shared={shared} replaced={replaced} pages={pages}"))
}

/// The word that page `page` of a mapping holds.
fn mark(seed: u64, page: usize) -> u64 {
    (seed << 32) ^ page as u64 ^ 0x5eed_0000_0000_0000
}

/// Maps, fills, protects, moves and unmaps, and checks the contents after each step.
fn churn(seed: u64, mappings: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    for _ in 0..mappings {
        let pages = 1 + random.below(64);
        let mut mapping = Mapping::new(pages, Access::ReadWrite)?;
        ensure!((0..pages).all(|page| mapping.read(page) == 0), "a new page is not zero");
        (0..pages).for_each(|page| mapping.write(page, mark(seed, page)));

        let at = random.below(pages);
        mapping.protect(at, 1, Access::Read)?;
        ensure!(mapping.read(at) == mark(seed, at), "a page changed as it was protected");
        ensure!(
            mapping.write_by_kernel(at) == Err(libc::EFAULT),
            "the kernel wrote to a read-only page"
        );
        mapping.protect(at, 1, Access::ReadWrite)?;
        ensure!(mapping.write_by_kernel(at) == Ok(()), "the kernel cannot write a writable page");
        mapping.write(at, mark(seed, at));

        let more = pages + random.below(32);
        mapping.resize(more)?;
        ensure!(
            (0..more)
                .all(|page| mapping.read(page) == if page < pages { mark(seed, page) } else { 0 }),
            "pages changed as their mapping was moved"
        );
    }
    Ok(mappings)
}

/// One thread replaces the pages of a mapping while another reads it: once they are replaced, no
/// thread may see the old pages. A translation that was not flushed on the other processor would
/// show them.
fn replace_under_reader(rounds: u64) -> Result<u64, String> {
    const PAGES: usize = 8;
    let window = Mapping::new(PAGES, Access::ReadWrite)?;
    let processors = os::processors();
    // Odd: the pages of this round have been written. Even: the reader has read them.
    let turn = AtomicU64::new(0);
    let shared = Shared(&window);
    let stale = thread::scope(|scope| {
        let (shared, turn) = (&shared, &turn);
        let reader = scope.spawn(move || {
            os::move_to(processors - 1);
            let mut wrong = 0;
            for round in 0..rounds {
                wait_for(turn, 2 * round + 1);
                let window = shared.0;
                wrong += (0..PAGES).filter(|p| window.read(*p) != mark(round, *p)).count();
                turn.store(2 * round + 2, Ordering::Release);
            }
            wrong
        });
        os::move_to(0);
        for round in 0..rounds {
            window.replace_pages()?;
            (0..PAGES).for_each(|page| window.write(page, mark(round, page)));
            turn.store(2 * round + 1, Ordering::Release);
            wait_for(turn, 2 * round + 2);
        }
        os::run_anywhere(processors);
        reader.join().map_err(|_| "a thread panicked".to_owned())
    })?;
    ensure!(stale == 0, "{stale} pages were read after they had been replaced");
    Ok(rounds)
}

/// A mapping that two threads use in turn.
struct Shared<'a>(&'a Mapping);

// SAFETY: all accesses are volatile ones through raw pointers, and `turn` orders them.
unsafe impl Sync for Shared<'_> {}

fn wait_for(turn: &AtomicU64, wanted: u64) {
    let mut spins = 0u32;
    while turn.load(Ordering::Acquire) < wanted {
        spins += 1;
        // With one processor, the other thread can't go on while this one spins.
        if spins.is_multiple_of(64) {
            thread::yield_now();
        }
    }
}

/// Has many page tables made and freed: sparse mappings of a gigabyte, with one page in each
/// table. Returns the number of pages written.
fn fill_sparse_mappings(rounds: u64) -> Result<u64, String> {
    /// Entries of a table.
    const ENTRIES: usize = 512;
    const TABLES: usize = 512;
    let mut touched = 0;
    for round in 0..rounds {
        let mapping = Mapping::sparse(ENTRIES * TABLES)?;
        let mut random = Random::new(round + 1);
        let pages: Vec<usize> =
            (0..TABLES).map(|table| table * ENTRIES + random.below(ENTRIES)).collect();
        pages.iter().for_each(|page| mapping.write(*page, mark(round, *page)));
        ensure!(
            pages.iter().all(|page| mapping.read(*page) == mark(round, *page)),
            "a page of a sparse mapping lost what was written"
        );
        touched += pages.len() as u64;
    }
    Ok(touched)
}
