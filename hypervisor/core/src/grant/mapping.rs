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

/// Lowest bit of an entry that software may use.
const AVAILABLE_SHIFT: u32 = 9;

/// Why nothing was mapped or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// With the ABI's status.
    Status(Status),
    /// The validator refused it; with the granted frame.
    Refused(Refusal, Mfn),
    /// The budget is used up: to be called again.
    Preempted,
}

impl From<Status> for MapError {
    fn from(status: Status) -> MapError {
        MapError::Status(status)
    }
}

/// A request to map a granted frame.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Address to map it at, or of the entry.
    pub address: u64,
    /// Flags of the ABI.
    pub flags: MapFlags,
    /// The domain that grants it.
    pub granter: DomId,
    /// Its grant reference.
    pub reference: u32,
}

/// The domain that maps and unmaps, and what that needs.
#[derive(Debug)]
pub struct GrantMapper<'a, 'v, P, M, R, D> {
    /// Allocator of the machine's frames.
    pub allocator: &'a FrameAllocator<'v, P, R>,
    /// The domains.
    pub domains: &'a D,
    /// The domain that maps.
    pub dom: DomId,
    /// Its grants.
    pub grants: &'a GrantState<M, R>,
    /// Root of its address space, of which a reference is held.
    pub root: Mfn,
    /// Budget of one validation, in entries.
    pub budget: u32,
}

impl<P, M, R, D> GrantMapper<'_, '_, P, M, R, D>
where
    P: Platform,
    M: FrameWords + Clone,
    R: RelaxStrategy,
    D: Domains<M, R>,
{
    /// Maps a granted frame. Returns its handle, and the frame.
    ///
    /// # Errors
    /// The ABI's; nothing is left of the attempt.
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

    /// The L1 table and slot for an address. The validator checks them.
    fn locate(&self, address: u64, contains_pte: bool) -> Result<(Mfn, Index), Status> {
        if contains_pte {
            // Address of an entry, not across two (XSA-227).
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

    /// Removes a mapping from an address. With `replace_with`, moves the entry of that address there.
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
            // Not supported for the address of an entry, as no guest uses it.
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
                    // The entry was moved, so the old slot is cleared, unless the guest changed it.
                    let budget = &mut Budget::new(self.budget);
                    let _ = validator.update_l1_cas(dom, table, index, entry.get(), 0, budget);
                }
                Ok(())
            }
            // It must be the mapping of the handle (XSA-224, XSA-234).
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

/// Flags of the page-table entry, from those of the request. (Kernels in ring 3 have only user pages: the
/// validator sees to that.)
pub(crate) fn entry_flags(flags: MapFlags) -> EntryFlags {
    let available = (flags.bits() >> MapFlags::AVAILABLE_SHIFT & 7) << AVAILABLE_SHIFT;
    let mut entry = EntryFlags::from_bits_retain(available.into());
    entry |= EntryFlags::ACCESSED | EntryFlags::DIRTY;
    entry.set(EntryFlags::USER, flags.contains(MapFlags::APPLICATION_MAP));
    entry.set(EntryFlags::WRITABLE, !flags.contains(MapFlags::READ_ONLY));
    entry
}

/// Mappings that are removed with one flush.
const BATCH: usize = 32;

/// Removed mappings that are not flushed yet. [`UnmapBatch::finish`] must be called: otherwise the
/// granters' entries stay in use for ever.
#[derive(Debug, Default)]
#[must_use = "the granters' entries stay in use until it is finished"]
pub struct UnmapBatch {
    done: ArrayVec<(u32, MaptrackEntry), BATCH>,
    debt: FlushDebt,
}

impl UnmapBatch {
    /// Removes the mapping of a handle from an address. With `replace_with`, moves the entry of that
    /// address there. With address 0, the mapping and the handle stay as they are.
    ///
    /// # Errors
    /// The ABI's: the mapping is not of this handle, or not there. It stays as it was.
    pub fn add<P, M, R, D>(
        &mut self,
        mapper: &GrantMapper<'_, '_, P, M, R, D>,
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
            self.finish(mapper);
        }
        let handles = &mapper.grants.handles;
        let mapping = handles.lock().take(handle).ok_or(Status::BadHandle)?;
        let unmapped = if address == 0 {
            Ok(false)
        } else {
            mapper.unmap_frame(&mut self.debt, &mapping, address, replace_with).map(|()| true)
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

    /// Flushes, and then ends the use of the granters' entries. To be called at the end, also after errors.
    pub fn finish<P, M, R, D>(&mut self, mapper: &GrantMapper<'_, '_, P, M, R, D>)
    where
        P: Platform,
        M: FrameWords + Clone,
        R: RelaxStrategy,
        D: Domains<M, R>,
    {
        core::mem::take(&mut self.debt).pay(mapper.allocator.validator().platform());
        for (handle, mapping) in self.done.drain(..) {
            release_grant(mapper.allocator, mapper.domains, &mapping);
            mapper.grants.handles.lock().free(handle);
        }
    }
}
