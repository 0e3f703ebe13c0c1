//! Frames that domains grant each other.
//!
//! A domain says in its grant table who may map or copy which of its frames; another maps them.
//! Three parties know of a mapping: the granter's table that it is in use, the borrower's handles
//! what it is a mapping of, and the page-table entry holds the frame, as entries do. The first two
//! are [`pinfold_grants`]' books, kept here in frames of the hypervisor's own; the third is the
//! validator's.
//!
//! | file      | about                                                            |
//! |-----------|------------------------------------------------------------------|
//! | `pages`   | words in the hypervisor's frames                                 |
//! | `mapping` | mapping a granted frame and unmapping it                         |
//!
//! Order of an unmapping: the entry goes, which drops the frame's reference; the borrower's
//! processors are flushed; the mark in the granter's table goes. So who finds the mark gone has the
//! frame to itself.
//!
//! A borrower may overwrite the entry instead. Then the frame is free of it, and the books are not
//! until the borrower unmaps or ends: its own loss, and the granter's who trusted it.
//!
//! A domain that ends while another has a frame of its mapped: the frame stays the dead domain's
//! until that mapping's handle goes, and whoever ends the handle frees the frame. Copies that go on
//! are waited for.
//!
//! What a guest can make the hypervisor keep for it is at most 1 MiB: 64 frames of its table, twice
//! as many of notes about the entries, 64 of handles. All of it comes and goes with the domain.
//!
//! Locks: a domain's table and its handles have one each; nobody holds two of them.

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

/// Frames of a domain's grant table, at most: as on Xen.
pub const MAX_FRAMES: usize = 64;
/// Frames of notes about the entries of the table.
const MAX_USE_FRAMES: usize = MAX_FRAMES * WORDS_PER_ENTRY;
/// Frames of handles, at most: 256 handles each.
const MAX_HANDLE_FRAMES: usize = 64;

const _: () = assert!(ENTRIES_PER_FRAME as usize == WORDS_PER_FRAME);

type Entries<M> = Pages<M, Mfn, MAX_FRAMES>;
type Uses<M> = Pages<M, HypervisorFrames, MAX_USE_FRAMES>;

/// A domain's part in lending. `M` is how words in frames are reached, `R` how a CPU waits for a
/// lock.
#[derive(Debug)]
pub struct GrantState<M, R> {
    table: Mutex<GrantTable<Entries<M>, Uses<M>>, R>,
    handles: Mutex<Maptrack<Pages<M, HypervisorFrames, MAX_HANDLE_FRAMES>>, R>,
    /// Copies from and to granted frames that go on. Counted up with the table locked.
    copies: AtomicU32,
}

/// What became of a granted frame whose use ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The granter still has it.
    GranterLives,
    /// The granter has ended: whoever used the frame last frees it.
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

    /// Makes the table at least so many frames long.
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
            // What is about entries first: an entry without it can't be used.
            while uses.frames().len() < (entries.frames().len() + 1) * WORDS_PER_ENTRY {
                let frame = allocator.alloc_hypervisor_frames(0, Purpose::GrantUses);
                uses.push(frame.ok_or(Status::GeneralError)?);
            }
            let frame = allocator.alloc_shared_frame(dom);
            entries.push(frame.ok_or(Status::GeneralError)?);
        }
        Ok(())
    }

    /// Changes the places of two entries.
    ///
    /// # Errors
    /// As [`GrantTable::swap`].
    pub fn swap(&self, first: u32, second: u32) -> Result<(), Status> {
        self.table.lock().swap(first, second)
    }

    /// Begins a copy from or to a frame that an entry grants to `borrower`. Returns the frame.
    ///
    /// # Errors
    /// As [`GrantTable::acquire`].
    pub fn begin_copy(&self, reference: u32, borrower: DomId, write: bool) -> Result<Mfn, Status> {
        let mut table = self.table.lock();
        let frame = table.acquire(reference, borrower.get(), write)?;
        self.copies.fetch_add(1, Ordering::Relaxed);
        Ok(frame)
    }

    /// Ends [`GrantState::begin_copy`].
    pub fn end_copy(&self, reference: u32, write: bool) {
        self.table.lock().release(reference, write);
        // Release: pairs with the domain's end, which waits for it.
        self.copies.fetch_sub(1, Ordering::Release);
    }

    /// Takes a handle that nobody has.
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

    /// Ends one use of a frame whose mapping is gone, flushes included.
    fn release_grant(&self, mapping: &MaptrackEntry) -> Ended {
        let mut table = self.table.lock();
        table.release(mapping.reference, mapping.writable);
        if table.is_closed() { Ended::GranterEnded } else { Ended::GranterLives }
    }

    /// Lets a frame pass from one domain to another, if the other's entry accepts it: `pass` does
    /// it, between the entry's commitment and its completion.
    ///
    /// # Errors
    /// As [`GrantTable::commit_transfer`], or what `pass` says.
    pub fn transfer(
        &self,
        reference: u32,
        from: DomId,
        pass: impl FnOnce() -> Result<Mfn, Status>,
    ) -> Result<(), Status> {
        // Held throughout: the domain can't end in between, and miss the frame.
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

    /// Closes the domain's table: nothing is granted from now on, and nothing is looked up in it.
    /// The frames of the table itself are shared ones, and freed with the domain's others.
    pub fn close<P: Platform>(&self, allocator: &FrameAllocator<'_, P, R>) {
        let mut table = self.table.lock();
        table.close();
        let (entries, uses) = table.storage_mut();
        entries.clear(|_| {});
        uses.clear(|frame| allocator.free_hypervisor_frames(frame));
    }

    /// Whether copies from or to frames that the domain granted still go on.
    pub fn has_copies_in_flight(&self) -> bool {
        // Acquire: what the copies held is dropped.
        self.copies.load(Ordering::Acquire) != 0
    }

    /// Ends the use of what other domains granted to this one, `dom`, whose tables were taken apart
    /// and whose vCPUs run no more: at most `limit` handles from `from` on. Returns where to go on;
    /// `None` if there are no more.
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
            // What it granted itself is freed with the rest.
            if mapping.granter != dom.get() {
                release_grant(allocator, domains, &mapping);
            }
            from = handle;
        }
        Some(from)
    }
}

/// The domains that there are, as far as lending goes.
pub trait Domains<M, R> {
    /// Does something with the lending of a domain; `None` if there is no such domain (any more).
    fn with_grants<T>(&self, dom: DomId, work: impl FnOnce(&GrantState<M, R>) -> T) -> Option<T>;
}

/// Ends one use of a granted frame whose mapping is gone, flushes included. If the granter has
/// ended, the frame may now be free.
fn release_grant<P: Platform, M: FrameWords + Clone, R: RelaxStrategy>(
    allocator: &FrameAllocator<'_, P, R>,
    domains: &impl Domains<M, R>,
    mapping: &MaptrackEntry,
) {
    let granter = DomId::new(mapping.granter);
    let ended = domains.with_grants(granter, |grants| grants.release_grant(mapping));
    // The granter closes its table before it looks at its frames: either it found this one free,
    // or we find the table closed.
    if ended.is_none_or(|ended| ended == Ended::GranterEnded) {
        // Somebody else may still have it mapped, too: then that one frees it.
        let _ = allocator.release(mapping.frame, granter);
    }
}
