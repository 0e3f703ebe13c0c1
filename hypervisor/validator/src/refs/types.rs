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
    /// Takes a reference of a type that is held already, by a frame of the operation's domain.
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

    /// The frame changed hands between the look at its owner and the reference: gives it back.
    #[cold]
    #[inline(never)]
    pub(crate) fn undo_join_after_owner_change(&self, frame: &FrameEntry, kind: Kind) {
        // A reference that mapped nothing; if it was the last by now, the table's true holders
        // dropped theirs meanwhile, and left the taking apart to us. Partial, whole, it waits for
        // whoever wants the frame.
        match frame.put_type_ref(kind, None) {
            PutOutcome::StillHeld => {}
            PutOutcome::Idle => frame.put(),
            PutOutcome::LastOfTable => frame.suspend(kind, Progress::WHOLE),
        }
    }

    /// Takes a type reference of a frame, promoting it if it is the first.
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
        // Whatever the hypervisor does with a frame, it does through its own view.
        self.get_ref_with_memtype(op, mfn, frame, Some(kind), MemoryType::WriteBack, None)
    }

    /// Takes a reference of a frame for a use that is cached in one way: a general one, or one of a
    /// type. `place`: the entry that wants it, if one does.
    pub(crate) fn get_ref_with_memtype(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        kind: Option<Kind>,
        wanted: MemoryType,
        location: Option<EntryLocation>,
    ) -> Result<(), OpError> {
        let mixes = self.reserve_memtype(op, mfn, frame, wanted, kind, location.is_some())?;
        if let Some(kind) = kind {
            self.get_reserved_type_ref(op, mfn, frame, kind)?;
        }
        if let Some(present) = mixes {
            let cause = Cause::CacheAlias { wanted, present };
            self.report_conflict(op, mfn, frame, cause, kind, location);
        }
        Ok(())
    }

    /// Takes a type reference of a frame, with a general one in hand that becomes the type's, or is
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
                    // INV-TLB: the type is ours; only now flush, and only then read. What was the
                    // same before owes nothing: its stale translations mean what new ones mean.
                    let changes = before.kind() != kind;
                    if changes {
                        self.flush_before_change(op, frame, before.stamp());
                    }
                    let stamp = if changes { None } else { before.stamp() };
                    if kind == Kind::Writable {
                        frame.publish(kind, stamp);
                        return Ok(());
                    }
                    // INV-COHERENT: mixed since we took our reference, or about to be.
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
                    // What it was, walks may remember: they do still if it fails to be that again.
                    let progress = Progress { live: stamp.is_some(), ..Progress::START };
                    return self.promote(op, mfn, frame, kind, progress);
                }
                Begun::Resumed(progress) => {
                    // The type kept a general reference while it was partial.
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

    /// Flushes the CPUs that may remember the frame as what it was (`INV-TLB`, `INV-FOREIGN`).
    ///
    /// Whoever mapped it for another domain marked it as lent before the entry was there, and let go
    /// of the type after; we have the type by now, so we see the mark.
    fn flush_before_change(&self, op: &OpContext<'_>, frame: &FrameEntry, stamp: Option<u64>) {
        match stamp {
            Some(stamp) if frame.ref_word().is_foreign_mapped() => {
                self.flush_if_behind(stamp, self.platform.all_cpus());
            }
            _ => self.flush_since(op.dom, stamp),
        }
    }

    /// Takes a general reference of a frame that isn't looked into.
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

    /// Drops a type reference, demoting the table if it was the last. Always succeeds: what the
    /// budget doesn't reach is left as an orphan, for the domain's next operation.
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

    /// Drops a writable reference of ours, which no guest's TLB ever saw.
    pub(crate) fn put_unmapped_writable(&self, frame: &FrameEntry) {
        if frame.put_type_ref(Kind::Writable, None) == PutOutcome::Idle {
            frame.put();
        }
    }
}
