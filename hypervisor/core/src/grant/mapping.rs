//! Mapping a granted frame, and unmapping it.

use super::pages::FrameWords;
use super::{Domains, GrantState, release_grant};
use crate::frames::FrameAllocator;
use arrayvec::ArrayVec;
use pinfold_abi::grant::{MapFlags, Status};
use pinfold_abi::mmu::EntryFlags;
use pinfold_grants::MaptrackEntry;
use pinfold_validator::{
    Budget, DomId, Error, FlushDebt, GrantMapping, GrantUnmapping, Index, Leaf, Mfn, Platform,
    Refusal, Swap, Vaddr,
};
use spin::RelaxStrategy;

/// First of the entry's bits that software may use.
const AVAILABLE_SHIFT: u32 = 9;

/// Why nothing was mapped or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// It can't be.
    Status(Status),
    /// The validator refuses it: with the granted frame that it was about.
    Refused(Refusal, Mfn),
    /// The time is up; to be asked again.
    Preempted,
}

impl From<Status> for MapError {
    fn from(status: Status) -> MapError {
        MapError::Status(status)
    }
}

/// A mapping that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Where to.
    pub address: u64,
    /// How.
    pub flags: MapFlags,
    /// Who grants.
    pub granter: DomId,
    /// By which entry.
    pub reference: u32,
}

/// Who maps and unmaps, and what that takes.
#[derive(Debug)]
pub struct Borrower<'a, 'v, P, M, R, D> {
    /// The machine's free frames.
    pub allocator: &'a FrameAllocator<'v, P, R>,
    /// The domains.
    pub domains: &'a D,
    /// The domain that maps.
    pub dom: DomId,
    /// Its part in lending.
    pub grants: &'a GrantState<M, R>,
    /// The root that its addresses are of; it is held.
    pub root: Mfn,
    /// Entries that one validation may visit.
    pub budget: u32,
}

impl<P, M, R, D> Borrower<'_, '_, P, M, R, D>
where
    P: Platform,
    M: FrameWords + Clone,
    R: RelaxStrategy,
    D: Domains<M, R>,
{
    /// Maps a granted frame. Returns its handle, and the frame.
    ///
    /// # Errors
    /// As the ABI has them; nothing is left of the attempt.
    pub fn map(&self, wanted: &MapRequest) -> Result<(u32, Mfn), MapError> {
        let MapRequest { address, flags, granter, reference } = *wanted;
        let writable = !flags.contains(MapFlags::READ_ONLY);
        if self.domains.with_grants(granter, |_| ()).is_none() {
            return Err(Status::BadDomain.into());
        }
        let handle = self.grants.reserve_handle(self.allocator).ok_or(Status::NoSpace)?;
        let begun = self.domains.with_grants(granter, |grants| {
            grants.table.lock().acquire(reference, self.dom.get(), writable)
        });
        let frame = match begun.unwrap_or(Err(Status::BadDomain)) {
            Ok(frame) => frame,
            Err(status) => {
                self.grants.handles.lock().free(handle);
                return Err(status.into());
            }
        };
        let contains_pte = flags.contains(MapFlags::CONTAINS_PTE);
        let mapping =
            MaptrackEntry { granter: granter.get(), reference, frame, writable, contains_pte };
        match self.map_frame(&mapping, address, entry_flags(flags)) {
            Ok(()) => {
                self.grants.handles.lock().set_mapped(handle, mapping);
                Ok((handle, frame))
            }
            Err(failure) => {
                release_grant(self.allocator, self.domains, &mapping);
                self.grants.handles.lock().free(handle);
                Err(failure)
            }
        }
    }

    fn map_frame(
        &self,
        mapping: &MaptrackEntry,
        address: u64,
        flags: EntryFlags,
    ) -> Result<(), MapError> {
        let (table, index) = self.locate(address, mapping.contains_pte)?;
        let frame = mapping.frame;
        let owner = DomId::new(mapping.granter);
        let entry = GrantMapping { dom: self.dom, table, index, owner, frame, flags };
        self.allocator
            .validator()
            .map_granted(&entry, &mut Budget::new(self.budget))
            .map(|_| ())
            .map_err(|stop| failed(stop, frame))
    }

    /// Where a guest wants something mapped: an L1 table of its, and a slot. For the validator to
    /// check.
    fn locate(&self, address: u64, contains_pte: bool) -> Result<(Mfn, Index), Status> {
        if contains_pte {
            // XSA-227: an entry, not a piece of two.
            if !address.is_multiple_of(8) {
                return Err(Status::GeneralError);
            }
            return Ok((Mfn::from_address(address), Index::new_truncate(address >> 3)));
        }
        self.leaf(address).map(|leaf| (leaf.table, leaf.index))
    }

    fn leaf(&self, address: u64) -> Result<Leaf, Status> {
        let leaf = self.allocator.validator().walk(self.root, Vaddr::new(address));
        leaf.map_err(|_| Status::GeneralError)
    }

    /// Unmaps what a mapping maps from an address, and moves the entry of another address there, if
    /// one is given.
    fn unmap_frame(
        &self,
        debt: &mut FlushDebt,
        mapping: &MaptrackEntry,
        address: u64,
        replace_with: Option<u64>,
    ) -> Result<(), MapError> {
        let (table, index) = self.locate(address, mapping.contains_pte)?;
        let moved = match replace_with {
            None => None,
            // Nobody needs it for an address that is an entry's.
            Some(_) if mapping.contains_pte => return Err(Status::GeneralError.into()),
            Some(address) => Some(self.leaf(address)?),
        };
        let (dom, validator) = (self.dom, self.allocator.validator());
        let unmapping = GrantUnmapping {
            dom,
            table,
            index,
            frame: mapping.frame,
            writable: mapping.writable,
            replacement: moved.map_or(0, |leaf| leaf.entry.get()),
        };
        let budget = &mut Budget::new(self.budget);
        match validator.unmap_granted(&unmapping, budget, debt) {
            Ok(Swap::Done) => {
                if let Some(Leaf { table, index, entry, .. }) = moved {
                    // It was moved, so its old place is empty; unless the guest changed it by now.
                    let budget = &mut Budget::new(self.budget);
                    let _ = validator.update_l1_cas(dom, table, index, entry.get(), 0, budget);
                }
                Ok(())
            }
            // XSA-224, 234: what goes must be what came.
            Ok(Swap::Differs(_)) => Err(Status::GeneralError.into()),
            Err(stop) => Err(failed(stop, unmapping.frame)),
        }
    }
}

fn failed(stop: Error, frame: Mfn) -> MapError {
    match stop {
        Error::Refused(refusal) => MapError::Refused(refusal, frame),
        Error::Preempted => MapError::Preempted,
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

/// Unmappings whose flush is owed. Dropped, it leaves the granters' entries marked as in use for
/// ever: [`UnmapBatch::finish`] is to be called.
#[derive(Debug, Default)]
#[must_use = "the granters wait to be told"]
pub struct UnmapBatch {
    done: ArrayVec<(u32, MaptrackEntry), BATCH>,
    debt: FlushDebt,
}

impl UnmapBatch {
    /// Unmaps what a handle names from an address, and moves the entry of another address there, if
    /// one is given. Address 0: the mapping stays as it is, and so does the handle.
    ///
    /// # Errors
    /// As the ABI has them: the mapping is not of this handle, or not there. It stays as it was.
    pub fn add<P, M, R, D>(
        &mut self,
        borrower: &Borrower<'_, '_, P, M, R, D>,
        handle: u32,
        address: u64,
        replace_with: Option<u64>,
    ) -> Result<(), MapError>
    where
        P: Platform,
        M: FrameWords + Clone,
        R: RelaxStrategy,
        D: Domains<M, R>,
    {
        if self.done.is_full() {
            self.finish(borrower);
        }
        let handles = &borrower.grants.handles;
        let mapping = handles.lock().take(handle).ok_or(Status::BadHandle)?;
        let unmapped = if address == 0 {
            Ok(false)
        } else {
            borrower.unmap_frame(&mut self.debt, &mapping, address, replace_with).map(|()| true)
        };
        match unmapped {
            Ok(true) => {
                self.done.push((handle, mapping));
                Ok(())
            }
            other => {
                handles.lock().set_mapped(handle, mapping);
                other.map(|_| ())
            }
        }
    }

    /// Flushes, and only then tells the granters. To be called at the end, whatever happened.
    pub fn finish<P, M, R, D>(&mut self, borrower: &Borrower<'_, '_, P, M, R, D>)
    where
        P: Platform,
        M: FrameWords + Clone,
        R: RelaxStrategy,
        D: Domains<M, R>,
    {
        core::mem::take(&mut self.debt).pay(borrower.allocator.validator().platform());
        for (handle, mapping) in self.done.drain(..) {
            release_grant(borrower.allocator, borrower.domains, &mapping);
            borrower.grants.handles.lock().free(handle);
        }
    }
}
