//! Transfers of devices, from beginning to end.

use crate::addr::{Pfn, Vaddr};
use crate::mmu::{AddressSpace, Error, Mmu};
use crate::platform::Platform;
use crate::vmap::{Area, Region};
use alloc::vec::Vec;

/// Something that writes to memory by itself.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub(super) name: &'static str,
    pub(super) region: Region,
}

/// A transfer that is going on: the device may write to its pages. It ends with [`Device::end`].
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Device::end"]
pub struct Io {
    pub(super) holder: &'static str,
    pub(super) frames: Vec<Pfn>,
    pub(super) area: Area,
    /// Whether it holds its frames.
    pub(super) holds: bool,
}

impl Io {
    /// Where the device finds the pages, side by side.
    pub fn start(&self) -> Vaddr {
        self.area.start()
    }

    /// The pages' frames.
    pub fn frames(&self) -> &[Pfn] {
        &self.frames
    }

    /// Whose it is.
    pub fn holder(&self) -> &'static str {
        self.holder
    }
}

impl Device {
    /// A device of this name, with a region of that name, of at least so many pages.
    ///
    /// # Errors
    ///
    /// As [`open_region`](Mmu::open_region).
    pub fn new<P: Platform>(
        mmu: &mut Mmu<P>,
        name: &'static str,
        pages: u64,
    ) -> Result<Device, Error> {
        Ok(Device { name, region: mmu.open_region(name, pages)? })
    }

    /// Begins a transfer to data frames.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    ///
    /// # Panics
    ///
    /// If a frame is none that was given out.
    pub fn begin<P: Platform>(&self, mmu: &mut Mmu<P>, frames: &[Pfn]) -> Result<Io, Error> {
        mmu.pin_frames(frames, self.name);
        match mmu.vmap_in(self.region, frames) {
            Ok(area) => Ok(Io { holder: self.name, frames: frames.to_vec(), area, holds: true }),
            Err(error) => {
                mmu.unpin_frames(frames, self.name);
                Err(error)
            }
        }
    }

    /// Begins a transfer to pages of a space's lower half that may be written to.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] for the first address that is not such a page, or as
    /// [`vmap`](Mmu::vmap).
    pub fn get_user_pages<P: Platform>(
        &self,
        mmu: &mut Mmu<P>,
        space: &AddressSpace,
        start: Vaddr,
        pages: u64,
    ) -> Result<Io, Error> {
        let page = |page| {
            let va = start.page(page);
            mmu.writable_user_frame(space, va).ok_or(Error::NotMapped(va))
        };
        let frames: Vec<Pfn> = (0..pages).map(page).collect::<Result<_, _>>()?;
        self.begin(mmu, &frames)
    }

    /// Ends a transfer: the device writes no more. Frames that were freed meanwhile are free now.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of clearing dead mappings; the transfer is over all the same.
    pub fn end<P: Platform>(&self, mmu: &mut Mmu<P>, io: Io) -> Result<(), Error> {
        let Io { holder, frames, area, holds } = io;
        // The mapping first: it is dead before its frames are anybody's.
        let unmapped = mmu.vunmap(area);
        if holds {
            mmu.unpin_frames(&frames, holder);
        }
        unmapped
    }
}
