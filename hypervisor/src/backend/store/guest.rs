//! A guest's xenstore and its ring.
//!
//! Neither end of the ring sends an event for everything: a guest sends one for a request only if the
//! ring was empty, and one for room only if it was full. So a check that finds nothing to do must come
//! after the guest can see what was done before: hence the fences.
#![expect(unsafe_code, reason = "a page that is shared with the guest, as atomics")]

use crate::arch::ipi;
use crate::memory::direct_map;
use crate::memory::frame_refs::WritableRef;
use crate::sync::Mutex;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use pinfold_rings::{InvalidIndices, StorePage};
use pinfold_store::Connection;
use pinfold_validator::{DomId, ExternalRef, Mfn, RefKind, Refusal};

/// Messages serviced in one call at most.
const MESSAGES: u32 = 32;
/// Times that the ring is filled in one step at most.
const OUTPUTS: u32 = 4;
/// Bytes read from the ring at a time.
const PIECE: usize = 512;

/// The xenstore of one domain, if it has one.
#[derive(Debug, Default)]
pub struct GuestStore {
    /// Frame of the ring; 0: none. Outside the lock, for the audit.
    ring: AtomicU64,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    ring: WritableRef,
    connection: Connection,
    /// The log has a record of invalid data in the ring.
    told: bool,
}

/// The result of servicing the ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// The ring has changed: the guest needs an event.
    pub moved: bool,
    /// There is more to do than one call may.
    pub unfinished: bool,
}

impl GuestStore {
    /// Opens a store with its ring in a frame of the domain's, on which it holds a writable reference.
    ///
    /// # Errors
    /// As [`pinfold_validator::Validator::get_writable_ref`].
    pub fn open(&self, domain: DomId, ring: Mfn, store: Connection) -> Result<(), Refusal> {
        let ring = WritableRef::get(domain, ring)?;
        self.ring.store(ring.frame().get(), Ordering::Relaxed);
        *self.open.lock() = Some(Open { ring, connection: store, told: false });
        Ok(())
    }

    /// Closes the store and its ring. Before the domain's frames are freed.
    pub fn close(&self) {
        if self.open.lock().take().is_some() {
            self.ring.store(0, Ordering::Relaxed);
        }
    }

    /// The reference on the ring's frame, for the audit.
    pub fn held(&self) -> Option<ExternalRef> {
        match self.ring.load(Ordering::Relaxed) {
            0 => None,
            frame => Some(ExternalRef { frame: Mfn::new(frame), kind: RefKind::Writable }),
        }
    }

    /// Reads requests and writes replies, until nothing is left to do.
    pub fn service(&self, domain: DomId) -> Served {
        let mut open = self.open.lock();
        let Some(open) = open.as_mut() else { return Served::default() };
        let mut served = Served::default();
        for _ in 0..MESSAGES {
            ipi::service_ipis();
            match open.step() {
                Ok(0) => {
                    if open.connection.is_broken() {
                        open.tell(domain, &"a message longer than any may be");
                    }
                    return served;
                }
                Ok(_) => served.moved = true,
                Err(invalid) => {
                    open.tell(domain, &invalid);
                    return served;
                }
            }
        }
        served.unfinished = true;
        served
    }
}

fn ring_page(ring: &WritableRef) -> &StorePage {
    // SAFETY: the reference keeps the frame RAM, the domain's and no table. The page is made of
    // atomics, and any bytes are a valid one.
    unsafe { &*direct_map::frame(ring.frame()).cast::<StorePage>() }
}

impl Open {
    /// Writes pending output, as far as there is room; if none is left, reads a message, or a part of
    /// one. Returns how many bytes were moved.
    fn step(&mut self) -> Result<usize, InvalidIndices> {
        let (page, mut moved) = (ring_page(&self.ring), 0);
        // Bounded: a guest that empties the ring meanwhile could have it filled without end.
        for _ in 0..OUTPUTS {
            let output = self.connection.output();
            if output.is_empty() {
                break;
            }
            let count = page.replies().write(output)?;
            if count == 0 {
                return Ok(moved);
            }
            self.connection.consume_output(count);
            moved += count;
            // The guest sees the full ring before room is checked for again, so it sends an event.
            fence(Ordering::SeqCst);
        }
        if !self.connection.output().is_empty() {
            return Ok(moved);
        }
        loop {
            let mut piece = [0; PIECE];
            let wanted = self.connection.bytes_wanted().min(PIECE);
            let count = page.requests().read(&mut piece[..wanted])?;
            if count == 0 {
                return Ok(moved);
            }
            self.connection.receive(&piece[..count]);
            moved += count;
            // The guest sees the space before more is looked for, so it sends an event for more.
            fence(Ordering::SeqCst);
            if !self.connection.output().is_empty() {
                return Ok(moved);
            }
        }
    }

    /// Logs invalid data once; the guest only loses its store.
    fn tell(&mut self, domain: DomId, nonsense: &dyn fmt::Display) {
        if !core::mem::replace(&mut self.told, true) {
            log::warn!("store: d{domain} wrote nonsense to its ring: {nonsense}");
        }
    }
}
