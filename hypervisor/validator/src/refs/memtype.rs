//! General references of frames, for a use with one memory type.

use crate::addr::Mfn;
use crate::context::{OpContext, OpError};
use crate::frame_table::{FrameEntry, Kind, RefError, RefWord, Reservation};
use crate::memtype::{CachePolicy, FrameMemType};
use crate::platform::Platform;
use crate::refusal::{Cause, EntryLocation, Operation, Refusal};
use crate::validator::Validator;
use pinfold_abi::mmu::MemoryType;

/// Changes of memory types that one call makes: each is a flush of the domain's CPUs and of a page
/// from the caches, tens of microseconds (`INV-BOUND`).
const CHANGES: u8 = 32;

impl<P: Platform> Validator<'_, P> {
    /// Takes a general reference of a frame, for a use that is cached in one way. `Some`: it is
    /// cached in others too, which the policy bears, if it is told of
    /// ([`Validator::report_conflict`]), for a guest's own entries: what the hypervisor holds on its
    /// own account is never one of several. `by_entry`: it is for an entry.
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
        if op.type_changes == CHANGES {
            // It goes on where it was when it is asked again.
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

    /// Goes on where a frame is not cached as it is wanted, and the policy bears that.
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
            // One a call, since each costs a search: the next one when it is asked again.
            return Err(OpError::Preempted);
        }
        match frame.get_mixed(op.dom) {
            Ok(()) => Ok(Some(present)),
            Err(failure) => Err(self.reserve_error(op, mfn, frame, wanted, kind, failure)),
        }
    }

    /// Drops what is remembered of a frame that was cached in one way and will be in another, by
    /// the TLBs first and the caches after (`INV-CACHE`). Nobody can map it meanwhile.
    #[cold]
    #[inline(never)]
    pub(crate) fn flush_old_memtype(&self, op: &OpContext<'_>, mfn: Mfn, seen: RefWord) {
        let cpus = if seen.is_foreign_mapped() {
            self.platform.all_cpus()
        } else {
            self.platform.dirty_cpus(op.dom)
        };
        // Read-only mappings leave no stamp when they go, so it is as if the last one went now.
        self.flush_if_behind(self.clock.now(), cpus);
        self.platform.flush_cache(mfn);
    }

    /// Whether the frame may be mixed for this. What another domain lent may not: the policy of a
    /// domain is about its own memory.
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

    /// Tells of a use that was had although the frame is cached otherwise.
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
