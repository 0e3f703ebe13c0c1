//! Search: which entries map a frame, and at which addresses.
//!
//! Only refusals need it, so mappings are searched for and not kept in a list. A scan of the chunks of the
//! frame table that have tables ([`crate::table_map`]) finds the domain's L1 tables, and in these the
//! entries that name the frame. From each of them, the tables above are searched for the paths that
//! lead to it. Nothing is allocated, and the number of entries that are read is limited.
//!
//! A search can take long, since each step up is a scan of all tables again. So it is a value
//! ([`Search`]), which holds its position at each level. It stops at any entry when a budget is used up,
//! and can be continued after other work.
//!
//! It takes no references. While other CPUs change tables, it reports what was there when it looked.

mod scan;

use crate::addr::{Index, Level, Mfn, Vaddr};
use crate::budget::Budget;
use crate::entry::{Entry, PRESENT, WRITABLE};
use crate::frame_table::owned_pattern;
use crate::ids::DomId;
use crate::platform::Platform;
use crate::validator::Validator;
use core::ops::ControlFlow;
use pinfold_abi::mmu::ENTRY_ADDRESS;
use scan::{Cursor, Next, Scan};

/// Which mappings a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingFilter {
    /// Writable ones, which keep a frame from becoming a table.
    Writable,
    /// All.
    All,
}

/// When a search gives up.
#[derive(Clone, Copy, Debug)]
pub struct SearchLimits {
    /// Most mappings to report.
    pub mappings: u32,
    /// Most entries and frame records to read.
    pub reads: u64,
}

impl Default for SearchLimits {
    /// Enough for a domain of several GiB whose memory is all mapped: some milliseconds.
    fn default() -> SearchLimits {
        SearchLimits { mappings: 64, reads: 1 << 24 }
    }
}

/// A mapping of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMapping {
    /// The address; `None` if the table is in no address space. A table that is mapped at several
    /// addresses is reported once for each.
    pub address: Option<Vaddr>,
    /// A root of that address space; others may share the tables.
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
    /// There may be more: the search met its limits, or the caller stopped it.
    pub cut_short: bool,
}

/// Most addresses of one L1 slot that are reported.
const ADDRESSES: usize = 64;

/// A search under way ([`Validator::search`]).
#[derive(Clone, Debug)]
pub struct Search {
    /// [`owned_pattern`] of the domain whose tables are searched; `None`: all domains.
    owned: Option<u64>,
    /// Entries and frame records that may still be read.
    reads: u64,
    /// Mappings that may be reported in all.
    mappings: u32,
    found: u32,
    /// The level whose tables are scanned now: above L1 for the paths that lead to `leaf`.
    level: Level,
    /// Position at each level, from L1 on.
    at: [Cursor; 4],
    /// Entry to look for at each level.
    wanted: [u64; 4],
    /// Part of the address that the levels below determine, for each level.
    low: [u64; 4],
    /// Bits of L1 entries that are compared.
    leaf_mask: u64,
    leaf: FoundL1e,
}

/// The L1 entry that was found last, and the addresses that were reported for it: each once.
#[derive(Clone, Debug)]
struct FoundL1e {
    table: Mfn,
    index: Index,
    entry: Entry,
    addresses: [u64; ADDRESSES],
    count: usize,
}

/// Entries that lead to a frame.
const fn leads_to(frame: Mfn) -> u64 {
    frame.address() & ENTRY_ADDRESS | PRESENT
}

impl Search {
    /// What to look for at the current level.
    fn scan(&self) -> Scan {
        let level = self.level;
        let mask = if level == Level::L1 { self.leaf_mask } else { ENTRY_ADDRESS | PRESENT };
        Scan { level, owned: self.owned, mask, wanted: self.wanted[level as usize - 1] }
    }

    /// Starts to look for entries one level up that lead to a table.
    fn go_up(&mut self, from: Mfn, slot: Index) {
        let below = self.level as usize - 1;
        if let Some(above) = self.level.above() {
            let low = self.low[below] | (slot.get() as u64) << self.level.shift();
            let above_at = above as usize - 1;
            self.at[above_at] = Cursor::default();
            self.wanted[above_at] = leads_to(from);
            self.low[above_at] = low;
            self.level = above;
        }
    }

    fn report(
        &mut self,
        address: Option<u64>,
        root: Option<Mfn>,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.found == self.mappings {
            return ControlFlow::Break(());
        }
        self.found += 1;
        let FoundL1e { table, index, entry, .. } = self.leaf;
        out(FrameMapping { address: address.map(Vaddr::new), root, table, index, entry })
    }

    /// Reports a path from a root to the L1 entry, unless its address was reported before.
    fn report_path(
        &mut self,
        root: Mfn,
        address: u64,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let leaf = &mut self.leaf;
        if leaf.addresses[..leaf.count].contains(&address) {
            return ControlFlow::Continue(());
        }
        let Some(free) = leaf.addresses.get_mut(leaf.count) else {
            return ControlFlow::Break(());
        };
        *free = address;
        leaf.count += 1;
        self.report(Some(address), Some(root), out)
    }

    const fn ended(&self, cut_short: bool) -> Option<SearchEnd> {
        Some(SearchEnd { found: self.found, cut_short })
    }
}

impl<P: Platform> Validator<'_, P> {
    /// Begins a search for the entries of the domain's live L1 tables that map a frame. If the frame
    /// is foreign-mapped, also for entries of other domains: the owner of [`FrameMapping::table`] says
    /// whose they are, and the caller must not show them to another guest.
    pub fn begin_search(
        &self,
        frame: Mfn,
        dom: DomId,
        filter: MappingFilter,
        limits: SearchLimits,
    ) -> Search {
        let foreign_mapped =
            self.frame(frame).is_some_and(|frame| frame.ref_word().is_foreign_mapped());
        let flags = PRESENT | if filter == MappingFilter::Writable { WRITABLE } else { 0 };
        let mut at = [Cursor::default(); 4];
        if frame.get() >= self.frame_count() {
            // Nothing maps a frame that doesn't exist.
            at[0].frame = self.frames.len();
        }
        Search {
            owned: (!foreign_mapped).then_some(owned_pattern(dom)),
            reads: limits.reads,
            mappings: limits.mappings,
            found: 0,
            level: Level::L1,
            at,
            wanted: [leads_to(frame) | flags, 0, 0, 0],
            low: [0; 4],
            leaf_mask: ENTRY_ADDRESS | flags,
            leaf: FoundL1e {
                table: frame,
                index: Index::new_truncate(0),
                entry: Entry::new(0),
                addresses: [0; ADDRESSES],
                count: 0,
            },
        }
    }

    /// Continues a search, and reports what it finds, until `out` breaks or the limits are met. `None`:
    /// the budget is used up; call again.
    pub fn search(
        &self,
        search: &mut Search,
        budget: &mut Budget,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> Option<SearchEnd> {
        loop {
            let room = budget.left().min(usize::try_from(search.reads).unwrap_or(usize::MAX));
            let mut left = room;
            let next =
                self.scan(&search.scan(), &mut search.at[search.level as usize - 1], &mut left);
            budget.charge(room - left);
            search.reads -= (room - left) as u64;
            let went_on = match next {
                Next::Pause if search.reads == 0 => ControlFlow::Break(()),
                Next::Pause => return None,
                Next::None => match search.level.below() {
                    None => return search.ended(false),
                    Some(below) => {
                        search.level = below;
                        let detached = below == Level::L1 && search.leaf.count == 0;
                        if detached {
                            search.report(None, None, out)
                        } else {
                            ControlFlow::Continue(())
                        }
                    }
                },
                Next::Found(root, index, _) if search.level == Level::L4 => {
                    let low = search.low[3] | (index.get() as u64) << Level::L4.shift();
                    search.report_path(root, Vaddr::from_low_bits(low).get(), out)
                }
                Next::Found(table, index, raw) => {
                    if search.level == Level::L1 {
                        search.leaf.table = table;
                        search.leaf.index = index;
                        search.leaf.entry = Entry::new(raw);
                        search.leaf.count = 0;
                    }
                    search.go_up(table, index);
                    ControlFlow::Continue(())
                }
            };
            if went_on.is_break() {
                return search.ended(true);
            }
        }
    }

    /// Searches to the end or to the limits in one call: for tests.
    pub fn find_mappings(
        &self,
        frame: Mfn,
        dom: DomId,
        filter: MappingFilter,
        limits: SearchLimits,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> SearchEnd {
        let mut search = self.begin_search(frame, dom, filter, limits);
        loop {
            // The limits of the search are the bound.
            if let Some(end) = self.search(&mut search, &mut Budget::new(u32::MAX), out) {
                return end;
            }
        }
    }
}
