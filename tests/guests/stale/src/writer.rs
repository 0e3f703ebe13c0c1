//! The second vCPU: it stores through every window that was opened, all the time. After a window is
//! closed it goes on for as long as its TLB has the translation.

use crate::forgery::{Forgery, Shared};
use crate::windows::{WORDS, Windows};
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, compiler_fence};
use pinfold_guest::addr::PAGE_SIZE;
use pinfold_guest::entry::{catch, time};

/// Windows that it can store through.
pub(crate) const MOST: usize = 192;
/// How long one vCPU waits for the other.
const TIMEOUT_NS: u64 = 10_000_000_000;

/// What the two vCPUs tell each other.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The windows opened last: all of them are stored through in each pass.
    newest: [AtomicUsize; 2],
    /// Windows through which no store has faulted since they were opened.
    alive: [AtomicBool; MOST],
    forgery: Shared,
    passes: AtomicU64,
    stores: AtomicU64,
    over: AtomicBool,
}

impl Writer {
    pub(crate) const fn new() -> Writer {
        Writer {
            newest: [const { AtomicUsize::new(0) }; 2],
            alive: [const { AtomicBool::new(false) }; MOST],
            forgery: Shared::new(),
            passes: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Stores until [`Writer::stop`]. The second vCPU runs this.
    pub(crate) fn run(&self, windows: &Windows) {
        let mut turn = 0usize;
        while !self.over.load(SeqCst) {
            let [first, end] = [0, 1].map(|index| self.newest[index].load(SeqCst));
            let index = turn * 2 % WORDS;
            self.sweep(windows, first..end, index);
            // And through one of the older windows.
            if let Some(old) = turn.checked_rem(first) {
                self.sweep(windows, old..old + 1, index);
            }
            turn += 1;
            self.passes.fetch_add(1, SeqCst);
        }
    }

    /// Stores two words through each of these windows that may have a translation.
    fn sweep(&self, windows: &Windows, range: Range<usize>, index: usize) {
        let Forgery { even, odd } = self.forgery.get();
        let at = AtomicUsize::new(range.start);
        while at.load(Relaxed) < range.end {
            let base = windows.va(0).0 + index as u64 * 8;
            // SAFETY: Rust uses no memory in frames that windows were opened on; the closure
            // owns nothing.
            let stopped = unsafe {
                catch::catch(|| {
                    let mut next = at.load(Relaxed);
                    while next < range.end {
                        if self.alive[next].load(Relaxed) {
                            let word = (base + next as u64 * PAGE_SIZE) as *mut u64;
                            // The store may trap without returning, so this must be in memory before it.
                            compiler_fence(SeqCst);
                            word.write_volatile(even);
                            word.add(1).write_volatile(odd);
                        }
                        next += 1;
                        at.store(next, Relaxed);
                    }
                })
            };
            if stopped.is_err() {
                let dead = at.load(Relaxed);
                self.alive[dead].store(false, Relaxed);
                at.store(dead + 1, Relaxed);
            }
        }
        self.stores.fetch_add(range.len() as u64, Relaxed);
    }

    /// Makes [`Writer::run`] return.
    pub(crate) fn stop(&self) {
        self.over.store(true, SeqCst);
    }

    /// Sets the words that it stores.
    pub(crate) fn set_forgery(&self, forgery: Forgery) {
        self.forgery.set(forgery);
    }

    /// Sets the windows that were opened last; all before them are older ones.
    pub(crate) fn set_targets(&self, range: Range<usize>) {
        // In this order a reader that sees parts of two ranges sees an empty one.
        self.newest[1].store(0, SeqCst);
        for window in range.clone() {
            self.alive[window].store(true, SeqCst);
        }
        self.newest[0].store(range.start, SeqCst);
        self.newest[1].store(range.end, SeqCst);
    }

    /// Waits until it has stored through all windows that were set; `false` if it never does. The
    /// waiting vCPU doesn't block: another root on its processor would flush its TLB.
    pub(crate) fn wait_for_pass(&self) -> bool {
        // The pass in progress may have begun before the change.
        let end = self.passes.load(SeqCst) + 2;
        let late = time::raw() + TIMEOUT_NS;
        while self.passes.load(SeqCst) < end {
            core::hint::spin_loop();
            if time::raw() > late {
                return false;
            }
        }
        true
    }

    /// Counts the windows of a range for which it has a translation.
    pub(crate) fn alive(&self, range: Range<usize>) -> usize {
        range.filter(|&window| self.alive[window].load(SeqCst)).count()
    }

    /// Returns the number of stores that it tried.
    pub(crate) fn stores(&self) -> u64 {
        self.stores.load(Relaxed)
    }
}
