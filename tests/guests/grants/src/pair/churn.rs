//! Two domains that grant each other pages, and map, write, copy and pin them in random order. With
//! two processors they do so at the same time, and one ends while the other is in the middle.

use super::wait;
use crate::fixture::{FIRST, GrantFixture, MAP_RO, MAP_RW, map_at, read, write};
use alloc::vec::Vec;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::grant::{
    COPY_DEST_REFERENCE, COPY_SOURCE_REFERENCE, Copy, CopyPointer, EntryFlags, Status,
};
use pinfold_guest::addr::{PAGE_SIZE, Pfn, Vaddr};
use pinfold_guest::fixtures::{Check, RW, Random};
use pinfold_guest::hypercall::{pinfold, sched};
use pinfold_guest::raw::grants::{Map, copy, map, query, unmap};

/// Pages that each domain grants, and windows for the other's pages.
const PAGES: usize = 8;
const GONE: i16 = Status::BadDomain as i16;

/// Whether a refusal can happen: the page is a table at the moment, or the peer has no grant table
/// yet or any more.
fn is_expected(status: i16) -> bool {
    let expected = [Status::GeneralError, Status::BadReference, Status::BadDomain, Status::BadPage];
    expected.into_iter().any(|known| known as i16 == status)
}

struct Churn<'b> {
    fixture: &'b mut GrantFixture,
    peer: u16,
    random: Random,
    pages: Vec<Pfn>,
    windows: Vec<Vaddr>,
    /// Handles, and where each was mapped.
    handles: Vec<(u32, Vaddr)>,
    tables: u32,
    mapped: u32,
}

/// Runs one of the two; `last`: the peer ends first.
pub(crate) fn run(
    fixture: &mut GrantFixture,
    peer: u16,
    last: bool,
    seed: u64,
    rounds: u64,
    check: &mut Check,
) {
    let pages: Vec<Pfn> = (0..PAGES).map(|_| fixture.tables.lose()).collect();
    let windows = (0..PAGES).map(|_| fixture.window()).collect();
    for (reference, &page) in (FIRST..).zip(&pages) {
        fixture.tables.clear(page);
        fixture.grant(reference, EntryFlags::PERMIT_ACCESS, peer, page);
    }
    check.holds("the peer is there", wait(|| query(peer) != Err(GONE)));
    let random = Random::new(seed);
    let handles = Vec::new();
    let mut churn = Churn { fixture, peer, random, pages, windows, handles, tables: 0, mapped: 0 };
    // The peer exists before it has granted anything. Each waits until both have mapped a page
    // of the other's; the later one may find that the other has ended.
    let maps = wait(|| churn.maps_a_page(check));
    check.holds("the peer grants", maps);
    check.holds("the peer maps", wait(|| churn.peer_maps_a_page() || query(peer) == Err(GONE)));
    for _ in 0..rounds {
        churn.step(check);
    }
    pinfold_guest::println!("CHURN mapped={} tables={}", churn.mapped, churn.tables);
    check.holds("something was mapped", churn.mapped > 0);
    if last {
        churn.after_the_peer(check);
    }
}

impl Churn<'_> {
    fn step(&mut self, check: &mut Check) {
        let window = self.windows[self.random.index(PAGES)];
        match self.random.below(9) {
            0..3 => self.map(window, check),
            3 | 4 => self.unmap(check),
            5 => {
                // Never a present entry: the page may become a table.
                let word = self.random.below(1 << 40) & !1;
                let index = self.random.below(512);
                write(window, index, word);
                read(window, index);
            }
            6 => self.copy(check),
            7 => self.table(check),
            _ if self.random.below(4) == 0 => {
                check.equal("overwrite a window", map_at(window, 0), 0);
            }
            _ => {
                let _ = sched::yield_now();
            }
        }
    }

    fn reference(&mut self) -> u32 {
        FIRST + self.random.index(PAGES) as u32
    }

    fn map(&mut self, window: Vaddr, check: &mut Check) {
        let flags = if self.random.below(3) == 0 { MAP_RO } else { MAP_RW };
        let reference = self.reference();
        match map(Map { address: window.0, flags, dom: self.peer, reference }) {
            Ok((handle, _)) => {
                self.mapped += 1;
                self.handles.push((handle, window));
            }
            Err(status) => check.holds("a map is refused for a known reason", is_expected(status)),
        }
    }

    /// Tries to map a page of the peer's. Returns whether one was ever mapped.
    fn maps_a_page(&mut self, check: &mut Check) -> bool {
        self.map(self.windows[0], check);
        self.mapped > 0
    }

    /// Whether the peer has mapped one of this domain's pages.
    fn peer_maps_a_page(&self) -> bool {
        let used = EntryFlags::READING | EntryFlags::WRITING;
        (FIRST..)
            .zip(&self.pages)
            .any(|(reference, _)| self.fixture.flags(reference).intersects(used))
    }

    fn unmap(&mut self, check: &mut Check) {
        if self.handles.is_empty() {
            return;
        }
        let which = self.random.index(self.handles.len());
        let (handle, window) = self.handles[which];
        match unmap(handle, window.0) {
            0 => drop(self.handles.swap_remove(which)),
            // Another page has been mapped there since.
            status => check.equal(
                "an unmap is refused for a known reason",
                status,
                Status::GeneralError as i16,
            ),
        }
    }

    fn copy(&mut self, check: &mut Check) {
        let own = self.pages[self.random.index(PAGES)];
        let own = CopyPointer {
            frame: self.fixture.tables.mfn(own),
            domid: domid::SELF,
            offset: 0,
            pad: 0,
        };
        let frame = self.reference().into();
        let theirs = CopyPointer { frame, domid: self.peer, offset: 0, pad: 0 };
        let (source, dest, flags) = if self.random.below(2) == 0 {
            (theirs, own, COPY_SOURCE_REFERENCE)
        } else {
            (own, theirs, COPY_DEST_REFERENCE)
        };
        let status = copy(Copy { source, dest, len: PAGE_SIZE as u16, flags, ..Copy::default() });
        check.holds(
            "a copy succeeds or is refused for a known reason",
            status == 0 || is_expected(status),
        );
    }

    /// Pins a page for a moment, unless the peer has it mapped writable.
    fn table(&mut self, check: &mut Check) {
        let page = self.pages[self.random.index(PAGES)];
        self.fixture.tables.seal(page);
        match self.fixture.tables.pin(page, 1) {
            0 => {
                self.tables += 1;
                check.equal("unpin", self.fixture.tables.unpin(page), 0);
            }
            refused => {
                check.equal("a pin is refused because of a mapping", refused, EINVAL.as_result());
            }
        }
        let entry = self.fixture.tables.entry(page, RW);
        check.equal("writable again", map_at(self.fixture.tables.va(page), entry), 0);
    }

    /// Checks that nothing of the peer is left after its end.
    fn after_the_peer(&mut self, check: &mut Check) {
        check.holds("the peer's end", wait(|| query(self.peer) == Err(GONE)));
        for (reference, &page) in (FIRST..).zip(&self.pages) {
            let flags = self.fixture.flags(reference);
            check.equal("no entry is in use", flags, EntryFlags::PERMIT_ACCESS);
            self.fixture.tables.seal(page);
            check.equal("every page can be pinned", self.fixture.tables.pin(page, 1), 0);
            check.equal("unpin", self.fixture.tables.unpin(page), 0);
            self.fixture.tables.unseal(page);
        }
        for (handle, window) in core::mem::take(&mut self.handles) {
            let status = unmap(handle, window.0);
            check.holds("unmap what is left", matches!(status, 0 | -1));
        }
        for &window in &self.windows {
            check.equal("clear the windows", map_at(window, 0), 0);
        }
        check.equal("the audit finds nothing", pinfold::audit().map(|a| a.wrong).ok(), Some(0));
    }
}
