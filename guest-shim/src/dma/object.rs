//! Memory of user mode that is mapped a whole leaf table at a time.
//!
//! Direct paging has no large pages. The nearest thing is a leaf table that is filled before it is
//! in use and then linked into an address space: one call maps 512 pages, and one unmaps them.

use crate::addr::{PAGE_SIZE, Pfn, TABLE_ENTRIES, Vaddr};
use crate::mmu::{AddressSpace, Error, Leaf, Mmu};
use crate::platform::Platform;
use alloc::vec::Vec;

/// Pages of a run, which a leaf table maps. Addresses of runs are a multiple of that.
pub const RUN_PAGES: u64 = TABLE_ENTRIES as u64;

/// An object: pages for user mode.
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Object::free"]
pub struct Object {
    frames: Vec<Pfn>,
    /// Where each run is mapped.
    runs: Vec<Vaddr>,
}

impl Object {
    /// Allocates an object of so many pages, with undefined contents.
    ///
    /// # Errors
    ///
    /// [`Error::NoFrame`].
    pub fn new<P: Platform>(mmu: &mut Mmu<P>, pages: u64) -> Result<Object, Error> {
        let mut object = Object { frames: Vec::with_capacity(pages as usize), runs: Vec::new() };
        for _ in 0..pages {
            match mmu.alloc_frame() {
                Ok(frame) => object.frames.push(frame),
                Err(error) => {
                    object.free(mmu);
                    return Err(error);
                }
            }
        }
        Ok(object)
    }

    /// Its frames.
    pub fn frames(&self) -> &[Pfn] {
        &self.frames
    }

    /// Maps it in an address space for user mode to read and write, at an address that is a
    /// multiple of [`RUN_PAGES`] pages. The last run may be shorter.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] for an address that is not aligned, has no table for its leaf tables (see
    /// [`Mmu::alloc_intermediate_tables`]) or is in use; [`Error::NoFrame`]; or the hypervisor's
    /// refusal. Nothing of the object is mapped then.
    ///
    /// # Panics
    ///
    /// If it is mapped already.
    pub fn map<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        space: &mut AddressSpace,
        start: Vaddr,
    ) -> Result<(), Error> {
        assert!(self.runs.is_empty(), "an object is mapped once");
        if !start.0.is_multiple_of(RUN_PAGES * PAGE_SIZE) {
            return Err(Error::NoRoom);
        }
        let mut result = Ok(());
        for (number, frames) in (0..).zip(self.frames.chunks(RUN_PAGES as usize)) {
            let va = start.page(number * RUN_PAGES);
            if let Err(error) = map_run(mmu, space, va, frames) {
                result = Err(error);
                break;
            }
            self.runs.push(va);
        }
        // What was just mapped can be unmapped.
        if result.is_err() && !self.runs.is_empty() {
            self.unmap(mmu, space)?;
        }
        result
    }

    /// Unmaps it from the address space that it was mapped in.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal; what was not unmapped stays mapped.
    pub fn unmap<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        space: &mut AddressSpace,
    ) -> Result<(), Error> {
        while let Some(va) = self.runs.pop() {
            match mmu.unlink_leaf_table(space, va) {
                Ok(tree) => mmu.free_tables(tree),
                Err(error) => {
                    self.runs.push(va);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Frees it. Frames that a device still uses become free when the transfer ends.
    ///
    /// # Panics
    ///
    /// If it is mapped.
    pub fn free<P: Platform>(self, mmu: &mut Mmu<P>) {
        assert!(self.runs.is_empty(), "a mapped object is in use");
        for frame in self.frames {
            mmu.free_frame(frame);
        }
    }
}

fn map_run<P: Platform>(
    mmu: &mut Mmu<P>,
    space: &mut AddressSpace,
    va: Vaddr,
    frames: &[Pfn],
) -> Result<(), Error> {
    let mut run = mmu.alloc_tables(1)?;
    for (page, &frame) in (0..).zip(frames) {
        let leaf = Leaf { frame, writable: true, user: true };
        if let Err(error) = mmu.map_in(&mut run, va.page(page), leaf) {
            mmu.free_tables(run);
            return Err(error);
        }
    }
    mmu.link_subtree_at(space, va, run).map_err(|(run, error)| {
        mmu.free_tables(run);
        error
    })
}
