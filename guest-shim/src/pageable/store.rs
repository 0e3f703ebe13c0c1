//! Where pages go that are paged out.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

/// What a page has in it.
pub type Words = [u64; 512];

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the object: never that of another one.
    pub object: u64,
    /// Page of the object.
    pub page: u64,
}

/// Why a store did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no room for the page. What the store had of it before, it still has.
    Full,
    /// The page can't be read: it was written once, and is gone.
    LeakedBlocks,
}

impl core::fmt::Display for StoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            StoreError::Full => "the store is full",
            StoreError::LeakedBlocks => "the store has lost the page",
        })
    }
}

/// Keeps pages.
pub trait Store {
    /// Keeps a page, instead of what it kept of it before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`].
    fn write(&mut self, place: Place, words: &Words) -> Result<(), StoreError>;

    /// Reads a page that was written.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeakedBlocks`].
    fn read(&mut self, place: Place, words: &mut Words) -> Result<(), StoreError>;

    /// Forgets a page, which may never have been written.
    fn forget(&mut self, place: Place);
}

/// A store in the kernel's own memory.
#[derive(Debug)]
pub struct InMemory {
    pages: BTreeMap<Place, Box<Words>>,
    room: usize,
}

impl InMemory {
    /// With room for so many pages.
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
    fn write(&mut self, place: Place, words: &Words) -> Result<(), StoreError> {
        let full = self.pages.len() >= self.room;
        match self.pages.entry(place) {
            Entry::Occupied(mut page) => page.get_mut().copy_from_slice(words),
            Entry::Vacant(_) if full => return Err(StoreError::Full),
            Entry::Vacant(page) => {
                page.insert(Box::new(*words));
            }
        }
        Ok(())
    }

    fn read(&mut self, place: Place, words: &mut Words) -> Result<(), StoreError> {
        words.copy_from_slice(&self.pages.get(&place).ok_or(StoreError::LeakedBlocks)?[..]);
        Ok(())
    }

    fn forget(&mut self, place: Place) {
        self.pages.remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_still_takes_what_it_has() {
        let mut store = InMemory::new(1);
        let [here, there] = [0, 1].map(|page| Place { object: 7, page });
        store.write(here, &[1; 512]).unwrap();
        assert_eq!(store.write(there, &[2; 512]), Err(StoreError::Full));
        store.write(here, &[3; 512]).unwrap();
        let mut words = [0; 512];
        store.read(here, &mut words).unwrap();
        assert_eq!(words, [3; 512]);
        assert_eq!(store.read(there, &mut words), Err(StoreError::LeakedBlocks));
        store.forget(here);
        store.write(there, &[2; 512]).unwrap();
        assert_eq!(store.read(here, &mut words), Err(StoreError::LeakedBlocks));
    }
}
