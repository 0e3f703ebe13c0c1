//! The machine's free frames: [`pinfold_core::frames`] over the machine's validator.

use super::platform::MachinePlatform;
use super::{MachineValidator, canaries};
use crate::sync::ServiceIpis;
use pinfold_core::{FrameAllocator, ReservedFrames};
use pinfold_validator::{DomId, HypervisorFrames, Mfn, Purpose, Refusal};
use spin::Once;

static ALLOCATOR: Once<MachineAllocator> = Once::new();

/// The allocator of the machine's frames.
pub type MachineAllocator = FrameAllocator<'static, MachinePlatform, ServiceIpis>;

/// Frames of the machine that were reserved for a domain.
pub type Reserved = ReservedFrames<'static, 'static, MachinePlatform, ServiceIpis>;

/// The machine's allocator.
pub fn allocator() -> &'static MachineAllocator {
    ALLOCATOR.get().expect("memory::init makes it")
}

/// Starts with no free frame. `words` has a bit for each frame, all zero.
pub fn start(validator: &'static MachineValidator, words: &'static mut [u64]) {
    ALLOCATOR.call_once(|| FrameAllocator::new(validator, words));
}

/// Number of free frames.
pub fn free_count() -> u64 {
    allocator().free_count()
}

/// Allocates a zeroed frame for a domain.
pub fn alloc_domain_frame(domain: DomId) -> Option<Mfn> {
    alloc_domain_frames(domain, 0)
}

/// Allocates `1 << order` zeroed frames in one piece for a domain.
pub fn alloc_domain_frames(domain: DomId, order: u32) -> Option<Mfn> {
    canaries::on_alloc();
    allocator().alloc_domain_frames(domain, order)
}

/// Allocates a zeroed frame for the hypervisor alone.
pub fn alloc_hypervisor_frame(purpose: Purpose) -> Option<HypervisorFrames> {
    alloc_hypervisor_frames(0, purpose)
}

/// Allocates `1 << order` zeroed frames in one piece for the hypervisor alone.
pub fn alloc_hypervisor_frames(order: u32, purpose: Purpose) -> Option<HypervisorFrames> {
    canaries::on_alloc();
    allocator().alloc_hypervisor_frames(order, purpose)
}

/// Frees frames of the hypervisor's own.
pub fn free_hypervisor_frames(frames: HypervisorFrames) {
    allocator().free_hypervisor_frames(frames);
}

/// Takes a frame back from its domain, which wants it so.
///
/// # Errors
/// If something still refers to it, or the hypervisor shares it: it stays the domain's.
pub fn release(mfn: Mfn, domain: DomId) -> Result<(), Refusal> {
    allocator().release(mfn, domain)?;
    canaries::on_release(mfn);
    Ok(())
}
