//! Context of an operation: its domain, its budget, and the evidence if it is refused.
//!
//! Inner functions return [`OpError`], which is one byte. The evidence is kept here, and becomes an
//! [`Error`] once, in the public function: so the paths that succeed copy nothing big.

use crate::addr::{ENTRIES, Index, Level, Mfn};
use crate::budget::Budget;
use crate::entry::Entry;
use crate::frame_table::{FrameEntry, Kind, owned_pattern};
use crate::ids::DomId;
use crate::refusal::{Cause, EntryLocation, Error, Operation, Refusal};

/// Entries that such an operation may visit: eight tables.
const SMALL_BUDGET: u32 = 8 * ENTRIES as u32;

/// Why an inner function stopped. With `Refused` the evidence is in the [`OpContext`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpError {
    Refused,
    Preempted,
}

/// Context of an operation.
pub(crate) struct OpContext<'b> {
    pub(crate) operation: Operation,
    pub(crate) dom: DomId,
    /// [`owned_pattern`] of `dom`.
    pub(crate) owned: u64,
    pub(crate) budget: &'b mut Budget,
    /// Changes of memory types so far.
    pub(crate) type_changes: u8,
    /// A conflict of memory types was reported
    /// ([`Platform::report_cache_alias`](crate::Platform::report_cache_alias)).
    pub(crate) has_reported: bool,
    evidence: Option<Refusal>,
}

impl<'b> OpContext<'b> {
    #[inline]
    pub(crate) fn new(operation: Operation, dom: DomId, budget: &'b mut Budget) -> OpContext<'b> {
        OpContext {
            operation,
            dom,
            owned: owned_pattern(dom),
            budget,
            type_changes: 0,
            has_reported: false,
            evidence: None,
        }
    }

    /// Notes why the operation is refused.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(
        &mut self,
        cause: Cause,
        mfn: Mfn,
        frame: Option<&FrameEntry>,
        wanted: Option<Kind>,
    ) -> OpError {
        self.evidence = Some(self.make_refusal(cause, mfn, frame, wanted));
        OpError::Refused
    }

    /// A refusal with this evidence.
    #[cold]
    pub(crate) fn make_refusal(
        &self,
        cause: Cause,
        mfn: Mfn,
        frame: Option<&FrameEntry>,
        wanted: Option<Kind>,
    ) -> Refusal {
        Refusal {
            operation: self.operation,
            dom: self.dom,
            cause,
            frame: mfn,
            wanted,
            seen: frame.map(FrameEntry::info),
            location: None,
        }
    }

    /// Adds the entry that led to the refusal, unless an inner function has added one.
    #[cold]
    #[inline(never)]
    pub(crate) fn set_location(
        &mut self,
        level: Option<Level>,
        table: Mfn,
        index: Index,
        entry: u64,
    ) {
        if let Some(evidence) = &mut self.evidence {
            let entry = Entry::new(entry);
            evidence.location.get_or_insert(EntryLocation { level, table, index, entry });
        }
    }

    /// The refusal so far.
    pub(crate) fn evidence(&self) -> Option<&Refusal> {
        self.evidence.as_ref()
    }

    /// Changes the refusal.
    #[cold]
    pub(crate) fn amend(&mut self, change: impl FnOnce(&mut Refusal)) {
        if let Some(evidence) = &mut self.evidence {
            change(evidence);
        }
    }

    /// The error that the public function returns.
    #[cold]
    #[inline(never)]
    pub(crate) fn to_error(&self, halt: OpError) -> Error {
        match (halt, self.evidence) {
            (OpError::Refused, Some(refusal)) => Error::Refused(refusal),
            _ => {
                debug_assert_eq!(halt, OpError::Preempted, "a refusal without evidence");
                Error::Preempted
            }
        }
    }
}

/// Runs an operation whose caller has no budget for it and can't resume it.
pub(crate) fn run_unbudgeted<T>(
    operation: Operation,
    dom: DomId,
    run: impl FnOnce(&mut OpContext<'_>) -> Result<T, OpError>,
) -> Result<T, Refusal> {
    let mut budget = Budget::new(SMALL_BUDGET);
    let mut op = OpContext::new(operation, dom, &mut budget);
    run(&mut op).map_err(|halt| match op.to_error(halt) {
        Error::Refused(refusal) => refusal,
        // Another CPU is changing the frame, or it is a table that takes more work to take apart: to
        // the caller it is in use.
        Error::Preempted => {
            op.refuse(Cause::Busy, Mfn::new(0), None, None);
            match op.to_error(OpError::Refused) {
                Error::Refused(refusal) => refusal,
                Error::Preempted => unreachable!("evidence was just given"),
            }
        }
    })
}
