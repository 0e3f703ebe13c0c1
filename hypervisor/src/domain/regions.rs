//! Address ranges that a guest gave names, so that reports can use them.

use arrayvec::ArrayVec;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::MAX_REGIONS;

/// A named range.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Name, NUL-padded.
    pub name: [u8; 32],
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
            return Err(Errno::EEXIST);
        }
        self.0.try_push(region).map_err(|_| Errno::ENOSPC)
    }

    /// Forgets the range that begins at `start`.
    ///
    /// # Errors
    /// ENOENT if none does.
    pub fn remove(&mut self, start: u64) -> Result<(), Errno> {
        let index = self.0.iter().position(|r| r.start == start).ok_or(Errno::ENOENT)?;
        self.0.swap_remove(index);
        Ok(())
    }

    /// The range that holds an address.
    pub fn find(&self, address: u64) -> Option<Region> {
        self.0.iter().find(|r| (r.start..r.end).contains(&address)).copied()
    }
}
