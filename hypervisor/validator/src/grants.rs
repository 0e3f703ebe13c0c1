//! Mapping frames that another domain granted (`INV-FOREIGN`).
//!
//! An entry that maps another domain's frame holds the same reference as one of the owner's: a general
//! one, or a writable type reference. So as long as it is there, the frame can neither be freed nor
//! become a table, and a table can't be mapped writable. Operations that drop entries (updates,
//! shootdowns, demotion) need not know the frame's owner.
//!
//! A flush must know, since CPUs of other domains may have the frame cached: hence the mark in its
//! reference word. Only [`Validator::map_granted`] stores such an entry into a validated table;
//! validation of a table refuses it like every frame of another domain.
//!
//! The caller checks that the owner granted the frame, and tells the owner when the mapping is gone: after
//! the flush of the mapper's CPUs ([`FlushDebt`]), not before.

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

/// A mapping of a granted frame to make.
#[derive(Clone, Copy, Debug)]
pub struct GrantMapping {
    /// The domain that maps it.
    pub dom: DomId,
    /// The L1 table to map it in, of that domain.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The owner of the frame.
    pub owner: DomId,
    /// The frame.
    pub frame: Mfn,
    /// Flags of the entry.
    pub flags: EntryFlags,
}

/// A mapping of a granted frame to remove.
#[derive(Clone, Copy, Debug)]
pub struct GrantUnmapping {
    /// The domain that mapped it.
    pub dom: DomId,
    /// The L1 table that maps it.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The frame.
    pub frame: Mfn,
    /// Whether it was mapped writable.
    pub writable: bool,
    /// The entry to store instead: 0, or one that the domain may have.
    pub replacement: u64,
}

impl<P: Platform> Validator<'_, P> {
    /// Maps a frame that its owner granted, in place of what the slot mapped before.
    ///
    /// # Errors
    /// Refused: the table is no L1 table of the mapper's ([`Cause::NotATable`]); the frame isn't the
    /// owner's, or is one of the hypervisor's that is shared with it; it is a table or descriptor page
    /// and the mapping writable ([`Cause::TableInUse`]); it is mapped other than write-back, whatever the
    /// owner's policy ([`Cause::CacheAlias`]). Preempted: call again.
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
            let entry = EntryRules::effective(Level::L1, raw, self.platform.forced_flags(dom));
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
        // Another CPU changed the count, or is working on the table.
        let soon = frame.type_word().kind() == Kind::L1 && op.lost_race_for_table();
        Err(if soon { OpError::Preempted } else { halt })
    }

    /// Takes the reference of the owner's frame that the entry will hold, and marks the frame.
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
                // The owner chooses the memory type.
                let flags = MemoryType::FLAGS.intersection(mapping.flags);
                return Err(op.refuse(Cause::ForbiddenFlags(flags), mapping.frame, None, None));
            }
            let frame = self.require_frame(op, mapping.frame)?;
            // A frame stays shared or not as long as it has this owner, which is checked again below,
            // with the reference.
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
                // It got another owner in between.
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

    /// Unmaps a granted frame, if the slot still maps it, and as writable as it was mapped; else returns
    /// [`Swap::Differs`]. The flush is added to `debt`: until it is done, the mapper may still use the
    /// frame.
    ///
    /// # Errors
    /// Refused: the table is no L1 table of the domain's, or it may not have the replacement.
    /// Preempted: call again.
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
            // Differs only if another CPU changed the entry since: read it again.
            match self.exchange_l1e(&mut op, table, index, current, replacement) {
                Ok(Swap::Differs(_)) => {}
                other => break other,
            }
        };
        self.put_table_ref(&mut op, table, held, Kind::L1);
        if swapped == Ok(Swap::Done) {
            // Read after the entry is gone: a CPU that runs the domain later can't find it.
            debt.add(self.platform.dirty_cpus(dom));
        }
        swapped.map_err(|halt| op.to_error(halt))
    }
}
