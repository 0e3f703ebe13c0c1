//! Pins, roots, and what the hypervisor itself holds: the public doors to types.

use crate::addr::{Level, Mfn};
use crate::budget::Budget;
use crate::context::run_unbudgeted;
use crate::context::{OpContext, OpError};
use crate::frame_table::{Kind, PutOutcome};
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Cause, Error, Operation, Refusal};
use crate::validator::Validator;
use pinfold_abi::mmu::MemoryType;

impl<P: Platform> Validator<'_, P> {
    /// Makes a frame of the domain's a table for good: it is validated, with all below it, and stays
    /// one until it is unpinned.
    ///
    /// # Errors
    /// Refused: not the domain's ([`Cause::NotOwned`]), mapped writable ([`Cause::WritableAlias`])
    /// or other than write-back ([`Cause::CacheAlias`]),
    /// in use as something else, pinned already, or an entry that may not be. Preempted: ask again.
    pub fn pin(
        &self,
        dom: DomId,
        level: Level,
        mfn: Mfn,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::Pin(level), dom, budget);
        let kind = Kind::table(level);
        self.pin_as(&mut op, mfn, kind).map_err(|halt| op.to_error(halt))
    }

    fn pin_as(&self, op: &mut OpContext<'_>, mfn: Mfn, kind: Kind) -> Result<(), OpError> {
        self.run_deferred(op)?;
        let frame = self.require_frame(op, mfn)?;
        self.get_type_ref(op, mfn, frame, kind)?;
        if frame.set_pinned() {
            return Ok(());
        }
        self.put_table_ref(op, mfn, frame, kind);
        Err(op.refuse(Cause::AlreadyPinned, mfn, Some(frame), Some(kind)))
    }

    /// Takes a pin away. The table stays one as long as others refer to it. What the budget
    /// doesn't reach of taking it apart is done by the domain's next operations.
    ///
    /// # Errors
    /// Refused: not the domain's, not pinned. Preempted: nothing was done; ask again.
    pub fn unpin(&self, dom: DomId, mfn: Mfn, budget: &mut Budget) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::Unpin, dom, budget);
        self.unpin_any(&mut op, mfn).map_err(|halt| op.to_error(halt))
    }

    pub(crate) fn unpin_any(&self, op: &mut OpContext<'_>, mfn: Mfn) -> Result<(), OpError> {
        self.run_deferred(op)?;
        let frame = self.require_frame(op, mfn)?;
        // Held meanwhile, or the frame could change hands before its pin is taken away.
        self.get(op, mfn, frame, None)?;
        let unpinned = match frame.clear_pinned() {
            Ok(kind) => {
                self.put_table_ref(op, mfn, frame, kind);
                Ok(())
            }
            Err(_) => Err(op.refuse(Cause::NotPinned, mfn, Some(frame), None)),
        };
        frame.put();
        unpinned
    }

    /// Takes a reference of a root, for a vCPU that is to load it. It is dropped by
    /// [`Validator::put_root_ref`].
    ///
    /// # Errors
    /// As [`Validator::pin`].
    pub fn get_root_ref(&self, dom: DomId, mfn: Mfn, budget: &mut Budget) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::LoadRoot, dom, budget);
        let run = |op: &mut OpContext<'_>| {
            self.run_deferred(op)?;
            let frame = self.require_frame(op, mfn)?;
            self.get_type_ref(op, mfn, frame, Kind::L4)
        };
        run(&mut op).map_err(|halt| op.to_error(halt))
    }

    /// Drops a reference of [`Validator::get_root_ref`], which the caller must hold; no CPU has the
    /// root loaded any more on its account.
    ///
    /// Always succeeds: what the budget doesn't reach of taking the table apart is done by the
    /// domain's next operations. A caller must not drop twice.
    pub fn put_root_ref(&self, dom: DomId, mfn: Mfn, budget: &mut Budget) {
        let mut op = OpContext::new(Operation::LoadRoot, dom, budget);
        if let Some(frame) = self.frame(mfn) {
            self.put_table_ref(&mut op, mfn, frame, Kind::L4);
        }
    }

    /// Holds a frame of the domain's as writable, so that the hypervisor may write to it on the
    /// guest's behalf. It is dropped by [`Validator::put_writable_ref`].
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::TableInUse`], [`Cause::CacheAlias`]:
    /// the hypervisor writes through a write-back view; [`Cause::Busy`] if
    /// another CPU is changing the frame, or it is a big table half taken apart.
    pub fn get_writable_ref(&self, dom: DomId, mfn: Mfn) -> Result<(), Refusal> {
        run_unbudgeted(Operation::WritePage, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            self.get_type_ref(op, mfn, frame, Kind::Writable)
        })
    }

    /// Drops a reference of [`Validator::get_writable_ref`], which the caller must hold.
    pub fn put_writable_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn) {
            self.put_unmapped_writable(frame);
        }
    }

    /// Holds a frame of the domain's as it is, so that the hypervisor may read it on somebody's
    /// behalf: it stays the domain's. It is dropped by [`Validator::put_readable_ref`].
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::CountOverflow`],
    /// [`Cause::CacheAlias`]; [`Cause::Busy`] if another CPU is changing the frame.
    pub fn get_readable_ref(&self, dom: DomId, mfn: Mfn) -> Result<(), Refusal> {
        run_unbudgeted(Operation::ReadPage, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            self.get_ref_with_memtype(op, mfn, frame, None, MemoryType::WriteBack, None)
        })
    }

    /// Drops a reference of [`Validator::get_readable_ref`], which the caller must hold.
    pub fn put_readable_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn) {
            frame.put();
        }
    }

    /// Does something that is right only as long as the frame is the domain's: with a general
    /// reference held meanwhile, so that it can't change hands. Whatever it is mapped or typed as.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::CountOverflow`]; then nothing is done.
    pub fn with_owned_frame<T>(
        &self,
        dom: DomId,
        mfn: Mfn,
        act: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        run_unbudgeted(Operation::ReadPage, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            self.get(op, mfn, frame, None)?;
            let result = act();
            frame.put();
            Ok(result)
        })
    }

    /// Makes a frame of the domain's a descriptor page, or takes one more reference if it is one:
    /// for a GDT or LDT. All its descriptors are checked, and brought into the form that they may
    /// have ([`Validator::check_descriptor`]).
    ///
    /// # Errors
    /// [`Cause::BadDescriptor`], and as [`Validator::pin`]; [`Cause::Busy`] if another CPU is
    /// changing the frame.
    pub fn get_descriptor_ref(&self, dom: DomId, mfn: Mfn) -> Result<(), Refusal> {
        run_unbudgeted(Operation::UseDescriptors, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            self.get_type_ref(op, mfn, frame, Kind::Descriptor)
        })
    }

    /// Drops a reference of [`Validator::get_descriptor_ref`], which the caller must hold; no CPU has
    /// the page in its GDT or LDT any more on its account.
    pub fn put_descriptor_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn)
            && frame.put_type_ref(Kind::Descriptor, Some(self.clock.now())) == PutOutcome::Idle
        {
            frame.put();
        }
    }
}
