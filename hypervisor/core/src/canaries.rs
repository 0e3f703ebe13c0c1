//! Canaries: frames that domains gave back, which the hypervisor takes as its own, fills with a
//! pattern, and looks at again and again. They are what its books in such frames would be: a guest
//! that can still write to one through a stale translation shows, whatever it writes.
//!
//! For tests: the frames are of no use, and looking takes time. There are at most [`MAX_CANARIES`]; a new one
//! takes the oldest one's place, which is looked at once more and freed.

use crate::frames::FrameAllocator;
use crate::grant::pages::{FrameWords, WORDS_PER_FRAME};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::{HypervisorFrames, Index, Mfn, Platform, Purpose};
use spin::RelaxStrategy;
use spin::mutex::Mutex;

/// Canaries at most.
pub const MAX_CANARIES: usize = 128;
/// One of so many frames that are given back becomes one. To take a frame is a flush, after which
/// nothing that was given back before it can be written to: the others are left to be taken
/// otherwise.
const PERIOD: u64 = 5;

/// A canary that somebody wrote to, and the first word that is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenCanary {
    /// The frame.
    pub frame: Mfn,
    /// First byte of the word.
    pub offset: usize,
    /// What was written there.
    pub expected: u64,
    /// What is there.
    pub seen: u64,
}

/// Those that there are, the oldest of which is at `next` when there are [`MAX_CANARIES`].
#[derive(Debug)]
struct Ring {
    frames: ArrayVec<HypervisorFrames, MAX_CANARIES>,
    next: usize,
}

/// The canaries. `M` is how their words are reached, `R` how a CPU waits for the lock.
#[derive(Debug)]
pub struct Canaries<M, R> {
    memory: M,
    ring: Mutex<Ring, R>,
    /// Frames that were given back.
    released: AtomicU64,
    /// Times that one was looked at.
    looks: AtomicU64,
    planted: AtomicU64,
    broken: AtomicU64,
}

/// What is written to a word: another one for each word of the machine.
fn pattern(frame: Mfn, index: usize) -> u64 {
    (frame.get() << 9 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6361_6e61_7279_2121
}

impl<M: FrameWords, R: RelaxStrategy> Canaries<M, R> {
    /// None yet.
    pub const fn new(memory: M) -> Canaries<M, R> {
        Canaries {
            memory,
            ring: Mutex::new(Ring { frames: ArrayVec::new_const(), next: 0 }),
            released: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            planted: AtomicU64::new(0),
            broken: AtomicU64::new(0),
        }
    }

    /// A domain gave a frame back, which is free now: looks at one canary, and takes the frame as
    /// another if it is its turn. What is broken is told.
    pub fn on_release<P: Platform>(
        &self,
        allocator: &FrameAllocator<'_, P, R>,
        frame: Mfn,
        tell: &mut dyn FnMut(BrokenCanary),
    ) {
        let turn = self.released.fetch_add(1, Ordering::Relaxed);
        self.check_next(tell);
        if !turn.is_multiple_of(PERIOD) {
            return;
        }
        // Somebody else may have taken it by now.
        let Some(canary) = allocator.alloc_this_frame(frame, Purpose::Canary) else { return };
        for index in 0..WORDS_PER_FRAME {
            self.word(frame, index).store(pattern(frame, index), Ordering::Relaxed);
        }
        self.planted.fetch_add(1, Ordering::Relaxed);
        // Flushes and frees are not for inside the lock, which the audit wants, too.
        if let Some(oldest) = self.ring.lock().push(canary) {
            self.check(oldest.first()).into_iter().for_each(tell);
            allocator.free_hypervisor_frames(oldest);
        }
    }

    /// Looks at one of them: another one each time.
    pub fn check_next(&self, tell: &mut dyn FnMut(BrokenCanary)) {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        // Telling may take time, and is not for inside the lock either.
        let broken = {
            let ring = self.ring.lock();
            let which = (look as usize).checked_rem(ring.frames.len());
            which.and_then(|which| self.check(ring.frames[which].first()))
        };
        broken.into_iter().for_each(tell);
    }

    /// Looks at all of them, while nobody else can: for an audit.
    pub fn check_all(&self, tell: &mut dyn FnMut(BrokenCanary)) {
        let ring = self.ring.lock();
        ring.frames.iter().filter_map(|canary| self.check(canary.first())).for_each(tell);
    }

    /// Canaries that there were.
    pub fn planted(&self) -> u64 {
        self.planted.load(Ordering::Relaxed)
    }

    /// How often one was found broken.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn word(&self, frame: Mfn, index: usize) -> &AtomicU64 {
        self.memory.word(frame, Index::new(index))
    }

    /// Looks at a frame's words: the first that is wrong. All are mended, so that each write is told
    /// once. Relaxed: only a CPU that has no business there can be writing.
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
    /// Adds one, and takes the oldest out if there is no room.
    fn push(&mut self, canary: HypervisorFrames) -> Option<HypervisorFrames> {
        if let Err(full) = self.frames.try_push(canary) {
            let place = self.next;
            self.next = (place + 1) % MAX_CANARIES;
            return Some(core::mem::replace(&mut self.frames[place], full.element()));
        }
        None
    }
}
