//! The validator's state: the frame table, the platform, the rules, and tables beside them.

use crate::addr::{Index, Mfn};
use crate::context::{OpContext, OpError};
use crate::deferred::DeferredDevalidations;
use crate::entry::{AbsentRules, EntryRules};
use crate::frame_table::{FrameEntry, FrameInfo};
use crate::ids::{CpuSet, DomId};
use crate::limits::{Limits, Policy};
use crate::platform::{GROUP, Platform};
use crate::refusal::Cause;
use crate::table_map::TableMap;
use crate::tlb::{FlushClock, FlushTicket};

/// Decides what guests may do to memory. Shared by all CPUs: every method takes `&self`, and none blocks.
#[derive(Debug)]
pub struct Validator<'a, P> {
    pub(crate) platform: P,
    pub(crate) frames: &'a [FrameEntry],
    pub(crate) rules: EntryRules,
    pub(crate) policy: Policy,
    pub(crate) absent: AbsentRules,
    pub(crate) clock: FlushClock,
    pub(crate) deferred: DeferredDevalidations,
    pub(crate) table_map: TableMap,
}

impl<'a, P: Platform> Validator<'a, P> {
    /// A validator for the frames `0..frames.len()`, none of which is RAM yet
    /// ([`Validator::add_ram_frame`]).
    pub fn new(platform: P, frames: &'a [FrameEntry], limits: Limits) -> Validator<'a, P> {
        let count =
            usize::try_from(limits.max_mfn.get()).map_or(usize::MAX, |n| n.saturating_add(1));
        let frames = &frames[..frames.len().min(count)];
        Validator {
            platform,
            frames,
            rules: EntryRules::new(limits.physical_bits, limits.nx),
            policy: limits.policy,
            absent: AbsentRules::new(&limits),
            clock: FlushClock::new(),
            deferred: DeferredDevalidations::new(),
            table_map: TableMap::new(frames.len()),
        }
    }

    /// The platform.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Number of records in the frame table: frame numbers are below it.
    pub fn frame_count(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The record of a frame.
    #[inline(always)]
    pub(crate) fn frame(&self, mfn: Mfn) -> Option<&'a FrameEntry> {
        self.frames.get(usize::try_from(mfn.get()).ok()?)
    }

    /// The record of a frame whose number comes from a guest.
    #[inline]
    pub(crate) fn require_frame(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
    ) -> Result<&'a FrameEntry, OpError> {
        match self.frame(mfn) {
            Some(frame) => Ok(frame),
            None => Err(op.refuse(Cause::NoSuchFrame, mfn, None, None)),
        }
    }

    /// The owner of a frame; `None` if it is free or no RAM. The owner may change as soon as this
    /// returns, unless a reference is held.
    pub fn owner(&self, mfn: Mfn) -> Option<DomId> {
        self.frame(mfn)?.ref_word().owner()
    }

    /// The record of a frame, for reports; `None` if there is no such frame.
    pub fn info(&self, mfn: Mfn) -> Option<FrameInfo> {
        Some(self.frame(mfn)?.info())
    }

    /// Begins a full flush of the calling CPU: all translations of guests, and the paging-structure
    /// caches. Call it *before* the flush, and [`Validator::end_flush`] with the ticket after it.
    pub fn begin_flush(&self) -> FlushTicket {
        self.clock.begin()
    }

    /// Records that the flush for which the ticket was drawn is done on this CPU.
    pub fn end_flush(&self, cpu: usize, ticket: FlushTicket) {
        self.clock.end(cpu, ticket);
    }

    /// Does a full flush of the calling CPU, and records it in the flush clock.
    pub fn record_flush<T>(&self, cpu: usize, flush: impl FnOnce() -> T) -> T {
        let ticket = self.begin_flush();
        let result = flush();
        self.end_flush(cpu, ticket);
        result
    }

    /// Flushes the CPUs that may have a frame of the domain cached as it was before the stamp.
    pub(crate) fn flush_since(&self, dom: DomId, stamp: Option<u64>) {
        if let Some(stamp) = stamp {
            self.flush_if_behind(stamp, self.platform.dirty_cpus(dom));
        }
    }

    /// Flushes those of the CPUs that have not flushed since the stamp.
    pub(crate) fn flush_if_behind(&self, stamp: u64, cpus: CpuSet) {
        let behind = self.clock.behind(stamp, cpus);
        if !behind.is_empty() {
            self.platform.flush_tlb(behind);
        }
    }

    /// Reads an entry.
    #[inline(always)]
    pub(crate) fn read(&self, table: Mfn, index: Index) -> u64 {
        self.platform.read_entry(table, index)
    }

    /// Whether a group of entries begins at a slot, ends before `end`, and is all zeros.
    #[inline]
    pub(crate) fn is_zero_group(&self, table: Mfn, slot: usize, end: usize) -> bool {
        slot.is_multiple_of(GROUP)
            && slot + GROUP <= end
            && self.platform.group_is_zero(table, Index::new_truncate(slot as u64))
    }
}
