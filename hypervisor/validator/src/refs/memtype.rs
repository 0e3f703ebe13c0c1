//! General references of frames, for a use with one memory type.

use crate::addr::Mfn;
use crate::context::{OpContext, OpError};
use crate::frame_table::{FrameEntry, Kind, RefError, RefWord, Reservation};
use crate::memtype::{CachePolicy, FrameMemType};
use crate::platform::Platform;
use crate::refusal::{Cause, EntryLocation, Operation, Refusal};
use crate::validator::Validator;
use pinfold_abi::mmu::MemoryType;

/// Most changes of memory types in one call (`INV-BOUND`). Each flushes the domain's CPUs, and a page
/// from the caches: tens of microseconds.
const MAX_CHANGES: u8 = 32;

impl<P: Platform> Validator<'_, P> {
    /// Takes a general reference of a frame for a use with one memory type, and makes that the frame's
    /// if nothing else refers to it. `by_entry`: the use is an entry of a guest's table.
    ///
    /// Returns `Some` with the memory type of the other mappings if it differs, the policy allows that,
    /// and the use is an entry. The caller reports it ([`Validator::report_conflict`]) once it has all
    /// that the entry holds.
    #[inline]
    pub(crate) fn reserve_memtype(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        by_entry: bool,
    ) -> Result<Option<FrameMemType>, OpError> {
        if op.type_changes == MAX_CHANGES {
            // The caller resumes from here.
            return Err(OpError::Preempted);
        }
        match frame.get_with_memtype(op.dom, wanted) {
            Ok(Reservation::AsWanted) => Ok(None),
            Ok(Reservation::Changing) => {
                op.type_changes += 1;
                self.flush_old_memtype(op, mfn, frame.ref_word());
                frame.set_memtype(FrameMemType::Uniform(wanted));
                Ok(None)
            }
            Err(RefError::OtherMemType(present)) if by_entry && self.allows_conflict(op, kind) => {
                self.reserve_mixed(op, mfn, frame, wanted, kind, present)
            }
            Err(failure) => Err(self.reserve_error(op, mfn, frame, wanted, kind, failure)),
        }
    }

    /// Takes the reference although the frame has another memory type.
    #[cold]
    #[inline(never)]
    fn reserve_mixed(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        present: FrameMemType,
    ) -> Result<Option<FrameMemType>, OpError> {
        if op.has_reported {
            // One report in a call, since each costs a search. The caller tries again.
            return Err(OpError::Preempted);
        }
        match frame.get_mixed(op.dom) {
            Ok(()) => Ok(Some(present)),
            Err(failure) => Err(self.reserve_error(op, mfn, frame, wanted, kind, failure)),
        }
    }

    /// Flushes a frame whose memory type changes: from the TLBs first, then from the caches
    /// (`INV-CACHE`). No CPU can map it meanwhile.
    #[cold]
    #[inline(never)]
    pub(crate) fn flush_old_memtype(&self, op: &OpContext<'_>, mfn: Mfn, seen: RefWord) {
        let cpus = if seen.is_foreign_mapped() {
            self.platform.all_cpus()
        } else {
            self.platform.dirty_cpus(op.dom)
        };
        // Read-only mappings leave no stamp when they go: assume that the last one went now.
        self.flush_if_behind(self.clock.now(), cpus);
        self.platform.flush_cache(mfn);
    }

    /// Whether the policy allows a use with another memory type. Never for a granted frame: the policy
    /// of a domain is about its own memory.
    fn allows_conflict(&self, op: &OpContext<'_>, kind: Option<Kind>) -> bool {
        matches!(kind, None | Some(Kind::Writable))
            && op.operation != Operation::MapGranted
            && self.platform.cache_policy(op.dom) == CachePolicy::Report
    }

    #[cold]
    fn reserve_error(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        failure: RefError,
    ) -> OpError {
        let cause = match failure {
            RefError::Contended => return OpError::Preempted,
            RefError::Overflow => Cause::CountOverflow,
            RefError::NotOwned => Cause::NotOwned,
            RefError::OtherMemType(present) => Cause::CacheAlias { wanted, present },
        };
        op.refuse(cause, mfn, Some(frame), kind)
    }

    /// Reports a use whose memory type differs from that of the frame's other mappings.
    #[cold]
    pub(crate) fn report_conflict(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        cause: Cause,
        kind: Option<Kind>,
        location: Option<EntryLocation>,
    ) {
        op.has_reported = true;
        let refusal = Refusal { location, ..op.make_refusal(cause, mfn, Some(frame), kind) };
        self.platform.report_cache_alias(&refusal);
    }
}
