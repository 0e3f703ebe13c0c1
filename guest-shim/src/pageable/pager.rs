//! The objects, and operations on them.

use super::object::{Object, Page};
use super::{Error, ObjectId, Rule, Store};
use crate::addr::{PAGE_WORDS, Pfn};
use crate::mmu::{self, Mmu};
use crate::platform::Platform;
use crate::vmap::Region;
use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Range;

/// Counters of a pager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagerStats {
    /// Pages filled with zeros.
    pub zeroed: u64,
    /// Pages read from the store.
    pub paged_in: u64,
    /// Pages written to the store.
    pub paged_out: u64,
    /// Pages dropped without being written.
    pub dropped: u64,
}

/// Objects that share a store and a limit of frames.
#[derive(Debug)]
pub struct Pager<S> {
    pub(super) store: S,
    pub(super) objects: BTreeMap<ObjectId, Object>,
    /// Pages that have a frame, in the order of the clock's hand. Some may be of objects that were
    /// freed.
    pub(super) clock: VecDeque<(ObjectId, u64)>,
    pub(super) resident: usize,
    limit: usize,
    next: u64,
    pub(super) region: Region,
    pub(super) stats: PagerStats,
}

impl<S: Store> Pager<S> {
    /// Without objects. At most `limit` pages have a frame at a time. The kernel's mappings are
    /// made in this part of the vmap range.
    pub fn new(store: S, limit: usize, region: Region) -> Pager<S> {
        Pager {
            store,
            objects: BTreeMap::new(),
            clock: VecDeque::new(),
            resident: 0,
            limit,
            next: 0,
            region,
            stats: PagerStats::default(),
        }
    }

    /// The counters.
    pub fn stats(&self) -> PagerStats {
        self.stats
    }

    /// Pages that have a frame.
    pub fn resident(&self) -> usize {
        self.resident
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Makes an object of so many pages, all zeros.
    ///
    /// # Errors
    ///
    /// [`Rule::NotEmpty`].
    pub fn create(&mut self, pages: u64) -> Result<ObjectId, Error> {
        if pages == 0 {
            return Err(Rule::NotEmpty.into());
        }
        let id = ObjectId(self.next);
        self.next += 1;
        self.objects.insert(id, Object::new(pages));
        Ok(id)
    }

    /// Frees an object and its pages in the store.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::Unpinned`].
    pub fn free<P: Platform>(&mut self, mmu: &mut Mmu<P>, id: ObjectId) -> Result<(), Error> {
        let object = self.object(id)?;
        if let Some(page) = object.first(0..object.pages.len(), |page| page.pins > 0) {
            return Err(Rule::Unpinned { page }.into());
        }
        let pages = self.objects.remove(&id).map(|object| object.pages).unwrap_or_default();
        for (number, page) in (0..).zip(pages) {
            if let Some(frame) = page.frame {
                mmu.free_frame(frame);
                self.resident -= 1;
            }
            if page.stored {
                self.store.forget(id.page(number));
            }
        }
        // Without this, pages of freed objects would pile up while memory is not short.
        if self.clock.len() > 2 * self.resident + 64 {
            let objects = &self.objects;
            self.clock.retain(|(id, _)| objects.contains_key(id));
        }
        Ok(())
    }

    /// Brings a range into memory and keeps it there until it was unpinned as often as pinned.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::NotEmpty`], [`Rule::Within`], [`Rule::Countable`];
    /// [`Error::AllPinned`] or [`Error::Mmu`] without a frame, or the store's. Nothing was pinned
    /// then.
    pub fn pin<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        id: ObjectId,
        range: Range<u64>,
    ) -> Result<(), Error> {
        let object = self.object(id)?;
        let wanted = object.range(&range)?;
        if let Some(page) = object.first(wanted.clone(), |page| page.pins == u32::MAX) {
            return Err(Rule::Countable { page }.into());
        }
        for page in wanted.clone() {
            if let Err(error) = self.bring_in(mmu, id, page as u64) {
                for page in &mut self.pages(id)[wanted.start..page] {
                    page.pins -= 1;
                }
                return Err(error);
            }
            let page = &mut self.pages(id)[page];
            page.pins += 1;
            page.used = true;
        }
        Ok(())
    }

    /// Drops a pin of each page of a range.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::NotEmpty`], [`Rule::Within`], [`Rule::Pinned`],
    /// [`Rule::Unmapped`].
    pub fn unpin(&mut self, id: ObjectId, range: Range<u64>) -> Result<(), Error> {
        let object = self.object(id)?;
        let range = object.pinned(&range)?;
        let last = |page: &Page| page.pins == 1 && page.views > 0;
        if let Some(page) = object.first(range.clone(), last) {
            return Err(Rule::Unmapped { page }.into());
        }
        for page in &mut self.pages(id)[range] {
            page.pins -= 1;
        }
        Ok(())
    }

    /// The frame of a pinned page.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::Within`], [`Rule::Pinned`].
    pub fn page(&self, id: ObjectId, page: u64) -> Result<Pfn, Error> {
        let object = self.object(id)?;
        // No object has a page of the last number: the next one may stand for it.
        let page = page.min(u64::MAX - 1);
        let range = object.pinned(&(page..page + 1))?;
        object.pages[range.start].frame.ok_or(Rule::Pinned { page }.into())
    }

    /// Marks a pinned range as written to.
    ///
    /// # Errors
    ///
    /// [`Rule::Exists`], [`Rule::NotEmpty`], [`Rule::Within`], [`Rule::Pinned`].
    pub fn mark_dirty(&mut self, id: ObjectId, range: Range<u64>) -> Result<(), Error> {
        let range = self.object(id)?.pinned(&range)?;
        for page in &mut self.pages(id)[range] {
            page.dirty = true;
        }
        Ok(())
    }

    pub(super) fn object(&self, id: ObjectId) -> Result<&Object, Error> {
        self.objects.get(&id).ok_or(Rule::Exists.into())
    }

    /// The pages of an object; none if there is no such object.
    pub(super) fn pages(&mut self, id: ObjectId) -> &mut [Page] {
        self.objects.get_mut(&id).map_or(&mut [], |object| &mut object.pages)
    }

    /// Gives a page a frame with its contents, if it has none.
    fn bring_in<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        id: ObjectId,
        page: u64,
    ) -> Result<(), Error> {
        let Page { frame, stored, .. } = self.pages(id)[page as usize];
        if frame.is_some() {
            return Ok(());
        }
        let frame = self.frame(mmu)?;
        let mut words = [0; PAGE_WORDS];
        if stored && let Err(error) = self.store.read(id.page(page), &mut words) {
            mmu.free_frame(frame);
            return Err(error.into());
        }
        for (index, word) in words.into_iter().enumerate() {
            mmu.write(frame, index, word);
        }
        let done = if stored { &mut self.stats.paged_in } else { &mut self.stats.zeroed };
        *done += 1;
        self.pages(id)[page as usize].frame = Some(frame);
        self.resident += 1;
        self.clock.push_back((id, page));
        Ok(())
    }

    /// Allocates a frame, for which other pages may be paged out.
    fn frame<P: Platform>(&mut self, mmu: &mut Mmu<P>) -> Result<Pfn, Error> {
        if self.resident >= self.limit && self.shrink(mmu, 1)? == 0 {
            return Err(Error::AllPinned);
        }
        loop {
            match mmu.alloc_frame() {
                Err(mmu::Error::NoFrame) if self.shrink(mmu, 1)? > 0 => {}
                result => return Ok(result?),
            }
        }
    }
}
