//! Frames that domains grant each other.
//!
//! A domain says in its grant table which other domain may map or copy which of its frames. Three places
//! record a mapping: the granter's table, that the frame is in use; the mapper's maptrack, what the handle
//! is a mapping of; and the page-table entry, which holds a reference of the frame. The first two are
//! [`pinfold_grants`], kept here in frames of the hypervisor's own; the third is the validator's.
//!
//! | file      | about                                                            |
//! |-----------|------------------------------------------------------------------|
//! | `pages`   | words in the hypervisor's frames                                 |
//! | `mapping` | mapping a granted frame and unmapping it                         |
//!
//! Order of an unmapping: the entry is cleared, which drops the frame's reference; the mapper's CPUs are
//! flushed; the use in the granter's table ends. So a granter that finds its entry unused has the frame to
//! itself.
//!
//! A mapper may overwrite the page-table entry instead. Then the frame's reference is dropped, but the
//! grant stays in use until the mapper unmaps it or ends. As on Xen, that is the loss of those two.
//!
//! When a domain ends while another has one of its frames mapped, the frame stays the dead domain's until
//! that handle is released, and whoever releases it frees the frame. Copies in flight are waited for.
//!
//! A guest can make the hypervisor keep at most 1 MiB: 64 frames of its table, twice as many of use counts,
//! and 64 of handles. All of it is freed with the domain.
//!
//! Locks: a domain's table and its handles have one each. No CPU holds two of them.

pub mod mapping;
pub mod pages;

use crate::frames::FrameAllocator;
use core::sync::atomic::{AtomicU32, Ordering};
use pages::{FrameWords, Pages, WORDS_PER_FRAME};
use pinfold_abi::grant::{ENTRIES_PER_FRAME, Status};
use pinfold_grants::{GrantTable, Maptrack, MaptrackEntry, WORDS_PER_ENTRY};
use pinfold_validator::{DomId, HypervisorFrames, Mfn, Platform, Purpose};
use spin::RelaxStrategy;
use spin::mutex::Mutex;

/// Most frames of a domain's grant table: as on Xen.
pub const MAX_FRAMES: usize = 64;
/// Most frames of use counts, of the table's entries.
const MAX_USE_FRAMES: usize = MAX_FRAMES * WORDS_PER_ENTRY;
/// Most frames of handles: 256 handles each.
const MAX_HANDLE_FRAMES: usize = 64;

const _: () = assert!(ENTRIES_PER_FRAME as usize == WORDS_PER_FRAME);

type Entries<M> = Pages<M, Mfn, MAX_FRAMES>;
type Uses<M> = Pages<M, HypervisorFrames, MAX_USE_FRAMES>;

/// Grant table and maptrack of a domain. `M` is how words in frames are accessed, `R` how a CPU waits
/// for a lock.
#[derive(Debug)]
pub struct GrantState<M, R> {
    table: Mutex<GrantTable<Entries<M>, Uses<M>>, R>,
    handles: Mutex<Maptrack<Pages<M, HypervisorFrames, MAX_HANDLE_FRAMES>>, R>,
    /// Copies from and to granted frames in flight. Incremented with the table locked.
    copies: AtomicU32,
}

/// State of the granter when a use of its frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is alive.
    GranterLives,
    /// It has ended: the last user of the frame frees it.
    GranterEnded,
}

impl<M: FrameWords + Clone, R: RelaxStrategy> GrantState<M, R> {
    /// No table, no handles.
    pub fn new(memory: M) -> GrantState<M, R> {
        let entries = Pages::new(memory.clone());
        let uses = Pages::new(memory.clone());
        GrantState {
            table: Mutex::new(GrantTable::new(entries, uses)),
            handles: Mutex::new(Maptrack::new(Pages::new(memory))),
            copies: AtomicU32::new(0),
        }
    }

    /// Frames of the table.
    pub fn frame_count(&self) -> usize {
        self.table.lock().entries().frames().len()
    }

    /// A frame of the table.
    pub fn frame(&self, index: usize) -> Option<Mfn> {
        self.table.lock().entries().frames().get(index).copied()
    }

    /// Grows the table to at least `count` frames.
    ///
    /// # Errors
    /// [`Status::GeneralError`]: too many, or the machine has too little memory left.
    pub fn grow<P: Platform>(
        &self,
        allocator: &FrameAllocator<'_, P, R>,
        dom: DomId,
        count: usize,
    ) -> Result<(), Status> {
        if count > MAX_FRAMES {
            return Err(Status::GeneralError);
        }
        let mut table = self.table.lock();
        if table.is_closed() {
            return Err(Status::GeneralError);
        }
        let (entries, uses) = table.storage_mut();
        while entries.frames().len() < count {
            // Use counts first: an entry without one can't be used.
            while uses.frames().len() < (entries.frames().len() + 1) * WORDS_PER_ENTRY {
                let frame = allocator.alloc_hypervisor_frames(0, Purpose::GrantUses);
                uses.push(frame.ok_or(Status::GeneralError)?);
            }
            let frame = allocator.alloc_shared_frame(dom);
            entries.push(frame.ok_or(Status::GeneralError)?);
        }
        Ok(())
    }

    /// Swaps two entries.
    ///
    /// # Errors
    /// As [`GrantTable::swap`].
    pub fn swap(&self, first: u32, second: u32) -> Result<(), Status> {
        self.table.lock().swap(first, second)
    }

    /// Begins a copy from or to a frame that an entry grants to `grantee`. Returns the frame.
    ///
    /// # Errors
    /// As [`GrantTable::acquire`].
    pub fn begin_copy(&self, reference: u32, grantee: DomId, write: bool) -> Result<Mfn, Status> {
        let mut table = self.table.lock();
        let frame = table.acquire(reference, grantee.get(), write)?;
        self.copies.fetch_add(1, Ordering::Relaxed);
        Ok(frame)
    }

    /// Ends [`GrantState::begin_copy`].
    pub fn end_copy(&self, reference: u32, write: bool) {
        self.table.lock().release(reference, write);
        // Release pairs with the acquire of the domain's teardown, which waits for it.
        self.copies.fetch_sub(1, Ordering::Release);
    }

    /// Reserves a free handle.
    fn reserve_handle<P: Platform>(&self, allocator: &FrameAllocator<'_, P, R>) -> Option<u32> {
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.alloc() {
            return Some(handle);
        }
        if handles.storage_mut().frames().len() == MAX_HANDLE_FRAMES {
            return None;
        }
        let frame = allocator.alloc_hypervisor_frames(0, Purpose::GrantHandles)?;
        handles.storage_mut().push(frame);
        handles.alloc()
    }

    /// Ends one use of a frame whose mapping is gone and flushed.
    fn release_grant(&self, mapping: &MaptrackEntry) -> Ended {
        let mut table = self.table.lock();
        table.release(mapping.reference, mapping.writable);
        if table.is_closed() { Ended::GranterEnded } else { Ended::GranterLives }
    }

    /// Transfers a frame to this domain, if its entry accepts it. `pass` moves the frame, between the
    /// entry's commitment and its completion.
    ///
    /// # Errors
    /// As [`GrantTable::commit_transfer`], or what `pass` says.
    pub fn transfer(
        &self,
        reference: u32,
        from: DomId,
        pass: impl FnOnce() -> Result<Mfn, Status>,
    ) -> Result<(), Status> {
        // Locked throughout: if the domain ended in between, its teardown would miss the frame.
        let mut table = self.table.lock();
        table.commit_transfer(reference, from.get())?;
        match pass() {
            Ok(frame) => {
                table.complete_transfer(reference, frame);
                Ok(())
            }
            Err(status) => {
                table.abort_transfer(reference);
                Err(status)
            }
        }
    }

    /// Closes the domain's table: from now on nothing is granted or looked up. The frames of the table
    /// itself are shared ones, and freed with the domain's other frames.
    pub fn close<P: Platform>(&self, allocator: &FrameAllocator<'_, P, R>) {
        let mut table = self.table.lock();
        table.close();
        let (entries, uses) = table.storage_mut();
        entries.clear(|_| {});
        uses.clear(|frame| allocator.free_hypervisor_frames(frame));
    }

    /// Whether copies from or to frames that the domain granted are in flight.
    pub fn has_copies_in_flight(&self) -> bool {
        // Acquire: the references of the copies are dropped.
        self.copies.load(Ordering::Acquire) != 0
    }

    /// Releases handles of this domain, `dom`, whose tables were taken apart and whose vCPUs don't run any
    /// more: at most `limit` handles from `from` on. Returns where to go on; `None` if there are no more.
    pub fn release_handles<P: Platform>(
        &self,
        allocator: &FrameAllocator<'_, P, R>,
        dom: DomId,
        domains: &impl Domains<M, R>,
        mut from: u32,
        limit: usize,
    ) -> Option<u32> {
        for _ in 0..limit {
            let taken = self.handles.lock().take_next(from);
            let Some((handle, mapping)) = taken else {
                let mut handles = self.handles.lock();
                handles.storage_mut().clear(|frame| allocator.free_hypervisor_frames(frame));
                return None;
            };
            // Frames that it granted to itself are freed with the others.
            if mapping.granter != dom.get() {
                release_grant(allocator, domains, &mapping);
            }
            from = handle;
        }
        Some(from)
    }
}

/// Access to the grants of all domains.
pub trait Domains<M, R> {
    /// Calls `work` with the grants of a domain; `None` if there is no such domain (any more).
    fn with_grants<T>(&self, dom: DomId, work: impl FnOnce(&GrantState<M, R>) -> T) -> Option<T>;
}

/// Ends one use of a granted frame whose mapping is gone and flushed. If the granter has ended, and this
/// was the last use, frees the frame.
fn release_grant<P: Platform, M: FrameWords + Clone, R: RelaxStrategy>(
    allocator: &FrameAllocator<'_, P, R>,
    domains: &impl Domains<M, R>,
    mapping: &MaptrackEntry,
) {
    let granter = DomId::new(mapping.granter);
    let ended = domains.with_grants(granter, |grants| grants.release_grant(mapping));
    // Teardown closes the granter's table before it frees frames: either it finds this one unused, or the
    // table is found closed here.
    if ended.is_none_or(|ended| ended == Ended::GranterEnded) {
        // Fails if another domain has it mapped, too: then that one frees it.
        let _ = allocator.release(mapping.frame, granter);
    }
}
