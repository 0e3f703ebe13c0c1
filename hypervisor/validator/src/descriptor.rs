//! Segment descriptors: which ones a guest may have in a GDT or LDT.
//!
//! Kernel and user mode of a guest both run in ring 3, so code and data descriptors get DPL 3. Of the
//! system descriptors only call gates are accepted. They get DPL 0, so that their use in ring 3 faults,
//! and their selector RPL 3. Task-state, LDT, interrupt and trap descriptors would lead out of the guest
//! (Intel SDM vol. 3, 3.4.5 and 3.5).

use crate::addr::{ENTRIES, Index, Mfn};
use crate::context::run_unbudgeted;
use crate::context::{OpContext, OpError};
use crate::frame_table::{FrameEntry, Kind};
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Cause, Operation, Refusal};
use crate::validator::Validator;

const PRESENT: u64 = 1 << 47;
const DPL: u64 = 3 << 45;
/// Code or data, as opposed to a system descriptor.
const SEGMENT: u64 = 1 << 44;
const TYPE: u64 = 0xf << 40;
const CALL_GATE: u64 = 0xc << 40;
/// RPL of a gate's selector.
const GATE_RPL: u64 = 3 << 16;

/// What is stored for a descriptor, if a guest may have it: exactly what Xen 4.17 stores
/// (`docs/abi-answers.md`). The CPU sets the accessed bit itself, through the hypervisor's mapping of
/// the page.
const fn effective(raw: u64) -> Option<u64> {
    if raw & PRESENT == 0 {
        Some(raw)
    } else if raw & SEGMENT != 0 {
        Some(raw | DPL)
    } else if raw & TYPE == CALL_GATE {
        Some(raw & !DPL | GATE_RPL)
    } else {
        None
    }
}

impl<P: Platform> Validator<'_, P> {
    /// Checks a descriptor and returns its effective form.
    ///
    /// # Errors
    /// [`Cause::BadDescriptor`].
    pub fn check_descriptor(&self, dom: DomId, raw: u64) -> Result<u64, Refusal> {
        run_unbudgeted(Operation::CheckDescriptor, dom, |op| {
            effective(raw).ok_or_else(|| bad(op, Mfn::new(0), raw))
        })
    }

    /// Changes a descriptor in a descriptor page of the domain's, or in a frame that it may write to.
    ///
    /// # Errors
    /// [`Cause::BadDescriptor`], [`Cause::NoSuchFrame`], [`Cause::NotOwned`],
    /// [`Cause::TableInUse`], [`Cause::BadSlot`], [`Cause::Busy`].
    pub fn update_descriptor(
        &self,
        dom: DomId,
        mfn: Mfn,
        slot: usize,
        raw: u64,
    ) -> Result<(), Refusal> {
        run_unbudgeted(Operation::UpdateDescriptor, dom, |op| {
            let frame = self.require_frame(op, mfn)?;
            let Some(index) = Index::try_new(slot) else {
                return Err(op.refuse(Cause::BadSlot(slot as u64), mfn, Some(frame), None));
            };
            let Some(value) = effective(raw) else {
                let halt = bad(op, mfn, raw);
                op.set_location(None, mfn, index, raw);
                return Err(halt);
            };
            if self.get_live_type_ref(op, frame, Kind::Descriptor) {
                self.platform.write_entry(mfn, index, value);
                self.put_descriptor_ref(dom, mfn);
                return Ok(());
            }
            self.get_type_ref(op, mfn, frame, Kind::Writable)?;
            self.platform.write_entry(mfn, index, value);
            self.put_unmapped_writable(frame);
            Ok(())
        })
    }

    /// Validates a descriptor page that is in state validating. Not resumable: 512 words, and none holds a
    /// reference.
    pub(crate) fn promote_descriptors(
        &self,
        op: &mut OpContext<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
    ) -> Result<(), OpError> {
        for slot in 0..ENTRIES {
            let index = Index::new_truncate(slot as u64);
            let raw = self.read(mfn, index);
            match effective(raw) {
                Some(value) if value == raw => {}
                Some(value) => self.platform.write_entry(mfn, index, value),
                None => {
                    let halt = bad(op, mfn, raw);
                    op.set_location(None, mfn, index, raw);
                    // No stamp: a frame that was a descriptor page before can have a bad descriptor
                    // only if it was writable since.
                    frame.finish(Kind::Descriptor, None);
                    frame.put();
                    return Err(halt);
                }
            }
        }
        frame.publish(Kind::Descriptor, None);
        Ok(())
    }
}

#[cold]
fn bad(op: &mut OpContext<'_>, mfn: Mfn, raw: u64) -> OpError {
    op.refuse(Cause::BadDescriptor(raw), mfn, None, Some(Kind::Descriptor))
}
