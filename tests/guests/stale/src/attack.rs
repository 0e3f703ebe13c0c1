//! The state of an attack: windows, frames taken and given back, and counts of how often the guest
//! reached what it attacks.

use crate::forgery::Forgery;
use crate::windows::{WORDS, Windows};
use crate::writer::{MOST, Writer};
use core::ops::Range;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::Boot;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::smp;
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::println;
use pinfold_guest::raw::{self, grants, reservation};

/// Frames given back at the start, so that as many can be taken.
const ROOM: u64 = 2048;
/// Windows for frames of the grant table. QEMU's TLB has a slot for one page in 256: these windows
/// and the next ones use other slots than the windows whose translations must stay.
pub(crate) const TABLE_WINDOWS: Range<usize> = MOST..MOST + 64;
/// Attempts to make translations stale.
const TRIES: usize = 8;
/// Windows for inspecting frames.
const INSPECTION: Range<usize> = 256 + MOST..512;

/// How often each dangerous situation occurred.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Frames that were given back.
    pub(crate) given: u64,
    /// Stale translations: windows that were usable after their entry was cleared.
    pub(crate) stale: u64,
    /// Pages that the guest tried to overwrite after their frame was given back.
    pub(crate) strikes: u64,
    /// Pages of these that a store has reached.
    pub(crate) landed: u64,
}

/// The state of an attack.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) fixture: TableFixture,
    pub(crate) windows: Windows,
    /// The domain's number.
    pub(crate) own: u16,
    pub(crate) tally: Tally,
    /// The first window that was not used since the last flush.
    next: usize,
    inspection: usize,
}

impl Attack {
    /// Makes the windows, and gives frames back so that others can be taken.
    pub(crate) fn set_up(boot: &Boot, check: &mut Check) -> Option<Attack> {
        let frames = Frames::new(boot);
        let mut fixture = TableFixture::new(frames);
        let own = grants::own_number();
        check.holds("the domain has a number", own.is_some());
        let windows = Windows::new(&mut fixture, 1);
        check.holds("windows can be made", windows.is_some());
        let spare = spare(&frames, ROOM);
        check.equal("room for frames", reservation::give_back(&spare), spare.len());
        let inspection = INSPECTION.start;
        let attack = Attack {
            fixture,
            windows: windows?,
            own: own?,
            tally: Tally::default(),
            next: 0,
            inspection,
        };
        Some(attack)
    }

    /// Returns windows without any translation.
    pub(crate) fn fresh(&mut self, count: usize, writer: Option<&Writer>) -> Range<usize> {
        assert!(count <= MOST);
        if self.next + count > MOST {
            if let Some(writer) = writer {
                // It must have finished with the old windows before they are used again.
                writer.set_targets(0..0);
                writer.wait_for_pass();
            }
            // SAFETY: a flush.
            unsafe { raw::mmuext(MmuextCmd::TlbFlushAll as u32, 0, 0) };
            self.next = 0;
        }
        let first = self.next;
        self.next += count;
        first..self.next
    }

    /// Leaves stale translations of frames, which belong to the guest and are mapped nowhere else, in
    /// the TLB of each vCPU. Returns the windows.
    pub(crate) fn leave_stale(&mut self, frames: &[u64], writer: Option<&Writer>) -> Range<usize> {
        let range = self.fresh(frames.len(), writer);
        let before = self.tally.stale;
        for _ in 0..TRIES {
            for (window, &frame) in range.clone().zip(frames) {
                self.windows.open(window, frame);
            }
            self.tally.stale = before;
            self.make_stale(range.clone(), writer);
            // If the vCPU was descheduled meanwhile, its TLB was flushed: try again.
            if self.tally.stale > before {
                break;
            }
        }
        range
    }

    /// Uses these windows on each vCPU, clears their entries, and counts the windows that can still be
    /// used.
    pub(crate) fn make_stale(&mut self, range: Range<usize>, writer: Option<&Writer>) {
        let windows = self.windows;
        range.clone().for_each(|window| {
            windows.store(window, 0, 0);
        });
        if let Some(writer) = writer {
            writer.set_targets(range.clone());
            writer.wait_for_pass();
        }
        range.clone().for_each(|window| {
            windows.close(window);
        });
        let own = range.clone().filter(|&window| windows.store(window, 1, 0)).count();
        let others = writer.map_or(0, |writer| {
            writer.wait_for_pass();
            writer.alive(range.clone())
        });
        self.tally.stale += own.max(others) as u64;
    }

    /// Takes frames, leaves stale translations of them and gives them back. Returns both.
    pub(crate) fn give_back_stale(
        &mut self,
        count: usize,
        writer: Option<&Writer>,
    ) -> (alloc::vec::Vec<u64>, Range<usize>) {
        let frames = reservation::take(count);
        let range = self.leave_stale(&frames, writer);
        self.tally.given += reservation::give_back(&frames) as u64;
        (frames, range)
    }

    /// Tries to overwrite frames that no longer belong to the guest.
    pub(crate) fn store_through(&mut self, range: Range<usize>, forgery: Forgery) {
        for window in range {
            self.tally.strikes += 1;
            self.tally.landed += u64::from(self.windows.fill(window, forgery) > 0);
        }
    }

    /// Returns the first word of a frame that differs from what is wanted; `None` also if the frame
    /// can't be mapped.
    pub(crate) fn first_other(
        &mut self,
        frame: u64,
        wanted: impl Fn(usize) -> u64,
    ) -> Option<(usize, u64)> {
        self.look(frame, |windows, window| windows.first_other(window, wanted)).flatten()
    }

    /// Whether a frame contains this word.
    pub(crate) fn has(&mut self, frame: u64, word: u64) -> bool {
        let seen = |windows: Windows, window| {
            (0..WORDS).any(|index| windows.read(window, index) == Some(word))
        };
        self.look(frame, seen) == Some(true)
    }

    /// Inspects a frame through a window of its own; `None` if it can't be mapped.
    fn look<T>(&mut self, frame: u64, look: impl FnOnce(Windows, usize) -> T) -> Option<T> {
        let window = self.scratch();
        if !self.windows.open_read_only(window, frame) {
            return None;
        }
        let found = look(self.windows, window);
        self.windows.close_here(window);
        Some(found)
    }

    /// Returns a window that no other vCPU uses.
    pub(crate) fn scratch(&mut self) -> usize {
        let window = self.inspection;
        self.inspection += 1;
        if self.inspection == INSPECTION.end {
            self.inspection = INSPECTION.start;
        }
        window
    }

    /// Prints the counts since the last report. At least one of `share` frames must have had a stale
    /// translation when it was given back: code and stacks need slots of the TLB too, and where vCPUs
    /// share a processor, each switch is a flush.
    pub(crate) fn report(
        &mut self,
        phase: &str,
        more: core::fmt::Arguments<'_>,
        share: u64,
        check: &mut Check,
    ) {
        let Tally { given, stale, strikes, landed } = core::mem::take(&mut self.tally);
        println!(
            "STALE {phase}: frames_given_back={given} stale_translations={stale} strikes={strikes} landed={landed} {more}"
        );
        check.holds("frames were given back", given > 0);
        if in_container() && smp::count() == 1 {
            // QEMU's processor flushes its TLB whenever it enters or leaves the container, so one vCPU
            // has no stale translation after a hypercall. Another vCPU that stays inside has.
            return;
        }
        check.holds("enough translations were stale", stale >= given / share);
    }
}

/// Returns frames that the builder left free and didn't map, from the end.
pub(crate) fn spare(frames: &Frames, most: u64) -> alloc::vec::Vec<u64> {
    let mapped = frames.mapped_end().0;
    let first = mapped.max(frames.count().saturating_sub(most));
    (first..frames.count()).filter_map(|pfn| frames.mfn(Pfn(pfn))).map(|mfn| mfn.0).collect()
}

/// The contents of an empty page.
pub(crate) fn zeros(index: usize) -> u64 {
    debug_assert!(index < WORDS);
    0
}
