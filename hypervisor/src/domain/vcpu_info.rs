//! A vCPU's `vcpu_info` (event flags and clock), in the shared page or where the guest registered it.
//! The guest may change it at any time: accesses are atomic, and its contents are never trusted.
#![expect(unsafe_code, reason = "a record in a page that is shared with the guest, as atomics")]

use super::shared_page::SharedPage;
use crate::memory::direct_map;
use crate::memory::frame_refs::WritableRef;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use pinfold_abi::address::PAGE_SIZE;
use pinfold_abi::shared_info::{LEGACY_VCPUS, VcpuInfo, VcpuTimeInfo};
use pinfold_validator::Mfn;

/// Pointer to a `vcpu_info`, in a frame that stays the domain's plain memory as long as it has vCPUs.
#[derive(Clone, Copy, Debug)]
pub struct InfoRef(NonNull<VcpuInfo>);

// SAFETY: it points to memory that is only accessed atomically.
unsafe impl Send for InfoRef {}
// SAFETY: as above.
unsafe impl Sync for InfoRef {}

impl InfoRef {
    /// The record of a vCPU in the shared page.
    ///
    /// # Panics
    /// If the page has no room for it.
    pub fn legacy(page: SharedPage, vcpu: u16) -> InfoRef {
        assert!(usize::from(vcpu) < LEGACY_VCPUS);
        InfoRef::at(page.frame(), usize::from(vcpu) * size_of::<VcpuInfo>())
    }

    /// The record at an offset in a frame of the guest's.
    ///
    /// # Panics
    /// If it isn't aligned to 8 bytes or leaves the frame.
    ///
    /// # Safety
    /// The reference is held for as long as the record is accessed.
    pub unsafe fn registered(frame: &WritableRef, offset: usize) -> InfoRef {
        InfoRef::at(frame.frame(), offset)
    }

    fn at(frame: Mfn, offset: usize) -> InfoRef {
        assert!(offset.is_multiple_of(8) && offset + size_of::<VcpuInfo>() <= PAGE_SIZE as usize);
        let record = direct_map::frame(frame).wrapping_add(offset).cast::<VcpuInfo>();
        InfoRef(NonNull::new(record).expect("the direct map is not at 0"))
    }

    /// The record as a number, for [`InfoRef::from_bits`].
    pub fn to_bits(self) -> u64 {
        self.0.as_ptr() as u64
    }

    /// What [`InfoRef::to_bits`] made a number of.
    ///
    /// # Safety
    /// It did.
    pub unsafe fn from_bits(bits: u64) -> InfoRef {
        // SAFETY: the number was made from a reference that isn't null.
        InfoRef(unsafe { NonNull::new_unchecked(bits as *mut VcpuInfo) })
    }

    fn field<T>(&self, offset: usize) -> &T {
        // SAFETY: the record lies in a frame that is held; `T` is an atomic of the field's size,
        // as the callers below choose it; offsets are aligned.
        unsafe { self.0.byte_add(offset).cast::<T>().as_ref() }
    }

    /// The event mask: the guest's interrupt flag, inverted.
    pub fn upcall_mask(&self) -> &AtomicU8 {
        self.field(offset_of!(VcpuInfo, evtchn_upcall_mask))
    }

    /// Non-zero: events are pending.
    pub fn upcall_pending(&self) -> &AtomicU8 {
        self.field(offset_of!(VcpuInfo, evtchn_upcall_pending))
    }

    /// Bit n: word n of the pending ports is not zero.
    pub fn pending_selector(&self) -> &AtomicU64 {
        self.field(offset_of!(VcpuInfo, evtchn_pending_sel))
    }

    /// The address of the guest's last page fault.
    pub fn cr2(&self) -> &AtomicU64 {
        self.field(offset_of!(VcpuInfo, cr2))
    }

    /// A copy of the clock.
    pub fn time(&self) -> VcpuTimeInfo {
        let mut words = [0u64; size_of::<VcpuTimeInfo>() / 8];
        for (index, word) in words.iter_mut().enumerate() {
            let at: &AtomicU64 = self.field(offset_of!(VcpuInfo, time) + index * 8);
            *word = at.load(Ordering::Relaxed);
        }
        zerocopy::transmute!(words)
    }

    /// Copies the record, word by word.
    pub fn copy_to(self, to: InfoRef) {
        for word in 0..size_of::<VcpuInfo>() / 8 {
            let from: &AtomicU64 = self.field(word * 8);
            to.field::<AtomicU64>(word * 8).store(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}
