//! Windows: places in the address space, behind a table of their own, that frames are mapped at and
//! taken away from without a flush.

use core::sync::atomic::{AtomicUsize, Ordering, compiler_fence};
use pinfold_abi::mmu::{UVMF_ALL, UVMF_INVLPG, UVMF_NONE, UVMF_TLB_FLUSH};
use pinfold_guest::addr::{Index, Pfn, Vaddr};
use pinfold_guest::entry::VIRT_BASE;
use pinfold_guest::entry::catch;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

use crate::forgery::Forgery;

/// Words of a page.
pub(crate) const WORDS: usize = 512;
/// Windows of one table.
pub(crate) const A_TABLE: usize = 512;

/// Places behind some tables, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    base: Vaddr,
    count: usize,
}

impl Windows {
    /// Makes so many tables of windows with frames of the bench, in the last free slots of the boot
    /// address space. `None` if there is no room, or the hypervisor refuses.
    pub(crate) fn new(fixture: &mut TableFixture, tables: usize) -> Option<Windows> {
        let frames = *fixture.frames();
        let slot = |index: usize| Vaddr(VIRT_BASE).page((index * A_TABLE) as u64);
        let entry = |index| frames.walk(frames.boot_root(), slot(index), 2);
        let end = (1..=A_TABLE).rev().find(|end| entry(end - 1).is_some_and(|(_, e)| e == 0))?;
        let first = end.checked_sub(tables)?;
        for index in first..end {
            let (above, free) = entry(index)?;
            let table: Pfn = fixture.lose();
            fixture.seal(table);
            // SAFETY: an empty table at a slot that nothing is behind.
            let linked = unsafe {
                raw::mmu_update(above.entry_address(Index::new(index)), fixture.entry(table, RW))
            };
            if free != 0 || linked != 0 {
                return None;
            }
        }
        Some(Windows { base: slot(first), count: tables * A_TABLE })
    }

    /// Address of a window.
    pub(crate) fn va(&self, window: usize) -> Vaddr {
        assert!(window < self.count);
        self.base.page(window as u64)
    }

    fn word(&self, window: usize, index: usize) -> u64 {
        assert!(index < WORDS);
        self.va(window).0 + index as u64 * 8
    }

    fn set(&self, window: usize, entry: u64, flags: u64) -> i64 {
        // SAFETY: windows hold nothing of Rust's.
        unsafe { raw::update_va_mapping(self.va(window), entry, flags) }
    }

    /// Maps a frame. Nobody is flushed: the window must have no translation of anything else.
    pub(crate) fn open(&self, window: usize, mfn: u64) -> bool {
        self.set(window, mfn << 12 | RW, UVMF_NONE) == 0
    }

    /// As [`Windows::open`], to read only.
    pub(crate) fn open_read_only(&self, window: usize, mfn: u64) -> bool {
        self.set(window, mfn << 12 | RO, UVMF_NONE) == 0
    }

    /// Takes the mapping away, and flushes nobody.
    pub(crate) fn close(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_NONE) == 0
    }

    /// Takes the mapping away, and the running vCPU's translation.
    pub(crate) fn close_here(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_INVLPG) == 0
    }

    /// Takes the mapping away, as a well-behaved guest does.
    pub(crate) fn close_and_flush(&self, window: usize) -> bool {
        self.set(window, 0, UVMF_TLB_FLUSH | UVMF_ALL) == 0
    }

    /// Reads a word, if there is a translation.
    pub(crate) fn read(&self, window: usize, index: usize) -> Option<u64> {
        // SAFETY: reads what the window's translation leads to, or traps.
        unsafe { catch::read(self.word(window, index)) }.ok()
    }

    /// Stores a word; whether there is a translation.
    pub(crate) fn store(&self, window: usize, index: usize, word: u64) -> bool {
        // SAFETY: no Rust memory is in a frame that windows were ever opened on.
        unsafe { catch::write(self.word(window, index), word) }.is_ok()
    }

    /// Fills the page that a translation leads to; how many words were stored before there was none.
    pub(crate) fn fill(&self, window: usize, forgery: Forgery) -> usize {
        let first = self.word(window, 0);
        let done = AtomicUsize::new(0);
        // SAFETY: as in `store`; the closure owns nothing.
        let _ = unsafe {
            catch::catch(|| {
                for index in 0..WORDS {
                    let at = (first + index as u64 * 8) as *mut u64;
                    at.write_volatile(forgery.word(index));
                    // The store before may not return: what is counted must be in memory.
                    compiler_fence(Ordering::SeqCst);
                    done.store(index + 1, Ordering::Relaxed);
                }
            })
        };
        done.into_inner()
    }

    /// The first word of a window that is mapped which is not what it should be: where, and what.
    pub(crate) fn first_other(
        &self,
        window: usize,
        wanted: impl Fn(usize) -> u64,
    ) -> Option<(usize, u64)> {
        let first = self.word(window, 0) as *const u64;
        (0..WORDS).find_map(|index| {
            // SAFETY: the caller has a page there; others may write to it, which a volatile read
            // bears.
            let seen = unsafe { first.add(index).read_volatile() };
            (seen != wanted(index)).then_some((index, seen))
        })
    }
}
