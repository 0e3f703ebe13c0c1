//! Page tables, out of frames that were something else a moment ago.

use super::fixture::Owner;
use crate::violation::Wrong;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::{Leaf, Reuse, UnpinnedTables};

/// Makes an address space out of pages that were freed a moment ago, or of old ones, pins it and
/// takes it apart.
pub(super) fn make(mmu: &mut Owner<'_>, random: &mut Random) -> Result<(), Wrong> {
    let old = random.below(3) == 0;
    mmu.set_reuse(if old { Reuse::Oldest } else { Reuse::Newest });
    let mut tree = mmu.alloc_tables(1 + random.below(4) as u8)?;
    let leaf = Leaf { frame: tree.frames()[0], writable: false, user: false };
    mmu.map_in(&mut tree, Vaddr(random.next_u64() & 0x7fff_ffff_f000), leaf)?;
    mmu.set_reuse(Reuse::Newest);
    healed(mmu, tree)
}

/// Pins a tree through the shim, which deals with what is in the way, and takes it apart.
pub(super) fn healed(mmu: &mut Owner<'_>, tree: UnpinnedTables) -> Result<(), Wrong> {
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}
