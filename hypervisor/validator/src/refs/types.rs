//! Type references: taking one of a type that is held, beginning a type, dropping one.

use crate::addr::Mfn;
use crate::context::{OpContext, OpError};
use crate::frame_table::{BeginError, Begun, FrameEntry, Kind, Progress, PutOutcome, RefError};
use crate::memtype::FrameMemType;
use crate::platform::Platform;
use crate::refusal::{Cause, EntryLocation};
use crate::validator::Validator;
use pinfold_abi::mmu::MemoryType;

impl<P: Platform> Validator<'_, P> {
    /// Takes one more reference of a validated type, of a frame that the operation's domain owns. `false`
    /// if that can't be done in one step: [`Validator::get_type_ref`] then does it.
    #[inline(always)]
    pub(crate) fn get_live_type_ref(
        &self,
        op: &OpContext<'_>,
        frame: &FrameEntry,
        kind: Kind,
    ) -> bool {
        if !frame.is_owned(op.owned) || !frame.get_type_ref(kind) {
            return false;
        }
        if frame.is_owned(op.owned) {
            return true;
        }
        self.undo_join_after_owner_change(frame, kind);
        false
    }

    /// Drops a type reference of a frame that got another owner between the check and the reference.
    #[cold]
    #[inline(never)]
    pub(crate) fn undo_join_after_owner_change(&self, frame: &FrameEntry, kind: Kind) {
        // It mapped nothing. If it is the last by now, the other holders dropped theirs meanwhile, and
        // the table is ours to take apart: left partial, for the next operation that wants the frame.
        match frame.put_type_ref(kind, None) {
            PutOutcome::StillHeld => {}
            PutOutcome::Idle => frame.put(),
            PutOutcome::LastOfTable => frame.suspend(kind, Progress::WHOLE),
        }
    }

    /// Takes a type reference of a frame. The first one promotes it: the frame is validated.
    #[inline]
    pub(crate) fn get_type_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        if self.get_live_type_ref(op, frame, kind) {
            Ok(())
        } else {
            self.get_type_ref_slow(op, mfn, frame, kind)
        }
    }

    #[inline(never)]
    fn get_type_ref_slow(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        // The hypervisor uses the frame through its own view, which is write-back.
        self.get_ref_with_memtype(op, mfn, frame, Some(kind), MemoryType::WriteBack, None)
    }

    /// Takes a reference of a frame for a use with one memory type: a type reference if a kind is given,
    /// else a general one. `location`: the entry that asks for it, if one does.
    pub(crate) fn get_ref_with_memtype(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Option<Kind>,
        wanted: MemoryType,
        location: Option<EntryLocation>,
    ) -> Result<(), OpError> {
        let conflict = self.reserve_memtype(op, mfn, frame, wanted, kind, location.is_some())?;
        if let Some(kind) = kind {
            self.get_reserved_type_ref(op, mfn, frame, kind)?;
        }
        if let Some(present) = conflict {
            let cause = Cause::CacheAlias { wanted, present };
            self.report_conflict(op, mfn, frame, cause, kind, location);
        }
        Ok(())
    }

    /// Takes a type reference of a frame. The caller's general reference becomes the type's, or is
    /// dropped.
    fn get_reserved_type_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) -> Result<(), OpError> {
        if frame.ref_word().is_shared() && kind != Kind::Writable {
            frame.put();
            return Err(op.refuse(Cause::SharedFrame, mfn, Some(frame), Some(kind)));
        }
        loop {
            let entered = match frame.begin_type(kind) {
                Ok(entered) => entered,
                Err(why) => {
                    frame.put();
                    return Err(self.begin_error(op, mfn, frame, kind, why));
                }
            };
            match entered {
                Begun::Shared => {
                    frame.put();
                    return Ok(());
                }
                Begun::Started(before) => {
                    // INV-TLB: first the type, then the flush, then the entries are read. A frame that had
                    // the same kind before needs no flush: stale translations allow what new ones do.
                    let changes = before.kind() != kind;
                    if changes {
                        self.flush_before_change(op, frame, before.stamp());
                    }
                    let stamp = if changes { None } else { before.stamp() };
                    if kind == Kind::Writable {
                        frame.publish(kind, stamp);
                        return Ok(());
                    }
                    // INV-COHERENT: another CPU may have mapped it with another memory type since the
                    // reference was taken.
                    let caching = frame.memtype_of_typed();
                    if !caching.is_write_back() {
                        frame.finish(kind, stamp);
                        frame.put();
                        return Err(self.memtype_conflict(op, mfn, frame, kind, caching));
                    }
                    if kind == Kind::Descriptor {
                        return self.promote_descriptors(op, mfn, frame);
                    }
                    self.table_map.note_table(mfn);
                    // If it was a table of this kind before, page walks may still have it cached, also
                    // after a validation that fails.
                    let progress = Progress { live: stamp.is_some(), ..Progress::START };
                    return self.promote(op, mfn, frame, kind, progress);
                }
                Begun::Resumed(progress) => {
                    // A partial type still has its general reference.
                    frame.put();
                    return self.promote(op, mfn, frame, kind, progress);
                }
                Begun::Undoing(progress) => {
                    let was = frame.type_word().kind();
                    if !self.demote(op, mfn, frame, was, progress) {
                        frame.put();
                        return Err(OpError::Preempted);
                    }
                }
            }
        }
    }

    /// Flushes the CPUs that may have the frame cached with its old type (`INV-TLB`, `INV-FOREIGN`).
    ///
    /// A CPU that mapped it for another domain marked it before it stored the entry, and dropped the
    /// type later. This CPU has the type, so it sees the mark.
    fn flush_before_change(&self, op: &OpContext<'_>, frame: &FrameEntry, stamp: Option<u64>) {
        match stamp {
            Some(stamp) if frame.ref_word().is_foreign_mapped() => {
                self.flush_if_behind(stamp, self.platform.all_cpus());
            }
            _ => self.flush_since(op.dom, stamp),
        }
    }

    /// Takes a general reference of a frame, to keep its owner and not to access it.
    pub(crate) fn get(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: Option<Kind>,
    ) -> Result<(), OpError> {
        frame.get(op.dom).map_err(|why| {
            let cause = match why {
                RefError::Overflow => Cause::CountOverflow,
                RefError::NotOwned | RefError::OtherMemType(_) | RefError::Contended => {
                    Cause::NotOwned
                }
            };
            op.refuse(cause, mfn, Some(frame), wanted)
        })
    }

    #[cold]
    fn memtype_conflict(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        present: FrameMemType,
    ) -> OpError {
        if present == FrameMemType::Changing {
            return OpError::Preempted;
        }
        let cause = Cause::CacheAlias { wanted: MemoryType::WriteBack, present };
        op.refuse(cause, mfn, Some(frame), Some(kind))
    }

    #[cold]
    fn begin_error(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
        why: BeginError,
    ) -> OpError {
        let cause = match why {
            BeginError::Contended => return OpError::Preempted,
            BeginError::Overflow(_) => Cause::CountOverflow,
            BeginError::OtherType(seen) => match (seen.kind(), kind) {
                (Kind::Writable, _) => Cause::WritableAlias,
                (_, Kind::Writable) => Cause::TableInUse,
                _ => Cause::WrongType,
            },
        };
        op.refuse(cause, mfn, Some(frame), Some(kind))
    }

    /// Drops a type reference of a table; the last one demotes it. Always succeeds: what the budget does
    /// not reach is deferred to the domain's next operation.
    #[inline]
    pub(crate) fn put_table_ref(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Kind,
    ) {
        if !frame.try_put_table_ref() && frame.put_type_ref(kind, None) == PutOutcome::LastOfTable {
            self.demote(op, mfn, frame, kind, Progress::WHOLE);
        }
    }

    /// Drops a writable reference of a mapping that is gone from the tables.
    #[inline(always)]
    pub(crate) fn put_mapped_writable(&self, frame: &FrameEntry) {
        if frame.put_writable_ref(|| self.clock.now()) {
            frame.put();
        }
    }

    /// Drops a writable reference of the hypervisor's own, which no guest's TLB has cached.
    pub(crate) fn put_unmapped_writable(&self, frame: &FrameEntry) {
        if frame.put_type_ref(Kind::Writable, None) == PutOutcome::Idle {
            frame.put();
        }
    }
}
