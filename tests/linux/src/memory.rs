//! Memory: mapping, protecting, moving and unmapping, from many threads of one address space.

use crate::os::{self, Access, Mapping, Random};
use crate::{Outcome, must};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let count = (2 * os::processors()).max(4) as u64;
    let mappings = churn(1, rounds * 40)?;
    let crowd: Vec<_> =
        (0..count).map(|n| thread::spawn(move || churn(n + 2, rounds * 10))).collect();
    let mut shared = 0;
    for one in crowd {
        shared += one.join().map_err(|_| "a thread panicked".to_owned())??;
    }
    let renewed = stale(rounds * 100)?;
    let pages = large(rounds)?;
    Ok(format!("mappings={mappings} shared={shared} renewed={renewed} pages={pages}"))
}

/// What page `page` of a mapping holds.
fn mark(seed: u64, page: usize) -> u64 {
    (seed << 32) ^ page as u64 ^ 0x5eed_0000_0000_0000
}

/// Maps, fills, protects, moves and unmaps, and looks at every step whether it is so.
fn churn(seed: u64, mappings: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    for _ in 0..mappings {
        let pages = 1 + random.below(64) as usize;
        let mut mapping = Mapping::new(pages, Access::ReadWrite)?;
        must!((0..pages).all(|page| mapping.read(page) == 0), "a new page is not zero");
        (0..pages).for_each(|page| mapping.write(page, mark(seed, page)));

        let at = random.below(pages as u64) as usize;
        mapping.protect(at, 1, Access::Read)?;
        must!(mapping.read(at) == mark(seed, at), "a page changed as it was protected");
        must!(
            mapping.kernel_writes(at) == Err(libc::EFAULT),
            "the kernel wrote to a page that may only be read"
        );
        mapping.protect(at, 1, Access::ReadWrite)?;
        must!(mapping.kernel_writes(at) == Ok(()), "a page cannot be written though it may be");
        mapping.write(at, mark(seed, at));

        let more = pages + random.below(32) as usize;
        mapping.resize(more)?;
        must!(
            (0..more)
                .all(|page| mapping.read(page) == if page < pages { mark(seed, page) } else { 0 }),
            "pages changed as their mapping was moved"
        );
    }
    Ok(mappings)
}

/// One thread puts new pages in the place of old ones while another looks: from the moment the
/// new ones are there, nobody may still see the old ones. A translation that was not flushed on
/// the other processor would.
fn stale(rounds: u64) -> Result<u64, String> {
    const PAGES: usize = 8;
    let window = Mapping::new(PAGES, Access::ReadWrite)?;
    let processors = os::processors();
    // Odd: the pages of this turn are there. Even: the looker has seen them.
    let turn = AtomicU64::new(0);
    let shared = Shared(&window);
    let looked = thread::scope(|scope| {
        let (shared, turn) = (&shared, &turn);
        let looker = scope.spawn(move || {
            os::go_to(processors - 1);
            let mut wrong = 0;
            for round in 0..rounds {
                wait_for(turn, 2 * round + 1);
                let window = shared.0;
                wrong += (0..PAGES).filter(|p| window.read(*p) != mark(round, *p)).count();
                turn.store(2 * round + 2, Ordering::Release);
            }
            wrong
        });
        os::go_to(0);
        for round in 0..rounds {
            window.renew()?;
            (0..PAGES).for_each(|page| window.write(page, mark(round, page)));
            turn.store(2 * round + 1, Ordering::Release);
            wait_for(turn, 2 * round + 2);
        }
        os::go_anywhere(processors);
        looker.join().map_err(|_| "a thread panicked".to_owned())
    })?;
    must!(looked == 0, "{looked} pages were seen after they had been replaced");
    Ok(rounds)
}

/// A mapping that two threads use in turns.
struct Shared<'a>(&'a Mapping);

// SAFETY: all accesses are volatile words through the kernel's own pages, and `turn` orders them.
unsafe impl Sync for Shared<'_> {}

fn wait_for(turn: &AtomicU64, wanted: u64) {
    let mut spins = 0u32;
    while turn.load(Ordering::Acquire) < wanted {
        spins += 1;
        // With one processor, spinning on would only waste the other's time.
        if spins.is_multiple_of(64) {
            thread::yield_now();
        }
    }
}

/// Many page tables come and go: a sparse mapping of a gigabyte, a page in each table.
fn large(rounds: u64) -> Result<u64, String> {
    const TABLE: usize = 512;
    const TABLES: usize = 512;
    let mut touched = 0;
    for round in 0..rounds {
        let mapping = Mapping::sparse(TABLE * TABLES)?;
        let mut random = Random::new(round + 1);
        let pages: Vec<usize> =
            (0..TABLES).map(|table| table * TABLE + random.below(TABLE as u64) as usize).collect();
        pages.iter().for_each(|page| mapping.write(*page, mark(round, *page)));
        must!(
            pages.iter().all(|page| mapping.read(*page) == mark(round, *page)),
            "a page of a sparse mapping lost what was written"
        );
        touched += pages.len() as u64;
    }
    Ok(touched)
}
