//! The domain that is attacked. It uses its memory as usual, and checks every word of it.

use super::{ACCEPT, is_there, wait};
use crate::Plan;
use crate::attack::{spare, zeros};
use crate::forgery::Forgery;
use crate::self_grant::SelfGrant;
use crate::table::{Foreign, GrantTable, MOST_FRAMES};
use crate::windows::{PER_TABLE, WORDS, Windows};
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_abi::grant::EntryFlags;
use pinfold_abi::mmu::MmuextCmd;
use pinfold_guest::entry::Boot;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::fixtures::Random;
use pinfold_guest::fixtures::{Check, TableFixture};
use pinfold_guest::println;
use pinfold_guest::raw::{self, grants, reservation};

/// Tables of windows; each window has a page that is checked.
const TABLES: usize = 2;
const PAGES: usize = TABLES * PER_TABLE;
/// Pages that are given back and taken in a round.
const BATCH: usize = 32;
/// Rounds at least.
const ROUNDS: u64 = 8;
/// Rounds between two checks of all pages.
const ROUNDS_BETWEEN_LOOKS: u64 = 32;
/// Rounds between two growths of the grant table or of the table of handles.
const ROUNDS_BETWEEN_GROWTHS: u64 = 4;
/// Frames of handles, at most.
const MOST_HANDLE_FRAMES: u64 = 48;
/// Frames that are taken at once when the others have ended, and how often.
const SWEEP: usize = 8192;
const SWEEPS: usize = 6;

/// A page that is mapped and has words of its own.
#[derive(Clone, Copy, Debug)]
struct Page {
    pfn: u64,
    mfn: u64,
    /// How many frames it has had.
    generation: u64,
}

impl Page {
    /// Returns the word at an index: different for each index, page and frame.
    fn word(self, index: usize) -> u64 {
        let place = self.pfn << 9 | index as u64;
        (place ^ self.generation << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }
}

/// What was done, and what was wrong.
#[derive(Debug, Default)]
struct Done {
    rounds: u64,
    taken: u64,
    growths: u64,
    handles: u64,
    pins: u64,
    accepted: u64,
    swept: u64,
    /// Frames that came with contents.
    dirty: u64,
    /// Words that changed without being written.
    changed: u64,
    /// Frames of the grant table with foreign words or status.
    foreign: u64,
    /// Handles that were lost.
    lost: u64,
}

struct Victim {
    /// A window for each page.
    windows: Windows,
    /// Windows of the grant table, and for inspecting frames.
    side: Windows,
    pages: Vec<Page>,
    table: GrantTable,
    self_grant: SelfGrant,
    random: Random,
    done: Done,
}

/// The window for inspecting frames that have none.
const INSPECTION: usize = PER_TABLE - 1;

pub(super) fn run(boot: &Boot, plan: &Plan, check: &mut Check) {
    let Some(mut victim) = Victim::set_up(boot, plan, check) else {
        check.holds("a victim", false);
        return;
    };
    for &peer in &plan.peers {
        check.holds("a peer is there", wait(|| is_there(peer)));
    }
    let others = || plan.peers.iter().any(|&peer| is_there(peer));
    while (others() || victim.done.rounds < ROUNDS) && victim.is_well() {
        victim.round(plan, check);
    }
    victim.look_at(0..PAGES);
    if victim.is_well() {
        victim.sweep(check);
        victim.look_at(0..PAGES);
    }
    println!("STALE victim: {:?}", victim.done);
    let Done { dirty, changed, foreign, lost, .. } = victim.done;
    check.equal("frames come empty", dirty, 0);
    check.equal("words stay as they were written", changed, 0);
    check.equal("nothing foreign in the grant table", foreign, 0);
    check.equal("no handle is lost", lost, 0);
    check.holds("frames came", victim.done.taken > PAGES as u64);
    check.holds("the grant table grew", victim.done.growths > 0);
}

impl Victim {
    fn set_up(boot: &Boot, plan: &Plan, check: &mut Check) -> Option<Victim> {
        let frames = Frames::new(boot);
        // Before windows are emptied: that would look like the end of the mapped memory.
        let given = spare(&frames, u64::MAX);
        check.equal("there is room for frames", reservation::give_back(&given), given.len());
        let mut fixture = TableFixture::new(frames);
        let own = grants::own_number()?;
        let side = Windows::new(&mut fixture, 1)?;
        let windows = Windows::new(&mut fixture, TABLES)?;
        let table = GrantTable::new(side)?;
        let self_grant = SelfGrant::new(&mut fixture, &table, own)?;
        let first = frames.count() - PAGES as u64;
        let pages = (first..frames.count()).map(|pfn| Page { pfn, mfn: 0, generation: 0 });
        let (pages, random) = (pages.collect(), Random::new(plan.seed));
        let done = Done::default();
        let mut victim = Victim { windows, side, pages, table, self_grant, random, done };
        victim.take(0..PAGES);
        Some(victim)
    }

    fn is_well(&self) -> bool {
        let Done { dirty, changed, foreign, lost, .. } = self.done;
        dirty + changed + foreign + lost == 0
    }

    /// Takes frames for these pages, which have none, checks that they are empty, and writes their
    /// words.
    fn take(&mut self, pages: Range<usize>) {
        let mut list: Vec<u64> = self.pages[pages.clone()].iter().map(|page| page.pfn).collect();
        let came = reservation::populate(&mut list);
        assert!(came == list.len(), "{came} of {} frames came", list.len());
        for (index, mfn) in pages.clone().zip(list) {
            assert!(self.windows.open(index, mfn), "frame {mfn:#x} can't be mapped");
            if let Some((word, seen)) = self.windows.first_other(index, zeros) {
                self.say("dirty", index, mfn, word, 0, seen);
                self.done.dirty += 1;
            }
            let page = &mut self.pages[index];
            page.mfn = mfn;
            page.generation += 1;
            let page = *page;
            (0..WORDS).for_each(|word| {
                self.windows.store(index, word, page.word(word));
            });
        }
        self.done.taken += pages.len() as u64;
    }

    /// Checks each word of these pages.
    fn look_at(&mut self, pages: Range<usize>) {
        for index in pages {
            let page = self.pages[index];
            let other = self.windows.first_other(index, |word| page.word(word));
            if let Some((word, seen)) = other {
                self.say("changed", index, page.mfn, word, page.word(word), seen);
                self.done.changed += 1;
            }
        }
    }

    /// Prints the first few wrong words.
    fn say(&self, what: &str, page: usize, mfn: u64, word: usize, wanted: u64, seen: u64) {
        if self.done.dirty + self.done.changed < 4 {
            println!(
                "STALE victim: {what}: page {page} frame {mfn:#x} word {word} expected {wanted:#x} seen {seen:#x}"
            );
        }
    }

    fn round(&mut self, plan: &Plan, check: &mut Check) {
        self.done.rounds += 1;
        // First, before frames that others gave back become pages.
        if self.done.rounds.is_multiple_of(ROUNDS_BETWEEN_GROWTHS) {
            self.grow(check);
        }
        let first = self.random.index(PAGES / BATCH) * BATCH;
        let pages = first..first + BATCH;
        self.look_at(pages.clone());
        // One flush for all of them.
        for index in pages.clone() {
            let last = index + 1 == pages.end;
            check.holds(
                "a page is unmapped",
                if last { self.windows.close_and_flush(index) } else { self.windows.close(index) },
            );
        }
        let frames: Vec<u64> = self.pages[pages.clone()].iter().map(|page| page.mfn).collect();
        check.equal("frames are given back", reservation::give_back(&frames), BATCH);
        self.take(pages);
        self.pin(check);
        self.accept(plan, check);
        if self.done.rounds.is_multiple_of(ROUNDS_BETWEEN_LOOKS) {
            self.look_at(0..PAGES);
        }
    }

    /// Has the grant table grow, or the table of handles.
    fn grow(&mut self, check: &mut Check) {
        let index = self.table.len();
        if index < MOST_FRAMES {
            check.equal("the table grows", self.table.grow(index + 1), Ok(()));
            self.done.growths += 1;
        }
        // The first frame contains the victim's own entries.
        let frame = 1 + self.random.index(self.table.len().max(2) - 1);
        for frame in [frame, self.table.len() - 1] {
            let foreign = self.table.foreign(frame);
            if frame > 0 && foreign != Foreign::default() {
                println!("STALE victim: frame {frame} of the grant table: {foreign:x?}");
                self.done.foreign += 1;
            }
        }
        if self.done.handles < MOST_HANDLE_FRAMES {
            let Some(last) = self.self_grant.use_up() else { return };
            let next = self.self_grant.map_one();
            check.equal("the next handle", next, Some(last + 1));
            self.done.handles += 1;
            let unmapped = self.self_grant.unmap(last + 1);
            if unmapped != 0 {
                println!("STALE victim: handle {} is lost: {unmapped}", last + 1);
                self.done.lost += 1;
            }
        }
    }

    /// Makes a page a table for a moment.
    fn pin(&mut self, check: &mut Check) {
        let index = self.random.index(PAGES);
        let page = self.pages[index];
        (0..WORDS).for_each(|word| {
            self.windows.store(index, word, 0);
        });
        check.holds("a page is unmapped", self.windows.close_and_flush(index));
        let cmd = MmuextCmd::PinL1Table as u32 + self.random.below(3) as u32;
        // SAFETY: an empty page, which Rust doesn't use.
        let pinned = unsafe { raw::mmuext(cmd, page.mfn, 0) };
        check.equal("it becomes a table", pinned, 0);
        self.look_at_empty(page.mfn);
        // SAFETY: as above.
        let unpinned = unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, page.mfn, 0) };
        check.equal("it is unpinned", unpinned, 0);
        self.done.pins += 1;
        check.holds("it is mapped again", self.windows.open(index, page.mfn));
        (0..WORDS).for_each(|word| {
            self.windows.store(index, word, page.word(word));
        });
    }

    /// Checks that a frame is empty.
    fn look_at_empty(&mut self, mfn: u64) {
        self.look_aside(mfn, |side| side.first_other(INSPECTION, zeros)).flatten().inspect(
            |&(word, seen)| {
                self.say("dirty", INSPECTION, mfn, word, 0, seen);
                self.done.dirty += 1;
            },
        );
    }

    /// Inspects a frame that has no window; `None` if it can't be mapped.
    fn look_aside<T>(&self, mfn: u64, look: impl FnOnce(Windows) -> T) -> Option<T> {
        if !self.side.open_read_only(INSPECTION, mfn) {
            return None;
        }
        let seen = look(self.side);
        self.side.close_here(INSPECTION);
        Some(seen)
    }

    /// Checks frames that were transferred to it, which must not change, and accepts more.
    fn accept(&mut self, plan: &Plan, check: &mut Check) {
        for (reference, &peer) in (ACCEPT..).zip(&plan.peers) {
            let entry = self.table.get(reference);
            let flags = EntryFlags::from_bits_retain(entry as u16);
            if flags.contains(EntryFlags::ACCEPT_TRANSFER) {
                if !flags.contains(EntryFlags::TRANSFER_COMPLETED) {
                    continue;
                }
                let mfn = entry >> 32;
                let words = |side: Windows| -> Vec<u64> {
                    (0..WORDS).filter_map(|word| side.read(INSPECTION, word)).collect()
                };
                let first = self.look_aside(mfn, words);
                let second = self.look_aside(mfn, words);
                check.equal("it can be mapped", first.as_ref().map(Vec::len), Some(WORDS));
                if first != second {
                    println!("STALE victim: frame {mfn:#x} was accepted and changed");
                    self.done.changed += 1;
                }
                self.done.accepted += 1;
                check.equal("it is given back", reservation::give_back(&[mfn]), 1);
            }
            self.table.set(reference, Forgery::accept(peer));
        }
    }

    /// Takes the frames that the others had, and everything else that is free: all must be empty.
    fn sweep(&mut self, check: &mut Check) {
        for _ in 0..SWEEPS {
            let frames = reservation::take(SWEEP);
            for &frame in &frames {
                self.look_at_empty(frame);
            }
            self.done.swept += frames.len() as u64;
            check.equal("they are given back", reservation::give_back(&frames), frames.len());
        }
    }
}
