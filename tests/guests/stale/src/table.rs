//! The domain's grant table, and signs that somebody overwrote the hypervisor's tables about it.

use crate::attack::TABLE_WINDOWS;
use crate::windows::{WORDS, Windows};
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::grant::{ENTRIES_PER_FRAME, SWAP_GRANT_REF, SwapGrantRef};
use pinfold_guest::raw::grants;

/// Frames that the table can have on both hypervisors.
pub(crate) const MOST_FRAMES: usize = 64;

/// The grant table, mapped in windows.
#[derive(Debug)]
pub(crate) struct GrantTable {
    windows: Windows,
    frames: Vec<u64>,
}

/// What was found in a frame of the table, or in the status of its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Words of the frame that are not 0.
    pub(crate) words: u64,
    /// Entries whose status says that they are in use.
    pub(crate) in_use: u64,
    /// The first of the words.
    pub(crate) first: Option<(usize, u64)>,
}

impl GrantTable {
    /// Maps all frames of the table.
    pub(crate) fn new(windows: Windows) -> Option<GrantTable> {
        let mut table = GrantTable { windows, frames: Vec::new() };
        let (now, _) = grants::query(domid::SELF).ok()?;
        (table.grow(now.max(1) as usize) == Ok(())).then_some(table)
    }

    /// Returns the number of frames.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns a frame of the table.
    pub(crate) fn frame(&self, index: usize) -> u64 {
        self.frames[index]
    }

    /// Has the table grow to so many frames.
    pub(crate) fn grow(&mut self, count: usize) -> Result<(), i16> {
        let frames = grants::setup_list(domid::SELF, count as u32)?;
        for &frame in frames.iter().skip(self.frames.len()) {
            let window = TABLE_WINDOWS.start + self.frames.len();
            if !self.windows.open(window, frame) {
                return Err(0);
            }
            self.frames.push(frame);
        }
        Ok(())
    }

    /// Inspects a frame in which no entry was ever written.
    pub(crate) fn foreign(&self, index: usize) -> Foreign {
        let window = TABLE_WINDOWS.start + index;
        let mut found = Foreign {
            first: self.windows.first_other(window, |_| 0),
            in_use: entries_in_use(index),
            ..Foreign::default()
        };
        if found.first.is_some() {
            let words = (0..WORDS).filter(|&word| self.windows.read(window, word) != Some(0));
            found.words = words.count() as u64;
        }
        found
    }

    /// Writes an entry.
    pub(crate) fn set(&self, reference: u32, entry: u64) {
        let frame = (reference / ENTRIES_PER_FRAME) as usize;
        assert!(frame < self.frames.len());
        let word = (reference % ENTRIES_PER_FRAME) as usize;
        self.windows.store(TABLE_WINDOWS.start + frame, word, entry);
    }

    /// Reads an entry.
    pub(crate) fn get(&self, reference: u32) -> u64 {
        let frame = (reference / ENTRIES_PER_FRAME) as usize;
        let word = (reference % ENTRIES_PER_FRAME) as usize;
        self.windows.read(TABLE_WINDOWS.start + frame, word).unwrap_or_default()
    }
}

/// Counts the entries of a frame of the table that are in use: those that the hypervisor refuses to
/// swap. All of them are 0, so swapping changes nothing.
fn entries_in_use(frame: usize) -> u64 {
    let first = frame as u32 * ENTRIES_PER_FRAME;
    let mut list: Vec<SwapGrantRef> = (0..ENTRIES_PER_FRAME / 2)
        .map(|pair| SwapGrantRef {
            ref_a: first + pair * 2,
            ref_b: first + pair * 2 + 1,
            ..SwapGrantRef::default()
        })
        .collect();
    if grants::list(SWAP_GRANT_REF, &mut list).is_err() {
        return u64::MAX;
    }
    core::hint::black_box(&mut list).iter().filter(|element| element.status != 0).count() as u64
}
