//! Fixture frames that all vCPUs may harm, and the calls that do it.

use alloc::vec::Vec;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::{Index, Level, Mfn, Pfn, Vaddr};
use pinfold_guest::entry::catch::{self, Trap};
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

/// A frame, and its place in the address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) mfn: u64,
    pub(crate) va: Vaddr,
    /// Machine address of the entry that maps it at its place.
    pub(crate) pte: u64,
}

/// Some of them.
pub(crate) struct Pages(pub(crate) Vec<Page>);

impl Pages {
    /// Takes so many from the fixture.
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

    /// An entry that maps it.
    pub(crate) fn entry(self, flags: u64) -> u64 {
        Mfn(self.mfn).address() | flags
    }

    /// Machine address of one of its own entries.
    pub(crate) fn slot(self, index: usize) -> u64 {
        Mfn(self.mfn).entry_address(Index::new(index))
    }

    fn word(self, index: usize) -> u64 {
        assert!(index < 512);
        self.va.0 + index as u64 * 8
    }

    /// Reads a word of what is at its place, which is mapped.
    pub(crate) fn get(self, index: usize) -> u64 {
        // SAFETY: a fixture frame's place.
        unsafe { (self.word(index) as *const u64).read_volatile() }
    }

    /// Writes a word to its place, which is mapped writable.
    pub(crate) fn set(self, index: usize, word: u64) {
        // SAFETY: a fixture frame's place.
        unsafe { (self.word(index) as *mut u64).write_volatile(word) }
    }

    /// Writes a word to its place, which may not be there.
    pub(crate) fn try_set(self, index: usize, word: u64) -> Result<(), Trap> {
        // SAFETY: a fixture frame's place.
        unsafe { catch::write(self.word(index), word) }
    }

    /// Fills what is at its place.
    pub(crate) fn fill(self, word: u64) {
        (0..512).for_each(|index| self.set(index, word));
    }

    /// Maps this at its place, with these flags for `update_va_mapping`.
    pub(crate) fn put(self, entry: u64, flush: u64) -> i64 {
        // SAFETY: a fixture frame's place.
        unsafe { raw::update_va_mapping(self.va, entry, flush) }
    }

    /// Makes it read-only at its place, and nobody is told.
    pub(crate) fn seal(self) -> i64 {
        self.put(self.entry(RO), pinfold_abi::mmu::UVMF_NONE)
    }

    /// Makes it writable at its place, for every vCPU.
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
        // SAFETY: fixture table are loaded by nobody.
        unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, self.mfn, 0) }
    }
}

/// Flush of one address on every vCPU.
pub(crate) const FLUSH_ALL: u64 = pinfold_abi::mmu::UVMF_INVLPG | pinfold_abi::mmu::UVMF_ALL;

/// `mmu_update` of one entry.
pub(crate) fn update(ptr: u64, val: u64) -> i64 {
    // SAFETY: entries of fixture table, or of fixture frames' places.
    unsafe { raw::mmu_update(ptr, val) }
}

/// `mmuext_op` of one element.
pub(crate) fn ext(cmd: MmuextCmd, arg1: u64, arg2: u64) -> i64 {
    // SAFETY: flushes, and fixture frames.
    unsafe { raw::mmuext(cmd as u32, arg1, arg2) }
}

/// Any call.
pub(crate) fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    // SAFETY: fixture frames, or calls that are refused.
    unsafe { raw::call(op as u64, args) }
}
