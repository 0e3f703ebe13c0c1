//! Mapping a granted frame, and unmapping it.

use super::end_use;
use crate::domain;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::mmu_update::BUDGET;
use crate::memory::guest::is_guest_address;
use crate::memory::{report, validator};
use arrayvec::ArrayVec;
use pinfold_abi::grant::{MapFlags, Status};
use pinfold_abi::mmu::EntryFlags;
use pinfold_grants::Mapping;
use pinfold_validator::{
    Budget, Cause, DomId, FlushDebt, GrantMapping, GrantUnmapping, Index, Leaf, Mfn, Stop, Swap,
    Vaddr,
};

/// First of the entry's bits that software may use.
const AVAILABLE_SHIFT: u32 = 9;

/// Why nothing was mapped or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It can't be.
    Status(Status),
    /// The time is up; to be asked again.
    Preempted,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Status(status)
    }
}

/// A mapping that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where to.
    pub address: u64,
    /// How.
    pub flags: MapFlags,
    /// Who grants.
    pub granter: DomId,
    /// By which entry.
    pub reference: u32,
}

/// Where a guest wants something mapped: an L1 table of its, and a slot. For the validator to
/// check.
fn place(vcpu: &Vcpu, address: u64, by_entry: bool) -> Result<(Mfn, Index), Status> {
    if by_entry {
        // XSA-227: an entry, not a piece of two.
        if !address.is_multiple_of(8) {
            return Err(Status::GeneralError);
        }
        return Ok((Mfn::new(address >> 12), Index::new_truncate(address >> 3)));
    }
    if !is_guest_address(address) {
        return Err(Status::GeneralError);
    }
    let leaf = validator().walk(vcpu.kernel_root, Vaddr::new(address));
    leaf.map(|leaf| (leaf.table, leaf.index)).map_err(|_| Status::GeneralError)
}

/// What a stopped operation of the validator on a granted frame comes to.
fn failure(vcpu: &Vcpu, frame: Mfn, stop: &Stop) -> Failure {
    let Stop::Refused(refusal) = stop else { return Failure::Preempted };
    report::stopped(vcpu, stop);
    let not_had = matches!(
        refusal.cause,
        Cause::NoSuchFrame | Cause::ReservedBits(_) | Cause::NotOwned | Cause::SharedFrame
    );
    Failure::Status(if not_had && refusal.frame == frame {
        Status::BadPage
    } else {
        Status::GeneralError
    })
}

/// Maps a granted frame. Returns its handle, and the frame.
///
/// # Errors
/// As the ABI has them; nothing is left of the attempt.
pub fn map(vcpu: &Vcpu, wanted: &Wanted) -> Result<(u32, Mfn), Failure> {
    let Wanted { address, flags, granter, reference } = *wanted;
    let borrower = vcpu.domain.id;
    let writable = !flags.contains(MapFlags::READ_ONLY);
    let granting = domain::find(granter).ok_or(Status::BadDomain)?;
    let handles = &vcpu.domain.grants;
    let handle = handles.reserve_handle().ok_or(Status::NoSpace)?;
    let begun = granting.grants.table.lock().begin(reference, borrower.get(), writable);
    let frame = match begun {
        Ok(frame) => Mfn::new(frame),
        Err(status) => {
            handles.handles.lock().release(handle);
            return Err(status.into());
        }
    };
    let by_entry = flags.contains(MapFlags::CONTAINS_PTE);
    let mapped =
        place(vcpu, address, by_entry).map_err(Failure::from).and_then(|(table, index)| {
            let flags = entry_flags(flags);
            let mapping =
                GrantMapping { dom: borrower, table, index, owner: granter, frame, flags };
            let result = validator().map_granted(&mapping, &mut Budget::new(BUDGET));
            result.map_err(|stop| failure(vcpu, frame, &stop))
        });
    match mapped {
        Ok(_) => {
            let mapping = Mapping {
                granter: granter.get(),
                reference,
                frame: frame.get(),
                writable,
                by_entry,
            };
            handles.handles.lock().fill(handle, mapping);
            Ok((handle, frame))
        }
        Err(failure) => {
            granting.grants.table.lock().end(reference, writable);
            handles.handles.lock().release(handle);
            Err(failure)
        }
    }
}

/// Flags of the entry: what the caller asked for, as far as entries have it.
fn entry_flags(flags: MapFlags) -> EntryFlags {
    let available = (flags.bits() >> MapFlags::AVAILABLE_SHIFT & 7) << AVAILABLE_SHIFT;
    let mut entry = EntryFlags::from_bits_retain(available.into());
    entry |= EntryFlags::USER | EntryFlags::ACCESSED | EntryFlags::DIRTY;
    entry.set(EntryFlags::WRITABLE, !flags.contains(MapFlags::READ_ONLY));
    entry
}

/// Mappings that end together, with one flush.
const BATCH: usize = 32;

/// Unmappings whose flush is owed.
#[derive(Default)]
pub struct Unmapped {
    done: ArrayVec<(u32, Mapping), BATCH>,
    debt: FlushDebt,
}

impl Unmapped {
    /// Unmaps what a handle names from an address, and moves the entry of another address there, if
    /// one is given. Address 0: the mapping stays as it is, and so does the handle.
    ///
    /// # Errors
    /// As the ABI has them: the mapping is not of this handle, or not there. It stays as it was.
    pub fn add(
        &mut self,
        vcpu: &Vcpu,
        handle: u32,
        address: u64,
        replace_with: Option<u64>,
    ) -> Result<(), Failure> {
        if self.done.is_full() {
            self.finish(vcpu);
        }
        let grants = &vcpu.domain.grants;
        let mapping = grants.handles.lock().take(handle).ok_or(Status::BadHandle)?;
        let unmapped = if address == 0 {
            Ok(false)
        } else {
            self.unmap(vcpu, &mapping, address, replace_with).map(|()| true)
        };
        match unmapped {
            Ok(true) => {
                self.done.push((handle, mapping));
                Ok(())
            }
            other => {
                grants.handles.lock().fill(handle, mapping);
                other.map(|_| ())
            }
        }
    }

    fn unmap(
        &mut self,
        vcpu: &Vcpu,
        mapping: &Mapping,
        address: u64,
        replace_with: Option<u64>,
    ) -> Result<(), Failure> {
        let (table, index) = place(vcpu, address, mapping.by_entry)?;
        let moved = match replace_with {
            None => None,
            // Nobody needs it for an address that is an entry's.
            Some(address) if mapping.by_entry || !is_guest_address(address) => {
                return Err(Status::GeneralError.into());
            }
            Some(address) => {
                let leaf = validator().walk(vcpu.kernel_root, Vaddr::new(address));
                Some(leaf.map_err(|_| Status::GeneralError)?)
            }
        };
        let dom = vcpu.domain.id;
        let unmapping = GrantUnmapping {
            dom,
            table,
            index,
            frame: Mfn::new(mapping.frame),
            writable: mapping.writable,
            replacement: moved.map_or(0, |leaf| leaf.entry.get()),
        };
        let budget = &mut Budget::new(BUDGET);
        match validator().unmap_granted(&unmapping, budget, &mut self.debt) {
            Ok(Swap::Done) => {
                if let Some(Leaf { table, index, entry, .. }) = moved {
                    // It was moved, so its old place is empty; unless the guest changed it by now.
                    let budget = &mut Budget::new(BUDGET);
                    let _ = validator().update_l1_cas(dom, table, index, entry.get(), 0, budget);
                }
                Ok(())
            }
            // XSA-224, 234: what goes must be what came.
            Ok(Swap::Differs(_)) => Err(Status::GeneralError.into()),
            Err(stop) => Err(failure(vcpu, unmapping.frame, &stop)),
        }
    }

    /// Flushes, and only then tells the granters. To be called at the end, whatever happened.
    pub fn finish(&mut self, vcpu: &Vcpu) {
        core::mem::take(&mut self.debt).pay(validator().platform());
        for (handle, mapping) in self.done.drain(..) {
            end_use(&mapping);
            vcpu.domain.grants.handles.lock().release(handle);
        }
    }
}
