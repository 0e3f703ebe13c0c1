//! A buffer that is mapped in many places.

use super::super::fixture::Owner;
use crate::failure::Failure;
use alloc::vec::Vec;
use pinfold_abi::errno::Errno;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::kmap::Mapped;
use pinfold_guest::mmu::{AddressSpace, Error, Leaf};
use pinfold_guest::println;
use pinfold_guest::vmap::{Area, Region};

/// The buffer and its mappings.
pub(super) struct Buffer {
    pub(super) frames: Vec<Pfn>,
    /// The kernel's area: all pages.
    pub(super) area: Area,
    /// The kernel's kmap slot: the first page.
    pub(super) slot: Mapped,
    /// Address spaces, each with the address at which it maps all pages for user mode.
    pub(super) spaces: Vec<(Vaddr, AddressSpace)>,
}

impl Buffer {
    /// Makes a buffer of zeroed pages, mapped into one new address space for each of `addresses`.
    pub(super) fn new(
        mmu: &mut Owner<'_>,
        region: Region,
        pages: u64,
        addresses: &[Vaddr],
    ) -> Result<Buffer, Failure> {
        let frames: Result<Vec<Pfn>, Error> = (0..pages).map(|_| mmu.alloc_frame()).collect();
        let frames = frames?;
        for &frame in &frames {
            (0..512).for_each(|word| mmu.write(frame, word, 0));
        }
        let mut spaces = Vec::new();
        for &va in addresses {
            let mut tree = mmu.alloc_root()?;
            for (page, &frame) in (0..).zip(&frames) {
                mmu.map_in(&mut tree, va.page(page), Leaf { frame, writable: true, user: true })?;
            }
            spaces.push((va, mmu.pin(tree).map_err(|(_, error)| error)?));
        }
        let area = mmu.vmap_in(region, &frames)?;
        let slot = mmu.kmap(frames[0])?;
        Ok(Buffer { frames, area, slot, spaces })
    }

    /// Returns the number of mappings of all its pages.
    pub(super) fn mappings(&self) -> u64 {
        self.area.pages() * (1 + self.spaces.len() as u64) + 1
    }

    /// Frees it. No vCPU may run on its address spaces.
    pub(super) fn end(self, mmu: &mut Owner<'_>) -> Result<(), Failure> {
        for (_, space) in self.spaces {
            let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
            mmu.free_tables(tree);
        }
        mmu.kunmap(self.slot);
        mmu.vunmap(self.area)?;
        for frame in self.frames {
            mmu.free_frame(frame);
        }
        Ok(())
    }
}

/// Does something while this vCPU runs on an address space.
pub(super) fn run_on<T>(
    mmu: &mut Owner<'_>,
    space: &AddressSpace,
    work: impl FnOnce(&mut Owner<'_>) -> T,
) -> Result<T, Failure> {
    // SAFETY: the root is of `alloc_root`, and nobody changed the kernel's entries.
    let before = unsafe { mmu.activate(space.root()) }?;
    let result = work(mmu);
    // SAFETY: the kernel ran on it until now.
    unsafe { mmu.activate(before) }?;
    Ok(result)
}

/// Has the hypervisor compare the reverse map of frames with all page tables, and prints the
/// differences. Returns their addresses; none where the hypervisor can't be asked.
pub(super) fn differences(mmu: &mut Owner<'_>, frames: &[Pfn]) -> Result<Vec<Vaddr>, Failure> {
    use pinfold_guest::rmap::Difference::{Missing, Surplus};
    let found = match mmu.check_rmap(frames) {
        Ok(found) => found,
        Err(errno) if errno == Errno::ENOSYS => Vec::new(),
        Err(errno) => return Err(Error::Refused(errno).into()),
    };
    let address = |difference| {
        println!("{difference}");
        match difference {
            Missing { va, .. } => va.unwrap_or_default(),
            Surplus { va, .. } => va,
        }
    };
    Ok(found.into_iter().map(address).collect())
}
