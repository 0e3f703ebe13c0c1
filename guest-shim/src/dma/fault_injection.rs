//! (feature `raw`) Transfers as they should not be.

use super::{Device, Io};
use crate::addr::Pfn;
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;

impl Device {
    /// Begins a transfer to frames and takes no reference of them: freed, they are used for
    /// something else while the device goes on writing.
    ///
    /// # Errors
    ///
    /// As [`vmap`](Mmu::vmap).
    pub fn begin_without_references<P: Platform>(
        &self,
        mmu: &mut Mmu<P>,
        frames: &[Pfn],
    ) -> Result<Io, Error> {
        let area = mmu.vmap_in(self.region, frames)?;
        Ok(Io { holder: self.name, frames: frames.to_vec(), area, holds: false })
    }
}
