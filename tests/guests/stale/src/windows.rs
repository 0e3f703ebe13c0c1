//! Windows: addresses with page tables of their own, where frames are mapped and unmapped without a
//! flush.

use core::sync::atomic::{AtomicUsize, Ordering, compiler_fence};
use pinfold_abi::mmu::{UVMF_ALL, UVMF_INVLPG, UVMF_NONE, UVMF_TLB_FLUSH};
use pinfold_guest::addr::{Index, Mfn, Pfn, Vaddr};
use pinfold_guest::entry::VIRT_BASE;
use pinfold_guest::entry::catch;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

use crate::forgery::Forgery;

/// Words of a page.
pub(crate) const WORDS: usize = 512;
/// Windows of one table.
pub(crate) const PER_TABLE: usize = 512;

/// The windows of some adjacent tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    base: Vaddr,
    count: usize,
}

impl Windows {
    /// Makes so many tables of windows from fixture frames, in the last free L2 entries of the boot
    /// address space. `None` if there is no room, or the hypervisor refuses.
    pub(crate) fn new(fixture: &mut TableFixture, tables: usize) -> Option<Windows> {
        let frames = *fixture.frames();
        let slot = |index: usize| Vaddr(VIRT_BASE).page((index * PER_TABLE) as u64);
        let entry = |index| frames.walk(frames.boot_root(), slot(index), 2);
        let end = (1..=PER_TABLE).rev().find(|end| entry(end - 1).is_some_and(|(_, e)| e == 0))?;
        let first = end.checked_sub(tables)?;
        for index in first..end {
            let (above, free) = entry(index)?;
            let table: Pfn = fixture.lose();
            fixture.seal(table);
            // SAFETY: an empty table in an entry that was not present.
            let linked = unsafe {
                raw::mmu_update(above.entry_address(Index::new(index)), fixture.entry(table, RW))
            };
            if free != 0 || linked != 0 {
                return None;
            }
        }
        Some(Windows { base: slot(first), count: tables * PER_TABLE })
    }

    /// Returns the address of a window.
    pub(crate) fn va(&self, window: usize) -> Vaddr {
        assert!(window < self.count);
        self.base.page(window as u64)
    }

    fn word(&self, window: usize, index: usize) -> u64 {
        assert!(index < WORDS);
        self.va(window).0 + index as u64 * 8
    }

    fn set(&self, window: usize, entry: u64, flags: u64) -> i64 {
        // SAFETY: Rust uses no memory in windows.
        unsafe { raw::update_va_mapping(self.va(window), entry, flags) }
    }

    /// Maps a frame without a flush: the window must have no translation of anything else.
    pub(crate) fn open(&self, window: usize, mfn: u64) -> bool {
        self.set(window, Mfn(mfn).address() | RW, UVMF_NONE) == 0
    }

    /// As [`Windows::open`], read-only.
    pub(crate) fn open_read_only(&self, window: usize, mfn: u64) -> bool {
        self.set(window, Mfn(mfn).address() | RO, UVMF_NONE) == 0
    }

    /// Clears the entry without a flush.
    pub(crate) fn close(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_NONE) == 0
    }

    /// Clears the entry, and flushes the translation of this vCPU.
    pub(crate) fn close_here(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_INVLPG) == 0
    }

    /// Clears the entry and flushes all vCPUs, as a well-behaved guest does.
    pub(crate) fn close_and_flush(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_TLB_FLUSH | UVMF_ALL) == 0
    }

    /// Reads a word; `None` if there is no translation.
    pub(crate) fn read(&self, window: usize, index: usize) -> Option<u64> {
        // SAFETY: reads through the window's translation, or traps.
        unsafe { catch::read(self.word(window, index)) }.ok()
    }

    /// Stores a word; true if there is a translation.
    pub(crate) fn store(&self, window: usize, index: usize, word: u64) -> bool {
        // SAFETY: Rust uses no memory in frames that windows were opened on.
        unsafe { catch::write(self.word(window, index), word) }.is_ok()
    }

    /// Fills the page of a window. Returns the number of words that were stored before there was no
    /// translation.
    pub(crate) fn fill(&self, window: usize, forgery: Forgery) -> usize {
        let first = self.word(window, 0);
        let done = AtomicUsize::new(0);
        // SAFETY: as in `store`; the closure owns nothing.
        let _ = unsafe {
            catch::catch(|| {
                for index in 0..WORDS {
                    let at = (first + index as u64 * 8) as *mut u64;
                    at.write_volatile(forgery.word(index));
                    // The store may trap without returning, so the count must be in memory before it.
                    compiler_fence(Ordering::SeqCst);
                    done.store(index + 1, Ordering::Relaxed);
                }
            })
        };
        done.into_inner()
    }

    /// Returns index and value of the first word of a mapped window that differs from what is wanted.
    pub(crate) fn first_other(
        &self,
        window: usize,
        wanted: impl Fn(usize) -> u64,
    ) -> Option<(usize, u64)> {
        let first = self.word(window, 0) as *const u64;
        (0..WORDS).find_map(|index| {
            // SAFETY: the caller has mapped a page there. Others may write to it, so the read is
            // volatile.
            let seen = unsafe { first.add(index).read_volatile() };
            (seen != wanted(index)).then_some((index, seen))
        })
    }
}
