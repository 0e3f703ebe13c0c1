//! Where paged-out pages are kept.

use crate::addr::PAGE_WORDS;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

/// The contents of a page.
pub type Words = [u64; PAGE_WORDS];

/// A page of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageId {
    /// Number of the object; it is never reused.
    pub object: u64,
    /// Which of its pages.
    pub page: u64,
}

/// Why a store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no room for the page. An older version of it is kept.
    Full,
    /// The page was written, and can't be read any more.
    Missing,
}

impl core::fmt::Display for StoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            StoreError::Full => "the store is full",
            StoreError::Missing => "the store has lost the page",
        })
    }
}

/// Keeps pages.
pub trait Store {
    /// Writes a page, in page of an older version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`].
    fn write(&mut self, page: PageId, words: &Words) -> Result<(), StoreError>;

    /// Reads a page that was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`].
    fn read(&mut self, page: PageId, words: &mut Words) -> Result<(), StoreError>;

    /// Drops a page, which may never have been written.
    fn forget(&mut self, page: PageId);
}

/// A store in the kernel's own memory.
#[derive(Debug)]
pub struct InMemory {
    pages: BTreeMap<PageId, Box<Words>>,
    room: usize,
}

impl InMemory {
    /// A store with room for so many pages.
    pub fn new(room: usize) -> InMemory {
        InMemory { pages: BTreeMap::new(), room }
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}

impl Store for InMemory {
    fn write(&mut self, page: PageId, words: &Words) -> Result<(), StoreError> {
        let full = self.pages.len() >= self.room;
        match self.pages.entry(page) {
            Entry::Occupied(mut kept) => kept.get_mut().copy_from_slice(words),
            Entry::Vacant(_) if full => return Err(StoreError::Full),
            Entry::Vacant(free) => {
                free.insert(Box::new(*words));
            }
        }
        Ok(())
    }

    fn read(&mut self, page: PageId, words: &mut Words) -> Result<(), StoreError> {
        words.copy_from_slice(&self.pages.get(&page).ok_or(StoreError::Missing)?[..]);
        Ok(())
    }

    fn forget(&mut self, page: PageId) {
        self.pages.remove(&page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_still_overwrites_pages_it_has() {
        let mut store = InMemory::new(1);
        let [here, there] = [0, 1].map(|page| PageId { object: 7, page });
        store.write(here, &[1; PAGE_WORDS]).unwrap();
        assert_eq!(store.write(there, &[2; PAGE_WORDS]), Err(StoreError::Full));
        store.write(here, &[3; PAGE_WORDS]).unwrap();
        let mut words = [0; PAGE_WORDS];
        store.read(here, &mut words).unwrap();
        assert_eq!(words, [3; PAGE_WORDS]);
        assert_eq!(store.read(there, &mut words), Err(StoreError::Missing));
        store.forget(here);
        store.write(there, &[2; PAGE_WORDS]).unwrap();
        assert_eq!(store.read(here, &mut words), Err(StoreError::Missing));
    }
}
