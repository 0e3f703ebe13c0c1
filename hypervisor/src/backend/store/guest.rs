//! A guest's store and its ring.
//!
//! Neither end of the ring tells the other of everything: a guest tells of a request only if we had
//! taken the one before, and of room only if there was none. So each look that finds nothing to do
//! must come after what was done before was there for the guest to see: hence the fences.

use crate::arch::ipi;
use crate::memory::direct_map;
use crate::memory::frame_refs::WritableRef;
use crate::sync::Mutex;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use pinfold_rings::{InvalidIndices, StorePage};
use pinfold_store::Connection;
use pinfold_validator::{DomId, ExternalRef, Mfn, RefKind, Refusal};

/// Messages of one call; then others get their turn.
const MESSAGES: u32 = 32;
/// Times that the ring is filled before the rest waits for the next step.
const OUTPUTS: u32 = 4;
/// Bytes taken from the ring at a time.
const PIECE: usize = 512;

/// The store of one domain, if it has one.
#[derive(Debug, Default)]
pub struct GuestStore {
    /// Frame of the ring; 0: none. Beside the lock, for the audit.
    ring: AtomicU64,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    ring: WritableRef,
    connection: Connection,
    /// The log has it that the guest writes nonsense.
    told: bool,
}

/// What came of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// The ring has changed: the guest must be told.
    pub moved: bool,
    /// There was more to do than may be done in one go.
    pub unfinished: bool,
}

impl GuestStore {
    /// Begins to serve a store through the ring in a frame of the domain's, and holds the frame as
    /// writable: it can't go, nor become a table, while we write to it.
    ///
    /// # Errors
    /// As [`pinfold_validator::Validator::get_writable_ref`].
    pub fn open(&self, domain: DomId, ring: Mfn, store: Connection) -> Result<(), Refusal> {
        let ring = WritableRef::get(domain, ring)?;
        self.ring.store(ring.frame().get(), Ordering::Relaxed);
        *self.open.lock() = Some(Open { ring, connection: store, told: false });
        Ok(())
    }

    /// Forgets everything, and lets go of the ring. Before the domain's frames are freed.
    pub fn close(&self) {
        if self.open.lock().take().is_some() {
            self.ring.store(0, Ordering::Relaxed);
        }
    }

    /// What the store holds of frames, for the audit.
    pub fn held(&self) -> Option<ExternalRef> {
        match self.ring.load(Ordering::Relaxed) {
            0 => None,
            frame => Some(ExternalRef { frame: Mfn::new(frame), kind: RefKind::Writable }),
        }
    }

    /// Takes requests and says replies, until the ring gives no more.
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
    /// Says what waits, as far as there is room; with nothing left to say takes a message, or as
    /// much of it as there is. Returns how many bytes went either way.
    fn step(&mut self) -> Result<usize, InvalidIndices> {
        let (page, mut moved) = (ring_page(&self.ring), 0);
        // A guest that empties the ring meanwhile could have it filled without end.
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
            // The guest sees the ring full before we look for room again: or it made some before.
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
            // The guest sees what was taken before we look for more: or it had put more there.
            fence(Ordering::SeqCst);
            if !self.connection.output().is_empty() {
                return Ok(moved);
            }
        }
    }

    /// Nonsense is the guest's loss; the log has it once.
    fn tell(&mut self, domain: DomId, nonsense: &dyn fmt::Display) {
        if !core::mem::replace(&mut self.told, true) {
            log::warn!("store: d{domain} wrote nonsense to its ring: {nonsense}");
        }
    }
}
