//! Mapping frames that another domain granted (`INV-FOREIGN`).
//!
//! An entry that maps another domain's frame holds just what one of the owner's would: a reference
//! of the frame, and if it is writable one of the writable type. So while it is there the frame can
//! be neither freed nor become a table; a frame that is a table can't be mapped writable; and
//! nothing that drops entries (updates, shootdowns, tables taken apart) need know whose frame it was.
//!
//! What must know is who flushes: an owner's CPUs are not all that can remember such a frame. Hence
//! the mark on it. There is but one door through which such an entry comes into a live table, the
//! one here; validation of a table refuses it as it does every foreign frame.
//!
//! Whether the owner did grant the frame is the caller's business, and telling the owner when the
//! mapping is gone: after a flush of the mapper's CPUs ([`FlushDebt`]), not before.

use crate::addr::{Index, Level, Mfn};
use crate::budget::Budget;
use crate::context::{OpContext, OpError};
use crate::entry::target;
use crate::entry::{Entry, EntryRules, PRESENT, WRITABLE};
use crate::flush_debt::FlushDebt;
use crate::frame_table::{FrameEntry, Kind};
use crate::ids::DomId;
use crate::memtype::MEMTYPE_FLAGS;
use crate::platform::Platform;
use crate::refusal::{Cause, Error, Operation};
use crate::update::{Swap, Updated};
use crate::validator::Validator;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// A mapping of a granted frame that is to be.
#[derive(Clone, Copy, Debug)]
pub struct GrantMapping {
    /// Who maps it.
    pub dom: DomId,
    /// The L1 table of the mapper's that is to map it.
    pub table: Mfn,
    /// In which slot.
    pub index: Index,
    /// Whose frame it is.
    pub owner: DomId,
    /// The frame.
    pub frame: Mfn,
    /// Flags of the entry: writable or not, and those that the mapper may choose.
    pub flags: EntryFlags,
}

/// A mapping of a granted frame that is to go.
#[derive(Clone, Copy, Debug)]
pub struct GrantUnmapping {
    /// Who mapped it.
    pub dom: DomId,
    /// The L1 table that maps it.
    pub table: Mfn,
    /// In which slot.
    pub index: Index,
    /// The frame.
    pub frame: Mfn,
    /// Whether it was mapped writable.
    pub writable: bool,
    /// What takes the entry's place: 0, or an entry that the domain may have.
    pub replacement: u64,
}

impl<P: Platform> Validator<'_, P> {
    /// Maps a frame that its owner granted. What the slot mapped before is gone.
    ///
    /// # Errors
    /// Refused: the table is no L1 table of the mapper's ([`Cause::NotATable`]); the frame isn't the
    /// owner's, or is one of the hypervisor's that is shared with it; it is a table or descriptor
    /// page and the mapping writable ([`Cause::TableInUse`]); it is mapped other than write-back,
    /// whatever the owner's policy ([`Cause::CacheAlias`]). Preempted: ask again.
    pub fn map_granted(
        &self,
        mapping: &GrantMapping,
        budget: &mut Budget,
    ) -> Result<Updated, Error> {
        let GrantMapping { dom, table, index, .. } = *mapping;
        let mut op = OpContext::new(Operation::MapGranted, dom, budget);
        let frame = self.get_l1_table_ref(&mut op, table).map_err(|halt| op.to_error(halt))?;
        let raw = Entry::to(mapping.frame, mapping.flags).get();
        let held = self.get_granted(&mut op, mapping, raw).map(|()| {
            let entry = EntryRules::effective(Level::L1, raw);
            let mut current = self.read(table, index);
            while let Err(now) = self.platform.compare_exchange_entry(table, index, current, entry)
            {
                current = now;
            }
            self.put_entry(&mut op, Level::L1, table, current);
            Updated { previous: Entry::new(current), level: Some(Level::L1) }
        });
        self.put_table_ref(&mut op, table, frame, Kind::L1);
        held
    }

    /// Takes a reference of an L1 table of the operation's domain.
    fn get_l1_table_ref(&self, op: &mut OpContext<'_>, table: Mfn) -> Result<&FrameEntry, OpError> {
        self.run_deferred(op)?;
        let frame = self.require_frame(op, table)?;
        if self.get_live_type_ref(op, frame, Kind::L1) {
            return Ok(frame);
        }
        let halt = op.refuse(Cause::NotATable, table, Some(frame), Some(Kind::L1));
        // Another CPU was faster, or is at it.
        let soon = frame.type_word().kind() == Kind::L1 && op.lost_race_for_table();
        Err(if soon { OpError::Preempted } else { halt })
    }

    /// Takes of the owner's frame what the entry is to hold, and marks it.
    fn get_granted(
        &self,
        op: &mut OpContext<'_>,
        mapping: &GrantMapping,
        raw: u64,
    ) -> Result<(), Error> {
        let mut owners = OpContext::new(Operation::MapGranted, mapping.owner, &mut *op.budget);
        let op = &mut owners;
        let mut hold = || {
            self.check_bits(op, Level::L1, raw)?;
            if raw & MEMTYPE_FLAGS != 0 {
                // How a frame is cached is its owner's choice.
                let flags = MemoryType::FLAGS.intersection(mapping.flags);
                return Err(op.refuse(Cause::ForbiddenFlags(flags), mapping.frame, None, None));
            }
            let frame = self.require_frame(op, mapping.frame)?;
            // Whether it is shared does not change while it has this owner, which is looked at
            // again when it is held.
            if frame.ref_word().is_shared() {
                return Err(op.refuse(Cause::SharedFrame, mapping.frame, Some(frame), None));
            }
            if raw & WRITABLE == 0 {
                self.get_ref_with_memtype(
                    op,
                    mapping.frame,
                    frame,
                    None,
                    MemoryType::WriteBack,
                    None,
                )?;
            } else {
                self.get_type_ref(op, mapping.frame, frame, Kind::Writable)?;
            }
            if frame.ref_word().is_shared() {
                // It changed hands in between.
                self.put_l1e(raw);
                return Err(op.refuse(Cause::SharedFrame, mapping.frame, Some(frame), None));
            }
            if mapping.owner != mapping.dom {
                frame.mark_foreign_mapped();
            }
            Ok(())
        };
        let held = hold();
        held.map_err(|halt| {
            owners.set_location(Some(Level::L1), mapping.table, mapping.index, raw);
            owners.to_error(halt)
        })
    }

    /// Unmaps a granted frame, if the slot still maps it, and just so; [`Swap::Differs`] else. The
    /// flush is owed in `debt`, and until it is paid the mapper may still use the frame.
    ///
    /// # Errors
    /// Refused: the table is no L1 table of the domain's, or it may not have the replacement.
    /// Preempted: ask again.
    pub fn unmap_granted(
        &self,
        unmapping: &GrantUnmapping,
        budget: &mut Budget,
        debt: &mut FlushDebt,
    ) -> Result<Swap, Error> {
        let GrantUnmapping { dom, table, index, frame, writable, replacement } = *unmapping;
        let mut op = OpContext::new(Operation::UnmapGranted, dom, budget);
        let held = self.get_l1_table_ref(&mut op, table).map_err(|halt| op.to_error(halt))?;
        let swapped = loop {
            let current = self.read(table, index);
            let as_mapped = current & PRESENT != 0
                && target(current) == frame
                && (current & WRITABLE != 0) == writable;
            if !as_mapped {
                break Ok(Swap::Differs(Entry::new(current)));
            }
            // Differs only if another CPU changed it since; then it is looked at again.
            match self.exchange_l1e(&mut op, table, index, current, replacement) {
                Ok(Swap::Differs(_)) => {}
                other => break other,
            }
        };
        self.put_table_ref(&mut op, table, held, Kind::L1);
        if swapped == Ok(Swap::Done) {
            // Read after the entry is gone: a CPU that enters later can't find it.
            debt.add(self.platform.dirty_cpus(dom));
        }
        swapped.map_err(|halt| op.to_error(halt))
    }
}
