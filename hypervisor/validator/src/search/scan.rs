//! The scan for entries of one level: over the chunks of the frame table that have tables, the frames
//! of these, and the entries of those.

use crate::addr::{ENTRIES, Index, Level, Mfn};
use crate::frame_table::{Kind, State};
use crate::platform::{GROUP, Platform};
use crate::validator::Validator;
use core::ops::Range;

/// Position of a scan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// The current frame.
    pub(super) frame: usize,
    /// The next slot, if that frame is a table.
    slot: usize,
    /// The table map's word of the frame's chunk, from before the first of its frames was read.
    seen: u32,
    /// Some frame of the chunk is a table.
    tables: bool,
}

/// Which entries a scan looks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    /// Level of the tables to look in.
    pub(super) level: Level,
    /// [`owned_pattern`](crate::frame_table::owned_pattern) of the domain whose tables these are;
    /// `None`: of all domains.
    pub(super) owned: Option<u64>,
    /// Bits of the entries that are compared.
    pub(super) mask: u64,
    /// What they must be.
    pub(super) wanted: u64,
}

/// How a scan stopped.
pub(super) enum Next {
    /// At an entry that it looks for.
    Found(Mfn, Index, u64),
    /// At the end.
    None,
    /// The budget is used up.
    Pause,
}

impl<P: Platform> Validator<'_, P> {
    /// The next entry that a scan looks for. Each frame and each entry that it reads counts against
    /// `left`.
    pub(super) fn scan(&self, scan: &Scan, cursor: &mut Cursor, left: &mut usize) -> Next {
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
                        // There is no frame beyond the last chunk.
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
            if let Some(found) = self.scan_chunk(scan, cursor, end, left) {
                return found;
            }
            if !cursor.tables {
                self.table_map.mark_empty((cursor.frame - 1) / chunk, cursor.seen);
            }
        }
        Next::None
    }

    /// The same in the frames up to `end`, which are of one chunk. `None`: there is no such entry, and
    /// the cursor is at `end`. Only progress of the cursor is charged, so that the smallest budget makes
    /// some.
    #[inline]
    fn scan_chunk(
        &self,
        scan: &Scan,
        cursor: &mut Cursor,
        end: usize,
        left: &mut usize,
    ) -> Option<Next> {
        let kind = Kind::table(scan.level);
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
            if is_table
                && types.kind() == kind
                && scan.owned.is_none_or(|owned| frame.is_owned(owned))
            {
                let entries = match types.state() {
                    State::Validated => ENTRIES,
                    State::Partial => usize::from(types.progress().resume).min(ENTRIES),
                    State::Idle | State::Validating | State::Devalidating => 0,
                };
                let stop = entries.min(from.saturating_add(room));
                let table = Mfn::new(number as u64);
                let found = self.find_entry(scan, table, from..stop);
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

    /// The first of some entries of a table that the scan looks for.
    #[inline(always)]
    fn find_entry(&self, scan: &Scan, table: Mfn, slots: Range<usize>) -> Option<(Index, u64)> {
        let Scan { level, mask, wanted, .. } = *scan;
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
