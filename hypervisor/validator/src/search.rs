//! Given a frame: which entries map it, at which addresses.
//!
//! Searched, not kept: only refusals need it. A pass over those chunks of the frame table that
//! have tables ([`crate::table_map`]) finds the domain's L1 tables, and in them the entries that name
//! the frame; from each, the tables above are searched for the ways that lead to it. Nothing is
//! allocated, and the number of entries read is bounded.
//!
//! A search can be long: each way up is a pass over all tables again. So it is a value
//! ([`Search`]) that holds where it is at each level, and stops when a budget is used up, at any
//! entry; whoever holds it goes on when it has serviced what others wait for.
//!
//! The search takes no references. On a machine where other CPUs go on meanwhile it is a snapshot
//! in motion: what it reports was there when it looked.

use crate::addr::{ENTRIES, Index, Level, Mfn, Vaddr};
use crate::budget::Budget;
use crate::entry::{Entry, PRESENT, WRITABLE};
use crate::frame_table::{Kind, State, owned_pattern};
use crate::ids::DomId;
use crate::platform::{GROUP, Platform};
use crate::validator::Validator;
use core::ops::{ControlFlow, Range};
use pinfold_abi::mmu::ENTRY_ADDRESS;

/// Which mappings are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingFilter {
    /// Writable ones: those that keep a frame from becoming a table.
    Writable,
    /// All.
    All,
}

/// Where a search ends at the latest.
#[derive(Clone, Copy, Debug)]
pub struct SearchLimits {
    /// Mappings to report.
    pub mappings: u32,
    /// Entries and frame records to read.
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

/// Where a search is among the tables of one level.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// The frame that is looked at.
    frame: usize,
    /// The slot of it that comes next, if it is a table.
    slot: usize,
    /// The table map's word of the frame's chunk, before the first of its frames was looked at.
    seen: u32,
    /// Some frame of the chunk is a table.
    tables: bool,
}

/// A search under way ([`Validator::search`]).
#[derive(Clone, Debug)]
pub struct Search {
    /// [`owned_pattern`] of the domain whose tables are searched; `None`: everybody's.
    owned: Option<u64>,
    /// Entries and frame records that may still be read.
    reads: u64,
    /// Mappings that may be reported in all.
    mappings: u32,
    found: u32,
    /// The level whose tables are searched now: above L1 for the ways that lead to `leaf`.
    level: Level,
    /// For each level, from L1: where the search is,
    at: [Cursor; 4],
    /// which entries it looks for,
    wanted: [u64; 4],
    /// and the part of the address that the levels below make up.
    low: [u64; 4],
    /// Bits of L1 entries that are compared.
    leaf_mask: u64,
    leaf: Leaf,
}

/// The L1 entry that was found last, and the addresses that were reported for it: each once.
#[derive(Clone, Debug)]
struct Leaf {
    table: Mfn,
    index: Index,
    entry: Entry,
    addresses: [u64; ADDRESSES],
    count: usize,
}

/// What a search among the tables of one level came to.
enum Next {
    /// An entry that is looked for.
    Found(Mfn, Index, u64),
    /// There are no more.
    None,
    /// The budget is used up.
    Pause,
}

/// Entries that lead to a frame.
const fn leads_to(frame: Mfn) -> u64 {
    frame.address() & ENTRY_ADDRESS | PRESENT
}

impl Search {
    /// Goes up from a table: looks for entries of the next level that lead to it.
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
        let Leaf { table, index, entry, .. } = self.leaf;
        out(FrameMapping { address: address.map(Vaddr::new), root, table, index, entry })
    }

    /// A way leads to the leaf from a root, at an address.
    fn arrived(
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
    /// Begins a search for the entries of the domain's live L1 tables that map a frame. Of a frame
    /// that the domain lent, also the entries of other domains: whose, the owner of
    /// [`FrameMapping::table`] tells, and no guest may learn of another's.
    pub fn begin_search(
        &self,
        frame: Mfn,
        dom: DomId,
        which: MappingFilter,
        bounds: SearchLimits,
    ) -> Search {
        let lent = self.frame(frame).is_some_and(|frame| frame.ref_word().is_foreign_mapped());
        let flags = PRESENT | if which == MappingFilter::Writable { WRITABLE } else { 0 };
        let mut at = [Cursor::default(); 4];
        if frame.get() >= self.frame_count() {
            // Nothing maps what isn't there.
            at[0].frame = self.frames.len();
        }
        Search {
            owned: (!lent).then_some(owned_pattern(dom)),
            reads: bounds.reads,
            mappings: bounds.mappings,
            found: 0,
            level: Level::L1,
            at,
            wanted: [leads_to(frame) | flags, 0, 0, 0],
            low: [0; 4],
            leaf_mask: ENTRY_ADDRESS | flags,
            leaf: Leaf {
                table: frame,
                index: Index::new_truncate(0),
                entry: Entry::new(0),
                addresses: [0; ADDRESSES],
                count: 0,
            },
        }
    }

    /// Goes on with a search, and reports what it finds, until `out` breaks off or the bounds are
    /// met. `None`: the budget is used up; ask again.
    pub fn search(
        &self,
        search: &mut Search,
        budget: &mut Budget,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> Option<SearchEnd> {
        loop {
            let room = budget.left().min(usize::try_from(search.reads).unwrap_or(usize::MAX));
            let mut left = room;
            let next = self.next_entry(search, &mut left);
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
                    search.arrived(root, Vaddr::from_low_bits(low).get(), out)
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

    /// Searches to the end or to the bounds, in one go: for tests, and who has the time.
    pub fn find_mappings(
        &self,
        frame: Mfn,
        dom: DomId,
        which: MappingFilter,
        bounds: SearchLimits,
        out: &mut dyn FnMut(FrameMapping) -> ControlFlow<()>,
    ) -> SearchEnd {
        let mut search = self.begin_search(frame, dom, which, bounds);
        loop {
            // The bound is that of the search.
            if let Some(end) = self.search(&mut search, &mut Budget::new(u32::MAX), out) {
                return end;
            }
        }
    }

    /// The next entry of a table of the search's level that it looks for. Draws on `left` for each
    /// frame and each entry that it looks at.
    fn next_entry(&self, search: &mut Search, left: &mut usize) -> Next {
        let level = search.level;
        let number = level as usize - 1;
        let wanted = search.wanted[number];
        let mask = if level == Level::L1 { search.leaf_mask } else { ENTRY_ADDRESS | PRESENT };
        let owned = search.owned;
        let cursor = &mut search.at[number];
        let chunk = self.table_map.chunk();
        while cursor.frame < self.frames.len() {
            if *left == 0 {
                return Next::Pause;
            }
            if cursor.slot == 0 && cursor.frame.is_multiple_of(chunk) {
                let first = cursor.frame / chunk;
                let (used, seen) = self.table_map.next_used(first, *left);
                *left -= used - first;
                if used != first {
                    cursor.frame = used * chunk;
                }
                let Some(seen) = seen else {
                    if used == first {
                        // Behind the last chunk there is no frame.
                        cursor.frame = self.frames.len();
                    }
                    continue;
                };
                (cursor.seen, cursor.tables) = (seen, false);
                if *left == 0 {
                    return Next::Pause;
                }
            }
            let end = self.frames.len().min((cursor.frame / chunk + 1) * chunk);
            if let Some(found) = self.next_in_chunk(cursor, end, level, owned, mask, wanted, left) {
                return found;
            }
            if !cursor.tables {
                self.table_map.mark_empty((cursor.frame - 1) / chunk, cursor.seen);
            }
        }
        Next::None
    }

    /// The same among the frames up to `end`; `None` if there is none, and the cursor is there.
    /// Only what moves the cursor is charged, so that the smallest budget makes progress.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; they are the state of the search"
    )]
    fn next_in_chunk(
        &self,
        cursor: &mut Cursor,
        end: usize,
        level: Level,
        owned: Option<u64>,
        mask: u64,
        wanted: u64,
        left: &mut usize,
    ) -> Option<Next> {
        let kind = Kind::table(level);
        let (mut number, mut from, mut room) = (cursor.frame, cursor.slot, *left);
        let mut tables = cursor.tables;
        let mut next = None;
        for frame in self.frames.get(number..end).unwrap_or(&[]) {
            if room == 0 {
                next = Some(Next::Pause);
                break;
            }
            let types = frame.type_word();
            let is_table = types.kind().level().is_some() && types.state() != State::Idle;
            tables |= is_table;
            if is_table && types.kind() == kind && owned.is_none_or(|owned| frame.is_owned(owned)) {
                let entries = match types.state() {
                    State::Validated => ENTRIES,
                    State::Partial => usize::from(types.progress().resume).min(ENTRIES),
                    State::Idle | State::Validating | State::Devalidating => 0,
                };
                let stop = entries.min(from.saturating_add(room));
                let table = Mfn::new(number as u64);
                let found = self.find_entry(level, table, from..stop, mask, wanted);
                let stop = found.map_or(stop, |(index, _)| index.get() + 1);
                room -= stop.saturating_sub(from);
                from = from.max(stop);
                if let Some((index, raw)) = found {
                    next = Some(Next::Found(table, index, raw));
                    break;
                }
                if room == 0 {
                    next = Some(Next::Pause);
                    break;
                }
            }
            room -= 1;
            number += 1;
            from = 0;
        }
        *cursor = Cursor { frame: number, slot: from, tables, ..*cursor };
        *left = room;
        next
    }

    /// The first of some entries of a table that is, under a mask, the one that is wanted.
    #[inline(always)]
    fn find_entry(
        &self,
        level: Level,
        table: Mfn,
        slots: Range<usize>,
        mask: u64,
        wanted: u64,
    ) -> Option<(Index, u64)> {
        let Range { start: mut slot, end } = slots;
        while slot < end {
            let index = Index::new_truncate(slot as u64);
            let whole_group = slot.is_multiple_of(GROUP) && slot + GROUP <= end;
            if whole_group && !self.platform.group_matches(table, index, mask, wanted) {
                slot += GROUP;
                continue;
            }
            let raw = self.read(table, index);
            if raw & mask == wanted && !(level == Level::L4 && index.is_reserved()) {
                return Some((index, raw));
            }
            slot += 1;
        }
        None
    }
}
