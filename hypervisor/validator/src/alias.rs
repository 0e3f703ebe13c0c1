//! Given a frame: which entries map it, at which addresses.
//!
//! Searched, not kept: only refusals need it. A pass over those stretches of the frame table that
//! have tables ([`crate::census`]) finds the domain's L1 tables, and in them the entries that name the frame; from each, the tables above are searched
//! for the ways that lead to it. Nothing is allocated, and the number of entries read is bounded.
//!
//! The search takes no references. On a machine where other CPUs go on meanwhile it is a snapshot
//! in motion: what it reports was there when it looked.

use crate::entry::{Entry, PRESENT, WRITABLE};
use crate::frame::{DomId, ENTRIES, Index, Level, Mfn, Vaddr};
use crate::frame_table::{Kind, State, owned_pattern};
use crate::platform::Platform;
use crate::validator::Validator;
use core::ops::ControlFlow;
use pinfold_abi::mmu::ENTRY_ADDRESS;

/// Which mappings are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Writable ones: those that keep a frame from becoming a table.
    Writable,
    /// All.
    All,
}

/// Where a search ends at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Mappings to report.
    pub mappings: u32,
    /// Entries and frame records to read.
    pub reads: u64,
}

impl Default for Bounds {
    /// Enough for a domain of several GiB whose memory is all mapped: some milliseconds.
    fn default() -> Bounds {
        Bounds { mappings: 64, reads: 1 << 24 }
    }
}

/// A mapping of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The address, if the table hangs in an address space. A table that hangs in several places
    /// is reported once for each address.
    pub address: Option<Vaddr>,
    /// A root below which the address is mapped so; others may share the tables.
    pub root: Option<Mfn>,
    /// The L1 table.
    pub table: Mfn,
    /// Its slot.
    pub index: Index,
    /// The entry.
    pub entry: Entry,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchEnd {
    /// Mappings that were reported.
    pub found: u32,
    /// There may be more: the search met its bounds, or was told to stop.
    pub cut_short: bool,
}

/// Addresses of one L1 slot that are told apart.
const ADDRESSES: usize = 64;

/// A search under way.
struct Search<'s> {
    /// [`owned_pattern`] of the domain whose tables are searched; `None`: everybody's.
    owned: Option<u64>,
    reads: u64,
    mappings: u32,
    found: u32,
    out: &'s mut dyn FnMut(Mapping) -> ControlFlow<()>,
}

impl Search<'_> {
    fn spend(&mut self, reads: u64) -> ControlFlow<()> {
        match self.reads.checked_sub(reads) {
            Some(left) => {
                self.reads = left;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    }

    fn report(&mut self, mapping: Mapping) -> ControlFlow<()> {
        if self.found == self.mappings {
            return ControlFlow::Break(());
        }
        self.found += 1;
        (self.out)(mapping)
    }
}

/// The addresses that were reported for one L1 slot, so that each is reported once.
struct Reported {
    table: Mfn,
    index: Index,
    entry: Entry,
    addresses: [u64; ADDRESSES],
    count: usize,
}

impl<P: Platform> Validator<'_, P> {
    /// Reports the entries of the domain's live L1 tables that map a frame, until `out` breaks off
    /// or the bounds are met. Of a frame that the domain lent, also the entries of other domains:
    /// whose, the owner of [`Mapping::table`] tells, and no guest may learn of another's.
    pub fn find_mappings(
        &self,
        frame: Mfn,
        dom: DomId,
        which: Which,
        bounds: Bounds,
        out: &mut dyn FnMut(Mapping) -> ControlFlow<()>,
    ) -> SearchEnd {
        let lent = self.frame(frame).is_some_and(|frame| frame.ref_word().is_lent());
        let mut search = Search {
            owned: (!lent).then_some(owned_pattern(dom)),
            reads: bounds.reads,
            mappings: bounds.mappings,
            found: 0,
            out,
        };
        let flags = PRESENT | if which == Which::Writable { WRITABLE } else { 0 };
        let wanted = (frame.get() << 12) & ENTRY_ADDRESS | flags;
        let cut_short = frame.get() < self.frame_count()
            && self.search_leaves(&mut search, ENTRY_ADDRESS | flags, wanted).is_break();
        SearchEnd { found: search.found, cut_short }
    }

    fn search_leaves(&self, search: &mut Search<'_>, mask: u64, wanted: u64) -> ControlFlow<()> {
        self.each_table(search, Level::L1, |search, table, entries| {
            for slot in 0..entries {
                let index = Index::new_truncate(slot as u64);
                let raw = self.read(table, index);
                if raw & mask == wanted {
                    let entry = Entry::new(raw);
                    let mut reported =
                        Reported { table, index, entry, addresses: [0; ADDRESSES], count: 0 };
                    self.search_upwards(search, &mut reported, Level::L2, table, index, 0)?;
                    if reported.count == 0 {
                        let (address, root) = (None, None);
                        search.report(Mapping { address, root, table, index, entry })?;
                    }
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Finds the entries of tables of `level` that lead to `below`, and the ways from there up.
    /// `slots`: the low part of the address, so far.
    fn search_upwards(
        &self,
        search: &mut Search<'_>,
        reported: &mut Reported,
        level: Level,
        below: Mfn,
        slot_below: Index,
        slots: u64,
    ) -> ControlFlow<()> {
        let Some(level_below) = level.below() else { return ControlFlow::Continue(()) };
        let shift = 12 + 9 * (level_below as u64 - 1);
        let slots = slots | (slot_below.get() as u64) << shift;
        let wanted = (below.get() << 12) & ENTRY_ADDRESS | PRESENT;
        self.each_table(search, level, |search, table, entries| {
            for slot in 0..entries {
                let index = Index::new_truncate(slot as u64);
                let hypervisors = level == Level::L4 && index.is_reserved();
                if self.read(table, index) & (ENTRY_ADDRESS | PRESENT) != wanted || hypervisors {
                    continue;
                }
                match level.above() {
                    Some(above) => {
                        self.search_upwards(search, reported, above, table, index, slots)?;
                    }
                    None => {
                        let low = slots | (index.get() as u64) << 39;
                        reported.at(search, table, ((low << 16) as i64 >> 16) as u64)?;
                    }
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Calls `visit` for each of the domain's tables of a level, with how many of its entries are
    /// live.
    fn each_table<'s>(
        &self,
        search: &mut Search<'s>,
        level: Level,
        mut visit: impl FnMut(&mut Search<'s>, Mfn, usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let kind = Kind::table(level);
        let stretch = self.census.stretch();
        for (number, frames) in self.frames.chunks(stretch).enumerate() {
            search.spend(1)?;
            let seen = self.census.count(number);
            if seen == 0 {
                continue;
            }
            search.spend(frames.len() as u64)?;
            let mut tables = false;
            for (offset, frame) in frames.iter().enumerate() {
                let types = frame.type_word();
                if types.kind().level().is_none() || types.state() == State::Idle {
                    continue;
                }
                tables = true;
                if types.kind() != kind {
                    continue;
                }
                let entries = match types.state() {
                    State::Validated => ENTRIES,
                    State::Partial => usize::from(types.progress().resume).min(ENTRIES),
                    State::Idle | State::Validating | State::Devalidating => 0,
                };
                if entries != 0 && search.owned.is_none_or(|owned| frame.is_owned(owned)) {
                    let table = Mfn::new((number * stretch + offset) as u64);
                    search.spend(entries as u64)?;
                    visit(search, table, entries)?;
                }
            }
            if !tables {
                self.census.found_none(number, seen);
            }
        }
        ControlFlow::Continue(())
    }
}

impl Reported {
    fn at(&mut self, search: &mut Search<'_>, root: Mfn, address: u64) -> ControlFlow<()> {
        if self.addresses[..self.count].contains(&address) {
            return ControlFlow::Continue(());
        }
        let Some(free) = self.addresses.get_mut(self.count) else {
            return ControlFlow::Break(());
        };
        *free = address;
        self.count += 1;
        search.report(Mapping {
            address: Some(Vaddr::new(address)),
            root: Some(root),
            table: self.table,
            index: self.index,
            entry: self.entry,
        })
    }
}
