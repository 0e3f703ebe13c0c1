//! Page tables made of frames that were used for something else a moment ago.

use super::fixture::Owner;
use crate::failure::Failure;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::{Leaf, Reuse, UnpinnedTables};

/// Builds an address space out of recently freed frames, or of old ones, pins it and frees it.
pub(super) fn build_and_free(mmu: &mut Owner<'_>, random: &mut Random) -> Result<(), Failure> {
    let old = random.below(3) == 0;
    mmu.set_reuse(if old { Reuse::Oldest } else { Reuse::Newest });
    let mut tree = mmu.alloc_tables(1 + random.below(4) as u8)?;
    let leaf = Leaf { frame: tree.frames()[0], writable: false, user: false };
    mmu.map_in(&mut tree, Vaddr(random.next_u64() & 0x7fff_ffff_f000), leaf)?;
    mmu.set_reuse(Reuse::Newest);
    pin_and_free(mmu, tree)
}

/// Pins tables through the shim, which clears the mappings in the way, and frees them.
pub(super) fn pin_and_free(mmu: &mut Owner<'_>, tree: UnpinnedTables) -> Result<(), Failure> {
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}
