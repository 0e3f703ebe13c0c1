//! Teardown of a domain's memory: drops every reference and frees every frame, in steps.
//!
//! The work grows with the domain, so a step does a bounded part of it, and its caller can do other work
//! in between. The order of the phases matters:
//!
//! 1. The page tables are taken apart, so that no entry of the domain's holds a reference. No CPU runs the
//!    domain any more.
//! 2. The grant table is closed: from now on no domain begins to use a frame of this one. Copies in flight
//!    are waited for, and the domain's own handles are released.
//! 3. The frames are freed. A frame that another domain has mapped stays the dead domain's until that
//!    domain unmaps it ([`crate::grant`]).

use crate::frames::FrameAllocator;
use crate::grant::pages::FrameWords;
use crate::grant::{Domains, GrantState};
use pinfold_validator::{Budget, DomId, Error, Mfn, Platform, Refusal, RelinquishProgress};
use spin::RelaxStrategy;

/// Frames of the frame table that cost as much to skip as one table entry costs to visit.
const FRAMES_PER_ENTRY: u64 = 2;
/// Cost of freeing a frame, in table entries: measured as 1300 instructions, and an entry as up to 64.
const ENTRIES_PER_FREED_FRAME: u32 = 24;
/// Cost of releasing a handle, in table entries: its frame may be flushed and freed.
const ENTRIES_PER_HANDLE: u32 = 16;

/// Totals of a teardown, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TeardownSummary {
    /// Freed.
    pub freed: u64,
    /// Mapped by another domain, which frees them.
    pub kept: u64,
    /// With references that should be gone: a bug in the hypervisor.
    pub stuck: u64,
}

/// Whether a step was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum TeardownStep {
    /// There is more to do.
    More,
    /// All is done.
    Done(TeardownSummary),
}

#[derive(Debug)]
enum Phase {
    Tables(RelinquishProgress),
    Copies,
    Handles { from: u32 },
    Frames { next: u64 },
    Done,
}

/// Teardown of a domain's memory.
#[derive(Debug)]
pub struct DomainTeardown {
    dom: DomId,
    phase: Phase,
    summary: TeardownSummary,
}

impl DomainTeardown {
    /// Of a domain that no CPU runs any more. The hypervisor must have dropped its own references.
    pub fn new(dom: DomId) -> DomainTeardown {
        let phase = Phase::Tables(RelinquishProgress::new());
        DomainTeardown { dom, phase, summary: TeardownSummary::default() }
    }

    /// Does about as much work as visiting `entries` table entries. Calls `report` with refusals, which
    /// there should not be.
    pub fn step<P, M, R>(
        &mut self,
        allocator: &FrameAllocator<'_, P, R>,
        grants: &GrantState<M, R>,
        domains: &impl Domains<M, R>,
        entries: u32,
        report: &mut dyn FnMut(&Refusal),
    ) -> TeardownStep
    where
        P: Platform,
        M: FrameWords + Clone,
        R: RelaxStrategy,
    {
        let validator = allocator.validator();
        match &mut self.phase {
            Phase::Tables(progress) => {
                match validator.relinquish(self.dom, progress, &mut Budget::new(entries)) {
                    Err(Error::Preempted) => return TeardownStep::More,
                    // A bug: relinquish drops only what is held. The audit names the frame.
                    Err(Error::Refused(refusal)) => report(&refusal),
                    Ok(()) => {}
                }
                grants.close(allocator);
                self.phase = Phase::Copies;
            }
            // Copies wait for flushes only, so they end soon.
            Phase::Copies => {
                if !grants.has_copies_in_flight() {
                    self.phase = Phase::Handles { from: 0 };
                }
            }
            Phase::Handles { from } => {
                let limit = (entries / ENTRIES_PER_HANDLE).max(1) as usize;
                self.phase =
                    match grants.release_handles(allocator, self.dom, domains, *from, limit) {
                        Some(from) => Phase::Handles { from },
                        None => Phase::Frames { next: 0 },
                    };
            }
            Phase::Frames { next } => {
                let next =
                    free_some(allocator, self.dom, *next, entries, &mut self.summary, report);
                self.phase = match next {
                    Some(next) => Phase::Frames { next },
                    None => Phase::Done,
                };
            }
            Phase::Done => return TeardownStep::Done(self.summary),
        }
        TeardownStep::More
    }
}

/// Frees frames of a domain from number `next` on, for the cost of `entries`. Returns where to go on;
/// `None` at the end.
fn free_some<P: Platform, R: RelaxStrategy>(
    allocator: &FrameAllocator<'_, P, R>,
    dom: DomId,
    mut next: u64,
    entries: u32,
    summary: &mut TeardownSummary,
    report: &mut dyn FnMut(&Refusal),
) -> Option<u64> {
    let validator = allocator.validator();
    let mut left = u64::from(entries) * FRAMES_PER_ENTRY;
    while left > 0 {
        if next >= validator.frame_count() {
            return None;
        }
        let mfn = Mfn::new(next);
        next += 1;
        left -= 1;
        if validator.owner(mfn) != Some(dom) {
            continue;
        }
        left = left.saturating_sub(u64::from(ENTRIES_PER_FREED_FRAME) * FRAMES_PER_ENTRY);
        match allocator.reclaim(mfn, dom) {
            Ok(()) => summary.freed += 1,
            // Another domain has it mapped and will free it, or has just freed it.
            Err(_)
                if validator.owner(mfn) != Some(dom)
                    || validator.info(mfn).is_some_and(|info| info.is_foreign_mapped()) =>
            {
                summary.kept += 1;
            }
            Err(refusal) => {
                summary.stuck += 1;
                report(&refusal);
            }
        }
    }
    Some(next)
}
