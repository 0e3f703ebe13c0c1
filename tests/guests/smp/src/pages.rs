//! Fixture frames that all vCPUs may overwrite, and the calls that do it.

use alloc::vec::Vec;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::{Index, Level, Mfn, Pfn, Vaddr};
use pinfold_guest::entry::catch::{self, Trap};
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

/// A frame, and its address in the initial address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) mfn: u64,
    pub(crate) va: Vaddr,
    /// Machine address of the entry that maps it there.
    pub(crate) pte: u64,
}

/// Several pages.
pub(crate) struct Pages(pub(crate) Vec<Page>);

impl Pages {
    /// Takes `count` frames from the fixture.
    pub(crate) fn new(fixture: &mut TableFixture, count: usize) -> Pages {
        Pages((0..count).map(|_| Page::new(fixture)).collect())
    }
}

impl Page {
    fn new(fixture: &mut TableFixture) -> Page {
        let pfn: Pfn = fixture.frame();
        let va = fixture.va(pfn);
        let frames = fixture.frames();
        let (table, _) = frames.walk(frames.boot_root(), va, 1).expect("it is mapped");
        Page { mfn: fixture.mfn(pfn), va, pte: table.entry_address(va.index(Level::L1)) }
    }

    /// Returns an entry that maps it.
    pub(crate) fn entry(self, flags: u64) -> u64 {
        Mfn(self.mfn).address() | flags
    }

    /// Returns the machine address of an entry in it.
    pub(crate) fn slot(self, index: usize) -> u64 {
        Mfn(self.mfn).entry_address(Index::new(index))
    }

    fn word(self, index: usize) -> u64 {
        assert!(index < 512);
        self.va.0 + index as u64 * 8
    }

    /// Reads a word at its address, which must be mapped.
    pub(crate) fn get(self, index: usize) -> u64 {
        // SAFETY: a fixture frame's address.
        unsafe { (self.word(index) as *const u64).read_volatile() }
    }

    /// Writes a word at its address, which must be mapped writable.
    pub(crate) fn set(self, index: usize, word: u64) {
        // SAFETY: a fixture frame's address.
        unsafe { (self.word(index) as *mut u64).write_volatile(word) }
    }

    /// Writes a word at its address, which may not be mapped.
    pub(crate) fn try_set(self, index: usize, word: u64) -> Result<(), Trap> {
        // SAFETY: a fixture frame's address.
        unsafe { catch::write(self.word(index), word) }
    }

    /// Fills the page at its address.
    pub(crate) fn fill(self, word: u64) {
        (0..512).for_each(|index| self.set(index, word));
    }

    /// Sets the entry at its address, with these flags of `update_va_mapping`.
    pub(crate) fn put(self, entry: u64, flush: u64) -> i64 {
        // SAFETY: a fixture frame's address.
        unsafe { raw::update_va_mapping(self.va, entry, flush) }
    }

    /// Maps it read-only, without a flush.
    pub(crate) fn seal(self) -> i64 {
        self.put(self.entry(RO), pinfold_abi::mmu::UVMF_NONE)
    }

    /// Maps it writable, and flushes all vCPUs.
    pub(crate) fn unseal(self) -> i64 {
        self.put(self.entry(RW), FLUSH_ALL)
    }

    /// Pins it as a table of this level.
    pub(crate) fn pin(self, level: u8) -> i64 {
        let cmd = MmuextCmd::PinL1Table as u32 + u32::from(level) - 1;
        // SAFETY: changes no mapping.
        unsafe { raw::mmuext(cmd, self.mfn, 0) }
    }

    /// Unpins it.
    pub(crate) fn unpin(self) -> i64 {
        // SAFETY: fixture tables are loaded nowhere.
        unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, self.mfn, 0) }
    }
}

/// Flushes one address on all vCPUs.
pub(crate) const FLUSH_ALL: u64 = pinfold_abi::mmu::UVMF_INVLPG | pinfold_abi::mmu::UVMF_ALL;

/// `mmu_update` of one entry.
pub(crate) fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: entries of fixture tables, or those that map fixture frames.
    unsafe { raw::mmu_update(ptr, val) }
}

/// `mmuext_op` of one element.
pub(crate) fn ext(cmd: MmuextCmd, arg1: u64, arg2: u64) -> i64 {
    // SAFETY: flushes, and calls on fixture frames.
    unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
}

/// Makes any call.
pub(crate) fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: calls on fixture frames, or calls that are refused.
    unsafe { raw::call(op as u64, args) }
}
