//! Canaries: frames that domains released, which the hypervisor takes, fills with a pattern, and checks
//! again and again. They stand for its own data in such frames: a guest that can still write to one
//! through a stale translation is noticed, whatever it writes.
//!
//! For tests: the frames are not used otherwise, and checking takes time. There are at most [`MAX_CANARIES`]; a new one
//! replaces the oldest, which is checked once more and freed.

use crate::frames::FrameAllocator;
use crate::grant::pages::{FrameWords, WORDS_PER_FRAME};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::{HypervisorFrames, Index, Mfn, Platform, Purpose};
use spin::RelaxStrategy;
use spin::mutex::Mutex;

/// Most canaries.
pub const MAX_CANARIES: usize = 128;
/// One in so many released frames becomes a canary. Allocating a frame flushes TLBs, and then no frame
/// that was released before can be written to any more; so most are left alone.
const PERIOD: u64 = 5;

/// A canary that was written to, and its first word that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenCanary {
    /// The frame.
    pub frame: Mfn,
    /// Offset of the word, in bytes.
    pub offset: usize,
    /// What it should be.
    pub expected: u64,
    /// What it is.
    pub seen: u64,
}

/// The canaries. If there are [`MAX_CANARIES`], the oldest is at `next`.
#[derive(Debug)]
struct Ring {
    frames: ArrayVec<HypervisorFrames, MAX_CANARIES>,
    next: usize,
}

/// The canaries of the machine. `M` is how their words are accessed, `R` how a CPU waits for the lock.
#[derive(Debug)]
pub struct Canaries<M, R> {
    memory: M,
    ring: Mutex<Ring, R>,
    /// Frames that were released.
    released: AtomicU64,
    /// Checks of one canary.
    checks: AtomicU64,
    planted: AtomicU64,
    broken: AtomicU64,
}

/// The pattern of a word: different for each word of the machine.
fn pattern(frame: Mfn, index: usize) -> u64 {
    (frame.get() << 9 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6361_6e61_7279_2121
}

impl<M: FrameWords, R: RelaxStrategy> Canaries<M, R> {
    /// No canaries.
    pub const fn new(memory: M) -> Canaries<M, R> {
        Canaries {
            memory,
            ring: Mutex::new(Ring { frames: ArrayVec::new_const(), next: 0 }),
            released: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            planted: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        }
    }

    /// To be called when a domain has released a frame: checks one canary, and makes one in five such
    /// frames a new one. Calls `report` for broken ones.
    pub fn on_release<P: Platform>(
        &self,
        allocator: &FrameAllocator<'_, P, R>,
        frame: Mfn,
        report: &mut dyn FnMut(BrokenCanary),
    ) {
        let turn = self.released.fetch_add(1, Ordering::Relaxed);
        self.check_next(report);
        if !turn.is_multiple_of(PERIOD) {
            return;
        }
        // It may have been allocated by now.
        let Some(canary) = allocator.alloc_this_frame(frame, Purpose::Canary) else { return };
        for index in 0..WORDS_PER_FRAME {
            self.word(frame, index).store(pattern(frame, index), Ordering::Relaxed);
        }
        self.planted.fetch_add(1, Ordering::Relaxed);
        // Outside the lock, which the audit takes too: this flushes and frees.
        if let Some(oldest) = self.ring.lock().push(canary) {
            self.check(oldest.first()).into_iter().for_each(report);
            allocator.free_hypervisor_frames(oldest);
        }
    }

    /// Checks one of them: another one each time.
    pub fn check_next(&self, report: &mut dyn FnMut(BrokenCanary)) {
        let check = self.checks.fetch_add(1, Ordering::Relaxed);
        // The report is outside the lock, since it may take time.
        let broken = {
            let ring = self.ring.lock();
            #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
            let which = (check as usize).checked_rem(ring.frames.len());
            which.and_then(|which| self.check(ring.frames[which].first()))
        };
        broken.into_iter().for_each(report);
    }

    /// Checks all of them, with the lock held: for an audit.
    pub fn check_all(&self, report: &mut dyn FnMut(BrokenCanary)) {
        let ring = self.ring.lock();
        ring.frames.iter().filter_map(|canary| self.check(canary.first())).for_each(report);
    }

    /// Number of canaries that were made.
    pub fn planted(&self) -> u64 {
        self.planted.load(Ordering::Relaxed)
    }

    /// How many checks found a broken one.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn word(&self, frame: Mfn, index: usize) -> &AtomicU64 {
        self.memory.word(frame, Index::new(index))
    }

    /// Checks a frame's words and returns the first that changed. Restores all of them, so that each
    /// write is reported once. Relaxed: no CPU should be writing there.
    fn check(&self, frame: Mfn) -> Option<BrokenCanary> {
        let mut first = None;
        for index in 0..WORDS_PER_FRAME {
            let expected = pattern(frame, index);
            let word = self.word(frame, index);
            if word.load(Ordering::Relaxed) != expected {
                let seen = word.swap(expected, Ordering::Relaxed);
                first.get_or_insert(BrokenCanary { frame, offset: index * 8, expected, seen });
            }
        }
        self.broken.fetch_add(u64::from(first.is_some()), Ordering::Relaxed);
        first
    }
}

impl Ring {
    /// Adds one, and removes the oldest if there is no room.
    fn push(&mut self, canary: HypervisorFrames) -> Option<HypervisorFrames> {
        if let Err(full) = self.frames.try_push(canary) {
            let place = self.next;
            self.next = (place + 1) % MAX_CANARIES;
            return Some(core::mem::replace(&mut self.frames[place], full.element()));
        }
        None
    }
}
