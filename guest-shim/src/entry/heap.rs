//! The heap: an arena in the image, so that it exists before any page table is changed and does not
//! depend on what the guest does to its mappings. Its lock masks events, so that event handlers may
//! allocate.

use super::lock::EventLock;
use talc::{TalcLock, source::Claim};

/// Bytes of the heap.
const ARENA_SIZE: usize = 6 * 1024 * 1024;

#[global_allocator]
static HEAP: TalcLock<EventLock, Claim> = TalcLock::new({
    static mut ARENA: [u8; ARENA_SIZE] = [0; ARENA_SIZE];
    // SAFETY: the arena is named in this block only, so nobody else uses it.
    unsafe { Claim::array(&raw mut ARENA) }
});
