//! A bench to try things on: free frames at their places in the initial address space, and short
//! words for what tests do to them.

use super::{mmuext, update_va_mapping};
use crate::addr::{Mfn, PAGE_SIZE, Pfn, Vaddr};
use crate::entry::memory::Frames;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::RefCell;
use pinfold_abi::mmu::{EntryFlags, MmuextCmd, UVMF_INVLPG};

/// Entry flags of a plain read-only mapping.
pub const RO: u64 = EntryFlags::PRESENT.union(EntryFlags::ACCESSED).bits();
/// Entry flags of a plain writable mapping.
pub const RW: u64 = RO | EntryFlags::WRITABLE.union(EntryFlags::DIRTY).bits();

/// Free frames, each mapped at its own place only.
#[derive(Debug)]
pub struct Lab {
    frames: Frames,
    pool: Vec<Pfn>,
    taken: usize,
    /// What is pinned now.
    pinned: RefCell<BTreeSet<Pfn>>,
}

impl Lab {
    /// Takes all frames that the builder left free and mapped. There must be one bench only, and
    /// no other user of those frames.
    pub fn new(frames: Frames) -> Lab {
        let pool = frames.first_free().0..frames.mapped_end().0;
        Lab::with(frames, pool.map(Pfn).collect())
    }

    /// Takes these frames, which nobody else uses.
    pub fn with(frames: Frames, pool: Vec<Pfn>) -> Lab {
        Lab { frames, pool, taken: 0, pinned: RefCell::default() }
    }

    /// The frames, to give them back.
    pub fn into_frames(self) -> Vec<Pfn> {
        self.pool
    }

    /// Where frames are.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Frames left.
    pub fn left(&self) -> usize {
        self.pool.len() - self.taken
    }

    /// A frame full of zeroes, mapped writable.
    ///
    /// # Panics
    ///
    /// When none is left.
    pub fn frame(&mut self) -> Pfn {
        assert!(self.left() > 0, "the bench has no frame left");
        let pfn = self.pool[self.taken];
        self.taken += 1;
        self.clear(pfn);
        pfn
    }

    /// As [`Lab::frame`], and the bench forgets about it.
    ///
    /// # Panics
    ///
    /// When none is left.
    pub fn lose(&mut self) -> Pfn {
        let pfn = self.frame();
        self.taken -= 1;
        self.pool.remove(self.taken);
        pfn
    }

    /// How many frames are taken, to come back to.
    pub fn save(&self) -> usize {
        self.taken
    }

    /// Gives back every frame taken since, after undoing what was done to them: pins, types and
    /// read-only mappings.
    ///
    /// # Panics
    ///
    /// When one cannot be made writable again: something still uses it as a table.
    pub fn restore(&mut self, saved: usize) {
        let taken = &self.pool[saved..self.taken];
        for &pfn in taken {
            if self.is_pinned(pfn) {
                self.unpin(pfn);
            }
        }
        for &pfn in taken {
            let result = self.map(pfn, RW);
            assert!(result == 0, "frame {pfn} can't be made writable again: {result}");
        }
        self.taken = saved;
    }

    /// Machine frame of a frame.
    pub fn mfn(&self, pfn: Pfn) -> u64 {
        self.frames.mfn(pfn).map_or(0, |Mfn(mfn)| mfn)
    }

    /// An entry that maps a frame.
    pub fn entry(&self, pfn: Pfn, flags: u64) -> u64 {
        self.mfn(pfn) << 12 | flags
    }

    /// Machine address of an entry of a table.
    pub fn entry_addr(&self, table: Pfn, index: usize) -> u64 {
        Mfn(self.mfn(table)).entry_addr(index)
    }

    /// Address of a frame at its own place.
    pub fn va(&self, pfn: Pfn) -> Vaddr {
        self.frames.va(pfn)
    }

    /// Writes a word of a frame that is mapped writable.
    pub fn set(&self, pfn: Pfn, index: usize, word: u64) {
        assert!(index < 512);
        let pointer = (self.va(pfn).0 as *mut u64).wrapping_add(index);
        // SAFETY: the frame is one of the bench's, at its place; Rust memory is elsewhere.
        unsafe { pointer.write_volatile(word) }
    }

    /// Reads a word of a frame.
    pub fn get(&self, pfn: Pfn, index: usize) -> u64 {
        assert!(index < 512);
        let pointer = (self.va(pfn).0 as *const u64).wrapping_add(index);
        // SAFETY: as above.
        unsafe { pointer.read_volatile() }
    }

    /// Zeroes a frame.
    pub fn clear(&self, pfn: Pfn) {
        for index in 0..(PAGE_SIZE / 8) as usize {
            self.set(pfn, index, 0);
        }
    }

    /// Maps a frame at its own place with these flags ([`RO`], [`RW`]); the call's result.
    pub fn map(&self, pfn: Pfn, flags: u64) -> i64 {
        // SAFETY: the bench's frames hold nothing of Rust's.
        unsafe { update_va_mapping(self.va(pfn), self.entry(pfn, flags), UVMF_INVLPG) }
    }

    /// Makes a frame read-only at its place.
    pub fn seal(&self, pfn: Pfn) {
        let result = self.map(pfn, RO);
        assert!(result == 0, "frame {pfn} can't be made read-only: {result}");
    }

    /// Makes a frame writable at its place, if the hypervisor allows.
    pub fn unseal(&self, pfn: Pfn) -> i64 {
        self.map(pfn, RW)
    }

    /// Pins a frame as a table of this level, as it is; the call's result.
    pub fn pin(&self, pfn: Pfn, level: u8) -> i64 {
        let cmd = MmuextCmd::PinL1Table as u32 + u32::from(level) - 1;
        // SAFETY: a pin changes no mapping.
        let result = unsafe { mmuext(cmd, self.mfn(pfn), 0) };
        if result == 0 {
            self.pinned.borrow_mut().insert(pfn);
        }
        result
    }

    /// Unpins a frame; the call's result.
    pub fn unpin(&self, pfn: Pfn) -> i64 {
        // SAFETY: the bench's tables are loaded by nobody when they are unpinned, or are kept by
        // the root that is.
        let result = unsafe { mmuext(MmuextCmd::UnpinTable as u32, self.mfn(pfn), 0) };
        if result == 0 {
            self.pinned.borrow_mut().remove(&pfn);
        }
        result
    }

    fn is_pinned(&self, pfn: Pfn) -> bool {
        self.pinned.borrow().contains(&pfn)
    }

    /// Makes a chain of tables from this level down to an L1 that maps `leaf` read-only, all
    /// sealed, none pinned; the tables, topmost first. Entry 0 of each leads down.
    pub fn chain(&mut self, level: u8, leaf: Pfn) -> arrayvec::ArrayVec<Pfn, 4> {
        let mut tables: arrayvec::ArrayVec<Pfn, 4> = (0..level).map(|_| self.frame()).collect();
        for step in 0..tables.len() {
            let down = tables.get(step + 1).map_or(self.entry(leaf, RO), |&t| self.entry(t, RW));
            self.set(tables[step], 0, down);
        }
        for &table in &tables {
            self.seal(table);
        }
        tables.truncate(4);
        tables
    }
}
