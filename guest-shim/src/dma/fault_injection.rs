//! (feature `raw`) Transfers with a mistake.

use super::{Device, Io};
use crate::addr::Pfn;
use crate::mmu::{Error, Mmu};
use crate::platform::Platform;

impl Device {
    /// Begins a transfer without references: frames that are freed are reused while the device
    /// still writes to them.
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
        Ok(Io { holder: self.name, frames: frames.to_vec(), area, referenced: false })
    }
}
