//! Shootdown: clears the mappings of a range of addresses, with one flush for all of them.

use crate::addr::{ENTRIES, Index, Level, Mfn, Vaddr};
use crate::budget::Budget;
use crate::context::{OpContext, OpError};
use crate::entry::PRESENT;
use crate::flush_debt::FlushDebt;
use crate::frame_table::Kind;
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Cause, Error, Operation};
use crate::validator::Validator;
use crate::walk::WalkError;
use pinfold_abi::layout::{HYPERVISOR_END, PAGE_SIZE};

/// A range of pages in a guest's address space. Pages that are done are removed from its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// Address of the first page, page-aligned.
    pub start: Vaddr,
    /// Number of pages.
    pub pages: u64,
}

impl PageRange {
    /// Whether the guest may use all of it: aligned, canonical, in one half of the address space, and
    /// not the hypervisor's.
    fn is_guest_range(&self) -> bool {
        let first = self.start.get();
        let end = self.pages.checked_mul(PAGE_SIZE).and_then(|bytes| first.checked_add(bytes - 1));
        let Some(last) = end else { return false };
        let same_half = first >> 63 == last >> 63;
        first.is_multiple_of(PAGE_SIZE)
            && self.start.is_canonical()
            && Vaddr::new(last).is_canonical()
            && same_half
            && (first >> 63 == 0 || first >= HYPERVISOR_END)
    }

    fn advance(&mut self, pages: u64) {
        let pages = pages.min(self.pages);
        self.pages -= pages;
        self.start = Vaddr::new(self.start.get().wrapping_add(pages * PAGE_SIZE));
    }
}

/// What shootdowns have cleared so far, and the flush that is still to be done.
#[derive(Debug, Default)]
pub struct ShootdownProgress {
    /// Entries that were cleared.
    pub cleared: u64,
    debt: FlushDebt,
}

impl ShootdownProgress {
    /// Nothing yet.
    pub const fn new() -> ShootdownProgress {
        ShootdownProgress { cleared: 0, debt: FlushDebt::none() }
    }

    /// The flush to do before the guest goes on.
    pub fn into_debt(self) -> FlushDebt {
        self.debt
    }
}

impl<P: Platform> Validator<'_, P> {
    /// Clears the present L1 entries that map pages of `range` below `root`, and drops their references.
    /// The flush is added to `total`, also with an error. Pages that aren't mapped are skipped, whole
    /// tables at a time.
    ///
    /// # Errors
    /// Refused ([`Cause::BadAddress`]): the guest may not use all of the range; nothing was done.
    /// Preempted: `range` is what is left.
    pub fn shootdown(
        &self,
        dom: DomId,
        root: Mfn,
        range: &mut PageRange,
        budget: &mut Budget,
        total: &mut ShootdownProgress,
    ) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::Shootdown, dom, budget);
        let before = total.cleared;
        let ended = self.clear_range(&mut op, root, range, &mut total.cleared);
        if total.cleared != before {
            // Read after the entries are gone: a CPU that runs the domain later can't find them.
            total.debt.add(self.platform.dirty_cpus(dom));
        }
        ended.map_err(|halt| op.to_error(halt))
    }

    fn clear_range(
        &self,
        op: &mut OpContext<'_>,
        root: Mfn,
        range: &mut PageRange,
        cleared: &mut u64,
    ) -> Result<(), OpError> {
        if range.pages == 0 {
            return Ok(());
        }
        if !range.is_guest_range() {
            return Err(op.refuse(Cause::BadAddress(range.start.get()), root, None, None));
        }
        self.run_deferred(op)?;
        while range.pages != 0 {
            if op.budget.is_used_up() {
                return Err(OpError::Preempted);
            }
            match self.walk(root, range.start) {
                Ok(leaf) => {
                    let pages = self.clear_leaves(op, leaf.table, leaf.index, range, cleared)?;
                    range.advance(pages);
                }
                Err(WalkError::NotPresent { level, .. } | WalkError::NotATable { level, .. }) => {
                    op.budget.charge(1);
                    range.advance(pages_to_next(range.start, level));
                }
                // Checked above; an error, so that the loop ends in any case.
                Err(WalkError::NonCanonical | WalkError::Reserved) => {
                    let cause = Cause::BadAddress(range.start.get());
                    return Err(op.refuse(cause, root, None, None));
                }
            }
        }
        Ok(())
    }

    /// Clears entries of one L1 table from a slot on, up to the end of the range, the table or the
    /// budget. Returns the number of pages.
    fn clear_leaves(
        &self,
        op: &mut OpContext<'_>,
        table: Mfn,
        first: Index,
        range: &PageRange,
        cleared: &mut u64,
    ) -> Result<u64, OpError> {
        let frame = self.require_frame(op, table)?;
        if !self.get_live_type_ref(op, frame, Kind::L1) {
            let info = frame.info();
            if info.kind() == Kind::L1 && info.is_full() {
                // To try again would not help: the count stays full until the domain drops references.
                return Err(op.refuse(Cause::CountOverflow, table, Some(frame), Some(Kind::L1)));
            }
            // It was a table a moment ago: another CPU is working on it.
            op.budget.charge(1);
            return Err(OpError::Preempted);
        }
        let room = (ENTRIES - first.get()).min(op.budget.left());
        let pages = range.pages.min(room as u64);
        for slot in first.get()..first.get() + pages as usize {
            let index = Index::new_truncate(slot as u64);
            let mut raw = self.read(table, index);
            while raw & PRESENT != 0 {
                match self.platform.compare_exchange_entry(table, index, raw, 0) {
                    Ok(()) => {
                        self.put_l1e(raw);
                        *cleared += 1;
                        break;
                    }
                    Err(now) => raw = now,
                }
            }
        }
        op.budget.charge(pages as usize);
        self.put_table_ref(op, table, frame, Kind::L1);
        Ok(pages)
    }
}

/// Pages up to the end of what one entry of a level's table spans.
fn pages_to_next(address: Vaddr, level: Level) -> u64 {
    let span = level.pages_per_entry();
    span - (address.get() / PAGE_SIZE) % span
}
