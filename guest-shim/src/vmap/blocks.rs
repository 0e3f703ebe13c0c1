//! Blocks: ranges of addresses from which one CPU carves small areas, without a search each time.
//!
//! Addresses of a block are given out once, from its beginning to its end. They are free again all
//! at once: when the block is used up, every area in it is dead, *and* the mappings of those areas
//! were cleared. Kernels have forgotten the last condition: a block with nothing alive in it was
//! taken off the lists, and the search for stale mappings went through the lists. Here a dead area
//! is on the list of dead areas wherever it was carved from, and a block only counts pages.

use super::regions::Region;
use alloc::collections::BTreeMap;
#[cfg(feature = "raw")]
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Pages of a block.
pub const BLOCK_PAGES: u64 = 64;
/// Pages of the largest area that is carved from a block: four of them fit.
pub const SMALL_PAGES: u64 = BLOCK_PAGES / 4;

/// Who carves from a block: a CPU, for one part of the range.
pub(super) type Owner = (Region, usize);

/// One block.
#[derive(Debug)]
struct Block {
    owner: Owner,
    /// Pages given out, from the first on.
    used: u64,
    /// Pages of these whose areas are dead.
    dead: u64,
}

impl Block {
    /// Whether it has had areas, and all of them are dead.
    fn is_idle(&self) -> bool {
        self.used > 0 && self.used == self.dead
    }

    /// Whether it is used up and all its areas are dead.
    fn is_drained(&self) -> bool {
        self.dead == BLOCK_PAGES
    }

    /// Gives up the pages that were not given out.
    fn close(&mut self) {
        self.dead += BLOCK_PAGES - self.used;
        self.used = BLOCK_PAGES;
    }
}

/// A block that is used up and whose areas are all dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DrainedBlock {
    pub(super) first: u64,
    /// The CPU that carved from it.
    pub(super) cpu: usize,
}

/// The blocks of all CPUs that are not drained.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// By first page.
    blocks: BTreeMap<u64, Block>,
    /// The block that each CPU carves from.
    open: BTreeMap<Owner, u64>,
}

impl Blocks {
    /// Takes pages of the CPU's open block. Returns the first one.
    pub(super) fn take(&mut self, owner: Owner, pages: u64) -> Option<u64> {
        let &first = self.open.get(&owner)?;
        let block = self.blocks.get_mut(&first)?;
        let page = first + block.used;
        if block.used + pages > BLOCK_PAGES {
            return None;
        }
        block.used += pages;
        if block.used == BLOCK_PAGES {
            self.open.remove(&owner);
        }
        Some(page)
    }

    /// Makes a new block the CPU's open one. The rest of the old one is too small for the wanted
    /// area and is given up; the old one is returned if that drained it.
    pub(super) fn open(&mut self, owner: Owner, first: u64) -> Option<DrainedBlock> {
        let old = self.open.insert(owner, first);
        self.blocks.insert(first, Block { owner, used: 0, dead: 0 });
        let old = old?;
        self.blocks.get_mut(&old)?.close();
        self.remove_drained(old)
    }

    /// Notes that the area of these pages is dead. Returns the block if that drained it.
    ///
    /// # Panics
    ///
    /// If the pages were not carved from a block.
    pub(super) fn retire(&mut self, page: u64, pages: u64) -> Option<DrainedBlock> {
        let found = self.blocks.range_mut(..=page).next_back();
        let (&first, block) = found.expect("a page of a block");
        assert!(page + pages <= first + block.used, "page {page} is not of a block");
        block.dead += pages;
        self.remove_drained(first)
    }

    fn remove_drained(&mut self, first: u64) -> Option<DrainedBlock> {
        if !self.blocks.get(&first)?.is_drained() {
            return None;
        }
        let (_, cpu) = self.blocks.remove(&first)?.owner;
        Some(DrainedBlock { first, cpu })
    }

    /// Gives up the rest of blocks without a live area, for when addresses are scarce.
    pub(super) fn close_idle(&mut self) -> Vec<DrainedBlock> {
        let idle = self.blocks.iter_mut().filter(|(_, block)| block.is_idle());
        let firsts: Vec<u64> = idle.map(|(&first, block)| (block.close(), first).1).collect();
        self.open.retain(|_, first| !firsts.contains(first));
        firsts.into_iter().filter_map(|first| self.remove_drained(first)).collect()
    }
}

/// Drained blocks that were leaked, for tests of what finds their mappings.
#[cfg(feature = "raw")]
#[derive(Debug, Default)]
pub(super) struct LeakedBlocks {
    /// CPUs that leak their blocks.
    cpus: BTreeSet<usize>,
    /// First pages of the blocks.
    blocks: Vec<u64>,
}

#[cfg(feature = "raw")]
impl LeakedBlocks {
    pub(super) fn set_leaks(&mut self, cpu: usize, leaks: bool) {
        if leaks {
            self.cpus.insert(cpu);
        } else {
            self.cpus.remove(&cpu);
        }
    }

    pub(super) fn leaks(&self, cpu: usize) -> bool {
        self.cpus.contains(&cpu)
    }

    pub(super) fn push(&mut self, first: u64) {
        self.blocks.push(first);
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.blocks.last().copied()
    }

    pub(super) fn pop(&mut self) {
        self.blocks.pop();
    }

    /// Whether a page is in a leaked block.
    pub(super) fn contains(&self, page: u64) -> bool {
        self.blocks.iter().any(|&first| (first..first + BLOCK_PAGES).contains(&page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cpu: usize) -> Owner {
        (Region::default(), cpu)
    }

    #[test]
    fn a_block_is_drained_by_the_last_of_its_areas() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.take(of(0), 1), None, "no block yet");
        assert_eq!(blocks.open(of(0), 100), None);
        let areas: Vec<u64> = (0..4).map(|_| blocks.take(of(0), 16).expect("room")).collect();
        assert_eq!(areas, [100, 116, 132, 148]);
        assert_eq!(blocks.take(of(0), 1), None, "it is used up");
        for &area in &areas[1..] {
            assert_eq!(blocks.retire(area, 16), None);
        }
        assert_eq!(blocks.retire(100, 16), Some(DrainedBlock { first: 100, cpu: 0 }));
    }

    #[test]
    fn the_rest_of_a_block_that_is_too_small_is_given_up() {
        let mut blocks = Blocks::default();
        blocks.open(of(1), 0);
        blocks.take(of(1), 16);
        blocks.take(of(1), 40);
        assert_eq!(blocks.take(of(1), 9), None);
        assert_eq!(blocks.open(of(1), 200), None, "two areas are alive");
        assert_eq!(blocks.take(of(1), 9), Some(200));
        assert_eq!(blocks.retire(0, 16), None);
        assert_eq!(blocks.retire(16, 40), Some(DrainedBlock { first: 0, cpu: 1 }));
        assert_eq!(blocks.retire(200, 9), None, "there is room in it");
    }

    #[test]
    fn close_idle_returns_blocks_without_live_areas() {
        let mut blocks = Blocks::default();
        for (cpu, first) in [(0, 0), (1, 100), (2, 200)] {
            blocks.open(of(cpu), first);
        }
        blocks.take(of(0), 5);
        blocks.take(of(1), 5);
        blocks.retire(0, 5);
        assert_eq!(
            blocks.close_idle(),
            [DrainedBlock { first: 0, cpu: 0 }],
            "100 is used, 200 is new"
        );
        assert_eq!(blocks.take(of(0), 1), None);
        assert_eq!(blocks.take(of(1), 1), Some(105));
        assert_eq!(blocks.take(of(2), 1), Some(200));
    }

    #[test]
    #[should_panic(expected = "is not of a block")]
    fn retiring_pages_outside_a_block_panics() {
        let mut blocks = Blocks::default();
        blocks.open(of(0), 0);
        blocks.take(of(0), 5);
        blocks.retire(70, 2);
    }
}
