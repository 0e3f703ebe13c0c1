//! Ranges that are mapped for the kernel.

use super::{Error, ObjectId, Pager, Store};
use crate::addr::Vaddr;
use crate::mmu::Mmu;
use crate::platform::Platform;
use crate::vmap::Area;
use core::ops::Range;

/// A mapped range of an object. It goes back with [`Pager::unmap`].
#[derive(Debug)]
#[must_use = "its pages stay mapped when it is dropped; see Pager::unmap"]
pub struct View {
    id: ObjectId,
    range: Range<u64>,
    area: Area,
}

impl View {
    /// Address of its first page.
    pub fn start(&self) -> Vaddr {
        self.area.start()
    }

    /// Pages of the object that it maps.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl<S: Store> Pager<S> {
    /// Maps a pinned range, side by side, to be read and written.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::NotEmpty`], [`Rule::Within`], [`Rule::Pinned`], or
    /// [`Error::Mmu`].
    ///
    /// [`Rule::Exists`]: super::Rule::Exists
    /// [`Rule::NotEmpty`]: super::Rule::NotEmpty
    /// [`Rule::Within`]: super::Rule::Within
    /// [`Rule::Pinned`]: super::Rule::Pinned
    pub fn map<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        id: ObjectId,
        range: Range<u64>,
    ) -> Result<View, Error> {
        let object = self.object(id)?;
        let pages = object.pinned(&range)?;
        let frames = object.pages[pages.clone()].iter().filter_map(|page| page.frame);
        let frames: alloc::vec::Vec<_> = frames.collect();
        let area = mmu.vmap_in(self.region, &frames)?;
        for page in &mut self.pages(id)[pages] {
            page.views += 1;
        }
        Ok(View { id, range, area })
    }

    /// Unmaps a view, at once or later according to the policy of the [`Mmu`].
    ///
    /// # Errors
    ///
    /// [`Error::Mmu`].
    ///
    /// # Panics
    ///
    /// If the view is of another pager.
    pub fn unmap<P: Platform>(&mut self, mmu: &mut Mmu<P>, view: View) -> Result<(), Error> {
        let View { id, range, area } = view;
        for page in &mut self.pages(id)[range.start as usize..range.end as usize] {
            page.views -= 1;
        }
        Ok(mmu.vunmap(area)?)
    }
}
