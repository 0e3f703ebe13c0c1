//! Pins, roots, and references of the hypervisor's own.
//!
//! Each `get_` has its `put_`, which must be called exactly once. The hypervisor calls them from the
//! constructors and `Drop` of its reference types (`memory/frame_refs.rs`), and from nowhere else.

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
    /// Pins a table of the domain's: the frame is validated, with all tables below it, and stays a table
    /// until it is unpinned.
    ///
    /// # Errors
    /// Refused: not the domain's ([`Cause::NotOwned`]), mapped writable ([`Cause::WritableAlias`]) or
    /// other than write-back ([`Cause::CacheAlias`]), in use as something else, pinned already, or one
    /// of its entries is refused. Preempted: call again.
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

    /// Unpins a table. It stays a table as long as it has other references. What the budget does not
    /// reach of taking it apart is done by the domain's next operations.
    ///
    /// # Errors
    /// Refused: not the domain's, not pinned. Preempted: nothing was done; call again.
    pub fn unpin(&self, dom: DomId, mfn: Mfn, budget: &mut Budget) -> Result<(), Error> {
        let mut op = OpContext::new(Operation::Unpin, dom, budget);
        self.unpin_any(&mut op, mfn).map_err(|halt| op.to_error(halt))
    }

    pub(crate) fn unpin_any(&self, op: &mut OpContext<'_>, mfn: Mfn) -> Result<(), OpError> {
        self.run_deferred(op)?;
        let frame = self.require_frame(op, mfn)?;
        // With a reference, so that the owner can't change before the pin is removed.
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

    /// Takes a type reference of a root, for a vCPU that is to load it. [`Validator::put_root_ref`] drops
    /// it.
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

    /// Drops a reference of [`Validator::get_root_ref`], once. No CPU has the root loaded because of it
    /// any more.
    ///
    /// Always succeeds: what the budget does not reach of taking the table apart is done by the domain's
    /// next operations.
    pub fn put_root_ref(&self, dom: DomId, mfn: Mfn, budget: &mut Budget) {
        let mut op = OpContext::new(Operation::LoadRoot, dom, budget);
        if let Some(frame) = self.frame(mfn) {
            self.put_table_ref(&mut op, mfn, frame, Kind::L4);
        }
    }

    /// Takes a writable type reference of a frame of the domain's, so that the hypervisor may write to it
    /// on the guest's behalf. [`Validator::put_writable_ref`] drops it.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::TableInUse`], [`Cause::CacheAlias`]:
    /// the hypervisor writes through a write-back view; [`Cause::Busy`] if another CPU is changing the
    /// frame, or it is a partial table that takes long to take apart.
    pub fn get_writable_ref(&self, dom: DomId, mfn: Mfn) -> Result<(), Refusal> {
        run_unbudgeted(Operation::WritePage, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            self.get_type_ref(op, mfn, frame, Kind::Writable)
        })
    }

    /// Drops a reference of [`Validator::get_writable_ref`], once.
    pub fn put_writable_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn) {
            self.put_unmapped_writable(frame);
        }
    }

    /// Takes a general reference of a frame of the domain's, so that the hypervisor may read it: the frame
    /// stays the domain's, whatever its type. [`Validator::put_readable_ref`] drops it.
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

    /// Drops a reference of [`Validator::get_readable_ref`], once.
    pub fn put_readable_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn) {
            frame.put();
        }
    }

    /// Calls `act` with a general reference of the frame held, so that the domain stays its owner
    /// meanwhile. Its type and memory type don't matter.
    ///
    /// # Errors
    /// [`Cause::NoSuchFrame`], [`Cause::NotOwned`], [`Cause::CountOverflow`]; then `act` is not called.
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

    /// Takes a type reference of a descriptor page of the domain's, for a GDT or LDT. The first one makes
    /// the frame a descriptor page: all its descriptors are checked, and changed to their effective form
    /// ([`Validator::check_descriptor`]).
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

    /// Drops a reference of [`Validator::get_descriptor_ref`], once. No CPU has the page in its GDT or LDT
    /// because of it any more.
    pub fn put_descriptor_ref(&self, _dom: DomId, mfn: Mfn) {
        if let Some(frame) = self.frame(mfn)
            && frame.put_type_ref(Kind::Descriptor, Some(self.clock.now())) == PutOutcome::Idle
        {
            frame.put();
        }
    }
}
