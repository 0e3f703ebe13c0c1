//! Address ranges that a guest named, for reports.

use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::MAX_REGIONS;
use pinfold_abi::pinfold::refusals::{NO_SUCH_REGION, REGION_OVERLAPS, TOO_MANY_REGIONS};
use pinfold_abi::record::MappingState;

/// A named range.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Name, NUL-padded.
    pub name: [u8; 32],
    /// Guest address of the bitmap of freed pages; 0: none.
    pub freed: Option<u64>,
}

impl Region {
    /// Whether the guest has freed the page at an address of the region. `read` reads a byte of the
    /// guest's memory.
    pub fn life(&self, address: u64, read: impl FnOnce(u64) -> Option<u8>) -> MappingState {
        let page = address.wrapping_sub(self.start) / 4096;
        let byte = self.freed.and_then(|bits| bits.checked_add(page / 8)).and_then(read);
        match byte {
            None => MappingState::Unknown,
            Some(byte) if byte & 1 << (page % 8) != 0 => MappingState::Dead,
            Some(_) => MappingState::Live,
        }
    }
}

/// The named ranges of a domain; none overlap.
#[derive(Debug, Default)]
pub struct Regions(ArrayVec<Region, MAX_REGIONS>);

impl Regions {
    /// Names a range.
    ///
    /// # Errors
    /// EEXIST if it overlaps a named one, ENOSPC if there are too many.
    pub fn add(&mut self, region: Region) -> Result<(), Errno> {
        if self.0.iter().any(|r| r.start < region.end && region.start < r.end) {
            return Err(REGION_OVERLAPS.into());
        }
        self.0.try_push(region).map_err(|_| TOO_MANY_REGIONS.into())
    }

    /// Removes the range that begins at `start`.
    ///
    /// # Errors
    /// ENOENT if none does.
    pub fn remove(&mut self, start: u64) -> Result<(), Errno> {
        let index = self.0.iter().position(|r| r.start == start).ok_or(NO_SUCH_REGION)?;
        self.0.swap_remove(index);
        Ok(())
    }

    /// Sets the bitmap of freed pages of the range that begins at `start`.
    ///
    /// # Errors
    /// ENOENT if none does.
    pub fn set_freed(&mut self, start: u64, bits: Option<u64>) -> Result<(), Errno> {
        let region = self.0.iter_mut().find(|r| r.start == start).ok_or(NO_SUCH_REGION)?;
        region.freed = bits;
        Ok(())
    }

    /// The range that holds an address.
    pub fn find(&self, address: u64) -> Option<Region> {
        self.0.iter().find(|r| (r.start..r.end).contains(&address)).copied()
    }
}
