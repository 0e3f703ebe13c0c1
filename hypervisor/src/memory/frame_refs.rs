//! References on a guest's frame, which keep it the guest's and what it is: each a value that
//! releases itself.
//!
//! Another CPU may be changing the very frame, or a big table may be half taken apart: that passes,
//! since each try carries the work on. So a reference is tried for repeatedly, but not for long: a
//! vCPU that can be suspended tries again later ([`Cause::Busy`]), for anything else the frame
//! counts as in use.

use super::{direct_map, platform, validator};
use crate::arch::{apic, ipi, latency};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU64;
use pinfold_validator::{Budget, Cause, DomId, Error, ExternalRef, Index, Mfn, RefKind, Refusal};

/// Tries in a row. The frame's owner can make each visit as many entries as the validator's small
/// operations may, so IPIs are serviced between two.
const TRIES: usize = 64;

/// Entries that dropping a root may visit; what is left is done by the domain's next operations.
const DROP_BUDGET: u32 = 8192;

/// Repeats a step that another CPU's work is in the way of, a bounded number of times and until this
/// CPU's time slice is over.
///
/// # Errors
/// The step's; [`Cause::Busy`] if it still was.
pub fn retry_while_busy(mut step: impl FnMut() -> Result<(), Refusal>) -> Result<(), Refusal> {
    for _ in 1..TRIES {
        match step() {
            Err(refusal) if refusal.cause == Cause::Busy => {
                latency::measure_from_stamp();
                // The other one may be waiting for this CPU to flush.
                ipi::service_ipis();
                if apic::timer_is_pending() {
                    return Err(refusal);
                }
                core::hint::spin_loop();
            }
            done => return done,
        }
    }
    step()
}

/// What a [`FrameRef`] keeps its frame from becoming.
pub trait RefType {
    /// The kind, for the audit.
    const KIND: Option<RefKind>;
    /// Takes one from the validator.
    ///
    /// # Errors
    /// The validator's.
    fn get(domain: DomId, mfn: Mfn) -> Result<(), Refusal>;
    /// Gives it back.
    fn put(domain: DomId, mfn: Mfn);
}

/// The frame stays plain memory that the hypervisor may write to on the guest's behalf.
#[derive(Debug)]
pub enum Writable {}
/// The frame stays the domain's, whatever it is, and may be read.
#[derive(Debug)]
pub enum Readable {}
/// The frame stays a page of checked descriptors.
#[derive(Debug)]
pub enum Descriptors {}

impl RefType for Writable {
    const KIND: Option<RefKind> = Some(RefKind::Writable);
    fn get(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
        validator().get_writable_ref(domain, mfn)
    }
    fn put(domain: DomId, mfn: Mfn) {
        validator().put_writable_ref(domain, mfn);
    }
}

impl RefType for Readable {
    // Held for less than a hypercall: no audit meets one.
    const KIND: Option<RefKind> = None;
    fn get(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
        validator().get_readable_ref(domain, mfn)
    }
    fn put(domain: DomId, mfn: Mfn) {
        validator().put_readable_ref(domain, mfn);
    }
}

impl RefType for Descriptors {
    const KIND: Option<RefKind> = Some(RefKind::Descriptors);
    fn get(domain: DomId, mfn: Mfn) -> Result<(), Refusal> {
        validator().get_descriptor_ref(domain, mfn)
    }
    fn put(domain: DomId, mfn: Mfn) {
        validator().put_descriptor_ref(domain, mfn);
    }
}

/// A reference on a frame of a domain, released when it is dropped.
#[derive(Debug)]
pub struct FrameRef<K: RefType> {
    domain: DomId,
    frame: Mfn,
    kind: PhantomData<K>,
}

/// See [`pinfold_validator::Validator::get_writable_ref`].
pub type WritableRef = FrameRef<Writable>;
/// See [`pinfold_validator::Validator::get_readable_ref`].
pub type ReadableRef = FrameRef<Readable>;
/// See [`pinfold_validator::Validator::get_descriptor_ref`].
pub type DescriptorRef = FrameRef<Descriptors>;

impl<K: RefType> FrameRef<K> {
    /// Takes a reference.
    ///
    /// # Errors
    /// The validator's.
    pub fn get(domain: DomId, frame: Mfn) -> Result<FrameRef<K>, Refusal> {
        retry_while_busy(|| K::get(domain, frame))?;
        Ok(FrameRef { domain, frame, kind: PhantomData })
    }

    /// The frame.
    #[inline]
    pub fn frame(&self) -> Mfn {
        self.frame
    }

    /// The reference as the audit counts it.
    pub fn external(&self) -> Option<ExternalRef> {
        K::KIND.map(|kind| ExternalRef { frame: self.frame, kind })
    }
}

impl<K: RefType> Drop for FrameRef<K> {
    fn drop(&mut self) {
        K::put(self.domain, self.frame);
    }
}

impl WritableRef {
    /// Fills the frame with zeros.
    pub fn clear(&self) {
        // SAFETY: the frame is RAM and plain memory of the guest's, while the reference is held.
        unsafe { direct_map::clear(self.frame) };
    }

    /// Copies another frame into this one.
    pub fn copy_from(&self, from: &ReadableRef) {
        // SAFETY: as for `clear`; the other frame stays RAM, too.
        unsafe { direct_map::copy(self.frame, from.frame) };
    }

    /// Copies bytes of another frame into this one.
    ///
    /// # Panics
    /// If a range leaves its frame.
    pub fn copy_bytes_from(&self, to: usize, from: &ReadableRef, offset: usize, bytes: usize) {
        // SAFETY: as for `copy_from`.
        unsafe { direct_map::copy_bytes(self.frame, to, from.frame, offset, bytes) };
    }

    /// An aligned 64-bit word of the frame.
    pub fn word(&self, index: Index) -> &AtomicU64 {
        // SAFETY: as for `clear`; guests access it as they like, the hypervisor atomically.
        unsafe { direct_map::entry(self.frame, index) }
    }

    /// Copies bytes into the frame from `offset` on.
    ///
    /// # Panics
    /// If they leave the frame.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: as for `clear`.
        unsafe { direct_map::write_bytes(self.frame, offset, bytes) };
    }
}

/// A reference on a validated L4, which a vCPU may load: released when it is dropped.
#[derive(Debug)]
pub struct RootRef {
    domain: DomId,
    /// Not so the roots of guests in hardware containers.
    maps_hypervisor: bool,
    frame: Mfn,
}

impl RootRef {
    /// Takes a reference, validating the tree of tables below the frame if need be.
    ///
    /// # Errors
    /// As [`pinfold_validator::Validator::get_root_ref`].
    pub fn get(domain: DomId, frame: Mfn, budget: &mut Budget) -> Result<RootRef, Error> {
        validator().get_root_ref(domain, frame, budget)?;
        Ok(RootRef { domain, maps_hypervisor: !platform::is_contained(domain), frame })
    }

    /// Releases the reference. What the budget doesn't reach of taking the tree apart is done by the
    /// domain's next operations.
    pub fn put(self, budget: &mut Budget) {
        let root = ManuallyDrop::new(self);
        validator().put_root_ref(root.domain, root.frame, budget);
    }

    /// Whether the root maps the hypervisor, so that the hypervisor can run on it.
    #[inline]
    pub fn maps_hypervisor(&self) -> bool {
        self.maps_hypervisor
    }

    /// The domain whose root it is.
    #[inline]
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// The frame of the L4.
    #[inline]
    pub fn frame(&self) -> Mfn {
        self.frame
    }

    /// The reference as the audit counts it.
    pub fn external(&self) -> ExternalRef {
        ExternalRef { frame: self.frame, kind: RefKind::Root }
    }
}

impl Drop for RootRef {
    fn drop(&mut self) {
        validator().put_root_ref(self.domain, self.frame, &mut Budget::new(DROP_BUDGET));
    }
}
