//! The second vCPU: stores through every window that was opened, all the time, also when it is
//! closed, for as long as its TLB has the translation.

use crate::forgery::{Forgery, Shared};
use crate::windows::{WORDS, Windows};
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, compiler_fence};
use pinfold_guest::entry::{catch, time};

/// Windows that it can store through.
pub(crate) const MOST: usize = 192;
/// How long one waits for the other.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What the two vCPUs know of each other.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Windows that are stored through in each pass.
    newest: [AtomicUsize; 2],
    /// Windows for which no store has faulted since they were opened.
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

    /// The vCPU's work, until [`Writer::stop`].
    pub(crate) fn run(&self, windows: &Windows) {
        let mut turn = 0usize;
        while !self.over.load(SeqCst) {
            let [first, end] = [0, 1].map(|index| self.newest[index].load(SeqCst));
            let index = turn * 2 % WORDS;
            self.sweep(windows, first..end, index);
            // And one of the older ones.
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
            // SAFETY: no Rust memory is in a frame that windows were ever opened on; the closure
            // owns nothing.
            let stopped = unsafe {
                catch::catch(|| {
                    let mut next = at.load(Relaxed);
                    while next < range.end {
                        if self.alive[next].load(Relaxed) {
                            let word = (base + next as u64 * 4096) as *mut u64;
                            // What comes may not return: what is noted must be in memory.
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

    /// Ends its work.
    pub(crate) fn stop(&self) {
        self.over.store(true, SeqCst);
    }

    /// Tells it what to store.
    pub(crate) fn choose(&self, forgery: Forgery) {
        self.forgery.set(forgery);
    }

    /// Tells it which windows were opened just now; all before them are older ones.
    pub(crate) fn aim(&self, range: Range<usize>) {
        // Never an end with another's beginning that lies behind it: such a range is empty.
        self.newest[1].store(0, SeqCst);
        for window in range.clone() {
            self.alive[window].store(true, SeqCst);
        }
        self.newest[0].store(range.start, SeqCst);
        self.newest[1].store(range.end, SeqCst);
    }

    /// Waits until it has stored through all that it was told of; `false` if it never does. The
    /// waiting vCPU gives nothing up: another root on its processor would be a flush.
    pub(crate) fn wait_for_a_pass(&self) -> bool {
        // The pass that goes on may have begun before.
        let end = self.passes.load(SeqCst) + 2;
        let late = time::raw() + PATIENCE_NS;
        while self.passes.load(SeqCst) < end {
            core::hint::spin_loop();
            if time::raw() > late {
                return false;
            }
        }
        true
    }

    /// How many of these windows it has a translation for.
    pub(crate) fn alive(&self, range: Range<usize>) -> usize {
        range.filter(|&window| self.alive[window].load(SeqCst)).count()
    }

    /// Stores that it tried.
    pub(crate) fn stores(&self) -> u64 {
        self.stores.load(Relaxed)
    }
}
