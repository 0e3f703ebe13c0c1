//! Transfers of devices.

use crate::addr::{Pfn, Vaddr};
use crate::mmu::{AddressSpace, Error, Mmu};
use crate::platform::Platform;
use crate::vmap::{Area, Region};
use alloc::vec::Vec;

/// A device that writes to memory by itself.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub(super) name: &'static str,
    pub(super) region: Region,
}

/// A transfer under way: the device may write to its pages. It ends with [`Device::end`].
#[derive(Debug)]
#[must_use = "its frames are lost when it is dropped; see Device::end"]
pub struct Io {
    pub(super) holder: &'static str,
    pub(super) frames: Vec<Pfn>,
    pub(super) area: Area,
    /// Whether it has references to its frames.
    pub(super) referenced: bool,
}

impl Io {
    /// Where the pages are mapped, side by side.
    pub fn start(&self) -> Vaddr {
        self.area.start()
    }

    /// The pages' frames.
    pub fn frames(&self) -> &[Pfn] {
        &self.frames
    }

    /// The name of the device.
    pub fn holder(&self) -> &'static str {
        self.holder
    }
}

impl Device {
    /// A device with a region of its name, of at least so many pages.
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
    /// If a frame was not allocated.
    pub fn begin<P: Platform>(&self, mmu: &mut Mmu<P>, frames: &[Pfn]) -> Result<Io, Error> {
        mmu.pin_frames(frames, self.name);
        match mmu.vmap_in(self.region, frames) {
            Ok(area) => {
                Ok(Io { holder: self.name, frames: frames.to_vec(), area, referenced: true })
            }
            Err(error) => {
                mmu.unpin_frames(frames, self.name);
                Err(error)
            }
        }
    }

    /// Begins a transfer to writable pages in the lower half of an address space.
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

    /// Ends a transfer: the device writes no more. Frames that were freed meanwhile become free.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal to clear dead mappings. The transfer has ended all the same.
    pub fn end<P: Platform>(&self, mmu: &mut Mmu<P>, io: Io) -> Result<(), Error> {
        let Io { holder, frames, area, referenced } = io;
        // The mapping first: it is dead before its frames are reused.
        let unmapped = mmu.vunmap(area);
        if referenced {
            mmu.unpin_frames(&frames, holder);
        }
        unmapped
    }
}
