//! What an attacker has: windows, frames that come and go, and counts of how often it reached what it
//! wanted to reach.

use crate::forgery::Forgery;
use crate::windows::{WORDS, Windows};
use crate::writer::{MOST, Writer};
use core::ops::Range;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::Boot;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw::{self, grants, reservation};

/// Frames that are given back for good: so many may be taken.
const ROOM: u64 = 2048;
/// Windows for frames of the grant table. QEMU's translator has a slot for one page in 256: these
/// and the next take nothing away from the windows that are to stay.
pub(crate) const TABLE_WINDOWS: Range<usize> = MOST..MOST + 64;
/// Tries to leave stale translations.
const TRIES: usize = 8;
/// Windows to look at frames with.
const LOOKING: Range<usize> = 256 + MOST..512;

/// How often which dangerous situation came about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Frames given back with a stale translation in a TLB.
    pub(crate) given: u64,
    /// Stale translations: stores that landed after the mapping was gone, in frames that were the
    /// guest's own still.
    pub(crate) stale: u64,
    /// Pages that were tried to be filled after their frame was given back.
    pub(crate) strikes: u64,
    /// Those where a store landed.
    pub(crate) landed: u64,
}

/// An attacker's things.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) fixture: TableFixture,
    pub(crate) windows: Windows,
    /// The domain's own number.
    pub(crate) own: u16,
    pub(crate) tally: Tally,
    /// The next window that was not used since the last flush.
    next: usize,
    looking: usize,
}

impl Field {
    /// Makes the windows, and room to take frames.
    pub(crate) fn set_up(boot: &Boot, check: &mut Check) -> Option<Field> {
        let frames = Frames::new(boot);
        let mut fixture = TableFixture::new(frames);
        let own = grants::own_number();
        check.holds("the domain has a number", own.is_some());
        let windows = Windows::new(&mut fixture, 1);
        check.holds("windows can be made", windows.is_some());
        let spare = spare(&frames, ROOM);
        check.equal("room for frames", reservation::give_back(&spare), spare.len());
        let looking = LOOKING.start;
        let field = Field {
            fixture,
            windows: windows?,
            own: own?,
            tally: Tally::default(),
            next: 0,
            looking,
        };
        Some(field)
    }

    /// So many windows without any translation.
    pub(crate) fn fresh(&mut self, count: usize, writer: Option<&Writer>) -> Range<usize> {
        assert!(count <= MOST);
        if self.next + count > MOST {
            if let Some(writer) = writer {
                // It must be through with the old ones before they mean something else.
                writer.aim(0..0);
                writer.wait_for_a_pass();
            }
            // SAFETY: a flush.
            unsafe { raw::mmuext(MmuextCmd::TlbFlushAll as u32, 0, 0) };
            self.next = 0;
        }
        let first = self.next;
        self.next += count;
        first..self.next
    }

    /// Leaves stale translations of these frames, which are the guest's own and mapped nowhere else,
    /// in the TLB of each vCPU; the windows.
    pub(crate) fn leave_stale(&mut self, frames: &[u64], writer: Option<&Writer>) -> Range<usize> {
        let range = self.fresh(frames.len(), writer);
        let before = self.tally.stale;
        for _ in 0..TRIES {
            for (window, &frame) in range.clone().zip(frames) {
                self.windows.open(window, frame);
            }
            self.tally.stale = before;
            self.make_stale(range.clone(), writer);
            // A processor that was taken away for a while has forgotten all.
            if self.tally.stale > before {
                break;
            }
        }
        range
    }

    /// Uses what these windows map on each vCPU, takes the mappings away, and counts the windows that
    /// can be used still.
    pub(crate) fn make_stale(&mut self, range: Range<usize>, writer: Option<&Writer>) {
        let windows = self.windows;
        range.clone().for_each(|window| {
            windows.store(window, 0, 0);
        });
        if let Some(writer) = writer {
            writer.aim(range.clone());
            writer.wait_for_a_pass();
        }
        range.clone().for_each(|window| {
            windows.close(window);
        });
        let mine = range.clone().filter(|&window| windows.store(window, 1, 0)).count();
        let its = writer.map_or(0, |writer| {
            writer.wait_for_a_pass();
            writer.alive(range.clone())
        });
        self.tally.stale += mine.max(its) as u64;
    }

    /// Takes frames, leaves stale translations of them and gives them back: the frames and windows.
    pub(crate) fn bait(
        &mut self,
        count: usize,
        writer: Option<&Writer>,
    ) -> (alloc::vec::Vec<u64>, Range<usize>) {
        let frames = reservation::take(count);
        let range = self.leave_stale(&frames, writer);
        self.tally.given += reservation::give_back(&frames) as u64;
        (frames, range)
    }

    /// Tries to fill the pages of frames that are not the guest's any more.
    pub(crate) fn strike(&mut self, range: Range<usize>, forgery: Forgery) {
        for window in range {
            self.tally.strikes += 1;
            self.tally.landed += u64::from(self.windows.fill(window, forgery) > 0);
        }
    }

    /// The first word of a frame that is not as it should be; `None` also for a frame that can't be
    /// looked at.
    pub(crate) fn first_other(
        &mut self,
        frame: u64,
        wanted: impl Fn(usize) -> u64,
    ) -> Option<(usize, u64)> {
        self.look(frame, |windows, window| windows.first_other(window, wanted)).flatten()
    }

    /// Whether a frame has this word somewhere.
    pub(crate) fn has(&mut self, frame: u64, word: u64) -> bool {
        let seen = |windows: Windows, window| {
            (0..WORDS).any(|index| windows.read(window, index) == Some(word))
        };
        self.look(frame, seen) == Some(true)
    }

    /// Looks at a frame through a window of its own; `None` if it can't be mapped.
    fn look<T>(&mut self, frame: u64, look: impl FnOnce(Windows, usize) -> T) -> Option<T> {
        let window = self.scratch();
        if !self.windows.open_read_only(window, frame) {
            return None;
        }
        let found = look(self.windows, window);
        self.windows.close_here(window);
        Some(found)
    }

    /// A window that no other vCPU uses.
    pub(crate) fn scratch(&mut self) -> usize {
        let window = self.looking;
        self.looking += 1;
        if self.looking == LOOKING.end {
            self.looking = LOOKING.start;
        }
        window
    }

    /// Says what was reached since the last time, and holds it against what must be: a stale
    /// translation for one of `share` frames. Code and stacks want slots of the TLB, too, and where
    /// vCPUs take turns on a processor, each change is a flush.
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
        check.holds("many with a stale translation", stale >= given / share);
    }
}

/// Frames that the builder left free and did not map, from the end.
pub(crate) fn spare(frames: &Frames, most: u64) -> alloc::vec::Vec<u64> {
    let mapped = frames.mapped_end().0;
    let first = mapped.max(frames.count().saturating_sub(most));
    (first..frames.count()).filter_map(|pfn| frames.mfn(Pfn(pfn))).map(|mfn| mfn.0).collect()
}

/// A page of zeros.
pub(crate) fn zeros(index: usize) -> u64 {
    debug_assert!(index < WORDS);
    0
}
