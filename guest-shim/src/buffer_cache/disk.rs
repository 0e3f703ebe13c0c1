//! The disk below the cache.

use super::WORDS;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// A store of pages, by block and page of the block. It never fails: failing disks are not a
/// subject here.
pub trait Disk {
    /// Reads a page; one that was never written is all zeroes.
    fn read(&mut self, block: u64, page: usize, words: &mut [u64; WORDS]);
    /// Writes a page.
    fn write(&mut self, block: u64, page: usize, words: &[u64; WORDS]);
}

/// A disk in the kernel's memory.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    pages: BTreeMap<(u64, usize), Box<[u64; WORDS]>>,
}

impl Disk for MemoryDisk {
    fn read(&mut self, block: u64, page: usize, words: &mut [u64; WORDS]) {
        match self.pages.get(&(block, page)) {
            Some(stored) => words.copy_from_slice(&**stored),
            None => words.fill(0),
        }
    }

    fn write(&mut self, block: u64, page: usize, words: &[u64; WORDS]) {
        self.pages.insert((block, page), Box::new(*words));
    }
}
