//! Objects that user mode sees in large aligned runs.
//!
//! Direct paging has no large pages. What comes nearest is a leaf table that is filled while nobody
//! uses it and then hung into an address space as a whole: one call maps 512 pages, and one takes
//! them away.

use crate::addr::{Pfn, Vaddr};
use crate::mmu::{AddressSpace, Error, Leaf, Mmu};
use crate::platform::Platform;
use alloc::vec::Vec;

/// Pages of a run, and what its address is a multiple of.
pub const RUN_PAGES: u64 = 512;

/// Pages for user mode.
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Object::free"]
pub struct Object {
    frames: Vec<Pfn>,
    /// Where each run is mapped.
    runs: Vec<Vaddr>,
}

impl Object {
    /// An object of so many pages, with nothing particular in them.
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

    /// Maps it into a space for user mode to read and write, from an address on that is a multiple
    /// of [`RUN_PAGES`] pages. The last run may be shorter.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] for an address in the middle of a run, one that the space's tables don't
    /// lead to (see [`Mmu::alloc_intermediate_tables`]), or one where something is; [`Error::NoFrame`], or the
    /// hypervisor's refusal. Nothing of it is mapped then.
    ///
    /// # Panics
    ///
    /// If it is mapped.
    pub fn map<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        space: &mut AddressSpace,
        start: Vaddr,
    ) -> Result<(), Error> {
        assert!(self.runs.is_empty(), "an object is mapped once");
        if !start.0.is_multiple_of(RUN_PAGES * 4096) {
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
        // What was mapped a moment ago can be unmapped.
        if result.is_err() && !self.runs.is_empty() {
            self.unmap(mmu, space)?;
        }
        result
    }

    /// Takes it out of the space that it was mapped into.
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

    /// Frees it. Frames that a device still writes to are free when it is through.
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
