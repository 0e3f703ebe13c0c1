//! (feature `raw`) Leaks the blocks of a CPU, a mistake that kernels made: a block that was used up
//! and then freed is on no list, and the mappings that its last areas left are not found.

use super::blocks::BLOCK_PAGES;
use super::state::Vmap;
use crate::addr::Vaddr;
use crate::entries::Entries;
use crate::error::Error;

impl Vmap {
    /// Says whether this CPU leaks the blocks that drain.
    pub(crate) fn set_leaks(&mut self, cpu: usize, leaks: bool) {
        self.leaked.set_leaks(cpu, leaks);
    }

    /// Whether an address is in a leaked block.
    pub(crate) fn is_leaked(&self, va: Vaddr) -> bool {
        self.window.page(va).is_some_and(|page| self.leaked.contains(page))
    }

    /// Forgets a block and whatever is dead in it; the mappings stay.
    pub(super) fn leak_block(&mut self, entries: &mut impl Entries, first: u64) {
        let block = first..first + BLOCK_PAGES;
        self.dead.retain(|dead| !block.contains(&dead.first));
        self.dead_pages = self.dead.iter().map(|dead| dead.pages).sum();
        for page in block {
            if let Some(frame) = self.forget(self.window.va(page)) {
                entries.free_deferred(frame);
            }
        }
        self.leaked.push(first);
    }

    /// Clears what leaked blocks left, and frees their addresses. Returns how many mappings there
    /// were.
    pub(crate) fn reclaim_leaked_blocks(
        &mut self,
        entries: &mut impl Entries,
    ) -> Result<u64, Error> {
        let mut cleared = 0;
        while let Some(first) = self.leaked.last() {
            cleared += self.clear_pages(entries, (first..first + BLOCK_PAGES).collect())?;
            self.leaked.pop();
            self.free.give(first, BLOCK_PAGES + 1);
        }
        Ok(cleared)
    }
}
