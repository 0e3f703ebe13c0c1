//! Frames that domains lend each other.
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
//! | `side`    | holding a frame for a copy                                       |
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
pub mod side;

use crate::domain::{self, Domain, DomainRef};
use crate::memory::frames;
use crate::sync::{Attentive, Mutex};
use core::sync::atomic::{AtomicU32, Ordering};
use pages::Pages;
use pinfold_abi::domid;
use pinfold_abi::grant::{ENTRIES_PER_FRAME, Status};
use pinfold_grants::{Handles, Mapping, Table, WORDS_PER_ENTRY};
use pinfold_validator::{DomId, HypervisorFrames, Mfn, Purpose};
use spin::RelaxStrategy;

/// Frames of a domain's grant table, at most: as on Xen.
pub const MAX_FRAMES: usize = 64;
/// Frames of notes about the entries of the table.
const MAX_USE_FRAMES: usize = MAX_FRAMES * WORDS_PER_ENTRY;
/// Frames of handles, at most: 256 handles each.
const MAX_HANDLE_FRAMES: usize = 64;

/// A domain's part in lending.
#[derive(Debug)]
pub struct GrantState {
    table: Mutex<Table<Pages<Mfn, MAX_FRAMES>, Pages<HypervisorFrames, MAX_USE_FRAMES>>>,
    handles: Mutex<Handles<Pages<HypervisorFrames, MAX_HANDLE_FRAMES>>>,
    /// Copies from and to granted frames that go on. Counted up with the table locked.
    copies: AtomicU32,
}

impl GrantState {
    /// No table, no handles.
    pub const fn new() -> GrantState {
        GrantState {
            table: Mutex::new(Table::new(Pages::new(), Pages::new())),
            handles: Mutex::new(Handles::new(Pages::new())),
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
    pub fn grow(&self, dom: DomId, count: usize) -> Result<(), Status> {
        if count > MAX_FRAMES {
            return Err(Status::GeneralError);
        }
        let mut table = self.table.lock();
        if table.is_closed() {
            return Err(Status::GeneralError);
        }
        let (entries, uses) = table.parts();
        while entries.frames().len() < count {
            // What is about entries first: an entry without it can't be used.
            while uses.frames().len() < (entries.frames().len() + 1) * WORDS_PER_ENTRY {
                let frame = frames::alloc_hypervisor_frame(Purpose::GrantUses);
                uses.push(frame.ok_or(Status::GeneralError)?);
            }
            let frame = frames::allocator().alloc_shared_frame(dom);
            entries.push(frame.ok_or(Status::GeneralError)?);
        }
        Ok(())
    }

    /// Changes the places of two entries.
    ///
    /// # Errors
    /// As [`Table::swap`].
    pub fn swap(&self, first: u32, second: u32) -> Result<(), Status> {
        self.table.lock().swap(first, second)
    }

    /// Takes a handle that nobody has.
    fn reserve_handle(&self) -> Option<u32> {
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.reserve() {
            return Some(handle);
        }
        if handles.words().frames().len() == MAX_HANDLE_FRAMES {
            return None;
        }
        let frame = frames::alloc_hypervisor_frame(Purpose::GrantHandles)?;
        handles.words().push(frame);
        handles.reserve()
    }

    /// Lets a frame pass from one domain to another, if the other's entry accepts it: `pass` does
    /// it, between the entry's commitment and its completion.
    ///
    /// # Errors
    /// As [`Table::begin_transfer`], or what `pass` says.
    pub fn transfer(
        &self,
        reference: u32,
        from: DomId,
        pass: impl FnOnce() -> Result<Mfn, Status>,
    ) -> Result<(), Status> {
        // Held throughout: the domain can't end in between, and miss the frame.
        let mut table = self.table.lock();
        table.begin_transfer(reference, from.get())?;
        match pass() {
            Ok(frame) => {
                table.end_transfer(reference, frame.get());
                Ok(())
            }
            Err(status) => {
                table.abort_transfer(reference);
                Err(status)
            }
        }
    }
}

const _: () = assert!(ENTRIES_PER_FRAME as usize == pages::WORDS_PER_FRAME);

/// The domain that a call names, if there is one: itself by its own number or as such, or another.
pub fn named(caller: &DomainRef, number: u16) -> Option<DomainRef> {
    if number == domid::SELF || number == caller.id.get() {
        return Some(caller.clone());
    }
    domain::find(DomId::new(number))
}

/// Ends one use of a granted frame whose mapping is gone, flushes included. If the granter has
/// ended, the frame may now be free.
fn end_use(mapping: &Mapping) {
    let granter = DomId::new(mapping.granter);
    let ended = domain::find(granter).is_none_or(|domain| {
        let mut table = domain.grants.table.lock();
        table.end(mapping.reference, mapping.writable);
        table.is_closed()
    });
    // The granter closes its table before it looks at its frames: either it found this one free,
    // or we find the table closed.
    if ended {
        // Somebody else may still have it mapped, too: then that one frees it.
        let _ = frames::release(Mfn::new(mapping.frame), granter);
    }
}

/// Ends a domain's part in lending: after its tables were taken apart, before its frames are freed.
pub fn end(domain: &Domain) {
    let mut table = domain.grants.table.lock();
    table.close();
    // The frames of the table itself are shared ones, and freed with the domain's others.
    let (entries, uses) = table.parts();
    entries.clear(|_| {});
    uses.clear(frames::free_hypervisor_frames);
    drop(table);
    // Acquire: what the copies held is dropped. They wait for nobody but flushes, which we attend to.
    while domain.grants.copies.load(Ordering::Acquire) != 0 {
        Attentive::relax();
    }
    let mut from = 0;
    loop {
        let taken = domain.grants.handles.lock().take_any(from);
        let Some((handle, mapping)) = taken else { break };
        // What it granted itself is freed with the rest.
        if mapping.granter != domain.id.get() {
            end_use(&mapping);
        }
        from = handle;
    }
    domain.grants.handles.lock().words().clear(frames::free_hypervisor_frames);
}
