//! (feature `raw`) Losing the blocks of a CPU as kernels did: a block that was used up and then
//! freed is on no list, and nobody finds the mappings that its last areas left.

use super::blocks::BLOCK_PAGES;
use crate::addr::{PAGE_SIZE, Vaddr};
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// What was lost.
#[derive(Debug, Default)]
pub(super) struct LeakedBlocks {
    /// CPUs that lose their blocks.
    cpus: BTreeSet<usize>,
    /// First pages of the blocks.
    blocks: Vec<u64>,
}

impl LeakedBlocks {
    pub(super) fn leaks(&self, cpu: usize) -> bool {
        self.cpus.contains(&cpu)
    }
}

impl<P: Platform> Mmu<P> {
    /// Whether this CPU loses the blocks that come to their end.
    pub fn leak_blocks(&mut self, cpu: usize, leak: bool) {
        if leak {
            self.vmap.leaked.cpus.insert(cpu);
        } else {
            self.vmap.leaked.cpus.remove(&cpu);
        }
    }

    /// Whether an address is in a block that was lost.
    pub fn is_leaked(&self, va: Vaddr) -> bool {
        let start = |first| self.vmap.window.va(first).0;
        let within = |&first: &u64| va.0.wrapping_sub(start(first)) / PAGE_SIZE < BLOCK_PAGES;
        self.vmap.leaked.blocks.iter().any(within)
    }

    /// Clears what lost blocks left, and finds their addresses again; how many mappings there were.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal.
    pub fn reclaim_leaked_blocks(&mut self) -> Result<u64, Error> {
        let mut cleared = 0;
        while let Some(&first) = self.vmap.leaked.blocks.last() {
            cleared += self.clear_pages((first..first + BLOCK_PAGES).collect())?;
            self.vmap.leaked.blocks.pop();
            self.vmap.free.give(first, BLOCK_PAGES + 1);
        }
        Ok(cleared)
    }

    /// Forgets a block, and whatever is dead in it.
    pub(super) fn leak_block(&mut self, first: u64) -> Result<(), Error> {
        let block = first..first + BLOCK_PAGES;
        self.vmap.dead.retain(|dead| !block.contains(&dead.first));
        self.vmap.dead_pages = self.vmap.dead.iter().map(|dead| dead.pages).sum();
        for page in block {
            if let Some(frame) = self.vmap.forget(self.vmap.window.va(page)) {
                self.frames.release(frame);
            }
        }
        self.vmap.leaked.blocks.push(first);
        Ok(())
    }
}
