//! One operation under way: for whom, with what budget, and the evidence if it is refused.
//!
//! Inside, functions return the one-byte [`OpError`]; the evidence waits here and becomes a
//! [`Refusal`] once, at the public door. So the paths that succeed move nothing big.

use crate::addr::{Index, Level, Mfn};
use crate::budget::Budget;
use crate::entry::Entry;
use crate::frame_table::{FrameEntry, Kind, owned_pattern};
use crate::ids::DomId;
use crate::refusal::{Cause, EntryLocation, Error, Operation, Refusal};

/// Why an inner function stopped. Whoever says `Refused` has left the evidence in the [`OpContext`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpError {
    Refused,
    Preempted,
}

/// An operation under way.
pub(crate) struct OpContext<'b> {
    pub(crate) operation: Operation,
    pub(crate) dom: DomId,
    /// [`owned_pattern`] of `dom`.
    pub(crate) owned: u64,
    pub(crate) budget: &'b mut Budget,
    /// Changes of memory types that it made.
    pub(crate) type_changes: u8,
    /// A use was told of ([`Platform::report_cache_alias`](crate::Platform::report_cache_alias)).
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

    /// The evidence as it is told.
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

    /// Adds the entry that led to the refusal; the innermost stands.
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

    /// What was noted.
    pub(crate) fn evidence(&self) -> Option<&Refusal> {
        self.evidence.as_ref()
    }

    /// Changes what was noted.
    #[cold]
    pub(crate) fn amend(&mut self, change: impl FnOnce(&mut Refusal)) {
        if let Some(evidence) = &mut self.evidence {
            change(evidence);
        }
    }

    /// What the caller of the public function gets.
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

/// Runs an operation that has no budget and can't be preempted.
pub(crate) fn run_unbudgeted<T>(
    operation: Operation,
    dom: DomId,
    run: impl FnOnce(&mut OpContext<'_>) -> Result<T, OpError>,
) -> Result<T, Refusal> {
    let mut budget = Budget::new(SMALL_WORK);
    let mut op = OpContext::new(operation, dom, &mut budget);
    run(&mut op).map_err(|halt| match op.to_error(halt) {
        Error::Refused(refusal) => refusal,
        // Another CPU is in the middle of changing the frame, or it is a big table half taken
        // apart: as good as in use.
        Error::Preempted => {
            op.refuse(Cause::Busy, Mfn::new(0), None, None);
            match op.to_error(OpError::Refused) {
                Error::Refused(refusal) => refusal,
                Error::Preempted => unreachable!("evidence was just given"),
            }
        }
    })
}

/// Entries that an operation without a budget of its own may visit on the side.
const SMALL_WORK: u32 = 4096;
