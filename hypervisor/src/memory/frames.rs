//! The frame allocator of the machine: [`pinfold_core::frames`] over the machine's validator.

use super::platform::MachinePlatform;
use super::{MachineValidator, canaries};
use crate::sync::ServiceIpis;
use pinfold_core::{FrameAllocator, ReservedFrames};
use pinfold_validator::{DomId, HypervisorFrames, Mfn, Purpose, Refusal};
use spin::Once;

static ALLOCATOR: Once<MachineAllocator> = Once::new();

/// The allocator of the machine's frames.
pub type MachineAllocator = FrameAllocator<'static, MachinePlatform, ServiceIpis>;

/// Frames that are reserved for a domain.
pub type Reserved = ReservedFrames<'static, 'static, MachinePlatform, ServiceIpis>;

/// The machine's allocator.
pub fn allocator() -> &'static MachineAllocator {
    ALLOCATOR.get().expect("`memory::init` creates it")
}

/// Creates the allocator, without free frames. `words` has a bit for each frame, all zero.
pub fn init(validator: &'static MachineValidator, words: &'static mut [u64]) {
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

/// Allocates `1 << order` contiguous, zeroed frames for a domain.
pub fn alloc_domain_frames(domain: DomId, order: u32) -> Option<Mfn> {
    canaries::on_alloc();
    allocator().alloc_domain_frames(domain, order)
}

/// Allocates a zeroed frame for the hypervisor.
pub fn alloc_hypervisor_frame(purpose: Purpose) -> Option<HypervisorFrames> {
    alloc_hypervisor_frames(0, purpose)
}

/// Allocates `1 << order` contiguous, zeroed frames for the hypervisor.
pub fn alloc_hypervisor_frames(order: u32, purpose: Purpose) -> Option<HypervisorFrames> {
    canaries::on_alloc();
    allocator().alloc_hypervisor_frames(order, purpose)
}

/// Frees frames of the hypervisor.
pub fn free_hypervisor_frames(frames: HypervisorFrames) {
    allocator().free_hypervisor_frames(frames);
}

/// Releases a frame at the request of its domain, and frees it.
///
/// # Errors
/// If the frame still has references, or the hypervisor shares it with the domain. The domain keeps
/// it.
pub fn release(mfn: Mfn, domain: DomId) -> Result<(), Refusal> {
    allocator().release(mfn, domain)?;
    canaries::on_release(mfn);
    Ok(())
}
